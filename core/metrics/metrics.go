// Package metrics counts and times what a host does, for Prometheus and for the pictures of the last hour. The parts of the
// host that see requests and deliveries pass are given a Source, Sink or Store of here as their observer; what they count
// themselves is read when somebody asks. It knows none of them: core/cmd/grapnel wires.
//
// Nothing that happens per event takes a lock or allocates. All names in labels are of the configuration, or of closed sets.
package metrics

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// Metrics counts for one host. All methods may be called from any goroutine.
type Metrics struct {
	now     func() time.Time
	started time.Time
	read    atomic.Pointer[func(*Reading)]

	mu      sync.Mutex // of makers
	sources atomic.Pointer[map[string]*Source]
	sinks   atomic.Pointer[map[string]*Sink]
	routes  atomic.Pointer[map[string]*matches]

	rates rates
}

// Reading is where a host stands: what its parts count themselves, since they began, and how they are.
type Reading struct {
	Sources []SourceReading
	Nowhere map[string]uint64 // requests that no source has, by cause
	Stored  store.Stats
}

// SourceReading is what came in at a source.
type SourceReading struct {
	Source                         string
	Accepted, Duplicates, Reopened uint64
	Handshakes                     uint64
	Rejected                       map[string]uint64 // by cause
}

// New returns metrics of a host that starts now.
func New() *Metrics { return newMetrics(time.Now) }

func newMetrics(now func() time.Time) *Metrics {
	m := &Metrics{now: now, started: now()}
	m.sources.Store(&map[string]*Source{})
	m.sinks.Store(&map[string]*Sink{})
	m.routes.Store(&map[string]*matches{})
	m.rates.init(m.started)
	return m
}

// Read says how the state of the host is read. The function fills what it can; it is called for every scrape and every
// few seconds besides, and must not be slow.
func (m *Metrics) Read(read func(*Reading)) { m.read.Store(&read) }

func (m *Metrics) reading() *Reading {
	r := &Reading{}
	if read := m.read.Load(); read != nil {
		(*read)(r)
	}
	return r
}

// named returns what all has of a name, making it if need be. Readers of all never wait.
func named[T any](mu *sync.Mutex, all *atomic.Pointer[map[string]*T], name string) *T {
	if v := (*all.Load())[name]; v != nil {
		return v
	}
	mu.Lock()
	defer mu.Unlock()
	have := *all.Load()
	if v := have[name]; v != nil {
		return v
	}
	more := make(map[string]*T, len(have)+1)
	maps.Copy(more, have)
	v := new(T)
	more[name] = v
	all.Store(&more)
	return v
}

// each calls f for all, by name.
func each[T any](all *atomic.Pointer[map[string]*T], f func(name string, v *T)) {
	have := *all.Load()
	for _, name := range slices.Sorted(maps.Keys(have)) {
		f(name, have[name])
	}
}

// Source counts for the source of a name, which is to be one of the configuration. The same name is the same Source, also
// after a reload.
func (m *Metrics) Source(name string) *Source {
	s := named(&m.mu, &m.sources, name)
	s.of.CompareAndSwap(nil, m)
	return s
}

// Sink counts for the sink of a name, likewise.
func (m *Metrics) Sink(name string) *Sink { return named(&m.mu, &m.sinks, name) }

// matches counts the events that a route matched.
type matches struct{ events atomic.Uint64 }

// Source counts and times the requests of one source. It is the observer of its pipeline.
type Source struct {
	of           atomic.Pointer[Metrics]
	decodeFailed atomic.Uint64
	events       atomic.Uint64
	unrouted     atomic.Uint64
	routed, died atomic.Uint64
}

// Decoded counts a call to the decoder.
func (s *Source) Decoded(_ int, _ time.Duration) {}

// DecodeFailed counts a call to the decoder without an answer.
func (s *Source) DecodeFailed() { s.decodeFailed.Add(1) }

// Routed times the routes of a batch.
func (s *Source) Routed(time.Duration) {}

// Matched counts events that a route matched.
func (s *Source) Matched(route string, events int) {
	m := s.of.Load()
	named(&m.mu, &m.routes, route).events.Add(uint64(events))
}

// Decided counts a request that was decoded and routed, or is dead.
func (s *Source) Decided(events, unrouted int, dead bool) {
	if dead {
		s.died.Add(1)
		return
	}
	s.routed.Add(1)
	s.events.Add(uint64(events))
	s.unrouted.Add(uint64(unrouted))
}

// The outcomes of attempts, as labels.
const (
	delivered = iota
	retried
	rejected
	skipped
	suspended
	crashed
	other // of a later version of the protocol
	outcomes
)

func outcomeOf(kind sdk.OutcomeKind) int {
	switch kind {
	case sdk.Delivered:
		return delivered
	case sdk.Retried:
		return retried
	case sdk.Rejected:
		return rejected
	case sdk.Skipped:
		return skipped
	case sdk.Suspended:
		return suspended
	case core.Crashed:
		return crashed
	}
	return other
}

// Sink counts and times the deliveries of one sink. It is the observer of its dispatcher.
type Sink struct {
	callFailed atomic.Uint64
	attempts   [outcomes]atomic.Uint64
}

// Called times a call.
func (s *Sink) Called(int, time.Duration) {}

// CallFailed counts a call without an answer.
func (s *Sink) CallFailed() { s.callFailed.Add(1) }

// Attempted counts an attempt.
func (s *Sink) Attempted(kind sdk.OutcomeKind) { s.attempts[outcomeOf(kind)].Add(1) }

// Settled counts a delivery that ended.
func (s *Sink) Settled(*core.Delivery, core.DeliveryState) {}

// failures are the attempts that neither delivered nor were skipped.
func (s *Sink) failures() (n uint64) {
	for kind := range s.attempts {
		if kind != delivered && kind != skipped {
			n += s.attempts[kind].Load()
		}
	}
	return n
}
