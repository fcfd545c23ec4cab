package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
)

type message struct {
	Do   string `json:"do"`
	Lang string `json:"lang" default:"en"`
}

type config struct {
	Greeting string `json:"greeting" default:"hi"`
}

// script is a sink that does what the message says.
type script struct{ cfg config }

func (s *script) Deliver(_ context.Context, d *sdk.Delivery[message]) error {
	cause := errors.New("cause")
	switch d.Message.Do {
	case "ok":
		d.SetReference("ref-" + d.Message.Lang + "-" + s.cfg.Greeting)
		d.SetState([]byte("next"))
		d.Note("noted")
		return nil
	case "plain":
		return cause
	case "empty":
		return errors.New("")
	case "after":
		return fmt.Errorf("wrapped: %w", sdk.RetryAfter(cause, time.Minute))
	case "before":
		return sdk.RetryAfter(cause, -time.Minute)
	case "reject":
		return sdk.Reject(cause, "fields", "email")
	case "reject attribute":
		return sdk.Reject(&sdk.AttributeError{Path: []string{"lang"}, Summary: "unknown"})
	case "reject nil":
		return sdk.Reject(nil)
	case "skip":
		return sdk.Skip("stale")
	case "suspend":
		return sdk.Suspend(cause)
	case "panic":
		panic("oh")
	case "state":
		d.SetState(make([]byte, sdk.MaxState+1))
		return nil
	case "forget":
		d.SetState(nil)
		return cause
	}
	return nil
}

func open(_ context.Context, cfg config) (sdk.Sink[message], error) { return &script{cfg}, nil }

func raw(id, msg string) *sdk.Delivery[json.RawMessage] {
	return &sdk.Delivery[json.RawMessage]{ID: id, Attempt: 1, OrderKey: "k", Message: json.RawMessage(msg)}
}

func instance(t *testing.T, f *sdk.SinkFactory) sdk.SinkInstance {
	t.Helper()
	i, err := f.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestOutcomes(t *testing.T) {
	f := sdk.NewSink(sdk.SinkInfo{Name: "script", State: true, MaxBatch: 9}, open)
	if f.Info.MaxBatch != 1 {
		t.Errorf("MaxBatch = %d", f.Info.MaxBatch)
	}
	s := instance(t, f)
	if _, ok := s.Sink().(*script); !ok {
		t.Errorf("Sink() is a %T", s.Sink())
	}
	for _, test := range []struct {
		msg  string
		want sdk.Outcome
	}{
		{`{"do":"ok"}`, sdk.Outcome{
			Kind: sdk.Delivered, Reference: "ref-en-hi", State: []byte("next"), StateSet: true, Notes: []string{"noted"},
		}},
		{`{"do":"plain"}`, sdk.Outcome{Kind: sdk.Retried, Reason: "cause"}},
		{`{"do":"empty"}`, sdk.Outcome{Kind: sdk.Retried, Reason: "failed without a reason"}},
		{`{"do":"after"}`, sdk.Outcome{Kind: sdk.Retried, Reason: "wrapped: cause", After: time.Minute}},
		{`{"do":"before"}`, sdk.Outcome{Kind: sdk.Retried, Reason: "cause"}},
		{`{"do":"reject"}`, sdk.Outcome{Kind: sdk.Rejected, Reason: "cause", AttributePath: []string{"fields", "email"}}},
		{`{"do":"reject attribute"}`, sdk.Outcome{
			Kind: sdk.Rejected, Reason: "lang: unknown", AttributePath: []string{"lang"},
		}},
		{`{"do":"reject nil"}`, sdk.Outcome{Kind: sdk.Rejected, Reason: "rejected"}},
		{`{"do":"skip"}`, sdk.Outcome{Kind: sdk.Skipped, Reason: "stale"}},
		{`{"do":"suspend"}`, sdk.Outcome{Kind: sdk.Suspended, Reason: "cause"}},
		{`{"do":"panic"}`, sdk.Outcome{Kind: sdk.Retried, Reason: "panic: oh"}},
		{`{"do":"state"}`, sdk.Outcome{
			Kind: sdk.Delivered, Notes: []string{"state dropped: 1025 bytes, the limit is 1024"},
		}},
		{`{"do":"forget"}`, sdk.Outcome{Kind: sdk.Retried, Reason: "cause", StateSet: true}},
		{`{"do":1}`, sdk.Outcome{
			Kind: sdk.Rejected, Reason: "message: do: must be a string, not a number", AttributePath: []string{"do"},
		}},
		{`{"text":""}`, sdk.Outcome{
			Kind:   sdk.Rejected,
			Reason: "message: text: there is no such attribute; do: is required", AttributePath: []string{"text"},
		}},
	} {
		test.want.DeliveryID = "d1"
		got := s.DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{raw("d1", test.msg)})
		if diff := cmp.Diff([]sdk.Outcome{test.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.msg, diff)
		}
	}
}

