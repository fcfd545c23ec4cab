package main

import (
	"context"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/metrics"
	"github.com/grapnelhq/grapnel/core/route"
)

// routeObserver is who sees what a route does.
func (h *host) routeObserver(name string) route.Observer { return h.metrics.Route(name) }

// oldestWithin bounds the search for the oldest deliveries, of which a scrape cannot wait for long.
const oldestWithin = 2 * time.Second

// read tells the metrics where the host stands.
func (h *host) read(r *metrics.Reading) {
	in := h.ingress.Stats()
	for name, c := range in.Sources {
		r.Sources = append(r.Sources, metrics.SourceReading{
			Source: name, Accepted: c.Accepted, Duplicates: c.Duplicates, Reopened: c.Reopened, Handshakes: c.Handshakes,
			Rejected: c.Rejected,
		})
	}
	r.Nowhere = in.Rejected
	var err error
	if r.Stored, err = h.store.Stats(context.Background()); err != nil {
		h.log.Debug("cannot read the store's counts", "error", err)
	}
	if r.Brief {
		return
	}
	r.Known, r.Causes = ingress.Causes(), auth.Causes()
	r.Unlisted, r.Connections, r.Requests, r.BodyBytes = in.Unrecorded, in.Connections, in.Requests, in.BodyMemory
	ctx, cancel := context.WithTimeout(context.Background(), oldestWithin)
	defer cancel()
	if r.Oldest, err = h.store.OldestWaiting(ctx, ""); err != nil {
		h.log.Warn("cannot find the oldest deliveries", "error", err)
	}
	if free, err := h.store.FreeBytes(); err == nil {
		r.FreeBytes = free
	}
	r.DiskShort = h.short.Load()
	for _, a := range h.alerts.Alerts() {
		fires := slices.ContainsFunc(a.Things, func(t admin.AlertThing) bool { return t.Fires() })
		r.Alerts = append(r.Alerts, metrics.AlertReading{Alert: a.Name, Firing: fires})
	}
	if h.tracing != nil {
		t := h.tracing.Stats()
		r.Spans = map[string]uint64{"exported": t.Exported, "dropped": t.Dropped, "failed": t.Failed}
	}
	for _, s := range h.engine.Status() {
		r.Sinks = append(r.Sinks, metrics.SinkReading{
			Sink: s.Sink, State: string(s.State), Breaker: s.Breaker, InMemory: s.InMemory, InFlight: s.InFlight, Behind: s.Behind,
		})
	}
	for _, p := range h.plugins.Status() {
		v := metrics.PluginReading{
			Plugin: string(p.Kind) + "-" + p.Plugin, Version: p.Version, Isolated: p.Isolated, State: string(p.State), PID: p.PID,
			Restarts: p.Restarts, InFlight: p.InFlight, Abandoned: p.Abandoned, Faults: p.Faults, ResidentBytes: p.RSS,
			Blocks: len(p.Instances),
		}
		for _, i := range p.Instances {
			if i.Ready {
				v.Ready++
			}
		}
		r.Plugins = append(r.Plugins, v)
	}
}

// rates shows the last hour.
func (h *host) rates() admin.Rates {
	m := h.metrics.Rates()
	v := admin.Rates{
		Start: m.Start, StepSeconds: int(metrics.Step.Seconds()), Since: m.Since, Nowhere: m.Nowhere,
		Sources: make([]admin.SourceRates, len(m.Sources)), Routes: make([]admin.RouteRates, len(m.Routes)),
		Sinks: make([]admin.SinkRates, len(m.Sinks)),
	}
	for i, s := range m.Sources {
		v.Sources[i] = admin.SourceRates(s)
	}
	for i, r := range m.Routes {
		v.Routes[i] = admin.RouteRates(r)
	}
	for i, s := range m.Sinks {
		v.Sinks[i] = admin.SinkRates(s)
	}
	return v
}
