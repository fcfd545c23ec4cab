package expr

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// outline writes a trace as an indented list.
func outline(b *strings.Builder, depth int, s Step) {
	value := string(s.Value)
	switch {
	case s.Error != nil:
		value = "! " + s.Error.Summary
	case s.Absent:
		value += " (absent)"
	case s.Bytes > 0:
		value = fmt.Sprint(s.Bytes, " bytes")
	}
	if s.Unused {
		value += " -"
	}
	fmt.Fprintf(b, "%s%s%s: %s = %s\n", strings.Repeat("  ", depth), s.Kind, s.Op, s.Source, value)
	for _, part := range s.Steps {
		outline(b, depth+1, part)
	}
}

func traceSet(src string) (*Set, hcl.Expression, error) {
	set := NewSet(map[string]cty.Value{"local": cty.ObjectVal(map[string]cty.Value{
		"teams": cty.TupleVal([]cty.Value{cty.StringVal("a"), cty.StringVal("b")}),
	})}, nil)
	set.SetSources(map[string][]byte{"config.hcl": []byte(src)})
	e, diags := hclsyntax.ParseExpression([]byte(src), "config.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	return set, e, nil
}

func TestTrace(t *testing.T) {
	ev := &core.Event{
		Envelope: sdk.Envelope{Type: "x.thing.created"},
		Data: []byte(`{"n":1.50,"flag":true,"no":false,"name":"Ada","none":null,"list":[{"id":1},{"id":2}],"big":"` +
			strings.Repeat("x", MaxStepValue) + `"}`),
		Changes: []byte(`{"n":{"new":2}}`),
	}
	for src, want := range map[string]string{
		`event.data.n == 1.5`: `
comparison==: event.data.n == 1.5 = true
  reference: event.data.n = 1.50
`,
		"(event.data.no &&\n    event.data.none.x && event.data.name > 3)": `
and: event.data.no && event.data.none.x && event.data.name > 3 = false
  reference: event.data.no = false
  reference: event.data.none.x = null (absent) -
  comparison>: event.data.name > 3 = ! Invalid operand -
    reference: event.data.name = "Ada" -
`,
		`event.data.no || !(event.data.flag && contains(local.teams, event.data.name)) || true`: `
or: event.data.no || !(event.data.flag && contains(local.teams, event.data.name)) || true = true
  reference: event.data.no = false
  not: !(event.data.flag && contains(local.teams, event.data.name)) = true
    and: event.data.flag && contains(local.teams, event.data.name) = false
      reference: event.data.flag = true
      callcontains: contains(local.teams, event.data.name) = false
        constant: local.teams = ["a","b"]
        reference: event.data.name = "Ada"
`,
		`event.data.flag ? event.data.name == "Ada" : event.data.name > 3`: `
conditional: event.data.flag ? event.data.name == "Ada" : event.data.name > 3 = true
  reference: event.data.flag = true
  comparison==: event.data.name == "Ada" = true
    reference: event.data.name = "Ada"
  comparison>: event.data.name > 3 = ! Invalid operand -
    reference: event.data.name = "Ada" -
`,
		`"${event.data.name} ${event.data.none}" != "x"`: `
comparison!=: "${event.data.name} ${event.data.none}" != "x" = ! Invalid template interpolation value
  text: "${event.data.name} ${event.data.none}" = ! Invalid template interpolation value
    reference: event.data.name = "Ada"
    reference: event.data.none = null
`,
		`length([for x in event.data.list : x.id if x.id > 1]) + event.data.list[0].id > length(event.data.list[*].id)`: `
comparison>: length([for x in event.data.list : x.id if x.id > 1]) + event.data.list[0].id > length(event.data.list[*].id) = false
  operation+: length([for x in event.data.list : x.id if x.id > 1]) + event.data.list[0].id = 2
    calllength: length([for x in event.data.list : x.id if x.id > 1]) = 1
      for: [for x in event.data.list : x.id if x.id > 1] = [2]
        reference: event.data.list = [{"id":1},{"id":2}]
    reference: event.data.list[0].id = 1
  calllength: length(event.data.list[*].id) = 2
    for: event.data.list[*].id = [1,2]
      reference: event.data.list = [{"id":1},{"id":2}]
`,
		`event.changes["n"].has_old == event.changes["n"].has_new || present(event.data.gone) || event.data.big == ""`: `
or: event.changes["n"].has_old == event.changes["n"].has_new || present(event.data.gone) || event.data.big == "" = false
  comparison==: event.changes["n"].has_old == event.changes["n"].has_new = false
    reference: event.changes["n"].has_old = false
    reference: event.changes["n"].has_new = true
  callpresent: present(event.data.gone) = false
    reference: event.data.gone = null (absent)
  comparison==: event.data.big == "" = false
    reference: event.data.big = 16386 bytes
`,
		`event.data.name.first == "x"`: `
comparison==: event.data.name.first == "x" = ! Unsupported attribute
  reference: event.data.name.first = ! Unsupported attribute
`,
	} {
		set, e, err := traceSet(src)
		if err != nil {
			t.Fatal(err)
		}
		c, diags := set.Condition(e)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		rec := set.NewRecord()
		rec.Reset(ev, nil)
		before, evalErr := c.Eval(rec)
		s := c.Trace(rec)
		var b strings.Builder
		outline(&b, 0, s)
		if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), b.String()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", src, diff)
		}
		if (evalErr != nil) != (s.Error != nil) || evalErr == nil && string(s.Value) != fmt.Sprint(before) {
			t.Errorf("%s: %t, %v, but the trace says %s, %v", src, before, evalErr, s.Value, s.Error)
		}
		if after, err := c.Eval(rec); after != before || (err == nil) != (evalErr == nil) {
			t.Errorf("%s: tracing has changed the record", src)
		}
	}
}

