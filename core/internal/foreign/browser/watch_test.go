//go:build foreign && linux

package browser

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWatch checks that a tab sees what the other tests are to fail with.
func TestWatch(t *testing.T) {
	t.Parallel()
	const text = `<!doctype html><title>Bad</title><main>here</main><img src="http://127.0.0.2:9999/x.png">` +
		`<script>console.error("said"); console.warn("warned"); fetch("/nothing"); throw new Error("thrown")</script>`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/page" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(text))
	}))
	defer s.Close()
	b := chrome.open(t, s.URL)
	b.visit("/page")
	b.waitText("main", "here")
	want := []string{"to another origin: http://127.0.0.2:9999/x.png", "said", "warned", "404", "thrown"}
	var got []string
	for began := time.Now(); time.Since(began) < patience; time.Sleep(20 * time.Millisecond) {
		got = append(got, b.found()...)
		if !slices.ContainsFunc(want, func(w string) bool {
			return !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, w) })
		}) {
			b.expects("") // whatever else comes
			return
		}
	}
	t.Errorf("want %q, seen %q", want, got)
}
