package web

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

func sinkPages() []page {
	return []page{
		{pattern: "GET /sinks", template: "sinks", serve: (*call).sinks, nav: &place{"Run", "Sinks", "s"}},
		{pattern: "GET /sinks/live", template: "sinks", serve: (*call).liveSinks},
		{pattern: "GET /sinks/{sink}", template: "sink", serve: (*call).sink},
		{pattern: "GET /sinks/{sink}/live", template: "sink", serve: (*call).liveSink},
		{pattern: "POST /sinks/{sink}/pause", serve: (*call).pauseSink},
		{pattern: "POST /sinks/{sink}/resume", serve: (*call).resumeSink},
	}
}

// sinkData is a sink with what it has to do.
type sinkData struct {
	admin.SinkStatus
	Waiting, Delivered, Skipped, Dead int64
	Held                              int64 // dead letters that hold order keys
	Configured                        bool  // false: only deliveries are left of it
}

// CanPause reports whether pausing it would change anything.
func (s sinkData) CanPause() bool { return s.State != "paused" }

// CanResume reports whether it is left alone.
func (s sinkData) CanResume() bool {
	return s.State == "paused" || s.State == "suspended" || s.State == "failing"
}

// Path is its page.
func (s sinkData) Path() string { return "/sinks/" + url.PathEscape(s.Sink) }

// Deliveries is the list of those in a state.
func (s sinkData) Deliveries(state string) string {
	if state == string(core.DeliveryDead) {
		return address("/dead", url.Values{"sink": {s.Sink}})
	}
	return address("/deliveries", url.Values{"sink": {s.Sink}, "state": {state}})
}

// readSinks is every sink that is configured or has deliveries.
func (c *call) readSinks() ([]sinkData, error) {
	s, err := c.control.Status(c)
	if err != nil {
		return nil, err
	}
	byName := map[string]admin.SinkStatus{}
	for _, k := range s.Sinks {
		byName[k.Sink] = k
	}
	var all []sinkData
	add := func(k admin.SinkStatus, configured bool) {
		n := s.Stats.Deliveries[k.Sink]
		all = append(all, sinkData{
			k, n[core.DeliveryPending] + n[core.DeliveryLeased], n[core.DeliveryDelivered], n[core.DeliverySkipped],
			n[core.DeliveryDead], s.Stats.Held[k.Sink], configured,
		})
	}
	for _, k := range s.Sinks {
		add(k, true)
	}
	for _, name := range sorted(s.Stats.Deliveries) {
		if _, ok := byName[name]; !ok {
			add(admin.SinkStatus{Sink: name, State: "not configured"}, false)
		}
	}
	return all, nil
}

func (c *call) sinks() error {
	data, err := c.readSinks()
	if err != nil {
		return err
	}
	return c.page("Sinks", data)
}

func (c *call) liveSinks() error {
	data, err := c.readSinks()
	if err != nil {
		return err
	}
	return c.part("live", data)
}

// onePage is the data of the page of one sink.
type onePage struct {
	sinkData
	Waits []admin.Delivery // the newest that wait
}

func (c *call) readSink() (onePage, error) {
	all, err := c.readSinks()
	if err != nil {
		return onePage{}, err
	}
	name := c.r.PathValue("sink")
	for _, s := range all {
		if s.Sink != name {
			continue
		}
		f := store.DeliveryFilter{Sink: name, State: core.DeliveryPending, Limit: 10}
		p, err := c.control.Deliveries(c, f)
		return onePage{s, p.Items}, err
	}
	return onePage{}, fmt.Errorf("sink %q: %w", name, store.ErrNotFound)
}

func (c *call) sink() error {
	data, err := c.readSink()
	if err != nil {
		return err
	}
	return c.page("Sink "+data.Sink, data)
}

func (c *call) liveSink() error {
	data, err := c.readSink()
	if err != nil {
		return err
	}
	return c.part("live", data)
}

func (c *call) pauseSink() error {
	q, err := c.form()
	if err != nil {
		return err
	}
	sink := c.r.PathValue("sink")
	if err := c.control.PauseSink(c, sink, strings.TrimSpace(q.Get("reason"))); err != nil {
		return err
	}
	return c.redirect("/sinks/" + url.PathEscape(sink))
}

func (c *call) resumeSink() error {
	sink := c.r.PathValue("sink")
	if _, err := c.control.ResumeSink(c, sink); err != nil {
		return err
	}
	return c.redirect("/sinks/" + url.PathEscape(sink))
}

// Ahead reports whether the sink is not to be tried for a while.
func (s sinkData) Ahead() bool { return !s.Until.IsZero() }
