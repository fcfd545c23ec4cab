//go:build unix

package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// newer is version 2.0.0 of the odd plugin, in a file whose name says how it fails, if it does.
func newer(t *testing.T, variant string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), variant)
	if err := os.Link(nextBinary, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// quick is an upgrade whose trial is short.
func quick() UpgradeOptions { return UpgradeOptions{Trial: 50 * time.Millisecond} }

// pidOf delivers one thing and returns the process that did it.
func pidOf(t *testing.T, s *Sink) string {
	t.Helper()
	return deliver(t, s, "")[0].Reference
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newTestHost(t, env("ODD_DIR="+dir))
	a, b := h.sink(t, "a", `{"token":"s3cr3t-token"}`, SinkOptions{}), h.sink(t, "b", `{}`, SinkOptions{})
	alone := h.sink(t, "alone", `{}`, SinkOptions{Isolated: true})
	old := pidOf(t, a)
	var stages []string
	o := quick()
	o.Progress = func(p UpgradeProgress) {
		stages = append(stages, fmt.Sprintf("%s %d/%d", p.Stage, p.Done, p.Total))
		if p.Stage != UpgradeMoved {
			return
		}
		// Both versions are there, all calls go to the new one.
		roles := map[string]int{}
		for _, s := range h.Status() {
			roles[s.Version+" "+s.Upgrade]++
		}
		if roles["1.2.3 old"] != 2 || roles["2.0.0 new"] != 2 {
			t.Errorf("processes during the trial: %v", roles)
		}
		if pidOf(t, a) == old {
			t.Error("a call after the move went to the old version")
		}
	}
	u, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), o)
	if err != nil {
		t.Fatal(err)
	}
	if u.From.Version != "1.2.3" || u.To.Version != "2.0.0" || !slices.Equal(u.Blocks, []string{"a", "alone", "b"}) ||
		u.Same || !u.Drained {
		t.Errorf("upgrade: %+v", u)
	}
	want := []string{"checking 0/0", "starting 0/3", "opening 0/3", "opening 1/3", "opening 2/3", "opening 3/3", "moved 3/3",
		"settled 3/3", "draining 0/3", "draining 1/3", "draining 2/3", "done 3/3"}
	if !slices.Equal(stages, want) {
		t.Errorf("stages %q", stages)
	}
	if pidOf(t, a) != pidOf(t, b) || pidOf(t, a) == pidOf(t, alone) {
		t.Error("blocks are not in the processes that they should be in")
	}
	if out := deliver(t, a, "secret"); strings.Contains(fmt.Sprint(out), "s3cr3t") {
		t.Errorf("a secret is in %v", out)
	}
	closed, _ := filepath.Glob(filepath.Join(dir, "closed-*"))
	if len(closed) != 3 {
		t.Errorf("closed in the old version: %v", closed)
	}
	eventually(t, 10*time.Second, "the old version's processes are gone", func() bool {
		list := h.Status()
		return len(list) == 2 && list[0].Version == "2.0.0" && list[0].Upgrade == "" && list[1].Version == "2.0.0"
	})
	again, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), quick())
	if err != nil || !again.Same {
		t.Errorf("the same program again: %+v, %v", again, err)
	}
	// And back.
	if u, err = h.Upgrade(t.Context(), core.PluginSink, "odd", oddBinary, quick()); err != nil || u.To.Version != "1.2.3" {
		t.Errorf("back: %+v, %v", u, err)
	}
	if err := errors.Join(a.Close(t.Context()), b.Close(t.Context()), alone.Close(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := h.Upgrade(t.Context(), core.PluginSink, "odd", oddBinary, quick()); !errors.Is(err, ErrNotUsed) {
		t.Errorf("upgrade of a plugin that is not used: %v", err)
	}
}

// TestUpgradeOfBusySink has a call last through the upgrade: it ends in the old version, others go on in the new one.
func TestUpgradeOfBusySink(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	s := h.sink(t, "a", `{}`, SinkOptions{})
	old := pidOf(t, s)
	moved := make(chan struct{})
	var long []core.Outcome
	var done sync.WaitGroup
	done.Go(func() { long = deliver(t, s, "sleep:600ms") })
	eventually(t, 10*time.Second, "the long call is under way", func() bool { return h.Status()[0].InFlight == 1 })
	o := quick()
	o.Progress = func(p UpgradeProgress) {
		if p.Stage == UpgradeMoved {
			close(moved)
		}
	}
	done.Go(func() {
		<-moved
		if pidOf(t, s) == old {
			t.Error("a new call went to the old version")
		}
	})
	u, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), o)
	if err != nil || !u.Drained {
		t.Errorf("upgrade: %+v, %v", u, err)
	}
	done.Wait()
	if len(long) != 1 || long[0].Kind != sdk.Delivered || long[0].Reference != old {
		t.Errorf("the long call: %+v, want it delivered by %s", long, old)
	}
}

