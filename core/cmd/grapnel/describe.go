package main

import (
	"maps"
	"slices"

	"github.com/grapnelhq/grapnel/core/admin"
)

// describe completes the status with what only a running host knows.
func (h *host) describe(s *admin.Status) {
	s.Running, s.Version = true, version
	in := h.ingress.Stats()
	for _, name := range slices.Sorted(maps.Keys(in.Sources)) {
		c := in.Sources[name]
		s.Sources = append(s.Sources, admin.SourceStatus{
			Source: name, Accepted: c.Accepted, Duplicates: c.Duplicates, Reopened: c.Reopened, Rejected: c.Rejected,
			Secrets: c.Secrets,
		})
	}
	s.Routes = describeRoutes(h.config())
	for _, d := range h.engine.Status() {
		s.Sinks = append(s.Sinks, admin.SinkStatus{
			Sink: d.Sink, State: string(d.State), Reason: d.Reason, Until: d.Until, InMemory: d.InMemory, InFlight: d.InFlight,
			Behind: d.Behind,
		})
	}
	for _, p := range h.plugins.Status() {
		v := admin.Plugin{
			Plugin: string(p.Kind) + "-" + p.Plugin, Version: p.Version, State: string(p.State), PID: p.PID,
			Restarts: p.Restarts, RSSBytes: p.RSS, Upgrade: p.Upgrade,
		}
		if p.LastCrash.Reason != "" {
			v.LastCrash = p.LastCrash.Reason
		}
		for _, i := range p.Instances {
			v.Instances = append(v.Instances, i.Block)
		}
		s.Plugins = append(s.Plugins, v)
	}
}
