package ingress

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/sdk"
)

const formType = "application/x-www-form-urlencoded"

// formEndpoint takes signed forms. What makes two the same is a field, or a value in the JSON of one, or the body.
func formEndpoint(t testing.TB, methods ...string) Endpoint {
	t.Helper()
	pointer := func(p string) sdk.Part { return sdk.Part{Kind: sdk.PartJSONPointer, Name: p} }
	scheme, _ := sdk.Preset("github")
	scheme.Allow = []sdk.AllowList{{Attribute: "accounts", Part: pointer("/AccountSid")}}
	v, err := auth.New(scheme, []string{"k"}, map[string][]string{"accounts": {"AC1", "AC é"}})
	if err != nil {
		t.Fatal(err)
	}
	return Endpoint{
		Source: "sms", Verifier: v, ContentTypes: []string{formType}, Methods: methods,
		Dedupe: []sdk.DedupeKey{{pointer("/MessageSid")}, {pointer("/payload/event/id"), pointer("/payload/kind")}},
	}
}

func (h *host) form(t testing.TB, contentType, body string) *http.Request {
	t.Helper()
	return h.signedFor(t, "github", "k", "/hooks/sms", body, "Content-Type", contentType)
}

func TestForms(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{formEndpoint(t)} })
	key := func(parts ...string) core.DedupeKey {
		var b [][]byte
		for _, p := range parts {
			b = append(b, []byte(p))
		}
		return core.NewDedupeKey("sms", b...)
	}
	payload := url.QueryEscape(`{"event":{"id":7.0},"kind":"made \u00e9"}`)
	for _, c := range []struct {
		contentType, body string
		want              core.DedupeKey
	}{
		{formType, "AccountSid=AC1&MessageSid=SM1&Body=hello+world%21", key("SM1")},
		{formType + "; charset=UTF-8", "AccountSid=AC+%C3%A9&Message%53id=SM%202", key("SM 2")},
		{"Application/X-WWW-Form-URLEncoded", "MessageSid=&AccountSid=AC1", key("MessageSid=&AccountSid=AC1")},
		{formType, "MessageSid=1&MessageSid=2&AccountSid=AC1", key("MessageSid=1&MessageSid=2&AccountSid=AC1")},
		{formType, "AccountSid=AC1&payload=" + payload, key("7.0", "made é")},
		{formType, "AccountSid=AC1&payload=%7B", key("AccountSid=AC1&payload=%7B")}, // no JSON: the next alternative
		{formType, "AccountSid=AC1&x=%ff%00", key("AccountSid=AC1&x=%ff%00")},
	} {
		if a := h.do(t, h.form(t, c.contentType, c.body)); a.status != 200 {
			t.Fatalf("%s: %+v", c.body, a)
		}
		all := h.accepted()
		got := all[len(all)-1]
		if got.Dedupe != c.want || string(got.Body) != c.body {
			t.Errorf("%s: key %x, want %x; body %q", c.body, got.Dedupe, c.want, got.Body)
		}
		if len(got.Headers) != 1 || got.Headers[0] != (sdk.Header{Name: "content-type", Value: c.contentType}) {
			t.Errorf("headers %v", got.Headers)
		}
	}
	n := len(h.accepted())
	for _, c := range []struct {
		contentType, body string
		status            int
		answer            string
	}{
		{formType, "AccountSid=AC1&a=%", 400, `{"error":"bad_form","cause":"escape"}`},
		{formType, "AccountSid=AC1&a=%zz", 400, `{"error":"bad_form","cause":"escape"}`},
		{formType, "AccountSid=AC1;a=1", 400, `{"error":"bad_form","cause":"semicolon"}`},
		{formType, "AccountSid=AC1\r\n", 400, `{"error":"bad_form","cause":"control"}`},
		{formType, "AccountSid=AC1&" + strings.Repeat("n", 2000), 400, `{"error":"bad_form","cause":"name"}`},
		{formType, "AccountSid=AC1" + strings.Repeat("&a", 1000), 400, `{"error":"bad_form","cause":"fields"}`},
		{formType, "", 401, `{"error":"unauthorized"}`}, // sound, but not of an account that is allowed
		{formType, "AccountSid=AC2&MessageSid=SM3", 401, `{"error":"unauthorized"}`},
		{formType, "AccountSid=AC1&AccountSid=AC2", 401, `{"error":"unauthorized"}`},
		{"application/json", `{"AccountSid":"AC1"}`, 415, `{"error":"content_type"}`},
		{"multipart/form-data; boundary=x", "AccountSid=AC1", 415, `{"error":"content_type"}`},
		{"", "AccountSid=AC1", 415, `{"error":"content_type"}`},
	} {
		if a := h.do(t, h.form(t, c.contentType, c.body)); a.status != c.status || a.body != c.answer {
			t.Errorf("%s %.60q: %+v", c.contentType, c.body, a)
		}
	}
	// The signature is over the bytes, before anybody reads them: another spelling of the same form is another body.
	r := h.form(t, formType, "AccountSid=AC1&a=b+c")
	r.Body = http.NoBody
	forged, err := http.NewRequest(http.MethodPost, r.URL.String(), strings.NewReader("AccountSid=AC1&a=b%20c"))
	if err != nil {
		t.Fatal(err)
	}
	forged.Header = r.Header
	if a := h.do(t, forged); a.status != 401 {
		t.Errorf("another spelling: %+v", a)
	}
	bad := h.form(t, formType, "a=%")
	bad.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
	if a := h.do(t, bad); a.status != 401 {
		t.Errorf("a bad form of a stranger: %+v", a)
	}
	if got := len(h.accepted()); got != n {
		t.Errorf("%d more requests are stored", got-n)
	}
	if got := h.server.Stats().Sources["sms"].Rejected[CauseBadForm]; got != 6 {
		t.Errorf("%d bad forms are counted", got)
	}
}

