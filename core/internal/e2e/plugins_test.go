//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// TestPluginsKilled kills the decoder's and the sink's process under load. The host answers every request meanwhile.
func TestPluginsKilled(t *testing.T) {
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	h.Start()
	l := h.StartLoad(harness.LoadOptions{})
	names := []string{"decoder-youforce", "sink-file"}
	const rounds = 2 // a third crash within a minute would make the plugin wait for its slow probe
	for round := range rounds {
		for i, name := range names {
			l.WaitAccepted(int64(1000*(round*len(names)+i)+500), 30*time.Second)
			old := h.Plugin(name)
			harness.Process{PID: old.PID}.Kill()
			h.Eventually(10*time.Second, name+" is back", func() bool {
				p := h.Plugin(name)
				return p.State == "ready" && p.PID != old.PID && p.Restarts == round+1
			})
		}
	}
	accepted := l.Accepted()
	l.WaitAccepted(accepted+500, 30*time.Second)
	l.Stop()
	h.WaitSettled(30 * time.Second)
	found := l.Verify(h.Lines("out/events.jsonl"))
	t.Logf("%d kills of each plugin: %s", rounds, found)
	check(t, found)
	if l.Unanswered() > 0 || l.Refused() > 0 {
		t.Errorf("the host did not accept everything: %d without answer, answers %v", l.Unanswered(), l.Statuses())
	}
	for _, name := range names {
		if p := h.Plugin(name); p.LastCrash == "" {
			t.Errorf("the status of %s does not say that it crashed", name)
		}
	}
	h.Stop()
}

// trial is a configuration with the sink of testdata/sink-trial beside a file sink.
const trial = harness.YouforceSource + `
sink "trial" "trial" {
  file     = "trial.jsonl"
  switches = "switches"
  delivery {
    timeout = "2s"
    retry {
      min = "50ms"
      max = "200ms"
    }
  }
}
sink "file" "out" {
  dir = "out"
}
route "trial" {
  to "trial" "trial" {
    do = event.subject == "employment/poison" ? "crash" : null
  }
}
route "all" {
  to "file" "out" {}
}
`

// turn makes or removes a switch of the trial plugins.
func turn(t *testing.T, h *harness.Host, name string, on bool) {
	t.Helper()
	err := os.MkdirAll(h.Path("switches"), 0o700)
	if err == nil {
		if path := h.Path("switches/" + name); on {
			err = os.WriteFile(path, nil, 0o600)
		} else {
			err = os.Remove(path)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPoisonedSink has one delivery in ten thousand kill the sink's process whenever it is delivered.
func TestPoisonedSink(t *testing.T) {
	h := programs.NewHost(t, harness.Options{Config: trial})
	turn(t, h, "crash", true)
	h.Start()
	const events = 10_000
	l := h.StartLoad(harness.LoadOptions{Limit: events - 1, Conns: 64})
	l.WaitAccepted(events/2, 30*time.Second)
	h.MustPost(harness.Youforce("hr", "poison", 1))
	l.Wait()
	h.WaitSettled(30 * time.Second)

	found := l.Verify(h.Lines("trial.jsonl"))
	t.Log(found)
	check(t, found)
	check(t, l.Verify(h.Lines("out/events.jsonl")))
	delivered, dead := h.Count("trial", core.DeliveryDelivered), h.Count("trial", core.DeliveryDead)
	if delivered != events-1 || dead != 1 {
		t.Fatalf("%d delivered and %d dead letters, want %d and 1", delivered, dead, events-1)
	}
	page, err := h.Control.Deliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryDead})
	if err != nil {
		t.Fatal(err)
	}
	d := page.Items[0]
	if d.Subject != "employment/poison" || d.Crashes != 3 ||
		!strings.Contains(d.Reason, "these are the last words of the sink") {
		t.Errorf("the dead letter is %+v", d)
	}
	if p := h.Plugin("sink-trial"); p.State != "ready" {
		t.Errorf("the plugin is %s", p.State)
	}

	turn(t, h, "crash", false)
	h.MustRun("deliveries", "retry", d.ID)
	h.WaitSettled(10 * time.Second)
	lines := h.Lines("trial.jsonl")
	if last := lines[len(lines)-1]; last.DeliveryID != d.ID {
		t.Errorf("the last line is of %s, want %s", last.DeliveryID, d.ID)
	}
	h.Stop()
}

// TestPoisonedDecoder has one request kill the decoder's process.
func TestPoisonedDecoder(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: `
source "trial" "things" {
  auth     = "none"
  switches = "switches"
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`})
	turn(t, h, "crash", true)
	h.Start()
	const n = 200
	for i := range n {
		do := ""
		if i == n/2 {
			do = "crash"
		}
		h.MustPost(harness.NewPost("/hooks/things", fmt.Appendf(nil, `{"key":"%d","number":%d,"do":%q}`, i%7, i, do)))
	}
	h.WaitSettled(30 * time.Second)
	lines := h.Lines("out/events.jsonl")
	if len(lines) != n-1 {
		t.Errorf("%d lines, want %d", len(lines), n-1)
	}
	page, err := h.Control.Requests(t.Context(), store.RequestFilter{State: core.RequestDead})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || !strings.Contains(page.Items[0].Reason, "these are the last words of the decoder") {
		t.Fatalf("dead requests: %+v", page.Items)
	}
	id := page.Items[0].ID
	var shown struct{ Body, Reason string }
	if err := json.Unmarshal([]byte(h.MustRun("requests", "show", id)), &shown); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(shown.Body, `"do":"crash"`) || shown.Reason != page.Items[0].Reason {
		t.Errorf("requests show: %+v", shown)
	}

	turn(t, h, "crash", false)
	h.MustRun("requests", "retry", id)
	h.Eventually(10*time.Second, "the retried request is at the sink", func() bool {
		return slices.ContainsFunc(h.Lines("out/events.jsonl"), func(l harness.Line) bool { return l.Data.Number == n/2 })
	})
	h.Stop()
}

