package ingress

import (
	"net/http"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// Inspection is what the gates say of a request that is looked at and not stored.
type Inspection struct {
	Source  string        // that has the path; empty: none
	Request *core.Request // as it would be stored; nil: it would not
	// Secret is the place of the secret that the request was signed with, in the configured order; -1: it was not checked.
	Secret int
	// Dedupe is the alternative of the manifest that gave the dedupe key; -1: none, it is the body's, or the query's.
	Dedupe int

	// Of a request that would be refused:
	Status        int    // the HTTP status that would be answered
	Cause, Detail string // as in rejections

	Handshake bool   // it is a test of the endpoint, which is answered and not stored
	Answer    []byte // to that
}

// Inspect takes a request through the gates and stores nothing. The request's body is read. at is when it is supposed
// to come in. With trusted it passes for authentic, and allow lists are not asked: so one learns what would become of a
// request whose signature cannot be checked, or is wrong. It is for a server of its own, which is not served: secrets
// and rates are counted as if the request had come in.
func (s *Server) Inspect(r *http.Request, at time.Time, trusted bool) Inspection {
	x := &exchange{at: at, routes: s.routes.Load(), trusted: trusted, secret: -1}
	w := &unsent{head: http.Header{}}
	query, done, rf := s.admit(w, r, x)
	x.body.release()
	in := Inspection{Secret: x.secret, Dedupe: -1}
	if x.ep != nil {
		in.Source = x.ep.source
	}
	switch {
	case rf != nil:
		in.Secret, in.Status, in.Cause, in.Detail = -1, rf.status, rf.cause, rf.detail
	case done:
		in.Handshake, in.Answer = true, w.body
	default:
		in.Request, in.Dedupe = x.request(r, query)
	}
	return in
}

// unsent keeps what would be answered.
type unsent struct {
	head http.Header
	body []byte
}

// Header implements http.ResponseWriter.
func (u *unsent) Header() http.Header { return u.head }

// WriteHeader implements http.ResponseWriter.
func (u *unsent) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (u *unsent) Write(b []byte) (int, error) {
	u.body = append(u.body, b...)
	return len(b), nil
}
