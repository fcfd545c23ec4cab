package ingress

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
)

// refusal is why a request is not accepted.
type refusal struct {
	status int
	cause  string
	detail string        // for the operator, never for the sender
	limit  string        // bad JSON: which limit, for the sender too
	retry  time.Duration // of a 429; 503 has the server's
	close  bool          // the connection, for there may be a body that nobody will read
	failed error         // ours, not the sender's: logged as an error
}

const (
	maxDetail = 200
	maxWord   = 64
)

// refuse answers and takes note.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, x *exchange, rf *refusal) {
	h := w.Header()
	switch rf.status {
	case http.StatusUnauthorized:
		if x.ep.challenge != "" {
			h["Www-Authenticate"] = []string{x.ep.challenge}
		}
	case http.StatusMethodNotAllowed:
		h["Allow"] = []string{x.ep.allow}
	case http.StatusTooManyRequests:
		h["Retry-After"] = []string{seconds(rf.retry)}
	case http.StatusServiceUnavailable:
		h["Retry-After"] = []string{seconds(s.cfg.Limits.RetryAfter)}
	}
	if rf.close {
		h["Connection"] = []string{"close"}
	}
	h["Content-Type"] = []string{"application/json"}
	w.WriteHeader(rf.status)
	if r.Method != http.MethodHead {
		// Who does not read the answer does not need it.
		_, _ = w.Write(rf.body())
	}

	s.note(x.ep, rf, core.Rejection{
		At: x.at, RemoteAddr: x.remoteAddr(r), Method: printable(r.Method, 16), Path: s.safePath(x, r),
	})
}

// body is what the sender is told: nothing that helps to guess credentials or to know our insides.
func (rf *refusal) body() []byte {
	word := rf.cause
	switch rf.status {
	case http.StatusUnauthorized:
		word = "unauthorized"
	case http.StatusInternalServerError:
		word = "internal"
	case http.StatusServiceUnavailable:
		word = "unavailable"
	}
	if rf.limit != "" {
		return []byte(`{"error":"` + word + `","cause":"` + rf.limit + `"}`)
	}
	return []byte(`{"error":"` + word + `"}`)
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(max(d, time.Second).Seconds())), 10)
}

// note counts a refusal, and lists and logs it unless there are too many.
func (s *Server) note(ep *endpoint, rf *refusal, r core.Rejection) {
	c := s.nowhere
	if ep != nil {
		c = ep.counters
		r.Source = ep.source
	}
	if n := c.rejected[rf.cause]; n != nil {
		n.Add(1)
	}
	r.Status, r.Cause, r.Detail = rf.status, rf.cause, rf.detail
	if _, ok := c.records.take(r.At); ok {
		s.cfg.Rejections.RecordRejection(r)
	} else {
		s.unrecorded.Add(1)
	}
	if _, ok := c.logs.take(r.At); !ok {
		c.silent.Add(1)
		return
	}
	level, args := hclog.Warn, []any{
		"source", r.Source, "cause", r.Cause, "status", r.Status, "detail", r.Detail, "remote_addr", r.RemoteAddr,
		"method", r.Method, "path", r.Path,
	}
	if rf.failed != nil {
		level, args = hclog.Error, append(args, "error", rf.failed)
	}
	if n := c.silent.Swap(0); n > 0 {
		args = append(args, "not_logged", n)
	}
	s.cfg.Logger.Log(level, "request rejected", args...)
}

// safePath is the request's path without what may be a credential. Below a source's path a token may stand, and so may
// one anywhere in a path that no source has: a token is what a typing error in the name of a source leaves over.
func (s *Server) safePath(x *exchange, r *http.Request) string {
	if x.ep != nil {
		if x.in.PathToken != "" {
			return x.ep.path + "/…"
		}
		return x.ep.path
	}
	p := r.URL.Path
	if ep := x.routes.above(p); ep != nil {
		return ep.path + "/…"
	}
	const shown, longest = 2, 16 // a token that is worth its name is longer
	parts := strings.Split(strings.TrimPrefix(p, "/"), "/")
	var b strings.Builder
	for i, part := range parts {
		b.WriteByte('/')
		if i == shown || len(part) > longest {
			b.WriteString("…")
			break
		}
		b.WriteString(printable(part, longest))
	}
	return b.String()
}

// printable makes a word of the sender fit for lists and logs.
func printable(s string, most int) string {
	cut := ""
	if len(s) > most {
		s, cut = s[:most], "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s) + cut
}

func typeRefusal(cause, format, value string) *refusal {
	return &refusal{
		status: http.StatusUnsupportedMediaType, cause: cause, detail: fmt.Sprintf(format, printable(value, maxWord)),
	}
}
