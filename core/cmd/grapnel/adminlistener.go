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
	ui          *web.Site
	ln          net.Listener
	certificate *ingress.Certificate // nil: no TLS
}

// listenAdmin opens the port. What is asked there ends with working.
func (h *host) listenAdmin(working context.Context, control admin.Control) (*adminListener, error) {
	cfg := h.config().Admin
	if cfg.Listen == "" {
		return nil, nil
	}
	ui, err := h.userInterface(control)
	if err != nil {
		return nil, err
	}
	log := h.log.Named("admin")
	a := &adminListener{ui: ui, http: &http.Server{
		Handler: admin.Listener{
			Control: control, UI: ui, Metrics: h.metrics.Handler(), Token: cfg.Token, Listen: cfg.Listen, Hosts: cfg.Hosts, TLS: cfg.TLS != nil,
			Denied: logDenied(log),
		}.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return working },
		ErrorLog:          log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}}
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
	a.ln = &boundedListener{Listener: ln, room: make(chan struct{}, maxAdminConns)}
	log.Info("the admin listener is open", "listen", ln.Addr().String(), "tls", cfg.TLS != nil, "token", cfg.Token != "")
	return a, nil
}

// serve handles requests until shutdown.
func (a *adminListener) serve() error {
	if a == nil {
		return nil
	}
	serve := a.http.Serve
	if a.certificate != nil {
		serve = func(ln net.Listener) error { return a.http.ServeTLS(ln, "", "") }
	}
	if err := serve(a.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

func (a *adminListener) shutdown(ctx context.Context) error {
	if a == nil {
		return nil
	}
	err := a.http.Shutdown(ctx)
	a.ui.Close()
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

// Accept implements net.Listener. What is over the limit waits in the system's queue until a connection closes, but for a
// moment, lest closing the listener waits, too.
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
