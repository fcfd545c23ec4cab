package admin_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

const token = "a token made by chance 31c7"

// guarded is a listener of handlers that tell that they were reached.
func guarded(t *testing.T, change func(*admin.Listener)) http.Handler {
	t.Helper()
	reached := func(what string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "reached %s, signed in: %t", what, admin.SignedIn(r.Context()))
		})
	}
	l := admin.Listener{
		Control: calm{}, UI: reached("UI"), Metrics: reached("metrics"), Health: reached("health"),
		Ready: reached("ready"), Listen: "127.0.0.1:8081",
	}
	if change != nil {
		change(&l)
	}
	return l.Handler()
}

// calm is a Control with nothing in it.
type calm struct{ admin.Control }

func (calm) Status(context.Context) (admin.Status, error) { return admin.Status{}, nil }
func (calm) Requests(context.Context, store.RequestFilter) (admin.Page[admin.Request], error) {
	return admin.Page[admin.Request]{}, nil
}

func (calm) Tail(context.Context, string, func(admin.Change) error) error { return admin.ErrNotRunning }

type ask struct {
	method, host, path string
	header             map[string]string
	body               string
}

func (a ask) of(h http.Handler) *httptest.ResponseRecorder {
	r := httptest.NewRequest(a.method, "http://x"+a.path, strings.NewReader(a.body))
	r.Host = a.host
	if a.body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for k, v := range a.header {
		r.Header.Set(k, v)
	}
	local := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8081}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var guardedPaths = []string{
	"/", "/anything", "/v1/status", "/v1/requests", "/v1/openapi.json", "/v1/tail", "/metrics", "/v1/nothing",
}

// TestRebinding checks that a page whose name was made to point to the listener gets nothing, with and without a token.
func TestRebinding(t *testing.T) {
	for _, tok := range []string{"", token} {
		h := guarded(t, func(l *admin.Listener) { l.Token, l.Hosts = tok, []string{"grapnel.example.com", "2001:db8::1"} })
		for host, want := range map[string]bool{
			"127.0.0.1:8081": true, "localhost:8081": true, "LOCALHOST": true, "localhost.:1234": true, "[::1]:8081": true,
			"127.0.0.2": true, "grapnel.example.com": true, "Grapnel.Example.Com:443": true, "[2001:db8::1]": true,
			"10.0.0.7:8081":     true, // where the connection came in
			"evil.example:8081": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "10.0.0.8:8081": false,
			"": false, "xgrapnel.example.com": false, "0.0.0.0:8081": false, "grapnel.example.com.evil.example": false,
			"grapnel.example.com:8081:8081": false, "127.0.0.1@evil.example": false, "[::ffff:127.0.0.1]:8081": true,
		} {
			for _, path := range append(guardedPaths, "/healthz", "/readyz", "/login", "/login.css") {
				w := ask{method: "GET", host: host, path: path, header: map[string]string{"Authorization": "Bearer " + token}}.of(h)
				refused := w.Code == http.StatusMisdirectedRequest
				if refused == want {
					t.Errorf("Host %q, path %s, token %q: %d %s", host, path, tok, w.Code, w.Body)
				}
				if refused && strings.Contains(w.Body.String(), "reached") {
					t.Errorf("Host %q, path %s: %s", host, path, w.Body)
				}
			}
		}
	}
}

