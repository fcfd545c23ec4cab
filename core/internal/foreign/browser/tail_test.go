//go:build foreign && linux

package browser

import (
	"testing"
	"time"
)

// TestTail watches the live tail: a request is on the page within a second of its answer, and so is what becomes of it.
func TestTail(t *testing.T) {
	s := newSite(t, "")
	b := chrome.open(t, s.origin)
	b.visit("/tail")
	b.waitText("[data-tail-state]", "Live")
	// The page says itself when it changed, so that how long this test takes to ask is not counted.
	evaluate[int](b, `(() => {
		window.seen = {};
		const look = () => document.querySelectorAll("main li").forEach(l => {
			for (const text of ["people", "partner"]) if (l.innerText.includes(text) && !window.seen[text]) window.seen[text] = Date.now();
		});
		new MutationObserver(look).observe(document.querySelector("[data-tail]"), { childList: true, subtree: true });
		return 1;
	})()`)
	s.post(61, "Lovelace")
	answered := time.Now().UnixMilli()
	b.waitFor("the request and its delivery are there", `window.seen.people && window.seen.partner`)
	b.waitText("main", "delivered")
	request, delivery := evaluate[int64](b, `window.seen.people`)-answered, evaluate[int64](b, `window.seen.partner`)-answered
	t.Logf("the request was seen %d ms after its answer, its delivery %d ms", request, delivery)
	if request > 1000 {
		t.Errorf("the request was seen %d ms after its answer", request)
	}
	b.keep("tail-new")
}
