package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newSink opens a sink from a configuration in JSON, as the host does. It is closed at the end of the test.
func newSink(t testing.TB, config string) *sink {
	t.Helper()
	in, err := factory().Open(t.Context(), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	s := in.Sink().(*sink)
	t.Cleanup(func() { s.Close() })
	return s
}

// configFor is a configuration for a server of the test, with more members.
func configFor(url string, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{"url": %q, "allow_private": true%s}`, url, more)
}

func newDelivery(n int) *delivery {
	return &delivery{
		ID:       fmt.Sprintf("dlv_%d", n),
		Sequence: int64(n),
		Event: sdk.Envelope{
			ID: fmt.Sprintf("evt_%d", n), Source: "urn:grapnel:source:hr", Type: "test.thing.created",
			Time: "2026-01-15T10:00:00Z", Subject: "thing/1", Tenant: "Bücher AG",
		},
		Data: json.RawMessage(fmt.Sprintf(`{"n": %d, "amount": 1.10}`, n)),
	}
}

// message sets a delivery's message, given in JSON.
func message(t testing.TB, d *delivery, text string) *delivery {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &d.Message); err != nil {
		t.Fatal(err)
	}
	return d
}

// deliverOne delivers one and returns what the host would see.
func deliverOne(t testing.TB, s *sink, d *delivery) sdk.Outcome {
	t.Helper()
	return outcomeOf(s.DeliverBatch(t.Context(), []*delivery{d})[0])
}

// outcomeOf is what the host makes of an error.
func outcomeOf(err error) sdk.Outcome {
	f := sdk.NewSink(sdk.SinkInfo{Name: "probe"}, func(context.Context, struct{}) (sdk.Sink[struct{}], error) {
		return probe{err}, nil
	})
	in, openErr := f.Open(context.Background(), []byte("{}"))
	if openErr != nil {
		panic(openErr)
	}
	ds := []*sdk.Delivery[json.RawMessage]{{ID: "1", Message: []byte("{}")}}
	return in.DeliverRaw(context.Background(), ds)[0]
}

type probe struct{ err error }

func (p probe) Deliver(context.Context, *sdk.Delivery[struct{}]) error { return p.err }

// got is a request that an endpoint has received.
type got struct {
	method, uri, body string
	header            http.Header
	proto             string
}

// endpoint is a server that records requests and answers as told.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []got
	answer func(w http.ResponseWriter, r got) // nil: 204
}

func newEndpoint(t testing.TB, answer func(w http.ResponseWriter, r got)) *endpoint {
	e := &endpoint{answer: answer}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g := got{r.Method, r.RequestURI, string(body), r.Header, r.Proto}
	e.mu.Lock()
	e.seen = append(e.seen, g)
	e.mu.Unlock()
	if e.answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	e.answer(w, g)
}

// requests are those so far.
func (e *endpoint) requests() []got {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen
}

// one is the only request so far.
func (e *endpoint) one(t testing.TB) got {
	t.Helper()
	all := e.requests()
	if len(all) != 1 {
		t.Fatalf("%d requests, want one", len(all))
	}
	return all[0]
}

// status answers with a status and a text.
func status(code int, text string) func(http.ResponseWriter, got) {
	return func(w http.ResponseWriter, _ got) {
		w.WriteHeader(code)
		io.WriteString(w, text)
	}
}

func mustContain(t testing.TB, where, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: no %q in %q", where, w, text)
		}
	}
}