// TestHangingSink has a sink that never answers beside one that does: the live one gets everything at once, and the
// other one when it answers again.
func TestHangingSink(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: trial})
	turn(t, h, "hang", true)
	h.Start()
	const events = 6000 // more than a sink's window in memory
	l := h.StartLoad(harness.LoadOptions{Limit: events, Conns: 64})
	l.Wait()
	h.Eventually(10*time.Second, "the live sink has everything", func() bool {
		return h.Count("out", core.DeliveryDelivered) == l.Accepted()
	})
	if n := h.Count("trial", core.DeliveryDelivered); n > 0 {
		t.Errorf("the sink that hangs delivered %d", n)
	}
	check(t, l.Verify(h.Lines("out/events.jsonl")))
	h.Eventually(10*time.Second, "a call to the hanging sink runs into its timeout", func() bool {
		return strings.Contains(h.Log(), "delivery attempted")
	})
	turn(t, h, "hang", false)
	h.WaitSettled(30 * time.Second)
	found := l.Verify(h.Lines("trial.jsonl"))
	t.Log(found)
	check(t, found)
	if dead := h.Count("trial", core.DeliveryDead); dead > 0 {
		t.Errorf("%d dead letters", dead)
	}
	h.Stop()
}

// TestFailingSink has a sink fail beside one that works, and be paused and resumed by hand.
func TestFailingSink(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: trial})
	turn(t, h, "down", true)
	h.Start()
	state := func() string {
		for _, s := range h.Status().Sinks {
			if s.Sink == "trial" {
				return s.State
			}
		}
		return ""
	}
	const events = 1000
	l := h.StartLoad(harness.LoadOptions{Limit: events})
	l.Wait()
	h.Eventually(30*time.Second, "the sink is left alone", func() bool { return state() == "failing" })
	h.Eventually(30*time.Second, "the other has everything", func() bool { return h.Count("out", core.DeliveryDelivered) == l.Accepted() })
	h.MustRun("sinks", "pause", "trial", "--reason", "it is being mended")
	turn(t, h, "down", false)
	h.Restart()
	if out := h.MustRun("status"); state() != "paused" || !strings.Contains(out, "it is being mended") {
		t.Errorf("after a restart it is %s:\n%s", state(), out)
	}
	if n := h.Count("trial", core.DeliveryDelivered); n != 0 {
		t.Errorf("%d delivered to a paused sink", n)
	}
	h.MustRun("sinks", "resume", "trial")
	h.WaitSettled(30 * time.Second)
	if state() != "working" {
		t.Errorf("in the end it is %s", state())
	}
	found := l.Verify(h.Lines("trial.jsonl"))
	t.Log(found)
	check(t, found)
	h.Stop()
}
