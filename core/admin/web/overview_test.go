package web

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

func TestOverviewOfAnEmptyHost(t *testing.T) {
	f := newFixture(t)
	d := get(t, f, "/")
	if !strings.Contains(d.text("#live"), "Nothing: every sink works, and nothing is dead.") {
		t.Errorf("%s", d.text("#live"))
	}
	if n := d.all(".tile"); len(n) != 6 || text(n[0]) != "0 requests stored" {
		t.Errorf("tiles: %v", d.texts(".tile"))
	}
}

// alerting has one alert that fires for one of two sinks.
type alerting struct{}

func (alerting) Alerts() []admin.Alert {
	return []admin.Alert{{Name: "parked", State: "firing", Things: []admin.AlertThing{
		{Subject: "sink/crm", State: "firing", Text: "it is paused"}, {Subject: "sink/mail", State: "ok"},
	}}}
}

func (alerting) TestAlert(context.Context, string) (string, error) { return "", admin.ErrNotRunning }

func TestOverviewTellsWhatNeedsAttention(t *testing.T) {
	f := newFixture(t)
	f.add(t,
		received{source: "people", body: "1", events: []madeEvent{
			{kind: "x.a", data: "1", deliveries: []madeDelivery{
				{route: "r", sink: "crm", message: "{}", state: core.DeliveryDead, reason: "no"},
			}},
			{kind: "x.b", data: "1"},
		}},
		received{source: "people", body: "2", dead: "never"},
	)
	f.control.status = func(s *admin.Status) {
		s.Sinks = []admin.SinkStatus{
			{Sink: "crm", State: "paused", Reason: "for <b>lunch</b>"}, {Sink: "mail", State: "working"},
		}
		s.Plugins = []admin.Plugin{
			{Plugin: "sink-mail", State: "ready"}, {Plugin: "sink-crm", State: "failed", LastCrash: "panic: no"},
		}
	}
	f.direct().Alerting = alerting{}
	d := get(t, f, "/overview/live")
	got := d.texts(".attention li")
	want := []string{
		"✕ firing Alert parked, sink/crm: it is paused Alerts",
		"✕ failed Plugin sink-crm: panic: no Plugins", "✕ dead 1 dead letter of sink crm Show them",
		"✕ dead 1 request that no decoder takes Show them", "! paused Sink crm: for <b>lunch</b> Sinks",
		"! unrouted 1 event matched no route, of 1 type Show them",
	}
	if !slices.Equal(got, want) {
		t.Errorf("attention:\n%s", strings.Join(got, "\n"))
	}
	if len(d.all("nav")) != 0 {
		t.Error("the part for htmx is a whole page")
	}
}
