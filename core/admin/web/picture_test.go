package web

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

// Rates implements admin.Control.
func (c *control) Rates(ctx context.Context) (admin.Rates, error) {
	if c.rates != nil {
		return *c.rates, nil
	}
	return c.Control.Rates(ctx)
}

func pictured() admin.Status {
	return admin.Status{
		Running: true,
		Stats: store.Stats{Deliveries: map[string]map[core.DeliveryState]int64{
			"crm": {core.DeliveryPending: 12_345, core.DeliveryDead: 1},
		}},
		Sources: []admin.SourceStatus{{Source: "people", Accepted: 7}, {Source: "shop"}},
		Routes: []admin.RouteStatus{
			{Route: "all", Sinks: []string{"audit"}},
			{Route: "hires", From: []string{"people"}, On: []string{"a.b"}, Sinks: []string{"audit", "crm"}},
		},
		Sinks: []admin.SinkStatus{{Sink: "audit", State: "working"}, {Sink: "crm", State: "paused"}},
	}
}

func TestPicture(t *testing.T) {
	f := newFixture(t)
	f.control.status = func(s *admin.Status) { *s = pictured() }
	d := get(t, f, "/")
	var got []string
	for _, n := range d.all(".picture a") {
		got = append(got, attr(n, "href")+" "+text(doc{t: t, root: n}.one("title")))
	}
	want := []string{
		"/requests?source=people source people: 7 accepted", "/requests?source=shop source shop: 0 accepted",
		"/deliveries?route=all route all: every event", "/deliveries?route=hires route hires: a.b",
		"/sinks/audit sink audit: 0 delivered", "/sinks/crm sink crm: paused, 12 345 waiting, 1 dead",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("boxes: %s", diff)
	}
	if n := len(d.all(".picture .edge")); n != 6 || len(d.all(".picture .live")) != 0 {
		t.Errorf("%d lines, of which %d live", n, len(d.all(".picture .live")))
	}
	if len(d.all("svg.spark")) != 0 {
		t.Error("there are curves of numbers that nobody counts")
	}

	buckets := make([]int64, 360)
	buckets[0], buckets[356], buckets[357], buckets[358], buckets[359] = 5, 20, 20, 20, 3
	none := make([]int64, 360)
	f.control.rates = &admin.Rates{
		StepSeconds: 10,
		Sources:     []admin.SourceRates{{Source: "people", Accepted: buckets, Rejected: none, Duplicates: none}},
		Routes:      []admin.RouteRates{{Route: "hires", Matched: buckets}},
		Sinks:       []admin.SinkRates{{Sink: "crm", Delivered: none, Failed: buckets, Backlog: buckets}},
	}
	d = get(t, f, "/overview/live")
	if got, want := d.texts(".picture .live"), 3; len(got) != want {
		t.Errorf("%d lines live, want %d", len(got), want)
	}
	if got := d.text("#box-source-people title"); got != "source people: 2.0/s, 68 in the last hour" {
		t.Errorf("source: %s", got)
	}
	var titles []string
	for _, n := range d.all("svg.spark") {
		titles = append(titles, attr(n, "aria-label"))
	}
	want = []string{"68 accepted in the last hour", "0 delivered, 68 failed attempts in the last hour"}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Errorf("curves: %s", diff)
	}
	if len(d.all(".spark .fault")) != 1 {
		t.Error("what failed is not drawn")
	}
}

func TestPictureOfMany(t *testing.T) {
	s := pictured()
	for i := range 100 {
		s.Routes = append(s.Routes, admin.RouteStatus{Route: strings.Repeat("r", i+1)})
	}
	p := newPicture(&s, nil)
	if p.Left != 62 || len(p.Nodes) != 2+mostBoxes+2 {
		t.Errorf("%d boxes, %d left out", len(p.Nodes), p.Left)
	}
}