func TestStateNeedsAskingAndAnOrderKey(t *testing.T) {
	without := instance(t, sdk.NewSink(sdk.SinkInfo{Name: "script"}, open))
	if o := without.DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{raw("d", `{"do":"ok"}`)}); o[0].StateSet {
		t.Error("state kept for a sink that did not ask for it")
	}
	with := instance(t, sdk.NewSink(sdk.SinkInfo{Name: "script", State: true}, open))
	unordered := raw("d", `{"do":"ok"}`)
	unordered.OrderKey = ""
	if o := with.DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{unordered}); o[0].StateSet {
		t.Error("state kept without an order key")
	}
}

type batchFunc func(ds []*sdk.Delivery[message]) []error

func (f batchFunc) DeliverBatch(_ context.Context, ds []*sdk.Delivery[message]) []error { return f(ds) }

func TestBatch(t *testing.T) {
	three := []*sdk.Delivery[json.RawMessage]{raw("a", `{"do":"1"}`), raw("b", `{"bad":1}`), raw("c", `{"do":"2"}`)}
	const bad = "message: bad: there is no such attribute; do: is required"
	for name, test := range map[string]struct {
		sink batchFunc
		want []string
	}{
		"each its own": {
			func(ds []*sdk.Delivery[message]) []error { return []error{nil, sdk.Skip(ds[1].Message.Do)} },
			[]string{"a delivered ", "b rejected " + bad, "c skipped 2"},
		},
		"too few results": {
			func([]*sdk.Delivery[message]) []error { return []error{nil} },
			[]string{
				"a retry the sink returned 1 results for 2 deliveries", "b rejected " + bad,
				"c retry the sink returned 1 results for 2 deliveries",
			},
		},
		"panic": {
			func([]*sdk.Delivery[message]) []error { panic("oh") },
			[]string{"a retry panic: oh", "b rejected " + bad, "c retry panic: oh"},
		},
	} {
		f := sdk.NewBatchSink(sdk.SinkInfo{Name: "script"},
			func(context.Context, struct{}) (sdk.BatchSink[message], error) { return test.sink, nil })
		if f.Info.MaxBatch != 100 {
			t.Errorf("MaxBatch = %d", f.Info.MaxBatch)
		}
		var got []string
		for _, o := range instance(t, f).DeliverRaw(t.Context(), three) {
			got = append(got, fmt.Sprintf("%s %s %s", o.DeliveryID, o.Kind, o.Reason))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Every field that the host sends reaches the author.
func TestDeliveryIsPassedOn(t *testing.T) {
	in := &sdk.Delivery[json.RawMessage]{
		ID: "id", Attempt: 2, Sequence: 3, Route: "r", OrderKey: "k", Replay: true, Force: true, State: []byte("s"),
		TraceParent: "00-1", Event: sdk.Envelope{ID: "e"}, Message: json.RawMessage(`{"do":"x"}`), Data: json.RawMessage(`{"n":1.0}`),
	}
	want := sdk.Delivery[message]{
		ID: "id", Attempt: 2, Sequence: 3, Route: "r", OrderKey: "k", Replay: true, Force: true, State: []byte("s"),
		TraceParent: "00-1", Event: sdk.Envelope{ID: "e"}, Message: message{"x", "en"}, Data: json.RawMessage(`{"n":1.0}`),
	}
	var got sdk.Delivery[message]
	f := sdk.NewBatchSink(sdk.SinkInfo{Name: "script"},
		func(context.Context, struct{}) (sdk.BatchSink[message], error) {
			return batchFunc(func(ds []*sdk.Delivery[message]) []error { got = *ds[0]; return []error{nil} }), nil
		})
	instance(t, f).DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{in})
	place := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "trace" }, cmp.Ignore()) // made of TraceParent
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sdk.Delivery[message]{}), place); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOpenAndValidateDecodeTheConfiguration(t *testing.T) {
	f := sdk.NewSink(sdk.SinkInfo{Name: "script"}, open)
	const want = `greting: there is no such attribute; did you mean "greeting"?`
	if err := f.Validate([]byte(`{"greting":"x"}`)); err == nil || err.Error() != want {
		t.Errorf("Validate: %v", err)
	}
	if _, err := f.Open(t.Context(), []byte(`{"greting":"x"}`)); err == nil || err.Error() != want {
		t.Errorf("Open: %v", err)
	}
}

type batcher struct {
	Most int `json:"most,omitempty"`
}

func (b *batcher) MaxBatch() int { return b.Most }

