// Package fake stands in for HubSpot and Salesforce in tests. The two keep records in memory and are strict: what the real
// ones document as an error is one here, and so is everything that they do not document. The vendors' own SDKs work
// against them, which the tests in core/internal/foreign show.
package fake

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// Reply is an answer that a test wants instead of the fake's own.
type Reply struct {
	Status int
	Header map[string]string
	Body   string
}

// Request is one that the fake got.
type Request struct {
	Method      string          `json:"method"`
	Path        string          `json:"path"` // with the query, as it was sent
	ContentType string          `json:"content_type,omitempty"`
	Auth        string          `json:"authorization,omitempty"` // its scheme
	Body        json.RawMessage `json:"body,omitempty"`          // JSON; a form is a JSON text
}

// server is what both fakes share.
type server struct {
	mu        sync.Mutex
	intercept func(r *http.Request, body []byte) *Reply
	requests  []Request
}

// Intercept has f look at every request, one at a time: what it returns is the answer, nil leaves it to the fake. f must
// not call the fake.
func (s *server) Intercept(f func(r *http.Request, body []byte) *Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Requests are those so far, without those that a test intercepted.
func (s *server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Forget forgets the requests so far.
func (s *server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// enter reads a request and takes the lock, which serve's caller releases; ok is false where it is answered already.
func (s *server) enter(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	if s.intercept != nil {
		if reply := s.intercept(r, body); reply != nil {
			for k, v := range reply.Header {
				w.Header().Set(k, v)
			}
			if w.Header().Get("Content-Type") == "" {
				w.Header().Set("Content-Type", "application/json")
			}
			w.WriteHeader(reply.Status)
			_, _ = io.WriteString(w, reply.Body)
			return nil, false
		}
	}
	s.requests = append(s.requests, RequestOf(r, body))
	return body, true
}

// RequestOf notes what is to be compared of a request.
func RequestOf(r *http.Request, body []byte) Request {
	q := Request{Method: r.Method, Path: r.URL.RequestURI(), ContentType: r.Header.Get("Content-Type")}
	q.Auth, _, _ = cut(r.Header.Get("Authorization"))
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		q.ContentType = "" // of nothing
	case json.Valid(body):
		q.Body = body
	default:
		q.Body, _ = json.Marshal(string(body))
	}
	return q
}

func cut(s string) (before, after string, ok bool) {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// strict decodes JSON without members that v does not have.
func strict(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(w).Encode(v)
	}
}
