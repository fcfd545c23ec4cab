//go:build foreign && linux

package browser

import (
	"os"
	"strings"
	"testing"
)

// TestConfiguration reloads the configuration in the browser: a mistake changes nothing and is shown, what is right is
// applied, and no secret is seen.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	b := chrome.open(t, s.origin)
	b.visit("/configuration")
	b.waitText("main pre.source", `source "peopleforce" "people"`)
	if html := evaluate[string](b, `document.documentElement.outerHTML`); strings.Contains(html, "e2e peopleforce secret") {
		t.Error("the page has a secret")
	}
	was, err := os.ReadFile(s.Path("config.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(s.Path("config.hcl"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(string(was), "event.data.attributes.hired_on", "event.data.attributes.hird_on", 1))
	b.click("#reload")
	b.waitText("main", "What runs is not what the files say")
	b.waitText(".diagnostics", "hird_on")
	b.keep("configuration-invalid")
	write(string(was) + "\nroute \"another\" {\n  to \"file\" \"audit\" {}\n}\n")
	b.click("#reload")
	b.waitText("main table", "applied")
	b.waitText("main pre.source", `route "another"`)
	b.waitFor("the mistake is history", `!document.querySelector("#failed")`)
	b.keep("configuration-applied")
}

// TestAlerts sees what an alert watches go wrong, and sends a test of it.
func TestAlerts(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	b := chrome.open(t, s.origin)
	b.visit("/alerts")
	b.waitText("main", "letters")
	s.dead(t, 71, 72, 73)
	b.waitText("#live", "The sink partner has 3 dead letters, more than 2.")
	b.keep("alerts-pending")
	b.click("#test-0")
	b.waitText("h1", "Request")
}
