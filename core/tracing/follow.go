package tracing

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// Keys of attributes. Values are ids, names of blocks, types, numbers and words of the host's own: nothing of a payload.
const (
	keySource   = attribute.Key("grapnel.source")
	keyRequest  = attribute.Key("grapnel.request.id")
	keyEvents   = attribute.Key("grapnel.events")
	keyCount    = attribute.Key("grapnel.deliveries")
	keyEvent    = attribute.Key("grapnel.event.id")
	keyType     = attribute.Key("grapnel.event.type")
	keyDelivery = attribute.Key("grapnel.delivery.id")
	keyRoute    = attribute.Key("grapnel.route")
	keySink     = attribute.Key("grapnel.sink")
	keyAttempt  = attribute.Key("grapnel.attempt")
	keyBatch    = attribute.Key("grapnel.batch.size")
	keyOutcome  = attribute.Key("grapnel.outcome")
)

const (
	maxTracestate  = 512 // bytes; what is longer is left out, as W3C allows
	maxTraceparent = 128
)

// foreign is the span of the provider's that a request says it belongs to; not valid: none.
func foreign(h http.Header) trace.SpanContext {
	parents := h["Traceparent"]
	if len(parents) != 1 || len(parents[0]) > maxTraceparent {
		return trace.SpanContext{}
	}
	return place(parents[0], strings.Join(h["Tracestate"], ","))
}

// place reads a traceparent and a tracestate. A tracestate that is wrong or too long does not count.
func place(parent, state string) trace.SpanContext {
	c := propagation.MapCarrier{"traceparent": parent}
	if state != "" && len(state) <= maxTracestate {
		c["tracestate"] = state
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), c))
}

// stored is the place that is kept with a request.
func stored(c trace.SpanContext) core.Trace {
	t := traceparent(c)
	if state := c.TraceState().String(); state != "" && len(state) <= maxTracestate {
		t += " " + state
	}
	return core.Trace(t)
}

func traceparent(c trace.SpanContext) string {
	flags := "-00"
	if c.IsSampled() {
		flags = "-01"
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + flags
}

// below is a context for spans below a stored place; not sampled: there are to be none.
func below(t core.Trace) (_ context.Context, sampled bool) {
	c := place(t.Parent(), t.State())
	if !c.IsSampled() {
		return nil, false
	}
	return trace.ContextWithRemoteSpanContext(context.Background(), c), true
}

// Accepting implements ingress.Tracer.
func (t *Tracing) Accepting(r *core.Request, h http.Header) func(store.Acceptance, error) {
	ctx := context.Background()
	if c := foreign(h); c.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, c)
	}
	ctx, span := t.accepts.Start(ctx, "accept "+r.Source, trace.WithTimestamp(r.ReceivedAt),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(keySource.String(r.Source)))
	r.Trace = stored(span.SpanContext())
	if !span.SpanContext().IsSampled() {
		return nil
	}
	_, commit := t.follows.Start(ctx, "store", trace.WithAttributes(keySource.String(r.Source)))
	return func(a store.Acceptance, err error) {
		outcome := string(a)
		if err != nil {
			outcome = "failed"
			span.SetStatus(codes.Error, outcome)
			commit.SetStatus(codes.Error, outcome)
		} else {
			span.SetAttributes(keyRequest.String(r.ID()))
		}
		span.SetAttributes(keyOutcome.String(outcome))
		commit.End()
		span.End()
	}
}

// started is the span of one item of a call; nil: it is not traced.
type started struct {
	span  trace.Span
	began time.Time
}

// Decoding implements engine.Tracer.
func (t *Tracing) Decoding(source string, rs []*core.Request) func([]core.Decoded, error) {
	var spans []*started
	for i, r := range rs {
		if r.CallTrace = r.Trace.Parent(); r.CallTrace == "" {
			continue
		}
		ctx, sampled := below(r.Trace)
		if !sampled {
			continue
		}
		if spans == nil {
			spans = make([]*started, len(rs))
		}
		now := time.Now()
		_, span := t.follows.Start(ctx, "decode "+source, trace.WithTimestamp(now),
			trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(keySource.String(source), keyRequest.String(r.ID()), keyBatch.Int(len(rs))))
		spans[i], r.CallTrace = &started{span, now}, traceparent(span.SpanContext())
	}
	if spans == nil {
		return nil
	}
	return func(results []core.Decoded, err error) {
		now := time.Now()
		for i, s := range spans {
			if s == nil {
				continue
			}
			outcome := "unavailable"
			if err == nil && i < len(results) {
				d := &results[i]
				switch {
				case d.Crashed:
					outcome = "crashed"
				case d.Refused != "":
					outcome = "refused"
				default:
					outcome = "decoded"
				}
				s.span.SetAttributes(keyEvents.Int(len(d.Events)))
				t.measured(s, now, d.Spans)
			}
			s.end(now, outcome, outcome == "decoded")
		}
	}
}

