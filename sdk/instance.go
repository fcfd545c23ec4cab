package sdk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
)

// MaxState is the most bytes that Delivery.SetState keeps.
const MaxState = 1 << 10

// sinkInstance is an author's sink behind SinkInstance.
type sinkInstance[M any] struct {
	author  any
	deliver func(context.Context, []*Delivery[M]) []error
	message *node
	state   bool // SinkInfo.State
}

// Sink implements SinkInstance.
func (s *sinkInstance[M]) Sink() any { return s.author }

// DeliverRaw implements SinkInstance. A message that does not decode is rejected with the path of its first wrong
// attribute and never reaches the author. A panic is a mistake in the sink that may spare the next try, so it counts as
// a retry: of its delivery alone or, where the author takes batches, of the whole batch.
func (s *sinkInstance[M]) DeliverRaw(ctx context.Context, raws []*Delivery[json.RawMessage]) []Outcome {
	outcomes := make([]Outcome, len(raws))
	ds := make([]*Delivery[M], 0, len(raws))
	at := make([]int, 0, len(raws)) // ds[i] is raws[at[i]]
	for i, raw := range raws {
		d := &Delivery[M]{
			ID: raw.ID, Attempt: raw.Attempt, Sequence: raw.Sequence, Route: raw.Route, OrderKey: raw.OrderKey,
			Replay: raw.Replay, Force: raw.Force, State: raw.State, TraceParent: raw.TraceParent, Event: raw.Event,
			Data: raw.Data,
		}
		if err := s.message.decode(raw.Message, reflect.ValueOf(&d.Message).Elem()); err != nil {
			outcomes[i] = Outcome{
				DeliveryID: raw.ID, Kind: Rejected, Reason: "message: " + oneLine(err),
				AttributePath: AttributeErrors(err)[0].Path,
			}
			continue
		}
		ds, at = append(ds, d), append(at, i)
	}
	if len(ds) == 0 {
		return outcomes
	}
	errs := s.deliver(ctx, ds)
	for i, d := range ds {
		err := error(nil)
		if len(errs) == len(ds) {
			err = errs[i]
		} else {
			err = fmt.Errorf("the sink returned %d results for %d deliveries", len(errs), len(ds))
		}
		outcomes[at[i]] = d.outcome(err, s.state)
	}
	return outcomes
}

// oneLine puts the messages of joined errors in one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// outcome says what the author's error means for the delivery.
func (d *Delivery[M]) outcome(err error, keepState bool) Outcome {
	o := Outcome{DeliveryID: d.ID, Kind: Delivered, Reference: d.reference, Notes: d.notes, Spans: d.spans}
	if keepState && d.stateSet && d.OrderKey != "" {
		if len(d.state) <= MaxState {
			o.State, o.StateSet = d.state, true
		} else {
			o.Notes = append(o.Notes, fmt.Sprintf("state dropped: %d bytes, the limit is %d", len(d.state), MaxState))
		}
	}
	if err == nil {
		return o
	}
	o.Kind, o.Reason = Retried, cmp.Or(err.Error(), "failed without a reason")
	var oe *outcomeError
	if !errors.As(err, &oe) {
		return o
	}
	o.Kind = oe.kind
	switch oe.kind {
	case Retried:
		o.After = max(oe.after, 0)
	case Rejected:
		o.AttributePath = oe.path
		var ae *AttributeError
		if len(oe.path) == 0 && errors.As(err, &ae) {
			o.AttributePath = ae.Path
		}
	}
	return o
}

// one makes a batch function of a single one; the host sends one delivery per call to such a sink.
func one[M any](s Sink[M]) func(context.Context, []*Delivery[M]) []error {
	return func(ctx context.Context, ds []*Delivery[M]) []error {
		errs := make([]error, len(ds))
		for i, d := range ds {
			ctx, finish := d.begin(ctx)
			errs[i] = recovered(ctx, func() error { return s.Deliver(ctx, d) })
			d.spans = finish(failed(errs[i]))
		}
		return errs
	}
}

// batch is s.DeliverBatch with a panic turned into an error for every delivery.
func batch[M any](s BatchSink[M]) func(context.Context, []*Delivery[M]) []error {
	return func(ctx context.Context, ds []*Delivery[M]) (errs []error) {
		if traced := slices.ContainsFunc(ds, func(d *Delivery[M]) bool { return d.TraceParent != "" }); traced {
			finish := beginAll(ctx, ds)
			defer func() { finish(errs) }()
			if len(ds) == 1 {
				ctx = ds[0].Context(ctx)
			}
		}
		err := recovered(ctx, func() error {
			errs = s.DeliverBatch(ctx, ds)
			return nil
		})
		if err != nil {
			errs = make([]error, len(ds))
			for i := range errs {
				errs[i] = err
			}
		}
		return errs
	}
}

// begin starts to measure an attempt. From here on TraceParent is that of the sink's own span.
func (d *Delivery[M]) begin(ctx context.Context) (context.Context, func(failed bool) []Span) {
	if d.TraceParent == "" {
		return ctx, finishNothing
	}
	ctx, finish := begin(ctx, d.TraceParent, "deliver")
	d.trace, _ = ctx.Value(traceKey{}).(*tracePlace)
	d.TraceParent = d.trace.parent
	return ctx, finish
}

// beginAll starts to measure the attempts of a batch.
func beginAll[M any](ctx context.Context, ds []*Delivery[M]) (finish func([]error)) {
	ends := make([]func(bool) []Span, len(ds))
	for i, d := range ds {
		_, ends[i] = d.begin(ctx)
	}
	return func(errs []error) {
		for i, d := range ds {
			d.spans = ends[i](len(errs) != len(ds) || failed(errs[i]))
		}
	}
}

// failed reports whether an author's error says more than that there was nothing to do.
func failed(err error) bool {
	var oe *outcomeError
	return err != nil && (!errors.As(err, &oe) || oe.kind != Skipped)
}

// recovered runs an author's call and makes an error of its panic. The log's ids are in ctx.
func recovered(ctx context.Context, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			slog.ErrorContext(ctx, "sink panicked", "panic", fmt.Sprint(v), "stack", stack())
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return call()
}

// stack is the stack of a panic as its recover sees it, bounded for the log.
func stack() string {
	const limit = 4 << 10
	s := debug.Stack()
	return string(s[:min(len(s), limit)])
}
