package crm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
)

// serve starts a far end and makes a client for it.
func serve(t *testing.T, h http.HandlerFunc, o crm.Options) *crm.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	if o.BaseURL == "" {
		o.BaseURL = s.URL
	}
	c, err := crm.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short and stout")
	}))
	defer s.Close()
	c, err := crm.NewClient(crm.Options{
		BaseURL: s.URL + "/api/", Header: http.Header{"X-Company": {"7"}}, Agent: "sink/1",
		Login: crm.StaticToken("X-Key", "Key ", sdk.NewSecret("k-123456")),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Do(t.Context(), crm.Request{
		Method: "PUT", Path: "/things/a%2Fb?x=1", Body: []byte(`{}`), Header: http.Header{"Traceparent": {"00-1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status != http.StatusTeapot || string(resp.Body) != "short and stout" || resp.OK() {
		t.Errorf("answer %+v", resp)
	}
	want := map[string]string{
		"X-Key": "Key k-123456", "X-Company": "7", "Traceparent": "00-1", "Content-Type": "application/json",
		"Accept": "application/json", "User-Agent": "sink/1",
	}
	for name, v := range want {
		if got.Header.Get(name) != v {
			t.Errorf("header %s: %q, want %q", name, got.Header.Get(name), v)
		}
	}
	if got.RequestURI != "/api/things/a%2Fb?x=1" || string(body) != "{}" {
		t.Errorf("got %s with %q", got.RequestURI, body)
	}
	for _, path := range []string{"things", "", "//evil.example/x", "/\x00", "@evil.example/"} {
		_, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: path})
		if err == nil && strings.HasPrefix(path, "//") {
			continue // a path with two slashes, on the same host
		}
		if fake.OutcomeOf(err).Kind != sdk.Rejected {
			t.Errorf("path %q: %v", path, err)
		}
	}
}

// TestSwitchedProtocols: a far end that makes the connection another one does not keep the call.
func TestSwitchedProtocols(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection stays open: %v", err)
		}
	}, crm.Options{Timeout: time.Second})
	_, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/"})
	if o := fake.OutcomeOf(err); o.Kind != sdk.Retried || o.Reason != "the CRM answers 101 Switching Protocols" {
		t.Errorf("%+v", o)
	}
}

func TestBaseURL(t *testing.T) {
	for _, bad := range []string{
		"", "crm.example.com", "ftp://crm.example.com", "https://", "https://u:p@crm.example.com", "https://a/?x", "https://a/#x",
		"https://a b/", ":", "/x",
	} {
		if _, err := crm.NewClient(crm.Options{BaseURL: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		} else if e := sdk.AttributeErrors(err); len(e) != 1 || strings.Join(e[0].Path, ".") != "base_url" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The address, which may hold a key, and credentials stay out of errors.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	l.Close()
	c, err := crm.NewClient(crm.Options{BaseURL: address, Login: crm.StaticToken("Authorization", "Bearer ", sdk.NewSecret("tok-123456"))})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(t.Context(), crm.Request{Method: "GET", Path: "/people/jane"})
	if o := fake.OutcomeOf(err); o.Kind != sdk.Retried || strings.Contains(o.Reason, "jane") || strings.Contains(o.Reason, "tok-") ||
		!strings.Contains(o.Reason, "refused") {
		t.Errorf("%+v", o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, crm.Request{Method: "GET", Path: "/x"}); fake.Short(err) != "retry" {
		t.Error(err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(strings.Repeat("x", 1<<20+1)))
	}, crm.Options{})
	if _, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/"}); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Error(err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}, crm.Options{Login: crm.StaticToken("Authorization", "Bearer ", sdk.NewSecret("tok-123456"))})
	resp, err := c.Do(t.Context(), crm.Request{Method: "POST", Path: "/", Body: []byte("{}")})
	if err != nil || resp.Status != http.StatusTemporaryRedirect || elsewhere.Load() != 0 {
		t.Fatal(resp, err, elsewhere.Load())
	}
	if got := fake.Short(resp.Outcome("")); got != "suspend" {
		t.Error(got)
	}
}

// A request ends before the call does, so that the sink can still say what became of it.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		c, err := crm.NewClient(crm.Options{BaseURL: "http://crm.example.com", Transport: hang, Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for call, want := range map[time.Duration]time.Duration{
			time.Hour: 20 * time.Second, 10 * time.Second: 9500 * time.Millisecond, time.Second: 900 * time.Millisecond,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), call)
			start := time.Now()
			_, err := c.Do(ctx, crm.Request{Method: "GET", Path: "/"})
			if took := time.Since(start); took != want || err == nil || !strings.Contains(err.Error(), "in time") {
				t.Errorf("a call of %s: the request took %s, want %s: %v", call, took, want, err)
			}
			cancel()
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// far is a far end whose tokens are numbers: the last one issued is valid.
type far struct {
	mu     sync.Mutex
	valid  int
	logins int
	served int
}

