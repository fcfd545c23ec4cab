//go:build unix

package e2e

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

var (
	upgradeRate   = flag.Int("upgrade.rate", 1000, "events per second of TestUpgradeUnderLoad")
	upgradeRounds = flag.Int("upgrade.rounds", 1, "how often it upgrades each plugin")
	upgradeTrial  = flag.Duration("upgrade.trial", 300*time.Millisecond, "how long each version is on trial")
)

// upgraded is a configuration whose trial sink takes both its time and the moments when it gets something.
const upgraded = harness.YouforceSource + `
sink "trial" "trial" {
  file     = "trial.jsonl"
  switches = "switches"
  delivery {
    concurrency = 16
  }
}
sink "trial" "alone" {
  file     = "alone.jsonl"
  switches = "switches"
  isolated = true
  delivery {
    concurrency = 16
  }
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "trial" "trial" {}
  to "trial" "alone" {}
  to "file" "out" {}
}
`

// another makes another program of a plugin, the same but for its hash, in a file of that name. Trial plugins read from the
// name how they fail.
func another(t *testing.T, plugin, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(programs.PluginDir(t), "grapnel-"+plugin))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, append(b, name...), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUpgradeUnderLoad swaps sinks, shared and isolated, and the decoder to and fro under load: everything comes, in order,
// and at once.
func TestUpgradeUnderLoad(t *testing.T) {
	h := programs.NewHost(t, harness.Options{Config: upgraded})
	h.Start()
	l := h.StartLoad(harness.LoadOptions{Rate: *upgradeRate, Conns: 16})
	l.WaitAccepted(int64(*upgradeRate/2), time.Minute)
	started := time.Now()
	type span struct {
		plugin   string
		from, to time.Time
	}
	var spans []span
	installed := programs.PluginDir(t)
	for round := range *upgradeRounds {
		for _, plugin := range []string{"sink-trial", "decoder-youforce", "sink-file"} {
			next := another(t, plugin, "next")
			if round%2 == 1 {
				next = filepath.Join(installed, "grapnel-"+plugin)
			}
			before := h.Plugin(plugin).PID
			s := span{plugin: plugin, from: time.Now()}
			out := h.MustRun("plugin", "upgrade", plugin, next, "--trial", upgradeTrial.String())
			s.to = time.Now()
			spans = append(spans, s)
			if !strings.HasPrefix(out, plugin+" runs version ") || h.Plugin(plugin).PID == before {
				t.Errorf("upgrade of %s: %s", plugin, out)
			}
		}
	}
	l.WaitAccepted(l.Accepted()+int64(*upgradeRate/2), time.Minute)
	l.Stop()
	ended := time.Now()
	h.WaitSettled(time.Minute)
	for _, file := range []string{"trial.jsonl", "alone.jsonl", "out/events.jsonl"} {
		found := l.Verify(h.Lines(file))
		t.Logf("%s: %s", file, found)
		check(t, found)
		if found.Repeats > 0 {
			t.Errorf("%s: %d repeats, though nothing died", file, found.Repeats)
		}
	}
	for _, sink := range []string{"trial", "alone"} {
		at := arrivals(t, h, sink+".jsonl")
		quiet := longestPause(at, started.Add(-time.Second/2), started)
		for _, s := range spans {
			t.Logf("%s: longest pause while %s was upgraded in %s: %s", sink, s.plugin, s.to.Sub(s.from).Round(time.Millisecond),
				longestPause(at, s.from, s.to))
		}
		t.Logf("%s: longest pause before: %s, in all: %s, at %d events/s", sink, quiet, longestPause(at, started, ended), *upgradeRate)
	}
	if l.Unanswered() > 0 || l.Refused() > 0 {
		t.Errorf("the host did not accept everything: %d without answer, answers %v", l.Unanswered(), l.Statuses())
	}
	if n := strings.Count(h.Log(), "is not available"); n > 0 {
		t.Errorf("%d calls found no plugin", n)
	}
	h.Stop()
}

