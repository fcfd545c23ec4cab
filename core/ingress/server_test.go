package ingress

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestAccept(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		e := vwdEndpoint(t, "hr")
		e.Tenant = "acme"
		e.KeepHeaders = append(e.KeepHeaders, "X-Exact")
		e.Reply = sdk.Reply{Status: 202, ContentType: "application/json", Body: []byte(`{"ok":true}`)}
		c.Endpoints = []Endpoint{e}
	})
	body := `{"a":40.0, "n":"é"}`
	r := h.signed(t, body, "X-Vwd-Event-Id", "PERSON_CHANGED", "X-Vwd-Notification-Id", "n1", "X-Exact", "1",
		"X-Other", "no", "Authorization", "Bearer s3cr3t", "Cookie", "s3cr3t", "X-Vwd-Binary", "a\xffb")
	r.Header.Add("X-Vwd-Event-Id", "TWICE")
	r.URL.RawQuery = "tenant=1&x=%20"
	for i := range 2 {
		r.Body = io.NopCloser(strings.NewReader(body))
		a := h.do(t, r)
		if a.status != 202 || a.body != `{"ok":true}` || a.header.Get("Content-Type") != "application/json" {
			t.Fatalf("time %d: %+v", i, a)
		}
	}
	all := h.accepted()
	if len(all) != 1 {
		t.Fatalf("%d requests, want 1", len(all))
	}
	got := *all[0]
	if time.Since(got.ReceivedAt) > time.Minute {
		t.Errorf("received at %s", got.ReceivedAt)
	}
	got.ReceivedAt = time.Time{}
	want := core.Request{
		Dedupe: core.NewDedupeKey("hr", []byte("n1")), Source: "hr", Tenant: "acme", RemoteAddr: "127.0.0.1",
		Method: "POST", Query: "tenant=1&x=%20", Body: []byte(body), State: core.RequestReceived,
		Headers: []sdk.Header{
			{Name: "content-type", Value: "application/json"}, {Name: "x-exact", Value: "1"},
			{Name: "x-vwd-binary", Value: "a\uFFFDb"},
			{Name: "x-vwd-event-id", Value: "PERSON_CHANGED"}, {Name: "x-vwd-event-id", Value: "TWICE"},
			{Name: "x-vwd-notification-id", Value: "n1"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if cap(got.Body) != len(got.Body) {
		t.Errorf("the body's slice has capacity %d for %d bytes", cap(got.Body), len(got.Body))
	}
	ss := h.server.Stats().Sources["hr"]
	wantStats := SourceStats{Accepted: 1, Duplicates: 1, Rejected: map[string]uint64{}, Secrets: []uint64{2}}
	if diff := cmp.Diff(wantStats, ss); diff != "" {
		t.Error(diff)
	}
}

// Every refusal: its status, its cause, what the sender reads, and that nothing is stored.
func TestStatuses(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		c.Limits.MaxBody = 1000
		blocked := vwdEndpoint(t, "blocked")
		blocked.AllowIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		token := Endpoint{Source: "lynx", Verifier: verifier(t, "path_token", "T0KEN-of-the-path")}
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr"), blocked, token}
	})
	const ct = "application/json"
	set := func(name, value string) func(r *http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	path := func(p string) func(r *http.Request) { return func(r *http.Request) { r.URL.Path = p } }
	method := func(m string) func(r *http.Request) { return func(r *http.Request) { r.Method = m } }
	const sig = "X-Vwd-Signature-V1"
	for _, c := range []struct {
		name   string
		body   string
		change func(r *http.Request)
		status int
		cause  string
		answer string
		path   string
	}{
		{"unknown path", "{}", path("/hooks/hr2"), 404, CauseUnknownPath, "unknown_path", "/hooks/hr2"},
		{"root", "{}", path("/"), 404, CauseUnknownPath, "unknown_path", "/"},
		{"trailing slash", "{}", path("/hooks/hr/"), 404, CauseUnknownPath, "unknown_path", "/hooks/hr/…"},
		{"below", "{}", path("/hooks/hr/xyz"), 404, CauseUnknownPath, "unknown_path", "/hooks/hr/…"},
		{"token of a misspelt source", "{}", path("/hooks/lynks/T0KEN-of-the-path"), 404, CauseUnknownPath,
			"unknown_path", "/hooks/lynks/…"},
		{"token too deep", "{}", path("/hooks/lynx/T0KEN-of-the-path/x"), 404, CauseUnknownPath, "unknown_path",
			"/hooks/lynx/…"},
		{"no token", "{}", path("/hooks/lynx"), 401, auth.CauseMissingToken, "unauthorized", "/hooks/lynx"},
		{"bad token", "{}", path("/hooks/lynx/T0KEN-of-the-pat"), 401, auth.CauseBadToken, "unauthorized", "/hooks/lynx/…"},
		{"get", "", method("GET"), 405, CauseMethod, "method_not_allowed", "/hooks/hr"},
		{"put", "{}", method("PUT"), 405, CauseMethod, "method_not_allowed", "/hooks/hr"},
		{"options", "", method("OPTIONS"), 405, CauseMethod, "method_not_allowed", "/hooks/hr"},
		{"address", "{}", path("/hooks/blocked"), 403, CauseAddress, "address_not_allowed", "/hooks/blocked"},
		{"content type", "{}", set("Content-Type", "text/plain"), 415, CauseContentType, "content_type", "/hooks/hr"},
		{"no content type", "{}", func(r *http.Request) { r.Header.Del("Content-Type") }, 415, CauseContentType,
			"content_type", "/hooks/hr"},
		{"content type twice", "{}", func(r *http.Request) { r.Header.Add("Content-Type", ct) }, 415, CauseContentType,
			"content_type", "/hooks/hr"},
		{"content encoding", "{}", set("Content-Encoding", "gzip"), 415, CauseContentEncoding, "content_encoding",
			"/hooks/hr"},
		{"unknown encoding", "{}", set("Content-Encoding", "x"), 415, CauseContentEncoding, "content_encoding",
			"/hooks/hr"},
		{"too large", strings.Repeat(" ", 1001), nil, 413, CauseTooLarge, "too_large", "/hooks/hr"},
		{"too large, chunked", strings.Repeat(" ", 1001), func(r *http.Request) { r.ContentLength = -1 }, 413,
			CauseTooLarge, "too_large", "/hooks/hr"},
		{"no signature", "{}", func(r *http.Request) { r.Header.Del(sig) }, 401, auth.CauseMissingSignature,
			"unauthorized", "/hooks/hr"},
		{"signature twice", "{}", func(r *http.Request) { r.Header.Add(sig, r.Header.Get(sig)) }, 401,
			auth.CauseDoubledSignature, "unauthorized", "/hooks/hr"},
		{"malformed signature", "{}", set(sig, "abc"), 401, auth.CauseMalformedSignature, "unauthorized", "/hooks/hr"},
		{"bad signature", "{}", set(sig, "AO/xoj6oC4v3r9VRbNixCnTqkjk83MWaguHGIr4TdYY="), 401, auth.CauseBadSignature,
			"unauthorized", "/hooks/hr"},
		{"not JSON", "{", nil, 400, CauseBadJSON, `bad_json","cause":"syntax`, "/hooks/hr"},
		{"empty", "", nil, 400, CauseBadJSON, `bad_json","cause":"syntax`, "/hooks/hr"},
		{"not UTF-8", "\"\xff\"", nil, 400, CauseBadJSON, `bad_json","cause":"utf8`, "/hooks/hr"},
		{"deep", strings.Repeat("[", 400) + strings.Repeat("]", 400), nil, 400, CauseBadJSON, `bad_json","cause":"depth`,
			"/hooks/hr"},
		{"big exponent", "1e1000000", nil, 400, CauseBadJSON, `bad_json","cause":"exponent`, "/hooks/hr"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.signed(t, c.body, "X-Vwd-Event-Id", "x")
			if c.change != nil {
				c.change(r)
			}
			if c.body == "" {
				r.Body, r.ContentLength = nil, 0
			}
			a := h.do(t, r)
			if want := `{"error":"` + c.answer + `"}`; a.status != c.status || a.body != want {
				t.Errorf("answer %d %s, want %d %s", a.status, a.body, c.status, want)
			}
			if c.status == 405 && a.header.Get("Allow") != "POST" {
				t.Errorf("Allow: %q", a.header.Get("Allow"))
			}
			rej := h.wantRejection(t, c.status, c.cause)
			source := ""
			if c.status != 404 {
				source = strings.Split(c.path, "/")[2]
			}
			if rej.Source != source || rej.Path != c.path || rej.RemoteAddr != "127.0.0.1" || rej.Method != r.Method {
				t.Errorf("rejection %+v", rej)
			}
		})
	}
	if n := len(h.accepted()); n != 0 {
		t.Errorf("%d requests were accepted", n)
	}
	for _, secret := range []string{"T0KEN", testSecret, "AO/xoj6oC4v3r9VRbNixCnTqkjk83MWaguHGIr4TdYY="} {
		if strings.Contains(h.logs.String(), secret) || strings.Contains(fmt.Sprintf("%+v", h.rejected()), secret) {
			t.Errorf("%s is in the logs or the rejections", secret)
		}
	}
	st := h.server.Stats()
	if st.Rejected[CauseUnknownPath] != 6 || st.Sources["hr"].Rejected[CauseBadJSON] != 5 {
		t.Errorf("stats %+v", st)
	}
}