func (f *far) login(context.Context, *crm.Client) (crm.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logins++
	f.valid++
	return crm.Token{Name: "Authorization", Value: fmt.Sprintf("Bearer token-%d", f.valid)}, nil
}

func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", f.valid) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	f.served++
}

// A token that has ended is obtained anew once for all who use it.
func TestRefresh(t *testing.T) {
	f := &far{}
	c := serve(t, f.ServeHTTP, crm.Options{Login: f.login})
	do := func() error {
		resp, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/"})
		if err == nil && !resp.OK() {
			err = resp.Outcome("")
		}
		return err
	}
	if err := do(); err != nil || f.logins != 1 {
		t.Fatal(err, f.logins)
	}
	f.mu.Lock()
	f.valid = 100 // nobody has this one
	f.mu.Unlock()
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if f.logins != 2 || f.served != 21 {
		t.Errorf("%d logins, %d requests served", f.logins, f.served)
	}
}

// Credentials that a fresh login gives are tried once; a static token is not sent twice.
func TestRefusedForGood(t *testing.T) {
	requests := 0
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(http.StatusUnauthorized)
	}
	f := &far{}
	for want, login := range map[int]crm.Login{2: f.login, 1: crm.StaticToken("Authorization", "Bearer ", sdk.NewSecret("tok-123456"))} {
		requests = 0
		c := serve(t, refuse, crm.Options{Login: login})
		resp, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/"})
		if err != nil || fake.Short(resp.Outcome("")) != "suspend" || requests != want {
			t.Errorf("%v %v: %d requests, want %d", resp, err, requests, want)
		}
	}
}

// A login that fails is tried again by the next request, and waiting for another's login ends with the call.
func TestLoginFails(t *testing.T) {
	var fails error = sdk.Suspend(errors.New("revoked"))
	c := serve(t, func(http.ResponseWriter, *http.Request) {}, crm.Options{
		Login: func(context.Context, *crm.Client) (crm.Token, error) {
			return crm.Token{Name: "Authorization", Value: "Bearer x"}, fails
		},
	})
	get := crm.Request{Method: "GET", Path: "/"}
	if _, err := c.Do(t.Context(), get); fake.Short(err) != "suspend" {
		t.Error(err)
	}
	fails = nil
	if resp, err := c.Do(t.Context(), get); err != nil || !resp.OK() {
		t.Error(resp, err)
	}

	started, release := make(chan bool), make(chan bool)
	c = serve(t, func(http.ResponseWriter, *http.Request) {}, crm.Options{
		Login: func(context.Context, *crm.Client) (crm.Token, error) {
			close(started)
			<-release
			return crm.Token{}, nil
		},
	})
	done := make(chan error)
	go func() {
		_, err := c.Do(context.Background(), get)
		done <- err
	}()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, get); fake.Short(err) != "retry" {
		t.Error(err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A login may say where the API is and when its token ends.
func TestTokenOfLogin(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "other") }))
	defer other.Close()
	base, err := url.Parse(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	logins := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "base") }, crm.Options{
		Login: func(context.Context, *crm.Client) (crm.Token, error) {
			logins++
			return crm.Token{Base: base, Expires: time.Now().Add(time.Minute * time.Duration(logins-1))}, nil
		},
	})
	for range 3 { // the first token has ended already
		resp, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/"})
		if err != nil || string(resp.Body) != "other" {
			t.Error(resp, err)
		}
	}
	if logins != 2 {
		t.Errorf("%d logins", logins)
	}
	resp, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/", Anonymous: true})
	if err != nil || string(resp.Body) != "base" {
		t.Error(resp, err)
	}
}

