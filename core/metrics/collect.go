package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/grapnelhq/grapnel/core"
)

func newRegistry(m *Metrics) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collector{m},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// Handler serves the metrics, as text, as OpenMetrics, or, for native histograms, as protobuf. What is wrong with one of them
// is logged; the others are served.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
		ErrorLog: m.opts.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Error}),
	})
}

// collector reads everything for a scrape.
type collector struct{ m *Metrics }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.m.families.all {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter{ch: ch, m: c.m, now: c.m.opts.Now(), seen: map[string]bool{}}
	r := c.m.reading(false)
	f := &c.m.families
	e.value(f.build, 1, c.m.opts.Version, runtime.Version())
	e.sources(r)
	e.routes()
	e.sinks(r)
	e.store(r)
	e.plugins(r)

	e.flag(f.reloadOK, !c.m.reloadFailed.Load())
	e.value(f.reloadTime, float64(c.m.reloaded.Load())/float64(time.Second))
	e.count(f.reloads, c.m.reloads.Load(), "success")
	e.count(f.reloads, c.m.failedReloads.Load(), "failure")
	for result, n := range r.Spans {
		e.count(f.spans, n, result)
	}
	for _, a := range r.Alerts {
		e.flag(f.alerts, a.Firing, a.Alert)
	}
}

// emitter gives metrics out.
type emitter struct {
	ch   chan<- prometheus.Metric
	m    *Metrics
	now  time.Time
	seen map[string]bool
}

func (e *emitter) value(f *family, v float64, labels ...string) {
	kind := prometheus.GaugeValue
	if f.kind == counter {
		kind = prometheus.CounterValue
	}
	metric, err := prometheus.NewConstMetric(f.desc, kind, v, labels...)
	if err != nil {
		metric = prometheus.NewInvalidMetric(f.desc, err)
	}
	e.ch <- metric
}

func (e *emitter) count(f *family, n uint64, labels ...string) { e.value(f, float64(n), labels...) }

func (e *emitter) flag(f *family, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	e.value(f, v, labels...)
}

func (e *emitter) histogram(f *family, h *histogram, labels ...string) {
	e.ch <- sample{desc: f.desc, labels: prometheus.MakeLabelPairs(f.desc, labels), h: h}
}

// oneOf says which of a closed set of states something is in.
func (e *emitter) oneOf(f *family, state string, all []string, labels ...string) {
	if !slices.Contains(all, state) {
		state = "other"
	}
	for _, s := range append(slices.Clone(all), "other") {
		if s != "other" || state == s {
			e.flag(f, s == state, append(slices.Clone(labels), s)...)
		}
	}
}

func (e *emitter) sources(r *Reading) {
	f := &e.m.families
	for _, s := range r.Sources {
		e.count(f.requests, s.Accepted, s.Source, "accepted")
		e.count(f.requests, s.Duplicates, s.Source, "duplicate")
		e.count(f.requests, s.Reopened, s.Source, "reopened")
		e.count(f.requests, s.Handshakes, s.Source, "handshake")
		e.causes(r, s.Source, s.Rejected, r.Causes)
	}
	e.causes(r, "", r.Nowhere, nil)
	e.count(f.unlisted, r.Unlisted)
	e.value(f.connections, float64(r.Connections))
	e.value(f.handling, float64(r.Requests))
	e.value(f.bodyBytes, float64(r.BodyBytes))
	each(&e.m.sources, func(name string, s *Source) {
		e.histogram(f.acceptTime, s.accept, name)
		e.histogram(f.decodeTime, s.decode, name)
		e.histogram(f.routeBatchTime, s.route, name)
		e.count(f.decodeFailures, s.decodeFailed.Load(), name)
		e.count(f.decisions, s.routed.Load(), name, "routed")
		e.count(f.decisions, s.died.Load(), name, "dead")
		e.count(f.events, s.events.Load(), name)
		e.count(f.unrouted, s.unrouted.Load(), name)
	})
}

// causes counts rejections: those that there are, and those that are shown in any case.
func (e *emitter) causes(r *Reading, source string, byCause map[string]uint64, always []string) {
	counts := map[string]uint64{}
	for _, cause := range always {
		counts[cause] = 0
	}
	for cause, n := range byCause {
		if !slices.Contains(r.Known, cause) {
			cause = "other"
		}
		counts[cause] += n
	}
	for cause, n := range counts {
		e.count(e.m.families.rejections, n, source, cause)
	}
}

func (e *emitter) routes() {
	f := &e.m.families
	each(&e.m.routes, func(name string, r *Route) {
		e.count(f.routeEvents, r.events.Load(), name)
		e.histogram(f.routeTime, r.evaluate, name)
	})
}

