package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	loginPath      = "/login"
	loginStylePath = "/login.css"
	logoutPath     = "/logout"

	sessionLife = 12 * time.Hour
	maxSessions = 1000
	maxForm     = 8 << 10
)

//go:embed login
var loginFiles embed.FS

// sessions are the browsers that somebody has signed in with. They end with the host. What is kept of a session's secret is
// its hash, so that looking for it tells nothing by its time.
type sessions struct {
	mu    sync.Mutex
	until map[[sha256.Size]byte]time.Time
}

// begin makes a session and returns its secret.
func (s *sessions) begin(now time.Time) string {
	id := rand.Text() + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	var first [sha256.Size]byte
	for key, until := range s.until {
		if !until.After(now) {
			delete(s.until, key)
		} else if least, ok := s.until[first]; !ok || until.Before(least) {
			first = key
		}
	}
	if len(s.until) >= maxSessions {
		delete(s.until, first)
	}
	s.until[sha256.Sum256([]byte(id))] = now.Add(sessionLife)
	return id
}

func (s *sessions) valid(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[sha256.Sum256([]byte(id))]
	return ok && until.After(now)
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, sha256.Sum256([]byte(id)))
}

// encrypted reports whether the browser's connection is: to here, or to a proxy that says so. A client that lies about it
// only makes its own cookie stricter.
func (g *guard) encrypted(r *http.Request) bool {
	return g.TLS || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// cookieName has the port in it: cookies are not kept apart by ports, and two hosts may run on one machine.
func (g *guard) cookieName(r *http.Request) string {
	name := "grapnel_session_" + g.port
	if g.encrypted(r) {
		return "__Host-" + name
	}
	return name
}

// session is the session of a request.
func (g *guard) session(r *http.Request) (id string, ok bool) {
	c, err := r.Cookie(g.cookieName(r))
	if err != nil {
		return "", false
	}
	return c.Value, g.sessions.valid(c.Value, g.Now())
}

func (g *guard) setCookie(w http.ResponseWriter, r *http.Request, value string, age time.Duration) {
	c := &http.Cookie{
		Name: g.cookieName(r), Value: value, Path: "/", HttpOnly: true, Secure: g.encrypted(r),
		SameSite: http.SameSiteStrictMode, MaxAge: int(age / time.Second),
	}
	if age <= 0 {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// loginView is what the page to sign in shows.
type loginView struct{ Next, Wrong string }

// login shows the form, and takes it.
func (g *guard) login(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		if _, ok := g.session(r); ok {
			http.Redirect(w, r, local(r.URL.Query().Get("next")), http.StatusSeeOther)
			return
		}
		g.loginForm(w, http.StatusOK, loginView{Next: local(r.URL.Query().Get("next"))})
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second)) // not all writers have one
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		g.deny(w, r, http.StatusBadRequest, "the body is not the form of this page")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(strangersBody)) // what is no form was not read
	view := loginView{Next: local(r.PostForm.Get("next"))}
	switch g.check(r, strings.TrimSpace(r.PostForm.Get("token"))) {
	case right:
		if old, ok := g.session(r); ok {
			g.sessions.end(old)
		}
		g.setCookie(w, r, g.sessions.begin(g.Now()), sessionLife)
		http.Redirect(w, r, view.Next, http.StatusSeeOther)
	case tooMany:
		g.told(r, http.StatusTooManyRequests, "too many wrong tokens from this address")
		w.Header().Set("Retry-After", "10")
		view.Wrong = "Too many wrong tokens came from this address. Wait some seconds."
		g.loginForm(w, http.StatusTooManyRequests, view)
	default:
		g.told(r, http.StatusUnauthorized, "the token is another")
		view.Wrong = "This is not the token."
		g.loginForm(w, http.StatusUnauthorized, view)
	}
}

func (g *guard) told(r *http.Request, status int, why string) {
	if g.Denied != nil {
		g.Denied(r, status, why)
	}
}

func (g *guard) loginForm(w http.ResponseWriter, status int, v loginView) {
	asPage(w.Header())
	w.WriteHeader(status)
	_ = g.page.Execute(w, v) // a browser that went away
}

// asPage is for the two pages of the guard.
func asPage(h http.Header) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "+
		"form-action 'self'; frame-ancestors 'none'")
}

// logout ends a session.
func (g *guard) logout(w http.ResponseWriter, r *http.Request, id string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		g.deny(w, r, http.StatusMethodNotAllowed, "sign out by POST")
		return
	}
	g.sessions.end(id)
	g.setCookie(w, r, "", 0)
	http.Redirect(w, r, loginPath, http.StatusSeeOther)
}

// local is where to go after signing in: a path of this host, whatever a link asked for.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

const (
	wrongAtOnce = 10              // wrong tokens of an address
	wrongEvery  = 5 * time.Second // then one per so long
	maxWrong    = 4096            // addresses that are remembered
)

// attempts counts wrong tokens by address.
type attempts struct {
	mu sync.Mutex
	of map[netip.Prefix]*attempt
}

type attempt struct {
	wrong float64
	at    time.Time
}

// since is how many wrong ones still count.
func (a *attempt) since(now time.Time) float64 {
	return max(0, a.wrong-float64(now.Sub(a.at))/float64(wrongEvery))
}

func (s *attempts) allowed(from netip.Prefix, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of[from]
	if a == nil && len(s.of) >= maxWrong {
		a = s.of[netip.Prefix{}]
	}
	return a == nil || a.since(now) < wrongAtOnce
}

func (s *attempts) count(from netip.Prefix, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of[from]
	if a == nil {
		if len(s.of) >= maxWrong {
			for p, old := range s.of {
				if old.since(now) <= 0 {
					delete(s.of, p)
				}
			}
		}
		if len(s.of) >= maxWrong {
			from = netip.Prefix{} // one count for all of a flood
			a = s.of[from]
		}
	}
	if a == nil {
		a = &attempt{}
		s.of[from] = a
	}
	a.wrong, a.at = a.since(now)+1, now
}
