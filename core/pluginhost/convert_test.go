package pluginhost

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// deafProcess is a process that is never started: enough to check answers.
func deafProcess(info *core.PluginInfo) *process {
	return &process{h: &Host{maxEvents: 3}, info: info, log: hclog.NewNullLogger(), redact: &redactor{}}
}

func testDecoder() *Decoder {
	d := &Decoder{limits: jsonscan.DefaultLimits(), source: sourceURN + "main", provider: "shop"}
	d.at.Store(newInstance(deafProcess(validDecoder()), "main", nil))
	return d
}

func testRequest(body string) *core.Request {
	return &core.Request{
		Seq: 7, Dedupe: core.DedupeKey{1}, Repeat: 2, Source: "main", Tenant: "acme", Body: []byte(body),
		ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 60, time.FixedZone("", 3600)),
	}
}

func TestDecodedEvent(t *testing.T) {
	d := testDecoder()
	r := testRequest(`{"employee": {"id": 1.50}}`)
	got := d.decoded(d.at.Load(), r, &pluginv1.DecodeResult{
		RequestId: r.ID(), Notes: []*pluginv1.Note{{Message: "odd"}, {}},
		Events: []*pluginv1.Event{
			{Type: "shop.order.made", Subject: "order/1", PartitionKey: "order/1", Operation: "created", Tenant: "other",
				Time: "2026-01-01T00:00:00.5+02:00", DataRange: &pluginv1.ByteRange{Offset: 13, Length: 12},
				Changes: []byte(`{"a":{"old":null},"b":{"old":1,"new":2}}`)},
			{Type: "shop.order.made", Time: "yesterday", Data: []byte(`[1]`)},
			{Type: "shop.order.made"},
		},
	})
	want := core.Decoded{
		Notes: []string{"odd", "event 1: its time is not in the form of RFC 3339, the time of receipt is taken"},
		Events: []core.Event{
			{Envelope: sdk.Envelope{ID: core.EventID(r.Dedupe, 2, 0), Source: "urn:grapnel:source:main", Type: "shop.order.made",
				Subject: "order/1", Time: "2026-01-01T00:00:00.5+02:00", PartitionKey: "order/1", Provider: "shop",
				Operation: "created", Tenant: "other"},
				RequestSeq: 7, Data: []byte(`{"id": 1.50}`), DataOffset: 13, Changes: []byte(`{"a":{"old":null},"b":{"old":1,"new":2}}`)},
			{Envelope: sdk.Envelope{ID: core.EventID(r.Dedupe, 2, 1), Source: "urn:grapnel:source:main", Type: "shop.order.made",
				Time: "2026-01-02T02:04:05.00000006Z", Provider: "shop", Tenant: "acme"},
				RequestSeq: 7, Index: 1, Data: []byte(`[1]`), DataOffset: -1},
			{Envelope: sdk.Envelope{ID: core.EventID(r.Dedupe, 2, 2), Source: "urn:grapnel:source:main", Type: "shop.order.made",
				Time: "2026-01-02T02:04:05.00000006Z", Provider: "shop", Tenant: "acme"},
				RequestSeq: 7, Index: 2, DataOffset: -1},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if unsafe.SliceData(got.Events[0].Data) != &r.Body[13] || cap(got.Events[0].Data) != 12 {
		t.Error("the data is not a slice of the body, without what follows")
	}
}

func TestDecodedIsNotTrusted(t *testing.T) {
	ok := func() *pluginv1.Event { return &pluginv1.Event{Type: "shop.order.made"} }
	with := func(change func(*pluginv1.Event)) []*pluginv1.Event {
		e := ok()
		change(e)
		return []*pluginv1.Event{ok(), e}
	}
	rng := func(offset, length uint32) func(*pluginv1.Event) {
		return func(e *pluginv1.Event) { e.DataRange = &pluginv1.ByteRange{Offset: offset, Length: length} }
	}
	data := func(s string) func(*pluginv1.Event) { return func(e *pluginv1.Event) { e.Data = []byte(s) } }
	changes := func(s string) func(*pluginv1.Event) { return func(e *pluginv1.Event) { e.Changes = []byte(s) } }
	for _, test := range []struct {
		name   string
		events []*pluginv1.Event
		want   string
	}{
		{"too many", []*pluginv1.Event{ok(), ok(), ok(), ok()}, "it made 4 events of one request, at most 3 are accepted"},
		{"type", with(func(e *pluginv1.Event) { e.Type = "shop.Order Made" }), `event 1: its type "shop.Order Made" is not made of parts`},
		{"no type", with(func(e *pluginv1.Event) { e.Type = "" }), `its type "" is not made of parts`},
		{"foreign type", with(func(e *pluginv1.Event) { e.Type = "store.x" }), `does not begin with the provider's name`},
		{"NUL", with(func(e *pluginv1.Event) { e.Subject = "a\x00b" }), "its subject holds a control character"},
		{"UTF-8", with(func(e *pluginv1.Event) { e.PartitionKey = "\xff" }), "its partition key is not UTF-8"},
		{"long", with(func(e *pluginv1.Event) { e.Subject = strings.Repeat("x", 2000) }), "its subject is longer than 1024 bytes"},
		{"operation", with(func(e *pluginv1.Event) { e.Operation = "a\nb" }), "its operation holds a control character"},
		{"tenant", with(func(e *pluginv1.Event) { e.Tenant = strings.Repeat("x", 300) }), "its tenant is longer"},
		{"range beyond", with(rng(8, 3)), "its data is the range [8:11] of a body of 10 bytes"},
		{"range overflow", with(rng(1<<32-1, 1<<32-1)), "its data is the range"},
		{"empty range", with(rng(3, 0)), "its data is the range [3:3]"},
		{"range of no value", with(rng(1, 4)), "its data is not acceptable JSON"},
		{"range and data", with(func(e *pluginv1.Event) { rng(0, 10)(e); data("1")(e) }), "only one is possible"},
		{"data", with(data(`{"a":}`)), "its data is not acceptable JSON"},
		{"data UTF-8", with(data("\"\xff\"")), "its data is not acceptable JSON"},
		{"deep data", with(data(strings.Repeat("[", 1000) + strings.Repeat("]", 1000))), "its data is not acceptable JSON"},
		{"huge exponent", with(data(`1e1000000`)), "its data is not acceptable JSON"},
		{"changes", with(changes(`[1]`)), "its changes are not an object"},
		{"changes null", with(changes(`null`)), "its changes are not an object"},
		{"changes member", with(changes(`{"a":null}`)), "its changes are not an object"},
		{"changes unknown", with(changes(`{"a":{"older":1}}`)), "its changes are not an object"},
		{"changes JSON", with(changes(`{"a":`)), "its changes are not acceptable JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := testDecoder()
			r := testRequest(`{"a": [1]}`)
			got := d.decoded(d.at.Load(), r, &pluginv1.DecodeResult{RequestId: r.ID(), Events: test.events})
			if len(got.Events) != 0 || !strings.Contains(got.Refused, test.want) || !strings.HasPrefix(got.Refused, `plugin "shop" is faulty: `) {
				t.Errorf("%d events, refused %q, want %q", len(got.Events), got.Refused, test.want)
			}
			if d.at.Load().p.faults != 1 {
				t.Errorf("%d faults counted", d.at.Load().p.faults)
			}
		})
	}
}

func TestResultsAreMatched(t *testing.T) {
	d := testDecoder()
	var rs []*core.Request
	for k := range 4 {
		r := testRequest(`{}`)
		r.Dedupe[1] = byte(k)
		rs = append(rs, r)
	}
	refuse := func(r *core.Request, why string) *pluginv1.DecodeResult {
		return &pluginv1.DecodeResult{RequestId: r.ID(), Refused: why}
	}
	out := make([]core.Decoded, 4)
	open := d.results(d.at.Load(), rs, &pluginv1.DecodeResponse{Results: []*pluginv1.DecodeResult{
		refuse(rs[3], "three"), {RequestId: "req_foreign"}, refuse(rs[1], "a"), refuse(rs[1], "b"), refuse(rs[0], "zero"),
	}}, out)
	if diff := cmp.Diff([]int{1, 2}, open); diff != "" {
		t.Error(diff)
	}
	if out[0].Refused != "zero" || out[3].Refused != "three" || d.at.Load().p.faults != 1 {
		t.Errorf("%+v, %d faults", out, d.at.Load().p.faults)
	}
	open = d.results(d.at.Load(), rs[:2], &pluginv1.DecodeResponse{Results: []*pluginv1.DecodeResult{refuse(rs[0], "x"), refuse(rs[1], "y")}}, out)
	if len(open) != 0 || out[1].Refused != "y" {
		t.Errorf("in order: open %v, %+v", open, out)
	}
	if open = d.results(d.at.Load(), rs[:2], nil, out); len(open) != 2 {
		t.Errorf("no answer: open %v", open)
	}
}

func testSink() *Sink {
	info := validSink()
	info.WantState = true
	s := &Sink{}
	s.at.Store(newInstance(deafProcess(info), "main", nil))
	s.calls.New = func() any { return &deliverCall{} }
	s.at.Load().p.redact.add("s3cr3t")
	return s
}

func TestOutcome(t *testing.T) {
	d := &core.Delivery{ID: "dlv_1", OrderKey: "k"}
	for _, test := range []struct {
		name   string
		in     *pluginv1.Outcome
		want   core.Outcome
		faulty bool
	}{
		{"delivered", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_DELIVERED, Reference: "42", AfterMs: 5, AttributePath: []string{"x"},
			Notes: []*pluginv1.Note{{Message: "s3cr3t"}}},
			core.Outcome{Kind: sdk.Delivered, Reference: "42", Notes: []string{"(sensitive)"}}, false},
		{"retry", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_RETRY, Reason: "s3cr3t refused\x1b", AfterMs: 1500, Reference: "42"},
			core.Outcome{Kind: sdk.Retried, Reason: "(sensitive) refused\uFFFD", After: 1500 * time.Millisecond}, false},
		{"after the end of time", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_RETRY, AfterMs: 1<<63 - 1},
			core.Outcome{Kind: sdk.Retried, After: wire.Milliseconds(1<<63 - 1)}, false},
		{"after the past", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_RETRY, AfterMs: -5}, core.Outcome{Kind: sdk.Retried}, false},
		{"rejected", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_REJECTED, Reason: "no", AttributePath: []string{"fields", "x"}},
			core.Outcome{Kind: sdk.Rejected, Reason: "no", AttributePath: []string{"fields", "x"}}, false},
		{"skipped", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_SKIPPED, Reason: "stale"}, core.Outcome{Kind: sdk.Skipped, Reason: "stale"}, false},
		{"suspend", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_SUSPEND}, core.Outcome{Kind: sdk.Suspended}, false},
		{"unspecified", &pluginv1.Outcome{}, core.Outcome{Kind: sdk.Retried, Reason: `plugin "chat" is faulty: its outcome is of no known kind`}, true},
		{"unknown", &pluginv1.Outcome{Kind: 99, Reason: "x"}, core.Outcome{Kind: sdk.Retried, Reason: "x"}, true},
		{"state", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_DELIVERED, State: []byte("s")},
			core.Outcome{Kind: sdk.Delivered, State: []byte("s"), StateSet: true}, false},
		{"forget state", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_DELIVERED, State: []byte{}},
			core.Outcome{Kind: sdk.Delivered, StateSet: true}, false},
		{"too much state", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_DELIVERED, State: make([]byte, 1025)},
			core.Outcome{Kind: sdk.Delivered, Notes: []string{"the plugin's state of 1025 bytes was not kept, at most 1024 are"}}, true},
		{"long", &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_SKIPPED, Reason: strings.Repeat("x", 10_000)},
			core.Outcome{Kind: sdk.Skipped, Reason: strings.Repeat("x", maxReason) + "…"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := testSink()
			if diff := cmp.Diff(test.want, s.at.Load().outcome(d, test.in)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (s.at.Load().p.faults > 0) != test.faulty {
				t.Errorf("%d faults", s.at.Load().p.faults)
			}
		})
	}
	unordered := &core.Delivery{ID: "dlv_1"}
	if o := testSink().at.Load().outcome(unordered, &pluginv1.Outcome{Kind: pluginv1.Outcome_KIND_DELIVERED, State: []byte("s")}); o.StateSet {
		t.Error("state is kept without an order key")
	}
}