// Routing implements engine.Tracer.
func (t *Tracing) Routing(source string, rs []*core.Request) func([]*store.Decision, bool) {
	var spans []trace.Span
	for i, r := range rs {
		ctx, sampled := below(r.Trace)
		if !sampled {
			continue
		}
		if spans == nil {
			spans = make([]trace.Span, len(rs))
		}
		_, spans[i] = t.follows.Start(ctx, "route",
			trace.WithAttributes(keySource.String(source), keyRequest.String(r.ID()), keyBatch.Int(len(rs))))
	}
	if spans == nil {
		return nil
	}
	return func(ds []*store.Decision, committed bool) {
		now := time.Now()
		for i, span := range spans {
			if span == nil {
				continue
			}
			outcome, d := "routed", ds[i]
			switch {
			case !committed:
				outcome = "not stored"
			case d.Stale:
				outcome = "stale"
			case d.Dead != "":
				outcome = "dead"
			}
			span.SetAttributes(keyEvents.Int(len(d.Events)), keyCount.Int(len(d.Deliveries)))
			(&started{span: span}).end(now, outcome, outcome == "routed" || outcome == "stale")
		}
	}
}

// Delivering implements engine.Tracer.
func (t *Tracing) Delivering(sink string, ds []*core.Delivery) func([]core.Outcome, error) {
	var spans []*started
	for i, d := range ds {
		if d.CallTrace = d.Trace.Parent(); d.CallTrace == "" {
			continue
		}
		ctx, sampled := below(d.Trace)
		if !sampled {
			continue
		}
		if spans == nil {
			spans = make([]*started, len(ds))
		}
		attrs := []attribute.KeyValue{
			keySink.String(sink), keyRoute.String(d.Route), keyDelivery.String(d.ID), keyAttempt.Int(d.Attempts + 1),
			keyBatch.Int(len(ds)),
		}
		if d.Event != nil {
			attrs = append(attrs, keyEvent.String(d.Event.ID), keyType.String(d.Event.Type))
		}
		now := time.Now()
		_, span := t.follows.Start(ctx, "deliver "+sink, trace.WithTimestamp(now), trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attrs...))
		spans[i], d.CallTrace = &started{span, now}, traceparent(span.SpanContext())
	}
	if spans == nil {
		return nil
	}
	return func(outcomes []core.Outcome, err error) {
		now := time.Now()
		for i, s := range spans {
			if s == nil {
				continue
			}
			if err != nil || i >= len(outcomes) {
				s.end(now, "unavailable", false)
				continue
			}
			o := &outcomes[i]
			t.measured(s, now, o.Spans)
			s.end(now, string(o.Kind), o.Kind == sdk.Delivered || o.Kind == sdk.Skipped)
		}
	}
}

func (s *started) end(now time.Time, outcome string, good bool) {
	s.span.SetAttributes(keyOutcome.String(outcome))
	if !good {
		s.span.SetStatus(codes.Error, outcome)
	}
	s.span.End(trace.WithTimestamp(now))
}

// measured exports what a plugin measured below the span of a call. The plugin may lie: a span lies within its call, and below
// it.
func (t *Tracing) measured(s *started, now time.Time, spans []core.Span) {
	if len(spans) == 0 {
		return
	}
	within := func(at time.Time) time.Time {
		switch {
		case at.Before(s.began):
			return s.began
		case at.After(now):
			return now
		}
		return at
	}
	call := s.span.SpanContext()
	known := make(map[[8]byte]bool, len(spans))
	for i := range spans {
		known[spans[i].ID] = true
	}
	done := make(map[[8]byte]bool, len(spans))
	for i := range spans {
		m := &spans[i]
		if done[m.ID] || m.ID == call.SpanID() {
			continue
		}
		done[m.ID] = true
		parent, kind := call, trace.SpanKindServer
		if m.Parent != m.ID && known[m.Parent] {
			parent, kind = call.WithSpanID(m.Parent), trace.SpanKindInternal
		}
		ctx := trace.ContextWithRemoteSpanContext(context.WithValue(context.Background(), spanIDKey{}, trace.SpanID(m.ID)), parent)
		began := within(m.Start)
		_, span := t.plugin(m.Plugin, m.Version).Start(ctx, m.Name, trace.WithTimestamp(began), trace.WithSpanKind(kind))
		if m.Failed {
			span.SetStatus(codes.Error, "")
		}
		span.End(trace.WithTimestamp(within(began.Add(m.Took))))
	}
}