func TestPathToken(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		scheme := sdk.Scheme{Name: "t", Token: &sdk.Token{
			Part:         sdk.Part{Kind: sdk.PartPathToken},
			Alternatives: []sdk.Part{{Kind: sdk.PartQuery, Name: "token"}, {Kind: sdk.PartHeader, Name: "X-Token"}},
		}}
		v, err := auth.New(scheme, []string{"old", "sesame~1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Endpoints = []Endpoint{{Source: "lynx", Verifier: v, KeepHeaders: []string{"*"}, Path: "/in/lynx"}}
	})
	for i, c := range []struct {
		url, header string
		status      int
	}{
		{"/in/lynx/sesame~1?x=1", "", 200},
		{"/in/lynx/sesame%7E1?x=1", "", 200},
		{"/in/lynx/sesame~1%2f?x=1", "", 401},
		{"/in/lynx?token=sesame~1&x=1", "", 200},
		{"/in/lynx?x=1&to%6ben=sesame%7e1", "", 200},
		{"/in/lynx?x=1", "sesame~1", 200},
		{"/in/lynx/sesame~1?x=1&token=sesame~1", "", 401},
		{"/in/lynx/sesame~1?x=1", "sesame~1", 401},
		{"/in/lynx/?x=1", "", 404},
	} {
		r, err := http.NewRequest(http.MethodPost, h.url+c.url, strings.NewReader(fmt.Sprintf(`{"i":%d}`, i)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		if c.header != "" {
			r.Header.Set("X-Token", c.header)
		}
		if a := h.do(t, r); a.status != c.status {
			t.Errorf("%s %s: %d, want %d", c.url, c.header, a.status, c.status)
		}
	}
	for _, r := range h.accepted() {
		if r.Query != "x=1" {
			t.Errorf("query %q", r.Query)
		}
	}
	if got := h.server.Stats().Sources["lynx"].Secrets; !cmp.Equal(got, []uint64{0, 5}) {
		t.Errorf("secrets %v", got)
	}
	for _, text := range []string{h.logs.String(), fmt.Sprintf("%+v", h.rejected()), dump(h.accepted())} {
		if strings.Contains(text, "sesame") {
			t.Errorf("the token is in %s", text)
		}
	}
}

func dump(rs []*core.Request) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%+v %s\n", *r, r.Body)
	}
	return b.String()
}

