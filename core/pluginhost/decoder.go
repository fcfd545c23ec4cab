package pluginhost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// sourceURN and a source's name are the source of its events.
const sourceURN = "urn:grapnel:source:"

// Bounds of an event's envelope, in bytes.
const (
	maxSubject   = 1024 // and partition key
	maxOperation = 128
	maxTenant    = 256
)

// Decoder is a configured source's decoder in a plugin. Its methods may be called from any number of goroutines.
type Decoder struct {
	Handle
	limits   jsonscan.Limits
	source   string    // the events' source
	provider string    // theirs, the first part of their types
	calls    sync.Pool // of *decodeCall
}

// OpenDecoder makes the decoder of one source from its configuration, as OpenSink does.
func (h *Host) OpenDecoder(ctx context.Context, block, plugin string, config []byte,
	opts DecoderOptions) (*Decoder, error) {
	d := &Decoder{limits: jsonscan.DefaultLimits(), source: sourceURN + block}
	d.calls.New = func() any { return &decodeCall{} }
	d.manifest = opts.Manifest
	err := h.open(ctx, &d.Handle, core.PluginDecoder, block, plugin, config,
		SinkOptions{Isolated: opts.Isolated, Wait: opts.Wait})
	if err != nil {
		return nil, err
	}
	d.provider = cmp.Or(opts.Provider, d.made.Provider.Name)
	return d, nil
}

// decodeCall holds the messages of one call, to be used again.
type decodeCall struct {
	request  pluginv1.DecodeRequest
	requests []pluginv1.Request
	pointers []*pluginv1.Request
	headers  []pluginv1.Header
	lines    []*pluginv1.Header
}

func (d *Decoder) fill(i *instance, rs []*core.Request, id string) *decodeCall {
	c := d.calls.Get().(*decodeCall)
	if n := len(rs); cap(c.requests) < n {
		c.requests, c.pointers = make([]pluginv1.Request, n), make([]*pluginv1.Request, n)
		for k := range n {
			c.pointers[k] = &c.requests[k]
		}
	}
	c.requests, c.pointers = c.requests[:len(rs)], c.pointers[:len(rs)]
	lines := 0
	for _, r := range rs {
		lines += len(r.Headers)
	}
	if cap(c.headers) < lines {
		c.headers, c.lines = make([]pluginv1.Header, lines), make([]*pluginv1.Header, lines)
		for k := range lines {
			c.lines[k] = &c.headers[k]
		}
	}
	c.headers, c.lines = c.headers[:lines], c.lines[:lines]
	line := 0
	for k, r := range rs {
		m := &c.requests[k]
		m.Id, m.Source, m.Tenant, m.ReceivedAt = r.ID(), r.Source, r.Tenant, r.ReceivedAt.UnixNano()
		m.Method, m.Query, m.Body, m.Traceparent = r.Method, valid(r.Query), r.Body, r.CallTrace
		first := line
		for _, h := range r.Headers {
			c.headers[line].Name, c.headers[line].Value = valid(h.Name), valid(h.Value)
			line++
		}
		m.Headers = c.lines[first:line:line]
	}
	c.request.Context, c.request.Instance, c.request.Requests = i.p.callContext(), id, c.pointers
	return c
}

// valid makes foreign text fit for the wire, which carries nothing but UTF-8.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// done gives a call's messages back: they must not hold on to what they carried.
func (d *Decoder) done(c *decodeCall) {
	for k := range c.requests {
		m := &c.requests[k]
		m.Id, m.Source, m.Tenant, m.Method, m.Query, m.Body, m.Headers = "", "", "", "", "", nil, nil
		m.Traceparent = ""
	}
	for k := range c.headers {
		c.headers[k].Name, c.headers[k].Value = "", ""
	}
	d.calls.Put(c)
}

