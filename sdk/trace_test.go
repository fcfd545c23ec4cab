package sdk_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	traceID   = "0af7651916cd43dd8448eb211c80319c"
	traced    = "00-" + traceID + "-b7ad6b7169203331-01"
	unsampled = "00-" + traceID + "-b7ad6b7169203331-00"
)

// parentOf is the traceparent below a span.
func parentOf(s sdk.Span) string { return "00-" + traceID + "-" + hex.EncodeToString(s.ID[:]) + "-01" }

func TestSpansOfADecoder(t *testing.T) {
	var inHandler, inStep string
	d := decodeContext(func(ctx context.Context, r *sdk.Request) ([]sdk.Event, error) {
		inHandler = sdk.Trace(ctx)
		step, end := sdk.StartSpan(ctx, "read the form")
		inStep = sdk.Trace(step)
		end(nil)
		end(errors.New("only the first end counts"))
		if r.ID == "bad" {
			return nil, errors.New("bad")
		}
		return nil, nil
	})
	got := sdk.DecodeAll(t.Context(), d, []*sdk.Request{{ID: "good", TraceParent: traced}})[0]
	if len(got.Spans) != 2 {
		t.Fatalf("spans %+v", got.Spans)
	}
	step, whole := got.Spans[0], got.Spans[1]
	if whole.Name != "decode" || whole.Parent != [8]byte{} || whole.Failed || whole.ID == [8]byte{} || whole.Took <= 0 {
		t.Errorf("the handler's span %+v", whole)
	}
	if step.Name != "read the form" || step.Parent != whole.ID || step.Failed || step.Took > whole.Took {
		t.Errorf("the step's span %+v", step)
	}
	if inHandler != parentOf(whole) || inStep != parentOf(step) {
		t.Errorf("Trace is %s in the handler, %s in the step", inHandler, inStep)
	}
	if got := sdk.DecodeAll(t.Context(), d, []*sdk.Request{{ID: "bad", TraceParent: traced}})[0]; !got.Spans[1].Failed {
		t.Errorf("the span of a refusal %+v", got.Spans[1])
	}
	for parent, want := range map[string]string{"": "", unsampled: unsampled, "00-1": "00-1", "00-" + traceID: "00-" + traceID} {
		if got := sdk.DecodeAll(t.Context(), d, []*sdk.Request{{TraceParent: parent}})[0]; len(got.Spans) > 0 {
			t.Errorf("%q: spans %+v", parent, got.Spans)
		}
		if inHandler != want || inStep != want {
			t.Errorf("%q: Trace is %q in the handler, %q in the step", parent, inHandler, inStep)
		}
	}
}

func TestSpansOfABatch(t *testing.T) {
	var parents []string
	f := sdk.NewBatchSink(sdk.SinkInfo{Name: "script"}, func(context.Context, struct{}) (sdk.BatchSink[message], error) {
		return batchContext(func(ctx context.Context, ds []*sdk.Delivery[message]) []error {
			if got := sdk.Trace(ctx); got != "" {
				t.Errorf("the batch has the trace %s", got)
			}
			for _, d := range ds {
				if got := sdk.Trace(d.Context(ctx)); got != d.TraceParent {
					t.Errorf("Trace is %q, TraceParent %q", got, d.TraceParent)
				}
				_, end := sdk.StartSpan(d.Context(ctx), "step")
				end(nil)
				parents = append(parents, d.TraceParent)
			}
			return []error{nil, errors.New("later"), sdk.Skip("old"), nil}
		}), nil
	})
	in := make([]*sdk.Delivery[json.RawMessage], 4)
	for i := range in {
		in[i] = &sdk.Delivery[json.RawMessage]{TraceParent: traced, Message: json.RawMessage(`{"do":"x"}`)}
	}
	in[3].TraceParent = ""
	outcomes := instance(t, f).DeliverRaw(t.Context(), in)
	for i, o := range outcomes[:3] {
		if len(o.Spans) != 2 || o.Spans[1].Name != "deliver" || o.Spans[0].Parent != o.Spans[1].ID {
			t.Fatalf("delivery %d: spans %+v", i, o.Spans)
		}
		if o.Spans[1].Failed != (i == 1) {
			t.Errorf("delivery %d: failed is %v", i, o.Spans[1].Failed)
		}
		if want := parentOf(o.Spans[1]); parents[i] != want {
			t.Errorf("delivery %d: TraceParent %s, not its span's %s", i, parents[i], want)
		}
	}
	if len(outcomes[3].Spans) != 0 || parents[3] != "" {
		t.Errorf("without a trace: %q, %+v", parents[3], outcomes[3].Spans)
	}
}

type decodeContext func(context.Context, *sdk.Request) ([]sdk.Event, error)

func (f decodeContext) Decode(ctx context.Context, r *sdk.Request) ([]sdk.Event, error) {
	return f(ctx, r)
}

type batchContext func(context.Context, []*sdk.Delivery[message]) []error

func (f batchContext) DeliverBatch(ctx context.Context, ds []*sdk.Delivery[message]) []error {
	return f(ctx, ds)
}

func TestSpansAreBounded(t *testing.T) {
	var late func(error)
	d := decodeContext(func(ctx context.Context, _ *sdk.Request) ([]sdk.Event, error) {
		for range 100 {
			_, end := sdk.StartSpan(ctx, strings.Repeat("x", 1000))
			end(nil)
		}
		return nil, nil
	})
	spans := sdk.DecodeAll(t.Context(), d, []*sdk.Request{{TraceParent: traced}})[0].Spans
	if len(spans) != 32 || len(spans[0].Name) != 64 {
		t.Errorf("%d spans, the first with a name of %d bytes", len(spans), len(spans[0].Name))
	}
	d = func(ctx context.Context, _ *sdk.Request) ([]sdk.Event, error) {
		_, late = sdk.StartSpan(ctx, "too late")
		return nil, nil
	}
	spans = sdk.DecodeAll(t.Context(), d, []*sdk.Request{{TraceParent: traced}})[0].Spans
	late(nil)
	if len(spans) != 1 {
		t.Errorf("a step that outlives the handler is there: %+v", spans)
	}
}

// What is not traced costs no memory.
func TestTracingOffAllocatesNothing(t *testing.T) {
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, end := sdk.StartSpan(ctx, "step")
		end(nil)
		if sdk.Trace(ctx) != "" {
			t.Error("there is a trace")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTracingOff(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_, end := sdk.StartSpan(ctx, "step")
		end(nil)
	}
}

// BenchmarkDecodeAll is what DecodeAll itself takes, off and on.
func BenchmarkDecodeAll(b *testing.B) {
	for name, parent := range map[string]string{"off": "", "on": traced} {
		b.Run(name, func(b *testing.B) {
			d := decodeFunc(func(*sdk.Request) ([]sdk.Event, error) { return nil, nil })
			rs := []*sdk.Request{{ID: "r", TraceParent: parent}}
			b.ReportAllocs()
			for b.Loop() {
				sdk.DecodeAll(b.Context(), d, rs)
			}
		})
	}
}
