package engine_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

var parked = flag.Int("parked", 1_000, "deliveries that wait in TestParked")

func (h *host) status(sink string) engine.Status {
	h.t.Helper()
	for _, s := range h.engine.Status() {
		if s.Sink == sink {
			return s
		}
	}
	h.t.Fatalf("no sink %s", sink)
	return engine.Status{}
}

func (h *host) stored(sink string, state core.DeliveryState) int64 {
	h.t.Helper()
	st, err := h.store.Stats(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return st.Deliveries[sink][state]
}

// TestParked kills one sink beside another, in several ways, and lets it come back: what waited is delivered exactly once,
// in order per key, and was charged for nothing that was not its own fault.
func TestParked(t *testing.T) {
	const keys, down = 100, 3 * time.Hour
	busy := core.Outcome{Kind: sdk.Retried, Reason: "503"}
	for name, answer := range map[string]func(d *core.Delivery) core.Outcome{
		"down": func(*core.Delivery) core.Outcome { return busy },
		"429": func(*core.Delivery) core.Outcome {
			return core.Outcome{Kind: sdk.Retried, Reason: "429", After: 20 * time.Minute}
		},
		"revoked": func(*core.Delivery) core.Outcome { return core.Outcome{Kind: sdk.Suspended, Reason: "revoked"} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				perKey := *parked / keys
				live, dead := newSink(), newSink()
				calls := 0
				dead.deliver = func(d *core.Delivery) core.Outcome {
					switch {
					case time.Since(start2000) < down:
						calls++
						return answer(d)
					case rand.IntN(5) == 0:
						return core.Outcome{Kind: sdk.Retried, Reason: "500"}
					}
					return core.Outcome{Kind: sdk.Delivered}
				}
				h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"live": live, "dead": dead}, func(s *engine.Sink) {
					s.Retry = engine.RetryPolicy{MaxAge: time.Hour} // much less than it is down
				})
				defer h.close()
				h.acceptAll(keys, perKey)
				until(t, "the live sink has all", func() bool { return live.count() == keys*perKey })
				checkOrder(t, live.got, keys, perKey)
				time.Sleep(down - time.Minute - time.Since(start2000))
				st := h.status("dead")
				if st.State != engine.Suspended && st.State != engine.Failing || st.InMemory > 4096 || st.InFlight > 1 {
					t.Errorf("status %+v", st)
				}
				if calls > 300 {
					t.Errorf("%d deliveries tried in three hours", calls)
				}
				if n := h.stored("dead", core.DeliveryPending); n != int64(keys*perKey) {
					t.Errorf("%d wait", n)
				}
				until(t, "the dead sink has all", func() bool { return dead.count() == keys*perKey })
				checkOrder(t, dead.got, keys, perKey)
				for id, n := range dead.ids {
					if n != 1 {
						t.Errorf("%s was delivered %d times", id, n)
					}
				}
				until(t, "it is stored", func() bool { return h.stored("dead", core.DeliveryDelivered) == int64(keys*perKey) })
				until(t, "and nothing waits", func() bool { return !h.status("dead").Behind })
			})
		})
	}
}