// TestUpgradeUnwaited hangs up while the old version is still busy, after the trial: it goes on.
func TestUpgradeUnwaited(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	s := h.sink(t, "a", `{}`, SinkOptions{})
	var done sync.WaitGroup
	done.Go(func() { deliver(t, s, "sleep:500ms") })
	eventually(t, 10*time.Second, "the long call is under way", func() bool { return h.Status()[0].InFlight == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	o := quick()
	o.Progress = func(p UpgradeProgress) {
		if p.Stage == UpgradeDraining {
			cancel()
		}
	}
	u, err := h.Upgrade(ctx, core.PluginSink, "odd", newer(t, "next"), o)
	if err != nil || u.Drained {
		t.Errorf("upgrade: %+v, %v", u, err)
	}
	done.Wait()
	eventually(t, 10*time.Second, "the old version is gone", func() bool { return len(h.Status()) == 1 })
}

// TestUpgradeTakenBack has new versions fail in all ways. The old one goes on, and nobody is charged.
func TestUpgradeTakenBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		variant string
		config  string
		refused bool // before it was tried
		reason  string
	}{
		{variant: "exits", refused: true, reason: "odd: cannot go on"},
		{variant: "nodescribe", refused: true, reason: "odd: cannot describe myself"},
		{variant: "config", refused: true, reason: "a: needed: The new version requires this attribute"},
		{variant: "message", refused: true, reason: `messages must have "needed", which no route sets`},
		{variant: "noopen", reason: `the new version does not open "b": version 2 does not like b`},
		{variant: "refuses", reason: `the new version refuses the configuration of "a"`},
		{variant: "opendies", reason: "odd: opening killed me"},
		{variant: "dies", reason: "odd: version 2 cannot do anything"},
	} {
		t.Run(test.variant, func(t *testing.T) {
			t.Parallel()
			h := newTestHost(t, nil)
			a, b := h.sink(t, "a", `{}`, SinkOptions{}), h.sink(t, "b", `{}`, SinkOptions{Isolated: true})
			before := pidOf(t, a) + pidOf(t, b)
			var calls sync.WaitGroup
			o := UpgradeOptions{Trial: 20 * time.Second}
			o.Progress = func(p UpgradeProgress) {
				if p.Stage == UpgradeMoved {
					calls.Go(func() { deliverAnyhow(t, a) })
					calls.Go(func() { deliverAnyhow(t, b) })
				}
			}
			_, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, test.variant), o)
			calls.Wait()
			var back *RolledBackError
			if err == nil || !strings.Contains(err.Error(), test.reason) || errors.As(err, &back) == test.refused {
				t.Errorf("upgrade: %v, want %q", err, test.reason)
			}
			if after := pidOf(t, a) + pidOf(t, b); after != before {
				t.Errorf("calls go to %s, before to %s", after, before)
			}
			eventually(t, 10*time.Second, "the new version is gone", func() bool {
				list := h.Status()
				return len(list) == 2 && list[0].Version == "1.2.3" && list[1].Version == "1.2.3" && list[0].Upgrade == ""
			})
		})
	}
}

