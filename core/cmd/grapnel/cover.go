package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/route"
)

// coverage is what the tests reach of a configuration.
type coverage struct {
	Routes     share     `json:"routes"`
	To         share     `json:"to"`          // blocks
	Types      share     `json:"event_types"` // that the `on` of a route asks for
	Conditions share     `json:"conditions"`  // seen true and seen false
	Missing    []missing `json:"missing"`
}

type share struct {
	Reached int `json:"reached"`
	Of      int `json:"of"`
}

// missing is something that no test reaches.
type missing struct {
	Kind  string `json:"kind"` // route, to, type, when
	Route string `json:"route"`
	Name  string `json:"name,omitempty"` // of the sink; the type; of a condition what it never was: true, false
	Range string `json:"range"`
}

// seen is what the tests have seen of a route.
type seen struct {
	sends, yes, no bool
	sinks          map[string]bool
	types          map[string]bool
}

// cover finds out what the tests reach.
func (r *testRun) cover() *coverage {
	all := map[string]*seen{}
	for _, rt := range r.cfg.Routes {
		all[rt.Name] = &seen{sinks: map[string]bool{}, types: map[string]bool{}}
	}
	for i := range r.results {
		res := &r.results[i]
		for k, routes := range res.events {
			for _, x := range routes {
				all[x.Route].add(&x, res.result.Events[k].Type)
			}
		}
		for _, d := range res.result.Deliveries {
			if d.State != core.DeliveryDead {
				all[d.Route].sinks[d.Sink] = true
			}
		}
	}
	c := &coverage{Missing: []missing{}}
	count := func(s *share, reached bool, m missing) {
		if s.Of++; reached {
			s.Reached++
			return
		}
		c.Missing = append(c.Missing, m)
	}
	types := map[string]bool{} // that a test has reached, through any route that asks for them
	for _, s := range all {
		maps.Copy(types, s.types)
	}
	asked := map[string]bool{}
	for _, rt := range r.cfg.Routes {
		s, at := all[rt.Name], rt.Range.String()
		count(&c.Routes, s.sends, missing{"route", rt.Name, "", at})
		for _, to := range rt.To {
			if s.sends {
				count(&c.To, s.sinks[to.Sink], missing{"to", rt.Name, to.Sink, to.Range.String()})
			} else {
				c.To.Of++ // said of the route
			}
		}
		if rt.When != nil && rt.Alert == "" { // that of an alert's own route is its name
			for _, never := range []struct {
				name string
				was  bool
			}{{"true", s.yes}, {"false", s.no}} {
				if !never.was && (s.sends || s.yes || s.no) {
					c.Missing = append(c.Missing, missing{"when", rt.Name, never.name, at})
				}
			}
			if c.Conditions.Of++; s.yes && s.no {
				c.Conditions.Reached++
			}
		}
		for _, t := range r.asks(rt) {
			if !asked[t] {
				asked[t] = true
				count(&c.Types, types[t], missing{"type", rt.Name, t, at})
			}
		}
	}
	return c
}

// add takes over what a route says of one event.
func (s *seen) add(x *route.Explanation, eventType string) {
	switch x.Verdict {
	case route.OtherSource, route.OtherType:
		return
	case route.Sends:
		s.sends = true
		s.yes = s.yes || x.When != nil
	case route.ConditionNot:
		s.no = true
	}
	s.types[eventType] = true
}

// asks lists the known event types that a route's `on` matches.
func (r *testRun) asks(rt config.Route) []string {
	if rt.On == nil {
		return nil
	}
	found := map[string]bool{}
	for _, src := range withBuiltin(r.cfg) {
		if rt.Sources == nil && src.Name == core.BuiltinSource || rt.Sources != nil && !slices.Contains(rt.Sources, src.Name) {
			continue
		}
		for _, e := range src.Info.Provider.Events {
			if slices.ContainsFunc(rt.On, func(p string) bool { return route.Match(p, e.Type) }) {
				found[e.Type] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// lines writes the coverage for people.
func (c *coverage) lines() []string {
	out := []string{fmt.Sprintf("coverage: %s, %s, %s, %s both ways",
		c.Routes.text("route"), c.To.text("to block"), c.Types.text("event type"), c.Conditions.text("condition"))}
	for _, m := range c.Missing {
		what := ""
		switch m.Kind {
		case "route":
			what = "no test reaches route " + m.Route
		case "to":
			what = fmt.Sprintf("no test sees route %s send to %s", m.Route, m.Name)
		case "type":
			what = fmt.Sprintf("no test has an event %s, for route %s", m.Name, m.Route)
		case "when":
			what = fmt.Sprintf("when of route %s is never %s", m.Route, m.Name)
		}
		out = append(out, fmt.Sprintf("  %s  %s", what, m.Range))
	}
	return out
}

func (s share) text(thing string) string {
	return fmt.Sprintf("%d of %s", s.Reached, plural(s.Of, thing))
}
