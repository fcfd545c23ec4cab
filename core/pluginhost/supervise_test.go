package pluginhost

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/grapnelhq/grapnel/core"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// fakePlugin launches processes that exist only in the test's bubble.
type fakePlugin struct {
	pluginv1.PluginClient
	mu       sync.Mutex
	launches []time.Time
	opens    int
	closes   int
	fail     error                                                 // of launches
	open     func(instance string) (*pluginv1.OpenResponse, error) // nil: opens
	exit     chan struct{}                                         // of the running one
	once     *sync.Once
}

func (f *fakePlugin) Open(_ context.Context, r *pluginv1.OpenRequest, _ ...grpc.CallOption) (*pluginv1.OpenResponse, error) {
	f.mu.Lock()
	f.opens++
	open := f.open
	f.mu.Unlock()
	if open != nil {
		return open(r.GetName())
	}
	return &pluginv1.OpenResponse{}, nil
}

func (f *fakePlugin) Close(context.Context, *pluginv1.CloseRequest, ...grpc.CallOption) (*pluginv1.CloseResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closes++
	return &pluginv1.CloseResponse{}, nil
}

func (f *fakePlugin) start(context.Context) (*child, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.launches = append(f.launches, time.Now())
	if f.fail != nil {
		return nil, f.fail
	}
	exit, once := make(chan struct{}), &sync.Once{}
	f.exit, f.once = exit, once
	end := func() { once.Do(func() { close(exit) }) }
	return &child{
		plugin: f, started: time.Now(), exited: exit, counted: make(chan struct{}),
		kill: end, shutdown: end, words: func() string { return "exit status 9" }, timeout: time.Second,
	}, nil
}

func (f *fakePlugin) failLaunches(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fakePlugin) crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	exit := f.exit
	f.once.Do(func() { close(exit) })
}

func (f *fakePlugin) launchTimes(since time.Time) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ds []time.Duration
	for _, l := range f.launches {
		ds = append(ds, l.Sub(since))
	}
	return ds
}

func newFakeProcess(f *fakePlugin) *process {
	h := &Host{
		policy: defaultPolicy(), openTimeout: 10 * time.Second, openRetry: time.Second, closeTimeout: time.Second,
		drainTimeout: 30 * time.Second, laneIdle: time.Second, abandonedLimit: 3,
		processes: map[string]*process{},
	}
	info := &core.PluginInfo{Kind: core.PluginSink, Name: "fake"}
	p := newProcess(h, "fake", info, "", hclog.NewNullLogger(), &redactor{}, f.start, f.start)
	p.users = 100 // The test stops it.
	return p
}

func wantState(t *testing.T, p *process, want State) {
	t.Helper()
	synctest.Wait()
	if got := p.state(); got != want {
		t.Fatalf("state %s, want %s", got, want)
	}
}

func TestSupervisionTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		f := &fakePlugin{}
		p := newFakeProcess(f)
		i := newInstance(p, "a", nil)
		p.add(i)
		wantState(t, p, Ready)
		if err := i.waitReady(t.Context(), nil); err != nil {
			t.Fatal(err)
		}

		f.crash() // at once
		wantState(t, p, Ready)
		f.crash() // after a pause
		wantState(t, p, Backoff)
		if err := waitReadyFor(t, i, 200*time.Millisecond); !errors.Is(err, ErrNotReady) {
			t.Errorf("ready during backoff: %v", err)
		}
		time.Sleep(500 * time.Millisecond)
		wantState(t, p, Ready)
		f.crash()
		wantState(t, p, Failed)
		if s := p.status(); s.Reason != "exit status 9" || s.Restarts != 2 || s.Instances[0].Ready {
			t.Errorf("status %+v", s)
		}
		failed := time.Now()
		f.failLaunches(errors.New("will not start"))
		time.Sleep(61 * time.Second)
		wantState(t, p, Failed)
		f.failLaunches(nil)
		if err := i.waitReady(t.Context(), nil); err != nil { // until the probe succeeds
			t.Fatal(err)
		}
		if took := time.Since(failed); took != 90*time.Second {
			t.Errorf("ready after %s, want at the third probe", took)
		}
		wantState(t, p, Ready)
		ds := f.launchTimes(start)
		if len(ds) != 6 || ds[0] != 0 || ds[1] != 0 || ds[2] < 250*time.Millisecond || ds[2] > 500*time.Millisecond {
			t.Errorf("launched at %v", ds)
		}
		p.stop(t.Context())
		if f.closes != 1 {
			t.Errorf("%d instances closed, want 1", f.closes)
		}
	})
}