func TestStoreFailures(t *testing.T) {
	var fail error
	h := start(t, func(c *Config, m *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		c.Limits.RetryAfter = 7 * time.Second
		m.hook = func(context.Context, *core.Request) error {
			if fail == nil {
				panic("a bug with " + testSecret)
			}
			return fail
		}
	})
	for _, c := range []struct {
		fail   error
		status int
		cause  string
		retry  string
	}{
		{errBroken, 503, CauseStore, "7"},
		{fmt.Errorf("insert: %w", store.ErrFull), 503, CauseDiskFull, "7"},
		{nil, 500, CauseInternal, ""},
	} {
		fail = c.fail
		a := h.do(t, h.signed(t, "{}", "X-Vwd-Event-Id", "x"))
		if a.status != c.status || a.header.Get("Retry-After") != c.retry {
			t.Errorf("%+v, want %d, Retry-After %q", a, c.status, c.retry)
		}
		h.wantRejection(t, c.status, c.cause)
	}
	if logs := h.logs.String(); strings.Contains(logs, testSecret) || !strings.Contains(logs, "broken store") {
		t.Error("logs:", logs)
	}
}

func TestAdmission(t *testing.T) {
	var cause string
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		c.Admit = func() string { return cause }
	})
	for given, want := range map[string]string{CauseDiskShort: CauseDiskShort, "anything": CauseNotReady} {
		cause = given
		a := h.do(t, h.signed(t, "{}", "X-Vwd-Event-Id", "x"))
		if a.status != 503 || a.header.Get("Retry-After") != "10" || a.body != `{"error":"unavailable"}` {
			t.Errorf("%+v", a)
		}
		h.wantRejection(t, 503, want)
	}
	cause = ""
	if a := h.do(t, h.signed(t, "{}", "X-Vwd-Event-Id", "x")); a.status != 200 {
		t.Errorf("%+v", a)
	}
}

func TestRateLimit(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	h := start(t, func(c *Config, _ *memory) {
		e := vwdEndpoint(t, "hr")
		e.Rate, e.Burst = 0.5, 2
		c.Endpoints = []Endpoint{e}
		c.Now = func() time.Time { return now }
	})
	send := func() answer { return h.do(t, h.signed(t, "{}", "X-Vwd-Event-Id", "x")) }
	for range 5 { // strangers use up nothing
		r := h.signed(t, "{}")
		r.Header.Del("X-Vwd-Signature-V1")
		h.do(t, r)
	}
	for i, want := range []int{200, 200, 429} {
		if a := send(); a.status != want || want == 429 && a.header.Get("Retry-After") != "2" {
			t.Errorf("%d: %+v", i, a)
		}
	}
	h.wantRejection(t, 429, CauseRateLimited)
	now = now.Add(2 * time.Second)
	if a := send(); a.status != 200 {
		t.Errorf("later: %+v", a)
	}
	now = now.Add(-time.Hour) // a clock that is set back stops nobody for an hour
	if a := send(); a.status != 200 {
		t.Errorf("after the clock was set back: %+v", a)
	}
}

