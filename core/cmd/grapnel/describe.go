package main

import (
	"maps"
	"slices"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

// describe completes the status with what only a running host knows.
func (h *host) describe(s *admin.Status) {
	s.Running, s.Version, s.Config = true, version, h.configStatus()
	in := h.ingress.Stats()
	for _, name := range slices.Sorted(maps.Keys(in.Sources)) {
		c := in.Sources[name]
		s.Sources = append(s.Sources, admin.SourceStatus{
			Source: name, Accepted: c.Accepted, Duplicates: c.Duplicates, Reopened: c.Reopened, Rejected: c.Rejected,
			Secrets: c.Secrets,
		})
	}
	for _, a := range h.alerts.Alerts() {
		for _, t := range a.Things {
			if t.Fires() {
				s.Firing = append(s.Firing, t)
			}
		}
	}
	if h.tracing != nil {
		t := admin.TracingStatus(h.tracing.Stats())
		s.Tracing = &t
	}
	s.Routes = describeRoutes(h.config())
	for _, d := range h.engine.Status() {
		s.Sinks = append(s.Sinks, admin.SinkStatus{
			Sink: d.Sink, State: string(d.State), Reason: d.Reason, Until: d.Until, InMemory: d.InMemory, InFlight: d.InFlight,
			Behind: d.Behind,
		})
	}
	for _, p := range h.plugins.Status() {
		s.Plugins = append(s.Plugins, viewPlugin(p))
	}
}

func viewPlugin(p pluginhost.ProcessStatus) admin.Plugin {
	v := admin.Plugin{
		Plugin: string(p.Kind) + "-" + p.Plugin, Version: p.Version, SHA256: p.SHA256, Path: p.Path, Dev: p.Dev,
		Isolated: p.Isolated, State: string(p.State), Reason: p.Reason, PID: p.PID, Restarts: p.Restarts, RSSBytes: p.RSS,
		CPUSeconds: p.CPU.Seconds(), InFlight: p.InFlight, Abandoned: p.Abandoned, Faults: p.Faults, Quarantine: p.Quarantine,
		LastCrash: p.LastCrash.Reason, Upgrade: p.Upgrade,
	}
	if !p.Started.IsZero() {
		v.StartedAt = &p.Started
	}
	if !p.LastCrash.At.IsZero() {
		v.LastCrashAt = &p.LastCrash.At
	}
	for _, i := range p.Instances {
		v.Instances = append(v.Instances, i.Block)
		v.Blocks = append(v.Blocks, admin.PluginBlock(i))
	}
	return v
}

// describeRoutes says what the routes lead from and to.
func describeRoutes(cfg *config.Config) []admin.RouteStatus {
	var vs []admin.RouteStatus
	for _, r := range cfg.Routes {
		v := admin.RouteStatus{
			Route: r.Name, Range: r.Range.String(), From: r.Sources, On: r.On, When: r.When != nil,
		}
		for _, to := range r.To {
			if !slices.Contains(v.Sinks, to.Sink) {
				v.Sinks = append(v.Sinks, to.Sink)
			}
		}
		vs = append(vs, v)
	}
	return vs
}
