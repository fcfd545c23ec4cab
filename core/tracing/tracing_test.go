package tracing

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/otlptest"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	foreignTrace  = "0af7651916cd43dd8448eb211c80319c"
	foreignSpan   = "b7ad6b7169203331"
	foreignParent = "00-" + foreignTrace + "-" + foreignSpan + "-01"
)

func start(t *testing.T, o Options) *Tracing {
	t.Helper()
	o.Logger, o.Version = hclog.NewNullLogger(), "1.2.3"
	tr, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close(context.Background()) })
	return tr
}

func flush(t *testing.T, tr *Tracing) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tr.Close(ctx)
}

// accept has a request accepted, with a traceparent if parent is not empty.
func accept(tr *Tracing, n byte, parent ...string) *core.Request {
	r := &core.Request{Source: "people", Dedupe: core.DedupeKey{n}, ReceivedAt: time.Now()}
	h := http.Header{}
	for _, p := range parent {
		h.Add("Traceparent", p)
	}
	if done := tr.Accepting(r, h); done != nil {
		done(store.Accepted, nil)
	}
	return r
}

// idOf is the span id of a traceparent.
func idOf(traceparent string) string { return traceparent[36:52] }

func plugged(name string, id, parent byte) core.Span {
	s := core.Span{Plugin: "grapnel-sink-x", Version: "2.0.0"}
	s.ID, s.Name, s.Start, s.Took = [8]byte{id}, name, time.Now(), time.Nanosecond
	if parent != 0 {
		s.Parent = [8]byte{parent}
	}
	return s
}

// The whole way of one request, in two processes of the host, with a retry: one trace, below the provider's span.
func TestOneTrace(t *testing.T) {
	to := otlptest.New(t)
	tr := start(t, Options{Endpoint: to.URL, Headers: map[string]string{"X-Key": "k"}})
	r := accept(tr, 1, foreignParent)
	if got := tr.Decoding("people", []*core.Request{r}); got == nil {
		t.Fatal("the decoding is not traced")
	} else {
		got([]core.Decoded{{Spans: []core.Span{plugged("step", 2, 1), plugged("decode", 1, 0)}}}, nil)
	}
	flush(t, tr)

	tr = start(t, Options{Endpoint: to.URL}) // the host again: what it knows is what was stored
	r = &core.Request{Source: r.Source, Dedupe: r.Dedupe, Trace: r.Trace}
	tr.Routing("people", []*core.Request{r})([]*store.Decision{{Request: r, Deliveries: make([]*core.Delivery, 2)}}, true)
	d := &core.Delivery{ID: "dlv_1", Sink: "crm", Route: "hires", Trace: r.Trace, Event: &core.Event{}}
	d.Event.Type, d.Event.ID = "people.created", "evt_1"
	tr.Delivering("crm", []*core.Delivery{d})([]core.Outcome{{Kind: sdk.Retried, Reason: "the far end quotes a secret"}}, nil)
	first := d.CallTrace
	d.Attempts++
	tr.Delivering("crm", []*core.Delivery{d})(nil, errors.New("not ready"))
	tr.Delivering("crm", []*core.Delivery{d})([]core.Outcome{{Kind: sdk.Delivered}}, nil)
	flush(t, tr)

	spans := to.Of(foreignTrace)
	if len(spans) != len(to.Spans()) {
		t.Errorf("spans of other traces: %v", to.Spans())
	}
	want := []string{
		"accept people > store", "accept people", "accept people > decode people > grapnel-sink-x:decode > grapnel-sink-x:step",
		"accept people > decode people > grapnel-sink-x:decode", "accept people > decode people", "accept people > route",
		"accept people > deliver crm", "accept people > deliver crm", "accept people > deliver crm",
	}
	got := otlptest.Tree(spans)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	attempts := map[string]string{}
	for _, s := range spans {
		switch s.Name {
		case "accept people":
			if s.Parent != foreignSpan || s.Kind != "server" || s.Attributes["grapnel.request.id"] != r.ID() {
				t.Errorf("%v", s)
			}
		case "decode":
			if s.Resources["service.version"] != "2.0.0" || s.Kind != "server" {
				t.Errorf("%v %v", s, s.Resources)
			}
		case "deliver crm":
			attempts[s.ID] = s.Attributes["grapnel.attempt"] + " " + s.Attributes["grapnel.outcome"]
			if s.Failed != (s.Attributes["grapnel.outcome"] != "delivered") || s.Attributes["grapnel.event.type"] != "people.created" {
				t.Errorf("%v", s)
			}
		}
		for k, v := range s.Attributes {
			if strings.Contains(v, "secret") {
				t.Errorf("%s = %s", k, v)
			}
		}
	}
	if attempts[idOf(first)] != "1 retry" || len(attempts) != 3 {
		t.Errorf("attempts %v, the first was told %s", attempts, first)
	}
	if got := to.Headers()[0].Get("X-Key"); got != "k" {
		t.Errorf("X-Key: %q", got)
	}
}