func waitReadyFor(t *testing.T, i *instance, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return i.waitReady(ctx, nil)
}

func TestUnavailableInstanceDisturbsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakePlugin{}
		tries := 0
		f.open = func(name string) (*pluginv1.OpenResponse, error) {
			if name == "b" {
				f.mu.Lock()
				defer f.mu.Unlock()
				if tries++; tries < 4 {
					return &pluginv1.OpenResponse{Unavailable: "far end is down"}, nil
				}
			}
			return &pluginv1.OpenResponse{}, nil
		}
		p := newFakeProcess(f)
		a, b := newInstance(p, "a", nil), newInstance(p, "b", nil)
		p.add(a)
		p.add(b)
		wantState(t, p, Ready)
		if why := a.why(); why != "" {
			t.Errorf("a is not ready: %s", why)
		}
		if why := b.why(); why != "far end is down" {
			t.Errorf("b: %q", why)
		}
		start := time.Now()
		if err := b.waitReady(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 3500*time.Millisecond || took > 7*time.Second {
			t.Errorf("b ready after %s", took)
		}
		if n := len(f.launches); n != 1 {
			t.Errorf("%d launches", n)
		}
		p.stop(t.Context())
	})
}

// TestReopen shows that a restart opens all instances before the process is ready, and that one whose Open hangs
// keeps only the state back, not the others.
func TestReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakePlugin{}
		p := newFakeProcess(f)
		a, b := newInstance(p, "a", nil), newInstance(p, "b", nil)
		p.add(a)
		p.add(b)
		wantState(t, p, Ready)
		f.mu.Lock()
		f.open = func(name string) (*pluginv1.OpenResponse, error) {
			if name == "b" {
				time.Sleep(3 * time.Second)
			}
			return &pluginv1.OpenResponse{}, nil
		}
		f.mu.Unlock()
		f.crash()
		wantState(t, p, Starting)
		if a.why() != "" || b.why() == "" {
			t.Errorf("a: %q, b: %q", a.why(), b.why())
		}
		time.Sleep(3 * time.Second)
		wantState(t, p, Ready)
		if f.opens != 4 {
			t.Errorf("%d opens, want 4", f.opens)
		}
		p.stop(t.Context())
	})
}

func TestDrainAwaitsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakePlugin{}
		p := newFakeProcess(f)
		i := newInstance(p, "a", nil)
		p.add(i)
		synctest.Wait()
		o, err := i.acquire()
		if err != nil {
			t.Fatal(err)
		}
		p.send(signal{event: event{kind: evRecycle}})
		wantState(t, p, Draining)
		if _, err := i.acquire(); !errors.Is(err, ErrNotReady) {
			t.Errorf("a call began while draining: %v", err)
		}
		time.Sleep(10 * time.Second)
		wantState(t, p, Draining)
		i.release(o)
		wantState(t, p, Ready)
		if len(f.launches) != 2 || f.closes != 1 {
			t.Errorf("%d launches, %d closes", len(f.launches), f.closes)
		}

		// A call that does not end is cut off at the deadline.
		if o, err = i.acquire(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		p.stop(ctx)
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("stopped after %s", took)
		}
		i.release(o)
	})
}

func TestTooManyAbandonedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakePlugin{}
		p := newFakeProcess(f)
		i := newInstance(p, "a", nil)
		p.add(i)
		synctest.Wait()
		o := i.current.Load()
		o.c.probing.Store(true) // There is no health call in this test.
		for range 3 {
			p.gaveUp(o.c)
		}
		wantState(t, p, Ready)
		if len(f.launches) != 2 {
			t.Errorf("%d launches, want a replacement", len(f.launches))
		}
		p.stop(t.Context())
	})
}

func TestStopWhileFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakePlugin{fail: errors.New("no")}
		p := newFakeProcess(f)
		i := newInstance(p, "a", nil)
		p.add(i)
		<-i.first
		time.Sleep(time.Minute)
		wantState(t, p, Failed)
		p.stop(t.Context())
	})
}
