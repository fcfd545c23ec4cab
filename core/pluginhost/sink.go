package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

const maxState = 1 << 10 // bytes

// Sink is a configured sink in a plugin. Its methods may be called from any number of goroutines.
type Sink struct {
	Handle
	calls sync.Pool // of *deliverCall
}

// OpenSink makes the sink of one block from its configuration, as JSON. It waits for the first attempt to open it.
// Mistakes of the configuration come back as joined *sdk.AttributeError, unless opts.Wait; when the plugin cannot open
// it now, or does not start, the sink is returned all the same and becomes ready later.
func (h *Host) OpenSink(ctx context.Context, block, plugin string, config []byte, opts SinkOptions) (*Sink, error) {
	s := &Sink{}
	s.calls.New = func() any { return &deliverCall{} }
	if err := h.open(ctx, &s.Handle, core.PluginSink, block, plugin, config, opts); err != nil {
		return nil, err
	}
	return s, nil
}

// deliverCall holds the messages of one call, to be used again.
type deliverCall struct {
	request    pluginv1.DeliverRequest
	deliveries []pluginv1.Delivery
	envelopes  []pluginv1.Envelope
	pointers   []*pluginv1.Delivery
}

func (s *Sink) fill(i *instance, ds []*core.Delivery, id string) *deliverCall {
	c := s.calls.Get().(*deliverCall)
	n := len(ds)
	if cap(c.deliveries) < n {
		c.deliveries, c.envelopes = make([]pluginv1.Delivery, n), make([]pluginv1.Envelope, n)
		c.pointers = make([]*pluginv1.Delivery, n)
		for k := range n {
			c.deliveries[k].Event = &c.envelopes[k]
			c.pointers[k] = &c.deliveries[k]
		}
	}
	c.deliveries, c.pointers = c.deliveries[:n], c.pointers[:n]
	info := i.p.info
	for k, d := range ds {
		m := &c.deliveries[k]
		m.Id, m.Attempt, m.Sequence, m.Route = d.ID, int32(min(d.Attempts+1, math.MaxInt32)), int64(d.Key), d.Route
		m.OrderKey, m.Message, m.Replay, m.Force = d.OrderKey, i.complete(d.Message), d.Replay > 0, d.Force
		m.Traceparent = d.CallTrace
		if info.WantState {
			m.State = d.KeyState
		}
		if d.Event == nil {
			continue
		}
		e := m.Event
		e.Id, e.Source, e.Type, e.Subject = d.Event.ID, d.Event.Source, d.Event.Type, d.Event.Subject
		e.Time, e.PartitionKey = d.Event.Time, d.Event.PartitionKey
		e.Provider, e.Operation, e.Tenant = d.Event.Provider, d.Event.Operation, d.Event.Tenant
		if info.WantData {
			m.Data = d.Event.Data
		}
	}
	c.request.Context, c.request.Instance, c.request.Deliveries = i.p.callContext(), id, c.pointers
	return c
}

// done gives a call's messages back: they must not hold on to what they carried.
func (s *Sink) done(c *deliverCall) {
	for k := range c.deliveries {
		m := &c.deliveries[k]
		m.Message, m.Data, m.State = nil, nil, nil
		m.Id, m.Route, m.OrderKey, m.Traceparent = "", "", "", ""
		e := m.Event
		e.Id, e.Source, e.Type, e.Subject, e.Time, e.PartitionKey = "", "", "", "", "", ""
		e.Provider, e.Operation, e.Tenant = "", "", ""
	}
	s.calls.Put(c)
}

