//go:build foreign && linux

package browser

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// TestReplay replays dead letters, all that a filter finds, and watches them turn delivered.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.dead(t, 11, 12, 13)
	b := chrome.open(t, s.origin)
	b.visit("/dead")
	b.waitText("main", "employee/11")
	b.fill(`input[name="subject"]`, "employee/12")
	b.press("Filter")
	b.waitFor("the filter holds", `document.querySelectorAll("main tbody tr").length === 1`)
	b.press("Replay all of these…")
	b.waitText("h1", "Replay 1 delivery?")
	b.click("main summary") // the same message as before
	b.waitText("main", `"mail": "e12@example.com"`)
	if n := s.Count("partner", core.DeliveryDead); n != 3 {
		t.Fatalf("the preview has changed something: %d are dead", n)
	}
	b.click("#go")
	b.waitText("main tbody", "delivered")
	b.keep("work-done")
	b.click("#back")
	b.waitText("main", "employee/11")
	b.press("Retry all of these…")
	b.waitText("h1", "Retry 2 deliveries?")
	b.click("#go")
	b.waitFor("both are delivered", `[...document.querySelectorAll("main tbody .badge")].filter(e => e.innerText.includes("delivered")).length === 2`)
	if n := s.Count("partner", core.DeliveryDelivered); n != 3 {
		t.Errorf("%d are delivered", n)
	}
}

// TestKeyboard replays a dead letter with the keyboard alone.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.dead(t, 21)
	b := chrome.open(t, s.origin)
	b.visit("/")
	// The first thing that has the focus leads past the navigation.
	b.key(kb.Tab)
	if got := evaluate[string](b, `document.activeElement.textContent`); got != "Skip to the content" {
		t.Errorf("the first key goes to %q", got)
	}
	b.key(kb.Tab)
	b.reach(t, `document.activeElement.matches('.places a[href="/dead"]')`)
	b.key(kb.Enter)
	b.waitText("h1", "Dead letters")
	b.reach(t, `document.activeElement.matches('input[type="checkbox"][name="id"]')`)
	b.key(" ")
	b.reach(t, `document.activeElement.textContent.startsWith("Replay the chosen")`)
	b.key(kb.Enter)
	b.waitText("h1", "Replay 1 delivery?")
	b.reach(t, `document.activeElement.id === "go"`)
	b.key(kb.Enter)
	b.waitText("main tbody", "delivered")
}

// reach presses Tab until something has the focus. The focus is always seen, and goes through the page in its order.
func (b *tab) reach(t *testing.T, is string) {
	t.Helper()
	order := 0
	for range 100 {
		if evaluate[bool](b, is) {
			return
		}
		b.key(kb.Tab)
		now := evaluate[struct {
			Order   int
			Visible bool
			What    string
		}](b, `(() => {
			const e = document.activeElement, all = [...document.querySelectorAll("*")], s = getComputedStyle(e);
			const r = e.getBoundingClientRect();
			return { Order: all.indexOf(e), What: e.outerHTML.slice(0, 100),
				Visible: r.width > 0 && r.height > 0 && (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0 || e === document.body) };
		})()`)
		if !now.Visible {
			t.Errorf("it is not seen that this has the focus: %s", now.What)
		}
		if now.Order < order && now.Order > 1 {
			t.Errorf("the focus jumps back to %s", now.What)
		}
		order = now.Order
	}
	t.Fatalf("no Tab reaches it: %s\nthe page says: %s", is, b.excerpt())
}

// TestPause pauses a sink and resumes it.
func TestPause(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	b := chrome.open(t, s.origin)
	b.visit("/sinks")
	b.waitText("main", "partner")
	b.click("#pause-partner")
	b.fill(`input[name="reason"]`, "their office moves")
	b.click("#do-pause")
	b.waitText("#live", "paused")
	b.waitText("#live", "their office moves")
	s.post(31, "Lovelace")
	b.waitText("#live", "employee/31") // it waits, and the page shows it by itself
	p, err := s.Control.Deliveries(t.Context(), store.DeliveryFilter{Sink: "partner"})
	if err != nil || len(p.Items) != 1 || p.Items[0].State != "pending" {
		t.Fatalf("%+v, %v", p, err)
	}
	b.click("#do-resume")
	b.waitText("#live", "working")
	b.visit("/sinks")
	b.waitFor("it is delivered", `document.querySelector("#delivered-partner").innerText === "1"`)
}