func TestAllowListIsUnauthorized(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		s, _ := sdk.Preset("path_token")
		s.Allow = []sdk.AllowList{{Attribute: "ids", Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}}}
		v, err := auth.New(s, []string{"tok"}, map[string][]string{"ids": {"a"}})
		if err != nil {
			t.Fatal(err)
		}
		c.Endpoints = []Endpoint{{Source: "x", Verifier: v}}
	})
	for body, want := range map[string]int{`{"id":"a"}`: 200, `{"id":"b"}`: 401, `{}`: 401} {
		if a := h.do(t, h.signedFor(t, "path_token", "tok", "/hooks/x", body)); a.status != want {
			t.Errorf("%s: %d, want %d", body, a.status, want)
		}
	}
	h.wantRejection(t, 401, auth.CauseNotAllowed)
}

func TestDedupeKey(t *testing.T) {
	v := verifier(t, "path_token", "tok")
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{{
			Source: "x", Verifier: v, ContentTypes: []string{"*"},
			Dedupe: []sdk.DedupeKey{{{Kind: sdk.PartJSONPointer, Name: "/eventid", FoldCase: true}}},
		}}
	})
	for _, c := range []struct {
		contentType, body string
		want              core.DedupeKey
	}{
		{"application/json", `{"EventId":"7","x":1}`, core.NewDedupeKey("x", []byte("7"))},
		{"text/plain", `{"eventID":"8"}`, core.NewDedupeKey("x", []byte("8"))},
		{"application/json", `{"EventId":""}`, core.NewDedupeKey("x", []byte(`{"EventId":""}`))},
		{"application/json", `{"EventId":null}`, core.NewDedupeKey("x", []byte(`{"EventId":null}`))},
		{"text/plain", "no json", core.NewDedupeKey("x", []byte("no json"))},
		{"text/plain", "", core.NewDedupeKey("x", nil)},
	} {
		r := h.signedFor(t, "path_token", "tok", "/hooks/x", c.body, "Content-Type", c.contentType)
		if a := h.do(t, r); a.status != 200 {
			t.Fatalf("%+v: %+v", c, a)
		}
		all := h.accepted()
		if got := all[len(all)-1].Dedupe; got != c.want {
			t.Errorf("%+v: got %x", c, got)
		}
	}
}

func TestGzipBomb(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")} })
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r := h.signed(t, b.String(), "Content-Encoding", "gzip")
	if a := h.do(t, r); a.status != 415 {
		t.Errorf("%+v", a)
	}
}

// Ten megabytes of brackets, signed by who may: refused in bounded time.
func TestHostileBodies(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		e := vwdEndpoint(t, "hr")
		e.MaxBody = 32 << 20
		c.Endpoints = []Endpoint{e}
	})
	for name, body := range map[string]string{
		"brackets": strings.Repeat("[", 10<<20),
		"braces":   strings.Repeat(`{"a":`, 2<<20),
		"digits":   strings.Repeat("9", 10<<20),
		"quotes":   `"` + strings.Repeat(`\"`, 5<<20),
		"nulls":    string(make([]byte, 10<<20)),
		"members":  `{` + strings.Repeat(`"a":1,`, 1<<20) + `"a":1}`,
	} {
		for _, length := range []int64{int64(len(body)), -1} {
			began := time.Now()
			r := h.signed(t, body)
			r.ContentLength = length
			if a := h.do(t, r); a.status != 400 {
				t.Errorf("%s: %+v", name, a)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s took %s", name, took)
			}
		}
	}
}

func TestBodySizes(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		e := vwdEndpoint(t, "hr")
		e.ContentTypes = []string{"*"}
		e.MaxBody = 300_000
		c.Endpoints = []Endpoint{e}
	})
	for _, n := range []int{0, 1, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 131073, 299_999, 300_000} {
		for _, length := range []int64{int64(n), -1} {
			body := strings.Repeat("x", n)
			r := h.signed(t, body, "Content-Type", "text/plain", "X-Vwd-Notification-Id", fmt.Sprint(n, length))
			if r.ContentLength = length; n == 0 && length == 0 {
				r.Body = nil
			}
			if a := h.do(t, r); a.status != 200 {
				t.Fatalf("%d bytes, length %d: %+v", n, length, a)
			}
			all := h.accepted()
			if got := all[len(all)-1].Body; string(got) != body || len(got) != cap(got) {
				t.Errorf("%d bytes, length %d: got %d, capacity %d", n, length, len(got), cap(got))
			}
		}
	}
	for _, length := range []int64{300_001, -1} {
		r := h.signed(t, strings.Repeat("x", 300_001), "Content-Type", "text/plain")
		r.ContentLength = length
		if a, err := h.try(r); err == nil && a.status != 413 {
			t.Errorf("length %d: %+v", length, a)
		}
		h.wantRejection(t, 413, CauseTooLarge)
	}
}