// arrivals are the moments of a trial sink's lines.
func arrivals(t *testing.T, h *harness.Host, file string) []time.Time {
	t.Helper()
	var all []time.Time
	for _, l := range h.Lines(file) {
		var at struct{ At int64 }
		if err := json.Unmarshal(l.Raw, &at); err != nil {
			t.Fatal(err)
		}
		all = append(all, time.UnixMicro(at.At))
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// longestPause is the longest time between two moments within a span.
func longestPause(at []time.Time, from, to time.Time) time.Duration {
	var longest time.Duration
	for i := 1; i < len(at); i++ {
		if at[i].After(from) && at[i-1].Before(to) {
			longest = max(longest, at[i].Sub(at[i-1]))
		}
	}
	return longest
}

// TestUpgradeTakenBack has new versions of a sink fail under load, in all ways. The old one goes on and nobody is charged.
func TestUpgradeTakenBack(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: upgraded})
	h.Start()
	before := h.Plugin("sink-trial").PID
	l := h.StartLoad(harness.LoadOptions{Rate: 500})
	l.WaitAccepted(100, time.Minute)
	for _, fault := range []struct{ name, reason string }{
		{"nostart", "trial: this version does not start"},
		{"noopen", `taken back, the old version goes on: the new version does not open "alone": trial: this version opens nothing`},
		{"dies", "taken back, the old version goes on: the new version died: "},
	} {
		_, stderr, err := h.Run("plugin", "upgrade", "trial", another(t, "sink-trial", fault.name), "--trial", "20s")
		if err == nil || !strings.Contains(stderr, fault.reason) {
			t.Errorf("%s: %v, %s", fault.name, err, stderr)
		}
	}
	out, stderr, err := h.Run("plugin", "upgrade", "sink-trial", another(t, "sink-trial", "dies"), "--trial", "20s", "--json")
	if err == nil || stderr != "" || !strings.Contains(out, `"progress":{"stage":"moved","done":2,"total":2}`) ||
		!strings.Contains(out, `"rolled_back":true`) || !strings.Contains(out, "these are the last words of the sink") {
		t.Errorf("as JSON: %v, %s%s", err, out, stderr)
	}
	l.WaitAccepted(l.Accepted()+100, time.Minute)
	l.Stop()
	h.WaitSettled(time.Minute)
	for _, file := range []string{"trial.jsonl", "alone.jsonl"} {
		found := l.Verify(h.Lines(file))
		t.Logf("%s: %s", file, found)
		check(t, found)
	}
	if dead := h.Count("trial", core.DeliveryDead) + h.Count("alone", core.DeliveryDead); dead > 0 {
		t.Errorf("%d dead letters", dead)
	}
	if pid := h.Plugin("sink-trial").PID; pid != before {
		t.Errorf("the sink's process is %d, before %d", pid, before)
	}
	h.Eventually(10*time.Second, "only the old version's processes are left", func() bool { return len(h.Plugins()) == 4 })
	h.Stop()
}

// TestUpgradeAndHostKilled kills the host while both versions run. The next one runs what is installed.
func TestUpgradeAndHostKilled(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: upgraded})
	h.Start()
	l := h.StartLoad(harness.LoadOptions{Rate: 500})
	l.WaitAccepted(100, time.Minute)
	next := another(t, "sink-trial", "next")
	var upgrade sync.WaitGroup
	for _, stage := range []string{"plugin is upgraded", "plugin process is ready"} {
		n := strings.Count(h.Log(), stage)
		upgrade.Go(func() {
			if _, stderr, err := h.Run("plugin", "upgrade", "trial", next, "--trial", "20s"); err == nil ||
				!strings.Contains(stderr, "the host went away") {
				t.Errorf("the upgrade's end: %v, %s", err, stderr)
			}
		})
		h.Eventually(30*time.Second, stage, func() bool { return strings.Count(h.Log(), stage) > n })
		h.Kill()
		upgrade.Wait()
		h.Start()
		l.WaitAccepted(l.Accepted()+100, time.Minute)
	}
	l.Stop()
	h.WaitSettled(time.Minute)
	for _, file := range []string{"trial.jsonl", "alone.jsonl", "out/events.jsonl"} {
		found := l.Verify(h.Lines(file))
		t.Logf("%s: %s", file, found)
		check(t, found)
	}
	if out := h.MustRun("plugin", "upgrade", "trial"); !strings.Contains(out, "already, "+programs.PluginDir(t)) {
		t.Errorf("after the restarts: %s", out)
	}
	h.Eventually(10*time.Second, "nothing of the killed hosts is left", func() bool { return left(h) == "" })
	h.Stop()
}
