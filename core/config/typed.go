package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

// typedRoute is a route whose expressions can be checked against the types of the events that it takes.
type typedRoute struct {
	route    Route
	when     hclsyntax.Expression // nil: always
	messages []*expr.Message
	sinks    []string // of the messages; empty: unknown
	sound    bool     // there is no mistake in "from", "on" and "when"
}

// checkTypes checks every expression of every route against the catalogues of the decoders: against the types of the
// events that "from" and "on" let through. It looks at what has compiled, and nothing of it is needed later.
func (l *loader) checkTypes() {
	if l.partial {
		return // sources and routes may be missing
	}
	l.unreached()
	types := l.knownTypes()
	if len(types) == 0 {
		return
	}
	c := expr.NewChecker(l.cfg.Set, types)
	for _, t := range l.typed {
		if l.unclear(&t.route) {
			continue
		}
		check := expr.CheckedRoute{Takes: l.takes(&t.route), When: t.route.When, Messages: t.messages}
		for _, sink := range t.sinks {
			if s := l.sinks[sink]; s != nil && s.ordered != nil {
				check.OrderBy = append(check.OrderBy, s.ordered)
			}
		}
		if taken, matched := c.Route(check); taken && !matched && t.sound {
			l.neverMatches(c, &t)
		}
	}
	l.compiled(slices.DeleteFunc(c.Diagnostics(), l.follows), hcl.Range{})
}

// follows reports whether a finding is about something in which an error was found without types. One that says the same
// with better advice takes its place.
func (l *loader) follows(d *hcl.Diagnostic) bool {
	r := rangeOf(*d.Subject)
	for i := range l.diags.list {
		if x := &l.diags.list[i]; x.Range == r && x.Summary == d.Summary && d.Summary == expr.NoAttribute {
			x.Detail = d.Detail
			return true
		}
	}
	return slices.ContainsFunc(l.diags.list, func(x Diagnostic) bool {
		return x.Severity == Error && x.Range.File == r.File && r.start <= x.Range.start && x.Range.end <= r.end
	})
}

// unclear reports whether a route takes events of a source of which nothing is known.
func (l *loader) unclear(r *Route) bool {
	for name, s := range l.sources {
		if !s.clear() && (r.Sources == nil || slices.Contains(r.Sources, name)) {
			return true
		}
	}
	return false
}

// clear reports whether it is known what a source sends: its plugin is, and its manifest is that of this source.
func (s *sourceBlock) clear() bool {
	return s.info != nil && s.info.Provider != nil &&
		(len(s.info.Provider.Events) > 0 || !s.info.Has(core.ManifestPerSource))
}

// knownTypes lists what the sources are known to send, and for each, that it may send more than that.
func (l *loader) knownTypes() []expr.KnownType {
	var types []expr.KnownType
	for _, name := range slices.Sorted(maps.Keys(l.sources)) {
		s := l.sources[name]
		if !s.clear() {
			continue
		}
		p := s.info.Provider
		types = append(types, expr.KnownType{Source: name, Provider: p.Name})
		for i := range p.Events {
			e := &p.Events[i]
			types = append(types, expr.KnownType{
				Source: name, Provider: p.Name, Type: e.Type, Data: &e.Data, Samples: e.Samples,
			})
		}
	}
	return types
}

// takes tells which events a route takes, as expr.CheckedRoute asks for it.
func (l *loader) takes(r *Route) func(source, eventType string) bool {
	return func(source, eventType string) bool {
		if r.Sources == nil && l.sources[source].builtin || r.Sources != nil && !slices.Contains(r.Sources, source) {
			return false
		}
		if eventType != "" || r.On == nil {
			return r.On == nil || slices.ContainsFunc(r.On, func(p string) bool { return matches(p, eventType) })
		}
		provider := l.sources[source].info.Provider
		return slices.ContainsFunc(r.On, func(p string) bool {
			if !strings.Contains(p, "*") {
				for i := range provider.Events {
					if provider.Events[i].Type == p {
						return false
					}
				}
			}
			return overlaps(p, provider.Name+".")
		})
	}
}

// neverMatches reports a route whose condition is true of no event, unless that has been said in another way, or comes
// from a value that the configuration sets.
func (l *loader) neverMatches(c *expr.Checker, t *typedRoute) {
	summary := fmt.Sprintf("The route %q never matches", t.route.Name)
	switch {
	case t.route.When.Constant():
		if len(t.when.Variables()) == 0 {
			l.warn(t.when.Range(), summary, "Write enabled = false to keep it out.")
		}
	case !c.Explained(t.route.When):
		l.error(t.when.Range(), summary, "There is no event of its sources and its \"on\" for which this condition is true.")
	}
}

// unreached warns about sinks that no route names, be the route enabled or not. Without any route, that is plain.
func (l *loader) unreached() {
	if l.broken || len(l.named) == 0 {
		return // broken: a block that should name it may name something else
	}
	for _, s := range l.cfg.Sinks {
		if !l.named[s.Name] && s.Info != nil {
			l.say(Warning, s.Range, fmt.Sprintf("Nothing reaches the sink %q", s.Name),
				fmt.Sprintf("No route has a block to %q %q.", s.Plugin, s.Name))
		}
	}
}