// deliverAnyhow does what the engine does: it tries again when nothing is known about a delivery.
func deliverAnyhow(t *testing.T, s *Sink) {
	t.Helper()
	d := do("")
	for range 100 {
		out, err := s.Deliver(t.Context(), []*core.Delivery{d})
		if err == nil {
			if out[0].Kind != sdk.Delivered {
				t.Errorf("outcome %+v", out[0])
			}
			return
		}
		if !errors.Is(err, ErrNotReady) {
			t.Error(err)
		}
		if err := s.WaitReady(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("not delivered")
}

// TestUpgradeOfDecoder moves a decoder while requests are decoded, to a version that dies and then to one that does not.
func TestUpgradeOfDecoder(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	d := h.decoder(t)
	ctx, cancel := context.WithCancel(t.Context())
	var decoded sync.WaitGroup
	n, waits := 0, 0
	decoded.Go(func() {
		for ctx.Err() == nil {
			out, err := d.Decode(t.Context(), []*core.Request{decode(""), decode("")})
			switch {
			case err == nil && (len(out) != 2 || len(out[0].Events) != 1 || out[0].Crashed || out[1].Crashed):
				t.Errorf("decoded: %+v", out)
			case err == nil:
				n += len(out)
			case errors.Is(err, ErrNotReady):
				waits++
				if err := d.WaitReady(t.Context()); err != nil {
					t.Error(err)
				}
			default:
				t.Error(err)
			}
		}
	})
	if _, err := h.Upgrade(t.Context(), core.PluginDecoder, "odd", newer(t, "manifest-decoder"), quick()); err == nil ||
		!strings.Contains(err.Error(), "its manifest has other methods") {
		t.Errorf("another manifest: %v", err)
	}
	o := UpgradeOptions{Trial: 20 * time.Second}
	if _, err := h.Upgrade(t.Context(), core.PluginDecoder, "odd", newer(t, "dies-decoder"), o); err == nil ||
		!strings.Contains(err.Error(), "odd: version 2 cannot do anything") {
		t.Errorf("a version that dies: %v", err)
	}
	if waits == 0 {
		t.Error("no call met the version that dies")
	}
	u, err := h.Upgrade(t.Context(), core.PluginDecoder, "odd", newer(t, "more-decoder"), quick())
	if err != nil || u.To.Version != "2.0.0" {
		t.Errorf("upgrade: %+v, %v", u, err)
	}
	cancel()
	decoded.Wait()
	if n == 0 {
		t.Error("nothing was decoded")
	}
}

// TestUpgradeFillsIn shows that the defaults of new attributes are there although the routes do not know them.
func TestUpgradeFillsIn(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	s := h.sink(t, "a", `{"token":"s3cr3t-token"}`, SinkOptions{})
	if _, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "more"), quick()); err != nil {
		t.Fatal(err)
	}
	if got := deliver(t, s, "message")[0].Reason; got != `{"do":"message","more":"by default"}` {
		t.Errorf("message %s", got)
	}
	if got := string(s.at.Load().config); got != `{"more":"by default","token":"s3cr3t-token"}` {
		t.Errorf("configuration %s", got)
	}
}

// TestUpgradeOfPoison has items that kill any version: they are charged in one version at a time, and not in one that is
// on trial.
func TestUpgradeOfPoison(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	s := h.sink(t, "a", `{}`, SinkOptions{})
	poison := do("crash")
	poison.Crashes = 1 // goes to quarantine
	o := quick()
	o.Progress = func(p UpgradeProgress) {
		if p.Stage != UpgradeMoved {
			return
		}
		if out, err := s.Deliver(t.Context(), []*core.Delivery{poison}); !errors.Is(err, ErrNotReady) {
			t.Errorf("on trial: %+v, %v", out, err)
		}
	}
	if _, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), o); err != nil {
		t.Fatal(err) // A crash in quarantine is not the version's.
	}
	out, err := s.Deliver(t.Context(), []*core.Delivery{poison})
	if err != nil || out[0].Kind != core.Crashed {
		t.Errorf("after the trial: %+v, %v", out, err)
	}
}

// TestUpgradeEnds ends an upgrade from outside, before and after the move.
func TestUpgradeEnds(t *testing.T) {
	t.Parallel()
	for _, stage := range []UpgradeStage{UpgradeStarting, UpgradeMoved} {
		t.Run("interrupted while "+string(stage), func(t *testing.T) {
			t.Parallel()
			h := newTestHost(t, nil)
			s := h.sink(t, "a", `{}`, SinkOptions{})
			before := pidOf(t, s)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := UpgradeOptions{Trial: 20 * time.Second}
			o.Progress = func(p UpgradeProgress) {
				if p.Stage == stage {
					cancel()
				}
			}
			if _, err := h.Upgrade(ctx, core.PluginSink, "odd", newer(t, "next"), o); !errors.Is(err, context.Canceled) {
				t.Errorf("upgrade: %v", err)
			}
			if pidOf(t, s) != before {
				t.Error("calls go elsewhere")
			}
		})
		t.Run("host closed while "+string(stage), func(t *testing.T) {
			t.Parallel()
			h := newTestHost(t, nil)
			s := h.sink(t, "a", `{}`, SinkOptions{})
			pidOf(t, s)
			var closing sync.WaitGroup
			o := UpgradeOptions{Trial: 20 * time.Second}
			o.Progress = func(p UpgradeProgress) {
				if p.Stage == stage {
					closing.Go(func() {
						if err := h.Close(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
			}
			if u, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), o); err == nil {
				t.Errorf("upgrade: %+v", u)
			}
			closing.Wait()
			if _, err := h.Upgrade(t.Context(), core.PluginSink, "odd", oddBinary, o); !errors.Is(err, ErrNotReady) {
				t.Errorf("upgrade in a closed host: %v", err)
			}
		})
	}
	t.Run("block closed meanwhile", func(t *testing.T) {
		t.Parallel()
		h := newTestHost(t, nil)
		a, b := h.sink(t, "a", `{}`, SinkOptions{}), h.sink(t, "b", `{}`, SinkOptions{Isolated: true})
		o := quick()
		o.Progress = func(p UpgradeProgress) {
			var err error
			switch {
			case p.Stage == UpgradeStarting:
				err = a.Close(t.Context())
			case p.Stage == UpgradeMoved:
				err = b.Close(t.Context())
				if _, second := h.Upgrade(t.Context(), core.PluginSink, "odd", oddBinary, o); !errors.Is(second, ErrUpgrading) {
					t.Errorf("a second upgrade at the same time: %v", second)
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), o); err != nil {
			t.Error(err)
		}
		eventually(t, 10*time.Second, "no process is left", func() bool { return len(h.Status()) == 0 })
	})
}

// TestUpgradeUnderLoad has callers at work while versions change to and fro: none of them sees anything of it.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	s := h.sink(t, "a", `{}`, SinkOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var mu sync.Mutex
	delivered, repeated := 0, 0
	for range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				d := do("sleep:1ms")
				for {
					out, err := s.Deliver(t.Context(), []*core.Delivery{d})
					if err == nil && out[0].Kind == sdk.Delivered {
						break
					}
					if err != nil && !errors.Is(err, ErrNotReady) {
						t.Error(err)
						return
					}
					mu.Lock()
					repeated++
					mu.Unlock()
					if err := s.WaitReady(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
				mu.Lock()
				delivered++
				mu.Unlock()
			}
		})
	}
	for n := range 4 {
		path := oddBinary
		if n%2 == 0 {
			path = newer(t, "next")
		}
		if _, err := h.Upgrade(t.Context(), core.PluginSink, "odd", path, quick()); err != nil {
			t.Error(err)
		}
	}
	cancel()
	callers.Wait()
	if delivered == 0 || repeated > 0 {
		t.Errorf("%d delivered, %d calls repeated: an upgrade that works disturbs no call", delivered, repeated)
	}
}