func TestMalformedWire(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		c.Limits.MaxHeader = 16 << 10
	})
	const line, host, ct = "POST /hooks/hr HTTP/1.1", "Host: x", "Content-Type: application/json"
	for _, c := range []struct {
		name   string
		text   string
		status int
		cause  string
	}{
		{"large header", head(line, host, "X-Big: "+strings.Repeat("x", 64<<10)), 431, CauseHeaderTooLarge},
		{"many headers", head(line, host, strings.Repeat("X-Many: 1\r\n", 8000)+"A: b"), 431, CauseHeaderTooLarge},
		{"long path", head("POST /"+strings.Repeat("p", 64<<10)+" HTTP/1.1", host), 431, CauseHeaderTooLarge},
		{"no host", head(line, ct), 400, CauseMalformedRequest},
		{"rubbish", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, CauseMalformedRequest},
		{"transfer encoding", head(line, host, "Transfer-Encoding: gzip, chunked"), 501, CauseMalformedRequest},
		{"bad chunks", head(line, host, ct, "Transfer-Encoding: chunked") + "zz\r\n{}\r\n", 400, CauseMalformedBody},
		{"bad expectation", head(line, host, ct, "Expect: tea"), 417, CauseMalformedRequest},
	} {
		a, err := h.raw(t, c.text)
		if err != nil || a.status != c.status {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
		want := c.status
		if c.status == 501 || c.status == 417 {
			want = 400 // net/http answers; all that can be seen from here is that it did
		}
		h.wantRejection(t, want, c.cause)
	}
}

// A body in chunks of odd sizes, byte by byte on the wire if need be, is the same body.
func TestChunks(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")} })
	body := `{"n":"` + strings.Repeat("é", 20_000) + `"}`
	signature := h.signed(t, body).Header.Get("X-Vwd-Signature-V1")
	a, err := h.raw(t, head("POST /hooks/hr HTTP/1.1", "Host: x", "Content-Type: application/json",
		"X-VWD-Signature-V1: "+signature, "X-Vwd-Event-Id: x", "Transfer-Encoding: chunked"),
		chunked(body[:1], body[1:7], body[7:16_384], body[16_384:16_385], body[16_385:]))
	if err != nil || a.status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := string(h.accepted()[0].Body); got != body {
		t.Errorf("%d bytes, want %d", len(got), len(body))
	}
}

func TestExpectContinue(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")} })
	h.client.Transport.(*http.Transport).ExpectContinueTimeout = 5 * time.Second
	r := h.signed(t, "{}", "X-Vwd-Event-Id", "x", "Expect", "100-continue")
	if a := h.do(t, r); a.status != 200 {
		t.Errorf("%+v", a)
	}
	// Refused by its head: the body is not asked for.
	began := time.Now()
	a, err := h.raw(t, head("POST /hooks/none HTTP/1.1", "Host: x", "Expect: 100-continue", "Content-Length: 1000"))
	if err != nil || a.status != 404 || time.Since(began) > 3*time.Second {
		t.Errorf("%+v, %v", a, err)
	}
}

// A slow head, a slow body and a body that is promised only: each ends in bounded time, and holds little memory until
// then.
func TestSlow(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		e := vwdEndpoint(t, "hr")
		e.MaxBody = 8 << 20
		c.Endpoints = []Endpoint{e}
		c.Limits.ReadHeaderTimeout = 300 * time.Millisecond
		c.Limits.BodyGrace = 300 * time.Millisecond
		c.Limits.BodyTimeout = 2 * time.Second
		c.Limits.MinBodyRate = 256 << 10
	})
	drip := func(t *testing.T, start string) (answer, time.Duration, error) {
		c := h.dial(t)
		defer c.Close()
		began := time.Now()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			send(c, start)
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
				}
			}
		})
		a, err := readAnswer(c)
		took := time.Since(began)
		close(stop)
		wg.Wait()
		return a, took, err
	}
	const body = "POST /hooks/hr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

	_, took, err := drip(t, "POST /hooks/hr HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	if err == nil || took > 3*time.Second {
		t.Errorf("slow head: %v after %s", err, took)
	}
	h.wantRejection(t, 408, CauseHeaderTimeout)

	for _, framing := range []string{"Content-Length: 5000000\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n4000\r\n"} {
		a, took, err := drip(t, body+framing)
		if err != nil || a.status != 408 || took > 4*time.Second {
			t.Errorf("slow body: %+v, %v after %s", a, err, took)
		}
		h.wantRejection(t, 408, CauseBodyTimeout)
	}

	c := h.dial(t)
	defer c.Close()
	send(c, body+"Content-Length: 8000000\r\n\r\n")
	time.Sleep(100 * time.Millisecond)
	if held := h.server.Stats().BodyMemory; held == 0 || held > firstChunk {
		t.Errorf("a promised body holds %d bytes", held)
	}
	if a, err := readAnswer(c); err != nil || a.status != 408 {
		t.Errorf("promised body: %+v, %v", a, err)
	}

	// A body that keeps up with the rate may take longer than the grace, but not longer than the whole may.
	for _, every := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond} {
		r := h.signed(t, `"`+strings.Repeat("x", 4<<20)+`"`, "X-Vwd-Event-Id", "x")
		r.Body = io.NopCloser(&paced{r: r.Body, chunk: 32 << 10, every: every})
		a, err := h.try(r)
		if every == 5*time.Millisecond && (err != nil || a.status != 200) {
			t.Errorf("body in time: %+v, %v", a, err)
		} else if every != 5*time.Millisecond {
			h.wantRejection(t, 408, CauseBodyTimeout)
		}
	}
}

