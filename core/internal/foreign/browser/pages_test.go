//go:build foreign && linux

package browser

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// TestPages looks at every page in light and in dark, where axe-core finds no serious fault, and in 375 px, where nothing is
// wider than the screen.
func TestPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	pages := s.fill(t)
	axe, err := os.ReadFile("npm/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("%v; `npm ci` in core/internal/foreign/npm installs it, `make foreign` does that", err)
	}
	b := chrome.open(t, s.origin)
	b.expects("status of 400") // of the page "wrong"
	b.visit("/")
	for _, href := range evaluate[[]string](b, `[...document.querySelectorAll("nav.places a")].map(a => a.getAttribute("href"))`) {
		if !slices.ContainsFunc(pages, func(p [2]string) bool { return p[1] == href }) {
			pages = append(pages, [2]string{strings.ReplaceAll(strings.Trim(href, "/"), "/", "-"), href})
		}
	}
	for _, p := range pages {
		name, path := p[0], p[1]
		b.look(light)
		b.visit(path)
		b.waitFor(name+" has a heading", `document.querySelector("main h1")`)
		evaluate[int](b, string(axe)+"; 1") // by the debugger: the policy of the page holds for its own scripts
		for _, l := range []look{light, dark, narrow} {
			b.look(l)
			b.keep(name + "-" + l.name)
			if l.narrow {
				if over := evaluate[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
					t.Errorf("%s is %d px wider than a narrow screen", path, over)
				}
				continue
			}
			for _, fault := range check(b) {
				t.Errorf("%s, %s: %s", path, l.name, fault)
			}
		}
	}
}

// check is what axe-core finds of serious and critical faults.
func check(b *tab) (faults []string) {
	b.t.Helper()
	found := evaluate[[]byte](b, `axe.run({ resultTypes: ["violations"] }).then(r => JSON.stringify(r.violations))`)
	var text string
	var violations []struct {
		ID, Impact, Help string
		Nodes            []struct {
			HTML           string
			FailureSummary string
		}
	}
	if err := json.Unmarshal(found, &text); err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &violations); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range violations {
		if v.Impact == "serious" || v.Impact == "critical" {
			for _, n := range v.Nodes {
				faults = append(faults, fmt.Sprintf("axe: %s (%s): %s\n%s\n%s", v.ID, v.Impact, v.Help, n.HTML, n.FailureSummary))
			}
		}
	}
	return faults
}

// fill has a host hold something of everything, and returns names and addresses of pages that show it.
func (s *site) fill(t testing.TB) [][2]string {
	t.Helper()
	for id := range 12 {
		s.post(4100+id, []string{"Lovelace", "Hopper", "Contractor"}[id%3])
	}
	s.settled()
	s.dead(t, 4201, 4202, 4203)
	s.MustPost(harness.Youforce("hr", "unknown", 1)) // no route has it
	forged := employee(1, "Mallory")
	forged.Header.Set("X-Peopleforce-Signature", "sha256=00")
	for _, p := range []harness.Post{forged, harness.NewPost("/hooks/elsewhere", []byte("{}"))} {
		if a, err := s.Post(p); err != nil || a.Status/100 != 4 {
			t.Fatalf("%v %v", a, err)
		}
	}
	s.settled()
	ctx := t.Context()
	// What waits: for a far end that is away, and for one that is paused.
	s.status.Store(http.StatusServiceUnavailable)
	s.post(4301, "Turing")
	s.Eventually(patience, "an attempt failed", func() bool {
		p, err := s.Control.Deliveries(ctx, store.DeliveryFilter{Subject: "employee/4301", Sink: "partner"})
		return err == nil && len(p.Items) == 1 && p.Items[0].Attempts > 0
	})
	if err := s.Control.PauseSink(ctx, "payroll", "until the new accounts are there"); err != nil {
		t.Fatal(err)
	}
	dead, err := s.Control.Deliveries(ctx, store.DeliveryFilter{State: "dead", Sink: "partner"})
	if err != nil || len(dead.Items) != 3 {
		t.Fatalf("%d dead letters, %v", len(dead.Items), err)
	}
	events, err := s.Control.Events(ctx, store.EventFilter{Unrouted: true})
	if err != nil || len(events.Items) != 1 {
		t.Fatalf("%d unrouted events, %v", len(events.Items), err)
	}
	d := dead.Items[0]
	return [][2]string{
		{"overview", "/"}, {"request", "/requests/" + d.RequestID}, {"payload", "/requests/" + d.RequestID + "/payload"},
		{"event", "/events/" + d.EventID},
		{"delivery", "/deliveries/" + d.ID}, {"unrouted-event", "/events/" + events.Items[0].ID},
		{"unrouted-request", "/requests/" + events.Items[0].RequestID},
		{"again", "/again?do=replay&sink=partner"}, {"sink", "/sinks/partner"}, {"sink-paused", "/sinks/payroll"},
		{"nothing", "/dead?subject=nobody"}, {"wrong", "/dead?since=never"},
	}
}
