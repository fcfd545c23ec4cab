// Package route decides which sinks get an event: it evaluates the routes of a configuration and renders their messages. It
// is pure; the engine commits what it returns.
package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

// Route is one route block, compiled. All matching routes of an event fire.
type Route struct {
	Name    string
	Sources []string        // names; nil: all but core.BuiltinSource
	On      []string        // event types or patterns, in which * stands for any text, dots included; nil: all
	When    *expr.Condition // nil: always
	To      []To
	Range   string // file:line,column
}

// To is one `to` block: a message for one sink.
type To struct {
	Sink         string
	Message      *expr.Message
	OrderBy      *expr.Text // nil: unordered
	SchemaDigest string     // of the sink's message schema
	Range        string     // file:line,column

	tag core.DeliveryTag
}

// Table holds a configuration's routes. It is not changed after NewTable; each source takes a Router of its own.
type Table struct {
	routes []Route
	set    *expr.Set
	digest string
}

// NewTable makes a table and keeps routes. set is the one that the expressions were compiled in, digest the configuration's.
func NewTable(routes []Route, set *expr.Set, digest string) *Table {
	for i := range routes {
		for k := range routes[i].To {
			to := &routes[i].To[k]
			to.tag = core.NewDeliveryTag(routes[i].Name, to.Sink, 0)
		}
	}
	return &Table{routes: routes, set: set, digest: digest}
}

// Locate returns where an attribute of a route's message to a sink is written, as file:line,column.
func (t *Table) Locate(route, sink string, path []string) string {
	for i := range t.routes {
		if t.routes[i].Name != route {
			continue
		}
		for _, to := range t.routes[i].To {
			if to.Sink != sink {
				continue
			}
			return cmp.Or(to.Message.Locate(path), to.Range)
		}
	}
	return ""
}

// maxTypes bounds a router's memory of event types: providers may send types that nobody foresaw.
const maxTypes = 1024

// Router routes the events of one source. It is used from one goroutine at a time.
type Router struct {
	table  *Table
	routes []*Route            // that listen to the source
	byType map[string][]*Route // of those, by event type
	record *expr.Record

	observers map[*Route]Observer // nil: nobody looks
	turn      int                 // events so far
}

// Observer sees how long a route takes on an event: its condition and, if it matches, its messages. It must not block.
type Observer interface {
	Evaluated(took time.Duration)
}

// observeShare: one event in so many is timed, because reading the clock costs as much as a small route.
const observeShare = 16

// Observe has the router's routes timed, some events of many, and returns the router. of is asked for each route's observer
// now.
func (r *Router) Observe(of func(route string) Observer) *Router {
	r.observers = make(map[*Route]Observer, len(r.routes))
	for _, route := range r.routes {
		r.observers[route] = of(route.Name)
	}
	return r
}

// Router returns a router for the named source.
func (t *Table) Router(source string) *Router {
	r := &Router{table: t, byType: map[string][]*Route{}, record: t.set.NewRecord()}
	for i := range t.routes {
		if route := &t.routes[i]; route.from(source) {
			r.routes = append(r.routes, route)
		}
	}
	return r
}

// match returns the routes that listen to an event type. It asks each pattern once per type.
func (r *Router) match(eventType string) []*Route {
	if routes, ok := r.byType[eventType]; ok {
		return routes
	}
	var routes []*Route
	for _, route := range r.routes {
		if route.listens(eventType) {
			routes = append(routes, route)
		}
	}
	if len(r.byType) >= maxTypes {
		clear(r.byType)
	}
	r.byType[strings.Clone(eventType)] = routes
	return routes
}

// from reports whether the route takes events of a source.
func (r *Route) from(source string) bool {
	if r.Sources == nil {
		return source != core.BuiltinSource
	}
	return slices.Contains(r.Sources, source)
}

// listens reports whether the route is for events of a type.
func (r *Route) listens(eventType string) bool {
	return r.On == nil || slices.ContainsFunc(r.On, func(p string) bool { return Match(p, eventType) })
}

// Route appends the deliveries of an event to dst. A route whose expression fails on the event yields dead deliveries that
// carry the diagnostic: an error is never the same as "does not match". The error says that the event has more deliveries
// than an id has room for.
func (r *Router) Route(dst []*core.Delivery, req *core.Request, ev *core.Event) ([]*core.Delivery, error) {
	routes := r.match(ev.Type)
	if len(routes) == 0 {
		return dst, nil
	}
	r.record.Reset(ev, req)
	r.turn++
	observed := r.observers != nil && r.turn%observeShare == 0
	var began time.Time
	if observed {
		began = time.Now()
	}
	first := len(dst)
	for _, route := range routes {
		var err error
		if dst, err = r.evaluate(dst, len(dst)-first, req, ev, route); err != nil {
			return dst, err
		}
		if observed {
			now := time.Now()
			r.observers[route].Evaluated(now.Sub(began))
			began = now
		}
	}
	return dst, nil
}

// evaluate appends the deliveries of an event by one route, of which the first has an ordinal.
func (r *Router) evaluate(
	dst []*core.Delivery, ordinal int, req *core.Request, ev *core.Event, route *Route,
) ([]*core.Delivery, error) {
	var failed error
	if route.When != nil {
		matches, err := route.When.Eval(r.record)
		if err == nil && !matches {
			return dst, nil
		}
		failed = err
	}
	for i := range route.To {
		if ordinal == core.MaxDeliveries {
			return dst, fmt.Errorf("event %d has more than %d deliveries", ev.Index, core.MaxDeliveries)
		}
		dst = append(dst, r.deliver(req, ev, route, &route.To[i], ordinal, failed))
		ordinal++
	}
	return dst, nil
}

func (r *Router) deliver(req *core.Request, ev *core.Event, route *Route, to *To, ordinal int, failed error) *core.Delivery {
	d := &core.Delivery{
		Key:          core.NewDeliveryKey(req.Seq, ev.Index, ordinal),
		ID:           to.tag.ID(ev.ID),
		Route:        route.Name,
		Sink:         to.Sink,
		ConfigDigest: r.table.digest,
		SchemaDigest: to.SchemaDigest,
		State:        core.DeliveryPending,
		Due:          req.ReceivedAt,
		ReceivedAt:   req.ReceivedAt,
		Event:        ev,
	}
	if to.OrderBy != nil { // also of a dead one, which may hold its key
		var err error
		if d.OrderKey, _, err = to.OrderBy.Eval(r.record); failed == nil {
			failed = err
		}
	}
	if failed == nil {
		d.Message, failed = to.Message.Append(nil, r.record)
	}
	if failed != nil {
		d.State, d.Message, d.Reason, d.RouteRange = core.DeliveryDead, nil, failed.Error(), to.Range
		if e, ok := errors.AsType[*expr.Error](failed); ok {
			d.RouteRange = e.Range
		}
	}
	return d
}

// Match reports whether an event type matches an `on` entry: * stands for any text, the empty one and dots included.
func Match(pattern, eventType string) bool {
	head, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == eventType
	}
	eventType, ok := strings.CutPrefix(eventType, head)
	if !ok {
		return false
	}
	for {
		var part string
		part, rest, wild = strings.Cut(rest, "*")
		if !wild {
			return strings.HasSuffix(eventType, part)
		}
		i := strings.Index(eventType, part)
		if i < 0 {
			return false
		}
		eventType = eventType[i+len(part):]
	}
}
