package route

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

// TestRender renders deliveries of one configuration by the next.
func TestRender(t *testing.T) {
	b := builder{t, expr.NewSet(nil, nil)}
	fails := b.to("a", `text = "team ${event.data.team}"`)
	noOrder := b.to("a", `text = event.data.name`)
	noOrder.OrderBy = b.text(`event.data.name > 3 ? "x" : "y"`)
	table := NewTable([]Route{
		{Name: "same", To: []To{b.to("a", `text = event.data.name`)}},
		{Name: "other", To: []To{b.to("a", `text = "new ${event.data.n}"`), b.to("b", `record = event.changes`)}},
		{Name: "says_no", When: b.when(`event.data.n > 41`), To: []To{b.to("a", `text = "no"`)}},
		{Name: "says_yes", When: b.when(`event.data.n > 39 && request.source == "people"`), To: []To{b.to("a", `text = "yes"`)}},
		{Name: "when_fails", When: b.when(`event.data.name > 3`), To: []To{b.to("a", `text = "no"`)}},
		{Name: "fails", To: []To{fails}},
		{Name: "order_fails", To: []To{noOrder}},
		{Name: "other_source", Sources: []string{"hr"}, To: []To{b.to("a", `text = "no"`)}},
		{Name: "other_type", On: []string{"y.*"}, To: []To{b.to("a", `text = "no"`)}},
		{Name: "this_type", Sources: []string{"people"}, On: []string{"y.*", "x.*"}, To: []To{b.to("a", `text = "typed"`)}},
	}, b.set, "digest")
	r := table.Renderer()
	for _, tt := range []struct {
		route, sink, message string
		want                 string
	}{
		{"same", "a", `{"text":"Ada <!channel>"}`, `pending old/key {"text":"Ada <!channel>"} same`},
		{"same", "a", `{"text":"old"}`, `pending old/key {"text":"Ada <!channel>"} renewed`},
		{"same", "a", ``, `pending thing/1 {"text":"Ada <!channel>"} renewed`},
		{"other", "a", `{"text":"old"}`, `pending old/key {"text":"new 40"} renewed`},
		{"other", "b", `{}`, `pending old/key {"record":{"n":{"has_old":false,"new":40.0,"has_new":true}}} renewed`},
		{"says_yes", "a", `{}`, `pending old/key {"text":"yes"} renewed`},
		{"this_type", "a", `{}`, `pending old/key {"text":"typed"} renewed`},
		{"says_no", "a", `{"text":"old"}`, `skipped old/key {"text":"old"} route "says_no" does not send this event any more`},
		{"other_source", "a", `{}`, `skipped old/key {} route "other_source" does not send this event any more`},
		{"other_type", "a", `{}`, `skipped old/key {} route "other_type" does not send this event any more`},
		{"when_fails", "a", `{"text":"old"}`, `dead old/key {"text":"old"} config.hcl:1,1`},
		{"fails", "a", ``, `dead -  config.hcl:1,`},
		{"order_fails", "a", ``, `dead -  config.hcl:1,`},
		{"order_fails", "a", `{}`, `pending old/key {"text":"Ada <!channel>"} renewed`},
		{"gone", "a", `{}`, `dead old/key {} the configuration has no route "gone" that sends to sink "a"`},
		{"same", "b", `{}`, `dead old/key {} the configuration has no route "same" that sends to sink "b"`},
	} {
		req, ev := request()
		ev.Changes = []byte(`{"n":{"new":40.0}}`)
		d := &core.Delivery{
			Route: tt.route, Sink: tt.sink, OrderKey: "old/key", Event: ev, ConfigDigest: "before", SchemaDigest: "schema",
			State: core.DeliveryPending, AttributePath: []string{"x"}, RouteRange: "config.hcl:99,1",
		}
		if tt.message == "" {
			d.OrderKey = ""
		} else {
			d.Message = []byte(tt.message)
		}
		if r.Current(d) {
			t.Errorf("%s to %s is said to be current", tt.route, tt.sink)
		}
		r.Render(d, req)
		got := fmt.Sprintf("%s %s %s ", d.State, cmp.Or(d.OrderKey, "-"), d.Message)
		switch {
		case d.State != core.DeliveryPending:
			got += cmp.Or(d.RouteRange, d.Reason)
			if d.Renewed || d.ConfigDigest != "before" {
				t.Errorf("%s to %s is %s and renewed", tt.route, tt.sink, d.State)
			}
		case d.Renewed:
			got += "renewed"
		default:
			got += "same"
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s to %s with %q: got\n%s\nwant\n%s", tt.route, tt.sink, tt.message, got, tt.want)
		}
		if d.State != core.DeliveryPending {
			continue
		}
		if !r.Current(d) || d.Reason != "" || d.AttributePath != nil || d.RouteRange != "" {
			t.Errorf("%s to %s is rendered, and %+v", tt.route, tt.sink, d)
		}
		// It is what the router would make of it, but for its order key.
		fresh, err := table.Router("people").Route(nil, req, ev)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fresh {
			if f.Route != d.Route || f.Sink != d.Sink || tt.route == "order_fails" {
				continue
			}
			if diff := gocmp.Diff([]string{string(f.Message), f.SchemaDigest, f.ConfigDigest},
				[]string{string(d.Message), d.SchemaDigest, d.ConfigDigest}); diff != "" {
				t.Errorf("%s to %s (-routed +rendered)\n%s", tt.route, tt.sink, diff)
			}
		}
	}

	_, ev := request()
	current := core.Delivery{
		Route: "same", Sink: "a", Event: ev, Message: []byte("{}"), ConfigDigest: "digest", SchemaDigest: "schema",
	}
	for what, change := range map[string]func(*core.Delivery){
		"another schema": func(d *core.Delivery) { d.SchemaDigest = "old" },
		"another config": func(d *core.Delivery) { d.ConfigDigest = "old" },
		"no message":     func(d *core.Delivery) { d.Message, d.AsIs = nil, true },
		"no route":       func(d *core.Delivery) { d.Route = "gone" },
	} {
		d := current
		if change(&d); !r.Current(&current) || r.Current(&d) {
			t.Errorf("%s is taken for current, or nothing is", what)
		}
		if d.Message == nil {
			continue
		}
		if d.AsIs = true; !r.Current(&d) {
			t.Errorf("%s is not to be delivered as it is", what)
		}
	}
}
