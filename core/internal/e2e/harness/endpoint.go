//go:build unix

package harness

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Endpoint is an HTTP endpoint of the test's own. It outlives the hosts that send to it.
type Endpoint struct {
	URL string
	// Answer says with which status a request is answered, and keeps what the test is interested in. It is called from
	// many goroutines, and set before the first request. nil: 204, and Requests has the request.
	Answer func(r *http.Request, body []byte) int

	mu       sync.Mutex
	requests []Received
}

// Received is a request that an endpoint got whole.
type Received struct {
	Method, Path string
	Header       http.Header
	Body         []byte
}

// NewEndpoint starts an endpoint that ends with the test.
func NewEndpoint(t testing.TB) *Endpoint {
	e := &Endpoint{}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	e.URL = s.URL
	return e
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client died
	}
	if e.Answer != nil {
		w.WriteHeader(e.Answer(r, body))
		return
	}
	e.mu.Lock()
	e.requests = append(e.requests, Received{r.Method, r.RequestURI, r.Header, body})
	e.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// Requests are those so far, without Answer.
func (e *Endpoint) Requests() []Received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests[:len(e.requests):len(e.requests)]
}
