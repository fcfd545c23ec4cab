//go:build unix

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

var (
	crashKills  = flag.Int("crash.kills", 5, "how often TestHostKilled kills the host")
	crashEvents = flag.Int("crash.events", 8000, "how many accepted events TestHostKilled goes on for")
	httpKills   = flag.Int("crash.http.kills", 3, "the same of TestHostKilledHTTP")
	httpEvents  = flag.Int("crash.http.events", 3000, "the same of TestHostKilledHTTP")

	orderKeys  = flag.Int("order.keys", 32, "order keys of TestOrderAmongFailures, a multiple of 4")
	orderEach  = flag.Int("order.each", 100, "its events per key, about")
	orderKills = flag.Int("order.kills", 2, "how often it kills the host")
)

// TestHostKilled kills the host at random moments under load, its starts included, and starts it again. Whatever got
// 2xx must be at the sink, in order per key, and nothing of a killed host may stay.
func TestHostKilled(t *testing.T) {
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	killHost(t, h, *crashKills, *crashEvents, func() []harness.Line { return h.Lines("out/events.jsonl") })
}

// TestHostKilledHTTP is TestHostKilled with an HTTP endpoint that is not always up.
func TestHostKilledHTTP(t *testing.T) {
	var mu sync.Mutex
	var lines []harness.Line
	e := harness.NewEndpoint(t)
	e.Answer = func(r *http.Request, body []byte) int {
		var l harness.Line
		if err := json.Unmarshal(body, &l); err != nil || r.Header.Get("Webhook-Id") != l.DeliveryID {
			t.Errorf("webhook-id %s, %v in %s", r.Header.Get("Webhook-Id"), err, body)
		}
		if rand.IntN(500) == 0 {
			return http.StatusServiceUnavailable
		}
		mu.Lock()
		lines = append(lines, l)
		mu.Unlock()
		return http.StatusNoContent
	}
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + `
sink "http" "out" {
  url           = "` + e.URL + `"
  allow_private = true
  delivery {
    retry {
      min = "10ms"
    }
  }
}
route "all" {
  to "http" "out" {}
}
`})
	killHost(t, h, *httpKills, *httpEvents, func() []harness.Line {
		mu.Lock()
		defer mu.Unlock()
		return lines
	})
}

// killHost has a host under load, kills it again and again, and checks what came to its sink.
func killHost(t *testing.T, h *harness.Host, kills, events int, lines func() []harness.Line) {
	t.Helper()
	h.Start()
	started := time.Now()
	l := h.StartLoad(harness.LoadOptions{Conns: 16})
	inStart := 0
	for kill := range kills {
		if rand.IntN(4) == 0 && kill > 0 {
			// While it starts: once more, before it is ready.
			time.Sleep(rand.N(250 * time.Millisecond))
			h.Kill()
			h.Launch()
			inStart++
		}
		h.WaitReady()
		share := int64(events / kills)
		l.WaitAccepted(int64(kill)*share+rand.Int64N(share), time.Minute)
		time.Sleep(rand.N(20 * time.Millisecond))
		h.Kill()
		killed := time.Now()
		if kill%2 == 0 {
			// The plugins end by themselves; the others are met by the next host.
			h.Eventually(5*time.Second, "no plugin outlives the host", func() bool { return len(h.Plugins()) == 0 })
		}
		if kill == 0 {
			// The socket is there and nobody listens: the command line reads the store itself.
			if out := h.MustRun("status", "--json"); !strings.Contains(out, `"running":false`) {
				t.Errorf("status of a killed host: %s", out)
			}
			killed = time.Now()
		}
		h.Launch()
		for left(h) != "" {
			if time.Since(killed) > 5*time.Second {
				t.Fatalf("5 s after a kill: %s", left(h))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	h.WaitReady()
	l.WaitAccepted(int64(events), time.Minute)
	l.Stop()
	h.WaitSettled(time.Minute)
	found := l.Verify(lines())
	took := time.Since(started).Round(time.Millisecond)
	t.Logf("%d kills and %d during starts in %s: %s", kills, inStart, took, found)
	check(t, found)
	h.Stop()
	if left := h.Plugins(); len(left) > 0 {
		t.Errorf("plugins outlived the host: %v", left)
	}
	if left := h.RunFolders(); len(left) > 0 {
		t.Errorf("run folders are left: %v", left)
	}
}

// TestOrderAmongFailures has a slow sink that fails now and then, and kills it and the host: what a key's
// events wait for must not let later ones pass.
func TestOrderAmongFailures(t *testing.T) {
	t.Parallel()
	// So slow that the events of a key wait for each other, most of them in memory.
	slow := strings.Replace(trial, `timeout = "2s"`, "concurrency = 2", 1)
	h := programs.NewHost(t, harness.Options{Config: slow})
	turn(t, h, "flaky", true)
	h.Start()
	events := *orderKeys * *orderEach
	l := h.StartLoad(harness.LoadOptions{Limit: events, Conns: *orderKeys / 4, Keys: 4})
	for n := range *orderKills {
		l.WaitAccepted(int64((n+1)*events/(*orderKills+1)), 5*time.Minute)
		h.Restart()
		if n == 0 {
			harness.Process{PID: h.Plugin("sink-trial").PID}.Kill()
		}
	}
	l.Wait()
	h.WaitSettled(5 * time.Minute)
	found := l.Verify(h.Lines("trial.jsonl"))
	t.Logf("%d keys, %d kills: %s", *orderKeys, *orderKills, found)
	check(t, found)
	if n := strings.Count(h.Log(), "delivery attempted"); n < 5 {
		t.Errorf("only %d deliveries failed", n)
	}
	h.Stop()
}

// left says what is there of killed hosts, when another one runs.
func left(h *harness.Host) string {
	for _, p := range h.Plugins() {
		if p.Parent != h.PID() {
			return p.String()
		}
	}
	if all := h.RunFolders(); len(all) != 1 {
		files, _ := filepath.Glob(h.Path("run/*/*"))
		return fmt.Sprintf("run folders %q with %q", all, files)
	}
	return ""
}

// check fails the test if a promise was broken.
func check(t *testing.T, f harness.Found) {
	t.Helper()
	if f.Lost > 0 || f.OtherID > 0 || f.Disorder > 0 {
		t.Errorf("a promise was broken: %s", f)
	}
	// What was never answered is at most one event per request without an answer.
	if int64(f.Unasked) > f.Unanswered {
		t.Errorf("%d events that were not accepted, from %d requests without answer", f.Unasked, f.Unanswered)
	}
}