func TestOutcome(t *testing.T) {
	for status, want := range map[int]string{
		200: "delivered", 204: "delivered", 301: "suspend", 400: "rejected", 401: "suspend", 402: "suspend", 403: "suspend",
		404: "rejected", 405: "rejected", 407: "suspend", 408: "retry", 409: "rejected", 410: "suspend", 415: "rejected",
		422: "rejected", 425: "retry", 429: "retry", 500: "retry", 501: "suspend", 502: "retry", 503: "retry", 504: "retry",
		505: "suspend", 524: "retry",
	} {
		r := &crm.Response{Status: status}
		err := r.Outcome("words")
		if got := fake.Short(err); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
		if err != nil && !strings.HasSuffix(err.Error(), ": words") {
			t.Errorf("%d: %v", status, err)
		}
	}
	r := &crm.Response{Status: 503, Header: http.Header{"Retry-After": {"7"}}}
	if got := fake.Short(r.Outcome("")); got != "retry after 7s" {
		t.Error(got)
	}
	if got := fake.Short((&crm.Response{}).Later(errors.New("x"), time.Minute)); got != "retry after 1m0s" {
		t.Error(got)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Second, " 2.5 ": 2500 * time.Millisecond, "1e30": 366 * 24 * time.Hour,
		"Thu, 15 Jan 2026 10:00:30 GMT": 30 * time.Second, "Thu, 15 Jan 2026 09:00:00 GMT": 0,
		"": -1, "soon": -1, "-5": -1, "NaN": -1,
	} {
		got, ok := crm.RetryAfter(http.Header{"Retry-After": {text}}, now)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) {}, crm.Options{
		Secrets: []string{"client-secret-9", "abc"}, Login: crm.StaticToken("Authorization", "Bearer ", sdk.NewSecret("tok-123456")),
	})
	if _, err := c.Do(t.Context(), crm.Request{Method: "GET", Path: "/"}); err != nil { // has the token from now on
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"plain":                               "plain",
		" a\r\n\tb\x00c\u202e\u0085d ":        "a b c d",
		"bad \xff\xfe utf-8":                  "bad \uFFFD utf-8",
		"your Bearer tok-123456 is bad":       "your Bearer (sensitive) is bad",
		"client-secret-9 but not abc":         "(sensitive) but not abc",
		"<p>a</p><script>x<y</script>&amp; b": "a & b",
		"<!-- x > --><b>403</b> Forbidden <":  "403 Forbidden",
		"<STYLE>p{}</StYlE>Gone<br/":          "Gone",
		"":                                    "",
		strings.Repeat("ä", 200):              strings.Repeat("ä", 150) + "…",
	} {
		if got := c.Words(&crm.Response{Body: []byte(in)}); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	html := &crm.Response{Header: http.Header{"Content-Type": {"text/html; charset=x"}}, Body: []byte("nothing <i>here</i>")}
	if got := c.Words(html); got != "nothing here" {
		t.Error(got)
	}
}

func FuzzWords(f *testing.F) {
	f.Add([]byte("<html><script>x</script>&amp;\x00"), "text/html")
	f.Add([]byte(`{"message":"tok-123456"}`), "application/json")
	c, err := crm.NewClient(crm.Options{BaseURL: "http://localhost", Secrets: []string{"tok-123456"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		got := c.Words(&crm.Response{Body: body, Header: http.Header{"Content-Type": {kind}}})
		if len(got) > 310 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) ||
			strings.Contains(got, "tok-123456") {
			t.Errorf("%q", got)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7")
	f.Add("Thu, 15 Jan 2026 10:00:30 GMT")
	f.Fuzz(func(t *testing.T, text string) {
		if d, ok := crm.RetryAfter(http.Header{"Retry-After": {text}}, time.Now()); ok && d < 0 {
			t.Error(d)
		}
	})
}

func TestBisect(t *testing.T) {
	ops := make([]crm.Op, 100)
	for i := range ops {
		ops[i].DeliveryID = fmt.Sprint(i)
	}
	bad := map[string]bool{"0": true, "63": true, "99": true}
	requests := 0
	send := func(_ context.Context, ops []crm.Op) ([]crm.Result, bool) {
		requests++
		for _, op := range ops {
			if bad[op.DeliveryID] {
				return []crm.Result{{Err: errors.New("bad")}}, true // the results only count for one
			}
		}
		out := make([]crm.Result, len(ops))
		for i := range out {
			out[i].Reference = ops[i].DeliveryID
		}
		return out, false
	}
	results := crm.Bisect(t.Context(), ops, send)
	for i, r := range results {
		if (r.Err != nil) != bad[fmt.Sprint(i)] || r.Err == nil && r.Reference != fmt.Sprint(i) {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if requests > 50 {
		t.Errorf("%d requests", requests)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range crm.Bisect(ctx, ops, send) {
		if r.Err == nil || r.Err.Error() != crm.NotSent().Error() {
			t.Errorf("%+v", r)
		}
	}
}

// FuzzAddress makes addresses of anything: a path never leads to another host.
func FuzzAddress(f *testing.F) {
	f.Add("https://crm.example.com/api", "/x/../y?z=1#f")
	f.Add("http://[::1]:8080", "//evil.example/x")
	f.Add("https://a%41.example/%2f", "/%zz")
	f.Fuzz(func(t *testing.T, base, path string) {
		u, err := crm.ParseBaseURL(base)
		if err != nil {
			return
		}
		c, err := crm.NewClient(crm.Options{BaseURL: base, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != strings.TrimSuffix(u.Host, ":") || r.URL.Scheme != u.Scheme || r.URL.User != nil {
				t.Errorf("%q and %q lead to %s", base, path, r.URL)
			}
			return httptest.NewRecorder().Result(), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Do(t.Context(), crm.Request{Method: http.MethodGet, Path: path}) // an error is as good
	})
}