// TestMultipart: a manifest that names it gets it as it is.
func TestMultipart(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		e := formEndpoint(t)
		scheme, _ := sdk.Preset("github")
		v, err := auth.New(scheme, []string{"k"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		e.Verifier, e.ContentTypes = v, []string{"multipart/form-data"}
		c.Endpoints = []Endpoint{e}
	})
	body := "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n%;\x00\r\n--b--\r\n"
	if a := h.do(t, h.form(t, "multipart/form-data; boundary=b", body)); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	if got := h.accepted()[0]; string(got.Body) != body || got.Headers[0].Value != "multipart/form-data; boundary=b" {
		t.Errorf("%+v", got)
	}
}

// TestHostileForms measures forms that are made to cost: each is answered, soon.
func TestHostileForms(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{formEndpoint(t)}
		c.Limits.MaxBody = 16 << 20
	})
	deep := "AccountSid=AC1&payload=" + strings.Repeat("%5B", 3<<20)
	for _, c := range []struct {
		name, body string
		want       int
	}{
		{"10 MB in one field", "AccountSid=AC1&MessageSid=" + strings.Repeat("x", 10_000_000), 200},
		{"10 MB of escapes", "AccountSid=AC1&MessageSid=" + strings.Repeat("%41", 3_300_000), 200},
		{"10 MB of a name", strings.Repeat("x", 10_000_000), 400},
		{"1 000 000 fields", "AccountSid=AC1" + strings.Repeat("&a=1", 1_000_000), 400},
		{"1 000 000 fields without a name", "AccountSid=AC1" + strings.Repeat("&", 1_000_000), 400},
		{"1000 equal fields", "AccountSid=AC1" + strings.Repeat("&MessageSid=1", 999), 200},
		{"10 MB of brackets in a field", deep, 200}, // no JSON, so the body is the key
		{"20 MB", strings.Repeat("x", 20_000_000), 413},
	} {
		began := time.Now()
		a, err := h.try(h.form(t, formType, c.body))
		if err == nil && a.status != c.want || err != nil && c.want != 413 {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %s", c.name, took)
		}
	}
	for _, r := range h.accepted() {
		if !bytes.HasPrefix(r.Body, []byte("AccountSid=AC1&")) {
			t.Errorf("body %.40q", r.Body)
		}
	}
}

// TestQueryWebhooks has requests that say what they have to say in their query.
func TestQueryWebhooks(t *testing.T) {
	token := sdk.Scheme{Name: "key", Token: &sdk.Token{Part: sdk.Part{Kind: sdk.PartQuery, Name: "key"}}}
	v, err := auth.New(token, []string{"k"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{
			{Source: "ping", Verifier: v, Methods: []string{"GET", "POST"}},
			{Source: "ids", Verifier: v, Methods: []string{"GET"}, Dedupe: []sdk.DedupeKey{{{Kind: sdk.PartQuery, Name: "id"}}}},
		}
	})
	get := func(path string) answer {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, h.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		return h.do(t, r)
	}
	for i, path := range []string{
		"/hooks/ping?key=k&number=1&text=a+b", "/hooks/ping?number=2&key=k", "/hooks/ping?key=k", "/hooks/ids?id=7&key=k",
	} {
		for range 2 { // the second is a duplicate
			if a := get(path); a.status != 200 {
				t.Errorf("%s: %+v", path, a)
			}
			if n := len(h.accepted()); n != i+1 {
				t.Fatalf("%s: %d requests", path, n)
			}
		}
	}
	all := h.accepted()
	if r := all[0]; r.Method != http.MethodGet || r.Query != "number=1&text=a+b" || len(r.Body) != 0 {
		t.Errorf("%+v", r)
	}
	if a := get("/hooks/ids?key=k&id=7&other=1"); a.status != 200 || len(h.accepted()) != 4 {
		t.Errorf("the same id: %+v, %d requests", a, len(h.accepted()))
	}
	for path, want := range map[string]string{
		"/hooks/ping?key=k&a=%zz":                        `400 {"error":"bad_form","cause":"escape"}`,
		"/hooks/ping?key=k&a=1;b=2":                      `400 {"error":"bad_form","cause":"semicolon"}`,
		"/hooks/ping?key=k" + strings.Repeat("&a", 1001): `400 {"error":"bad_form","cause":"fields"}`,
		"/hooks/ping?key=x&a=%zz":                        `401 {"error":"unauthorized"}`,
		"/hooks/ping?a=1":                                `401 {"error":"unauthorized"}`,
	} {
		c := h.dial(t)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path) // net/url would mend it
		a, err := readAnswer(c)
		if got := fmt.Sprint(a.status, " ", a.body); err != nil || got != want {
			t.Errorf("%.60s: %s %v, want %s", path, got, err, want)
		}
		_ = c.Close()
	}
	if n := len(h.accepted()); n != 4 {
		t.Errorf("%d requests", n)
	}
}
