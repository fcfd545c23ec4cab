package route

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, eventType string
		want               bool
	}{
		{"a.b.c", "a.b.c", true},
		{"a.b", "a.b.c", false},
		{"a.*", "a.b.c", true},
		{"a.*", "a.", true},
		{"a.*", "a", false},
		{"*.deleted", "youforce.person.deleted", true},
		{"*.deleted", "youforce.person.deleted.not", false},
		{"acculynx.job.milestone*", "acculynx.job.milestone.current_changed", true},
		{"acculynx.job.milestone*", "acculynx.job.milestone_changed", true},
		{"*", "anything.at.all", true},
		{"a*b*c", "axxbyyc", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"**", "x", true},
		{"*b*b", "ab", false},
	} {
		if got := Match(tt.pattern, tt.eventType); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.pattern, tt.eventType, got)
		}
	}
}

// builder compiles routes from HCL, as package config does.
type builder struct {
	t   testing.TB
	set *expr.Set
}

func (b builder) expr(src string) hcl.Expression {
	b.t.Helper()
	e, diags := hclsyntax.ParseExpression([]byte(src), "config.hcl", hcl.Pos{Line: 1, Column: 1})
	if diags.HasErrors() {
		b.t.Fatal(diags)
	}
	return e
}

func (b builder) when(src string) *expr.Condition {
	b.t.Helper()
	c, diags := b.set.Condition(b.expr(src))
	if diags.HasErrors() {
		b.t.Fatal(diags)
	}
	return c
}

func (b builder) text(src string) *expr.Text {
	b.t.Helper()
	text, diags := b.set.Text(b.expr(src))
	if diags.HasErrors() {
		b.t.Fatal(diags)
	}
	return text
}

func (b builder) to(sink, src string) To {
	b.t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(src), "config.hcl", hcl.Pos{Line: 1, Column: 1})
	if diags.HasErrors() {
		b.t.Fatal(diags)
	}
	attrs, diags := f.Body.JustAttributes()
	if diags.HasErrors() {
		b.t.Fatal(diags)
	}
	schema := sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
		{Name: "text", Schema: sdk.Schema{Kind: sdk.KindString, Optional: true}},
		{Name: "record", Schema: sdk.Schema{Kind: sdk.KindAny, Optional: true}},
	}}
	m, diags := b.set.Message(attrs, &schema, f.Body.MissingItemRange())
	if diags.HasErrors() {
		b.t.Fatal(diags)
	}
	return To{Sink: sink, Message: m, OrderBy: b.text("event.partitionkey"), SchemaDigest: "schema", Range: "config.hcl:1,1-2"}
}

func request() (*core.Request, *core.Event) {
	body := []byte(`{"name":"Ada <!channel>","n":40.0,"team":null}`)
	r := &core.Request{Seq: 7, Source: "people", ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Body: body}
	ev := &core.Event{
		Envelope:   sdk.Envelope{ID: core.EventID(r.Dedupe, 0, 0), Type: "x.thing.created", Source: "urn:grapnel:source:people", PartitionKey: "thing/1"},
		RequestSeq: 7, Data: body,
	}
	return r, ev
}