// paced is a reader that waits before each chunk.
type paced struct {
	r     io.Reader
	chunk int
	every time.Duration
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	time.Sleep(p.every)
	return p.r.Read(b[:min(len(b), p.chunk)])
}

// A sender that is gone once its body has arrived changes nothing: the request is stored.
func TestClientGone(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var ctxErr error
	h := start(t, func(c *Config, m *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		m.hook = func(ctx context.Context, _ *core.Request) error {
			close(entered)
			<-leave
			ctxErr = ctx.Err()
			return nil
		}
	})
	r := h.signed(t, "{}", "X-Vwd-Event-Id", "x")
	c := h.dial(t)
	if err := r.Write(c); err != nil {
		t.Fatal(err)
	}
	<-entered
	c.Close()
	time.Sleep(50 * time.Millisecond)
	close(leave)
	for range 200 {
		if len(h.accepted()) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(h.accepted()) != 1 || ctxErr != nil {
		t.Errorf("%d requests, %v", len(h.accepted()), ctxErr)
	}

	// One that is gone before is a rejection.
	c = h.dial(t)
	send(c, "POST /hooks/hr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
	time.Sleep(50 * time.Millisecond)
	c.Close()
	h.wantRejection(t, 400, CauseClientGone)
	c = h.dial(t)
	send(c, "POST /hooks/hr HT")
	c.Close()
	h.wantRejection(t, 400, CauseClientGone)
}

func TestConnectionLimit(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		c.Limits.MaxConns = 2
	})
	var idle []net.Conn
	for range 2 {
		idle = append(idle, h.dial(t))
	}
	for h.server.Stats().Connections < 2 {
		time.Sleep(time.Millisecond)
	}
	a := h.do(t, h.signed(t, "{}", "X-Vwd-Event-Id", "x"))
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("third connection: %+v", a)
	}
	h.wantRejection(t, 503, CauseConnections)
	for _, c := range idle {
		c.Close()
	}
	for range 200 {
		if a = h.do(t, h.signed(t, "{}", "X-Vwd-Event-Id", "x")); a.status == 200 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if a.status != 200 {
		t.Errorf("after others closed: %+v", a)
	}

	// Far above the limit, the listener waits; nobody is lost when it goes on.
	for range 2 + spareConns(2) + 20 {
		idle = append(idle, h.dial(t))
	}
	time.Sleep(50 * time.Millisecond)
	if n, most := h.server.Stats().Connections, 2+spareConns(2); n > most {
		t.Errorf("%d connections, at most %d", n, most)
	}
	for _, c := range idle {
		c.Close()
	}
}

func TestBodyMemory(t *testing.T) {
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	h := start(t, func(c *Config, m *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		c.Limits.MaxBodyMemory = 150_000
		m.hook = func(context.Context, *core.Request) error {
			entered <- struct{}{}
			<-leave
			return nil
		}
	})
	big := `"` + strings.Repeat("x", 100_000) + `"`
	var wg sync.WaitGroup
	wg.Go(func() {
		if a := h.do(t, h.signed(t, big, "X-Vwd-Event-Id", "x")); a.status != 200 {
			t.Errorf("first: %+v", a)
		}
	})
	<-entered
	for _, length := range []int64{int64(len(big)), -1} {
		r := h.signed(t, big, "X-Vwd-Event-Id", "y")
		r.ContentLength = length
		if a, err := h.try(r); err == nil && (a.status != 503 || a.header.Get("Retry-After") == "") {
			t.Errorf("second: %+v", a)
		}
		h.wantRejection(t, 503, CauseOverloaded)
	}
	close(leave)
	wg.Wait()
}

