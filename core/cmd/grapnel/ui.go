package main

import (
	"slices"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/admin/web"
	"github.com/grapnelhq/grapnel/core/config"
)

// userInterface makes the pages of the admin listener.
func (h *host) userInterface(control admin.Control) (*web.Site, error) {
	return web.New(web.Options{Control: control, Version: version, Log: h.log.Named("ui")})
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
