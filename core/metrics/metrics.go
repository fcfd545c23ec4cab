// Package metrics counts and times what a host does, for Prometheus and for the pictures of the last hour. The parts of the
// host that see requests and deliveries pass are given a Source, Route, Sink or Store of here as their observer; what they
// count themselves is read when somebody asks. It knows none of them: core/cmd/grapnel wires.
//
// Nothing that happens per event takes a lock or allocates. All values of labels are of the configuration, or of closed
// sets: whatever else comes is "other".
package metrics

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// Options say what the metrics tell of the host that does not change.
type Options struct {
	Version string           // of the host
	Logger  hclog.Logger     // of what cannot be shown to a scrape; nil: nobody hears of it
	Now     func() time.Time // default time.Now
}

// Metrics counts for one host. All methods may be called from any goroutine.
type Metrics struct {
	opts     Options
	started  time.Time
	read     atomic.Pointer[func(*Reading)]
	registry *prometheus.Registry
	families families
	shapes   shapes

	mu      sync.Mutex // of makers
	sources atomic.Pointer[map[string]*Source]
	routes  atomic.Pointer[map[string]*Route]
	sinks   atomic.Pointer[map[string]*Sink]
	store   *Store

	reloads, failedReloads atomic.Uint64
	reloaded               atomic.Int64 // the last good one, Unix nanoseconds
	reloadFailed           atomic.Bool  // the last one

	rates rates
}

// New returns metrics of a host that starts now.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	m := &Metrics{opts: o, started: o.Now(), shapes: newShapes(), families: newFamilies()}
	m.reloaded.Store(m.started.UnixNano())
	m.sources.Store(&map[string]*Source{})
	m.routes.Store(&map[string]*Route{})
	m.sinks.Store(&map[string]*Sink{})
	m.store = &Store{
		writes: newHistogram(m.shapes.counts), requests: newHistogram(m.shapes.counts),
		commit: newHistogram(m.shapes.latency), fsync: newHistogram(m.shapes.latency),
	}
	m.rates.init(m.started)
	m.registry = newRegistry(m)
	return m
}

// shapes are the buckets of histograms.
type shapes struct{ latency, age, counts *shape }

