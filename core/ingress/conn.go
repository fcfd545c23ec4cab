package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// listener bounds the number of connections. Those above the limit still get a 503 that tells them when to come back;
// when these are too many as well, the listener takes no more until one closes.
type listener struct {
	net.Listener
	s      *Server
	closed chan struct{}
	once   sync.Once
}

// spareConns is how many connections above the limit get an answer.
func spareConns(limit int) int { return limit/8 + 8 }

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.s.conns <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.s.conns
		return nil, err
	}
	return &conn{Conn: c, s: l.s, over: len(l.s.conns) > l.s.cfg.Limits.MaxConns}, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn watches a connection for requests that net/http refuses by itself, before a handler runs: they are to be
// counted too.
type conn struct {
	net.Conn
	s        *Server
	over     bool // above the limit: it gets a 503
	once     sync.Once
	pending  atomic.Bool  // net/http has read (some of) a request, and no handler has seen it
	read     atomic.Int64 // bytes since the last request
	timedOut atomic.Bool  // the last read
	eof      atomic.Bool
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	if err != nil {
		c.timedOut.Store(errors.Is(err, os.ErrDeadlineExceeded))
		c.eof.Store(!c.timedOut.Load())
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { <-c.s.conns })
	return c.Conn.Close()
}

// CloseWrite lets net/http end its side first, so that a refused client can still read why.
func (c *conn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

type connKey struct{}

func connContext(ctx context.Context, nc net.Conn) context.Context {
	if c := underlying(nc); c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

func underlying(nc net.Conn) *conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// begin tells that a handler has the connection's request.
func (c *conn) begin() {
	c.pending.Store(false)
	c.read.Store(0)
	c.timedOut.Store(false)
	c.eof.Store(false)
}

// connState is net/http's hook. A connection becomes active when the head of a request, or what there was of it, was
// read.
func (s *Server) connState(nc net.Conn, state http.ConnState) {
	c := underlying(nc)
	if c == nil {
		return
	}
	switch state {
	case http.StateActive:
		c.pending.Store(true)
	case http.StateIdle:
		c.pending.Store(false)
		c.read.Store(0)
		c.timedOut.Store(false)
	case http.StateClosed:
		if c.pending.Load() {
			s.rejectHead(c)
		}
	}
}

// rejectHead counts a request that net/http has refused already.
func (s *Server) rejectHead(c *conn) {
	rf := &refusal{
		status: http.StatusBadRequest, cause: CauseMalformedRequest, detail: "the request's head is not proper HTTP",
	}
	switch {
	case c.timedOut.Load():
		rf.status, rf.cause = http.StatusRequestTimeout, CauseHeaderTimeout
		rf.detail = "the request's head came too slowly"
	case c.read.Load() >= int64(s.cfg.Limits.MaxHeader):
		rf.status, rf.cause = http.StatusRequestHeaderFieldsTooLarge, CauseHeaderTooLarge
		rf.detail = "the request's head is larger than the limit (max_header)"
	case c.eof.Load():
		rf.cause, rf.detail = CauseClientGone, "the request's head ends early"
	}
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = ""
	}
	s.note(nil, rf, core.Rejection{At: s.cfg.Now(), RemoteAddr: host})
}

// headTimeout is how long net/http waits for a head and the first bytes of its body; bodyReader goes on from there.
func (l *Limits) headTimeout() time.Duration { return l.ReadHeaderTimeout + l.BodyGrace }