// Deliver hands deliveries over and returns one outcome per delivery, in order. More than one per RPC go only to a
// plugin that declares a batch. An error says that nothing is known about any of them, which is nobody's fault: the
// plugin is not ready, or the host stops it.
func (s *Sink) Deliver(ctx context.Context, ds []*core.Delivery) ([]core.Outcome, error) {
	i, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer i.calls.exit()
	ctx, cancel, within, err := i.limit(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	out := make([]core.Outcome, len(ds))
	known := false // an outcome is
	for from := 0; from < len(ds); {
		n := 1
		if ds[from].Crashes > 0 {
			out[from], err = s.alone(ctx, i, ds[from], within)
		} else {
			bytes := sizeOf(ds[from])
			for n < i.maxBatch && from+n < len(ds) && ds[from+n].Crashes == 0 {
				if bytes += sizeOf(ds[from+n]); bytes > i.p.h.launcher.messageLimit/2 {
					break
				}
				n++
			}
			err = s.together(ctx, i, ds[from:from+n], out[from:from+n], within)
		}
		if err != nil {
			if !known {
				return nil, err
			}
			// The first outcomes must not be lost for it; the others were not tried.
			for k := range out[from:] {
				out[from+k] = core.Outcome{Kind: sdk.Retried, Reason: clip("not tried: "+err.Error(), maxReason)}
			}
			return out, nil
		}
		known = true
		from += n
	}
	return out, nil
}

// sizeOf is about what a delivery takes on the wire.
func sizeOf(d *core.Delivery) int {
	n := len(d.Message) + len(d.KeyState) + 512
	if d.Event != nil {
		n += len(d.Event.Data)
	}
	return n
}

// together makes one call, and sends what was in flight through quarantine if the process dies over it.
func (s *Sink) together(
	ctx context.Context, i *instance, ds []*core.Delivery, out []core.Outcome, within time.Duration,
) error {
	o, err := i.acquire()
	if err != nil {
		return err
	}
	call := s.fill(i, ds, o.id)
	response, err := o.c.sink.Deliver(ctx, &call.request)
	s.done(call)
	v, err := i.judge(ctx, o.c, err)
	i.release(o)
	switch v {
	case answered:
		s.outcomes(i, ds, response, out)
	case silent:
		i.p.gaveUp(o.c)
		fillOutcomes(out, silence(within))
	case broken:
		i.p.fault(err.Error())
		fillOutcomes(out, i.faulty(err.Error()))
	case died:
		explained := false
		for k, d := range ds {
			out[k], err = s.alone(ctx, i, d, within)
			if err != nil && k == 0 {
				return err
			}
			if err != nil {
				fillOutcomes(out[k:], clip("not tried again after the plugin died: "+err.Error(), maxReason))
				return nil //nolint:nilerr // the error is told by the outcomes
			}
			if out[k].Kind == core.Crashed && !explained {
				explained = true
				i.p.explained(o.c)
			}
		}
	case given:
		if errors.Is(context.Cause(ctx), context.Canceled) {
			o.c.probe()
		}
		return err
	}
	return nil
}

// alone delivers in quarantine.
func (s *Sink) alone(
	ctx context.Context, i *instance, d *core.Delivery, within time.Duration,
) (core.Outcome, error) {
	var response *pluginv1.DeliverResponse
	ds := []*core.Delivery{d}
	v, words, err := i.alone(ctx, within, func(ctx context.Context, c *child, id string) error {
		call := s.fill(i, ds, id)
		defer s.done(call)
		var err error
		response, err = c.sink.Deliver(ctx, &call.request)
		return err
	})
	if err != nil {
		return core.Outcome{}, err
	}
	var out [1]core.Outcome
	switch v {
	case answered:
		s.outcomes(i, ds, response, out[:])
	case died:
		out[0] = core.Outcome{Kind: core.Crashed, Reason: words}
	case broken:
		i.p.fault(words)
		out[0] = core.Outcome{Kind: sdk.Retried, Reason: i.faulty(words)}
	default:
		out[0] = core.Outcome{Kind: sdk.Retried, Reason: words}
	}
	return out[0], nil
}

func fillOutcomes(out []core.Outcome, reason string) {
	for k := range out {
		out[k] = core.Outcome{Kind: sdk.Retried, Reason: reason}
	}
}

// complete adds what the routes that rendered a message do not know yet.
func (i *instance) complete(message []byte) []byte {
	if len(i.fill) == 0 || len(message) < 2 {
		return message
	}
	open, fill := message[:len(message)-1], i.fill
	if len(open) == 1 {
		fill = fill[1:] // without the comma
	}
	return slices.Concat(open, fill, []byte("}"))
}

// outcomes matches an answer with what was asked. The plugin may lie.
func (s *Sink) outcomes(
	i *instance, ds []*core.Delivery, response *pluginv1.DeliverResponse, out []core.Outcome,
) {
	i.p.logNotes(i.block, response.GetNotes())
	answers := response.GetOutcomes()
	inOrder := len(answers) == len(ds)
	for k := 0; inOrder && k < len(ds); k++ {
		inOrder = answers[k].GetDeliveryId() == ds[k].ID
	}
	if inOrder {
		for k, d := range ds {
			out[k] = i.outcome(d, answers[k])
		}
		return
	}
	at := make(map[string]int, len(ds))
	for k, d := range ds {
		at[d.ID] = k
	}
	count := make([]int, len(ds))
	foreign := 0
	for _, a := range answers {
		k, ok := at[a.GetDeliveryId()]
		if !ok {
			foreign++
			continue
		}
		count[k]++
		out[k] = i.outcome(ds[k], a)
	}
	missing, doubled := 0, 0
	for k, n := range count {
		switch {
		case n == 0:
			missing++
			out[k] = core.Outcome{Kind: sdk.Retried, Reason: i.faulty("its answer does not name this delivery")}
		case n > 1:
			doubled++
			out[k] = core.Outcome{Kind: sdk.Retried, Reason: i.faulty("its answer names this delivery more than once")}
		}
	}
	if foreign+missing+doubled > 0 {
		i.p.fault(fmt.Sprintf("of %d deliveries, %d without outcome, %d with several, %d outcomes of others",
			len(ds), missing, doubled, foreign))
	}
}

// outcome checks one outcome.
func (i *instance) outcome(d *core.Delivery, a *pluginv1.Outcome) core.Outcome {
	p := i.p
	o := core.Outcome{Reason: p.reason(a.GetReason())}
	if len(a.GetNotes()) > 0 {
		o.Notes = p.notes(nil, a.GetNotes())
	}
	if len(a.GetSpans()) > 0 {
		o.Spans = p.spans(d.CallTrace, a.GetSpans())
	}
	switch a.GetKind() {
	case pluginv1.Outcome_KIND_DELIVERED:
		o.Kind = sdk.Delivered
		o.Reference = clip(clean(p.redact.text(a.GetReference())), maxReference)
	case pluginv1.Outcome_KIND_REJECTED:
		o.Kind = sdk.Rejected
		if path := a.GetAttributePath(); len(path) > 0 && len(path) <= wire.MaxSchemaDepth {
			o.AttributePath = slices.Clone(path)
			for i := range path {
				o.AttributePath[i] = clip(clean(p.redact.text(path[i])), maxReference)
			}
		}
	case pluginv1.Outcome_KIND_SKIPPED:
		o.Kind = sdk.Skipped
	case pluginv1.Outcome_KIND_SUSPEND:
		o.Kind = sdk.Suspended
	case pluginv1.Outcome_KIND_RETRY:
		o.Kind = sdk.Retried
		o.After = wire.Milliseconds(a.GetAfterMs())
	default:
		o.Kind = sdk.Retried
		p.fault(fmt.Sprintf("unknown kind of outcome %d", a.GetKind()))
		if o.Reason == "" {
			o.Reason = i.faulty("its outcome is of no known kind")
		}
	}
	if a.State != nil && p.info.WantState && d.OrderKey != "" {
		switch state := string(a.State); {
		case len(state) > maxState:
			p.fault(fmt.Sprintf("state of %d bytes, at most %d are kept", len(state), maxState))
			o.Notes = append(o.Notes,
				fmt.Sprintf("the plugin's state of %d bytes was not kept, at most %d are", len(state), maxState))
		case p.redact.text(state) != state:
			p.fault("state that holds a secret")
			o.Notes = append(o.Notes, "the plugin's state was not kept, because it holds a secret")
		default:
			o.State, o.StateSet = a.State, true
			if len(a.State) == 0 {
				o.State = nil
			}
		}
	}
	return o
}
