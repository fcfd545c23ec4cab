package main

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
)

const wantEvent = `{"specversion":"1.0","id":"evt_7","source":"urn:grapnel:source:hr","type":"test.thing.created",` +
	`"subject":"thing/1","time":"2026-01-15T10:00:00Z","datacontenttype":"application/json","tenant":"Bücher AG",` +
	`"deliveryid":"dlv_7","sequence":"0000000000000000007","data":`

func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		config, message string
		noData          bool
		method, uri     string // default POST, /hooks?a=b
		header          map[string]string
		body            string
	}{
		"structured": {
			header: map[string]string{
				"Content-Type": "application/cloudevents+json; charset=utf-8", "Webhook-Id": "dlv_7", "Ce-Id": "",
				"Traceparent": "00-aa-bb-01", "X-Idempotency-Key": "", "Webhook-Signature": "", "Authorization": "",
			},
			body: wantEvent + `{"n": 7, "amount": 1.10}}`,
		},
		"structured, mapped": {
			message: `{"body": {"x": [1.50]}}`, body: wantEvent + `{"x": [1.50]}}`,
		},
		"structured, null body": {message: `{"body": null}`, body: wantEvent + `{"n": 7, "amount": 1.10}}`},
		"structured, no data":   {noData: true, body: wantEvent + `null}`},
		"binary": {
			config: `"mode": "binary"`,
			header: map[string]string{
				"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Id": "evt_7", "Ce-Source": "urn:grapnel:source:hr",
				"Ce-Type": "test.thing.created", "Ce-Subject": "thing/1", "Ce-Time": "2026-01-15T10:00:00Z",
				"Ce-Tenant": "B%C3%BCcher%20AG", "Ce-Deliveryid": "dlv_7", "Ce-Sequence": "0000000000000000007",
				"Ce-Datacontenttype": "", "Ce-Partitionkey": "", "Webhook-Id": "dlv_7",
			},
			body: `{"n": 7, "amount": 1.10}`,
		},
		"binary, no data": {config: `"mode": "binary"`, noData: true, body: `null`},
		"batch": {
			config: `"mode": "batch"`,
			header: map[string]string{"Content-Type": "application/cloudevents-batch+json", "Webhook-Id": "dlv_7"},
			body:   `[` + wantEvent + `{"n": 7, "amount": 1.10}}]`,
		},
		"raw": {
			config: `"mode": "raw"`, message: `{"body": {"id": 1.0, "name": "x"}}`,
			header: map[string]string{"Content-Type": "application/json", "Ce-Id": ""},
			body:   `{"id": 1.0, "name": "x"}`,
		},
		"raw, event's data": {config: `"mode": "raw"`, body: `{"n": 7, "amount": 1.10}`},
		"raw, no data":      {config: `"mode": "raw"`, noData: true, body: `null`},
		"raw, scalar":       {config: `"mode": "raw"`, message: `{"body": "text"}`, body: `"text"`},
		"raw, own JSON type": {
			config: `"mode": "raw", "content_type": "application/vnd.x+json"`, message: `{"body": "text"}`, body: `"text"`,
		},
		"raw, text": {
			config:  `"mode": "raw", "content_type": "text/plain"`,
			message: `{"body": "a\n\u00e9 <b>"}`, body: "a\né <b>",
		},
		"raw, form from text": {
			config:  `"mode": "raw", "content_type": "application/x-www-form-urlencoded"`,
			message: `{"body": "a=b"}`, body: "a=b",
		},
		"raw, form from object": {
			config:  `"mode": "raw", "content_type": "application/x-www-form-urlencoded"`,
			message: `{"body": {"z z": "ä&=", "n": 1.50, "b": true, "none": null, "l": [1, "x"]}}`,
			body:    "z+z=%C3%A4%26%3D&n=1.50&b=true&l=1&l=x",
		},
		"raw, DELETE": {
			config: `"mode": "raw", "method": "DELETE"`, message: `{"path": "contacts/4101"}`,
			method: "DELETE", uri: "/hooks/contacts/4101?a=b", header: map[string]string{"Content-Type": ""}, body: "",
		},
		"raw, DELETE with body": {
			config: `"mode": "raw"`, message: `{"method": "DELETE", "body": [1]}`, method: "DELETE", body: "[1]",
			header: map[string]string{"Content-Type": "application/json"},
		},
		"raw, GET": {config: `"mode": "raw"`, message: `{"method": "GET", "path": "?c=d e"}`, method: "GET", uri: "/hooks?a=b&c=d%20e"},
		"method":   {config: `"method": "PUT"`, method: "PUT", body: wantEvent + `{"n": 7, "amount": 1.10}}`},
		"message's method, path, headers": {
			message: `{"method": "PATCH", "path": "a%2Fb/c d?e=f", "headers": {"x-more": "1", "X-Static": "mine"}}`,
			config:  `"headers": {"X-Static": "s", "X-Other": "o"}`,
			method:  "PATCH", uri: "/hooks/a%2Fb/c%20d?a=b&e=f",
			header: map[string]string{"X-More": "1", "X-Static": "mine", "X-Other": "o"},
			body:   wantEvent + `{"n": 7, "amount": 1.10}}`,
		},
		"credentials": {
			config: `"bearer_token": "t0ken", "secret_headers": {"x-api-key": "k3y"}, "id_header": "idempotency-key"`,
			header: map[string]string{"Authorization": "Bearer t0ken", "X-Api-Key": "k3y", "Idempotency-Key": "dlv_7"},
			body:   wantEvent + `{"n": 7, "amount": 1.10}}`,
		},
		"basic": {
			config: `"basic": {"username": "Aladdin", "password": "open sesame"}`,
			header: map[string]string{"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
			body:   wantEvent + `{"n": 7, "amount": 1.10}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, nil)
			s := newSink(t, configFor(e.URL+"/hooks?a=b", c.config))
			d := newDelivery(7)
			d.TraceParent = "00-aa-bb-01"
			if c.message != "" {
				message(t, d, c.message)
			}
			if c.noData {
				d.Data = nil
			}
			if o := deliverOne(t, s, d); o.Kind != sdk.Delivered {
				t.Fatalf("%+v", o)
			}
			r := e.one(t)
			if c.method == "" {
				c.method = "POST"
			}
			if c.uri == "" {
				c.uri = "/hooks?a=b"
			}
			if r.method != c.method || r.uri != c.uri {
				t.Errorf("%s %s, want %s %s", r.method, r.uri, c.method, c.uri)
			}
			if diff := cmp.Diff(c.body, r.body); diff != "" {
				t.Errorf("body: -want +got\n%s", diff)
			}
			for name, want := range c.header {
				if got := strings.Join(r.header[name], ", "); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
			mustContain(t, "User-Agent", r.header.Get("User-Agent"), "grapnel-sink-http/")
		})
	}
}

func TestMessagesThatCannotBeSent(t *testing.T) {
	const rawForm = `"mode": "raw", "content_type": "application/x-www-form-urlencoded"`
	for name, c := range map[string]struct {
		config, message string
		path, reason    string
	}{
		"path above":      {"", `{"path": "../x"}`, "path", ". or .."},
		"escaped dots":    {"", `{"path": "a/%2e%2E/x"}`, "path", ". or .."},
		"escaped slash":   {"", `{"path": "a%2f..%2fx"}`, "path", ". or .."},
		"backslash":       {"", `{"path": "a\\..\\x"}`, "path", ". or .."},
		"dots; parameter": {"", `{"path": "a/..;x=y/b"}`, "path", ". or .."},
		"fragment":        {"", `{"path": "a#b"}`, "path", "fragment"},
		"bad escape":      {"", `{"path": "a%zz"}`, "path", "escape"},
		"line break":      {"", `{"path": "a\r\nb"}`, "path", "control"},
		"escaped NUL":     {"", `{"path": "a%00b"}`, "path", "control"},
		"long":            {"", `{"path": "` + strings.Repeat("x", 9000) + `"}`, "path", "longer than 8192"},
		"header name":     {"", `{"headers": {"a b": "c"}}`, "headers a b", "name"},
		"header value":    {"", `{"headers": {"x": "a\r\nEvil: 1"}}`, "headers x", "control"},
		"host":            {"", `{"headers": {"host": "evil"}}`, "headers host", "HTTP itself"},
		"length":          {"", `{"headers": {"content-length": "1"}}`, "headers content-length", "HTTP itself"},
		"type":            {"", `{"headers": {"content-type": "x"}}`, "headers content-type", "content_type"},
		"signature":       {"", `{"headers": {"webhook-signature": "x"}}`, "headers webhook-signature", "signing"},
		"attribute":       {"", `{"headers": {"ce-type": "x"}}`, "headers ce-type", "the event"},
		"authorization":   {"", `{"headers": {"authorization": "x"}}`, "headers authorization", "credentials"},
		"secret header":   {`"secret_headers": {"x-k": "kkkk"}`, `{"headers": {"X-K": "x"}}`, "headers X-K", "credentials"},
		"id header":       {`"id_header": "x-id"`, `{"headers": {"X-Id": "x"}}`, "headers X-Id", "id_header"},
		"no body":         {"", `{"method": "DELETE"}`, "method", "no body"},
		"GET with body":   {`"mode": "raw", "method": "GET"`, `{"body": 1}`, "body", "GET"},
		"object as text":  {`"mode": "raw", "content_type": "text/plain"`, `{"body": {"a": 1}}`, "body", "must be a text"},
		"data as text":    {`"mode": "raw", "content_type": "text/plain"`, `{}`, "", "give a body"},
		"nested form":     {rawForm, `{"body": {"a": {}}}`, "body", `"a" is no text`},
		"number as form":  {rawForm, `{"body": 7}`, "body", "must be a text"},
		"too long":        {`"max_bytes": 1024`, `{"body": "` + strings.Repeat("x", 1024) + `"}`, "body", "max_bytes is 1024"},
		"batch, too long": {
			`"mode": "batch", "max_bytes": 1024`, `{"body": "` + strings.Repeat("x", 1024) + `"}`, "body", "max_bytes is 1024",
		},
		"batch, path": {`"mode": "batch"`, `{"path": ".."}`, "path", ". or .."},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, nil)
			s := newSink(t, configFor(e.URL+"/hooks", c.config))
			o := deliverOne(t, s, message(t, newDelivery(1), c.message))
			if o.Kind != sdk.Rejected || strings.Join(o.AttributePath, " ") != c.path || !strings.Contains(o.Reason, c.reason) {
				t.Errorf("%+v, want path %q and reason %q", o, c.path, c.reason)
			}
			if n := len(e.requests()); n > 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

func FuzzJoin(f *testing.F) {
	for _, s := range []string{
		"a/b?c=d", "../x", "%2e%2e/x", "a%2f..%2f", "//evil.example/x", "\\\\evil\\x", "?#", "é ü", "%", ";/..;",
	} {
		f.Add(s)
	}
	base, err := url.Parse("https://example.com:8443/hooks/v1?k=v")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := join(base, s)
		if err != nil {
			return
		}
		text := u.String()
		back, err := url.Parse(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, text, err)
		}
		req := u.RequestURI()
		if back.Scheme != "https" || back.Host != "example.com:8443" || back.User != nil || back.Fragment != "" {
			t.Fatalf("%q leads to %q", s, text)
		}
		if !strings.HasPrefix(back.Path, "/hooks/v1") || !strings.HasPrefix(req, "/hooks/v1") {
			t.Fatalf("%q leads out: %q", s, text)
		}
		if !strings.HasPrefix(u.RawQuery, "k=v") {
			t.Fatalf("%q drops the query: %q", s, text)
		}
		for _, c := range []byte(req) {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q is written as %q", s, req)
			}
		}
		// Whatever a server takes for a separator, no part is two dots.
		decoded, err := url.PathUnescape(u.EscapedPath())
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.FieldsFuncSeq(decoded, func(r rune) bool { return r == '/' || r == '\\' || r == ';' }) {
			if part == ".." {
				t.Fatalf("%q has two dots: %q", s, decoded)
			}
		}
	})
}

func FuzzForm(f *testing.F) {
	for _, s := range []string{`{"a": "b"}`, `{"a": [1, null, "x"], "b": 1e400}`, `{"a": {}}`, `{`, `{"a": 1}{`, `{"é": "&="}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := form([]byte(s))
		if err != nil || !json.Valid([]byte(s)) {
			return
		}
		if _, err := url.ParseQuery(text); err != nil {
			t.Fatalf("%q became %q: %v", s, text, err)
		}
	})
}
