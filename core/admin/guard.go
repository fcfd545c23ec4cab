package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// guard lets through to the admin listener's handlers who may: requests for a name of this host (a page whose own name was
// made to point here, by DNS rebinding, has another), not sent by a page of another origin, and with the token or the
// session of somebody who had it. The order matters: what a foreign page does must not even be seen to be signed in.
type guard struct {
	Listener
	next     http.Handler
	token    [sha256.Size]byte
	listenIP netip.Addr // zero: a name
	port     string
	cross    *http.CrossOriginProtection
	sessions *sessions
	wrong    *attempts
	page     *template.Template // to sign in
}

func newGuard(l Listener, next http.Handler) *guard {
	if l.Now == nil {
		l.Now = time.Now
	}
	g := &guard{
		Listener: l, next: next, token: sha256.Sum256([]byte(l.Token)), cross: http.NewCrossOriginProtection(),
		sessions: &sessions{until: map[[sha256.Size]byte]time.Time{}}, wrong: &attempts{of: map[netip.Prefix]*attempt{}},
		page: template.Must(template.ParseFS(loginFiles, "login/login.html")),
	}
	host, port, err := net.SplitHostPort(l.Listen)
	if err != nil {
		host = l.Listen
	}
	g.port = port
	if a, err := netip.ParseAddr(host); err == nil {
		g.listenIP = a.Unmap().WithZone("")
	} else if host != "" {
		g.Hosts = append(slices.Clone(l.Hosts), strings.ToLower(host))
	}
	return g
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header(), g.TLS)
	if r.ContentLength != 0 { // the server wants all of a body, even one that nobody reads, before it goes on
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(strangersBody)) // not all writers have one
	}
	switch {
	case !g.called(r):
		g.deny(w, r, http.StatusMisdirectedRequest, "this host is not called "+printable(r.Host)+
			`; what it is called beside its address stands in "hosts" of the admin block`)
		return
	case g.cross.Check(r) != nil, foreignRead(r):
		g.deny(w, r, http.StatusForbidden, "the request comes from a page of another origin")
		return
	case r.URL.Path == "/healthz", r.URL.Path == "/readyz":
		g.next.ServeHTTP(w, r)
		return
	case g.Token == "":
		if r.URL.Path == loginPath || r.URL.Path == logoutPath {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		g.letIn(w, r)
		return
	}
	switch r.URL.Path {
	case loginPath:
		g.login(w, r)
		return
	case loginStylePath:
		http.ServeFileFS(w, r, loginFiles, "login/login.css")
		return
	}
	if header := r.Header.Get("Authorization"); header != "" {
		g.bearer(w, r, header)
		return
	}
	id, ok := g.session(r)
	switch {
	case !ok:
		g.unknown(w, r)
	case r.URL.Path == logoutPath:
		g.logout(w, r, id)
	default:
		g.letIn(w, r.WithContext(context.WithValue(r.Context(), signedIn{}, true)))
	}
}

// strangersBody is how long a body may take that nobody reads, of a request that nobody has been let in with.
const strangersBody = time.Second

// letIn passes on a request of somebody who may take all the time for its body.
func (g *guard) letIn(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // likewise
	}
	g.next.ServeHTTP(w, r)
}

// signedIn marks the context of a request of a session.
type signedIn struct{}

// SignedIn reports whether a request to the admin listener comes from a browser that somebody signed in with, so that a
// page can offer to sign out by a POST to /logout.
func SignedIn(ctx context.Context) bool { return ctx.Value(signedIn{}) != nil }

// bearer lets a program through that shows the token.
func (g *guard) bearer(w http.ResponseWriter, r *http.Request, header string) {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		g.unauthorized(w, r, "Authorization has to be Bearer and the token")
		return
	}
	switch g.check(r, strings.TrimSpace(token)) {
	case right:
		g.letIn(w, r)
	case tooMany:
		g.limited(w, r)
	default:
		g.unauthorized(w, r, "the token is another")
	}
}

type verdict int

const (
	wrong verdict = iota
	right
	tooMany
)

// check compares a token in a time that tells nothing about either, unless the client's address has shown too many wrong
// ones.
func (g *guard) check(r *http.Request, token string) verdict {
	now, from := g.Now(), clientOf(r)
	if !g.wrong.allowed(from, now) {
		return tooMany
	}
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 {
		return right
	}
	g.wrong.count(from, now)
	return wrong
}

// unknown answers who shows nothing: a browser that goes to a page is taken to where it can sign in.
func (g *guard) unknown(w http.ResponseWriter, r *http.Request) {
	page := r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") &&
		!strings.HasPrefix(r.URL.Path, "/v1/")
	switch {
	case r.Header.Get("HX-Request") != "":
		w.Header().Set("HX-Redirect", loginPath) // a part of a page: the page as a whole goes there
	case page && r.Header.Get("Sec-Fetch-Site") == "cross-site":
		// A link from elsewhere. The cookie stays behind with those, so the browser asks once more, from here.
		asPage(w.Header())
		_, _ = io.WriteString(w, `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0">`+
			`<link rel="icon" href="data:,"><title>Grapnel</title></html>`)
		return
	case page:
		to := loginPath
		if r.URL.Path != "/" {
			to += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	g.unauthorized(w, r, "a token is needed: Authorization: Bearer")
}

func (g *guard) unauthorized(w http.ResponseWriter, r *http.Request, why string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="grapnel"`)
	g.deny(w, r, http.StatusUnauthorized, why)
}

func (g *guard) limited(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "10")
	g.deny(w, r, http.StatusTooManyRequests, "too many wrong tokens from this address")
}

// deny refuses a request. It ends the connection where a body would have to be read to keep it.
func (g *guard) deny(w http.ResponseWriter, r *http.Request, status int, why string) {
	if g.Denied != nil {
		g.Denied(r, status, why)
	}
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(strangersBody)) // not all writers have one
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(failure{why})
}

// called reports whether a request is for a name of this host. Ports do not matter: who forwards one to here has another.
func (g *guard) called(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || slices.Contains(g.Hosts, host) {
		return true
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	if a == g.listenIP && !a.IsUnspecified() || g.listenIP.IsLoopback() && a.IsLoopback() ||
		slices.Contains(g.Hosts, a.String()) {
		return true
	}
	// Where it listens at all addresses, the one that this connection came in at is its own.
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == a
}

// clientOf is the address that a request comes from, or for IPv6 the network that one customer mostly has.
func clientOf(r *http.Request) netip.Prefix {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := a.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // both fit
	return p
}

// foreignRead reports whether a page of another origin reads, which CrossOriginProtection leaves to the browser: it keeps
// the answer from scripts, but not from all that a page can do. Who follows a link to here is welcome.
func foreignRead(r *http.Request) bool {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return false
	case "":
		origin := r.Header.Get("Origin")
		if origin == "" {
			return false // no browser, or one at an address that browsers say less to
		}
		u, err := url.Parse(origin)
		return err != nil || u.Host != r.Host
	}
	link := (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !link
}

// secure sets what all answers have. A handler may allow its own pages more.
func secure(h http.Header, encrypted bool) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // with less, forms have no origin that could be checked
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if encrypted {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// printable is a short, harmless rendering of what a client sent.
func printable(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most]
	}
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}
