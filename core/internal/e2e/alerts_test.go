//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// said is what an alert told the sink of operations.
type said struct {
	Alert   string `json:"alert"`
	State   string `json:"state"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

func alertLines(t *testing.T, h *harness.Host) (all []said) {
	t.Helper()
	for _, line := range h.RawLines("ops/alerts.jsonl") {
		var s said
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		all = append(all, s)
	}
	return all
}

// of counts what an alert said of a state.
func of(all []said, alert, state string) (n int) {
	for _, s := range all {
		if s.Alert == alert && s.State == state {
			n++
		}
	}
	return n
}

// TestAlerts has each kind of alert fire, arrive at a file and an endpoint, survive the host's death, and be resolved.
func TestAlerts(t *testing.T) {
	t.Parallel()
	far, pager := harness.NewEndpoint(t), harness.NewEndpoint(t)
	var refuses atomic.Bool
	far.Answer = func(*http.Request, []byte) int {
		if refuses.Load() {
			return http.StatusUnprocessableEntity
		}
		return http.StatusNoContent
	}
	var b strings.Builder
	for _, a := range []struct{ name, condition string }{
		{"parked", "sink_parked = \"500ms\"\n sinks = [\"out\"]\n repeat = \"1s\""},
		{"old", "oldest_waiting = \"500ms\"\n sinks = [\"out\"]"},
		{"dead", "dead_letters = 1"},
		{"dying", "dead_letters = 1\n within = \"2s\""},
		{"plugin", "plugin_failed = true"},
		{"silent", "source_silent = \"2s\"\n sources = [\"hr\"]"},
		{"sigs", "rejected_signatures = 2\n within = \"2s\""},
	} {
		fmt.Fprintf(&b, `
alert %q {
  %s
  grace = "0s"
  clear = "100ms"
  to "file" "ops" {
    path   = "alerts.jsonl"
    record = event.data
  }
  to "http" "pager" {
    body = { text = event.data.text, test = event.data.test }
  }
}
`, a.name, a.condition)
	}
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + fmt.Sprintf(`
sink "file" "out" {
  dir = "out"
}
sink "file" "ops" {
  dir = "ops"
}
sink "http" "far" {
  url           = %q
  allow_private = true
}
sink "http" "pager" {
  url           = %q
  allow_private = true
}
route "all" {
  to "file" "out" {}
  to "http" "far" {}
}
`, far.URL, pager.URL) + b.String()})
	h.Start()
	says := func(alert, state, subject string) {
		t.Helper()
		h.Eventually(90*time.Second, alert+" is "+state, func() bool {
			return slices.ContainsFunc(alertLines(t, h), func(s said) bool {
				return s.Alert == alert && s.State == state && s.Subject == subject
			})
		})
	}

	// A sink is paused, and a delivery waits for it; the host dies meanwhile.
	if err := h.Control.PauseSink(t.Context(), "out", "tests"); err != nil {
		t.Fatal(err)
	}
	h.MustPost(harness.Youforce("hr", "1", 1))
	says("parked", "fired", "sink/out")
	says("parked", "reminded", "sink/out")
	says("old", "fired", "sink/out")
	if out := h.MustRun("status"); !strings.Contains(out, "FIRING") || !strings.Contains(out, "sink/out") {
		t.Errorf("status does not say what fires:\n%s", out)
	}
	h.Restart()
	h.Eventually(harness.Patience, "the restarted host evaluates", func() bool {
		page, err := h.Control.Alerts(t.Context())
		return err == nil && slices.ContainsFunc(page.Items, func(a admin.Alert) bool { return a.Name == "old" && a.State == "firing" })
	})
	if err := second(h.Control.ResumeSink(t.Context(), "out")); err != nil {
		t.Fatal(err)
	}
	says("parked", "resolved", "sink/out")
	says("old", "resolved", "sink/out")

	// Deliveries die, and are retried.
	refuses.Store(true)
	h.MustPost(harness.Youforce("hr", "2", 1))
	h.MustPost(harness.Youforce("hr", "2", 2))
	says("dead", "fired", "sink/far")
	says("dying", "fired", "sink/far")
	says("dying", "resolved", "sink/far") // no more have died since
	refuses.Store(false)
	h.MustRun("deliveries", "retry", "--sink", "far")
	says("dead", "resolved", "sink/far")

	// A source falls silent, and sends again.
	says("silent", "fired", "source/hr")
	h.MustPost(harness.Youforce("hr", "3", 1))
	says("silent", "resolved", "source/hr")

	// Somebody else sends.
	for range 3 {
		if got, err := h.Post(harness.NewPost("/hooks/hr", []byte(`{}`))); err != nil || got.Status != http.StatusUnauthorized {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	says("sigs", "fired", "source/hr")
	says("sigs", "resolved", "source/hr")

	// A plugin dies again and again: the one of its own pager. The alert gets there when the plugin is back.
	h.Eventually(harness.Patience, "the plugin has failed", func() bool {
		for _, p := range h.Plugins() {
			if p.Plugin() == "sink-http" {
				p.Kill()
			}
		}
		return h.Plugin("sink-http").State == "failed"
	})
	says("plugin", "fired", "plugin/sink-http")
	says("plugin", "resolved", "plugin/sink-http")

	all := alertLines(t, h)
	for _, alert := range []string{"parked", "old", "dead", "dying", "sigs", "plugin"} {
		if fired, ended := of(all, alert, "fired"), of(all, alert, "resolved"); fired != 1 || ended != 1 {
			t.Errorf("%s was fired %d and resolved %d times: %+v", alert, fired, ended, all)
		}
	}
	out, _, err := h.Run("alerts", "test", "plugin")
	if err != nil || !strings.Contains(out, "pager") {
		t.Errorf("%v\n%s", err, out)
	}
	h.WaitSettled(harness.Patience)
	lines := alertLines(t, h)
	h.Eventually(harness.Patience, "all has arrived at the pager", func() bool { return len(pager.Requests()) >= len(lines) })
	if dead := h.Status().Stats.Deliveries["pager"]["dead"]; dead > 0 {
		t.Errorf("%d deliveries of alerts are dead", dead)
	}
	if last := pager.Requests()[len(pager.Requests())-1]; !strings.Contains(string(last.Body), `"test":true`) &&
		!strings.Contains(string(last.Body), "sent nothing") {
		t.Errorf("the test of an alert did not come last: %s", last.Body)
	}
}

// TestAlertAboutItself has an alert that can go only where it is about, and whose messages are refused there: they neither
// make it fire again, nor keep it firing.
func TestAlertAboutItself(t *testing.T) {
	t.Parallel()
	far := harness.NewEndpoint(t)
	far.Answer = func(_ *http.Request, body []byte) int {
		if strings.Contains(string(body), "sick") {
			return http.StatusUnprocessableEntity
		}
		return http.StatusNoContent
	}
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + fmt.Sprintf(`
sink "http" "far" {
  url           = %q
  allow_private = true
}
alert "dead" {
  dead_letters = 0
  grace        = "0s"
  clear        = "100ms"
  repeat       = "1s"
  to "http" "far" {
    body = "sick: ${event.data.text}"
  }
}
route "all" {
  to "http" "far" {
    body = "sick"
  }
}
`, far.URL)})
	if _, said, err := h.Run("validate"); err != nil || !strings.Contains(said, "can reach nobody when it is about the sink") {
		t.Errorf("%v\n%s", err, said)
	}
	h.Start()
	h.MustPost(harness.Youforce("hr", "1", 1))
	dead := func() int64 { return h.Status().Stats.Deliveries["far"]["dead"] }
	h.Eventually(harness.Patience, "the alert and a reminder are dead, too", func() bool { return dead() >= 3 })
	page, err := h.Control.Alerts(t.Context())
	if err != nil || len(page.Items) != 1 || len(page.Items[0].Things) != 1 || page.Items[0].Things[0].Value != 1 {
		t.Errorf("the alert counts its own: %+v, %v", page, err)
	}
	ds, err := h.Control.Deliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryDead, Route: "all"})
	if err != nil {
		t.Fatal(err)
	}
	var mine []string
	for _, d := range ds.Items {
		mine = append(mine, d.ID)
	}
	h.MustRun(append([]string{"deliveries", "skip"}, mine...)...)
	h.Eventually(harness.Patience, "it is resolved", func() bool {
		page, err := h.Control.Alerts(t.Context())
		return err == nil && page.Items[0].State == "ok" && !page.Items[0].Things[0].ResolvedAt.IsZero()
	})
	after := dead()
	time.Sleep(2 * time.Second) // twice the time in which a loop would have gone on
	if n := dead(); n > after+1 {
		t.Errorf("%d messages died after the end, which was the last to say anything", n-after)
	}
}

func second[T any](_ T, err error) error { return err }

// TestAlertsReload swaps the rules of a running host: alerts that stay keep their state, and new ones need no restart.
func TestAlertsReload(t *testing.T) {
	t.Parallel()
	const sinks = harness.YouforceSource + `
sink "file" "out" {
  dir = "out"
}
sink "file" "ops" {
  dir = "ops"
}
route "all" {
  to "file" "out" {}
}
`
	rule := func(name, more string) string {
		return fmt.Sprintf(`
alert %q {
  sink_parked = "300ms"
  sinks       = ["out"]
  grace       = "0s"
  clear       = "100ms"
  %s
  to "file" "ops" {
    path   = "alerts.jsonl"
    record = event.data
  }
}
`, name, more)
	}
	h := programs.NewHost(t, harness.Options{Config: sinks})
	h.Start()
	if page, err := h.Control.Alerts(t.Context()); err != nil || len(page.Items) != 0 {
		t.Fatalf("%+v, %v", page, err)
	}
	if err := h.Control.PauseSink(t.Context(), "out", "tests"); err != nil {
		t.Fatal(err)
	}
	says := func(name, state string) {
		t.Helper()
		h.Eventually(harness.Patience, name+" is "+state, func() bool { return of(alertLines(t, h), name, state) > 0 })
	}
	h.Configure(sinks + rule("one", ""))
	h.MustRun("reload")
	says("one", "fired")
	h.Configure(sinks + rule("one", `repeat = "1s"`) + rule("two", ""))
	h.MustRun("reload")
	says("two", "fired")
	says("one", "reminded")
	h.Configure(sinks + rule("one", "") + "alert \"broken\" {}")
	if _, _, err := h.Run("reload"); err == nil {
		t.Error("a broken alert was loaded")
	}
	h.Configure(sinks + rule("one", ""))
	h.MustRun("reload")
	if err := second(h.Control.ResumeSink(t.Context(), "out")); err != nil {
		t.Fatal(err)
	}
	says("one", "resolved")
	if all := alertLines(t, h); of(all, "one", "fired") != 1 || of(all, "two", "resolved") != 0 {
		t.Errorf("%+v", all)
	}
}
