// Package otlptest is an OTLP receiver for tests: it takes spans over HTTP and keeps them.
package otlptest

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it was received. Ids are hexadecimal, attributes are written as text.
type Span struct {
	Service, Name         string
	Trace, ID, Parent     string // Parent: empty for a root
	State                 string // tracestate
	Kind                  string // "server", "client", "internal"
	Start, End            time.Time
	Failed                bool
	Attributes, Resources map[string]string
}

// String shows a span as a test's message has it.
func (s Span) String() string {
	return fmt.Sprintf("%s/%s %s %s<%s %v", s.Service, s.Name, s.Trace, s.ID, s.Parent, s.Attributes)
}

// Receiver is a receiver at URL. Its methods may be called from any goroutine.
type Receiver struct {
	URL string

	mu      sync.Mutex
	spans   []Span
	headers []http.Header
	answer  func() int // status of the answers
}

// New starts a receiver that ends with the test.
func New(t testing.TB) *Receiver {
	r := &Receiver{}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.URL = s.URL
	return r
}

// Answer has every export answered with what status returns, which may wait; nil: 200.
func (r *Receiver) Answer(status func() int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = status
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	var data tracev1.TracesData // the same on the wire as an export request
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(req.URL.Path, " ", err), http.StatusBadRequest)
		return
	}
	if answer != nil {
		if status := answer(); status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, req.Header)
	for _, rs := range data.GetResourceSpans() {
		resource := texts(rs.GetResource().GetAttributes())
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				r.spans = append(r.spans, Span{
					Service: resource["service.name"], Name: s.GetName(), Trace: hex.EncodeToString(s.GetTraceId()),
					ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					State: s.GetTraceState(), Kind: strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
					Start: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())),
					Failed:     s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR,
					Attributes: texts(s.GetAttributes()), Resources: resource,
				})
			}
		}
	}
}

func texts(in []*commonv1.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range in {
		switch v := a.GetValue().GetValue().(type) {
		case *commonv1.AnyValue_StringValue:
			out[a.GetKey()] = v.StringValue
		case *commonv1.AnyValue_IntValue:
			out[a.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			out[a.GetKey()] = fmt.Sprint(v)
		}
	}
	return out
}

// Spans returns what was received, in the order of receipt.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Span(nil), r.spans...)
}

// Of returns the spans of one trace.
func (r *Receiver) Of(trace string) []Span {
	var out []Span
	for _, s := range r.Spans() {
		if s.Trace == trace {
			out = append(out, s)
		}
	}
	return out
}

// Headers returns the header of each export that was answered with 200.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]http.Header(nil), r.headers...)
}

// Tree writes spans as lines, "accept people > decode people", each with its path from a root among them, sorted by start.
// A service other than the host's stands before its spans' names.
func Tree(spans []Span) []string {
	byID := map[string]Span{}
	for _, s := range spans {
		byID[s.ID] = s
	}
	var path func(s Span, depth int) string
	path = func(s Span, depth int) string {
		name := s.Name
		if s.Service != "grapnel" {
			name = s.Service + ":" + name
		}
		if up, ok := byID[s.Parent]; ok && depth < 10 {
			return path(up, depth+1) + " > " + name
		}
		return name
	}
	var lines []string
	for _, s := range spans {
		lines = append(lines, path(s, 0))
	}
	return lines
}
