package auth

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
)

func pointer(p string) sdk.Part   { return sdk.Part{Kind: sdk.PartJSONPointer, Name: p} }
func parameter(n string) sdk.Part { return sdk.Part{Kind: sdk.PartQuery, Name: n} }

// handshakes are those of well-known providers, as manifests would declare them.
func handshakes() map[string]sdk.Handshake {
	return map[string]sdk.Handshake{
		"slack": {
			Method: "POST", Echo: pointer("/challenge"), Member: "challenge", Authenticated: true,
			When: []sdk.Condition{{Part: pointer("/type"), Equals: "url_verification"}},
		},
		"meta": {
			Echo: parameter("hub.challenge"), When: []sdk.Condition{{Part: parameter("hub.mode"), Equals: "subscribe"}},
		},
		"graph": {
			Method: "POST", Echo: parameter("validationToken"), When: []sdk.Condition{{Part: parameter("validationToken")}},
		},
		"zoom": {
			Method: "POST", Echo: pointer("/payload/plainToken"), Member: "plainToken", Authenticated: true,
			When:  []sdk.Condition{{Part: pointer("/event"), Equals: "endpoint.url_validation"}},
			Proof: &sdk.Proof{Member: "encryptedToken", Encoding: sdk.Hex},
		},
		"x": {
			Echo:  parameter("crc_token"),
			Proof: &sdk.Proof{Member: "response_token", Encoding: sdk.Base64, Prefix: "sha256="},
		},
		"fixed": {Method: "HEAD", Echo: sdk.Part{Kind: sdk.PartLiteral, Name: "ok"}},
		"header": {
			Method: "OPTIONS", Echo: sdk.Part{Kind: sdk.PartHeader, Name: "WebHook-Request-Origin"},
		},
		"form": {
			Method: "POST", Echo: pointer("/challenge"), When: []sdk.Condition{{Part: pointer("/data/verify"), Equals: "true"}},
		},
	}
}

func mustHandshake(t testing.TB, name, secret string) *Handshake {
	t.Helper()
	scheme, _ := sdk.Preset("github")
	h, err := NewHandshake(handshakes()[name], []string{"POST"}, &scheme, []string{secret, "the next"})
	if err != nil || h == nil {
		t.Fatal(name, h, err)
	}
	return h
}

