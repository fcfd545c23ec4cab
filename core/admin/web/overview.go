package web

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

func overviewPages() []page {
	return []page{
		{pattern: "GET /{$}", template: "overview", serve: (*call).overview, nav: &place{"Watch", "Overview", "o"}},
		{pattern: "GET /overview/live", template: "overview", serve: (*call).overviewLive},
	}
}

// overview is the data of the page.
type overview struct {
	Status    admin.Status
	Tiles     []tile
	Attention []concern
	Sources   []sourceRow
	Sinks     []sinkRow
	Picture   picture
}

// sourceRow is a source with what came in.
type sourceRow struct {
	admin.SourceStatus
	Refused int64
	Spark   *spark
}

// sinkRow is a sink with its deliveries by state.
type sinkRow struct {
	admin.SinkStatus
	Waiting, Delivered, Dead int64
	Spark, Backlog           *spark
}

// tile is a number with a way to what it counts.
type tile struct {
	ID, Label, Href, Tone string
	N                     int64
}

// concern is something that an operator ought to know.
type concern struct {
	ID, State, Text, Href, Label string
}

func (c *call) overview() error {
	data, err := c.readOverview()
	if err != nil {
		return err
	}
	return c.page("Overview", data)
}

func (c *call) overviewLive() error {
	data, err := c.readOverview()
	if err != nil {
		return err
	}
	return c.part("live", data)
}

func (c *call) readOverview() (overview, error) {
	s, err := c.control.Status(c)
	if err != nil {
		return overview{}, err
	}
	var h *hour
	switch r, err := c.control.Rates(c); {
	case err == nil:
		h = &hour{r}
	case !errors.Is(err, admin.ErrNotRunning):
		return overview{}, err
	}
	slices.SortFunc(s.Sinks, func(a, b admin.SinkStatus) int { return cmp.Compare(a.Sink, b.Sink) })
	o := overview{Status: s, Tiles: tiles(&s), Picture: newPicture(&s, h)}
	if o.Attention, err = c.concerns(&s); err != nil {
		return overview{}, err
	}
	for _, v := range s.Sources {
		row := sourceRow{SourceStatus: v, Refused: sum(v.Rejected)}
		if h != nil {
			for _, r := range h.Sources {
				if r.Source == v.Source {
					row.Spark = h.spark(r.Accepted, "accepted", r.Rejected, "rejected")
				}
			}
		}
		o.Sources = append(o.Sources, row)
	}
	for _, v := range s.Sinks {
		n := s.Stats.Deliveries[v.Sink]
		row := sinkRow{
			SinkStatus: v, Waiting: n[core.DeliveryPending], Delivered: n[core.DeliveryDelivered], Dead: n[core.DeliveryDead],
		}
		if h != nil {
			for _, r := range h.Sinks {
				if r.Sink == v.Sink {
					row.Spark = h.spark(r.Delivered, "delivered", r.Failed, "failed attempts")
					row.Backlog = h.level(r.Backlog, "waiting")
				}
			}
		}
		o.Sinks = append(o.Sinks, row)
	}
	return o, nil
}

func tiles(s *admin.Status) []tile {
	var waiting, dead int64
	for _, byState := range s.Stats.Deliveries {
		waiting += byState[core.DeliveryPending]
		dead += byState[core.DeliveryDead]
	}
	requests := sum(s.Stats.Requests)
	unrouted := sum(s.Stats.Unrouted)
	tone := func(n int64, tone string) string {
		if n == 0 {
			return ""
		}
		return tone
	}
	return []tile{
		{"requests", "requests stored", "/requests", "", requests},
		{"received", "wait to be routed", "/requests?state=received", "", s.Stats.Requests[core.RequestReceived]},
		{"pending", "deliveries wait", "/deliveries?state=pending", "", waiting},
		{"dead", "dead letters", "/dead", tone(dead, toneBad), dead},
		{"unrouted", "events unrouted", "/unrouted", tone(unrouted, toneWarn), unrouted},
		{"rejected", "requests rejected", "/rejections", "", sum(s.Stats.Rejections)},
	}
}

