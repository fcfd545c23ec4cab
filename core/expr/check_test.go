package expr

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// A record with all that matters: what may be absent, null or both, objects and lists of such, and types that differ.
type oneData struct {
	ID     int64   `json:"id"`
	Name   string  `json:"name"`
	Nick   *string `json:"nick"`
	Title  *string `json:"title,omitempty"`
	Active *bool   `json:"active"`
	Unit   *string `json:"unit" enum:"days|hours"`
	Only   *string `json:"only"`
	Boss   *struct {
		Name  string  `json:"name"`
		Email *string `json:"email"`
	} `json:"boss"`
	Lines *[]struct {
		Text  *string `json:"text"`
		Total int64   `json:"total"`
	} `json:"lines"`
	Fields map[string]string `json:"fields"`
	Extra  json.RawMessage   `json:"extra"`
}

type twoData struct {
	ID   int64   `json:"id"`
	Name string  `json:"name"`
	Nick *string `json:"nick"`
	Unit *string `json:"unit" enum:"days|hours"`
	Boss *struct {
		Name  string  `json:"name"`
		Email *string `json:"email"`
	} `json:"boss"`
}

func testTypes() []KnownType {
	one, two := sdk.MustSchema[oneData](), sdk.MustSchema[twoData]()
	return []KnownType{
		{Source: "s", Provider: "p", Type: "p.one.created", Data: &one},
		{Source: "s", Provider: "p", Type: "p.one.updated", Data: &one},
		{Source: "s", Provider: "p", Type: "p.two.created", Data: &two},
		{Source: "s", Provider: "p"},
	}
}

// randomRecord makes a record that meets a schema; each value that may be null or absent is so half of the time.
func randomRecord(r *rand.Rand, s *sdk.Schema) any {
	if s.Nullable && r.IntN(3) == 0 {
		return nil
	}
	switch s.Kind {
	case sdk.KindString:
		if len(s.Enum) > 0 {
			return s.Enum[r.IntN(len(s.Enum))]
		}
		return []string{"a", "b", "", "Ada"}[r.IntN(4)]
	case sdk.KindBool:
		return r.IntN(2) == 0
	case sdk.KindNumber, sdk.KindInteger:
		return r.IntN(10)
	case sdk.KindObject:
		m := map[string]any{}
		for i := range s.Attributes {
			if a := &s.Attributes[i]; !a.Schema.Optional || r.IntN(3) > 0 {
				m[a.Name] = randomRecord(r, &a.Schema)
			}
		}
		return m
	case sdk.KindList:
		l := []any{}
		for range r.IntN(3) {
			l = append(l, randomRecord(r, s.Element))
		}
		return l
	case sdk.KindMap:
		m := map[string]any{}
		for range r.IntN(3) {
			m[string(rune('a'+r.IntN(3)))] = randomRecord(r, s.Element)
		}
		return m
	}
	return "any"
}

// author writes random expressions of the kinds whose failures depend on nulls and types alone, never on values.
type author struct{ r *rand.Rand }

func (a *author) pick(options ...string) string { return options[a.r.IntN(len(options))] }

func (a *author) text(depth int) string {
	if depth <= 0 || a.r.IntN(4) == 0 {
		return a.pick(`"x"`, "event.data.name", "event.data.nick", "event.data.title", "event.data.unit",
			"event.data.boss.name", "event.data.boss.email", "event.data.only", `event.data.fields["a"]`, "event.type",
			"event.data.lines[0].text", `event.changes["a"].new`)
	}
	d := depth - 1
	switch a.r.IntN(9) {
	case 0:
		return fmt.Sprintf(`"<${%s}>"`, a.text(d))
	case 1:
		return fmt.Sprintf("upper(%s)", a.text(d))
	case 2:
		return fmt.Sprintf("coalesce(%s, %s)", a.text(d), a.text(d))
	case 3:
		return fmt.Sprintf("(%s ? %s : %s)", a.truth(d), a.text(d), a.text(d))
	case 4:
		return fmt.Sprintf("try(%s, %s)", a.text(d), a.text(d))
	case 5:
		return fmt.Sprintf(`join(",", [%s, %s])`, a.text(d), a.text(d))
	case 6:
		return fmt.Sprintf(`join(",", [for l in coalesce(event.data.lines, []) : l.text if %s])`,
			a.pick("l.text != null", "l.total > 1", "true", "l.text != null && l.text != event.data.nick"))
	case 7:
		return fmt.Sprintf("replace(%s, %s, %s)", a.text(d), a.text(d), a.text(d))
	}
	return a.text(d)
}

