package metrics

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// Rates are counted in buckets of Step, of which there are Buckets: one hour.
const (
	Step    = 10 * time.Second
	Buckets = 360
)

// Rates are the counts of the last hour. All lists have Buckets elements, the oldest first; the last one is of the bucket
// that has begun.
type Rates struct {
	Start   time.Time // of the first bucket
	Since   time.Time // when the host began to count; earlier buckets are empty
	Sources []SourceRates
	Routes  []RouteRates
	Sinks   []SinkRates
	Nowhere []int64 // requests that no source has
}

// SourceRates are a source's requests.
type SourceRates struct {
	Source                         string
	Accepted, Rejected, Duplicates []int64
}

// RouteRates are the events that a route matched.
type RouteRates struct {
	Route   string
	Matched []int64
}

// SinkRates are a sink's deliveries. Failed counts attempts; Backlog is what waited or was under way at the end of a
// bucket.
type SinkRates struct {
	Sink                       string
	Delivered, Failed, Backlog []int64
}

// what names a series of numbers.
type what struct{ kind, name string }

// series is a ring of buckets.
type series struct {
	count uint64 // at the last look
	ring  [Buckets]int64
}

// rates are rings of the numbers that look reads, which only grow, or are where something stands.
type rates struct {
	mu     sync.Mutex
	since  time.Time
	bucket int64 // the newest, in Steps since 1970
	series map[what]*series
}

func (r *rates) init(now time.Time) {
	r.since, r.bucket, r.series = now, bucketOf(now), map[what]*series{}
}

func bucketOf(t time.Time) int64 { return t.Unix() / int64(Step/time.Second) }

// Run looks at the end of every bucket, until ctx ends.
func (m *Metrics) Run(ctx context.Context) {
	for {
		end := time.Unix((bucketOf(m.opts.Now())+1)*int64(Step/time.Second), 0)
		timer := time.NewTimer(end.Sub(m.opts.Now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		// What was counted since the last look belongs to the bucket that ends.
		m.look(bucketOf(m.opts.Now()) - 1)
	}
}

// look adds what was counted since the last look to a bucket.
func (m *Metrics) look(bucket int64) {
	read := m.reading(true)
	r := &m.rates
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(bucket)
	total := func(byCause map[string]uint64) (n uint64) {
		for _, c := range byCause {
			n += c
		}
		return n
	}
	for _, s := range read.Sources {
		r.add("accepted", s.Source, s.Accepted+s.Reopened)
		r.add("duplicates", s.Source, s.Duplicates)
		r.add("rejected", s.Source, total(s.Rejected))
	}
	r.add("nowhere", "", total(read.Nowhere))
	each(&m.routes, func(name string, v *Route) { r.add("matched", name, v.events.Load()) })
	each(&m.sinks, func(name string, v *Sink) {
		r.add("delivered", name, v.attempts[delivered].Load())
		r.add("failed", name, v.failures())
		r.set("backlog", name, read.Stored.Deliveries[name][core.DeliveryPending])
	})
}

// advance makes room up to a bucket. r.mu is held.
func (r *rates) advance(bucket int64) {
	from := max(r.bucket, bucket-Buckets) + 1
	for b := from; b <= bucket; b++ {
		for w, s := range r.series {
			s.ring[b%Buckets] = 0
			if w.kind == "backlog" { // where nobody looked it is as before
				s.ring[b%Buckets] = s.ring[(b+Buckets-1)%Buckets]
			}
		}
	}
	r.bucket = max(r.bucket, bucket)
}

func (r *rates) of(kind, name string) *series {
	w := what{kind, name}
	s := r.series[w]
	if s == nil {
		s = &series{}
		r.series[w] = s
	}
	return s
}

// add counts what a number has grown by. A number that fell began anew.
func (r *rates) add(kind, name string, count uint64) {
	s := r.of(kind, name)
	grown := count - s.count
	if count < s.count {
		grown = count
	}
	s.count = count
	s.ring[r.bucket%Buckets] += int64(grown)
}

func (r *rates) set(kind, name string, value int64) { r.of(kind, name).ring[r.bucket%Buckets] = value }

// Rates returns the counts of the last hour, as they are now.
func (m *Metrics) Rates() Rates {
	m.look(bucketOf(m.opts.Now()))
	r := &m.rates
	r.mu.Lock()
	defer r.mu.Unlock()
	list := func(kind, name string) []int64 {
		s := r.series[what{kind, name}]
		out := make([]int64, Buckets)
		for i := range out {
			if s != nil {
				out[i] = s.ring[(r.bucket+1+int64(i))%Buckets]
			}
		}
		return out
	}
	names := func(kind string) []string {
		var all []string
		for w := range maps.Keys(r.series) {
			if w.kind == kind {
				all = append(all, w.name)
			}
		}
		slices.Sort(all)
		return all
	}
	v := Rates{
		Start: time.Unix((r.bucket-Buckets+1)*int64(Step/time.Second), 0).UTC(), Since: r.since, Nowhere: list("nowhere", ""),
	}
	for _, n := range names("accepted") {
		v.Sources = append(v.Sources, SourceRates{n, list("accepted", n), list("rejected", n), list("duplicates", n)})
	}
	for _, n := range names("matched") {
		v.Routes = append(v.Routes, RouteRates{n, list("matched", n)})
	}
	for _, n := range names("backlog") {
		v.Sinks = append(v.Sinks, SinkRates{n, list("delivered", n), list("failed", n), list("backlog", n)})
	}
	return v
}
