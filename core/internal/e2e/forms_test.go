//go:build unix

package e2e

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

const formType = "application/x-www-form-urlencoded"

func form(path, body string) harness.Post {
	return harness.Post{Path: path, Header: http.Header{"Content-Type": {formType}}, Body: []byte(body)}
}

// ask sends a request that may have another method than POST, and returns status, Content-Type and body.
func ask(t *testing.T, h *harness.Host, method, path, body string, header http.Header) harness.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: harness.Patience}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(b)}
}

// TestForms has forms, JSON in a form, and queries of a provider come through to the sink, with basic authentication,
// bearer tokens and API keys; its test of the endpoint and its reply are the host's work.
func TestForms(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{
		Env: []string{"PASSWORD=me:p@ss:word", "TOKEN=token-of-forms", "API_KEY=key of forms"},
		Config: `
source "forms" "basic" {
  accounts = ["me:old", env("PASSWORD")]
}
source "forms" "bearer" {
  auth    = "bearer"
  secrets = [env("TOKEN"), "token-of-tomorrow"]
}
source "forms" "key" {
  auth     = "key"
  api_keys = [env("API_KEY")]
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {
    record = { source = request.source, data = event.data }
  }
}
`,
	})
	h.Start()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:p@ss:word"))
	authorized := func(p harness.Post, name, value string) harness.Post {
		p.Header.Set(name, value)
		return p
	}
	var want []string
	accept := func(p harness.Post, line string) {
		t.Helper()
		for range 2 { // the second is a duplicate
			a, err := h.Post(p)
			if err != nil || a.Status != 202 || a.Body != `{"ok":true}` || a.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%s %s: %+v %v", p.Path, p.Body, a, err)
			}
		}
		want = append(want, line)
	}
	accept(authorized(form("/hooks/basic", "id=1&text=hello+%26+%C3%A9"), "Authorization", basic),
		`{"source":"basic","data":{"id":"1","text":"hello \u0026 é","method":"POST","saw":"content-type"}}`)
	accept(authorized(form("/hooks/basic", "payload="+url.QueryEscape(`{"id":"2","text":"<b>"}`)), "Authorization", basic),
		`{"source":"basic","data":{"id":"2","text":"\u003cb\u003e","method":"POST","saw":"content-type"}}`)
	accept(authorized(form("/hooks/bearer", "id=3"), "Authorization", "bearer token-of-tomorrow"),
		`{"source":"bearer","data":{"id":"3","method":"POST","saw":"content-type"}}`)
	accept(authorized(form("/hooks/key", "id=4"), "X-Api-Key", "key of forms"),
		`{"source":"key","data":{"id":"4","method":"POST","saw":"content-type"}}`)
	accept(form("/hooks/key?a=b&api_key=key+of+forms", "id=5"), `{"source":"key","data":{"id":"5","method":"POST","saw":"content-type"}}`)
	for range 2 {
		if a := ask(t, h, "GET", "/hooks/key?id=6&text=a+b&api_key=key%20of%20forms", "", nil); a.Status != 202 {
			t.Fatalf("GET: %+v", a)
		}
	}
	want = append(want, `{"source":"key","data":{"id":"6","text":"a b","method":"GET","saw":""}}`)

	// The provider's test of the endpoint.
	a := ask(t, h, "GET", "/hooks/bearer?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=x", "", nil)
	if a.Status != 200 || a.Body != "1158201444" || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" ||
		a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the handshake: %+v", a)
	}
	a = ask(t, h, "GET", "/hooks/bearer?hub.mode=subscribe&hub.challenge=%3Cscript%3E", "", nil)
	if a.Status != 400 || a.Body != `{"error":"bad_handshake"}` {
		t.Errorf("an odd handshake: %+v", a)
	}

	// Refused, with the header that says how to do better.
	for _, c := range []struct {
		p         harness.Post
		status    int
		answer    string
		challenge string
	}{
		{form("/hooks/basic", "id=9"), 401, `{"error":"unauthorized"}`, `Basic realm="webhooks", charset="UTF-8"`},
		{authorized(form("/hooks/basic", "id=9"), "Authorization", "Basic bWU6eA=="), 401, `{"error":"unauthorized"}`,
			`Basic realm="webhooks", charset="UTF-8"`},
		{form("/hooks/bearer", "id=9"), 401, `{"error":"unauthorized"}`, `Bearer realm="webhooks"`},
		{form("/hooks/key?api_key=x", "id=9"), 401, `{"error":"unauthorized"}`, ""},
		{authorized(form("/hooks/basic", "id=%zz"), "Authorization", basic), 400, `{"error":"bad_form","cause":"escape"}`, ""},
		{authorized(form("/hooks/basic", strings.Repeat("a&", 1000)), "Authorization", basic), 400,
			`{"error":"bad_form","cause":"fields"}`, ""},
		{authorized(harness.NewPost("/hooks/basic", []byte(`{"id":"9"}`)), "Authorization", basic), 415,
			`{"error":"content_type"}`, ""},
	} {
		a, err := h.Post(c.p)
		if err != nil || a.Status != c.status || a.Body != c.answer || a.Header.Get("WWW-Authenticate") != c.challenge {
			t.Errorf("%s %.40s: %+v %v", c.p.Path, c.p.Body, a, err)
		}
	}

	// Samples of all three kinds, signed by each scheme.
	for _, source := range []string{"basic", "bearer", "key"} {
		for _, eventType := range []string{"sent", "payload", "query"} {
			out := h.MustRun("send", source, "forms.message."+eventType, "--count", "2", "--json")
			if strings.Count(out, `"status":202`) != 2 {
				t.Errorf("send %s %s: %s", source, eventType, out)
			}
		}
	}
	h.WaitSettled(20 * time.Second)
	var got []string
	for _, l := range h.RawLines("out/events.jsonl") {
		if !bytes.Contains(l, []byte(`"id":"m-`)) { // a sample
			got = append(got, string(l))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("at the sink:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(h.RawLines("out/events.jsonl")); n != len(want)+18 {
		t.Errorf("%d lines at the sink, want %d and 18 samples", n, len(want))
	}
	page, err := h.Control.Requests(t.Context(), store.RequestFilter{Source: "key", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Items {
		if strings.Contains(r.Query, "api_key") {
			t.Errorf("stored with query %q", r.Query)
		}
	}
}

// TestPublicKeys has requests that the provider signs with its private key accepted, and its endpoint validation
// answered with a proof.
func TestPublicKeys(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	next, nextPrivate, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "zoom secret token"
	h := programs.NewHost(t, harness.Options{Config: fmt.Sprintf(`
source "signed" "public" {
  auth        = "public"
  public_keys = ["%x", "whpk_%s"]
}
source "signed" "code" {
  secrets = [%q]
}
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`, []byte(public), base64.StdEncoding.EncodeToString(next), secret)})
	h.Start()
	signed := func(key ed25519.PrivateKey, at time.Time, body string) harness.Post {
		p := harness.NewPost("/hooks/public", []byte(body))
		ts := strconv.FormatInt(at.Unix(), 10)
		p.Header.Set("X-Signature-Timestamp", ts)
		p.Header.Set("X-Signature-Ed25519", hex.EncodeToString(ed25519.Sign(key, []byte(ts+body))))
		return p
	}
	r := &refusals{t, h, map[string]int{}}
	forged := signed(private, time.Now(), `{"n":1}`)
	forged.Body = []byte(`{"n":2}`)
	r.refuse("another body", forged, "public", "bad_signature")
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.refuse("another key", signed(stranger, time.Now(), `{"n":1}`), "public", "bad_signature")
	r.refuse("an old one", signed(private, time.Now().Add(-time.Hour), `{"n":1}`), "public", "timestamp_too_old")

	github := func(contentType, body string) harness.Post {
		p := harness.Post{Path: "/hooks/code", Header: http.Header{"Content-Type": {contentType}}, Body: []byte(body)}
		p.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac([]byte(secret), body)))
		return p
	}
	const validation = `{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event":"endpoint.url_validation"}`
	a := h.MustPost(harness.NewPost("/hooks/code", []byte(validation)))
	want := `{"plainToken":"qgg8vlvZRS6UYooatFL8Aw",` +
		`"encryptedToken":"39b8dfc472156d09751ff95badb7c9dfc4e81295a8dd72928ab3e7f6b3f48769"}`
	if a.Body != want || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the validation: %+v", a)
	}
	// Without a secret of its kind there is no proof, and the request is one like any other: here, an unsigned one.
	r.refuse("the validation", harness.NewPost("/hooks/public", []byte(validation)), "public", "missing_signature")
	r.refuse("a word", github("text/plain", "qgg8vlvZRS6UYooatFL8Aw"), "code", "ambiguous_signed_part")
	r.verify(0)

	h.MustPost(signed(private, time.Now(), `{"n":1}`))
	h.MustPost(signed(nextPrivate, time.Now(), `{"n":2}`))
	h.MustPost(github(formType, "payload=%7B%22n%22%3A3%7D&a=%ff")) // signed over its bytes
	r.verify(3)
	if _, errOut, err := h.Run("send", "public", "signed.received"); err == nil || !strings.Contains(errOut, "no sample") {
		t.Errorf("send: %v %s", err, errOut)
	}
}
