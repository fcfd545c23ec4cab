package route

import (
	"errors"
	"fmt"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

// Renderer renders deliveries anew: those that another configuration rendered while they waited, and dead letters that
// are retried or replayed. It is used from one goroutine at a time.
type Renderer struct {
	table  *Table
	places map[place]found
	record *expr.Record
}

// place is where a delivery comes from and goes to.
type place struct{ route, sink string }

type found struct {
	route *Route
	to    *To
}

// Renderer returns a renderer of the table's routes.
func (t *Table) Renderer() *Renderer {
	r := &Renderer{table: t, places: map[place]found{}, record: t.set.NewRecord()}
	for i := range t.routes {
		route := &t.routes[i]
		for k := range route.To {
			r.places[place{route.Name, route.To[k].Sink}] = found{route, &route.To[k]}
		}
	}
	return r
}

// Current reports whether a delivery has the message that the table's routes would give it, as far as digests tell, or
// is to be delivered as it is.
func (r *Renderer) Current(d *core.Delivery) bool {
	if d.Message == nil {
		return false
	}
	f, ok := r.places[place{d.Route, d.Sink}]
	return d.AsIs || ok && d.ConfigDigest == r.table.digest && d.SchemaDigest == f.to.SchemaDigest
}

// Render renders a delivery, given with its event and its data, anew; req needs no body. It is pure. The delivery
//
//	gets its message and digests    and is pending; Renewed is set if the message is another one than before
//	is dead, with Reason and RouteRange    the route or its `to` block is gone, or an expression fails
//	is skipped, with Reason    the route does not send the event there any more: an answer, not an error
//
// Without a message it gets its order key, too; otherwise that stays as it was, and with it the delivery's place behind
// others.
func (r *Renderer) Render(d *core.Delivery, req *core.Request) {
	f, ok := r.places[place{d.Route, d.Sink}]
	if !ok {
		d.State, d.RouteRange = core.DeliveryDead, ""
		d.Reason = fmt.Sprintf("the configuration has no route %q that sends to sink %q", d.Route, d.Sink)
		return
	}
	message, order, sends, err := r.evaluate(f, d, req)
	switch {
	case err != nil:
		d.State, d.Reason, d.RouteRange = core.DeliveryDead, err.Error(), f.to.Range
		if e, ok := errors.AsType[*expr.Error](err); ok {
			d.RouteRange = e.Range
		}
		return
	case !sends:
		d.State, d.RouteRange = core.DeliverySkipped, ""
		d.Reason = fmt.Sprintf("route %q does not send this event any more", d.Route)
		return
	}
	if d.Message == nil {
		d.OrderKey = order
	}
	d.State, d.Reason, d.RouteRange, d.AttributePath = core.DeliveryPending, "", "", nil
	d.Renewed = d.Renewed || string(d.Message) != string(message) || d.SchemaDigest != f.to.SchemaDigest
	d.Message, d.ConfigDigest, d.SchemaDigest = message, r.table.digest, f.to.SchemaDigest
}

func (r *Renderer) evaluate(f found, d *core.Delivery, req *core.Request) (message []byte, order string, sends bool, err error) {
	if !f.route.from(req.Source) || !f.route.listens(d.Event.Type) {
		return nil, "", false, nil
	}
	r.record.Reset(d.Event, req)
	if f.route.When != nil {
		if sends, err = f.route.When.Eval(r.record); err != nil || !sends {
			return nil, "", false, err
		}
	}
	if f.to.OrderBy != nil && d.Message == nil {
		if order, _, err = f.to.OrderBy.Eval(r.record); err != nil {
			return nil, "", false, err
		}
	}
	message, err = f.to.Message.Append(nil, r.record)
	return message, order, err == nil, err
}