func TestTraceMessage(t *testing.T) {
	src := `
b = "Hi ${raw(event.data.name)}"
a = { id = event.data.id, list = [event.data.name, "x", 1 + 1] }
`
	set, _, err := traceSet("1")
	if err != nil {
		t.Fatal(err)
	}
	set.SetSources(map[string][]byte{"config.hcl": []byte(src)})
	f, diags := hclsyntax.ParseConfig([]byte(src), "config.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	attrs, _ := f.Body.JustAttributes()
	m, diags := set.Message(attrs, &sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
		{Name: "a", Schema: sdk.Schema{Kind: sdk.KindAny}},
		{Name: "b", Schema: sdk.Schema{Kind: sdk.KindString, Escape: sdk.EscapeHTML}},
	}}, hcl.Range{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := set.NewRecord()
	rec.Reset(&core.Event{Data: []byte(`{"name":"A & B"}`)}, nil)
	var b strings.Builder
	for _, a := range m.Trace(rec) {
		fmt.Fprintln(&b, a.Name)
		outline(&b, 1, a.Step)
	}
	want := `b
  text: "Hi ${raw(event.data.name)}" = "Hi A & B"
    callraw: raw(event.data.name) = "A & B"
      reference: event.data.name = "A & B"
a
  object: { id = event.data.id, list = [event.data.name, "x", 1 + 1] } = {"list":["A & B","x",2]}
    reference: event.data.id = null (absent)
    list: [event.data.name, "x", 1 + 1] = ["A & B","x",2]
      reference: event.data.name = "A & B"
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestTraceIsBounded traces an expression that is slow in each of its many parts.
func TestTraceIsBounded(t *testing.T) {
	part := `length([for x in event.data : [for y in event.data : y]]) > 0`
	set, e, err := traceSet(strings.Repeat(part+" && ", 200) + part)
	if err != nil {
		t.Fatal(err)
	}
	c, diags := set.Condition(e)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := set.NewRecord()
	rec.Reset(&core.Event{Data: []byte("[" + strings.Repeat("1,", 300) + "1]")}, nil)
	s := c.Trace(rec)
	last := s.Steps[len(s.Steps)-1]
	if len(s.Steps) != 201 || last.Error == nil || last.Error.Summary != "Not evaluated" {
		t.Errorf("%d parts, the last with %v", len(s.Steps), last.Error)
	}
}
