package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-slack/internal/fakeslack"
	"github.com/grapnelhq/grapnel/sdk"
)

// limitedOptions is a fake that takes one message per second and channel, and none more.
func limitedOptions() fakeslack.Options {
	o := fakeOptions()
	o.Spacing = time.Second
	return o
}

// drive delivers messages as the host does: a number of calls at a time, each with a time limit, and again when a
// delivery is to be retried. It returns the calls that it took.
func drive(t *testing.T, h *harness, messages []string, concurrency int, timeout time.Duration) (calls int) {
	t.Helper()
	type item struct {
		message string
		due     time.Time
		attempt int
	}
	var mu sync.Mutex
	var queue []*item
	for _, m := range messages {
		queue = append(queue, &item{message: m, due: time.Now()})
	}
	left := len(queue)
	take := func() *item {
		mu.Lock()
		defer mu.Unlock()
		for i, it := range queue {
			if !it.due.After(time.Now()) {
				queue = append(queue[:i:i], queue[i+1:]...)
				it.attempt++
				calls++
				return it
			}
		}
		return nil
	}
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for {
				mu.Lock()
				done := left == 0
				mu.Unlock()
				if done {
					return
				}
				it := take()
				if it == nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				start := time.Now()
				d := &sdk.Delivery[json.RawMessage]{ID: it.message, Attempt: it.attempt, Message: []byte(it.message)}
				o := h.in.DeliverRaw(ctx, []*sdk.Delivery[json.RawMessage]{d})[0]
				cancel()
				if took := time.Since(start); took > timeout {
					t.Errorf("a call took %s", took)
				}
				mu.Lock()
				switch o.Kind {
				case sdk.Delivered:
					left--
				case sdk.Retried:
					it.due = time.Now().Add(o.After)
					queue = append(queue, it)
				default:
					t.Errorf("%+v", o)
					left--
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return calls
}

func texts(n int, format string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return all
}

// TestPace delivers more than Slack takes at a time: everything arrives one second apart, in one call each.
func TestPace(t *testing.T) {
	for _, c := range []Config{webhookConfig(), botConfig()} {
		t.Run(c.Mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, c, limitedOptions(), nil)
				start := time.Now()
				calls := drive(t, h, texts(50, `{"text": "%d"}`), 8, 30*time.Second)
				if calls != 50 {
					t.Errorf("%d calls for 50 messages", calls)
				}
				if took := time.Since(start).Round(time.Second); took != 49*time.Second {
					t.Errorf("it took %s", took)
				}
				if n := h.fake.Requests(); n != 50 {
					t.Errorf("%d requests", n)
				}
				h.noProblems()
			})
		})
	}
}

// TestPaceOfChannels has channels beside each other.
func TestPaceOfChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, botConfig(), limitedOptions(), nil)
		start := time.Now()
		var messages []string
		for i := range 20 {
			messages = append(messages, fmt.Sprintf(`{"text": "%d", "channel": "C0%d"}`, i, 1+i%2))
		}
		drive(t, h, messages, 8, 30*time.Second)
		if took := time.Since(start).Round(time.Second); took != 9*time.Second {
			t.Errorf("it took %s", took)
		}
		h.noProblems()
	})
}

// TestShortCalls gives calls less time than a turn takes to come: who cannot wait comes back at a time of its own.
func TestShortCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, webhookConfig(), limitedOptions(), nil)
		start := time.Now()
		calls := drive(t, h, texts(30, `{"text": "%d"}`), 8, 2*time.Second)
		if took := time.Since(start); took > 35*time.Second {
			t.Errorf("it took %s", took)
		}
		if calls > 75 {
			t.Errorf("%d calls for 30 messages", calls)
		}
		h.noProblems()
	})
}

// TestTooMuch has Slack close the channel in the middle: nobody pushes on, and everything arrives afterwards.
func TestTooMuch(t *testing.T) {
	for _, c := range []Config{webhookConfig(), botConfig()} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, c, limitedOptions(), nil)
			h.fake.Fail(fakeslack.Failure{Text: "3", Word: "rate_limited", Status: 429, RetryAfter: "60"})
			start := time.Now()
			drive(t, h, texts(10, `{"text": "%d"}`), 8, 30*time.Second)
			if took := time.Since(start); took < 65*time.Second || took > 75*time.Second {
				t.Errorf("it took %s", took)
			}
			if n := h.fake.Requests(); n != 11 {
				t.Errorf("%d requests for 10 messages", n)
			}
			h.noProblems()
		})
	}
}

// TestSharedPace has two blocks with one credential, and one with another.
func TestSharedPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := fakeslack.New(limitedOptions())
		paces := newPacer()
		one := withPacer(t, webhookConfig(), fake, fake, paces)
		two := withPacer(t, webhookConfig(), fake, fake, paces)
		var both sync.WaitGroup
		for _, h := range []*harness{one, two} {
			both.Go(func() { drive(t, h, texts(5, `{"text": "%d"}`), 2, 30*time.Second) })
		}
		both.Wait()
		one.noProblems()
		if n := len(paces.lanes); n != 1 {
			t.Errorf("%d lanes", n)
		}
	})
}

// TestCancelledWait ends a wait with its call, and gives the turn back.
func TestCancelledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, webhookConfig(), limitedOptions(), nil)
		h.must("k", `{"text": "a"}`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		time.AfterFunc(100*time.Millisecond, cancel)
		start := time.Now()
		o := h.deliverAs(ctx, &sdk.Delivery[json.RawMessage]{Message: []byte(`{"text": "b"}`)})
		if o.Kind != sdk.Retried || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%+v after %s", o, time.Since(start))
		}
		h.must("k", `{"text": "c"}`)
		if took := time.Since(start); took > time.Second {
			t.Errorf("the turn was lost: %s", took)
		}
		h.noProblems()
	})
}

// TestLanes bounds what a pacer remembers.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		p.most = 3
		enter := func(channel string) time.Duration {
			away, err := p.enter(t.Context(), laneKey{"a", channel, time.Second}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return away
		}
		for _, c := range []string{"1", "2", "3"} {
			if enter(c) != 0 {
				t.Errorf("%s has to wait", c)
			}
		}
		if enter("4") == 0 {
			t.Error("a fourth busy channel finds room")
		}
		time.Sleep(2 * time.Second)
		p.shut(laneKey{"a", "2", time.Second}, time.Minute)
		if enter("4") != 0 || enter("5") != 0 {
			t.Error("idle channels take room")
		}
		if away := enter("2"); away < 50*time.Second {
			t.Errorf("a closed channel was forgotten: %s", away)
		}
		if first, second := enter("2"), enter("2"); second-first != time.Second {
			t.Errorf("they come back together: %s and %s", first, second)
		}
	})
}

// TestSpacingOff sends as fast as it goes.
func TestSpacingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, quick(webhookConfig()), fakeOptions(), nil)
		start := time.Now()
		drive(t, h, texts(20, `{"text": "%d"}`), 8, 30*time.Second)
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