// TestPause pauses a sink, over a restart, too.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := newSink(), t.TempDir()
		at := map[string]int{} // calls by moment
		s.deliver = func(*core.Delivery) core.Outcome {
			at[time.Now().String()]++
			return core.Outcome{Kind: sdk.Delivered}
		}
		paused := func(es *engine.Sink) {
			es.Batch, es.Concurrency = 1, 8
			es.State = store.SinkState{PausedAt: start2000, PauseReason: "new disk"}
		}
		for range 2 {
			h := start(t, dir, &decoder{}, map[string]*sink{"a": s}, paused)
			for n := range 40 {
				h.accept("", fmt.Sprint(s.count(), n, time.Now()))
			}
			time.Sleep(time.Hour)
			if st := h.status("a"); st.State != engine.Paused || st.Reason != "new disk" || s.count() != 0 {
				t.Errorf("status %+v, %d delivered", st, s.count())
			}
			h.close()
		}
		s.took = time.Second
		h := start(t, dir, &decoder{}, map[string]*sink{"a": s}, paused)
		defer h.close()
		if !h.engine.Resume("a") || h.engine.Resume("a") {
			t.Error("not resumed, or twice")
		}
		until(t, "all delivered", func() bool { return s.count() == 80 })
		if n := at[start2000.Add(2*time.Hour+time.Second).String()]; n != 1 {
			t.Errorf("%d calls went out at once: %v", n, at)
		}
		if st := h.status("a"); st.State != engine.Working {
			t.Errorf("status %+v", st)
		}
		h.engine.Pause("a", "new token")
		h.engine.Pause("a", "")
		h.accept("", "last")
		time.Sleep(time.Minute)
		if st := h.status("a"); st.State != engine.Paused || st.Reason != "new token" || s.count() != 80 {
			t.Errorf("status %+v, %d delivered", st, s.count())
		}
		h.engine.Resume("a")
		until(t, "the last is delivered", func() bool { return s.count() == 81 })
		for text, want := range map[string]int{
			`an operator pauses the sink, its deliveries wait: sink=a reason="new token"`: 2,
			"an operator resumes the sink: sink=a":                                        2,
			"the sink works again":                                                        0,
		} {
			if n := h.log.count(text); n != want {
				t.Errorf("%q is in the log %d times", text, n)
			}
		}
	})
}

// TestResumeOnTrust resumes sinks that fail: the log says that they work when they do.
func TestResumeOnTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		var outcome core.Outcome
		s.deliver = func(*core.Delivery) core.Outcome { return outcome }
		answer := func(k sdk.OutcomeKind) { s.set(func() { outcome = core.Outcome{Kind: k, Reason: "as told"} }) }
		answer(sdk.Suspended)
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) {
			es.Batch, es.Concurrency = 1, 1
			es.Breaker = engine.BreakerPolicy{Failures: 2, Min: time.Hour, Max: 3 * time.Hour}
		})
		defer h.close()
		const again = "the sink works again: sink=a"
		h.accept("", "1")
		until(t, "it is suspended", func() bool { return h.status("a").State == engine.Suspended })
		if n := h.log.count("probe_in=1h0m0s"); n != 1 {
			t.Errorf("the time of the probe is told %d times", n)
		}
		if !h.engine.Resume("a") {
			t.Error("a suspended sink was not resumed")
		}
		until(t, "it is suspended again", func() bool { return h.status("a").State == engine.Suspended })
		answer(sdk.Delivered)
		h.engine.Pause("a", "")
		h.engine.Resume("a")
		if n := h.log.count(again); n != 0 {
			t.Error("it works before a call did")
		}
		until(t, "all delivered", func() bool { return s.count() == 1 && h.log.count(again) == 1 })
		h.accept("", "2")
		until(t, "the next one, too", func() bool { return s.count() == 2 })
		if n := h.log.count(again); n != 1 {
			t.Errorf("it works again %d times", n)
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		var calls []time.Time
		s.deliver = func(*core.Delivery) core.Outcome {
			calls = append(calls, time.Now())
			return core.Outcome{Kind: sdk.Delivered}
		}
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) {
			es.Batch, es.Concurrency, es.Rate = 1, 8, 15
		})
		defer h.close()
		for n := range 200 {
			h.accept("", strconv.Itoa(n))
		}
		until(t, "all delivered", func() bool { return s.count() == 200 })
		for i := 16; i < len(calls); i++ {
			if d := calls[i].Sub(calls[i-16]); d < 60*time.Millisecond {
				t.Errorf("calls %d to %d went out within %s", i-16, i, d)
			}
		}
		if took := calls[199].Sub(calls[0]); took < 12*time.Second || took > 14*time.Second {
			t.Errorf("200 calls took %s", took)
		}
	})
}

