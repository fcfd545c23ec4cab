//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestGracefulStop stops the host under load.
func TestGracefulStop(t *testing.T) {
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	h.Start()
	l := h.StartLoad(harness.LoadOptions{})
	l.WaitAccepted(1500, 30*time.Second)
	started := time.Now()
	h.Terminate()
	if err := h.Wait(10 * time.Second); err != nil {
		t.Errorf("the host ended with %v", err)
	}
	t.Logf("stopped in %s", time.Since(started).Round(time.Millisecond))
	l.Stop()
	if left := h.Plugins(); len(left) > 0 {
		t.Errorf("plugins outlived the host: %v", left)
	}
	if left := h.RunFolders(); len(left) > 0 {
		t.Errorf("run folders are left: %v", left)
	}
	socket, err := admin.SocketPath(h.Path("data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
	// A provider sees 2xx, 503 or a connection that ends.
	for status := range l.Statuses() {
		if status/100 != 2 && status != 503 {
			t.Errorf("answers by status: %v", l.Statuses())
		}
	}
	// A stop loses no connection after it read the request: whoever got no answer was not accepted.
	h.Start()
	h.WaitSettled(10 * time.Second)
	found := l.Verify(h.Lines("out/events.jsonl"))
	t.Logf("%s; answers by status: %v", found, l.Statuses())
	check(t, found)
	if found.Unasked > 0 {
		t.Errorf("%d events were accepted without an answer", found.Unasked)
	}
	h.Stop()
}

// TestStopWithHangingSink stops a host whose sink does not answer: it ends when its time is over, and the deliveries
// wait.
func TestStopWithHangingSink(t *testing.T) {
	t.Parallel()
	patient := strings.Replace(trial, `timeout = "2s"`, `timeout = "30s"`, 1)
	h := programs.NewHost(t, harness.Options{Config: patient, Server: `shutdown_timeout = "1s"`})
	turn(t, h, "hang", true)
	h.Start()
	l := h.StartLoad(harness.LoadOptions{Limit: 200})
	l.Wait()
	h.Eventually(10*time.Second, "the sink is in calls", func() bool {
		return h.Count("out", core.DeliveryDelivered) == 200 && len(h.Status().Sinks) == 2
	})
	started := time.Now()
	h.Terminate()
	if err := h.Wait(10 * time.Second); err != nil {
		t.Errorf("the host ended with %v", err)
	}
	took := time.Since(started)
	t.Logf("stopped in %s", took.Round(time.Millisecond))
	if took > 5*time.Second {
		t.Errorf("the host took %s to stop, with shutdown_timeout = 1s", took)
	}
	if left := h.Plugins(); len(left) > 0 {
		t.Errorf("plugins outlived the host: %v", left)
	}
	turn(t, h, "hang", false)
	h.Start()
	h.WaitSettled(10 * time.Second)
	found := l.Verify(h.Lines("trial.jsonl"))
	t.Log(found)
	check(t, found)
	h.Stop()
}

// TestSecondHost starts a second host on the data folder of one that runs.
func TestSecondHost(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	h.Start()
	out, errOut, err := h.Run("run")
	if err == nil {
		t.Fatal("a second host runs on the same data folder")
	}
	want := fmt.Sprintf("the data folder is in use by another grapnel: %s is held by process %d",
		h.Path("data/grapnel.lock"), h.PID())
	if !strings.Contains(errOut, want) {
		t.Errorf("the second host says:\n%s%s", out, errOut)
	}
	// The first one is not disturbed.
	h.MustPost(harness.Youforce("hr", "k", 1))
	h.WaitSettled(10 * time.Second)
	if lines := h.Lines("out/events.jsonl"); len(lines) != 1 {
		t.Errorf("%d lines, want 1", len(lines))
	}
	h.Stop()
}

// TestBacklog kills a host whose sink is dead while tens of thousands of deliveries wait, and starts it with a sink
// that works.
func TestBacklog(t *testing.T) {
	h := programs.NewHost(t, harness.Options{Config: trial})
	turn(t, h, "down", true)
	h.Start()
	l := h.StartLoad(harness.LoadOptions{Limit: 1000, Name: "a"})
	l.Wait()
	turn(t, h, "hang", true) // first some that failed, then all those that were never tried
	const events = 20_000
	more := h.StartLoad(harness.LoadOptions{Limit: events, Conns: 64, Name: "b"})
	more.Wait()
	h.Kill()
	h.Eventually(5*time.Second, "no plugin outlives the host, not even in a call", func() bool {
		return len(h.Plugins()) == 0
	})
	turn(t, h, "down", false)
	turn(t, h, "hang", false)
	started := time.Now()
	h.Start()
	h.WaitSettled(time.Minute)
	took := time.Since(started)
	lines := h.Lines("trial.jsonl")
	for _, l := range []*harness.Load{l, more} {
		check(t, l.Verify(lines))
	}
	t.Logf("%d deliveries in %s after the start: %s", len(lines), took.Round(time.Millisecond), more.Verify(lines))
	if dead := h.Count("trial", core.DeliveryDead); dead > 0 {
		t.Errorf("%d dead letters", dead)
	}
	h.Stop()
}
