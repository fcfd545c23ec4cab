package ingress

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

type timed struct {
	mu  sync.Mutex
	all []time.Duration
}

func (s *timed) Accepted(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, took)
}

// TestObserver times what is accepted, once.
func TestObserver(t *testing.T) {
	seen := &timed{}
	h := start(t, func(c *Config, _ *memory) {
		e := vwdEndpoint(t, "hr")
		e.Observer = seen
		c.Endpoints = []Endpoint{e}
	})
	r := h.signed(t, `{}`, "X-Vwd-Notification-Id", "n1")
	for range 2 { // the second is a duplicate
		r.Body = io.NopCloser(strings.NewReader(`{}`))
		if a := h.do(t, r); a.status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	r.Header.Set("X-Vwd-Signature", "x")
	r.Body = io.NopCloser(strings.NewReader(`{}`))
	h.do(t, r)
	for range 500 { // it is told after the answer
		seen.mu.Lock()
		n := len(seen.all)
		seen.mu.Unlock()
		if n > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.all) != 1 || seen.all[0] <= 0 || seen.all[0] > time.Minute {
		t.Errorf("seen: %v", seen.all)
	}
}

// TestHostileLabels sends requests to a thousand paths, with a thousand causes for anger: the counts stay those of a closed
// set.
func TestHostileLabels(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
	})
	before := len(h.server.Stats().Rejected)
	for i := range 1000 {
		path := "/hooks/" + strings.Repeat("x", i%50) + "{" + string(rune('a'+i%26)) + "}\"\\"
		r := h.signedFor(t, "vwd", testSecret, "/hooks/hr", `{}`, "X-Vwd-Event-Id", path)
		r.Method = []string{"POST", "BREW", "GET"}[i%3]
		r.URL.Path = path
		h.do(t, r)
	}
	st := h.server.Stats()
	if len(st.Sources) != 1 || len(st.Rejected) > before+2 {
		t.Errorf("%d sources, causes %v", len(st.Sources), st.Rejected)
	}
	known := map[string]bool{}
	for _, c := range Causes() {
		known[c] = true
	}
	for cause := range st.Rejected {
		if !known[cause] {
			t.Errorf("the cause %q", cause)
		}
	}
}