// Items of one call belong to traces of their own.
func TestBatchOfSeveralTraces(t *testing.T) {
	to := otlptest.New(t)
	tr := start(t, Options{Endpoint: to.URL})
	rs := []*core.Request{accept(tr, 1), accept(tr, 2, foreignParent), {Source: "people"}, accept(tr, 4, foreignParent[:53]+"00")}
	results := make([]core.Decoded, 4)
	results[0].Spans, results[1].Refused = []core.Span{plugged("decode", 7, 0)}, "quotes a payload"
	tr.Decoding("people", rs)(results, nil)
	flush(t, tr)
	if rs[2].CallTrace != "" || rs[3].CallTrace != string(rs[3].Trace) || !strings.HasSuffix(rs[3].CallTrace, "-00") {
		t.Errorf("untraced %q, not sampled %q", rs[2].CallTrace, rs[3].CallTrace)
	}
	decoded := 0
	for _, s := range to.Spans() {
		if s.Name != "decode people" {
			continue
		}
		decoded++
		i := slices.IndexFunc(rs, func(r *core.Request) bool { return r.Trace.ID() == s.Trace })
		if i < 0 || i > 1 || s.ID != idOf(rs[i].CallTrace) || s.Parent != idOf(rs[i].Trace.Parent()) {
			t.Fatalf("%v", s)
		}
		if want := []string{"decoded", "refused"}[i]; s.Attributes["grapnel.outcome"] != want || s.Attributes["grapnel.batch.size"] != "4" {
			t.Errorf("%v", s)
		}
	}
	if decoded != 2 {
		t.Errorf("%d spans of decoding", decoded)
	}
}

func TestSampling(t *testing.T) {
	for name, test := range map[string]struct {
		share  float64
		parent []string
		want   int // of 200, at least and at most within 60
	}{
		"none":                       {0, nil, 0},
		"all":                        {1, nil, 200},
		"half":                       {0.5, nil, 100},
		"the provider samples":       {0, []string{foreignParent}, 200},
		"the provider does not":      {1, []string{foreignParent[:53] + "00"}, 0},
		"a traceparent that is none": {0, []string{"00-0-0-01"}, 0},
		"two traceparents":           {0, []string{foreignParent, foreignParent}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			to := otlptest.New(t)
			tr := start(t, Options{Endpoint: to.URL, Sample: &test.share})
			for i := range 200 {
				r := accept(tr, byte(i), test.parent...)
				if d := (&core.Delivery{Trace: r.Trace}); strings.HasSuffix(r.Trace.Parent(), "-01") {
					tr.Delivering("s", []*core.Delivery{d})([]core.Outcome{{Kind: sdk.Delivered}}, nil)
				} else if tr.Delivering("s", []*core.Delivery{d}) != nil || d.CallTrace != r.Trace.Parent() {
					t.Fatalf("an attempt of an unsampled trace is traced: %s", d.CallTrace)
				}
			}
			flush(t, tr)
			n := map[string]int{}
			for _, s := range to.Spans() {
				n[s.Name]++
			}
			exact := test.want == 0 || test.want == 200
			if got := n["accept people"]; got != n["deliver s"] || exact && got != test.want || got < test.want-60 || got > test.want+60 {
				t.Errorf("%v, want %d", n, test.want)
			}
		})
	}
}

