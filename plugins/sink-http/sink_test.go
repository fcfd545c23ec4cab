package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestOutcomes(t *testing.T) {
	page := "<!DOCTYPE html>\n<html><head><TITLE lang=en>502 Bad &amp; Gateway</TITLE></head><body>much</body></html>"
	for name, c := range map[string]struct {
		config, message string
		path            string // of the address
		status          int
		header          map[string]string
		body            string
		kind            sdk.OutcomeKind
		reason          string
		attribute       string
		after           time.Duration
		reference       string
	}{
		"200": {status: 200, body: "ok", kind: sdk.Delivered},
		"201, reference": {
			status: 201, header: map[string]string{"Location": "/things/7"}, kind: sdk.Delivered, reference: "/things/7",
		},
		"204": {status: 204, kind: sdk.Delivered},
		"400": {
			status: 400, body: "{\"error\":\r\n\t\"bad\x00 \u202Ething\"}", kind: sdk.Rejected,
			reason: `the endpoint answers 400 Bad Request: {"error": "bad thing"}`,
		},
		"400, mapped": {
			status: 400, message: `{"body": 1}`, kind: sdk.Rejected, attribute: "body", reason: `the endpoint answers 400 Bad Request`,
		},
		"401": {status: 401, kind: sdk.Suspended, reason: `the endpoint answers 401 Unauthorized`},
		"401 with the secret": {
			config: `"bearer_token": "t0ken-t0ken"`, status: 401, body: "no t0ken-t0ken here", kind: sdk.Suspended,
			reason: `the endpoint answers 401 Unauthorized: no (sensitive) here`,
		},
		"401 with user and password": {
			config: `"basic": {"username": "bob", "password": "s3cr3t"}`, status: 401, kind: sdk.Suspended,
			body:   "no Basic Ym9iOnMzY3IzdA== here",
			reason: `the endpoint answers 401 Unauthorized: no Basic (sensitive)== here`,
		},
		"404 with the address": {
			path: "/hooks/k3y?sig=s3cr3t", status: 404, body: `{"path":"/hooks/k3y","query":"sig=s3cr3t"}`, kind: sdk.Suspended,
			reason: `the endpoint answers 404 Not Found: {"path":"(sensitive)","query":"(sensitive)"}`,
		},
		"404 with the address, escaped": {
			path: "/hooks/k3y", status: 404, body: `{"path":"\/hooks\/k3y\/"}`, kind: sdk.Suspended,
			reason: `the endpoint answers 404 Not Found: {"path":"(sensitive)\/"}`,
		},
		"404 with a key of the address": {
			path: "/hooks/0123456789abcdef?sig=s3cr%2Ft0", status: 404, kind: sdk.Suspended,
			body:   "no hook 0123456789abcdef, sig s3cr/t0",
			reason: `the endpoint answers 404 Not Found: no hook (sensitive), sig (sensitive)`,
		},
		"201, reference with a key": {
			path: "/hooks/0123456789abcdef", status: 201, header: map[string]string{"Location": "/hooks/0123456789abcdef/7"},
			kind: sdk.Delivered, reference: "/hooks/(sensitive)/7",
		},
		"404": {status: 404, kind: sdk.Suspended, reason: `the endpoint answers 404 Not Found`},
		"404, own path": {
			status: 404, message: `{"path": "x"}`, kind: sdk.Rejected, attribute: "path",
			reason: `the endpoint answers 404 Not Found`,
		},
		"410, own path": {
			status: 410, message: `{"path": "x"}`, kind: sdk.Rejected, attribute: "path",
			reason: `the endpoint answers 410 Gone: it wants no more events`,
		},
		"404, own path, configured": {
			config: `"status": {"suspend": ["404"]}`, status: 404, message: `{"path": "x"}`, kind: sdk.Suspended,
			reason: `the endpoint answers 404 Not Found`,
		},
		"404 as success": {config: `"status": {"success": ["404"]}`, status: 404, kind: sdk.Delivered},
		"2xx as retry": {
			config: `"status": {"retry": ["2xx"], "success": ["200"]}`, status: 202, kind: sdk.Retried,
			reason: "the endpoint answers 202 Accepted",
		},
		"410": {status: 410, kind: sdk.Suspended, reason: `the endpoint answers 410 Gone: it wants no more events`},
		"413": {status: 413, kind: sdk.Rejected, reason: `the endpoint answers 413 Request Entity Too Large`},
		"429": {
			status: 429, header: map[string]string{"Retry-After": "7"}, body: "slow down", kind: sdk.Retried,
			reason: "the endpoint answers 429 Too Many Requests: slow down", after: 7 * time.Second,
		},
		"503, date": {
			status: 503, header: map[string]string{
				"Retry-After": "Thu, 15 Jan 2026 10:01:00 GMT", "Date": "Thu, 15 Jan 2026 10:00:30 GMT",
			},
			kind: sdk.Retried, reason: "the endpoint answers 503 Service Unavailable", after: 30 * time.Second,
		},
		"502, page": {
			status: 502, body: page, kind: sdk.Retried, reason: "the endpoint answers 502 Bad Gateway: 502 Bad & Gateway",
		},
		"500, page without title": {
			status: 500, header: map[string]string{"Content-Type": "text/html"}, body: "<p>oh", kind: sdk.Retried,
			reason: "the endpoint answers 500 Internal Server Error",
		},
		"500, XML": {
			status: 500, body: "<e>oh</e>", kind: sdk.Retried,
			reason: "the endpoint answers 500 Internal Server Error: <e>oh</e>",
		},
		"500, long": {
			status: 500, body: strings.Repeat("é", 400), kind: sdk.Retried,
			reason: "the endpoint answers 500 Internal Server Error: " + strings.Repeat("é", 150) + "…",
		},
		"599": {status: 599, kind: sdk.Retried, reason: "the endpoint answers 599"},
		"301 elsewhere": {
			status: 301, header: map[string]string{"Location": "https://other.example/s3cr3t?x"}, kind: sdk.Suspended,
			reason: "the endpoint answers 301 Moved Permanently, which leads to https://other.example; " +
				"the sink does not follow: write the right url",
		},
		"308 here": {
			status: 308, header: map[string]string{"Location": "/other"}, kind: sdk.Suspended,
			reason: "the endpoint answers 308 Permanent Redirect, which leads to another path; write the right url",
		},
		"304": {status: 304, kind: sdk.Suspended, reason: "the endpoint answers 304 Not Modified"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, func(w http.ResponseWriter, _ got) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			s := newSink(t, configFor(e.URL+c.path, c.config))
			d := newDelivery(1)
			if c.message != "" {
				message(t, d, c.message)
			}
			o := deliverBatched(t, s, d)[0]
			if o.Kind != c.kind || o.Reason != c.reason || strings.Join(o.AttributePath, " ") != c.attribute || o.After != c.after ||
				o.Reference != c.reference {
				t.Errorf("%+v", o)
			}
			e.one(t)
		})
	}
}