func newShapes() shapes {
	const second = float64(time.Second)
	return shapes{
		latency: newShape(second, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60),
		age: newShape(second, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4*3600, 24*3600,
			3*24*3600),
		counts: newShape(1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
	}
}

// named returns what all has of a name, making it if need be. Readers of all never wait.
func named[T any](mu *sync.Mutex, all *atomic.Pointer[map[string]*T], name string, make func() *T) *T {
	if v := (*all.Load())[name]; v != nil {
		return v
	}
	mu.Lock()
	defer mu.Unlock()
	more := maps.Clone(*all.Load())
	if v := more[name]; v != nil {
		return v
	}
	v := make()
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
	return named(&m.mu, &m.sources, name, func() *Source {
		return &Source{
			of: m, accept: newHistogram(m.shapes.latency), decode: newHistogram(m.shapes.latency),
			route: newHistogram(m.shapes.latency),
		}
	})
}

// Route counts for the route of a name, likewise.
func (m *Metrics) Route(name string) *Route {
	return named(&m.mu, &m.routes, name, func() *Route { return &Route{evaluate: newHistogram(m.shapes.latency)} })
}

// Sink counts for the sink of a name, likewise.
func (m *Metrics) Sink(name string) *Sink {
	return named(&m.mu, &m.sinks, name, func() *Sink {
		return &Sink{now: m.opts.Now, deliver: newHistogram(m.shapes.latency), endToEnd: newHistogram(m.shapes.age)}
	})
}

// Store counts for the store.
func (m *Metrics) Store() *Store { return m.store }

// Reloaded notes that the configuration was read again and runs, or that it was refused and another one goes on.
func (m *Metrics) Reloaded(ok bool) {
	m.reloadFailed.Store(!ok)
	if !ok {
		m.failedReloads.Add(1)
		return
	}
	m.reloads.Add(1)
	m.reloaded.Store(m.opts.Now().UnixNano())
}

// Source counts and times the requests of one source. It is the observer of its endpoint and of its pipeline.
type Source struct {
	of                    *Metrics
	accept, decode, route *histogram
	decodeFailed          atomic.Uint64
	events, unrouted      atomic.Uint64
	routed, died          atomic.Uint64
}

// Accepted times a request that is stored and answered.
func (s *Source) Accepted(took time.Duration) { s.accept.took(took) }

// Decoded times a call to the decoder.
func (s *Source) Decoded(_ int, took time.Duration) { s.decode.took(took) }

// DecodeFailed counts a call to the decoder without an answer.
func (s *Source) DecodeFailed() { s.decodeFailed.Add(1) }

// Routed times the routes of a batch.
func (s *Source) Routed(took time.Duration) { s.route.took(took) }

// Matched counts events that a route matched.
func (s *Source) Matched(route string, events int) { s.of.Route(route).events.Add(uint64(events)) }

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

// Route counts the events that a route matched, and times it.
type Route struct {
	events   atomic.Uint64
	evaluate *histogram
}

// Evaluated times a route on one event.
func (r *Route) Evaluated(took time.Duration) { r.evaluate.took(took) }

// The outcomes of attempts.
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

// outcomeLabels are in the order of the outcomes.
func outcomeLabels() [outcomes]string {
	return [...]string{
		string(sdk.Delivered), string(sdk.Retried), string(sdk.Rejected), string(sdk.Skipped), string(sdk.Suspended),
		string(core.Crashed), "other",
	}
}

// Sink counts and times the deliveries of one sink. It is the observer of its dispatcher.
type Sink struct {
	now                                           func() time.Time
	deliver, endToEnd                             *histogram
	callFailed                                    atomic.Uint64
	attempts                                      [outcomes]atomic.Uint64
	settledDelivered, settledSkipped, settledDead atomic.Uint64
}

// Called times a call.
func (s *Sink) Called(_ int, took time.Duration) { s.deliver.took(took) }

// CallFailed counts a call without an answer.
func (s *Sink) CallFailed() { s.callFailed.Add(1) }

// Attempted counts an attempt.
func (s *Sink) Attempted(kind sdk.OutcomeKind) { s.attempts[outcomeOf(kind)].Add(1) }

// Settled counts a delivery that ended, and times it from the receipt of its request. A replay's request is old.
func (s *Sink) Settled(d *core.Delivery, state core.DeliveryState) {
	switch state {
	case core.DeliveryDelivered:
		s.settledDelivered.Add(1)
	case core.DeliverySkipped:
		s.settledSkipped.Add(1)
	default:
		s.settledDead.Add(1)
	}
	if d.Replay == 0 {
		s.endToEnd.took(s.now().Sub(d.ReceivedAt))
	}
}

// failures are the attempts that neither delivered nor were skipped.
func (s *Sink) failures() (n uint64) {
	for kind := range s.attempts {
		if kind != delivered && kind != skipped {
			n += s.attempts[kind].Load()
		}
	}
	return n
}

// Store counts and times commits. It is the observer of the store.
type Store struct{ writes, requests, commit, fsync *histogram }

// Committed counts a commit.
func (s *Store) Committed(writes, accepted int, took time.Duration) {
	s.writes.observe(int64(writes))
	if accepted > 0 {
		s.requests.observe(int64(accepted))
	}
	s.commit.took(took)
}

// Synced times how the log was brought to the disk.
func (s *Store) Synced(took time.Duration) { s.fsync.took(took) }

// Reading is where a host stands: what its parts count themselves, since they began, and how they are.
type Reading struct {
	Brief bool // set by the caller: only Sources, Nowhere and Stored are wanted

	Sources []SourceReading
	Nowhere map[string]uint64 // rejected requests that no source has, by cause
	// Causes are those of rejections that are shown from the start, before there is one: so that the first counts.
	Causes []string
	// Known are all causes there are.
	Known       []string
	Unlisted    uint64 // rejections
	Connections int
	Requests    int64 // being handled
	BodyBytes   int64
	Stored      store.Stats
	FreeBytes   int64                // of the disk; below 0: not known
	DiskShort   bool                 // requests are refused for it
	Oldest      map[string]time.Time // of each sink's deliveries that wait: when its request came
	Sinks       []SinkReading
	Plugins     []PluginReading
	Alerts      []AlertReading
	Spans       map[string]uint64 // of traces, by what became of them; nil: nothing is traced
}

// SourceReading is what came in at a source.
type SourceReading struct {
	Source                                     string
	Accepted, Duplicates, Reopened, Handshakes uint64
	Rejected                                   map[string]uint64 // by cause
}

// SinkReading is how a sink is.
type SinkReading struct {
	Sink, State, Breaker string
	InMemory, InFlight   int
	Behind               bool
}

// PluginReading is one plugin process.
type PluginReading struct {
	Plugin, Version     string
	Isolated            string // the block that has it for itself
	State               string
	PID                 int // 0: none
	Restarts            int
	InFlight, Abandoned int
	Faults              int
	ResidentBytes       int64
	Ready, Blocks       int // blocks that are open in it, and all that are to be
}

// AlertReading is an alert of the configuration.
type AlertReading struct {
	Alert  string
	Firing bool
}

// Read says how the state of the host is read. The function fills what it can; it is called for every scrape and every
// few seconds besides, and must not be slow.
func (m *Metrics) Read(read func(*Reading)) { m.read.Store(&read) }

func (m *Metrics) reading(brief bool) *Reading {
	r := &Reading{Brief: brief, FreeBytes: -1}
	if read := m.read.Load(); read != nil {
		(*read)(r)
	}
	return r
}