// TestCrossOrigin checks that a page of another origin gets nothing, whether the browser would send credentials or not.
func TestCrossOrigin(t *testing.T) {
	for _, tok := range []string{"", token} {
		h := guarded(t, func(l *admin.Listener) { l.Token = tok })
		cookie := ""
		if tok != "" {
			cookie = signIn(t, h)
		}
		for name, c := range map[string]struct {
			method string
			header map[string]string
			ok     bool
		}{
			"a program reads":                  {"GET", nil, true},
			"a program writes":                 {"POST", nil, true},
			"our page reads":                   {"GET", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
			"our page writes":                  {"POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
			"our page writes, old browser":     {"POST", map[string]string{"Origin": "http://localhost:8081"}, true},
			"an address is typed":              {"GET", map[string]string{"Sec-Fetch-Site": "none"}, true},
			"a link is followed":               {"GET", nav("cross-site", "document"), true},
			"a foreign page reads":             {"GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, false},
			"a foreign page shows an image":    {"GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, false},
			"a page at another port reads":     {"GET", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, false},
			"a foreign page frames":            {"GET", nav("cross-site", "iframe"), false},
			"a foreign page posts a form":      {"POST", nav("cross-site", "document"), false},
			"a page at another port posts":     {"POST", nav("same-site", "document"), false},
			"a foreign page asks beforehand":   {"OPTIONS", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, false},
			"a foreign page posts, old":        {"POST", map[string]string{"Origin": "http://evil.example"}, false},
			"a foreign page reads, old":        {"GET", map[string]string{"Origin": "http://evil.example"}, false},
			"a page without an origin posts":   {"POST", map[string]string{"Origin": "null"}, false},
			"a foreign page deletes":           {"DELETE", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
			"a foreign page sends what is odd": {"GET", map[string]string{"Sec-Fetch-Site": "x"}, false},
		} {
			header := map[string]string{"Cookie": cookie}
			for k, v := range c.header {
				header[k] = v
			}
			for _, path := range append(guardedPaths, "/healthz", "/login", "/logout") {
				w := ask{method: c.method, host: "localhost:8081", path: path, header: header}.of(h)
				if refused := w.Code == http.StatusForbidden; refused == c.ok {
					t.Errorf("token %q: %s: %s: %d %s", tok, name, path, w.Code, w.Body)
				}
				if w.Header().Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s: %s allows others to read", name, path)
				}
				if path == "/logout" && cookie != "" && c.ok {
					cookie = signIn(t, h)
					header["Cookie"] = cookie
				}
			}
		}
	}
}

func nav(site, dest string) map[string]string {
	return map[string]string{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": dest}
}

// signIn returns the cookie of a new session.
func signIn(t *testing.T, h http.Handler) string {
	t.Helper()
	w := ask{
		method: "POST", host: "localhost:8081", path: "/login", body: url.Values{"token": {token}}.Encode(),
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"},
	}.of(h)
	if w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	c := w.Result().Cookies()[0]
	return c.Name + "=" + c.Value
}

// TestToken checks that without the token there is nothing but the two words on health, and the page to sign in.
func TestToken(t *testing.T) {
	h := guarded(t, func(l *admin.Listener) { l.Token = token })
	for name, header := range map[string]map[string]string{
		"nothing": nil, "another token": {"Authorization": "Bearer " + token[1:]}, "basic": {"Authorization": "Basic " + token},
		"an empty token": {"Authorization": "Bearer "}, "a longer token": {"Authorization": "Bearer " + token + "x"},
		"a cookie that nobody gave": {"Cookie": "grapnel_session_8081=AAAA"}, "the token as a cookie": {"Cookie": "grapnel_session_8081=x"},
	} {
		for _, path := range guardedPaths {
			h := guarded(t, func(l *admin.Listener) { l.Token = token })
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS"} {
				w := ask{method: method, host: "localhost", path: path, header: header}.of(h)
				if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
					t.Errorf("%s: %s %s: %d %s", name, method, path, w.Code, w.Body)
				}
			}
		}
	}
	for path, want := range map[string]string{"/healthz": "health", "/readyz": "ready"} {
		if w := (ask{method: "GET", host: "localhost", path: path}).of(h); !strings.Contains(w.Body.String(), "reached "+want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		w := ask{method: "GET", host: "localhost", path: "/metrics", header: map[string]string{"Authorization": scheme + token}}.of(h)
		if got := w.Body.String(); got != "reached metrics, signed in: false" {
			t.Errorf("%s: %d %s", scheme, w.Code, got)
		}
	}
	page := map[string]string{"Accept": "text/html,*/*", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
	w := ask{method: "GET", host: "localhost", path: "/requests?x=1", header: page}.of(h)
	if got := w.Header().Get("Location"); w.Code != http.StatusSeeOther || got != "/login?next=%2Frequests%3Fx%3D1" {
		t.Errorf("%d %s", w.Code, got)
	}
	w = ask{method: "GET", host: "localhost", path: "/part", header: map[string]string{"HX-Request": "true"}}.of(h)
	if got := w.Header().Get("HX-Redirect"); w.Code != http.StatusUnauthorized || got != "/login" {
		t.Errorf("%d %s", w.Code, got)
	}
	// A link of another site comes without the cookie, which is there when the page loads itself again.
	page["Sec-Fetch-Site"], page["Sec-Fetch-Dest"] = "cross-site", "document"
	w = ask{method: "GET", host: "localhost", path: "/requests", header: page}.of(h)
	if got := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(got, `http-equiv="refresh"`) {
		t.Errorf("%d %s", w.Code, got)
	}
}

// TestSession goes through signing in, using the session, and its end.
func TestSession(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	h := guarded(t, func(l *admin.Listener) { l.Token, l.Now = token, func() time.Time { return now } })
	get := func(cookie string) string {
		w := ask{method: "GET", host: "localhost", path: "/metrics", header: map[string]string{"Cookie": cookie}}.of(h)
		return w.Body.String()
	}
	const in = "reached metrics, signed in: true"
	first, second := signIn(t, h), signIn(t, h)
	if first == second {
		t.Error("sessions are alike")
	}
	if get(first) != in || get(second) != in {
		t.Error(get(first), get(second))
	}
	w := ask{method: "GET", host: "localhost", path: "/logout", header: map[string]string{"Cookie": first}}.of(h)
	if w.Code != http.StatusMethodNotAllowed || get(first) != in {
		t.Errorf("a link signs out: %d", w.Code)
	}
	w = ask{method: "POST", host: "localhost", path: "/logout", header: map[string]string{"Cookie": first}}.of(h)
	if c := w.Result().Cookies(); w.Code != http.StatusSeeOther || len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("%d %v", w.Code, c)
	}
	if get(first) == in || get(second) != in {
		t.Error("signing out ends another session, or none")
	}
	now = now.Add(12*time.Hour + time.Second)
	if get(second) == in {
		t.Error("a session has no end")
	}
}

// TestCookie checks what browsers may do with the cookie.
func TestCookie(t *testing.T) {
	for name, c := range map[string]struct {
		tls    bool
		header string
		secure bool
	}{"plain": {}, "TLS": {tls: true, secure: true}, "behind a proxy": {header: "https", secure: true}} {
		h := guarded(t, func(l *admin.Listener) { l.Token, l.TLS = token, c.tls })
		w := ask{
			method: "POST", host: "localhost:8081", path: "/login", body: url.Values{"token": {token}, "next": {"//evil.example"}}.Encode(),
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-Proto": c.header},
		}.of(h)
		if got := w.Header().Get("Location"); got != "/" {
			t.Errorf("%s: goes to %s", name, got)
		}
		got := w.Result().Cookies()[0]
		if !got.HttpOnly || got.SameSite != http.SameSiteStrictMode || got.Secure != c.secure || got.Path != "/" || got.Domain != "" ||
			len(got.Value) < 32 || strings.HasPrefix(got.Name, "__Host-") != c.secure {
			t.Errorf("%s: %v", name, got)
		}
		if hsts := w.Header().Get("Strict-Transport-Security"); (hsts != "") != c.tls {
			t.Errorf("%s: %q", name, hsts)
		}
	}
}

// TestWrongTokens checks that who tries is slowed down, and nobody else is.
func TestWrongTokens(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	h := guarded(t, func(l *admin.Listener) { l.Token, l.Now = token, func() time.Time { return now } })
	try := func(addr, tok string) int {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
		r.RemoteAddr = addr
		r.Header.Set("Authorization", "Bearer "+tok)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for i := range 10 {
		if got := try("192.0.2.7:1000", "wrong"); got != http.StatusUnauthorized {
			t.Fatalf("attempt %d: %d", i, got)
		}
	}
	if got := try("192.0.2.7:1001", token); got != http.StatusTooManyRequests {
		t.Errorf("after ten wrong ones: %d", got)
	}
	if got := try("192.0.2.8:1000", token); got != http.StatusOK {
		t.Errorf("another address: %d", got)
	}
	for range 10 {
		try("[2001:db8::1]:1000", "wrong")
	}
	if got := try("[2001:db8::2]:1000", token); got != http.StatusTooManyRequests {
		t.Errorf("another address of the same network: %d", got)
	}
	now = now.Add(10 * time.Second)
	if got := try("192.0.2.7:1002", token); got != http.StatusOK {
		t.Errorf("ten seconds later: %d", got)
	}
	// A flood of addresses does not fill the memory, and makes nobody wait who was not part of it and comes later.
	for i := range 6000 {
		try(fmt.Sprintf("198.18.%d.%d:1", i/256, i%256), "wrong")
	}
	now = now.Add(time.Hour)
	if got := try("192.0.2.9:1", token); got != http.StatusOK {
		t.Errorf("after a flood: %d", got)
	}
}

// TestNoToken checks that without a token there is nothing to sign in to.
func TestNoToken(t *testing.T) {
	h := guarded(t, nil)
	if w := (ask{method: "GET", host: "localhost", path: "/login"}).of(h); w.Header().Get("Location") != "/" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := (ask{method: "GET", host: "localhost", path: "/x"}).of(h); w.Body.String() != "reached UI, signed in: false" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w := ask{method: "POST", host: "localhost", path: "/v1/plugins/upgrade", body: `{"plugin":"sink-file","program":"/x"}`}.of(h)
	if w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed {
		t.Errorf("upgrades are open: %d %s", w.Code, w.Body)
	}
}

// TestHeaders checks what every answer tells the browser.
func TestHeaders(t *testing.T) {
	h := guarded(t, func(l *admin.Listener) { l.Token = token })
	for _, path := range append(guardedPaths, "/login", "/healthz") {
		w := ask{method: "GET", host: "localhost", path: path}.of(h)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
			"Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := w.Header().Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
	}
}

// TestRefusedBody checks that a refused request's body is not waited for.
func TestRefusedBody(t *testing.T) {
	srv := httptest.NewUnstartedServer(guarded(t, func(l *admin.Listener) { l.Token = token }))
	srv.Start()
	defer srv.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/requests/erase HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
	answer, err := io.ReadAll(conn) // until the connection ends
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 401") {
		t.Errorf("%s", answer)
	}
}

// TestUnreadBody checks that nobody without a token keeps a connection by a body that does not come.
func TestUnreadBody(t *testing.T) {
	srv := httptest.NewUnstartedServer(guarded(t, func(l *admin.Listener) { l.Token = token }))
	srv.Start()
	defer srv.Close()
	var conns []net.Conn
	lines := []string{"GET /healthz", "GET /readyz", "GET /login", "GET /login.css", "GET /", "POST /login"}
	for _, line := range lines {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nContent-Length: 1000\r\n\r\na", line)
		conns = append(conns, conn)
	}
	for i, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", lines[i], err)
		}
	}
}

// TestHealthOfItself checks what the listener says of health by itself.
func TestHealthOfItself(t *testing.T) {
	for name, c := range map[string]struct {
		status admin.Status
		err    error
		want   int
	}{
		"well":         {want: http.StatusOK},
		"ready":        {admin.Status{Plugins: []admin.Plugin{{State: "ready"}}}, nil, http.StatusOK},
		"a bad plugin": {admin.Status{Plugins: []admin.Plugin{{State: "ready"}, {State: "failed"}}}, nil, http.StatusServiceUnavailable},
		"a bad store":  {admin.Status{}, admin.ErrNotRunning, http.StatusServiceUnavailable},
	} {
		h := guarded(t, func(l *admin.Listener) {
			l.Token, l.Health, l.Ready, l.Control = token, nil, nil, told{status: c.status, err: c.err}
		})
		if w := (ask{method: "GET", host: "localhost", path: "/readyz"}).of(h); w.Code != c.want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if w := (ask{method: "GET", host: "localhost", path: "/healthz"}).of(h); w.Body.String() != "ok\n" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// told is a Control whose status is given.
type told struct {
	admin.Control
	status admin.Status
	err    error
}

func (c told) Status(context.Context) (admin.Status, error) { return c.status, c.err }

// TestWords checks what /healthz and /readyz say, and that a host that starts says nothing else.
func TestWords(t *testing.T) {
	h := guarded(t, func(l *admin.Listener) {
		l.Control = nil
		l.Health = admin.Words(func(context.Context) []string { return nil })
		l.Ready = admin.Words(func(context.Context) []string { return []string{"one", "two"} })
	})
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/healthz":   {http.StatusOK, "ok\n"},
		"/readyz":    {http.StatusServiceUnavailable, "one\ntwo\n"},
		"/v1/status": {http.StatusServiceUnavailable, "the host starts\n"},
		"/metrics":   {http.StatusServiceUnavailable, "the host starts\n"},
		"/":          {http.StatusServiceUnavailable, "the host starts\n"},
	} {
		if w := (ask{method: "GET", host: "localhost", path: path}).of(h); w.Code != want.code || w.Body.String() != want.body {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