// deliverBatched delivers over the sdk, which keeps notes and references.
func deliverBatched(t testing.TB, s *sink, ds ...*delivery) []sdk.Outcome {
	t.Helper()
	f := sdk.NewBatchSink(sdk.SinkInfo{Name: "probe"},
		func(context.Context, struct{}) (sdk.BatchSink[Message], error) { return s, nil })
	in, err := f.Open(t.Context(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	var raw []*sdk.Delivery[json.RawMessage]
	for _, d := range ds {
		m, err := json.Marshal(map[string]any{"body": d.Message.Body, "headers": d.Message.Headers})
		if err != nil {
			t.Fatal(err)
		}
		if d.Message.Path != "" {
			m = append(m[:len(m)-1], fmt.Sprintf(`, "path": %q}`, d.Message.Path)...)
		}
		raw = append(raw, &sdk.Delivery[json.RawMessage]{ID: d.ID, Sequence: d.Sequence, Event: d.Event, Data: d.Data, Message: m})
	}
	return in.DeliverRaw(t.Context(), raw)
}

func TestRedirects(t *testing.T) {
	elsewhere := newEndpoint(t, nil)
	for name, c := range map[string]struct {
		status   int
		location string
		want     sdk.OutcomeKind
		requests int
	}{
		"307":             {307, "/next?x=y", sdk.Delivered, 2},
		"308, relative":   {308, "next", sdk.Delivered, 2},
		"302":             {302, "/next", sdk.Suspended, 1},
		"303":             {303, "/next", sdk.Suspended, 1},
		"elsewhere":       {307, elsewhere.URL + "/next", sdk.Suspended, 1},
		"scheme":          {307, "https://{host}/next", sdk.Suspended, 1},
		"user":            {307, "http://u:p@{host}/next", sdk.Suspended, 1},
		"nowhere":         {307, "", sdk.Suspended, 1 + maxRedirects},
		"no address":      {307, "http://[", sdk.Suspended, 1},
		"protocol-less":   {307, "//" + elsewhere.Listener.Addr().String() + "/next", sdk.Suspended, 1},
		"round and round": {307, "/hooks", sdk.Suspended, 1 + maxRedirects},
	} {
		t.Run(name, func(t *testing.T) {
			var e *endpoint
			e = newEndpoint(t, func(w http.ResponseWriter, r got) {
				if strings.HasPrefix(r.uri, "/next") {
					w.WriteHeader(http.StatusOK)
					return
				}
				w.Header().Set("Location", strings.ReplaceAll(c.location, "{host}", e.Listener.Addr().String()))
				w.WriteHeader(c.status)
			})
			s := newSink(t, configFor(e.URL+"/hooks", `"follow_redirects": true, "bearer_token": "t0ken"`))
			if o := deliverOne(t, s, newDelivery(1)); o.Kind != c.want {
				t.Errorf("%+v", o)
			}
			all := e.requests()
			if len(all) != c.requests {
				t.Errorf("%d requests, want %d", len(all), c.requests)
			}
			for _, r := range all {
				if r.method != "POST" || r.body != all[0].body || r.header.Get("Authorization") != "Bearer t0ken" {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	if n := len(elsewhere.requests()); n > 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	hangs := newEndpoint(t, nil)
	release := make(chan struct{})
	hangs.answer = func(w http.ResponseWriter, _ got) { <-release }
	defer close(release)
	breaks := newEndpoint(t, func(w http.ResponseWriter, _ got) { panic(http.ErrAbortHandler) })

	for name, c := range map[string]struct{ config, reason string }{
		"nobody":    {configFor("http://"+nobody+"/s3cr3t", ""), "the endpoint cannot be reached: dial tcp " + nobody},
		"hangs":     {configFor(hangs.URL+"/s3cr3t", `"timeout": 50000000`), "the endpoint does not answer in time"},
		"breaks":    {configFor(breaks.URL+"/s3cr3t", ""), "the endpoint cannot be reached: "},
		"no name":   {configFor("http://nowhere.invalid/s3cr3t", ""), "the endpoint cannot be reached: dial tcp: lookup nowhere.invalid"},
		"not HTTPS": {configFor("https"+strings.TrimPrefix(breaks.URL, "http")+"/s3cr3t", ""), "the endpoint cannot be reached: "},
	} {
		s := newSink(t, c.config)
		o := deliverOne(t, s, newDelivery(1))
		if o.Kind != sdk.Retried || !strings.HasPrefix(o.Reason, c.reason) || strings.Contains(o.Reason, "s3cr3t") {
			t.Errorf("%s: %+v, want %q", name, o, c.reason)
		}
		if err := s.Check(t.Context()); err == nil || !strings.HasPrefix(err.Error(), c.reason) {
			t.Errorf("%s: Check: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := newSink(t, configFor(hangs.URL, ""))
	time.AfterFunc(20*time.Millisecond, cancel)
	o := outcomeOf(s.DeliverBatch(ctx, []*delivery{newDelivery(1)})[0])
	if o.Kind != sdk.Retried || o.Reason != "the call was cancelled" {
		t.Errorf("cancelled: %+v", o)
	}
}

// TestSwitchedProtocols: an endpoint that makes the connection another one, unasked, does not keep the call, nor the
// connection.
func TestSwitchedProtocols(t *testing.T) {
	closed := make(chan error, 1)
	e := newEndpoint(t, func(w http.ResponseWriter, _ got) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = conn.Read(make([]byte, 1))
		closed <- err
	})
	s := newSink(t, configFor(e.URL, `"timeout": 1000000000`))
	o := deliverOne(t, s, newDelivery(1))
	if want := "the endpoint answers 101 Switching Protocols"; o.Kind != sdk.Retried || o.Reason != want {
		t.Errorf("%+v, want %q", o, want)
	}
	if err := <-closed; !errors.Is(err, io.EOF) {
		t.Errorf("the connection stays open: %v", err)
	}
}

// TestLongAnswers: an endpoint's answer costs bounded memory and time, and the status counts.
func TestLongAnswers(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, _ got) {
		chunk := make([]byte, 64<<10)
		for range 64 << 4 { // 64 MiB, if anybody would read it
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	s := newSink(t, configFor(e.URL, ""))
	if o := deliverOne(t, s, newDelivery(1)); o.Kind != sdk.Delivered {
		t.Errorf("%+v", o)
	}
}

// TestSlowAnswers: an endpoint that has said its status and never comes to an end does not keep the call.
func TestSlowAnswers(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, r got) {
		status, _ := strconv.Atoi(r.uri[1:])
		w.WriteHeader(status)
		for range 10_000 {
			if _, err := io.WriteString(w, "."); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	for path, want := range map[string]sdk.OutcomeKind{"/200": sdk.Delivered, "/500": sdk.Retried, "/422": sdk.Rejected} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			o := deliverOne(t, newSink(t, configFor(e.URL+path, "")), newDelivery(1))
			if took := time.Since(begun); o.Kind != want || took > 4*maxReadTime {
				t.Errorf("%+v after %s", o, took)
			}
		})
	}
}

// TestKeptConnections: connections are used again, and one that the endpoint has closed meanwhile costs no attempt.
func TestKeptConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns, requests atomic.Int64
	done := make(chan struct{})
	go func() { // a server that closes every connection when a second request comes on it
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			r := bufio.NewReader(c)
			for n := range 2 {
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				io.Copy(io.Discard, req.Body)
				if n == 0 {
					requests.Add(1)
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			}
			c.Close()
		}
	}()
	s := newSink(t, configFor("http://"+l.Addr().String(), ""))
	for n := range 5 {
		if o := deliverOne(t, s, newDelivery(n)); o.Kind != sdk.Delivered {
			t.Errorf("%d: %+v", n, o)
		}
	}
	s.Close()
	l.Close()
	<-done
	if requests.Load() != 5 || conns.Load() != 5 {
		t.Errorf("%d requests over %d connections, want 5 over 5", requests.Load(), conns.Load())
	}

	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}))
	server.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	kept := newSink(t, configFor(server.URL, ""))
	for n := range 20 {
		if o := deliverOne(t, kept, newDelivery(n)); o.Kind != sdk.Delivered {
			t.Errorf("%d: %+v", n, o)
		}
	}
	if opened.Load() != 1 {
		t.Errorf("20 requests over %d connections", opened.Load())
	}
}

// events are the ids of a batch's events.
func events(t testing.TB, body string) []string {
	t.Helper()
	var all []struct {
		ID string `json:"deliveryid"`
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	var ids []string
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	return ids
}

func newDeliveries(n int) []*delivery {
	var all []*delivery
	for i := range n {
		all = append(all, newDelivery(i))
	}
	return all
}

func TestBatch(t *testing.T) {
	e := newEndpoint(t, nil)
	s := newSink(t, configFor(e.URL, `"mode": "batch"`))
	for range 2 {
		for i, o := range deliverBatched(t, s, newDeliveries(5)...) {
			if o.Kind != sdk.Delivered {
				t.Errorf("%d: %+v", i, o)
			}
		}
	}
	all := e.requests()
	if len(all) != 2 {
		t.Fatalf("%d requests", len(all))
	}
	if got := strings.Join(events(t, all[0].body), " "); got != "dlv_0 dlv_1 dlv_2 dlv_3 dlv_4" {
		t.Errorf("events %s", got)
	}
	id := all[0].header.Get("webhook-id")
	if !strings.HasPrefix(id, "batch_") || strings.Contains(id, ".") || all[1].header.Get("webhook-id") != id {
		t.Errorf("webhook-id %q, then %q", id, all[1].header.Get("webhook-id"))
	}
}

// TestBatchBounds: one request holds what max_bytes allows, and only what has the same target.
func TestBatchBounds(t *testing.T) {
	e := newEndpoint(t, nil)
	s := newSink(t, configFor(e.URL, `"mode": "batch", "max_bytes": 1100`))
	ds := newDeliveries(12)
	for i, d := range ds {
		switch {
		case i%4 == 1:
			message(t, d, `{"path": "x"}`)
		case i%4 == 2:
			message(t, d, `{"headers": {"x-a": "b"}}`)
		}
	}
	ds = append(ds,
		message(t, newDelivery(12), `{"body": "`+strings.Repeat("x", 3000)+`"}`), message(t, newDelivery(13), `{"path": ".."}`))
	for i, err := range s.DeliverBatch(t.Context(), ds) {
		if o := outcomeOf(err); o.Kind != sdk.Delivered && (i < 12 || o.Kind != sdk.Rejected) {
			t.Errorf("%d: %+v", i, o)
		}
	}
	var seen []string
	for _, r := range e.requests() {
		ids := events(t, r.body)
		seen = append(seen, ids...)
		if len(r.body) > 1100 {
			t.Errorf("a body of %d bytes", len(r.body))
		}
		for _, id := range ids {
			var n int
			fmt.Sscanf(id, "dlv_%d", &n)
			if (n%4 == 1) != (r.uri == "/x") || (n%4 == 2) != (r.header.Get("X-A") == "b") {
				t.Errorf("%s went to %s with %q", id, r.uri, r.header.Get("X-A"))
			}
		}
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 12 || len(e.requests()) < 4 {
		t.Errorf("%q in %d requests", seen, len(e.requests()))
	}
}

// TestBatchRefused: one bad event does not take the others with it.
func TestBatchRefused(t *testing.T) {
	bad := func(r got) bool { return strings.Contains(r.body, `"dlv_3"`) }
	for name, c := range map[string]struct {
		answer func(r got) int
		want   map[int]sdk.OutcomeKind // default delivered
		most   int                     // requests
	}{
		"one bad": {
			func(r got) int {
				if bad(r) {
					return 422
				}
				return 200
			}, map[int]sdk.OutcomeKind{3: sdk.Rejected}, 21,
		},
		"too many for one request": {
			func(r got) int {
				if strings.Contains(r.body, "},{") {
					return 413
				}
				return 200
			}, nil, 21,
		},
		"then gone": {
			func(r got) int {
				switch {
				case strings.Contains(r.body, "},{"):
					return 400
				default:
					return 410
				}
			}, map[int]sdk.OutcomeKind{-1: sdk.Suspended}, 1 + singles + singles,
		},
		"down": {func(got) int { return 503 }, map[int]sdk.OutcomeKind{-1: sdk.Retried}, 1},
		"gone": {func(got) int { return 410 }, map[int]sdk.OutcomeKind{-1: sdk.Suspended}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, nil)
			e.answer = func(w http.ResponseWriter, r got) { w.WriteHeader(c.answer(r)) }
			s := newSink(t, configFor(e.URL, `"mode": "batch"`))
			for i, err := range s.DeliverBatch(t.Context(), newDeliveries(20)) {
				want := sdk.Delivered
				if k, ok := c.want[i]; ok {
					want = k
				} else if k, ok := c.want[-1]; ok {
					want = k
				}
				if o := outcomeOf(err); o.Kind != want {
					t.Errorf("%d: %+v, want %s", i, o, want)
				}
			}
			if n := len(e.requests()); n > c.most {
				t.Errorf("%d requests, at most %d", n, c.most)
			}
		})
	}
}

// TestBatchStops: what holds for the first request of a call is not tried again with the next one.
func TestBatchStops(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, _ got) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	s := newSink(t, configFor(e.URL, `"mode": "batch", "max_bytes": 1024`))
	for i, err := range s.DeliverBatch(t.Context(), newDeliveries(20)) {
		if o := outcomeOf(err); o.Kind != sdk.Retried || o.After != time.Minute {
			t.Errorf("%d: %+v", i, o)
		}
	}
	e.one(t)
}

func TestCheck(t *testing.T) {
	for code, want := range map[int]string{
		204: "", 404: "", 405: "", 403: "", 501: "", 301: "",
		401: "the endpoint answers 401 Unauthorized to OPTIONS", 410: "the endpoint answers 410 Gone to OPTIONS: it wants",
		503: "the endpoint answers 503 Service Unavailable to OPTIONS: busy",
	} {
		e := newEndpoint(t, status(code, "busy"))
		s := newSink(t, configFor(e.URL, `"bearer_token": "t0ken", "headers": {"x-a": "b"}`))
		err := s.Check(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%d: %v, want %q", code, err, want)
		}
		r := e.one(t)
		if r.method != "OPTIONS" || r.body != "" || r.header.Get("Authorization") != "Bearer t0ken" || r.header.Get("X-A") != "b" {
			t.Errorf("%+v", r)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add("text/html", "<title>x</title")
	f.Add("", "<HTML><title")
	f.Add("application/json", "{\"a\": \"s3cr3t-token\"}\x00\xff")
	s := newSink(f, ok(`"bearer_token": "s3cr3t-token"`))
	f.Fuzz(func(t *testing.T, kind, body string) {
		got := s.words(http.Header{"Content-Type": {kind}}, []byte(body))
		if len(got) > maxWords+len("…") || !utf8.ValidString(got) || strings.Contains(got, "s3cr3t-token") {
			t.Fatalf("%q", got)
		}
		for _, r := range got {
			if r < ' ' || r == 0x7f {
				t.Fatalf("%q holds a control character", got)
			}
		}
	})
}

func BenchmarkDeliver(b *testing.B) {
	for _, mode := range []string{modeStructured, modeBinary} {
		b.Run(mode, func(b *testing.B) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusNoContent)
			}))
			defer server.Close()
			s := newSink(b, configFor(server.URL, `"mode": "`+mode+`", "signing": {"keys": ["`+goodKey+`"]}`))
			ds := []*delivery{newDelivery(1)}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.DeliverBatch(b.Context(), ds)[0]; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	s := newSink(b, ok(`"signing": {"keys": ["`+goodKey+`"]}`))
	d := newDelivery(1)
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.request(d)
		if err != nil {
			b.Fatal(err)
		}
		signature(s.set.signers, r.id, time.Unix(0, 0), r.body)
	}
}
