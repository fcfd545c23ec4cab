package admin

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// Listener is what the admin listener serves: the control API without what only the owner of the host's files may do, and
// beside it what others bring. Its fields are not changed after Handler.
type Listener struct {
	Control Control // nil: the host starts, and there are only Health and Ready

	UI      http.Handler // at all paths that nothing else has; nil: a word that there is none
	Metrics http.Handler // at /metrics; nil: not found
	Health  http.Handler // at /healthz, without a token; nil: a word that the host works
	Ready   http.Handler // at /readyz, likewise; nil: as the status says of store and plugins

	Token  string   // empty: whoever reaches the listener may do everything, so it has to be on a loopback address
	Listen string   // host:port as configured: its host is one of the names that requests may be for
	Hosts  []string // further names that requests may be for, in lower case, without ports
	TLS    bool     // whether connections are encrypted: cookies are for those only, then

	// Denied is told of requests that were refused; nil: nobody is. It must not block.
	Denied func(r *http.Request, status int, why string)
	Now    func() time.Time // default time.Now
}

// Handler makes the handler of all that the listener serves, behind its guard.
func (l Listener) Handler() http.Handler {
	mux := http.NewServeMux()
	or := func(h http.Handler, otherwise http.HandlerFunc) http.Handler {
		if h == nil {
			return otherwise
		}
		return h
	}
	mux.Handle("GET /healthz", or(l.Health, func(w http.ResponseWriter, _ *http.Request) { word(w, http.StatusOK, "ok") }))
	mux.Handle("GET /readyz", or(l.Ready, l.ready))
	if l.Control == nil {
		mux.HandleFunc("/", starting)
		return newGuard(l, mux)
	}
	mux.Handle("/v1/", routes(l.Control, remote))
	mux.Handle("GET /metrics", or(l.Metrics, http.NotFound))
	ui := l.UI
	if ui == nil {
		ui = http.HandlerFunc(noUI)
	}
	mux.Handle("/", ui)
	return newGuard(l, mux)
}

// starting answers before there is a Control.
func starting(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "1")
	word(w, http.StatusServiceUnavailable, "the host starts")
}

// Words makes a handler for /healthz or /readyz: it answers 200, or 503 with the reasons, one per line. Who asks need not be
// known: the reasons are for anybody.
func Words(reasons func(context.Context) []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := reasons(r.Context()); len(why) > 0 {
			word(w, http.StatusServiceUnavailable, strings.Join(why, "\n"))
			return
		}
		word(w, http.StatusOK, "ok")
	})
}

func noUI(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("grapnel: the control API is below /v1/\n"))
}

// ready says whether the store answers and every plugin works.
func (l Listener) ready(w http.ResponseWriter, r *http.Request) {
	if l.Control == nil {
		starting(w, r)
		return
	}
	s, err := l.Control.Status(r.Context())
	if err != nil {
		word(w, http.StatusServiceUnavailable, "the store cannot be read")
		return
	}
	for _, p := range s.Plugins {
		if p.State != "ready" {
			word(w, http.StatusServiceUnavailable, "a plugin is not ready")
			return
		}
	}
	word(w, http.StatusOK, "ok")
}

// word answers with a line for who asks without a token: it says no more than that.
func word(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // a caller that went away is no error of ours
}
