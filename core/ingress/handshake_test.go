package ingress

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/sdk"
)

func handshake(t *testing.T, d sdk.Handshake, scheme *sdk.Scheme, secrets ...string) *auth.Handshake {
	t.Helper()
	h, err := auth.NewHandshake(d, nil, scheme, secrets)
	if err != nil || h == nil {
		t.Fatal(h, err)
	}
	return h
}

// TestHandshake has providers' tests of an endpoint answered: signed ones, unsigned ones, by body and by query.
func TestHandshake(t *testing.T) {
	pointer := func(p string) sdk.Part { return sdk.Part{Kind: sdk.PartJSONPointer, Name: p} }
	query := func(n string) sdk.Part { return sdk.Part{Kind: sdk.PartQuery, Name: n} }
	github, _ := sdk.Preset("github")
	bearer, _ := sdk.Preset("bearer")
	verified := func(s sdk.Scheme, secret string) *auth.Verifier {
		v, err := auth.New(s, []string{secret}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	slack := sdk.Handshake{
		Method: "POST", Echo: pointer("/challenge"), When: []sdk.Condition{{Part: pointer("/type"), Equals: "url_verification"}},
	}
	signedSlack := slack
	signedSlack.Authenticated, signedSlack.Member = true, "challenge"
	zoom := sdk.Handshake{
		Method: "POST", Echo: pointer("/payload/plainToken"), Member: "plainToken",
		When:  []sdk.Condition{{Part: pointer("/event"), Equals: "endpoint.url_validation"}},
		Proof: &sdk.Proof{Member: "encryptedToken", Encoding: sdk.Hex},
	}
	graph := sdk.Handshake{
		Method: "POST", Echo: query("validationToken"), When: []sdk.Condition{{Part: query("validationToken")}},
	}
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{
			{Source: "slack", Verifier: verified(github, "k"), Handshake: handshake(t, slack, nil)},
			{Source: "signed", Verifier: verified(github, "k"), Handshake: handshake(t, signedSlack, nil)},
			{Source: "bearer", Verifier: verified(bearer, "k"), Handshake: handshake(t, signedSlack, nil)},
			{Source: "meta", Verifier: verifier(t, "path_token", "sesame"), Handshake: handshake(t, sdk.Handshake{
				Echo: query("hub.challenge"), When: []sdk.Condition{{Part: query("hub.mode")}},
			}, nil)},
			{Source: "graph", Unsigned: true, Handshake: handshake(t, graph, nil)},
			{Source: "zoom", Verifier: verified(github, "k"), Handshake: handshake(t, zoom, &github, "k")},
			{Source: "head", Verifier: verified(github, "k"), Handshake: handshake(t, sdk.Handshake{
				Method: "HEAD", Echo: sdk.Part{Kind: sdk.PartLiteral, Name: "ok"},
			}, nil)},
		}
	})
	const (
		challenge = `{"type":"url_verification","challenge":"abc"}`
		denied    = `{"error":"unauthorized"}`
		plain     = "text/plain; charset=utf-8"
	)
	good := 0
	for _, c := range []struct {
		method, url, contentType, body, sign string
		status                               int
		want, wantType                       string
	}{
		{"POST", "/hooks/slack", "", challenge, "", 200, "abc", plain},
		{"POST", "/hooks/slack", "", `{"type":"url_verification","challenge":"<b>\u00e9"}`, "", 400, `{"error":"bad_handshake"}`, ""},
		{"POST", "/hooks/slack", "", `{"type":"url_verification","challenge":"` + strings.Repeat("x", 5000) + `"}`, "", 400,
			`{"error":"bad_handshake"}`, ""},
		{"POST", "/hooks/slack", "", `{"type":"url_verification"}`, "", 401, denied, ""},
		{"POST", "/hooks/slack", "", `{"type":"other","challenge":"x"}`, "", 401, denied, ""},
		{"POST", "/hooks/slack", "", strings.Repeat("[", 10_000), "", 401, denied, ""},
		{"POST", "/hooks/slack", "text/html", challenge, "", 415, `{"error":"content_type"}`, ""},
		{"GET", "/hooks/slack", "", "", "", 405, `{"error":"method_not_allowed"}`, ""},

		{"POST", "/hooks/signed", "", challenge, "k", 200, `{"challenge":"abc"}`, "application/json"},
		{"POST", "/hooks/signed", "", challenge, "other", 401, denied, ""},
		{"POST", "/hooks/signed", "", challenge, "", 401, denied, ""},
		{"POST", "/hooks/bearer", "", challenge, "", 401, denied, ""},

		{"GET", "/hooks/meta/sesame?hub.mode=subscribe&hub.challenge=17", "", "", "", 200, "17", plain},
		{"GET", "/hooks/meta/sesam?hub.mode=subscribe&hub.challenge=17", "", "", "", 401, denied, ""},
		{"GET", "/hooks/meta/sesame?hub.challenge=17", "", "", "", 405, `{"error":"method_not_allowed"}`, ""},

		{"POST", "/hooks/graph?validationToken=Validation%3a+a", "text/plain; charset=utf-8", "", "", 200, "Validation: a", plain},
		{"POST", "/hooks/graph?validationToken=%3Cscript%3E", "text/plain", "", "", 400, `{"error":"bad_handshake"}`, ""},
		{"POST", "/hooks/graph", "text/plain", "", "", 415, `{"error":"content_type"}`, ""},
		{"POST", "/hooks/graph?validationToken=a", "text/plain", "x", "", 415, `{"error":"content_type"}`, ""},

		{"POST", "/hooks/zoom", "", `{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8"}}`, "", 200,
			`{"plainToken":"qgg8","encryptedToken":"4c2bf743c60997ed1056e40c759be8f408f45e5c56e7c1ee11e0d8ac92897e6f"}`,
			"application/json"},
		{"POST", "/hooks/zoom", "", `{"event":"endpoint.url_validation","payload":{"plainToken":"{}"}}`, "", 400,
			`{"error":"bad_handshake"}`, ""},
		{"POST", "/hooks/zoom", "", `{}`, "k", 200, "", ""},
		{"POST", "/hooks/zoom", "", `true`, "k", 401, denied, ""}, // its signature can be got from the handshake
		{"POST", "/hooks/zoom", "", ``, "k", 401, denied, ""},

		{"HEAD", "/hooks/head", "", "", "", 200, "", plain},
	} {
		r, err := http.NewRequest(c.method, h.url+c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.method == "POST" {
			r.Header.Set("Content-Type", "application/json")
		}
		if c.contentType != "" {
			r.Header.Set("Content-Type", c.contentType)
		}
		if c.sign != "" {
			in := &auth.Input{Header: r.Header, Body: []byte(c.body)}
			if err := auth.Sign(github, in, c.sign, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		a := h.do(t, r)
		if a.status != c.status || a.body != c.want || c.wantType != "" && a.header.Get("Content-Type") != c.wantType {
			t.Errorf("%s %s %.60s: %+v", c.method, c.url, c.body, a)
		}
		if c.wantType != "" {
			good++
			if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %v", c.method, c.url, a.header)
			}
		}
		if a.status == 405 && strings.Contains(c.url, "meta") && a.header.Get("Allow") != "POST, GET" {
			t.Errorf("%v", a.header)
		}
	}
	if n := len(h.accepted()); n != 1 {
		t.Errorf("%d requests are stored, want the one webhook", n)
	}
	answered := uint64(0)
	for _, s := range h.server.Stats().Sources {
		answered += s.Handshakes
	}
	if answered != uint64(good) {
		t.Errorf("%d handshakes are counted, want %d", answered, good)
	}
	for _, r := range h.rejected() {
		if strings.Contains(r.Detail+r.Path, "script") || strings.Contains(r.Detail, "sesam") {
			t.Errorf("the rejection quotes the request: %+v", r)
		}
	}
}