func TestRoute(t *testing.T) {
	b := builder{t, expr.NewSet(nil, nil)}
	table := NewTable([]Route{
		{Name: "all", To: []To{b.to("a", `text = event.data.name`), b.to("b", `record = event.data.n`)}},
		{Name: "other_source", Sources: []string{"hr"}, To: []To{b.to("a", `text = "no"`)}},
		{Name: "other_type", On: []string{"y.*", "x.thing.deleted"}, To: []To{b.to("a", `text = "no"`)}},
		{Name: "not_now", When: b.when(`event.data.n > 41`), To: []To{b.to("a", `text = "no"`)}},
		{Name: "matches", Sources: []string{"people"}, On: []string{"*.created"}, When: b.when(`event.data.n == 40`), To: []To{b.to("a", `text = "yes"`)}},
		{Name: "fails", When: b.when(`event.data.name > 3`), To: []To{b.to("a", `text = "no"`)}},
		{Name: "null_in_text", To: []To{b.to("a", `text = "team ${event.data.team}"`)}},
	}, b.set, "digest")
	r, ev := request()
	ds, err := table.Router("people").Route(nil, r, ev)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, d := range ds {
		if d.Key != core.NewDeliveryKey(7, 0, i) || d.ConfigDigest != "digest" || d.SchemaDigest != "schema" || d.Event != ev {
			t.Errorf("delivery %d is %+v", i, d)
		}
		line := fmt.Sprintf("%s %s %s %s", d.Route, d.Sink, d.State, d.Message)
		if d.State == core.DeliveryDead {
			if d.Reason == "" || !strings.HasPrefix(d.RouteRange, "config.hcl:1,") {
				t.Errorf("%s is dead for %q at %q", d.Route, d.Reason, d.RouteRange)
			}
		}
		if d.OrderKey != "thing/1" { // those that are dead may hold it
			t.Errorf("the order key of %s is %q", d.Route, d.OrderKey)
		}
		got = append(got, line)
	}
	want := []string{
		`all a pending {"text":"Ada <!channel>"}`,
		`all b pending {"record":40.0}`,
		`matches a pending {"text":"yes"}`,
		`fails a dead `,
		`null_in_text a dead `,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if ds, err := table.Router("hr").Route(nil, r, ev); err != nil || len(ds) != 5 {
		t.Errorf("hr: %d deliveries, %v", len(ds), err)
	}
}

func TestTooManyDeliveries(t *testing.T) {
	b := builder{t, expr.NewSet(nil, nil)}
	to := b.to("a", ``)
	routes := make([]Route, core.MaxDeliveries+1)
	for i := range routes {
		routes[i] = Route{Name: fmt.Sprint("r", i), To: []To{to}}
	}
	r, ev := request()
	if _, err := NewTable(routes, b.set, "").Router("people").Route(nil, r, ev); err == nil {
		t.Error("no error")
	}
}

func TestRouterForgetsTypes(t *testing.T) {
	b := builder{t, expr.NewSet(nil, nil)}
	router := NewTable([]Route{{Name: "all", On: []string{"x.*"}, To: []To{b.to("a", ``)}}}, b.set, "").Router("people")
	r, ev := request()
	for i := range 3 * maxTypes {
		ev.Type = fmt.Sprint("x.", i)
		if ds, err := router.Route(nil, r, ev); err != nil || len(ds) != 1 {
			t.Fatal(len(ds), err)
		}
	}
	if len(router.byType) > maxTypes {
		t.Errorf("%d types are remembered", len(router.byType))
	}
}

// BenchmarkRoutes has the same ten routes match among ten and among a thousand. The others listen to other types; in the
// second pair they listen to the same type and say no.
func BenchmarkRoutes(b *testing.B) {
	for _, silent := range []string{"other types", "when is false"} {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", silent, n), func(b *testing.B) {
				c := builder{b, expr.NewSet(nil, nil)}
				var routes []Route
				for i := range n {
					r := Route{Name: fmt.Sprint("r", i), On: []string{"x.thing.*"}, To: []To{c.to("a", `record = { name = event.data.name, n = event.data.n }`)}}
					r.When = c.when(`event.data.n == 40 && event.data.name != null`)
					if i >= 10 {
						if silent == "other types" {
							r.On = []string{fmt.Sprintf("y%d.*", i)}
						} else {
							r.When = c.when(fmt.Sprintf(`event.data.name == "n%d"`, i))
						}
					}
					routes = append(routes, r)
				}
				router := NewTable(routes, c.set, "").Router("people")
				r, ev := request()
				var ds []*core.Delivery
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if ds, err = router.Route(ds[:0], r, ev); err != nil || len(ds) != 10 {
						b.Fatal(len(ds), err)
					}
				}
			})
		}
	}
}