func (e *emitter) sinks(r *Reading) {
	f := &e.m.families
	labels := outcomeLabels()
	each(&e.m.sinks, func(name string, s *Sink) {
		e.histogram(f.deliverTime, s.deliver, name)
		e.histogram(f.endToEnd, s.endToEnd, name)
		e.count(f.deliverFailures, s.callFailed.Load(), name)
		for kind := range s.attempts {
			e.count(f.attempts, s.attempts[kind].Load(), name, labels[kind])
		}
		e.count(f.settled, s.settledDelivered.Load(), name, string(core.DeliveryDelivered))
		e.count(f.settled, s.settledSkipped.Load(), name, string(core.DeliverySkipped))
		e.count(f.settled, s.settledDead.Load(), name, string(core.DeliveryDead))
	})
	for _, s := range r.Sinks {
		e.oneOf(f.sinkState, s.State, []string{"working", "paused", "suspended", "failing", "down", "on hold"}, s.Sink)
		e.oneOf(f.breaker, s.Breaker, []string{"closed", "open", "probing"}, s.Sink)
		e.value(f.inFlight, float64(s.InFlight), s.Sink)
		e.value(f.inMemory, float64(s.InMemory), s.Sink)
		e.flag(f.behind, s.Behind, s.Sink)
		e.seen[s.Sink] = true
		e.waiting(r, s.Sink)
	}
	// Sinks that are no longer configured, but have deliveries.
	for sink := range r.Stored.Deliveries {
		if !e.seen[sink] {
			e.waiting(r, sink)
		}
	}
}

// waiting tells of a sink's deliveries that are stored.
func (e *emitter) waiting(r *Reading, sink string) {
	f := &e.m.families
	byState := r.Stored.Deliveries[sink]
	e.value(f.backlog, float64(byState[core.DeliveryPending]), sink)
	age := 0.0
	if at := r.Oldest[sink]; !at.IsZero() {
		age = max(e.now.Sub(at).Seconds(), 0)
	}
	e.value(f.oldest, age, sink)
	for _, state := range []core.DeliveryState{
		core.DeliveryPending, core.DeliveryDelivered, core.DeliverySkipped, core.DeliveryDead,
	} {
		e.value(f.storedDeliveries, float64(byState[state]), sink, string(state))
	}
	e.value(f.held, float64(r.Stored.Held[sink]), sink)
}

func (e *emitter) store(r *Reading) {
	f, s := &e.m.families, e.m.store
	for _, state := range []core.RequestState{core.RequestReceived, core.RequestRouted, core.RequestDead} {
		e.value(f.storedRequests, float64(r.Stored.Requests[state]), string(state))
	}
	e.value(f.commits, float64(r.Stored.Commits))
	e.value(f.syncs, float64(r.Stored.Syncs))
	e.value(f.storeBytes, float64(r.Stored.SizeBytes))
	e.histogram(f.commitWrites, s.writes)
	e.histogram(f.commitRequests, s.requests)
	e.histogram(f.commitTime, s.commit)
	e.histogram(f.fsyncTime, s.fsync)
	if r.FreeBytes >= 0 {
		e.value(f.freeBytes, float64(r.FreeBytes))
	}
	e.flag(f.diskShort, r.DiskShort)
}

func (e *emitter) plugins(r *Reading) {
	f := &e.m.families
	seen := map[[3]string]bool{}
	for _, p := range r.Plugins {
		// Two builds of one version stand beside each other while one takes over: the first is shown.
		if key := [3]string{p.Plugin, p.Version, p.Isolated}; seen[key] {
			continue
		} else {
			seen[key] = true
		}
		e.oneOf(f.pluginState, p.State, []string{"stopped", "starting", "ready", "draining", "backoff", "failed"},
			p.Plugin, p.Version, p.Isolated)
		e.value(f.pluginRestarts, float64(p.Restarts), p.Plugin, p.Version, p.Isolated)
		e.value(f.pluginBlocks, float64(p.Ready), p.Plugin, p.Version, p.Isolated, "true")
		e.value(f.pluginBlocks, float64(p.Blocks-p.Ready), p.Plugin, p.Version, p.Isolated, "false")
		e.value(f.pluginInFlight, float64(p.InFlight), p.Plugin, p.Version, p.Isolated)
		e.value(f.pluginAbandoned, float64(p.Abandoned), p.Plugin, p.Version, p.Isolated)
		e.value(f.pluginFault, float64(p.Faults), p.Plugin, p.Version, p.Isolated)
		if p.PID == 0 {
			continue
		}
		u := usageOf(p.PID)
		if u.known {
			e.value(f.pluginCPU, u.cpuSeconds, p.Plugin, p.Version, p.Isolated)
			e.value(f.pluginFiles, float64(u.openFiles), p.Plugin, p.Version, p.Isolated)
		}
		if p.ResidentBytes > 0 {
			e.value(f.pluginMemory, float64(p.ResidentBytes), p.Plugin, p.Version, p.Isolated)
		}
	}
}

// usage is what the system says of a process.
type usage struct {
	known      bool
	cpuSeconds float64
	openFiles  int
}