func (a *author) truth(depth int) string {
	if depth <= 0 || a.r.IntN(5) == 0 {
		return a.pick("true", "event.data.active", `event.type == "p.one.created"`, `startswith(event.type, "p.one.")`,
			"present(event.data.nick)", "event.data.nick != null", "event.data.boss != null", "event.data.title == null",
			`event.type != "p.two.created"`, `event.changes["a"].has_new`, `event.changes["a"] != null`)
	}
	d := depth - 1
	switch a.r.IntN(9) {
	case 0:
		return fmt.Sprintf("(%s && %s)", a.truth(d), a.truth(d))
	case 1:
		return fmt.Sprintf("(%s || %s)", a.truth(d), a.truth(d))
	case 2:
		return "!" + a.truth(d)
	case 3:
		return fmt.Sprintf("(%s == %s)", a.text(d), a.text(d))
	case 4:
		return fmt.Sprintf("(%s != null)", a.text(d))
	case 5:
		return fmt.Sprintf("(%s ? %s : %s)", a.truth(d), a.truth(d), a.truth(d))
	case 6:
		return fmt.Sprintf("coalesce(%s, false)", a.truth(d))
	case 7:
		return fmt.Sprintf("startswith(%s, %s)", a.text(d), a.text(d))
	}
	return fmt.Sprintf("can(%s)", a.text(d))
}

var quietRoutes = flag.Int("quiet", 50, "how many routes without a finding to try")

// TestNoFindingNoFailure makes random routes. One about which the Checker has nothing to say does not fail on any event
// that meets its type's schema.
func TestNoFindingNoFailure(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a := &author{r}
	types := testTypes()
	message := sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{{Name: "text", Schema: sdk.Schema{Kind: sdk.KindString}}}}
	quiet, loud := 0, 0
	for quiet < *quietRoutes {
		when, arg := a.truth(3), a.text(3)
		s := NewSet(nil, nil)
		cond, diags := s.Condition(parse(t, when))
		if diags.HasErrors() {
			continue
		}
		m, diags := s.Message(map[string]*hcl.Attribute{"text": {Name: "text", Expr: parse(t, arg)}}, &message, hcl.Range{})
		if diags.HasErrors() {
			continue
		}
		c := NewChecker(s, types)
		c.Route(CheckedRoute{Takes: func(string, string) bool { return true }, When: cond, Messages: []*Message{m}})
		if len(c.Diagnostics()) > 0 {
			loud++
			continue
		}
		quiet++
		rec := s.NewRecord()
		for range 40 {
			k := types[r.IntN(3)]
			data, _ := json.Marshal(randomRecord(r, k.Data))
			ev := &core.Event{Data: data}
			ev.Type, ev.Provider, ev.ID, ev.Time = k.Type, k.Provider, "i", "2026-01-02T03:04:05Z"
			switch r.IntN(3) {
			case 0:
				ev.Changes = []byte(`{"a":{"old":"x","new":"y"}}`)
			case 1:
				ev.Changes = []byte(`{"a":{"new":null}}`)
			}
			rec.Reset(ev, nil)
			ok, err := cond.Eval(rec)
			if err != nil {
				t.Fatalf("when = %s\non %s %s %s\n%v", when, ev.Type, data, ev.Changes, err)
			}
			if !ok {
				continue
			}
			if _, err := m.Append(nil, rec); err != nil {
				t.Fatalf("when = %s\ntext = %s\non %s %s %s\n%v", when, arg, ev.Type, data, ev.Changes, err)
			}
		}
	}
	t.Logf("%d without a finding, %d with", quiet, loud)
}