// TestUpgradeOfBrokenBlock upgrades a plugin one of whose blocks is not open: that is no reason against the new version.
func TestUpgradeOfBrokenBlock(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	a, down := h.sink(t, "a", `{}`, SinkOptions{}), h.sink(t, "down", `{"open":"unavailable"}`, SinkOptions{Isolated: true})
	refused := h.sink(t, "refused", `{"open":"attribute"}`, SinkOptions{Wait: true})
	u, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), quick())
	var misfit *RefusedError
	if !errors.As(err, &misfit) || !slices.Equal(misfit.Names(), []string{"refused"}) {
		t.Errorf("with a configuration that the plugin does not validate: %+v, %v", u, err)
	}
	if err := refused.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if u, err = h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, "next"), quick()); err != nil || len(u.Blocks) != 2 {
		t.Errorf("with a far end that is down: %+v, %v", u, err)
	}
	if why := down.Reason(); why != "far end is down" {
		t.Errorf("the block that is down: %q", why)
	}
	pidOf(t, a)
}

// TestUpgradeOfDevelopment has build after build of a program: nothing is kept of those that run no more.
func TestUpgradeOfDevelopment(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	h := newTestHost(t, func(o *Options) { o.CacheDir = cache })
	s := h.sink(t, "a", `{}`, SinkOptions{})
	kept := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		files, _ := filepath.Glob(filepath.Join(h.run.path, "*.*")) // copies of programs
		if len(h.binaries) != len(h.lanes) {
			t.Errorf("%d binaries, %d lanes", len(h.binaries), len(h.lanes))
		}
		return len(h.binaries) + len(h.infos) + len(files)
	}
	program, err := os.ReadFile(nextBinary)
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for n := range 4 {
		path := filepath.Join(t.TempDir(), "build")
		if err := os.WriteFile(path, append(program, byte(n)), 0o700); err != nil {
			t.Fatal(err)
		}
		o := quick()
		o.Dev = true
		u, err := h.Upgrade(t.Context(), core.PluginSink, "odd", path, o)
		if err != nil || !u.To.Dev {
			t.Fatalf("%+v, %v", u, err)
		}
		if err := os.Remove(path); err != nil { // The host has a copy.
			t.Fatal(err)
		}
		if n == 0 {
			most = kept()
		}
		deliver(t, s, "crash") // It is started again from the copy.
		pidOf(t, s)
	}
	// What was not even tried, or taken back, is forgotten as well.
	for _, variant := range []string{"message", "refuses"} {
		o := quick()
		o.Dev = true
		if u, err := h.Upgrade(t.Context(), core.PluginSink, "odd", newer(t, variant), o); err == nil {
			t.Errorf("%s: %+v", variant, u)
		}
	}
	eventually(t, 10*time.Second, "old builds are forgotten", func() bool { return kept() == most })
	if files, _ := os.ReadDir(cache); len(files) != 1 {
		t.Errorf("descriptions on disk: %v", files)
	}
}