func TestHandshakes(t *testing.T) {
	const text, object = "text/plain; charset=utf-8", "application/json"
	for _, c := range []struct {
		name, secret, query, body string
		form                      bool
		want, contentType         string // empty: no handshake
		unfit                     string
	}{
		{name: "slack", body: `{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",` +
			`"type":"url_verification"}`,
			want: `{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}`, contentType: object},
		{name: "slack", body: `{"type":"event_callback","challenge":"x"}`},
		{name: "slack", body: `{"type":"url_verification"}`},
		{name: "slack", body: `{"type":"url_verification","challenge":null}`},
		{name: "slack", body: `{"type":"url_verification","challenge":17}`, want: `{"challenge":"17"}`, contentType: object},
		{name: "slack", body: `{"type":"url_verification","challenge":{"a":"b"}}`, unfit: "characters"},
		{name: "slack", body: `{"type":"url_verification","challenge":"a\"b"}`, unfit: "characters"},
		{name: "slack", body: `{"type":"url_verification","challenge":"a\\b"}`, unfit: "characters"},
		{name: "slack", body: `{"type":"url_verification","challenge":"a\nb"}`, unfit: "characters"},
		{name: "slack", body: `{"type":"url_verification","challenge":"\u00e9"}`, unfit: "characters"},
		{name: "slack", body: `{"type":"url_verification","challenge":"` + strings.Repeat("x", 1025) + `"}`, unfit: "longer"},
		{name: "slack", body: strings.Repeat("[", 100_000)},
		{name: "meta", query: "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock",
			want: "1158201444", contentType: text},
		{name: "meta", query: "hub.mode=unsubscribe&hub.challenge=1"},
		{name: "meta", query: "hub.mode=subscribe&hub.challenge="},
		{name: "meta", query: "hub.mode=subscribe&hub.challenge=1&hub.challenge=2"}, // nobody can say which
		{name: "meta", query: "hub.mode=subscribe&hub.challenge=%3Cscript%3E", unfit: "characters"},
		{name: "graph", query: "validationToken=Validation%3A+Testing+client+application+reachability+for+subscription" +
			"+Request-Id%3A+25460c97-dfd0-4e3c-9d0a-f4c6d5b0a6e1",
			want: "Validation: Testing client application reachability for subscription " +
				"Request-Id: 25460c97-dfd0-4e3c-9d0a-f4c6d5b0a6e1", contentType: text},
		{name: "graph", query: "validationToken=%3Cimg+src%3Dx%3E", unfit: "characters"},
		{name: "graph", query: "validationToken=a%0D%0ASet-Cookie%3A+x", unfit: "characters"},
		{name: "graph", body: `{"value":[]}`},
		// Of Zoom's own documentation, but for the secret, which it does not tell; the MACs are openssl's.
		{name: "zoom", secret: "zoom secret token", body: `{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},` +
			`"event_ts":1654503849680,"event":"endpoint.url_validation"}`, contentType: object,
			want: `{"plainToken":"qgg8vlvZRS6UYooatFL8Aw",` +
				`"encryptedToken":"39b8dfc472156d09751ff95badb7c9dfc4e81295a8dd72928ab3e7f6b3f48769"}`},
		{name: "zoom", body: `{"payload":{"plainToken":"v0:1:{}"},"event":"endpoint.url_validation"}`, unfit: "letters, digits"},
		{name: "zoom", body: `{"payload":{"plainToken":"a b"},"event":"endpoint.url_validation"}`, unfit: "letters, digits"},
		{name: "zoom", body: `{"payload":{"plainToken":"` + strings.Repeat("a", 257) + `"},"event":"endpoint.url_validation"}`,
			unfit: "at most 256"},
		{name: "zoom", body: `{"payload":{"plainToken":"a"},"event":"meeting.started"}`},
		{name: "x", secret: "x consumer secret", query: "crc_token=NDA2MmJlM2MtYjQ4Zi00MTk4LWE5YzQtMzFkMGI2ZjE1ZjQ4&nonce=1",
			want: `{"response_token":"sha256=XlfsL3tW5bKaIUW51SOv8g+0CVwZ7/FugvdA0DXiWHE="}`, contentType: object},
		{name: "x", query: "nonce=1"},
		{name: "fixed", want: "ok", contentType: text},
		{name: "header", want: "eventgrid.example", contentType: text},
		{name: "form", form: true, body: "challenge=a+b%2Bc&data=%7B%22verify%22%3Atrue%7D", want: "a b+c", contentType: text},
		{name: "form", form: true, body: "challenge=a&challenge=b&data=%7B%22verify%22%3Atrue%7D"},
		{name: "form", form: true, body: "challenge=a&data=verify"},
		{name: "form", form: true, body: "challenge=%&data=%7B%22verify%22%3Atrue%7D"},
	} {
		in := &Input{
			Header: http.Header{"Webhook-Request-Origin": {"eventgrid.example"}}, RawQuery: c.query, Body: []byte(c.body), Form: c.form,
		}
		secret := c.secret
		if secret == "" {
			secret = "any"
		}
		a, matched, err := mustHandshake(t, c.name, secret).Answer(in)
		if matched != (c.want != "" || c.unfit != "") || string(a.Body) != c.want || a.ContentType != c.contentType {
			t.Errorf("%s %s %.80s: %v %q %q", c.name, c.query, c.body, matched, a.Body, a.ContentType)
		}
		if (err == nil) != (c.unfit == "") || err != nil && !strings.Contains(err.Error(), c.unfit) {
			t.Errorf("%s %s %.80s: %v, want %q", c.name, c.query, c.body, err, c.unfit)
		}
	}
}

