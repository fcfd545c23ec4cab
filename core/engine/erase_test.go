package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// TestErased erases a person while a sink has a call about them in hand and the engine holds others: only what
// was called already can still arrive, and everybody else's deliveries do, in order.
func TestErased(t *testing.T) {
	const each = 300
	for name, outcome := range map[string]core.Outcome{
		"delivered": {Kind: sdk.Delivered},
		"retried":   {Kind: sdk.Retried, Reason: "busy", After: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSink()
				slow := time.Now().Add(time.Hour) // nothing comes back before
				first := map[string]bool{}
				s.deliver = func(d *core.Delivery) core.Outcome {
					if !first[d.OrderKey] {
						first[d.OrderKey] = true
						return outcome
					}
					return core.Outcome{Kind: sdk.Delivered}
				}
				s.took = time.Until(slow)
				h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) { es.Batch = 1 })
				defer h.close()
				for n := range each {
					h.accept("gone", fmt.Sprintf("[0,%d]", n))
					h.accept("stays", fmt.Sprintf("[1,%d]", n))
				}
				until(t, "two calls are out", func() bool { return h.status("a").InFlight == 2 })
				r, err := h.store.Erase(t.Context(), store.Erasure{Subject: "gone"}, nil)
				if err != nil || r.Removed.Deliveries != each || len(r.Sent) == 0 {
					t.Errorf("%+v, %v", r.Removed, err)
				}
				inFlight := 0
				for _, d := range r.Sent {
					if d.State == store.SentInFlight {
						inFlight++
					}
				}
				if inFlight == 0 || time.Now().After(slow) {
					t.Errorf("%d in flight at %s", inFlight, time.Now())
				}
				s.set(func() { s.took = 0 })
				until(t, "all others are delivered", func() bool { return s.count() >= each })
				time.Sleep(time.Hour)
				var gone []string
				next := 0
				for _, got := range s.got {
					if strings.HasPrefix(got, "[0,") {
						gone = append(gone, got)
						continue
					}
					if want := fmt.Sprintf("[1,%d]", next); got != want {
						t.Fatalf("%s came, want %s", got, want)
					}
					next++
				}
				if next != each || len(gone) > 1 || s.overlap {
					t.Errorf("%d of the others, %v of who is gone, overlap %t", next, gone, s.overlap)
				}
				if st := h.status("a"); st.InMemory != 0 || st.InFlight != 0 || st.Behind {
					t.Errorf("status %+v", st)
				}
				if n := h.stored("a", core.DeliveryDelivered); n != each {
					t.Errorf("%d are stored", n)
				}
			})
		})
	}
}

// TestErasedWhilePluginIsDown erases what comes back from a call that told nothing.
func TestErasedWhilePluginIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		s.took, s.err = time.Minute, nil
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) { es.Batch, es.Concurrency = 1, 1 })
		defer h.close()
		for n := range 3 {
			h.accept("gone", fmt.Sprint(n))
			h.accept("stays", fmt.Sprint(n))
		}
		s.set(func() { s.err = errors.New("down") })
		time.Sleep(2 * time.Minute)
		if _, err := h.store.Erase(t.Context(), store.Erasure{Subject: "gone"}, nil); err != nil {
			t.Fatal(err)
		}
		before := s.count()
		s.set(func() { s.err, s.took = nil, 0 })
		until(t, "the others are delivered", func() bool { return h.stored("a", core.DeliveryDelivered) == 3 })
		time.Sleep(time.Hour)
		if n := s.count(); n != 3 && n != 3+before {
			t.Errorf("%d delivered, %d of them before", n, before)
		}
		if st := h.status("a"); st.InMemory != 0 {
			t.Errorf("status %+v", st)
		}
	})
}
