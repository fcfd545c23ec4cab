package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	goodKey  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherKey = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func TestWrongConfigurations(t *testing.T) {
	for config, wants := range map[string][]string{
		`{"url": "example.com/x"}`:                               {"url: must start with https://"},
		`{"url": "ftp://example.com"}`:                           {"url: must start with https://"},
		`{"url": "https://"}`:                                    {"url: has no host"},
		`{"url": "https:example.com"}`:                           {"url: has no host"},
		`{"url": "https://exa mple.com/s3cr3t"}`:                 {"url: is not an address"},
		`{"url": "https://example.com:0/s3cr3t"}`:                {"url: has a port"},
		`{"url": "https://u:s3cr3t@example.com"}`:                {"url: must not hold a user name"},
		`{"url": "https://example.com/#s3cr3t"}`:                 {"url: must not have a fragment"},
		`{"url": "https://127.0.0.1/"}`:                          {"url: leads to the loopback address 127.0.0.1"},
		`{"url": "https://[::ffff:10.1.2.3]:8443/"}`:             {"url: leads to the private address ::ffff:10.1.2.3"},
		`{"url": "http://LOCALHOST./"}`:                          {"url: leads to this machine itself"},
		`{"url": "http://x.localhost/"}`:                         {"url: leads to this machine itself"},
		`{"url": "https://169.254.169.254/latest"}`:              {"url: leads to the link-local address"},
		ok(`"method": "GET"`):                                    {"method: GET has no body"},
		ok(`"method": "post"`):                                   {"method: must be one of"},
		ok(`"mode": "cloud"`):                                    {"mode: must be one of"},
		ok(`"content_type": "text/plain"`):                       {`content_type: is given by the mode "structured"`},
		ok(`"mode": "raw", "content_type": "a b"`):               {"content_type: is not a media type"},
		ok(`"timeout": 1000`):                                    {"timeout: must be from 10ms"},
		ok(`"max_bytes": 10`):                                    {"max_bytes: must be from 1024"},
		ok(`"headers": {"a b": "x"}`):                            {"headers.a b: is not the name of a header"},
		ok(`"headers": {"a": "x\ny"}`):                           {"headers.a: has a value with control characters"},
		ok(`"headers": {"A": "x", "a": "y"}`):                    {"headers.a: is given twice"},
		ok(`"headers": {"Authorization": "s3cr3t"}`):             {"headers.Authorization: holds a credential"},
		ok(`"headers": {"cookie": "s3cr3t"}`):                    {"headers.cookie: holds a credential"},
		ok(`"headers": {"Content-Length": "1"}`):                 {"headers.Content-Length: cannot be set: the header belongs to HTTP"},
		ok(`"headers": {"webhook-id": "1"}`):                     {"headers.webhook-id: cannot be set"},
		ok(`"headers": {"ce-id": "1"}`):                          {"headers.ce-id: cannot be set"},
		ok(`"secret_headers": {"a": "s3cr3t\n"}`):                {"secret_headers.a: has a value with control characters"},
		ok(`"id_header": "a b"`):                                 {"id_header: is not the name"},
		ok(`"id_header": "webhook-id"`):                          {"id_header: cannot be set"},
		ok(`"bearer_token": "s3cr3t\n"`):                         {"bearer_token: holds white space"},
		ok(`"bearer_token": "Bearer s3cr3t"`):                    {"bearer_token: holds white space"},
		ok(`"basic": {"username": "a:b", "password": "s3cr3t"}`): {"basic.username: must not hold a colon"},
		ok(`"bearer_token": "s3cr3t", "basic": {"username": "a", "password": "s3cr3t"}`): {
			"basic: cannot stand beside bearer_token",
		},
		ok(`"bearer_token": "s3cr3t", "secret_headers": {"authorization": "s3cr3t"}`): {
			"bearer_token: cannot stand beside secret_headers.Authorization",
		},
		ok(`"oauth": {"token_url": "http://t.example.com", "client_id": "", "client_secret": "s3cr3t"}`): {
			"oauth.client_id: must not be empty", "oauth.token_url: must be https",
		},
		ok(`"oauth": {"token_url": "https://10.0.0.1/t", "client_id": "a", "client_secret": "s3cr3t"}`): {
			"oauth.token_url: leads to the private address 10.0.0.1",
		},
		`{"url": "http://example.com", "bearer_token": "s3cr3t"}`: {"url: must be https: credentials"},
		ok(`"signing": {"keys": []}`):                             {"signing.keys: must hold at least one key"},
		ok(`"signing": {"keys": [null]}`):                         {"signing.keys: must hold at least one key"},
		ok(`"signing": {"keys": ["` + goodKey + `", "s3cr3t!"]}`): {"signing.keys.1: is not base64"},
		ok(`"signing": {"keys": ["whsec_czNjcjN0"]}`):             {"signing.keys.0: is too short"},
		ok(`"signing": {"keys": ["whpk_czNjcjN0"]}`):              {"signing.keys.0: is a public key"},
		ok(`"signing": {"keys": ["whsk_czNjcjN0"]}`):              {"signing.keys.0: is not an ed25519 key"},
		ok(`"signing": {"keys": ["whsk_!"]}`):                     {"signing.keys.0: is not base64 after whsk_"},
		ok(`"signing": {"keys": ["whsk_` + strings.Repeat("A", 86) + `=="]}`): {
			"signing.keys.0: is not an ed25519 key: its halves",
		},
		ok(`"proxy": "s3cr3t"`):                           {"proxy: is not the address of a proxy"},
		ok(`"proxy": "ftp://u:s3cr3t@example.com"`):       {"proxy: is not the address of a proxy"},
		ok(`"tls": {"cert": "/x"}`):                       {"tls.cert: needs a key"},
		ok(`"tls": {"key": "/x"}`):                        {"tls.key: needs a cert"},
		ok(`"abuse_protection": {"origin": "https://x"}`): {"abuse_protection.origin: is not a DNS name"},
		ok(`"abuse_protection": {"origin": "x", "rate": -1}`): {
			"abuse_protection.rate: must not be negative",
		},
		ok(`"status": {"success": ["2xx", "20x"], "retry": ["600", "2XX"], "reject": ["409"], "suspend": ["409", "1xx", "99", ""]}`): {
			"status.success.1: is not a status", "status.retry.0: is not a status", "status.retry.1: stands in success",
			"status.suspend.0: stands in reject", "status.suspend.1: is not", "status.suspend.2: is not", "status.suspend.3: is not",
		},
	} {
		err := factory().Validate([]byte(config))
		var texts []string
		for _, e := range sdk.AttributeErrors(err) {
			texts = append(texts, e.Error())
			if strings.Contains(e.Error()+e.Detail, "s3cr3t") {
				t.Errorf("%s: shows the secret: %s", config, e)
			}
		}
		if len(texts) != len(wants) {
			t.Errorf("%s: %q, want %q", config, texts, wants)
			continue
		}
		for _, want := range wants {
			if !slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(s, want) }) {
				t.Errorf("%s: %q, want %q", config, texts, want)
			}
		}
	}
}