func TestProxies(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) {
		e := vwdEndpoint(t, "hr")
		e.AllowIPs = []netip.Prefix{netip.MustParsePrefix("18.202.121.26/32")}
		c.Endpoints = []Endpoint{e}
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	for chain, want := range map[string]int{
		"18.202.121.26":                     200,
		"9.9.9.9, 18.202.121.26, 10.0.0.7":  200,
		"18.202.121.26, 9.9.9.9":            403,
		"18.202.121.26, rubbish, 127.0.0.2": 403,
		"":                                  403,
	} {
		r := h.signed(t, "{}", "X-Vwd-Notification-Id", "n"+chain, "X-Forwarded-For", chain)
		if a := h.do(t, r); a.status != want {
			t.Errorf("%q: %d, want %d", chain, a.status, want)
		}
	}
	for _, r := range h.accepted() {
		if r.RemoteAddr != "18.202.121.26" {
			t.Errorf("remote address %q", r.RemoteAddr)
		}
	}
}

func TestShutdown(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	h := start(t, func(c *Config, m *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		m.hook = func(ctx context.Context, r *core.Request) error {
			close(entered)
			<-leave
			return ctx.Err()
		}
	})
	done := make(chan answer)
	go func() {
		a, _ := h.try(h.signed(t, "{}", "X-Vwd-Event-Id", "x"))
		done <- a
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- h.server.Shutdown(context.Background()) }()
	for !h.server.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-stopped:
		t.Fatal("shut down with a request in flight")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	if a := <-done; a.status != 200 {
		t.Errorf("the request in flight: %+v", a)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", h.addr); err == nil {
		t.Error("the port is still open")
	}
}

func TestDraining(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")} })
	h.server.draining.Store(true)
	a := h.do(t, h.signed(t, "{}", "X-Vwd-Event-Id", "x"))
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", a)
	}
	h.wantRejection(t, 503, CauseDraining)
}

func TestShutdownDeadline(t *testing.T) {
	entered := make(chan struct{})
	m := &memory{hook: func(ctx context.Context, _ *core.Request) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}}
	h := start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		c.Acceptor = m
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = h.try(h.signed(t, "{}", "X-Vwd-Event-Id", "x")) // its connection is broken off
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.server.Shutdown(ctx); err == nil {
		t.Error("no error")
	}
	<-done
	for h.server.Stats().Requests > 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestReload(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")} })
	send := func(path, id string) int {
		r := h.signed(t, "{}", "X-Vwd-Notification-Id", id)
		r.URL.Path = path
		return h.do(t, r).status
	}
	if got := send("/hooks/hr", "1"); got != 200 {
		t.Fatal(got)
	}
	moved := vwdEndpoint(t, "hr")
	moved.Path = "/new"
	p, err := h.server.Prepare(Settings{Endpoints: []Endpoint{moved}})
	if err != nil {
		t.Fatal(err)
	}
	if got := send("/hooks/hr", "0"); got != 200 {
		t.Errorf("what is only prepared holds: %d", got)
	}
	h.server.Use(p)
	if got := send("/hooks/hr", "2"); got != 404 {
		t.Error(got)
	}
	if got := send("/new", "3"); got != 200 {
		t.Error(got)
	}
	moved.Path = "bad"
	if _, err := h.server.Prepare(Settings{Endpoints: []Endpoint{moved}}); err == nil {
		t.Error("a bad endpoint was taken")
	}
	if got := send("/new", "4"); got != 200 {
		t.Error(got)
	}
	if n := h.server.Stats().Sources["hr"].Accepted; n != 4 {
		t.Errorf("%d accepted, want 4", n)
	}
}

// TestReloadKeepsRates has a source's bucket of requests stay as empty as it is, unless its rate changes.
func TestReloadKeepsRates(t *testing.T) {
	e := vwdEndpoint(t, "hr")
	e.Rate, e.Burst = 1e-6, 2
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{e} })
	n := 0
	send := func() int {
		n++
		return h.do(t, h.signed(t, "{}", "X-Vwd-Notification-Id", fmt.Sprint(n))).status
	}
	use := func(set Settings) {
		p, err := h.server.Prepare(set)
		if err != nil {
			t.Fatal(err)
		}
		h.server.Use(p)
	}
	send()
	use(Settings{Endpoints: []Endpoint{e}})
	if a, b := send(), send(); a != 200 || b != 429 {
		t.Errorf("after a reload: %d, %d", a, b)
	}
	e.Burst = 3
	use(Settings{Endpoints: []Endpoint{e}, MaxBody: 1})
	if got := send(); got != 413 {
		t.Errorf("a body above the new limit: %d", got)
	}
	use(Settings{Endpoints: []Endpoint{e}})
	if got := send(); got != 200 {
		t.Errorf("with another rate: %d", got)
	}
}

func TestTLS(t *testing.T) {
	pair, pool := fresh(t, 1), x509.NewCertPool()
	pool.AppendCertsFromPEM(pair.cert)
	h, _, _ := tlsHost(t, pair, nil)
	for _, http2 := range []bool{false, true} {
		h.client.CloseIdleConnections()
		h.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: http2}
		for i := range 3 {
			r := h.signed(t, strings.Repeat(" ", 200_000)+"{}", "X-Vwd-Notification-Id", fmt.Sprint(http2, i))
			resp, err := h.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || (resp.ProtoMajor == 2) != http2 {
				t.Errorf("%s %s", resp.Proto, resp.Status)
			}
		}
		r := h.signed(t, strings.Repeat(" ", 2<<20)+"{}")
		if a, err := h.try(r); err == nil && a.status != 413 {
			t.Errorf("%+v", a)
		}
		h.wantRejection(t, 413, CauseTooLarge)
	}
}