// FuzzChecker checks expressions of all kinds for event types of all kinds: nothing panics, and the work is bounded.
func FuzzChecker(f *testing.F) {
	for _, src := range []string{
		`event.data.nick != null && startswith(event.data.nick, "a") || event.type == "p.two.created"`,
		`[for l in event.data.lines : l.text if l.text != null]`, `{for k, v in event.data.fields : k => v}`,
		`event.data.lines[*].total`, `event.data.lines[event.data.id].text`, `try(event.data.only, event.nothing)`,
		`"${event.data.boss} %{ if event.data.active }x%{ endif } %{ for l in event.data.lines }${l}%{ endfor }"`,
		`event.changes["a"].new.b[0]`, `coalesce(event.data.nick, [])`, `((((a||b)&&c)||d)&&e)`,
		`(event.data.active && (event.data.active || (event.data.active && (event.data.active || event.data.active))))`,
		`{ (event.data.nick) = event.data.extra.x[0], y = [event.data, event, request] }`, `event.data.id == "5"`,
		`!(event.type != "p.one.created") ? event.data.id + event.data.nick : merge(event.data, event.data.fields)`,
		`join(",", event.data.lines[*].text, ["x"]...)`, `event.type == event.provider`, `-event.data.nick`,
	} {
		f.Add(src)
	}
	types := testTypes()
	message := sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
		{Name: "text", Schema: sdk.Schema{Kind: sdk.KindString}},
		{Name: "list", Schema: sdk.Schema{Kind: sdk.KindList, Element: &sdk.Schema{Kind: sdk.KindInteger}}},
		{Name: "map", Schema: sdk.Schema{Kind: sdk.KindMap, Element: &sdk.Schema{Kind: sdk.KindString}}},
		{Name: "any", Schema: sdk.Schema{Kind: sdk.KindAny}},
		{Name: "object", Schema: sdk.MustSchema[oneData]()},
	}}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 4<<10 || strings.Count(src, "?")+strings.Count(src, "(")+strings.Count(src, "[")+strings.Count(src, "{") > 100 {
			return // configurations are refused that nest deeper
		}
		e, diags := hclsyntax.ParseExpression([]byte(src), "x", hcl.InitialPos)
		if diags.HasErrors() {
			return
		}
		s := NewSet(nil, nil)
		route := CheckedRoute{Takes: func(_, eventType string) bool { return eventType != "p.one.updated" }}
		route.When, _ = s.Condition(e)
		if text, diags := s.Text(e); !diags.HasErrors() {
			route.OrderBy = []*Text{text}
		}
		for _, a := range message.Attributes {
			only := sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{a}}
			m, diags := s.Message(map[string]*hcl.Attribute{a.Name: {Name: a.Name, Expr: e}}, &only, hcl.Range{})
			if !diags.HasErrors() {
				route.Messages = append(route.Messages, m)
			}
		}
		c := NewChecker(s, types)
		c.Route(route)
		if c.spent > maxRouteChecks {
			t.Errorf("%d steps", c.spent)
		}
		for _, d := range c.Diagnostics() {
			if d.Summary == "" || d.Subject == nil || d.Subject.End.Byte > len(src) {
				t.Errorf("odd: %+v", d)
			}
		}
	})
}

// TestArgumentsThatNeverFit has calls whose arguments fit the parameters' types and fail on every event all the same.
func TestArgumentsThatNeverFit(t *testing.T) {
	types := []KnownType{{Source: "s", Type: "p.made", Provider: "p", Data: &sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
		{Name: "id", Schema: sdk.Schema{Kind: sdk.KindInteger}},
		{Name: "at", Schema: sdk.Schema{Kind: sdk.KindString}},
		{Name: "list", Schema: sdk.Schema{Kind: sdk.KindList, Element: &sdk.Schema{Kind: sdk.KindString}}},
		{Name: "any", Schema: sdk.Schema{Kind: sdk.KindAny}},
	}}}}
	for src, wrong := range map[string]bool{
		`date(event.data.id) == "x"`:                     true,
		`timecmp(event.time, event.data.id) > 0`:         true,
		`timeadd(event.data.id, "1h") == "x"`:            true,
		`formatdate("YYYY", event.data.id) == "x"`:       true,
		`tostring(event.data.list) == "x"`:               true,
		`tonumber(event.data.list) == 1`:                 true,
		`tostring(event.data.id) == "1"`:                 false,
		`tonumber(event.data.at) == 1`:                   false,
		`date(event.data.at) == "x"`:                     false,
		`date(event.data.any) == "x"`:                    false,
		`timecmp(event.time, request.received_at) > 0`:   false,
		`formatdate("YYYY", event.time) == "x"`:          false,
		`event.data.any == null || can(date("2026"))`:    false,
		`try(date(event.data.id), "2026-01-01") == "x"`:  false,
		`tostring(event.data.any) == "x"`:                false,
		`timeadd(event.data.at, "1h") == event.data.any`: false,
	} {
		s := NewSet(nil, nil)
		cond, diags := s.Condition(parse(t, src))
		if diags.HasErrors() {
			t.Fatalf("%s: %v", src, diags)
		}
		c := NewChecker(s, types)
		c.Route(CheckedRoute{Takes: func(string, string) bool { return true }, When: cond})
		if found := c.Diagnostics(); found.HasErrors() != wrong {
			t.Errorf("%s: %v", src, found)
		}
	}
}