func TestHandshakeRefuses(t *testing.T) {
	github, _ := sdk.Preset("github")
	for _, c := range []struct {
		name   string
		change func(h *sdk.Handshake)
		want   string
	}{
		{"slack", func(h *sdk.Handshake) {}, ""},
		{"slack", func(h *sdk.Handshake) { h.ContentType = "application/json; charset=utf-8" }, ""},
		{"slack", func(h *sdk.Handshake) { h.When = nil }, "every request would be one"},
		{"slack", func(h *sdk.Handshake) { h.Method = "post" }, "no HTTP method"},
		{"slack", func(h *sdk.Handshake) { h.ContentType = "text/html" }, "safe"},
		{"slack", func(h *sdk.Handshake) { h.ContentType = "text/plain" }, "cannot have member"},
		{"slack", func(h *sdk.Handshake) { h.ContentType = "a\r\nb: c" }, "safe"},
		{"slack", func(h *sdk.Handshake) { h.Member = `a"b` }, "member"},
		{"slack", func(h *sdk.Handshake) { h.Echo = pointer("challenge") }, "echo: JSON pointer"},
		{"slack", func(h *sdk.Handshake) { h.When[0].Part = pointer("type") }, "when: JSON pointer"},
		{"meta", func(h *sdk.Handshake) { h.When = nil }, ""}, // GET is the handshake's alone
		{"meta", func(h *sdk.Handshake) { h.ContentType = "application/json" }, "needs a member"},
		{"meta", func(h *sdk.Handshake) { h.Echo = sdk.Part{Kind: sdk.PartBody} }, "not for showing"},
		{"meta", func(h *sdk.Handshake) { h.Echo = sdk.Part{Kind: sdk.PartPathToken} }, "not for showing"},
		{"fixed", func(h *sdk.Handshake) { h.Echo.Name = "<ok>" }, "the literal has characters"},
		{"zoom", func(h *sdk.Handshake) { h.Proof.Member = "" }, "proof: member"},
		{"zoom", func(h *sdk.Handshake) { h.Proof.Member = h.Member }, "taken"},
		{"zoom", func(h *sdk.Handshake) { h.Proof.Prefix = `"` }, "prefix"},
		{"zoom", func(h *sdk.Handshake) { h.Proof.Algorithm = "md5" }, `unknown algorithm "md5"`},
		{"zoom", func(h *sdk.Handshake) { h.Proof.Encoding = "" }, "encoding is missing"},
		{"zoom", func(h *sdk.Handshake) { h.Echo = sdk.Part{Kind: sdk.PartLiteral, Name: "a b"} }, "letters, digits"},
	} {
		h := handshakes()[c.name]
		c.change(&h)
		err := CheckHandshake(&sdk.Provider{Schemes: []sdk.Scheme{github}, Handshake: &h})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if _, err2 := NewHandshake(h, nil, &github, []string{"x"}); (err == nil) != (err2 == nil) {
			t.Errorf("%s: %v but %v", c.name, err, err2)
		}
	}

	// A proof is made with a secret of an HMAC; without one there is no handshake.
	bearer, _ := sdk.Preset("bearer")
	zoom := handshakes()["zoom"]
	if err := CheckHandshake(&sdk.Provider{Schemes: []sdk.Scheme{bearer}, Handshake: &zoom}); err == nil {
		t.Error("a proof without a secret")
	}
	for _, s := range []*sdk.Scheme{nil, &bearer} {
		if h, err := NewHandshake(zoom, nil, s, []string{"x"}); h != nil || err != nil {
			t.Errorf("%v %v", h, err)
		}
	}
	vwd, _ := sdk.Preset("standard_webhooks")
	if _, err := NewHandshake(zoom, nil, &vwd, []string{"whsec_s3cret!"}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

// What a handshake signs for whoever asks is never the signature of a webhook.
func TestForgeable(t *testing.T) {
	zoom, meta := mustHandshake(t, "zoom", "k"), mustHandshake(t, "meta", "k")
	for body, want := range map[string]bool{
		"": true, "123": true, "true": true, "abc_-9": true, strings.Repeat("a", 256): true,
		strings.Repeat("a", 257): false, "{}": false, "[]": false, `"a"`: false, "a=b": false, "1.5": false, " 1": false, "1\n": false,
	} {
		if got := zoom.Forgeable([]byte(body)); got != want {
			t.Errorf("%q: %v", body, got)
		}
		if meta.Forgeable([]byte(body)) || (*Handshake)(nil).Forgeable([]byte(body)) {
			t.Errorf("%q without a proof", body)
		}
	}
}

// FuzzHandshake: whatever is sent, an answer is bounded, harmless, and JSON where it says so; and what it signs is no
// webhook.
func FuzzHandshake(f *testing.F) {
	names := []string{"slack", "meta", "graph", "zoom", "x", "fixed", "header", "form"}
	all := make([]*Handshake, len(names))
	for i, n := range names {
		all[i] = mustHandshake(f, n, "secret")
	}
	f.Add(0, "", "", `{"type":"url_verification","challenge":"x"}`, false)
	f.Add(1, "hub.mode=subscribe&hub.challenge=%31", "", "", false)
	f.Add(2, "validationToken=a+b", "", "", false)
	f.Add(3, "", "", `{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}`, false)
	f.Add(4, "crc_token=123", "", "", false)
	f.Add(6, "", "origin.example", "", false)
	f.Add(7, "", "", "challenge=x&data=%7B%22verify%22:true}", true)
	f.Fuzz(func(t *testing.T, which int, query, header, body string, form bool) {
		h := all[uint(which)%uint(len(all))]
		in := &Input{
			Header: http.Header{"Webhook-Request-Origin": {header}}, RawQuery: query, Body: []byte(body), Form: form,
		}
		a, matched, err := h.Answer(in)
		if !matched || err != nil {
			if len(a.Body) > 0 || err != nil && !matched {
				t.Fatalf("%v %v %q", matched, err, a.Body)
			}
			return
		}
		if len(a.Body) > 2*maxEcho || strings.ContainsAny(string(a.Body), "<>&'`\\\r\n") {
			t.Fatalf("answers %q", a.Body)
		}
		if a.ContentType == "application/json" && !json.Valid(a.Body) {
			t.Fatalf("answers %q as JSON", a.Body)
		}
		if echo, _ := h.echo.Value(in); h.proof != nil && !h.Forgeable(echo) {
			t.Fatalf("signs %q, which may be a webhook", echo)
		}
	})
}
