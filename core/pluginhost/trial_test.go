package pluginhost

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
)

// bubble is an upgrade of one block between processes that exist only in the test's bubble, with the new one open.
type bubble struct {
	*upgrade
	handle   *Handle
	old, new *fakePlugin
}

func newBubble(t *testing.T, o UpgradeOptions) *bubble {
	t.Helper()
	b := &bubble{old: &fakePlugin{}, new: &fakePlugin{}}
	from, to := newFakeProcess(b.old), newFakeProcess(b.new)
	h := from.h
	to.h, to.users, from.users = h, 1, 1
	h.log, h.ctx = hclog.NewNullLogger(), context.Background()
	h.life, h.endLife = context.WithCancel(context.Background())
	h.resolved = map[core.PluginKind]map[string]*binary{core.PluginSink: {}}
	from.key, to.key = "old", "new"
	b.handle = &Handle{h: h, block: "a", moved: make(chan struct{}), made: from.info}
	b.handle.at.Store(newInstance(from, "a", nil))
	from.add(b.handle.at.Load())
	b.upgrade = &upgrade{
		h: h, label: "sink-fake", opts: o, b: &binary{Binary: Binary{Kind: core.PluginSink, Name: "fake"}}, info: to.info,
		crash:  map[*process]<-chan struct{}{to: to.nextCrash()},
		moves:  []*move{{handle: b.handle, old: b.handle.at.Load(), next: newInstance(to, "a", nil)}},
		result: Upgrade{From: from.info},
	}
	next := b.moves[0].next
	next.trial.Store(true)
	to.add(next)
	synctest.Wait()
	if b.handle.Reason() != "" || next.why() != "" {
		t.Fatalf("not open: %q, %q", b.handle.Reason(), next.why())
	}
	return b
}

// begin begins a use of the block, as Deliver does, and returns where.
func (b *bubble) begin(t *testing.T) *instance {
	t.Helper()
	i, err := b.handle.enter()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (f *fakePlugin) closed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closes
}

// TestTrial has a call last for longer than everything else: it holds up nothing but the end of the old version.
func TestTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, UpgradeOptions{})
		start := time.Now()
		long := b.begin(t)
		b.move()
		if b.handle.at.Load() == long {
			t.Error("the block has not moved")
		}
		short := b.begin(t)
		if short == long {
			t.Error("a call after the move is in the old version")
		}
		short.calls.exit()
		if err := b.trial(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != defaultTrial {
			t.Errorf("the trial took %s", took)
		}
		if b.old.closed() > 0 {
			t.Error("the old instance was closed during the trial")
		}
		var drain sync.WaitGroup
		left := b.settle(&drain)
		time.Sleep(10*time.Second - defaultTrial)
		if synctest.Wait(); b.old.closed() > 0 {
			t.Error("the old instance was closed under its call")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if b.await(ctx, left); b.result.Drained {
			t.Error("it counts as drained with a call under way")
		}
		long.calls.exit()
		b.await(t.Context(), left)
		drain.Wait()
		if took := time.Since(start); took != 11*time.Second || !b.result.Drained {
			t.Errorf("drained %v after %s", b.result.Drained, took)
		}
		if b.old.closed() != 1 || b.new.closed() != 0 {
			t.Errorf("closed %d old, %d new instances", b.old.closed(), b.new.closed())
		}
		b.end(t)
	})
}

// end closes the block, and with it the last process.
func (b *bubble) end(t *testing.T) {
	t.Helper()
	if err := b.handle.Close(t.Context()); err != nil {
		t.Error(err)
	}
	b.h.stops.Wait()
	if b.old.closed()+b.new.closed() != 2 || len(b.h.processes) > 0 {
		t.Errorf("closed %d old, %d new instances", b.old.closed(), b.new.closed())
	}
}

// TestTrialFails ends a trial in its last moment: all is back at once, and who waits for the plugin finds it.
func TestTrialFails(t *testing.T) {
	for _, how := range []string{"crash", "interrupt"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, UpgradeOptions{Trial: time.Minute})
				before := b.handle.at.Load()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b.move()
				start := time.Now()
				var waited time.Duration
				time.AfterFunc(time.Minute-1, func() {
					if how == "interrupt" {
						cancel()
						return
					}
					b.new.failLaunches(errors.New("never again"))
					b.new.crash()
				})
				err := b.trial(ctx)
				var back *RolledBackError
				if !errors.As(err, &back) || how == "interrupt" && !errors.Is(err, context.Canceled) ||
					how == "crash" && !strings.HasPrefix(back.Reason, "the new version died: ") {
					t.Errorf("the trial's end: %v", err)
				}
				var waiting sync.WaitGroup
				waiting.Go(func() {
					if err := b.handle.WaitReady(t.Context()); err != nil {
						t.Error(err)
					}
					waited = time.Since(start)
				})
				b.takeBack()
				waiting.Wait()
				if waited != time.Minute-1 {
					t.Errorf("ready again after %s", waited)
				}
				if b.handle.at.Load() != before {
					t.Error("the block is not where it was")
				}
				b.h.stops.Wait()
				b.new.mu.Lock()
				b.new.closes = 1 // An instance in a process that died has nothing to close.
				b.new.mu.Unlock()
				b.end(t)
			})
		})
	}
}

// TestTrialAndOldCrash has the old version die while it waits: a crash of the new one then brings it back all the same.
func TestTrialAndOldCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, UpgradeOptions{})
		b.move()
		b.old.crash()
		synctest.Wait()
		select {
		case <-b.crash[b.moves[0].next.p]:
			t.Error("a crash of the old version counts as the new one's")
		default:
		}
		b.new.crash()
		if err := b.trial(t.Context()); err == nil {
			t.Error("the trial did not see the crash")
		}
		b.takeBack()
		if err := b.handle.WaitReady(t.Context()); err != nil {
			t.Error(err)
		}
		b.h.stops.Wait()
		if err := b.handle.Close(t.Context()); err != nil {
			t.Error(err)
		}
		b.h.stops.Wait()
	})
}

func TestQuietGate(t *testing.T) {
	var g gate
	select {
	case <-g.quiet():
	default:
		t.Error("an idle gate is not quiet")
	}
	g.enter()
	a, b := g.quiet(), g.quiet()
	g.enter()
	g.exit()
	select {
	case <-a:
		t.Error("quiet with a call in flight")
	default:
	}
	g.exit()
	<-a
	<-b
	if !g.enter() {
		t.Error("quiet has closed the gate")
	}
	g.exit()
}
