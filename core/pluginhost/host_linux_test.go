package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

func TestPluginsAreTheFirstVictims(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, nil)
	s := h.sink(t, "a", "", SinkOptions{})
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", h.pid(t, core.PluginSink)))
	if err != nil || strings.TrimSpace(string(score)) != "500" {
		t.Errorf("oom_score_adj %s, %v", score, err)
	}
	if rss := h.Status()[0].RSS; rss < 1<<20 {
		t.Errorf("%d bytes in RAM", rss)
	}
	eventually(t, 10*time.Second, "it has used a processor", func() bool {
		deliver(t, s, "")
		return h.Status()[0].CPU > 0
	})
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, func(o *Options) { o.MemoryLimit, o.MemoryPoll = 80<<20, 50*time.Millisecond })
	s := h.sink(t, "a", "", SinkOptions{})
	pid := h.pid(t, core.PluginSink)
	if got := kinds(deliver(t, s, "leak:90")); got != "delivered" {
		t.Errorf("outcome %s", got)
	}
	eventually(t, 5*time.Second, "the process is replaced", func() bool { return !alive(pid) })
	if got := kinds(deliver(t, s, "")); got != "delivered" {
		t.Errorf("outcome %s", got)
	}
	if !h.Status()[0].LastCrash.At.IsZero() {
		t.Error("a replacement counts as a crash")
	}
	// Far above the limit there is no time to drain; alone in quarantine it is the delivery's own fault.
	if err := s.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Deliver(t.Context(), []*core.Delivery{do("leak_wait:200")}); err != nil || kinds(out) != "crashed" ||
		!strings.Contains(out[0].Reason, "MiB of memory, its limit is 80 MiB") {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestUpgradeAndMemoryLimit has the new version use too much memory during its trial: it is replaced by a fresh process, as
// at any time, which is no reason to go back.
func TestUpgradeAndMemoryLimit(t *testing.T) {
	t.Parallel()
	h := newTestHost(t, func(o *Options) { o.MemoryLimit, o.MemoryPoll = 80<<20, 20*time.Millisecond })
	s := h.sink(t, "a", "", SinkOptions{})
	o := UpgradeOptions{Trial: time.Minute}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(p UpgradeProgress) {
		if p.Stage != UpgradeMoved {
			return
		}
		first := deliver(t, s, "leak:90")[0].Reference
		eventually(t, 10*time.Second, "the process is replaced", func() bool {
			out, err := s.Deliver(t.Context(), []*core.Delivery{do("")})
			return err == nil && out[0].Reference != first
		})
		for _, p := range h.Status() {
			if p.Version == "2.0.0" && (p.State != Ready || p.Restarts != 1) {
				t.Errorf("the new version is %+v", p)
			}
		}
		cancel() // It was on trial until now.
	}
	if _, err := h.Upgrade(ctx, core.PluginSink, "odd", newer(t, "next"), o); !errors.Is(err, context.Canceled) {
		t.Errorf("upgrade: %v", err)
	}
	pidOf(t, s)
}
