package ingress

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// tracer notes what it is told.
type tracer struct {
	mu   sync.Mutex
	said []string
}

func (tr *tracer) Accepting(r *core.Request, h http.Header) func(store.Acceptance, error) {
	r.Trace = core.Trace("of " + h.Get("Traceparent"))
	return func(a store.Acceptance, err error) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if err != nil {
			a = "failed"
		}
		tr.said = append(tr.said, string(a))
	}
}

// A trace begins behind the gates: who does not pass them is in none.
func TestOnlyWhatPassesIsTraced(t *testing.T) {
	tr := &tracer{}
	fails := false
	h := start(t, func(c *Config, m *memory) {
		c.Tracer, c.Endpoints = tr, []Endpoint{vwdEndpoint(t, "hr")}
		m.hook = func(context.Context, *core.Request) error {
			if fails {
				return errors.New("no")
			}
			return nil
		}
	})
	forged := h.signed(t, `{"a":1}`, "Traceparent", "theirs")
	forged.Header.Set("X-Vwd-Signature-V1", "AAAA")
	if a := h.do(t, forged); a.status != 401 {
		t.Errorf("status %d", a.status)
	}
	if a := h.do(t, h.signed(t, `{`, "Traceparent", "theirs")); a.status != 400 {
		t.Errorf("status %d", a.status)
	}
	for range 2 {
		if a := h.do(t, h.signed(t, `{"a":1}`, "Traceparent", "ours")); a.status/100 != 2 {
			t.Errorf("status %d", a.status)
		}
	}
	fails = true
	if a := h.do(t, h.signed(t, `{"a":2}`)); a.status != 503 {
		t.Errorf("status %d", a.status)
	}
	if diff := cmp.Diff([]string{"accepted", "duplicate", "failed"}, tr.said); diff != "" {
		t.Error(diff)
	}
	if all := h.accepted(); len(all) != 1 || all[0].Trace != "of ours" {
		t.Errorf("accepted %v", all)
	}
}