// A receiver that is down or hangs costs its spans, and never the time of who makes them.
func TestExporterDown(t *testing.T) {
	to := otlptest.New(t)
	to.Answer(func() int { return http.StatusBadRequest }) // final: no retries
	tr := start(t, Options{Endpoint: to.URL})
	accept(tr, 1)
	flush(t, tr)
	if got := tr.Stats(); got.Failed != 2 || got.Exported != 0 || got.Dropped != 0 {
		t.Errorf("refused: %+v", got)
	}

	release := make(chan struct{})
	to.Answer(func() int { <-release; return http.StatusOK })
	tr = start(t, Options{Endpoint: to.URL})
	const requests = queued // two spans each: twice what has room
	for range requests {
		accept(tr, 1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	tr.Close(ctx)
	if took := time.Since(began); took > exportTimeout {
		t.Errorf("Close took %s", took)
	}
	accept(tr, 2) // after the end: no span, no panic
	close(release)
	got := tr.Stats()
	if got.Exported != 0 || got.Dropped < queued-2*exportBatch || got.Dropped+got.Failed != 2*requests+2 {
		t.Errorf("hanging: %+v", got)
	}
}

// What a plugin says it measured is bounded by the call it was measured in.
func TestHostilePluginSpans(t *testing.T) {
	to := otlptest.New(t)
	tr := start(t, Options{Endpoint: to.URL})
	r := accept(tr, 1)
	d := &core.Delivery{Trace: r.Trace}
	done := tr.Delivering("s", []*core.Delivery{d})
	early, long, twice, cycle, orphan := plugged("early", 1, 0), plugged("long", 2, 0), plugged("twice", 2, 0), plugged("self", 3, 3), plugged("orphan", 4, 99)
	early.Start = time.Unix(0, 0)
	long.Took = 1 << 62
	own := plugged("the host's", 0, 0)
	copy(own.ID[:], unhex(t, idOf(d.CallTrace)))
	done([]core.Outcome{{Kind: sdk.Delivered, Spans: []core.Span{early, long, twice, cycle, orphan, own}}}, nil)
	flush(t, tr)
	var call otlptest.Span
	var names []string
	for _, s := range to.Spans() {
		if s.Name == "deliver s" {
			call = s
		}
	}
	for _, s := range to.Spans() {
		if s.Service == "grapnel" {
			continue
		}
		names = append(names, s.Name)
		if s.Trace != call.Trace || s.Parent != call.ID || s.Start.Before(call.Start) || s.End.After(call.End) || s.End.Before(s.Start) {
			t.Errorf("%v in %v", s, call)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"early", "long", "orphan", "self"}, names); diff != "" {
		t.Error(diff)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	c := place("00-"+foreignTrace+"-"+s+"-01", "")
	id := c.SpanID()
	return id[:]
}

func TestTracestate(t *testing.T) {
	for state, want := range map[string]string{
		"vendor=1,other=2":              "vendor=1,other=2",
		"":                              "",
		"no state":                      "",
		"v=" + strings.Repeat("x", 600): "",
	} {
		h := http.Header{"Traceparent": {foreignParent}, "Tracestate": {state}}
		c := foreign(h)
		if c.TraceID().String() != foreignTrace || c.TraceState().String() != want {
			t.Errorf("%q: %v", state, c)
		}
		kept := stored(c)
		if again := place(kept.Parent(), kept.State()); !again.WithRemote(true).Equal(c) {
			t.Errorf("%q is stored as %q", state, kept)
		}
	}
}

func FuzzForeign(f *testing.F) {
	f.Add(foreignParent, "vendor=1")
	f.Add("01-"+foreignTrace+"-"+foreignSpan+"-ff-more", "a=1,,b=2")
	f.Add("00-00000000000000000000000000000000-"+foreignSpan+"-01", "\x00")
	f.Fuzz(func(t *testing.T, parent, state string) {
		c := foreign(http.Header{"Traceparent": {parent}, "Tracestate": {state}})
		if !c.IsValid() {
			return
		}
		kept := stored(c)
		if len(kept) > len(foreignParent)+1+maxTracestate || strings.ContainsFunc(string(kept), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("kept %q", kept)
		}
		again := place(kept.Parent(), kept.State())
		if again.TraceID() != c.TraceID() || again.SpanID() != c.SpanID() || again.IsSampled() != c.IsSampled() ||
			again.TraceState().String() != c.TraceState().String() {
			t.Errorf("%v is kept as %q, which is %v", c, kept, again)
		}
	})
}

func BenchmarkTraced(b *testing.B) {
	tr, err := New(b.Context(), Options{Endpoint: otlptest.New(b).URL, Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close(context.Background())
	b.ReportAllocs()
	for b.Loop() {
		r := accept(tr, 1)
		tr.Decoding("people", []*core.Request{r})([]core.Decoded{{}}, nil)
		tr.Routing("people", []*core.Request{r})([]*store.Decision{{}}, true)
		tr.Delivering("s", []*core.Delivery{{Trace: r.Trace}})([]core.Outcome{{Kind: sdk.Delivered}}, nil)
	}
}

// What the options leave open is for the standard variables to say, and what they say stands.
func TestEnvironment(t *testing.T) {
	to, other := otlptest.New(t), otlptest.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=of-the-environment")
	t.Setenv("OTEL_SERVICE_NAME", "hooks")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	tr := start(t, Options{})
	r := accept(tr, 1)
	d := &core.Delivery{Trace: r.Trace}
	tr.Delivering("s", []*core.Delivery{d})([]core.Outcome{{Kind: sdk.Delivered, Spans: []core.Span{plugged("deliver", 1, 0)}}}, nil)
	flush(t, tr)
	services := map[string]int{}
	for _, s := range to.Spans() {
		services[s.Service]++
		if s.Resources["deployment.environment.name"] != "test" {
			t.Errorf("%v %v", s, s.Resources)
		}
	}
	if diff := cmp.Diff(map[string]int{"hooks": 3, "grapnel-sink-x": 1}, services); diff != "" {
		t.Error(diff)
	}
	if got := to.Headers()[0].Get("X-Key"); got != "of-the-environment" {
		t.Errorf("X-Key: %q", got)
	}

	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	tr = start(t, Options{Endpoint: other.URL})
	accept(tr, 1)
	flush(t, tr)
	all := 1.0
	tr = start(t, Options{Endpoint: other.URL + "/", Sample: &all})
	accept(tr, 2)
	flush(t, tr)
	if n := len(other.Spans()); n != 2 {
		t.Errorf("%d spans", n)
	}

	for name, value := range map[string]string{"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "none"} {
		if Disabled() {
			t.Error("disabled by nothing")
		}
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if !Disabled() {
				t.Error("not disabled")
			}
		})
	}
	for _, bad := range []string{"127.0.0.1:4318", "grpc://x", "http://", "http://user:pass@x", "http://%zz"} {
		if _, err := New(t.Context(), Options{Endpoint: bad, Logger: hclog.NewNullLogger()}); err == nil || strings.Contains(err.Error(), "pass") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
