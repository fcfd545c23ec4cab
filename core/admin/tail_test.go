package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// requests are n requests as they are accepted.
func requests(n int) []*core.Request {
	rs := make([]*core.Request, n)
	for i := range rs {
		rs[i] = &core.Request{Seq: int64(i + 1), Dedupe: core.NewDedupeKey("s", []byte{byte(i), byte(i >> 8)}), Source: "s"}
	}
	return rs
}

// watch reports what a tail says on a channel until the returned function is called, which returns the tail's error.
func watch(tail *Tail, after string) (changes chan Change, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	changes = make(chan Change, 10000)
	done := make(chan error, 1)
	go func() { done <- tail.Watch(ctx, after, func(c Change) error { changes <- c; return nil }) }()
	return changes, func() error { cancel(); return <-done }
}

// kept is how many changes a tail keeps.
func kept(tail *Tail) int {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	return len(tail.kept)
}

func TestTailResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tail := NewTail()
		tail.Accepted(requests(3)) // nobody watches
		first, stop := watch(tail, "")
		ready := <-first
		if ready.Kind != ChangeReady || ready.ID == "" {
			t.Fatalf("begins with %+v", ready)
		}
		tail.Accepted(requests(2))
		one, two := <-first, <-first
		if one.Request == nil || one.Kind != ChangeRequest || one.Request.State != "received" || one.ID == two.ID {
			t.Errorf("%+v, %+v", one, two)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		tail.Accepted(requests(4)[3:]) // while nobody watches for a moment
		for after, want := range map[string][]string{
			ready.ID: {"ready", one.Request.ID, two.Request.ID, requests(4)[3].ID()},
			one.ID:   {"ready", two.Request.ID, requests(4)[3].ID()},
			"":       {"ready"}, "else-1": {"missed"}, "x": {"missed"}, strings.Split(one.ID, "-")[0] + "-99": {"missed"},
		} {
			changes, stop := watch(tail, after)
			synctest.Wait()
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			var got []string
			for len(changes) > 0 {
				c := <-changes
				if c.Request != nil {
					got = append(got, c.Request.ID)
				} else {
					got = append(got, c.Kind)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("after %q: %v, want %v", after, got, want)
			}
		}
		time.Sleep(tailLinger + time.Second)
		synctest.Wait()
		if tail.on.Load() || kept(tail) > 0 {
			t.Error("changes are kept for nobody")
		}
		changes, stop := watch(tail, two.ID)
		if c := <-changes; c.Kind != ChangeMissed {
			t.Errorf("after a pause: %+v", c)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.Sleep(tailLinger + time.Second)
	})
}

// TestTailIsBounded checks that changes are kept up to a number, that a slow watcher is dropped and told, without holding up
// anybody, and that there is room for so many.
func TestTailIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tail := NewTail()
		hold := make(chan struct{})
		slow := make(chan error, 1)
		go func() {
			slow <- tail.Watch(context.Background(), "", func(c Change) error {
				if c.Kind == ChangeRequest {
					<-hold
				}
				return nil
			})
		}()
		quick, stop := watch(tail, "")
		first := <-quick
		synctest.Wait()
		for range 4 * tailKept {
			tail.Accepted(requests(1))
			synctest.Wait()
		}
		if len(quick) != 4*tailKept {
			t.Errorf("the quick one got %d", len(quick))
		}
		if n := kept(tail); n > 2*tailKept {
			t.Errorf("%d changes are kept", n)
		}
		close(hold)
		if err := <-slow; !errors.Is(err, ErrTailSlow) {
			t.Errorf("the slow one got %v", err)
		}
		late, stopLate := watch(tail, first.ID)
		if c := <-late; c.Kind != ChangeMissed {
			t.Errorf("too late: %+v", c)
		}
		stops := []func() error{stop, stopLate}
		for len(stops) < tailClients {
			changes, stop := watch(tail, "")
			<-changes
			stops = append(stops, stop)
		}
		if err := tail.Watch(context.Background(), "", nil); !errors.Is(err, ErrTailFull) {
			t.Errorf("one too many: %v", err)
		}
		for _, stop := range stops {
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		time.Sleep(tailLinger + time.Second)
	})
}

