package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// oauthConfig is a configuration with client credentials for an endpoint and a token address.
func oauthConfig(e, tokens *endpoint, more string) string {
	return configFor(e.URL, fmt.Sprintf(`"oauth": {"token_url": %q, "client_id": "me", "client_secret": "cl1ent-secret"%s}`,
		tokens.URL+"/token", more))
}

// issuer answers with tokens t0ken-1, t0ken-2 …
func issuer(t testing.TB, expires int) *endpoint {
	var n atomic.Int64
	return newEndpoint(t, func(w http.ResponseWriter, _ got) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": "t0ken-%d", "token_type": "bearer", "expires_in": %d}`, n.Add(1), expires)
	})
}

func TestOAuth(t *testing.T) {
	for name, c := range map[string]struct {
		more, auth string
		form       url.Values
	}{
		"header": {
			more: `, "scopes": ["a", "b"], "parameters": {"audience": "https://x"}`, auth: "Basic bWU6Y2wxZW50LXNlY3JldA==",
			form: url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}, "audience": {"https://x"}},
		},
		"body": {
			more: `, "credentials_in": "body"`,
			form: url.Values{"grant_type": {"client_credentials"}, "client_id": {"me"}, "client_secret": {"cl1ent-secret"}},
		},
	} {
		tokens, e := issuer(t, 3600), newEndpoint(t, nil)
		s := newSink(t, oauthConfig(e, tokens, c.more))
		var calls sync.WaitGroup
		for n := range 10 {
			calls.Go(func() {
				if o := outcomeOf(s.DeliverBatch(t.Context(), []*delivery{newDelivery(n)})[0]); o.Kind != sdk.Delivered {
					t.Errorf("%s: %+v", name, o)
				}
			})
		}
		calls.Wait()
		r := tokens.one(t)
		form, err := url.ParseQuery(r.body)
		if err != nil || form.Encode() != c.form.Encode() || r.header.Get("Authorization") != c.auth {
			t.Errorf("%s: token request %s, %q", name, r.body, r.header)
		}
		for _, r := range e.requests() {
			if got := r.header.Get("Authorization"); got != "Bearer t0ken-1" {
				t.Errorf("%s: Authorization %q", name, got)
			}
		}
	}
}

// TestTokenRefused: a token that is refused is renewed once, and no more.
func TestTokenRefused(t *testing.T) {
	tokens := issuer(t, 3600)
	good := "Bearer t0ken-2"
	e := newEndpoint(t, nil)
	e.answer = func(w http.ResponseWriter, r got) {
		if r.header.Get("Authorization") != good {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, "bad "+r.header.Get("Authorization"))
		}
	}
	s := newSink(t, oauthConfig(e, tokens, ""))
	for range 2 {
		if o := deliverOne(t, s, newDelivery(1)); o.Kind != sdk.Delivered {
			t.Errorf("%+v", o)
		}
	}
	if n, m := len(tokens.requests()), len(e.requests()); n != 2 || m != 3 {
		t.Errorf("%d tokens for %d requests, want 2 for 3", n, m)
	}
	good = "none"
	o := deliverOne(t, s, newDelivery(1))
	if o.Kind != sdk.Suspended || o.Reason != "the endpoint answers 401 Unauthorized: bad Bearer (sensitive)" {
		t.Errorf("%+v", o)
	}
	if n, m := len(tokens.requests()), len(e.requests()); n != 3 || m != 5 {
		t.Errorf("%d tokens for %d requests, want 3 for 5", n, m)
	}
}

func TestTokenExpires(t *testing.T) {
	tokens, e := issuer(t, 5), newEndpoint(t, nil) // less than `early`
	s := newSink(t, oauthConfig(e, tokens, ""))
	for range 3 {
		deliverOne(t, s, newDelivery(1))
	}
	if n := len(tokens.requests()); n != 3 {
		t.Errorf("%d tokens", n)
	}
}