// Decode decodes requests and returns one result per request, in order. An event's data may be a slice of its request's
// body. An error says that nothing is known about any of them, which is nobody's fault: the plugin is not ready, or the
// host stops it. A request that got no proper answer among others is asked again alone, in quarantine; if that is in
// vain too, its result is Crashed, which counts and is not final.
func (d *Decoder) Decode(ctx context.Context, rs []*core.Request) ([]core.Decoded, error) {
	i, err := d.enter()
	if err != nil {
		return nil, err
	}
	defer i.calls.exit()
	ctx, cancel, within, err := i.limit(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	out := make([]core.Decoded, len(rs))
	for from := 0; from < len(rs); {
		if rs[from].Crashes > 0 {
			if out[from], err = d.alone(ctx, i, rs[from], within); err != nil {
				return nil, err
			}
			from++
			continue
		}
		n, size := 0, 0
		for from+n < len(rs) && rs[from+n].Crashes == 0 {
			size += len(rs[from+n].Body)
			if n > 0 && size > i.p.h.launcher.messageLimit/2 {
				break
			}
			n++
		}
		if err := d.together(ctx, i, rs[from:from+n], out[from:from+n], within); err != nil {
			return nil, err
		}
		from += n
	}
	return out, nil
}

// together makes one call, and asks again alone for what it left open.
func (d *Decoder) together(
	ctx context.Context, i *instance, rs []*core.Request, out []core.Decoded, within time.Duration,
) error {
	o, err := i.acquire()
	if err != nil {
		return err
	}
	call := d.fill(i, rs, o.id)
	response, err := o.c.decoder.Decode(ctx, &call.request)
	d.done(call)
	v, err := i.judge(ctx, o.c, err)
	i.release(o)
	var open []int // without result
	switch v {
	case given:
		if errors.Is(context.Cause(ctx), context.Canceled) {
			o.c.probe()
		}
		return err
	case answered:
		if open = d.results(i, rs, response, out); len(open) == 0 {
			return nil
		}
	default:
		if v == silent {
			i.p.gaveUp(o.c)
		}
		if v == broken {
			i.p.fault(err.Error())
		}
		for k := range rs {
			open = append(open, k)
		}
	}
	explained := false
	for _, k := range open {
		if out[k], err = d.alone(ctx, i, rs[k], within); err != nil {
			return err
		}
		if v == died && out[k].Crashed && !explained {
			explained = true
			i.p.explained(o.c)
		}
	}
	return nil
}

// alone decodes in quarantine.
func (d *Decoder) alone(
	ctx context.Context, i *instance, r *core.Request, within time.Duration,
) (core.Decoded, error) {
	var response *pluginv1.DecodeResponse
	rs := []*core.Request{r}
	invalid, oversized := false, false
	v, words, err := i.alone(ctx, within, func(ctx context.Context, c *child, id string) error {
		call := d.fill(i, rs, id)
		defer d.done(call)
		var err error
		response, err = c.decoder.Decode(ctx, &call.request)
		invalid, oversized = isInvalidText(err), isOversized(err)
		return err
	})
	if err != nil {
		return core.Decoded{}, err
	}
	var out [1]core.Decoded
	switch {
	case v == answered:
		if len(d.results(i, rs, response, out[:])) == 0 {
			return out[0], nil
		}
		words = i.faulty("its answer does not name this request, or more than once")
	case v == broken && (invalid || oversized):
		i.p.fault(words)
		return core.Decoded{Refused: i.faulty(words)}, nil
	case v == broken:
		i.p.fault(words)
		words = i.faulty(words)
	}
	return core.Decoded{Crashed: true, Refused: words}, nil
}

// results matches an answer with what was asked. The plugin may lie: open lists the requests without exactly one
// result.
func (d *Decoder) results(
	i *instance, rs []*core.Request, response *pluginv1.DecodeResponse, out []core.Decoded,
) (open []int) {
	i.p.logNotes(i.block, response.GetNotes())
	answers := response.GetResults()
	ids := make([]string, len(rs))
	inOrder := len(answers) == len(rs)
	for k, r := range rs {
		ids[k] = r.ID()
		inOrder = inOrder && answers[k].GetRequestId() == ids[k]
	}
	if inOrder {
		for k, r := range rs {
			out[k] = d.decoded(i, r, answers[k])
		}
		return nil
	}
	at := make(map[string]int, len(rs))
	for k := range rs {
		at[ids[k]] = k
	}
	count := make([]int, len(rs))
	answer := make([]*pluginv1.DecodeResult, len(rs))
	foreign := 0
	for _, a := range answers {
		k, ok := at[a.GetRequestId()]
		if !ok {
			foreign++
			continue
		}
		count[k]++
		answer[k] = a
	}
	for k, n := range count {
		if n != 1 {
			open = append(open, k)
			continue
		}
		out[k] = d.decoded(i, rs[k], answer[k])
	}
	if foreign+len(open) > 0 {
		i.p.fault(fmt.Sprintf("of %d requests, %d without exactly one result, %d results of others",
			len(rs), len(open), foreign))
	}
	return open
}

// decoded checks one result and completes the envelopes of its events.
func (d *Decoder) decoded(i *instance, r *core.Request, a *pluginv1.DecodeResult) core.Decoded {
	p := i.p
	var out core.Decoded
	if len(a.GetNotes()) > 0 {
		out.Notes = p.notes(nil, a.GetNotes())
	}
	if len(a.GetSpans()) > 0 {
		out.Spans = p.spans(r.CallTrace, a.GetSpans())
	}
	if why := a.GetRefused(); why != "" {
		out.Refused = p.reason(why)
		return out
	}
	list := a.GetEvents()
	if len(list) > p.h.maxEvents {
		return i.refuse(out, fmt.Sprintf("it made %d events of one request, at most %d are accepted",
			len(list), p.h.maxEvents))
	}
	if len(list) == 0 {
		return out
	}
	out.Events = make([]core.Event, len(list))
	received := ""
	for k, e := range list {
		if why := d.event(i, &out, k, r, e, &received); why != "" {
			return i.refuse(out, fmt.Sprintf("event %d: %s", k, why))
		}
	}
	return out
}

// refuse ends a request whose result cannot be used: a decoder is pure, it would say the same again.
func (i *instance) refuse(out core.Decoded, why string) core.Decoded {
	i.p.fault(why)
	out.Events, out.Refused = nil, clip(i.faulty(why), maxReason)
	return out
}

// event fills out.Events[k]; it returns what is wrong with the plugin's event, or nothing.
func (d *Decoder) event(
	i *instance, out *core.Decoded, k int, r *core.Request, e *pluginv1.Event, received *string,
) string {
	if why := checkType(e.GetType(), d.provider); why != "" {
		return fmt.Sprintf("its type %q %s", clip(clean(e.GetType()), 80), why)
	}
	for _, t := range [...]struct {
		name, text string
		limit      int
	}{
		{"subject", e.GetSubject(), maxSubject},
		{"partition key", e.GetPartitionKey(), maxSubject},
		{"operation", e.GetOperation(), maxOperation},
		{"tenant", e.GetTenant(), maxTenant},
	} {
		if why := checkText(t.text, t.limit); why != "" {
			return "its " + t.name + " " + why
		}
	}
	ev := &out.Events[k]
	ev.Envelope = sdk.Envelope{
		ID:           core.EventID(r.Dedupe, r.Repeat, k),
		Source:       d.source,
		Type:         e.GetType(),
		Subject:      e.GetSubject(),
		Time:         e.GetTime(),
		PartitionKey: e.GetPartitionKey(),
		Provider:     d.provider,
		Operation:    e.GetOperation(),
		Tenant:       e.GetTenant(),
	}
	if r.Source != i.block { // A source that was renamed: its requests keep their name.
		ev.Source = sourceURN + r.Source
	}
	if ev.Tenant == "" {
		ev.Tenant = r.Tenant
	}
	if ev.Time == "" || !isRFC3339(ev.Time) {
		if ev.Time != "" && len(out.Notes) < maxNotes {
			out.Notes = append(out.Notes,
				fmt.Sprintf("event %d: its time is not in the form of RFC 3339, the time of receipt is taken", k))
		}
		if *received == "" {
			*received = r.ReceivedAt.UTC().Format(time.RFC3339Nano)
		}
		ev.Time = *received
	}
	ev.RequestSeq, ev.Index, ev.DataOffset = r.Seq, k, -1
	if why := d.data(ev, r, e); why != "" {
		return why
	}
	return d.changes(ev, e.GetChanges())
}

func (d *Decoder) data(ev *core.Event, r *core.Request, e *pluginv1.Event) string {
	switch rng := e.GetDataRange(); {
	case rng != nil && len(e.GetData()) > 0:
		return "it has data and a range of the body, only one is possible"
	case rng != nil:
		from, to := uint64(rng.GetOffset()), uint64(rng.GetOffset())+uint64(rng.GetLength())
		if to > uint64(len(r.Body)) || from == to {
			return fmt.Sprintf("its data is the range [%d:%d] of a body of %d bytes", from, to, len(r.Body))
		}
		ev.Data, ev.DataOffset = r.Body[from:to:to], int(from)
	case len(e.GetData()) > 0:
		ev.Data = e.GetData()
	default:
		return ""
	}
	if err := jsonscan.Check(ev.Data, d.limits); err != nil {
		return "its data is not acceptable JSON: " + err.Error()
	}
	return ""
}

// changes checks the shape of the changes: an object of objects with at most "old" and "new".
func (d *Decoder) changes(ev *core.Event, b []byte) string {
	const bad = `its changes are not an object of {"old": …, "new": …}`
	if len(b) == 0 {
		return ""
	}
	if err := jsonscan.Check(b, d.limits); err != nil {
		return "its changes are not acceptable JSON: " + err.Error()
	}
	fields := rawjson.Members(b)
	for fields.Next() {
		if fields.Value.Kind() != rawjson.Object {
			return bad
		}
		change := rawjson.Members(fields.Value)
		for change.Next() {
			if string(change.Name) != "old" && string(change.Name) != "new" {
				return bad
			}
		}
		if change.Err() != nil {
			return bad
		}
	}
	if fields.Err() != nil {
		return bad
	}
	ev.Changes = b
	return ""
}

// checkText says what is wrong with a text of an envelope; empty: nothing.
func checkText(s string, limit int) string {
	if len(s) > limit {
		return fmt.Sprintf("is longer than %d bytes", limit)
	}
	ascii := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return "holds a control character"
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(s) {
		return "is not UTF-8"
	}
	return ""
}

// isRFC3339 takes the format strictly, with one to nine digits of a fraction. Package time alone lets more pass.
func isRFC3339(s string) bool {
	const date, zone = "0000-00-00T00:00:00", "+00:00"
	if len(s) <= len(date) || len(s) > len(date)+len(".123456789")+len(zone) || s[10] != 'T' || s[13] != ':' {
		return false
	}
	rest := s[len(date):]
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n == 1 || n > 10 {
			return false
		}
		rest = rest[n:]
	}
	if rest != "Z" && len(rest) != len(zone) {
		return false
	}
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}