// ok is a configuration that is good but for more.
func ok(more string) string { return `{"url": "https://example.com/hooks", ` + more + `}` }

func TestGoodConfigurations(t *testing.T) {
	for _, config := range []string{
		`{"url": "https://example.com"}`,
		`{"url": "http://example.com:8080/a?b=c"}`,
		`{"url": "https://[2606:4700::1111]/"}`,
		`{"url": "http://localhost:8080", "allow_private": true, "bearer_token": "s3cr3t"}`,
		ok(`"mode": "raw", "method": "GET"`),
		ok(`"signing": {"keys": ["` + goodKey + `", "` + otherKey[6:] + `", null, "whsk_` + strings.Repeat("A", 43) + `="]}`),
		ok(`"proxy": "socks5://u:p@10.0.0.1:1080"`),
		ok(`"proxy": "http://proxy:3128"`),
		ok(`"oauth": {"token_url": "https://t.example.com/t", "client_id": "a", "client_secret": "s3cr3t"}`),
		ok(`"status": {"success": ["2XX", "409"], "retry": [], "reject": ["4xx"], "suspend": ["404"]}`),
		ok(`"tls": {}`),
		ok(`"abuse_protection": {"origin": "hooks.example.com", "rate": 120}`),
	} {
		if err := factory().Validate([]byte(config)); err != nil {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func TestMaxBatch(t *testing.T) {
	f := factory()
	for mode, want := range map[string]int{"structured": 1, "binary": 1, "raw": 1, "batch": 100} {
		if got := f.MaxBatch([]byte(ok(`"mode": "` + mode + `"`))); got != want {
			t.Errorf("mode %s: %d deliveries per call, want %d", mode, got, want)
		}
	}
}

func TestClasses(t *testing.T) {
	verdicts := func(lists *Status) map[class][]int {
		var p problems
		c := (&Config{Status: lists}).checkStatus(&p)
		if len(p) > 0 {
			t.Fatal(p)
		}
		all := map[class][]int{}
		for _, status := range []int{
			100, 200, 204, 299, 300, 302, 304, 308, 400, 401, 402, 403, 404, 405, 407, 408, 409, 410, 413, 415, 418, 422, 423, 425, 429,
			499, 500, 501, 503, 599, 600, 999,
		} {
			k := c.of(status).class
			all[k] = append(all[k], status)
		}
		return all
	}
	want := map[class][]int{
		classSuccess: {200, 204, 299},
		classSuspend: {300, 302, 304, 308, 401, 402, 403, 404, 405, 407, 410},
		classReject:  {400, 409, 413, 415, 418, 422, 499},
		classRetry:   {100, 408, 423, 425, 429, 500, 501, 503, 599, 600, 999},
	}
	if diff := cmp.Diff(want, verdicts(nil)); diff != "" {
		t.Errorf("defaults: -want +got\n%s", diff)
	}
	want = map[class][]int{
		classSuccess: {200, 299, 409},
		classReject:  {204, 404, 501},
		classSuspend: {300, 302, 304, 308, 422, 500, 503, 599},
		classRetry:   {100, 400, 401, 402, 403, 405, 407, 408, 410, 413, 415, 418, 423, 425, 429, 499, 600, 999},
	}
	got := verdicts(&Status{
		Success: []string{"409"}, Retry: []string{"4xx"}, Reject: []string{"404", "501", "204"}, Suspend: []string{"5xx", "422"},
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configured: -want +got\n%s", diff)
	}
}

func FuzzParseStatus(f *testing.F) {
	for _, s := range []string{"200", "4xx", "2XX", "1xx", "600", "20", "2x2", "é0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, ok := parseStatus(s)
		if !ok {
			return
		}
		if first < 200 || last > 599 || last < first || last-first != 0 && last-first != 99 {
			t.Fatalf("%q is %d to %d", s, first, last)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after, date string
		want        time.Duration
		ok          bool
	}{
		{"", "", 0, false},
		{"0", "", 0, true},
		{" 120 ", "", 2 * time.Minute, true},
		{"99999999999999999999", "", 1 << 30 * time.Second, true},
		{"-1", "", 0, false},
		{"1.5", "", 0, false},
		{"soon", "", 0, false},
		{"Thu, 15 Jan 2026 10:01:00 GMT", "", time.Minute, true},
		{"Thu, 15 Jan 2026 09:00:00 GMT", "", 0, true},
		{"Thursday, 15-Jan-26 10:01:00 GMT", "", time.Minute, true},
		{"Thu Jan 15 10:01:00 2026", "", time.Minute, true},
		{"Thu, 15 Jan 2026 10:01:00 GMT", "Thu, 15 Jan 2026 10:00:30 GMT", 30 * time.Second, true}, // its clock is ahead
		{"Thu, 15 Jan 2026 10:01:00 GMT", "today", time.Minute, true},
	} {
		h := http.Header{}
		h.Set("Retry-After", c.after)
		h.Set("Date", c.date)
		if got, ok := retryAfter(h, now); got != c.want || ok != c.ok {
			t.Errorf("Retry-After %q, Date %q: %v, %v; want %v, %v", c.after, c.date, got, ok, c.want, c.ok)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Thu, 15 Jan 2026 10:01:00 GMT", "Thu, 15 Jan 2026 10:00:30 GMT")
	f.Add("Thu, 15 Jan 9999 10:01:00 GMT", "Mon Jan _2 15:04:05 0000")
	now := time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, after, date string) {
		d, ok := retryAfter(http.Header{"Retry-After": {after}, "Date": {date}}, now)
		if d < 0 || !ok && d != 0 {
			t.Fatalf("%q: %v, %v", after, d, ok)
		}
	})
}
