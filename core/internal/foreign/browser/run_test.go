//go:build foreign && linux

package browser

import (
	"testing"
)

// TestAlerts sees an alert fire.
func TestAlerts(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	b := chrome.open(t, s.origin)
	b.visit("/alerts")
	b.waitText("main", "letters")
	s.dead(t, 71, 72, 73)
	b.waitText("#live", "firing")
	b.keep("alerts-firing")
	b.click("#test-0")
	b.waitText("h1", "Request")
}
