package ingress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/formscan"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/core/store"
)

// Server receives webhooks. Order of calls: New, Listen, Serve (blocks), Shutdown from another goroutine. Prepare, Use,
// ReloadCertificate, WatchCertificate (blocks) and Stats may be called at any time, from any goroutine.
type Server struct {
	cfg    Config
	http   *http.Server
	ln     *listener
	certs  *certificates   // nil: no TLS
	ctx    context.Context // of acceptances; ends when a shutdown runs out of time
	cancel context.CancelFunc

	routes   atomic.Pointer[routes]
	draining atomic.Bool
	conns    chan struct{} // one element per open connection

	requests   atomic.Int64
	bodyMemory atomic.Int64
	unrecorded atomic.Uint64
	chunks     sync.Pool

	mu       sync.Mutex
	counters map[string]*counters // by source
	nowhere  *counters            // of requests that no source has
}

// New makes a server; it checks everything and opens nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	if cfg.Listen == "" {
		cfg.Listen = ":8080"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Limits.setDefaults()
	s := &Server{
		cfg:      cfg,
		conns:    make(chan struct{}, cfg.Limits.MaxConns+spareConns(cfg.Limits.MaxConns)),
		counters: map[string]*counters{},
		nowhere:  newCounters(),
		chunks:   newChunkPool(),
	}
	if cfg.CertFile != "" {
		s.certs = &certificates{certFile: cfg.CertFile, keyFile: cfg.KeyFile, logger: cfg.Logger, now: cfg.Now}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	l := &s.cfg.Limits
	s.http = &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            l.ReadHeaderTimeout,
		ReadTimeout:                  l.headTimeout(),
		WriteTimeout:                 l.BodyTimeout + l.headTimeout() + time.Minute,
		IdleTimeout:                  l.IdleTimeout,
		MaxHeaderBytes:               l.MaxHeader,
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return s.ctx },
		ConnContext:                  connContext,
		ConnState:                    s.connState,
		ErrorLog:                     cfg.Logger.StandardLogger(nil),
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 128},
	}
	s.http.ErrorLog.SetFlags(0)
	s.http.ErrorLog.SetOutput(&httpLog{logger: cfg.Logger, limit: newLimiter(0.5, 10), now: s.cfg.Now})
	set := Settings{Endpoints: cfg.Endpoints, TrustedProxies: cfg.TrustedProxies, MaxBody: cfg.Limits.MaxBody}
	p, err := s.Prepare(set)
	if err != nil {
		return nil, err
	}
	s.Use(p)
	return s, nil
}

// Settings are what may change while a Server runs; they mean what they mean in Config.
type Settings struct {
	Endpoints      []Endpoint
	TrustedProxies []netip.Prefix
	MaxBody        int64
}

// Prepared are settings without mistakes, for one Server.
type Prepared struct{ routes *routes }

// Prepare checks settings for a reload; nothing changes yet.
func (s *Server) Prepare(set Settings) (*Prepared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.newRoutes(set)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	return &Prepared{r}, nil
}

// Use replaces the settings at once. Requests that have begun go on with the old ones. The rates of sources whose rate is the
// same go on as well.
func (s *Server) Use(p *Prepared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.routes.Load(); old != nil {
		for _, ep := range p.routes.all {
			ep.rate = old.rateOf(ep)
		}
	}
	s.routes.Store(p.routes)
}

// Listen opens the port, and loads the certificate where there is one. It returns the address, whose port the system
// chose if it was 0.
func (s *Server) Listen() (net.Addr, error) {
	if s.certs != nil {
		if err := s.ReloadCertificate(); err != nil {
			return nil, err
		}
		s.http.TLSConfig = s.certs.tls()
	}
	ln, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("ingress: cannot listen where server.listen says: %w", err)
	}
	s.ln = &listener{Listener: ln, s: s, closed: make(chan struct{})}
	return ln.Addr(), nil
}

// Serve handles requests until Shutdown, and then returns nil at once, before the last requests are done. It follows
// Listen.
func (s *Server) Serve() error {
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(s.ln, "", "")
	} else {
		err = s.http.Serve(s.ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("ingress: %w", err)
}

// Shutdown closes the port and waits for the requests that have begun; those that begin now on open connections get a
// 503. If ctx ends first, it breaks them off and returns ctx's error: what was not answered will be sent again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	defer s.cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.cancel()
		err = errors.Join(fmt.Errorf("ingress: requests did not finish in time: %w", err), s.http.Close())
	}
	if s.ln != nil {
		_ = s.ln.Close() // again, if Serve had it; for the first time, if it never ran
	}
	return err
}

