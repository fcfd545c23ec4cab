package sdk

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"sync"
	"time"
)

// Trace returns the W3C Trace Context of the work that ctx belongs to, as the value of a traceparent header, or "" if the
// host does not trace it. Send it on with what you call, so that the far end's part appears in the same trace:
//
//	if t := sdk.Trace(ctx); t != "" {
//		req.Header.Set("traceparent", t)
//	}
//
// Who has OpenTelemetry of their own extracts it from there. In DeliverBatch each delivery has its own: see
// Delivery.Context.
func Trace(ctx context.Context) string {
	t, ok := ctx.Value(traceKey{}).(*tracePlace)
	if !ok {
		return ""
	}
	return t.parent
}

// StartSpan measures a step of the author's work under a name of at most 64 bytes that is the same for every item, as
// "look up the contact". The step ends when the returned function is called, once, with the step's error. It appears in the
// trace below the work that ctx belongs to; what is called with the returned context appears below the step. Where nothing
// is traced both do nothing, and cost next to nothing.
//
//	ctx, end := sdk.StartSpan(ctx, "look up the contact")
//	contact, err := s.find(ctx, d.Message.Email)
//	end(err)
func StartSpan(ctx context.Context, name string) (context.Context, func(error)) {
	t, ok := ctx.Value(traceKey{}).(*tracePlace)
	if !ok || t.spans == nil {
		return ctx, endNothing
	}
	return t.spans.start(ctx, name, t.id)
}

func endNothing(error) {}

// Span is a step that was measured, as it goes over the wire.
type Span struct {
	ID     [8]byte
	Parent [8]byte // of another span of the same item; zero: the host's
	Name   string
	Start  time.Time
	Took   time.Duration
	Failed bool
}

const (
	maxSpans    = 32 // of one item; more are not measured
	maxSpanName = 64 // bytes
)

// traceKey is the context key of a *tracePlace.
type traceKey struct{}

// tracePlace is where in a trace a context is.
type tracePlace struct {
	parent string     // W3C traceparent
	id     [8]byte    // of the span; zero: the host's
	spans  *itemSpans // nil: nothing is measured
}

// itemSpans collects the spans of one item while its handler runs.
type itemSpans struct {
	trace string // "00-", the trace id and "-"

	mu      sync.Mutex
	started int
	done    []Span
	over    bool
}

// begin starts the span of a handler's work on one item. Without a traceparent, or with one that is not sampled, nothing is
// measured. finish ends the span and returns all that were measured.
func begin(ctx context.Context, traceparent, name string) (_ context.Context, finish func(failed bool) []Span) {
	if traceparent == "" {
		return ctx, finishNothing
	}
	if !sampled(traceparent) {
		return context.WithValue(ctx, traceKey{}, &tracePlace{parent: traceparent}), finishNothing
	}
	s := &itemSpans{trace: traceparent[:len("00-")+32+1]}
	var end func(bool)
	ctx, end = s.open(ctx, name, [8]byte{})
	return ctx, func(failed bool) []Span {
		end(failed)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
		return s.done
	}
}

func finishNothing(bool) []Span { return nil }

// sampled reports whether a traceparent is well-formed and has the sampled flag.
func sampled(traceparent string) bool {
	const example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if len(traceparent) != len(example) {
		return false
	}
	for i := range len(example) {
		c := traceparent[i]
		digit := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if example[i] == '-' && c != '-' || example[i] != '-' && !digit {
			return false
		}
	}
	flag := traceparent[len(example)-1]
	return flag >= '0' && flag <= '9' && flag&1 == 1 || flag > '9' && flag&1 == 0 // b, d and f are even letters
}

func (s *itemSpans) start(ctx context.Context, name string, parent [8]byte) (context.Context, func(error)) {
	ctx, end := s.open(ctx, name, parent)
	return ctx, func(err error) { end(err != nil) }
}

func (s *itemSpans) open(ctx context.Context, name string, parent [8]byte) (context.Context, func(failed bool)) {
	s.mu.Lock()
	full := s.over || s.started == maxSpans
	if !full {
		s.started++
	}
	s.mu.Unlock()
	if full {
		return ctx, func(bool) {}
	}
	span := Span{ID: newSpanID(), Parent: parent, Name: name[:min(len(name), maxSpanName)], Start: time.Now()}
	place := &tracePlace{parent: s.trace + hex.EncodeToString(span.ID[:]) + "-01", id: span.ID, spans: s}
	var once sync.Once
	return context.WithValue(ctx, traceKey{}, place), func(failed bool) {
		once.Do(func() {
			span.Took, span.Failed = time.Since(span.Start), failed
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.over {
				s.done = append(s.done, span)
			}
		})
	}
}

// newSpanID is random and not zero. Span ids are no secrets.
func newSpanID() (id [8]byte) {
	n := rand.Uint64() | 1<<63
	for i := range id {
		id[i] = byte(n >> (8 * i))
	}
	return id
}
