package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/admin/web"
	"github.com/grapnelhq/grapnel/core/ingress"
)

// adminListener is the listener for people and monitoring. All methods of a nil one do nothing: the configuration has no
// admin block.
type adminListener struct {
	http        *http.Server
	handler     atomic.Pointer[http.Handler]
	ui          *web.Site            // nil: not yet
	certificate *ingress.Certificate // nil: no TLS
	failed      chan error
	ended       chan struct{}      // closed when it serves no more
	hangUp      context.CancelFunc // ends what is asked
}

// openAdmin opens the port and serves it. Until control is called it only says that the host starts.
func (h *host) openAdmin() (*adminListener, error) {
	cfg := h.config().Admin
	if cfg.Listen == "" {
		return nil, nil
	}
	log := h.log.Named("admin")
	a := &adminListener{failed: make(chan error, 1), ended: make(chan struct{})}
	base, hangUp := context.WithCancel(context.Background())
	a.hangUp = hangUp
	a.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*a.handler.Load()).ServeHTTP(w, r) }),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	a.use(h.adminSurface(log))
	if cfg.TLS != nil {
		var err error
		if a.certificate, err = ingress.OpenCertificate(cfg.TLS.Cert, cfg.TLS.Key, log); err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		a.http.TLSConfig = a.certificate.TLS()
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen where admin.listen says: %w", err)
	}
	log.Info("the admin listener is open", "listen", ln.Addr().String(), "tls", cfg.TLS != nil, "token", cfg.Token != "")
	go a.serve(&boundedListener{Listener: ln, room: make(chan struct{}, maxAdminConns)})
	return a, nil
}

// adminSurface is what the listener serves, but for what a host has that has started.
func (h *host) adminSurface(log hclog.Logger) admin.Listener {
	cfg := h.config().Admin
	return admin.Listener{
		Health: admin.Words(h.live), Ready: admin.Words(h.ready), Token: cfg.Token, Listen: cfg.Listen, Hosts: cfg.Hosts,
		TLS: cfg.TLS != nil, Denied: logDenied(log),
	}
}

func (a *adminListener) use(l admin.Listener) {
	handler := l.Handler()
	a.handler.Store(&handler)
}

// controlAdmin has the listener serve everything from now on. What is asked there ends with working.
func (h *host) controlAdmin(working context.Context, control admin.Control) (err error) {
	a := h.admin
	if a == nil {
		return nil
	}
	if a.ui, err = web.New(web.Options{Control: control, Version: version, Log: h.log.Named("ui")}); err != nil {
		return err
	}
	l := h.adminSurface(h.log.Named("admin"))
	l.Control, l.UI, l.Metrics = control, a.ui, h.metrics.Handler()
	a.use(l)
	context.AfterFunc(working, a.hangUp)
	return nil
}

// serve handles requests until shutdown.
func (a *adminListener) serve(ln net.Listener) {
	defer close(a.ended)
	serve := a.http.Serve
	if a.certificate != nil {
		serve = func(ln net.Listener) error { return a.http.ServeTLS(ln, "", "") }
	}
	if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
		a.failed <- fmt.Errorf("admin listener: %w", err)
	}
}

// failure gives the error that ended the listener.
func (a *adminListener) failure() <-chan error {
	if a == nil {
		return nil
	}
	return a.failed
}

// shutdown may be called twice.
func (a *adminListener) shutdown(ctx context.Context) error {
	if a == nil {
		return nil
	}
	a.hangUp()
	err := endServer(ctx, a.http, lastWords)
	if a.ui != nil {
		a.ui.Close()
	}
	<-a.ended
	return err
}

func (a *adminListener) watchCertificate(ctx context.Context) {
	if a != nil && a.certificate != nil {
		a.certificate.Watch(ctx)
	}
}

func (a *adminListener) reloadCertificate() error {
	if a == nil || a.certificate == nil {
		return nil
	}
	return a.certificate.Reload()
}

// logDenied logs refused requests, one a second at most.
func logDenied(log hclog.Logger) func(*http.Request, int, string) {
	var next, left atomic.Int64
	return func(r *http.Request, status int, why string) {
		now := time.Now().UnixNano()
		if at := next.Load(); now < at || !next.CompareAndSwap(at, now+int64(time.Second)) {
			left.Add(1)
			return
		}
		log.Warn("a request to the admin listener was refused", "status", status, "reason", why, "remote_addr", r.RemoteAddr,
			"not_logged", left.Swap(0))
	}
}

// maxAdminConns is how many connections the admin listener has at a time: people, their live views, and monitoring.
const maxAdminConns = 512

// boundedListener does not accept more connections than it has room for.
type boundedListener struct {
	net.Listener
	room chan struct{}
}

// Accept implements net.Listener. A connection over the limit waits a second for another to close, and is closed then; those
// behind it wait in the system's queue. It does not wait for longer, lest closing the listener does, too.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.room <- struct{}{}:
			return &boundedConn{Conn: c, room: l.room}, nil
		case <-time.After(time.Second):
			_ = c.Close()
		}
	}
}

type boundedConn struct {
	net.Conn
	room   chan struct{}
	closed atomic.Bool
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	if !c.closed.Swap(true) {
		<-c.room
	}
	return c.Conn.Close()
}
