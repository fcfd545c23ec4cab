package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/sdk"
)

// instance is one of several instances of a sink's plugin: they write to the same far end.
type instance struct {
	*sink
	digest string // that messages must have been rendered by; empty: any
	t      *testing.T
}

func (i *instance) Deliver(ctx context.Context, ds []*core.Delivery) ([]core.Outcome, error) {
	for _, d := range ds {
		if i.digest != "" && string(d.Message) != strconv.Quote(i.digest) {
			i.t.Errorf("the instance for %q got a message %s", i.digest, d.Message)
		}
	}
	return i.sink.Deliver(ctx, ds)
}

// renders routes as router does, by a configuration of that digest.
type renders struct {
	router
	digest string
}

func (r renders) Route(dst []*core.Delivery, req *core.Request, ev *core.Event) ([]*core.Delivery, error) {
	dst, err := r.router.Route(dst, req, ev)
	for _, d := range dst {
		d.Message, d.ConfigDigest = strconv.AppendQuote(nil, r.digest), r.digest
	}
	return dst, err
}

// configured is the settings of the sink "a" and the source "src" by a configuration of that digest.
func configured(t *testing.T, s *sink, dec engine.Decoder, digest string) ([]engine.Source, []engine.Sink) {
	return []engine.Source{{Name: "src", Decoder: dec, Router: renders{router{[]string{"a"}}, digest}}},
		[]engine.Sink{{
			Name: "a", Plugin: &instance{s, digest, t}, Concurrency: 1 + rand.IntN(8), Batch: 1 + rand.IntN(16), Digest: digest,
			Renew: func(_ context.Context, d *core.Delivery) error {
				if d.ConfigDigest != digest {
					d.Message, d.ConfigDigest, d.Renewed = strconv.AppendQuote(nil, digest), digest, true
				}
				return nil
			},
			Retry: engine.RetryPolicy{Min: time.Millisecond, Max: 50 * time.Millisecond},
		}}
}

// TestApply changes everything there is, again and again, while events come in and calls fail: all of them are delivered,
// once, in order, one of a key at a time, whichever instances have the calls.
func TestApply(t *testing.T) {
	const keys, perKey, changes = 12, 60, 40
	synctest.Test(t, func(t *testing.T) {
		s, dec := newSink(), &decoder{}
		s.took = 7 * time.Millisecond
		s.deliver = func(*core.Delivery) core.Outcome {
			if rand.IntN(10) == 0 {
				return core.Outcome{Kind: sdk.Retried, Reason: "busy"}
			}
			return core.Outcome{Kind: sdk.Delivered}
		}
		h := start(t, t.TempDir(), dec, map[string]*sink{"a": s}, nil)
		defer h.close()
		var posting sync.WaitGroup
		posting.Go(func() {
			for n := range perKey {
				for k := range keys {
					h.accept(strconv.Itoa(k), fmt.Sprintf("[%d,%d]", k, n))
				}
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			}
		})
		digest := func(n int) string { return fmt.Sprint("digest ", n/3) } // two of three changes leave routes as they are
		for n := range changes {
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
			sources, sinks := configured(t, s, dec, digest(n))
			switch rand.IntN(5) {
			case 0:
				sinks = nil
			case 1:
				sources = nil
			case 2:
				sources, sinks = nil, nil
			}
			drained, err := h.engine.Apply(sources, sinks)
			if err != nil {
				t.Fatal(err)
			}
			if rand.IntN(3) == 0 {
				<-drained
			}
		}
		drained, err := h.engine.Apply(configured(t, s, dec, "last"))
		if err != nil {
			t.Fatal(err)
		}
		<-drained
		posting.Wait()
		until(t, "all delivered", func() bool { return s.count() >= keys*perKey })
		checkOrder(t, s.got, keys, perKey)
		if s.overlap {
			t.Error("two deliveries of one key were in flight together")
		}
		for id, n := range s.ids {
			if n != 1 {
				t.Errorf("%s was delivered %d times", id, n)
			}
		}
	})
}

// TestApplyWhileDown has a plugin and a decoder that are gone replaced: who waited for them goes on with the new ones.
func TestApplyWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dec := newSink(), &decoder{}
		gone := &waits{sink: newSink()}
		gone.err = errors.New("the plugin is gone")
		lost := &waitsToo{decoder{err: errors.New("the decoder is gone")}}
		h := start(t, t.TempDir(), lost, map[string]*sink{"b": s}, nil)
		defer h.close()
		sources := []engine.Source{{Name: "src", Decoder: lost, Router: router{[]string{"a"}}}}
		if _, err := h.engine.Apply(sources, []engine.Sink{{Name: "a", Plugin: gone}}); err != nil {
			t.Fatal(err)
		}
		h.accept("k", "[0,0]")
		time.Sleep(time.Minute) // the decoder is waited for
		sources[0].Decoder = dec
		if _, err := h.engine.Apply(sources, []engine.Sink{{Name: "a", Plugin: gone}}); err != nil {
			t.Fatal(err)
		}
		until(t, "the sink is waited for", func() bool { return h.engine.Status()[0].State == engine.Down })
		drained, err := h.engine.Apply(sources, []engine.Sink{{Name: "a", Plugin: s}})
		if err != nil {
			t.Fatal(err)
		}
		<-drained
		until(t, "it is delivered", func() bool { return s.count() == 1 })
	})
}

// waits and waitsToo never become ready again.
type waits struct{ *sink }

func (waits) WaitReady(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

type waitsToo struct{ decoder }

func (*waitsToo) WaitReady(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// TestApplyKeepsPauses has a pause and a breaker outlive a change of settings, and a breaker not outlive its plugin.
func TestApplyKeepsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dec := newSink(), &decoder{}
		s.deliver = func(*core.Delivery) core.Outcome {
			return core.Outcome{Kind: sdk.Suspended, Reason: "the token is revoked"}
		}
		h := start(t, t.TempDir(), dec, map[string]*sink{"a": s}, nil)
		defer h.close()
		h.accept("k", "[0,0]")
		state := func() engine.SinkState { return h.engine.Status()[0].State }
		until(t, "the sink is suspended", func() bool { return state() == engine.Suspended })
		sources := []engine.Source{{Name: "src", Decoder: dec, Router: router{[]string{"a"}}}}
		apply := func(sink engine.Sink) {
			t.Helper()
			drained, err := h.engine.Apply(sources, []engine.Sink{sink})
			if err != nil {
				t.Fatal(err)
			}
			<-drained
		}
		apply(engine.Sink{Name: "a", Plugin: s, Concurrency: 5})
		if state() != engine.Suspended {
			t.Errorf("with other settings it is %s", state())
		}
		h.engine.Pause("a", "a reason")
		works := newSink()
		apply(engine.Sink{Name: "a", Plugin: works})
		if state() != engine.Paused {
			t.Errorf("with another plugin it is %s", state())
		}
		h.engine.Resume("a")
		until(t, "it is delivered", func() bool { return works.count() == 1 })
		h.stop()
		<-h.done
		if _, err := h.engine.Apply(sources, nil); !errors.Is(err, engine.ErrStopped) {
			t.Errorf("after the stop: %v", err)
		}
	})
}
