package ingress

import (
	"net/http"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// TestInspect compares what is said of requests with what becomes of them, and looks at those that would be refused.
func TestInspect(t *testing.T) {
	echo := handshake(t, sdk.Handshake{Echo: sdk.Part{Kind: sdk.PartQuery, Name: "challenge"}}, nil)
	h := start(t, func(c *Config, _ *memory) {
		hr := vwdEndpoint(t, "hr")
		hr.Verifier, hr.Tenant = verifier(t, "vwd", "another", testSecret), "acme"
		c.Endpoints = []Endpoint{hr, {Source: "shaken", Unsigned: true, Handshake: echo}}
	})
	const body = `{"a":1}`
	at := time.Now()
	inspect := func(r *http.Request, trusted bool) Inspection {
		t.Helper()
		return h.server.Inspect(r, at, trusted)
	}
	for alternative, headers := range map[int][]string{
		0:  {"X-Vwd-Notification-Id", "n1", "X-Vwd-Event-Id", "e1", "Cookie", "c"},
		1:  {"X-Vwd-Event-Id", "e1"},
		-1: {"X-Vwd-Tenant", "t"},
	} {
		got := inspect(h.signed(t, body, headers...), false)
		if got.Source != "hr" || got.Secret != 1 || got.Dedupe != alternative || got.Cause != "" || got.Request == nil {
			t.Errorf("alternative %d: %+v", alternative, got)
			continue
		}
		before := len(h.accepted())
		if a := h.do(t, h.signed(t, body, headers...)); a.status != http.StatusOK {
			t.Fatal(a)
		}
		stored := h.accepted()
		if len(stored) != before+1 {
			t.Fatal("inspecting has stored something")
		}
		want := stored[before]
		if got.Request.ID() != want.ID() || string(got.Request.Body) != body || got.Request.Tenant != "acme" ||
			len(got.Request.Headers) != len(want.Headers) || !got.Request.ReceivedAt.Equal(at) {
			t.Errorf("inspected %+v, stored %+v", got.Request, want)
		}
	}
	if n := h.server.bodyMemory.Load(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}

	forged := func() *http.Request {
		return h.signedFor(t, "vwd", "nobody's secret", "/hooks/hr", body)
	}
	if got := inspect(forged(), false); got.Request != nil || got.Status != http.StatusUnauthorized || got.Cause == "" ||
		got.Secret != -1 {
		t.Errorf("forged: %+v", got)
	}
	if got := inspect(forged(), true); got.Request == nil || got.Secret != -1 || got.Cause != "" {
		t.Errorf("forged and trusted: %+v", got)
	}
	broken := h.signed(t, `{"a":`)
	if got := inspect(broken, true); got.Request != nil || got.Cause != CauseBadJSON || got.Detail == "" {
		t.Errorf("broken: %+v", got)
	}
	nowhere, _ := http.NewRequest(http.MethodPost, "http://x/hooks/no", nil)
	if got := inspect(nowhere, true); got.Source != "" || got.Cause != CauseUnknownPath {
		t.Errorf("nowhere: %+v", got)
	}
	shaken, _ := http.NewRequest(http.MethodGet, "http://x/hooks/shaken?challenge=42", nil)
	if got := inspect(shaken, false); !got.Handshake || string(got.Answer) != "42" || got.Request != nil {
		t.Errorf("handshake: %+v", got)
	}
	if rs := h.rejected(); len(rs) > 0 {
		t.Errorf("inspecting has listed rejections: %+v", rs)
	}
}
