package web

import (
	"cmp"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/expr"
)

// routeView is what a route made of an event, and why: what it did then, beside what the routes that run now say.
type routeView struct {
	Route      string
	Range      string // file:line,column; empty: no such route runs now
	Verdict    string // a word: matched, no match, fails, gone
	Why        string
	Steps      []stepView // of its condition
	Deliveries []admin.Delivery
	Sends      []sendView // what it would send now, where it sent nothing then
	Note       string     // then and now differ
	Open       bool       // its steps are what to look at
}

// sendView is a message that a route would send.
type sendView struct {
	Sink, Dead string
	Message    layout
}

// stepView is a part of a condition with its value.
type stepView struct {
	Depth         int // at most maxStepDepth
	Source, Value string
	Tone          string
	Unused        bool
}

const (
	maxStepDepth = 8
	maxSteps     = 200
	maxStepText  = 240
)

// Matched are the routes that took the event, and Others those that did not.
func (v eventView) Matched() []routeView { return v.routes(true) }

// Others are the routes that did not take the event.
func (v eventView) Others() []routeView { return v.routes(false) }

func (v eventView) routes(took bool) []routeView {
	return slices.DeleteFunc(slices.Clone(v.Routes), func(r routeView) bool { return took == (r.Verdict == verdictNo) })
}

// The words for what a route did.
const (
	verdictYes   = "matched"
	verdictNo    = "no match"
	verdictFails = "fails"
	verdictGone  = "matched then"
)

// explain puts together what came of an event and what the routes that run say of it now. x is nil where nobody knows.
func (v *eventView) explain(x *admin.ExplainedEvent) {
	if x == nil {
		return
	}
	v.Explained = true
	made := v.Routes
	v.Routes = nil
	for i := range x.Routes {
		r := newRouteView(&x.Routes[i], x)
		if at := slices.IndexFunc(made, func(m routeView) bool { return m.Route == r.Route }); at >= 0 {
			r.Deliveries = made[at].Deliveries
			made = slices.Delete(made, at, at+1)
			if r.Verdict == verdictNo {
				r.Note = "It took the event when that came in. The route that runs now would not: " + r.Why
				r.Verdict, r.Why = verdictGone, ""
			} else {
				r.Sends = nil
			}
		} else if r.Verdict != verdictNo && !onlyDisabled(&x.Routes[i]) {
			r.Note = "It sent nothing when the event came in. The route that runs now would."
		}
		v.Routes = append(v.Routes, r)
	}
	for _, m := range made {
		m.Verdict, m.Note = verdictGone, "There is no such route any more."
		v.Routes = append(v.Routes, m)
	}
	for i := range v.Routes {
		v.Routes[i].Open = v.Routes[i].Verdict != verdictYes
	}
}

// onlyDisabled reports whether a route matches and has nobody to send to, now as then.
func onlyDisabled(x *admin.ExplainedRoute) bool {
	return x.Verdict == admin.VerdictSends && len(x.To) == 0 && len(x.Disabled) > 0
}

func newRouteView(x *admin.ExplainedRoute, e *admin.ExplainedEvent) routeView {
	r := routeView{Route: x.Route, Range: x.Range, Verdict: verdictNo}
	switch x.Verdict {
	case admin.VerdictSends:
		r.Verdict, r.Why = verdictYes, "Source and type fit."
		if x.When != nil {
			r.Why = "Source and type fit, and its condition is true."
		}
	case admin.VerdictFails:
		r.Verdict, r.Why = verdictFails, "Its condition cannot be evaluated."
	case admin.VerdictSource:
		r.Why = "It takes events of " + either(x.From) + ", and this one is of " + sourceName(e.Source) + "."
	case admin.VerdictType:
		r.Why = "It takes " + either(x.On) + ", and this is " + e.Type + "."
	case admin.VerdictWhen:
		r.Why = "Its condition is false."
	}
	if x.Error != nil {
		r.Why += " " + x.Error.Error()
	}
	if len(x.Disabled) > 0 {
		r.Why += " Disabled, and so without a delivery: " + strings.Join(x.Disabled, ", ") + "."
	}
	if x.When != nil {
		r.steps(x.When, 0)
	}
	for _, s := range x.To {
		v := sendView{Sink: s.Sink, Dead: s.Dead}
		if len(s.Message) > 0 {
			v.Message = pretty(s.Message, nil)
		}
		r.Sends = append(r.Sends, v)
	}
	return r
}

// either names the first few of what is one of several.
func either(names []string) string {
	const most = 6
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " or one of " + plural(len(names)-most, "other")
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

func (r *routeView) steps(s *expr.Step, depth int) {
	if len(r.Steps) == maxSteps {
		return
	}
	source := cut(maxStepText, cmp.Or(s.Source, string(s.Kind)))
	v := stepView{Depth: min(depth, maxStepDepth), Unused: s.Unused, Source: source}
	switch {
	case s.Error != nil:
		v.Value, v.Tone = "fails: "+s.Error.Summary, toneBad
	case s.Absent:
		v.Value, v.Tone = "null, it is not there", toneWarn
	case s.Bytes > 0:
		v.Value = bytesText(s.Bytes)
	default:
		v.Value = visible([]byte(cut(maxStepText, string(orNull(s.Value)))))
		v.Tone = map[string]string{"true": toneGood, "false": toneWarn}[v.Value]
	}
	r.Steps = append(r.Steps, v)
	for i := range s.Steps {
		r.steps(&s.Steps[i], depth+1)
	}
}

// explained asks what the routes say of a request, an event or a delivery, by event id. Without an answer the page
// shows what is stored, and why there is no more.
func (c *call) explained(id string) (*admin.Explanation, map[string]*admin.ExplainedEvent, string) {
	x, err := c.control.Explain(c, id)
	if err != nil {
		return nil, nil, err.Error()
	}
	events := map[string]*admin.ExplainedEvent{}
	for i := range x.Events {
		events[x.Events[i].ID] = &x.Events[i]
	}
	return &x, events, ""
}
