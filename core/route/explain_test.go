package route

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/expr"
)

func TestExplain(t *testing.T) {
	b := builder{t, expr.NewSet(nil, nil)}
	table := NewTable([]Route{
		{Name: "all", To: []To{b.to("a", `text = event.data.name`), b.to("b", `record = event.data.n`)}, Range: "config.hcl:7,1"},
		{Name: "other_source", Sources: []string{"hr"}, To: []To{b.to("a", `text = "no"`)}},
		{Name: "other_type", On: []string{"y.*", "x.thing.deleted"}, To: []To{b.to("a", `text = "no"`)}},
		{Name: "not_now", When: b.when(`event.data.n > 41`), To: []To{b.to("a", `text = "no"`)}},
		{Name: "now", On: []string{"*.created", "z", "x.*"}, When: b.when(`event.data.n > 39`), To: []To{b.to("a", `text = "yes"`)}},
		{Name: "fails", When: b.when(`event.data.name > 3`), To: []To{b.to("a", `text = "no"`), b.to("b", ``)}},
		{Name: "null", To: []To{b.to("a", `text = "team ${event.data.team}"`)}},
		{Name: "idle", Sources: []string{"people"}},
	}, b.set, "digest")
	r, ev := request()
	got, err := table.Explainer().Explain(r, ev)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range got {
		line := fmt.Sprintf("%s %s %v", e.Route, e.Verdict, e.Matches)
		if e.When != nil {
			line += fmt.Sprintf(" when %s", e.When.Value)
		}
		if e.Error != nil {
			line += " " + e.Error.Summary
		}
		for _, to := range e.To {
			line += fmt.Sprintf("; %s %s %s %d", to.Sink, to.Message, to.OrderKey, len(to.Arguments))
			if (to.Dead != "") != (to.DeadRange != "") || to.Dead != "" && to.Message != nil {
				t.Errorf("%s: %+v", e.Route, to)
			}
			if to.Dead != "" {
				line += " dead"
			}
			if to.OrderBy != nil && string(to.OrderBy.Value) != `"thing/1"` {
				t.Errorf("%s: order_by is %s", e.Route, to.OrderBy.Value)
			}
		}
		lines = append(lines, line)
	}
	want := []string{
		`all sends []; a {"text":"Ada <!channel>"} thing/1 1; b {"record":40.0} thing/1 1`,
		`other_source source []`,
		`other_type type []`,
		`not_now when [] when false`,
		`now sends [*.created x.*] when true; a {"text":"yes"} thing/1 1`,
		`fails fails [] when  Invalid operand; a  thing/1 0 dead; b  thing/1 0 dead`,
		`null sends []; a  thing/1 1 dead`,
		`idle sends []`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got[0].Range != "config.hcl:7,1" {
		t.Errorf("the range is %q", got[0].Range)
	}
}