func TestBatcher(t *testing.T) {
	f := sdk.NewBatchSink(sdk.SinkInfo{Name: "script", MaxBatch: 10},
		func(context.Context, batcher) (sdk.BatchSink[message], error) { return nil, nil })
	for config, want := range map[string]int{
		`{}`: 0, `{"most":1}`: 1, `{"most":10}`: 10, `{"most":11}`: 10, `{"most":-1}`: 0, `{"more":1}`: 0,
	} {
		if got := f.MaxBatch([]byte(config)); got != want {
			t.Errorf("MaxBatch of %s is %d, want %d", config, got, want)
		}
	}
	if sdk.NewSink(sdk.SinkInfo{Name: "script"}, open).MaxBatch != nil {
		t.Error("a configuration without MaxBatch is asked for it")
	}
}

type declared struct {
	Word string `json:"word"`
}

func (c declared) Manifest() (sdk.Provider, error) {
	if c.Word == "bad" {
		return sdk.Provider{}, &sdk.AttributeError{Path: []string{"word"}, Summary: "is bad"}
	}
	return sdk.Provider{Name: c.Word}, nil
}

func TestManifester(t *testing.T) {
	f := sdk.NewDecoder(sdk.Provider{Name: "script"},
		func(context.Context, declared) (sdk.Decoder, error) { return decodeFunc(nil), nil })
	if p, err := f.Manifest([]byte(`{"word":"acme"}`)); err != nil || p.Name != "acme" {
		t.Errorf("%+v, %v", p, err)
	}
	for config, path := range map[string]string{`{"word":"bad"}`: "word", `{"words":"acme"}`: "words"} {
		_, err := f.Manifest([]byte(config))
		if list := sdk.AttributeErrors(err); len(list) == 0 || list[0].Path[0] != path {
			t.Errorf("%s: %v", config, err)
		}
	}
	bare := sdk.NewDecoder(sdk.Provider{Name: "script"},
		func(context.Context, struct{}) (sdk.Decoder, error) { return decodeFunc(nil), nil })
	if bare.Manifest != nil {
		t.Error("a configuration without Manifest is asked for it")
	}
}

type decodeFunc func(*sdk.Request) ([]sdk.Event, error)

func (f decodeFunc) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) { return f(r) }

func TestDecodeAll(t *testing.T) {
	d := decodeFunc(func(r *sdk.Request) ([]sdk.Event, error) {
		switch string(r.Body) {
		case "bad":
			return []sdk.Event{{}}, errors.New("no action")
		case "silent":
			return nil, errors.New("")
		case "panic":
			panic("oh")
		case "long":
			return []sdk.Event{{Type: "a", Notes: []string{"n"}}, {Type: "a", Subject: strings.Repeat("x", 1025)}}, nil
		case "control":
			return []sdk.Event{{Type: "a", PartitionKey: "a\nb"}}, nil
		case "latin":
			return []sdk.Event{{Type: "a", Tenant: "\xe9"}}, nil
		}
		return []sdk.Event{{Type: "a", Notes: []string{"n"}}, {Type: "b", Notes: []string{"n", "m"}}}, nil
	})
	var rs []*sdk.Request
	for _, body := range []string{"ok", "bad", "silent", "panic", "long", "control", "latin"} {
		rs = append(rs, &sdk.Request{ID: body, Body: []byte(body)})
	}
	want := []sdk.Decoded{
		{RequestID: "ok", Notes: []string{"n", "m"}, Events: []sdk.Event{
			{Type: "a", Notes: []string{"n"}}, {Type: "b", Notes: []string{"n", "m"}},
		}},
		{RequestID: "bad", Refused: "no action"},
		{RequestID: "silent", Refused: "refused without a reason"},
		{RequestID: "panic", Refused: "panic: oh"},
		{RequestID: "long", Refused: "event 1: its subject is longer than 1024 bytes"},
		{RequestID: "control", Refused: "event 0: its partition key holds a control character"},
		{RequestID: "latin", Refused: "event 0: its tenant is not UTF-8"},
	}
	if diff := cmp.Diff(want, sdk.DecodeAll(t.Context(), d, rs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkDeliverRaw(b *testing.B) {
	none := func(context.Context, struct{}) (sdk.Sink[struct{}], error) { return nothing{}, nil }
	s, err := sdk.NewSink(sdk.SinkInfo{Name: "nothing"}, none).Open(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	ds := []*sdk.Delivery[json.RawMessage]{raw("d", "{}")}
	for b.Loop() {
		if o := s.DeliverRaw(b.Context(), ds); o[0].Kind != sdk.Delivered {
			b.Fatal(o)
		}
	}
}

type nothing struct{}

func (nothing) Deliver(context.Context, *sdk.Delivery[struct{}]) error { return nil }

func TestHeader(t *testing.T) {
	r := &sdk.Request{Headers: []sdk.Header{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}}}
	if r.Header("X-A") != "1" || r.Header("x-b") != "" {
		t.Error("Header")
	}
}