// exchange is one request on its way through the gates.
type exchange struct {
	at     time.Time
	routes *routes
	ep     *endpoint
	in     auth.Input
	client netip.Addr
	body   bodyReader

	unlessHandshake *refusal // of the head, where only a handshake may have such a one

	trusted bool // Inspect: it passes for authentic
	secret  int  // the place of the secret that matched; of no use before authenticate
}

// remoteAddr is the client's address as it is stored.
func (x *exchange) remoteAddr(r *http.Request) string {
	if x.client.IsValid() {
		return x.client.String()
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{at: s.cfg.Now(), routes: s.routes.Load()}
	s.requests.Add(1)
	defer s.end(w, r, x)

	if rf := s.handle(w, r, x); rf != nil {
		s.refuse(w, r, x, rf)
	}
}

// end gives back what the request held, and answers if its handling panicked: a bug in one gate must not look like a
// broken network.
func (s *Server) end(w http.ResponseWriter, r *http.Request, x *exchange) {
	s.requests.Add(-1)
	x.body.release()
	if p := recover(); p != nil {
		// The panic's value may quote the request; its type and the stack do not.
		s.cfg.Logger.Error("request handling panicked", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		s.refuse(w, r, x, &refusal{
			status: http.StatusInternalServerError, cause: CauseInternal, detail: "a bug; see the log", close: true,
		})
	}
}

// handle takes a request through the gates and answers it, or says why not.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, x *exchange) *refusal {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.begin()
		if c.over {
			return &refusal{
				status: http.StatusServiceUnavailable, cause: CauseConnections, close: true,
				detail: "more connections than the limit (max_connections)",
			}
		}
	}
	query, done, rf := s.admit(w, r, x)
	if done || rf != nil {
		return rf
	}
	return s.accept(w, r, x, query)
}

// admit takes a request through the gates, up to the store. It returns the query without credentials; done: a handshake
// was answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, x *exchange) (query string, done bool, rf *refusal) {
	var token string
	if x.ep, token = x.routes.find(r.URL); x.ep == nil {
		return "", false, &refusal{status: http.StatusNotFound, cause: CauseUnknownPath, detail: "no source has this path"}
	}
	x.in = auth.Input{Header: r.Header, RawQuery: r.URL.RawQuery, PathToken: token}
	kind, rf := s.checkHead(r, x)
	if rf != nil {
		return "", false, rf
	}
	x.in.Form = kind == bodyForm
	x.body = bodyReader{s: s, w: w, r: r, limit: x.ep.maxBody, start: x.at}
	if x.in.Body, rf = x.body.read(); rf != nil {
		return "", false, rf
	}
	if h := x.ep.handshake; h != nil && r.Method == h.Method() {
		if done, rf := s.shakeHands(w, x); done || rf != nil {
			return "", done, rf
		}
	}
	if x.unlessHandshake != nil {
		return "", false, x.unlessHandshake
	}
	if query, rf = s.authenticate(x); rf != nil {
		return "", false, rf
	}
	return query, false, s.checkBody(x, kind, query)
}