// concerns lists what does not work, the worst first.
func (c *call) concerns(s *admin.Status) ([]concern, error) {
	alerts, err := c.control.Alerts(c)
	if err != nil && !errors.Is(err, admin.ErrNotRunning) {
		return nil, err
	}
	reloads, err := c.control.Reloads(c)
	if err != nil && !errors.Is(err, admin.ErrNotRunning) {
		return nil, err
	}
	return listConcerns(s, alerts.Items, reloads.Items), nil
}

func listConcerns(s *admin.Status, alerts []admin.Alert, reloads []admin.Reload) []concern {
	var bad, warn []concern
	add := func(c concern) {
		c.ID = fmt.Sprintf("concern-%d", len(bad)+len(warn))
		if tone(c.State) == toneBad {
			bad = append(bad, c)
		} else {
			warn = append(warn, c)
		}
	}
	for _, a := range alerts {
		for i := range a.Things {
			if t := &a.Things[i]; t.Fires() {
				text := "Alert " + a.Name + ", " + t.Subject + ": " + cut(160, t.Text)
				add(concern{State: "firing", Text: text, Href: "/alerts", Label: "Alerts"})
			}
		}
	}
	if last := newestReload(reloads); last != nil && last.Result != "applied" && last.Result != "unchanged" {
		text := "The last reload was " + last.Result + ": the configuration from before runs on"
		if last.Error != "" {
			text += ". " + cut(200, last.Error)
		}
		add(concern{State: "failed", Text: text, Href: "/configuration", Label: "Configuration"})
	}
	for _, p := range s.Plugins {
		if t := tone(p.State); t == toneBad || t == toneWarn {
			text := "Plugin " + p.Plugin
			if p.LastCrash != "" {
				text += ": " + cut(160, p.LastCrash)
			}
			add(concern{State: p.State, Text: text, Href: "/plugins", Label: "Plugins"})
		}
	}
	for _, k := range s.Sinks {
		if k.State == "working" {
			continue
		}
		text := "Sink " + k.Sink
		if n := s.Stats.Deliveries[k.Sink][core.DeliveryPending]; n > 0 {
			text += ", " + plural(n, "delivery") + " waiting"
		}
		if k.Reason != "" {
			text += ": " + cut(160, k.Reason)
		}
		add(concern{State: k.State, Text: text, Href: "/sinks", Label: "Sinks"})
	}
	for _, sink := range slices.Sorted(maps.Keys(s.Stats.Deliveries)) {
		if n := s.Stats.Deliveries[sink][core.DeliveryDead]; n > 0 {
			text := plural(n, "dead letter") + " of sink " + sink
			if held := s.Stats.Held[sink]; held > 0 {
				text += ", " + plural(held, "order key") + " held"
			}
			add(concern{State: "dead", Text: text, Href: address("/dead", query("sink", sink)), Label: "Show them"})
		}
	}
	if n := s.Stats.Requests[core.RequestDead]; n > 0 {
		text := plural(n, "request") + " that no decoder takes"
		add(concern{State: "dead", Text: text, Href: "/requests?state=dead", Label: "Show them"})
	}
	if n := sum(s.Stats.Unrouted); n > 0 {
		text := plural(n, "event") + " matched no route, of " + plural(len(s.Stats.Unrouted), "type")
		add(concern{State: "unrouted", Text: text, Href: "/unrouted", Label: "Show them"})
	}
	return slices.Concat(bad, warn)
}

func newestReload(rs []admin.Reload) *admin.Reload {
	if len(rs) == 0 {
		return nil
	}
	newest := slices.MaxFunc(rs, func(a, b admin.Reload) int { return cmp.Compare(a.ID, b.ID) })
	return &newest
}

// sum adds the values of a map.
func sum[K comparable, N int64 | uint64](m map[K]N) int64 {
	var n int64
	for _, v := range m {
		n += int64(v)
	}
	return n
}