func TestNoToken(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
		kind   sdk.OutcomeKind
		after  time.Duration
		reason string
	}{
		"wrong secret": {
			401, nil, `{"error": "invalid_client", "error_description": "not cl1ent-secret\u0000"}`, sdk.Suspended, 0,
			"no token: the token address answers 401 Unauthorized: invalid_client: not (sensitive)",
		},
		"wrong secret, as it was sent": {
			401, nil, `{"error": "invalid_client", "error_description": "not Basic ` + basicText("me", "cl1ent-secret") + `"}`,
			sdk.Suspended, 0, "no token: the token address answers 401 Unauthorized: invalid_client: not Basic (sensitive)",
		},
		"scope": {
			400, nil, `{"error": "invalid_scope"}`, sdk.Suspended, 0,
			"no token: the token address answers 400 Bad Request: invalid_scope",
		},
		"down": {
			503, map[string]string{"Retry-After": "9"}, "", sdk.Retried, 9 * time.Second,
			"no token: the token address answers 503 Service Unavailable:",
		},
		"redirect": {
			307, map[string]string{"Location": "/x"}, "", sdk.Suspended, 0,
			"no token: the token address answers 307 Temporary Redirect:",
		},
		"empty": {
			200, nil, `{}`, sdk.Retried, 0,
			"the endpoint cannot be reached: token: oauth2: server response missing access_token",
		},
		"no JSON": {200, nil, `oh`, sdk.Retried, 0, "the endpoint cannot be reached: token: oauth2: cannot parse"},
	} {
		tokens := newEndpoint(t, func(w http.ResponseWriter, _ got) {
			for k, v := range c.header {
				w.Header().Set(k, v)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		e := newEndpoint(t, nil)
		s := newSink(t, oauthConfig(e, tokens, ""))
		o := deliverOne(t, s, newDelivery(1))
		if o.Kind != c.kind || o.After != c.after || !strings.HasPrefix(o.Reason, c.reason) || strings.Contains(o.Reason, "cl1ent") {
			t.Errorf("%s: %+v", name, o)
		}
		if n := len(tokens.requests()); n != 1 {
			t.Errorf("%s: %d token requests", name, n)
		}
		if s.Check(t.Context()) == nil {
			t.Errorf("%s: Check finds nothing wrong", name)
		}
		if n := len(e.requests()); n > 0 {
			t.Errorf("%s: %d requests without a token", name, n)
		}
	}
}

// TestTokenWaits: a token that does not come holds nobody longer than its own call.
func TestTokenWaits(t *testing.T) {
	release := make(chan struct{})
	tokens := newEndpoint(t, func(http.ResponseWriter, got) { <-release })
	defer close(release)
	s := newSink(t, oauthConfig(newEndpoint(t, nil), tokens, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var calls sync.WaitGroup
	for n := range 4 {
		calls.Go(func() {
			o := outcomeOf(s.DeliverBatch(ctx, []*delivery{newDelivery(n)})[0])
			if o.Kind != sdk.Retried || o.Reason != "the endpoint does not answer in time" {
				t.Errorf("%+v", o)
			}
		})
	}
	calls.Wait()
}

func TestConsent(t *testing.T) {
	var rate, origin string
	code := 200
	e := newEndpoint(t, nil)
	e.answer = func(w http.ResponseWriter, r got) {
		if r.method != "OPTIONS" {
			return
		}
		for k, v := range map[string]string{"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": rate} {
			if v != "" {
				w.Header().Set(k, v)
			}
		}
		w.WriteHeader(code)
	}
	config := configFor(e.URL, `"abuse_protection": {"origin": "hooks.example.com", "rate": 240}, "bearer_token": "t0ken"`)
	for _, c := range []struct {
		code         int
		origin, rate string
		want         sdk.OutcomeKind
		note         string
	}{
		{200, "hooks.example.com", "120", sdk.Delivered, `the endpoint allows 120 requests per minute; write rate = "120/m" in delivery { }`},
		{204, "*", "*", sdk.Delivered, ""},
		{200, "", "", sdk.Suspended, ""},
		{200, "other.example.com", "", sdk.Suspended, ""},
		{405, "", "", sdk.Suspended, ""},
		{403, "*", "", sdk.Suspended, ""},
		{503, "", "", sdk.Retried, ""},
	} {
		code, origin, rate = c.code, c.origin, c.rate
		s := newSink(t, config)
		before := len(e.requests())
		for n := range 3 {
			o := deliverBatched(t, s, newDelivery(n))[0]
			if o.Kind != c.want {
				t.Errorf("%+v: %+v", c, o)
			}
			want := c.note
			if n > 0 {
				want = ""
			}
			if got := strings.Join(o.Notes, ", "); got != want {
				t.Errorf("%+v: notes %q, want %q", c, got, want)
			}
		}
		asked, posted := 0, 0
		for _, r := range e.requests()[before:] {
			if r.header.Get("WebHook-Request-Origin") != "hooks.example.com" || r.header.Get("Authorization") != "Bearer t0ken" {
				t.Errorf("%s with %v", r.method, r.header)
			}
			if r.method == "OPTIONS" {
				asked++
				if r.header.Get("WebHook-Request-Rate") != "240" {
					t.Errorf("asks for %q", r.header.Get("WebHook-Request-Rate"))
				}
			} else {
				posted++
			}
		}
		if c.want == sdk.Delivered && (asked != 1 || posted != 3) || c.want != sdk.Delivered && (asked != 3 || posted != 0) {
			t.Errorf("%+v: asked %d times, posted %d", c, asked, posted)
		}
		if err := s.Check(t.Context()); (err == nil) != (c.want == sdk.Delivered) {
			t.Errorf("%+v: Check: %v", c, err)
		}
	}
}

// FuzzTokenAnswer: whatever a token address says, no secret shows and nothing is sent with half a token.
func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, `{"access_token": "x", "token_type": "bearer", "expires_in": 1}`)
	f.Add(401, `{"error": "invalid_client", "error_description": "cl1ent-secret"}`)
	f.Add(200, `access_token=x&token_type=mac&expires_in=1e9`)
	f.Add(200, `{"access_token": "a\r\nEvil: 1", "expires_in": "99999999999999999999"}`)
	e := newEndpoint(f, nil)
	var code int
	var body string
	tokens := newEndpoint(f, func(w http.ResponseWriter, _ got) {
		if json.Valid([]byte(body)) {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
	})
	config := oauthConfig(e, tokens, "")
	f.Fuzz(func(t *testing.T, c int, b string) {
		if c < 200 || c > 599 {
			return
		}
		code, body = c, b
		s := newSink(t, config)
		o := deliverOne(t, s, newDelivery(1))
		if strings.Contains(o.Reason, "cl1ent-secret") || o.Kind == sdk.Rejected {
			t.Fatalf("%+v", o)
		}
		s.Close()
	})
}