// checkHead is all that can be said without the body.
func (s *Server) checkHead(r *http.Request, x *exchange) (kind bodyKind, rf *refusal) {
	ep := x.ep
	if s.draining.Load() {
		return bodyOther, &refusal{
			status: http.StatusServiceUnavailable, cause: CauseDraining, close: true, detail: "grapnel is shutting down",
		}
	}
	handshake := ep.handshake != nil && r.Method == ep.handshake.Method()
	if !slices.Contains(ep.methods, r.Method) {
		if x.unlessHandshake = s.methodRefusal(r); !handshake {
			return bodyOther, x.unlessHandshake
		}
	}
	if len(x.routes.proxies.trusted) > 0 || len(ep.allowIPs) > 0 {
		addr, sure := x.routes.proxies.client(r)
		x.client = addr
		if len(ep.allowIPs) > 0 && (!sure || !ep.admits(addr)) {
			return bodyOther, &refusal{
				status: http.StatusForbidden, cause: CauseAddress, detail: "the address is not in allow_ips",
			}
		}
	}
	for _, e := range r.Header["Content-Encoding"] {
		if e != "" && !strings.EqualFold(e, "identity") {
			return bodyOther, typeRefusal(CauseContentEncoding, "content encoding %q, only identity is taken", e)
		}
	}
	kind, ok := ep.accepts(r.Header)
	switch {
	case r.ContentLength == 0 && r.Method != http.MethodPost:
		kind = bodyNone
	case !ok:
		rf := typeRefusal(CauseContentType, "content type %q", strings.Join(r.Header["Content-Type"], ", "))
		if !handshake || r.ContentLength != 0 { // of nothing, the type does not matter
			return bodyOther, rf
		}
		if x.unlessHandshake == nil {
			x.unlessHandshake = rf
		}
	}
	if s.cfg.Admit != nil {
		if cause := s.cfg.Admit(); cause != "" {
			if _, known := ep.counters.rejected[cause]; !known {
				cause = CauseNotReady
			}
			return bodyOther, &refusal{
				status: http.StatusServiceUnavailable, cause: cause, detail: "nothing is accepted now",
			}
		}
	}
	return kind, nil
}

func (s *Server) methodRefusal(r *http.Request) *refusal {
	return &refusal{
		status: http.StatusMethodNotAllowed, cause: CauseMethod, detail: "method " + printable(r.Method, 16),
	}
}

// shakeHands answers a provider's test of the endpoint, which is not stored. Some providers sign it; and who has the token
// in the URL shows it here, too.
func (s *Server) shakeHands(w http.ResponseWriter, x *exchange) (done bool, rf *refusal) {
	h := x.ep.handshake
	if h.NeedsBody() && s.scan(x) != nil {
		return false, nil
	}
	answer, matched, unfit := h.Answer(&x.in)
	if !matched {
		return false, nil
	}
	if v := x.ep.verifier; v != nil && (h.Authenticated() || v.TokenInURL()) && !x.trusted {
		if _, err := v.Verify(&x.in, x.at); err != nil {
			return false, authRefusal(err)
		}
	}
	if unfit != nil {
		return false, &refusal{status: http.StatusBadRequest, cause: CauseBadHandshake, detail: unfit.Error()}
	}
	x.ep.counters.handshakes.Add(1)
	head := w.Header()
	head["Content-Type"] = []string{answer.ContentType}
	head["X-Content-Type-Options"] = []string{"nosniff"}
	head["Cache-Control"] = []string{"no-store"}
	_, _ = w.Write(answer.Body) // the provider will ask again
	return true, nil
}

// authenticate checks the credentials and the source's rate. It returns the query without credentials.
func (s *Server) authenticate(x *exchange) (query string, rf *refusal) {
	ep := x.ep
	query = x.in.RawQuery
	if ep.verifier != nil && !x.trusted {
		res, err := ep.verifier.Verify(&x.in, x.at)
		if err != nil {
			return "", authRefusal(err)
		}
		if ep.handshake.Forgeable(x.in.Body) {
			return "", authRefusal(&auth.Error{
				Cause: auth.CauseAmbiguousPart, Detail: "the body could be a challenge of the handshake",
			})
		}
		ep.secrets[res.SecretIndex].Add(1)
		query, x.secret = res.Query, res.SecretIndex
	}
	if ep.rate != nil {
		if wait, ok := ep.rate.take(x.at); !ok {
			return "", &refusal{
				status: http.StatusTooManyRequests, cause: CauseRateLimited, retry: wait,
				detail: "more requests than the source's rate",
			}
		}
	}
	return query, nil
}

func authRefusal(err error) *refusal {
	rf := &refusal{status: http.StatusUnauthorized, cause: auth.CauseBadSignature}
	var e *auth.Error
	if errors.As(err, &e) {
		rf.cause, rf.detail = e.Cause, e.Detail
	}
	return rf
}

// scan checks the body, once, so that JSON pointers may be followed.
func (s *Server) scan(x *exchange) (err error) {
	if x.in.Checked {
		return nil
	}
	if x.in.Form {
		err = formscan.Check(x.in.Body, formscan.DefaultLimits())
	} else {
		err = jsonscan.Check(x.in.Body, s.cfg.Limits.JSON)
	}
	x.in.Checked = err == nil
	return err
}

