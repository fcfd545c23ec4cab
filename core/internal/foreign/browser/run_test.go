//go:build foreign && linux

package browser

import (
	"testing"
)

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