// TestHoldDead lets dead letters hold their keys until they are retried.
func TestHoldDead(t *testing.T) {
	const keys, perKey = 10, 30
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		mended := false
		s.deliver = func(d *core.Delivery) core.Outcome {
			var key, n int
			if _, err := fmt.Sscanf(string(d.Event.Data), "[%d,%d]", &key, &n); err != nil {
				t.Error(err)
			}
			switch {
			case !mended && key%2 == 0 && n == key:
				return core.Outcome{Kind: sdk.Rejected, Reason: "bad"}
			case rand.IntN(10) == 0:
				return core.Outcome{Kind: sdk.Retried, Reason: "busy"}
			}
			return core.Outcome{Kind: sdk.Delivered}
		}
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) { es.HoldDead = true })
		defer h.close()
		h.acceptAll(keys, perKey)
		const free = keys / 2 * perKey
		const before = 0 + 2 + 4 + 6 + 8 // what came before the bad one of each held key
		until(t, "free keys have all, held ones what was before", func() bool { return s.count() == free+before })
		time.Sleep(time.Hour)
		if s.count() != free+before {
			t.Errorf("%d delivered beside dead letters", s.count())
		}
		mended = true
		dead, _, err := h.store.ListDeliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryDead})
		if err != nil || len(dead) != keys/2 {
			t.Fatalf("%d dead letters, %v", len(dead), err)
		}
		for _, d := range dead {
			h.retry(d.ID)
		}
		until(t, "all delivered", func() bool { return s.count() == keys*perKey })
		checkOrder(t, s.got, keys, perKey)
	})
}

// TestHoldUnrendered lets a delivery hold its key that was dead before its sink could see it.
func TestHoldUnrendered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSink(), newSink()
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": a, "b": b},
			func(es *engine.Sink) { es.HoldDead = es.Name == "a" })
		defer h.close()
		for _, body := range []string{"1", unrendered, "2", "3"} {
			h.accept("x", body)
		}
		h.accept("y", "4")
		until(t, "the others are there", func() bool { return a.count() >= 2 && b.count() == 4 })
		time.Sleep(time.Hour)
		if got := slices.Sorted(slices.Values(a.got)); !slices.Equal(got, []string{"1", "4"}) {
			t.Errorf("held, the sink got %q", got)
		}
		dead, _, err := h.store.ListDeliveries(t.Context(), store.DeliveryFilter{Sink: "a", State: core.DeliveryDead})
		if err != nil || len(dead) != 1 {
			t.Fatalf("%d dead letters, %v", len(dead), err)
		}
		if _, err := h.store.SkipDeliveries(t.Context(), []string{dead[0].ID}, "given up"); err != nil {
			t.Fatal(err)
		}
		h.engine.Wake("a")
		until(t, "the key goes on", func() bool { return a.count() == 4 })
	})
}

// TestNewPassesBacklog sends something new to a slow sink that has a long backlog.
func TestNewPassesBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const backlog = 1500
		s, dir := newSink(), t.TempDir()
		pause := func(es *engine.Sink) { es.State.PausedAt = start2000 }
		h := start(t, dir, &decoder{}, map[string]*sink{"a": s}, pause)
		for n := range backlog {
			h.accept(strconv.Itoa(n%50), strconv.Itoa(n))
		}
		h.close()
		s.took = time.Second
		h = start(t, dir, &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) { es.Batch, es.Concurrency = 1, 4 })
		defer h.close()
		time.Sleep(time.Minute)
		for n := range 20 {
			h.accept("new", fmt.Sprint("new ", n))
		}
		time.Sleep(2 * time.Minute)
		s.set(func() {
			news, next := 0, 0
			for _, g := range s.got {
				var n int
				if _, err := fmt.Sscanf(g, "new %d", &n); err == nil {
					news++
					if n != next {
						t.Errorf("new %d came when %d was next", n, next)
					}
					next++
				}
			}
			if news < 2 || len(s.got) > backlog/2 {
				t.Errorf("%d new ones of %d delivered", news, len(s.got))
			}
		})
		until(t, "all delivered", func() bool { return s.count() == backlog+20 })
	})
}
