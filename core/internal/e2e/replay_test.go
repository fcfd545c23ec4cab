//go:build unix

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

var replayLetters = flag.Int("replay.letters", 2000, "how many dead letters TestReplay replays")

// TestReplay has a route say what its sink rejects, mends it, and replays the dead letters of the time in between: a dry
// run gives their number, an interrupted replay is repeated, and each is delivered once, as the mended route says it,
// under an id of its own, in the order of its key. Webhooks are accepted meanwhile.
func TestReplay(t *testing.T) {
	t.Parallel()
	wrong := strings.Replace(trial, `event.subject == "employment/poison" ? "crash" : null`, `"reject"`, 1)
	h := programs.NewHost(t, harness.Options{Config: wrong})
	h.Start()
	letters := *replayLetters
	h.StartLoad(harness.LoadOptions{Limit: letters / 10, Name: "before"}).Wait()
	since := time.Now()
	l := h.StartLoad(harness.LoadOptions{Limit: letters})
	l.Wait()
	until := time.Now()
	h.StartLoad(harness.LoadOptions{Limit: letters / 10, Name: "after"}).Wait()
	h.WaitSettled(2 * time.Minute)
	if n := h.Count("trial", core.DeliveryDead); n != int64(letters+2*(letters/10)) {
		t.Fatalf("%d dead letters", n)
	}
	h.Stop()
	h.Configure(trial)
	h.Start()

	filter := []string{
		"--sink", "trial", "--route", "trial", "--type", "youforce.*",
		"--since", since.Format(time.RFC3339Nano), "--until", until.Format(time.RFC3339Nano),
	}
	command := func(more ...string) []string {
		return slices.Concat([]string{"deliveries", "replay"}, filter, more)
	}
	all := fmt.Sprintf("%d of %[1]d deliveries ", letters)
	if out := h.MustRun(command("--dry-run")...); !strings.HasPrefix(out, all+"would be replayed\n") {
		t.Fatalf("the dry run says\n%s", out)
	}

	slowest := watchAccepts(t, h)
	order := admin.DeliveryOrder{Filter: store.DeliveryFilter{
		Sink: "trial", Route: "trial", Type: "youforce.*", Since: since, Until: until,
	}}
	ctx, cancel := context.WithCancel(t.Context())
	interrupted, err := h.Control.ReplayDeliveries(ctx, order, func(r admin.Report) {
		if r.Progress != nil && r.Progress.Seen >= letters/5 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || interrupted.Selected != letters || interrupted.Done == letters {
		t.Fatalf("interrupted: %+v, %v", interrupted, err)
	}
	started, progress := time.Now(), 0
	rest, err := h.Control.ReplayDeliveries(t.Context(), order, func(r admin.Report) {
		if r.Progress != nil {
			progress++
		}
	})
	if err != nil || rest.Dead+rest.Skipped > 0 || rest.Done+rest.Refused != rest.Selected {
		t.Fatalf("%+v, %v", rest, err)
	}
	took := time.Since(started)
	accepts := slowest()
	if progress < rest.Selected/1000 {
		t.Errorf("%d times progress for %d letters", progress, rest.Selected)
	}
	h.WaitSettled(2 * time.Minute)
	t.Logf("%d of %d replayed, then %d in %s (%.0f/s); accepts meanwhile: %s",
		interrupted.Done, letters, rest.Done, took.Round(time.Millisecond), float64(rest.Done)/took.Seconds(), accepts)
	if out := h.MustRun(command("--dry-run")...); !strings.HasPrefix(out, "0 of 0 deliveries ") {
		t.Errorf("a dry run afterwards says\n%s", out)
	}

	lines := h.Lines("trial.jsonl")
	found := l.Verify(lines)
	if found.Lines != letters || found.Lost+found.Repeats+found.Disorder > 0 {
		t.Errorf("at the sink: %s", found)
	}
	if n := h.Count("trial", core.DeliveryDead); n != int64(2*(letters/10)) {
		t.Errorf("%d are still dead", n)
	}
	delivered := map[string]bool{}
	for _, line := range lines {
		if delivered[line.DeliveryID] {
			t.Errorf("%s was delivered twice", line.DeliveryID)
		}
		delivered[line.DeliveryID] = true
	}
	linked := 0
	for cursor := ""; ; {
		page, err := h.Control.Deliveries(t.Context(),
			store.DeliveryFilter{Sink: "trial", State: core.DeliverySkipped, Cursor: cursor, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Items {
			if linked++; delivered[d.ID] || !delivered[d.ReplayedBy] || !strings.Contains(d.Reason, "it was dead: trial: it does not") {
				t.Fatalf("a dead letter that was replayed: %+v", d)
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if linked != letters {
		t.Errorf("%d dead letters have a replay", linked)
	}
	h.Stop()
}

// watchAccepts posts a webhook every few milliseconds until the returned function is called, which says how long they took.
func watchAccepts(t *testing.T, h *harness.Host) func() string {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []time.Duration)
	go func() {
		var took []time.Duration
		for i := 0; ctx.Err() == nil; i++ {
			started := time.Now()
			if a, err := h.Post(harness.Youforce("hr", "meanwhile", i)); err != nil || a.Status/100 != 2 {
				t.Errorf("a webhook during the replay: %+v, %v", a, err)
			}
			took = append(took, time.Since(started))
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
		done <- took
	}()
	return func() string {
		cancel()
		took := <-done
		slices.Sort(took)
		return fmt.Sprintf("%d, median %s, p99 %s, longest %s", len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	}
}