// checkBody bounds what anybody behind us has to parse, and then asks the allow lists.
func (s *Server) checkBody(x *exchange, kind bodyKind, query string) *refusal {
	switch {
	case kind == bodyNone:
		if err := formscan.Check([]byte(query), formscan.DefaultLimits()); err != nil {
			return scanRefusal(err)
		}
	case kind != bodyOther || x.ep.needsJSON:
		if err := s.scan(x); err != nil && kind != bodyOther {
			return scanRefusal(err)
		}
	}
	if x.ep.verifier != nil && !x.trusted {
		if err := x.ep.verifier.Allowed(&x.in); err != nil {
			return authRefusal(err)
		}
	}
	return nil
}

// scanRefusal tells the sender which limit or rule of JSON or forms it broke.
func scanRefusal(err error) *refusal {
	rf := &refusal{status: http.StatusBadRequest, cause: CauseBadForm}
	at := 0
	if e, ok := errors.AsType[*jsonscan.Error](err); ok {
		rf.cause, rf.limit, at = CauseBadJSON, e.Cause, e.Offset
	} else if e, ok := errors.AsType[*formscan.Error](err); ok {
		rf.limit, at = e.Cause, e.Offset
	}
	rf.detail = rf.limit + " at byte " + strconv.Itoa(at)
	return rf
}

// request is what is stored of an admitted request, and which alternative gave its dedupe key.
func (x *exchange) request(r *http.Request, query string) (req *core.Request, alternative int) {
	ep := x.ep
	if query != "" && len(ep.params) > 0 {
		query = auth.CutQuery(query, ep.params)
	}
	key, alternative := ep.dedupeKey(&x.in, query)
	return &core.Request{
		Dedupe:     key,
		Source:     ep.source,
		Tenant:     ep.tenant,
		ReceivedAt: x.at,
		RemoteAddr: x.remoteAddr(r),
		Method:     r.Method,
		Query:      strings.ToValidUTF8(query, "\uFFFD"),
		Headers:    ep.headers.keep(r.Header),
		Body:       x.in.Body,
		State:      core.RequestReceived,
	}, alternative
}

// accept stores the request and replies.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, x *exchange, query string) *refusal {
	ep := x.ep
	req, _ := x.request(r, query)
	// Not the request's context: once the body is here, it is stored, whether or not its sender waits for the answer.
	var traced func(store.Acceptance, error)
	if s.cfg.Tracer != nil {
		traced = s.cfg.Tracer.Accepting(req, r.Header)
	}
	acceptance, err := s.cfg.Acceptor.Accept(s.ctx, req)
	if traced != nil {
		traced(acceptance, err)
	}
	if err != nil {
		rf := &refusal{
			status: http.StatusServiceUnavailable, cause: CauseStore, detail: "it could not be stored", failed: err,
		}
		if errors.Is(err, store.ErrFull) {
			rf.cause = CauseDiskFull
		}
		return rf
	}
	switch acceptance {
	case store.Duplicate:
		ep.counters.duplicates.Add(1)
	case store.Reopened:
		ep.counters.reopened.Add(1)
	default:
		ep.counters.accepted.Add(1)
	}
	if ep.replyType != nil {
		w.Header()["Content-Type"] = ep.replyType
	}
	w.WriteHeader(ep.status)
	if len(ep.replyBody) > 0 {
		_, _ = w.Write(ep.replyBody) // it is stored; who does not hear of it sends a duplicate
	}
	if ep.observer != nil && acceptance != store.Duplicate {
		ep.observer.Accepted(s.cfg.Now().Sub(x.at))
	}
	return nil
}

// httpLog takes what net/http has to say about broken connections.
type httpLog struct {
	logger hclog.Logger
	limit  *limiter
	now    func() time.Time
}

// Write implements io.Writer, one line per call.
func (l *httpLog) Write(p []byte) (int, error) {
	if _, ok := l.limit.take(l.now()); ok {
		l.logger.Debug("http server", "detail", printable(strings.TrimSpace(string(p)), maxDetail))
	}
	return len(p), nil
}
