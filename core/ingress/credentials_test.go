package ingress

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/sdk"
)

// manifest is a provider with every kind of credential.
func manifest(t *testing.T) []sdk.Scheme {
	t.Helper()
	schemes := []sdk.Scheme{{Name: "key", Token: &sdk.Token{
		Part:         sdk.Part{Kind: sdk.PartHeader, Name: "X-Api-Key"},
		Alternatives: []sdk.Part{{Kind: sdk.PartQuery, Name: "api_key"}},
	}}}
	for _, name := range []string{"basic", "bearer", "vwd", "discord"} {
		s, ok := sdk.Preset(name)
		if !ok {
			t.Fatal(name)
		}
		schemes = append(schemes, s)
	}
	return schemes
}

// TestChallenge has each scheme refuse with the header that HTTP has for it, and the same body.
func TestChallenge(t *testing.T) {
	schemes := manifest(t)
	want := map[string]string{
		"key": "", "vwd": "", "basic": `Basic realm="webhooks", charset="UTF-8"`, "bearer": `Bearer realm="webhooks"`,
	}
	h := start(t, func(c *Config, _ *memory) {
		for _, s := range schemes {
			if _, ok := want[s.Name]; !ok {
				continue
			}
			v, err := auth.New(s, []string{"old:secret", "new:secret"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Endpoints = append(c.Endpoints, Endpoint{Source: s.Name, Verifier: v, Schemes: schemes})
		}
	})
	for _, s := range schemes {
		challenge, ok := want[s.Name]
		if !ok {
			continue
		}
		post := func(secret, body string) answer {
			t.Helper()
			r, err := http.NewRequest(http.MethodPost, h.url+"/hooks/"+s.Name, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			if secret != "" {
				in := &auth.Input{Header: r.Header, Body: []byte(body)}
				if err := auth.Sign(s, in, secret, time.Time{}); err != nil {
					t.Fatal(err)
				}
				r.URL.RawQuery = in.RawQuery
			}
			return h.do(t, r)
		}
		for _, secret := range []string{"", "other:secret"} {
			a := post(secret, `{"a":1}`)
			if a.status != 401 || a.body != `{"error":"unauthorized"}` || a.header.Get("WWW-Authenticate") != challenge {
				t.Errorf("%s: %+v", s.Name, a)
			}
		}
		for i, secret := range []string{"old:secret", "new:secret"} {
			if a := post(secret, `{"b":`+string(rune('0'+i))+`}`); a.status != 200 || a.header.Get("WWW-Authenticate") != "" {
				t.Errorf("%s: %+v", s.Name, a)
			}
		}
		if got := h.server.Stats().Sources[s.Name].Secrets; len(got) != 2 || got[0] != 1 || got[1] != 1 {
			t.Errorf("%s: secrets matched %v", s.Name, got)
		}
	}
}

// TestCredentialsAreCut has a request that carries the credentials of all schemes at once: none is stored, whichever
// scheme the source uses.
func TestCredentialsAreCut(t *testing.T) {
	schemes := manifest(t)
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{
			{Source: "open", Unsigned: true, Schemes: schemes, KeepHeaders: []string{"*"}},
			{Source: "hr", Verifier: verifier(t, "vwd", testSecret), Schemes: schemes, KeepHeaders: []string{"*"}},
		}
	})
	for _, path := range []string{"/hooks/open", "/hooks/hr"} {
		r := h.signed(t, `{"path":"`+path+`"}`, "Authorization", "Basic czNjcmV0", "X-Api-Key", "s3cret", "X-Other", "kept",
			"X-Signature-Ed25519", "s3cret", "Cookie", "s3cret", "Proxy-Authorization", "s3cret")
		r.URL.Path, r.URL.RawQuery = path, "a=1&api_key=s3cret&b=%zz&api%5Fkey=s3cret"
		if a := h.do(t, r); a.status != 200 {
			t.Fatalf("%s: %+v", path, a)
		}
	}
	all := h.accepted()
	if len(all) != 2 {
		t.Fatalf("%d requests", len(all))
	}
	for _, r := range all {
		if r.Query != "a=1&b=%zz" {
			t.Errorf("query %q", r.Query)
		}
		names := map[string]string{}
		for _, x := range r.Headers {
			names[x.Name] = x.Value
			if strings.Contains(x.Value, "s3cret") || strings.Contains(x.Value, "czNjcmV0") {
				t.Errorf("%s: %s", x.Name, x.Value)
			}
		}
		if names["x-other"] != "kept" || names["x-vwd-signature-v1"] != "" {
			t.Errorf("headers %v", names)
		}
	}
}