// TestMessagesAreReused shows that pooled messages carry nothing over.
func TestMessagesAreReused(t *testing.T) {
	s := testSink()
	s.at.Load().p.info.WantData = true
	full := &core.Delivery{ID: "dlv_1", Key: 5, Attempts: 2, Route: "r", OrderKey: "k", Message: []byte("{}"), KeyState: []byte("s"), Replay: 1,
		Force: true,
		Event: &core.Event{Envelope: sdk.Envelope{ID: "evt_1", Tenant: "t"}, Data: []byte("1")}}
	for range 3 {
		c := s.fill(s.at.Load(), []*core.Delivery{full, full}, "x")
		s.done(c)
		c = s.fill(s.at.Load(), []*core.Delivery{{ID: "dlv_2"}}, "y")
		want := &pluginv1.DeliverRequest{Instance: "y", Deliveries: []*pluginv1.Delivery{
			{Id: "dlv_2", Attempt: 1, Event: &pluginv1.Envelope{}},
		}}
		if !proto.Equal(want, &c.request) {
			t.Fatalf("got %v", &c.request)
		}
		s.done(c)
		c = s.fill(s.at.Load(), []*core.Delivery{full}, "z")
		d := c.request.GetDeliveries()[0]
		if d.GetAttempt() != 3 || d.GetSequence() != 5 || !d.GetReplay() || !d.GetForce() || string(d.GetState()) != "s" || string(d.GetData()) != "1" ||
			d.GetEvent().GetTenant() != "t" {
			t.Fatalf("got %v", d)
		}
		s.done(c)
	}
	d := testDecoder()
	d.calls.New = func() any { return &decodeCall{} }
	r := testRequest("{}")
	r.Headers = []sdk.Header{{Name: "a", Value: "b\xff"}, {Name: "c", Value: "d"}}
	for range 3 {
		c := d.fill(d.at.Load(), []*core.Request{r, r}, "x")
		if h := c.request.GetRequests()[1].GetHeaders(); len(h) != 2 || h[0].GetValue() != "b\uFFFD" || h[1].GetName() != "c" {
			t.Fatalf("headers %v", h)
		}
		d.done(c)
		c = d.fill(d.at.Load(), []*core.Request{testRequest("[]")}, "x")
		if q := c.request.GetRequests(); len(q) != 1 || len(q[0].GetHeaders()) != 0 || string(q[0].GetBody()) != "[]" {
			t.Fatalf("%v", q)
		}
		d.done(c)
	}
}