// TestTailOfStore goes through what changes in a store, over the socket.
func TestTailOfStore(t *testing.T) {
	s := serve(t, t.TempDir())
	s.direct.Changes = NewTail()
	st := s.direct.Changes.Store(s.direct.Store)
	s.direct.Store = st
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan Change, 100)
	done := make(chan error, 1)
	go func() { done <- s.client.Tail(ctx, "", func(c Change) error { changes <- c; return nil }) }()
	if c := <-changes; c.Kind != ChangeReady {
		t.Fatalf("%+v", c)
	}
	next := func() string {
		c := <-changes
		switch {
		case c.Request != nil:
			return fmt.Sprint("request ", c.Request.State, " ", c.Request.Reason)
		case c.Delivery != nil:
			return fmt.Sprint("delivery ", c.Delivery.Sink, " ", c.Delivery.State, " ", c.Delivery.Attempts, " ", c.Delivery.Reason)
		case c.Rejection != nil:
			return "rejection " + c.Rejection.Cause
		}
		return c.Kind
	}
	want := func(what ...string) {
		t.Helper()
		for _, w := range what {
			if got := next(); got != w {
				t.Errorf("got %q, want %q", got, w)
			}
		}
	}
	r := &core.Request{Dedupe: core.NewDedupeKey("tail", []byte("1")), Source: "people", ReceivedAt: time.Now(), Body: []byte("{}")}
	if _, err := st.Accept(ctx, r); err != nil {
		t.Fatal(err)
	}
	ev := core.Event{RequestSeq: r.Seq, Data: []byte("{}"), DataOffset: -1}
	ev.ID, ev.Type, ev.Source = core.EventID(r.Dedupe, 0, 0), "x.made", "urn:grapnel:source:people"
	d := &core.Delivery{
		Key: core.NewDeliveryKey(r.Seq, 0, 0), ID: core.DeliveryID(ev.ID, "r", "s", 0), Route: "r", Sink: "s",
		Message: []byte("{}"), State: core.DeliveryPending, Event: &ev, Due: time.Now(),
	}
	dec := &store.Decision{Request: r, Events: []core.Event{ev}, Deliveries: []*core.Delivery{d}, Lease: []store.Lease{store.LeaseAlways}}
	if err := st.Route(ctx, []*store.Decision{dec}); err != nil {
		t.Fatal(err)
	}
	want("request routed ", "delivery s pending 0 ")
	settle := func(state core.DeliveryState, attempt int, reason string) {
		t.Helper()
		if err := st.Settle(ctx, []store.Settlement{{
			Key: d.Key, Of: d, State: state, Due: time.Now(), Charge: true, Reason: reason, Sink: "s",
			Attempt: &core.Attempt{Number: attempt, At: time.Now(), Outcome: "retry", Reason: reason},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	settle(core.DeliveryDead, 1, "it said no")
	want("delivery s dead 1 it said no")
	if _, err := s.direct.SkipDeliveries(ctx, []string{d.ID}, "by hand"); err != nil {
		t.Fatal(err)
	}
	want("delivery s skipped 1 by hand")
	st.RecordRejection(core.Rejection{At: time.Now(), Cause: "bad_json"})
	want("rejection bad_json")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTailAnswers checks the answers of the tail to what is wrong.
func TestTailAnswers(t *testing.T) {
	s := serve(t, t.TempDir())
	resp, err := s.http.Get("http://grapnel/v1/tail?nothing=1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an unknown parameter: %s", resp.Status)
	}
	if err := s.client.Tail(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), ErrNotRunning.Error()) {
		t.Errorf("without a tail: %v", err)
	}
}

func TestBody(t *testing.T) {
	s := serve(t, t.TempDir())
	page, err := s.client.Requests(t.Context(), store.RequestFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	for _, r := range page.Items {
		over, err := s.client.Body(t.Context(), r.ID)
		direct, directErr := s.direct.Body(t.Context(), r.ID)
		same(t, "body", over, err, direct, directErr)
		if over.Type != "application/json" {
			t.Errorf("%s is of type %q", r.ID, over.Type)
		}
		bodies = append(bodies, over.Body)
	}
	for _, want := range []string{"{\"n\":0.0}", "\xff\xfe", "{\"n\":2.0}"} {
		if !slices.ContainsFunc(bodies, func(b []byte) bool { return bytes.Equal(b, []byte(want)) }) {
			t.Errorf("no body is %q", want)
		}
	}
	if _, err := s.client.Body(t.Context(), "req_00000000000000000000000000000000"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
