package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/sdk"
)

func detailPages() []page {
	return []page{
		{pattern: "GET /requests/{id}", template: "request", serve: (*call).request},
		{pattern: "GET /requests/{id}/payload", template: "payload", serve: (*call).payload},
		{pattern: "GET /requests/{id}/body", serve: (*call).body},
		{pattern: "POST /requests/{id}/retry", serve: (*call).retryRequest},
		{pattern: "GET /events/{id}", template: "event", serve: (*call).event},
		{pattern: "GET /events/{id}/data", serve: (*call).eventData},
		{pattern: "GET /deliveries/{id}", template: "delivery", serve: (*call).delivery},
	}
}

const (
	maxEventsShown     = 20 // of a request, with what came of them
	maxDeliveriesShown = 40 // of a request, with their attempts
)

// requestPage is a request with all that came of it.
type requestPage struct {
	admin.Request
	Size   int // of the body
	Events []eventView
	More   int // events that are not shown
	Why    *admin.Explanation
	Silent string // why there is no explanation
}

// eventView is an event with what the routes made of it.
type eventView struct {
	admin.Event
	Changes   []change
	Routes    []routeView
	Index     int
	Explained bool // the routes that run have said why
}

func (c *call) request() error {
	r, err := c.control.Request(c, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	p := requestPage{Request: r, Size: len(bodyOf(&r)), More: max(0, len(r.Events)-maxEventsShown)}
	var explained map[string]*admin.ExplainedEvent
	if r.State == string(core.RequestRouted) {
		p.Why, explained, p.Silent = c.explained(r.ID)
	}
	shown := 0
	for i := range r.Events[:len(r.Events)-p.More] {
		e := &r.Events[i]
		v := eventView{Event: *e, Changes: shorten(changesOf(e.Changes)), Index: i + 1}
		for _, d := range r.Deliveries {
			if d.EventID != e.ID {
				continue
			}
			if shown++; shown <= maxDeliveriesShown {
				if d, err = c.control.Delivery(c, d.ID); err != nil {
					return err
				}
			}
			v.add(d)
		}
		v.explain(explained[e.ID])
		p.Events = append(p.Events, v)
	}
	return c.page("Request", p)
}

// add puts a delivery to its route.
func (v *eventView) add(d admin.Delivery) {
	for i := range v.Routes {
		if v.Routes[i].Route == d.Route {
			v.Routes[i].Deliveries = append(v.Routes[i].Deliveries, d)
			return
		}
	}
	v.Routes = append(v.Routes, routeView{Route: d.Route, Verdict: verdictYes, Deliveries: []admin.Delivery{d}})
}

// bodyOf is the body of a request, byte for byte.
func bodyOf(r *admin.Request) []byte {
	if r.BodyBase64 != nil {
		return r.BodyBase64
	}
	return []byte(r.Body)
}

// payloadPage is a request as it came over the wire.
type payloadPage struct {
	admin.Request
	Size    int
	Headers []sdk.Header
	Raw     bool // as it came; otherwise laid out
	Text    rawText
	JSON    layout
	Changes []changesOfEvent
}

type changesOfEvent struct {
	EventID, Type string
	Changes       []change
}

func (c *call) payload() error {
	r, err := c.control.Request(c, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	body := bodyOf(&r)
	p := payloadPage{Request: r, Size: len(body), Headers: r.Headers, Raw: c.r.URL.Query().Get("view") == "raw"}
	var all []change
	for _, e := range r.Events {
		if cs := changesOf(e.Changes); len(cs) > 0 && len(p.Changes) < maxEventsShown {
			p.Changes = append(p.Changes, changesOfEvent{e.ID, e.Type, shorten(cs)})
			all = append(all, cs...)
		}
	}
	if !p.Raw {
		p.JSON = pretty(body, all)
		p.Raw = p.JSON.Plain
	}
	if p.Raw {
		p.Text = rawOf(body)
	}
	return c.page("Payload", p)
}

// body is the download of a request's body.
func (c *call) body() error {
	r, err := c.control.Request(c, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	c.download(r.ID+".body", bodyOf(&r))
	return nil
}

// retryRequest has a dead request decoded again.
func (c *call) retryRequest() error {
	id := c.r.PathValue("id")
	t, err := c.control.RetryRequests(c, admin.RequestOrder{IDs: []string{id}}, nil)
	if err != nil {
		return err
	}
	if t.Done == 0 && len(t.Reasons) > 0 {
		return badInput{errors.New(t.Reasons[0].Reason)}
	}
	return c.redirect("/requests/" + id)
}

// eventData is the download of an event's data.
func (c *call) eventData() error {
	e, err := c.control.Event(c, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	c.download(e.ID+".json", e.Data)
	return nil
}

// download answers with foreign bytes so that no browser shows them as if they were a page of ours.
func (c *call) download(name string, b []byte) {
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s"`, name))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(b)
}

// eventPage is an event with what came of it.
type eventPage struct {
	Detail admin.EventDetail
	View   eventView
	JSON   layout
	Silent string
}

func (c *call) event() error {
	e, err := c.control.Event(c, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	cs := changesOf(e.Changes)
	v := eventView{Changes: shorten(cs)}
	for i, d := range e.Deliveries {
		if i < maxDeliveriesShown {
			if d, err = c.control.Delivery(c, d.ID); err != nil {
				return err
			}
		}
		v.add(d)
	}
	_, explained, silent := c.explained(e.ID)
	v.explain(explained[e.ID])
	p := eventPage{Detail: e, View: v, JSON: pretty(orNull(e.Data), cs), Silent: silent}
	return c.page("Event", p)
}

func orNull(b json.RawMessage) json.RawMessage {
	if len(b) == 0 {
		return json.RawMessage("null")
	}
	return b
}

// deliveryPage is a delivery with its attempts and its message.
type deliveryPage struct {
	admin.Delivery
	Message layout
	Told    string            // what its state means, in a sentence
	Retry   bool              // it can be retried
	Replay  bool              // it can be replayed
	Parked  *admin.SinkStatus // of one that waits, where the sink does not work
}

func (c *call) delivery() error {
	d, err := c.control.Delivery(c, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	p := deliveryPage{Delivery: d, Told: told(&d)}
	if len(d.Message) > 0 {
		p.Message = pretty(d.Message, nil)
	}
	if d.State == string(core.DeliveryPending) {
		s, err := c.control.Status(c)
		if err != nil {
			return err
		}
		for i := range s.Sinks {
			if k := &s.Sinks[i]; k.Sink == d.Sink && k.State != "working" {
				p.Parked = k
			}
		}
	}
	p.Retry = d.State == string(core.DeliveryDead)
	p.Replay = core.DeliveryState(d.State).Settled() && d.ReplayedBy == ""
	return c.page("Delivery", p)
}

// told says what a delivery's state means.
func told(d *admin.Delivery) string {
	switch core.DeliveryState(d.State) {
	case core.DeliveryDelivered:
		return "The sink has it, after " + plural(d.Attempts, "attempt") + "."
	case core.DeliverySkipped:
		if d.ReplayedBy != "" {
			return "A replay has taken its place."
		}
		return "It was left out for good: nobody will try it again unless it is replayed."
	case core.DeliveryDead:
		if len(d.Message) == 0 {
			return "Its route could not render a message. Mend the route, then retry: nothing is tried by itself."
		}
		return "The host has given up. Nothing is tried by itself; a retry renders the message anew and tries it."
	case core.DeliveryPending, core.DeliveryLeased:
		switch {
		case d.WaitsFor != "":
			return "It waits behind an earlier delivery of its order key."
		case d.Attempts > 0:
			return "It has failed so far, and is tried again by itself."
		default:
			return "It waits for its first attempt."
		}
	}
	return ""
}

// pathText writes the path of an attribute.
func pathText(path []string) string { return strings.Join(path, ".") }