func FuzzResults(f *testing.F) {
	seed := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	r := testRequest(`{"employee": {"id": 1.50}}`)
	seed(&pluginv1.DecodeResponse{Results: []*pluginv1.DecodeResult{{RequestId: r.ID(), Events: []*pluginv1.Event{
		{Type: "shop.order.made", DataRange: &pluginv1.ByteRange{Offset: 13, Length: 12}, Time: "2026-01-01T00:00:00Z",
			Changes: []byte(`{"a":{"old":1}}`)},
		{Type: "shop.a", Data: []byte(`"x"`), Subject: "s", PartitionKey: "p", Operation: "o", Tenant: "t"},
	}}}})
	seed(&pluginv1.DecodeResponse{Results: []*pluginv1.DecodeResult{{RequestId: r.ID(), Refused: "no"}, {RequestId: r.ID()}, {}}})
	f.Fuzz(func(t *testing.T, in []byte) {
		var response pluginv1.DecodeResponse
		if proto.Unmarshal(in, &response) != nil {
			return
		}
		d := testDecoder()
		out := make([]core.Decoded, 1)
		if len(d.results(d.at.Load(), []*core.Request{r}, &response, out)) > 0 {
			return
		}
		if len(out[0].Events) > 3 || len(out[0].Refused) > maxReason+len("…") || len(out[0].Notes) > maxNotes {
			t.Errorf("unbounded: %+v", out[0])
		}
		for _, e := range out[0].Events {
			if checkType(e.Type, "shop") != "" || !isRFC3339(e.Time) || checkText(e.Subject, maxSubject) != "" {
				t.Errorf("accepted %+v", e)
			}
			if len(e.Data) > 0 && jsonscan.Check(e.Data, jsonscan.DefaultLimits()) != nil {
				t.Errorf("accepted data %q", e.Data)
			}
		}
	})
}
