package dryrun

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// fake decodes each word of a body into an event of that type, and behaves badly on request.
type fake struct {
	down  int // calls that fail
	calls []string
}

func (f *fake) WaitReady(context.Context) error { return nil }

func (f *fake) Decode(_ context.Context, rs []*core.Request) ([]core.Decoded, error) {
	if f.down > 0 {
		f.down--
		return nil, errors.New("not ready")
	}
	out := make([]core.Decoded, len(rs))
	call := ""
	for i, r := range rs {
		body := string(r.Body)
		call += fmt.Sprintf("%.7s/%d ", body, r.Crashes)
		switch {
		case body == "refuse":
			out[i] = core.Decoded{Refused: "no", Notes: []string{"odd"}}
			continue
		case body == "kill", body == "killed" && r.Crashes < 2:
			out[i] = core.Decoded{Crashed: true, Refused: "signal"}
			continue
		}
		for k, word := range strings.Fields(body) {
			out[i].Events = append(out[i].Events, core.Event{Index: k, DataOffset: -1, Envelope: sdk.Envelope{Type: word}})
		}
	}
	f.calls = append(f.calls, call)
	return out, nil
}

// Route makes a delivery of every event but "none".
func (f *fake) Route(dst []*core.Delivery, r *core.Request, ev *core.Event) ([]*core.Delivery, error) {
	switch ev.Type {
	case "none":
		return dst, nil
	case "many":
		return dst, errors.New("too many")
	}
	return append(dst, &core.Delivery{Event: ev, Message: []byte(r.Source + ":" + ev.Type)}), nil
}

func request(source, body string) *core.Request {
	return &core.Request{Source: source, Body: []byte(body)}
}

func describe(results []Result) (lines []string) {
	for i := range results {
		r := &results[i]
		line := fmt.Sprintf("%.7s:", r.Request.Body)
		for _, d := range r.Deliveries {
			line += " " + string(d.Message)
		}
		for k := range r.Events {
			if r.Unrouted(k) {
				line += " -"
			}
		}
		if r.NoSource {
			line += " nobody"
		}
		lines = append(lines, strings.TrimSpace(line+" "+r.Refusal+strings.Join(r.Notes, "")))
	}
	return lines
}

func TestRun(t *testing.T) {
	a, b := &fake{down: 2}, &fake{}
	r := New([]Source{{"a", a, a}, {"b", b, b}})
	requests := []*core.Request{
		request("a", "x y"), request("b", "z none"), request("gone", "x"), request("a", "refuse"), request("a", "kill"),
		request("a", "killed"), request("a", ""), request("b", "many"), request("a", "last"),
	}
	want := []string{
		"x y: a:x a:y", "z none: b:z -", "x: nobody", "refuse: noodd",
		"kill: the decoder's process died 3 times on this request alone: signal", "killed: a:killed", ":",
		"many: too many", "last: a:last",
	}
	results, err := r.Run(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, describe(results)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// The same one by one.
	for i, q := range requests {
		one, err := r.Run(t.Context(), []*core.Request{q})
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(one)[0]; got != want[i] || q.Crashes != 0 {
			t.Errorf("alone: %q, want %q; %d crashes", got, want[i], q.Crashes)
		}
	}
}

func TestBatches(t *testing.T) {
	f := &fake{}
	r := New([]Source{{"a", f, f}})
	var requests []*core.Request
	for range 600 {
		requests = append(requests, request("a", "x"))
	}
	requests = append(requests, request("a", strings.Repeat(" ", batchBytes)+"y"), request("a", "z"))
	results, err := r.Run(t.Context(), requests)
	if err != nil || len(results) != 602 || string(results[600].Deliveries[0].Message) != "a:y" {
		t.Fatalf("%d results, %v", len(results), err)
	}
	var sizes []int
	for _, c := range f.calls {
		sizes = append(sizes, strings.Count(c, "/"))
	}
	if diff := cmp.Diff([]int{256, 256, 88, 1, 1}, sizes); diff != "" {
		t.Errorf("requests per call (-want +got)\n%s", diff)
	}
}

func TestDecoderDown(t *testing.T) {
	f := &fake{down: 1000}
	_, err := New([]Source{{"a", f, f}}).Run(t.Context(), []*core.Request{request("a", "x")})
	if err == nil || !strings.Contains(err.Error(), `source "a": not ready`) || f.down != 1000-maxFailures {
		t.Errorf("%v after %d calls", err, 1000-f.down)
	}
}