// Many at once, half of them bad and a quarter duplicates: everything is counted once.
func TestConcurrent(t *testing.T) {
	h := start(t, func(c *Config, _ *memory) { c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")} })
	const workers, each = 16, 60
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				body := fmt.Sprintf(`{"w":%d,"i":%d}`, w, i/2*2)
				r := h.signed(t, body, "X-Vwd-Event-Id", "x")
				want := 200
				if i%4 >= 2 {
					r.Header.Set("X-Vwd-Signature-V1", "AO/xoj6oC4v3r9VRbNixCnTqkjk83MWaguHGIr4TdYY=")
					want = 401
				}
				if a := h.do(t, r); a.status != want {
					t.Errorf("%+v", a)
				}
			}
		})
	}
	wg.Wait()
	got := h.server.Stats().Sources["hr"]
	want := SourceStats{
		Accepted: workers * each / 4, Duplicates: workers * each / 4, Secrets: []uint64{workers * each / 2},
		Rejected: map[string]uint64{auth.CauseBadSignature: workers * each / 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	st := h.server.Stats()
	if n := uint64(len(h.rejected())) + st.Unrecorded; n != workers*each/2 {
		t.Errorf("%d rejections listed or known to be left out, want %d", n, workers*each/2)
	}
	if lines := strings.Count(h.logs.String(), "\n"); lines > 40 {
		t.Errorf("%d lines of log", lines)
	}
}

func TestNewRefuses(t *testing.T) {
	good := func() Endpoint { return vwdEndpoint(t, "hr") }
	for _, c := range []struct {
		name   string
		change func(e *Endpoint)
		more   []Endpoint
		want   string
	}{
		{"no name", func(e *Endpoint) { e.Source = "" }, nil, "no name"},
		{"no credentials", func(e *Endpoint) { e.Verifier = nil }, nil, "explicit choice"},
		{"unsigned and signed", func(e *Endpoint) { e.Unsigned = true }, nil, "explicit choice"},
		{"relative path", func(e *Endpoint) { e.Path = "hr" }, nil, "does not start with /"},
		{"root", func(e *Endpoint) { e.Path = "/" }, nil, "no segment"},
		{"slash", func(e *Endpoint) { e.Path = "/hr/" }, nil, "shortest form"},
		{"dots", func(e *Endpoint) { e.Path = "/a/../b" }, nil, "shortest form"},
		{"query", func(e *Endpoint) { e.Path = "/a?b" }, nil, "reserve"},
		{"media type", func(e *Endpoint) { e.ContentTypes = []string{"a/b; c=d"} }, nil, "media type"},
		{"header pattern", func(e *Endpoint) { e.KeepHeaders = []string{"x-*-y"} }, nil, "pattern"},
		{"empty header pattern", func(e *Endpoint) { e.KeepHeaders = []string{""} }, nil, "pattern"},
		{"empty dedupe key", func(e *Endpoint) { e.Dedupe = []sdk.DedupeKey{{}} }, nil, "no parts"},
		{"constant dedupe key", func(e *Endpoint) {
			e.Dedupe = []sdk.DedupeKey{{{Kind: sdk.PartLiteral, Name: "x"}}}
		}, nil, "same for all"},
		{"reply status", func(e *Endpoint) { e.Reply.Status = 302 }, nil, "2xx"},
		{"reply 204", func(e *Endpoint) { e.Reply = sdk.Reply{Status: 204, Body: []byte("x")} }, nil, "204"},
		{"reply type", func(e *Endpoint) { e.Reply.ContentType = "a\r\nb: c" }, nil, "header"},
		{"rate", func(e *Endpoint) { e.Rate = -1 }, nil, "negative"},
		{"same path", func(e *Endpoint) {}, []Endpoint{{Source: "b", Unsigned: true, Path: "/hooks/hr"}}, "same path"},
		{"same source", func(e *Endpoint) {}, []Endpoint{{Source: "hr", Unsigned: true, Path: "/b"}}, "stands twice"},
		{"path where a token stands", func(e *Endpoint) {}, []Endpoint{
			{Source: "t", Verifier: verifier(t, "path_token", "x")}, {Source: "u", Unsigned: true, Path: "/hooks/t/u"},
		}, "has its token"},
	} {
		e := good()
		c.change(&e)
		m := &memory{}
		_, err := New(Config{
			Acceptor: m, Rejections: m, Logger: discard(), Endpoints: append([]Endpoint{e}, c.more...),
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}
