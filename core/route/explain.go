package route

import (
	"encoding/json"
	"errors"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

// Verdict is what a route says of an event.
type Verdict string

// The verdicts.
const (
	Sends        Verdict = "sends"
	OtherSource  Verdict = "source" // the event's source is not in `from`
	OtherType    Verdict = "type"   // its type matches nothing in `on`
	ConditionNot Verdict = "when"   // `when` is false
	Fails        Verdict = "fails"  // `when` fails: a dead letter for each `to` block
)

// Explanation is why a route sends an event, or why not.
type Explanation struct {
	Route   string      `json:"route"`
	Range   string      `json:"range,omitempty"` // file:line,column
	Verdict Verdict     `json:"verdict"`
	From    []string    `json:"from,omitempty"` // the sources that it listens to; none: all
	On      []string    `json:"on,omitempty"`   // the types and patterns; none: all
	Matches []string    `json:"matches,omitempty"`
	When    *expr.Step  `json:"when,omitempty"` // only where source and type fit
	Error   *expr.Error `json:"error,omitempty"`
	Sinks   []string    `json:"sinks,omitempty"` // of its `to` blocks, but for disabled ones
	To      []Sent      `json:"to,omitempty"`    // where it sends, or fails to
}

// Sent is what a `to` block makes of an event.
type Sent struct {
	Sink       string          `json:"sink"`
	Range      string          `json:"range,omitempty"`
	DeliveryID string          `json:"delivery_id"`
	OrderKey   string          `json:"order_key,omitempty"` // empty: no order
	Message    json.RawMessage `json:"message,omitempty"`
	Dead       string          `json:"dead,omitempty"` // why the delivery is dead from the start
	DeadRange  string          `json:"dead_range,omitempty"`
	OrderBy    *expr.Step      `json:"order_by,omitempty"`
	Arguments  []expr.Argument `json:"arguments,omitempty"`
}

// Explainer explains what the table's routes do with events. It is used from one goroutine at a time.
type Explainer struct {
	table   *Table
	record  *expr.Record
	routers map[string]*Router
}

// Explainer returns an explainer of the table's routes.
func (t *Table) Explainer() *Explainer {
	return &Explainer{table: t, record: t.set.NewRecord(), routers: map[string]*Router{}}
}

// Explain goes through all routes in the order of the configuration. What is sent, and what is not, is a Router's word;
// the explanation is evaluated beside it.
func (x *Explainer) Explain(req *core.Request, ev *core.Event) ([]Explanation, error) {
	router := x.routers[req.Source]
	if router == nil {
		router = x.table.Router(req.Source)
		x.routers[req.Source] = router
	}
	deliveries, err := router.Route(nil, req, ev)
	if err != nil {
		return nil, err
	}
	made := map[place]*core.Delivery{}
	for _, d := range deliveries {
		made[place{d.Route, d.Sink}] = d
	}
	x.record.Reset(ev, req)
	out := make([]Explanation, len(x.table.routes))
	for i := range x.table.routes {
		out[i] = x.explain(&x.table.routes[i], req, ev, made)
	}
	return out, nil
}

func (x *Explainer) explain(r *Route, req *core.Request, ev *core.Event, made map[place]*core.Delivery) Explanation {
	e := Explanation{Route: r.Name, Range: r.Range, Verdict: Sends, From: r.Sources, On: r.On}
	for _, to := range r.To {
		e.Sinks = append(e.Sinks, to.Sink)
	}
	for _, p := range r.On {
		if Match(p, ev.Type) {
			e.Matches = append(e.Matches, p)
		}
	}
	switch {
	case !r.from(req.Source):
		e.Verdict = OtherSource
		return e
	case !r.listens(ev.Type):
		e.Verdict = OtherType
		return e
	}
	if r.When != nil {
		step := r.When.Trace(x.record)
		e.When = &step
		yes, err := r.When.Eval(x.record)
		if failed, ok := errors.AsType[*expr.Error](err); ok {
			e.Verdict, e.Error = Fails, failed
		} else if !yes {
			e.Verdict = ConditionNot
			return e
		}
	}
	for k := range r.To {
		to := &r.To[k]
		d := made[place{r.Name, to.Sink}]
		if d == nil {
			continue
		}
		s := Sent{
			Sink: to.Sink, Range: to.Range, DeliveryID: d.ID, OrderKey: d.OrderKey, Message: d.Message, Dead: d.Reason,
			DeadRange: d.RouteRange,
		}
		if e.Verdict == Sends {
			s.Arguments = to.Message.Trace(x.record)
			if to.OrderBy != nil {
				step := to.OrderBy.Trace(x.record)
				s.OrderBy = &step
			}
		}
		e.To = append(e.To, s)
	}
	return e
}
