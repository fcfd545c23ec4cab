package expr

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

var testConsts = map[string]cty.Value{"local": cty.ObjectVal(map[string]cty.Value{
	"greeting": cty.StringVal("Hello"),
	"field":    cty.StringVal("fte"),
	"limit":    cty.NumberIntVal(30),
	"names":    cty.ObjectVal(map[string]cty.Value{"42": cty.StringVal("forty-two")}),
	"list":     cty.TupleVal([]cty.Value{cty.StringVal("a"), cty.StringVal("b")}),
	"secret":   cty.StringVal("hunter2").Mark(Sensitive),
})}

func testEvent(data, changes string) (*core.Event, *core.Request) {
	ev := &core.Event{
		Envelope: sdk.Envelope{
			ID: "evt_1", Source: "urn:grapnel:source:people", Type: "peopleforce.employee.updated",
			Subject: "employee/4101", Time: "2026-02-14T08:30:00Z", PartitionKey: "employee/4101",
			Provider: "peopleforce", Operation: "updated",
		},
		Data: []byte(data), Changes: []byte(changes),
	}
	req := &core.Request{
		Source:     "people",
		ReceivedAt: time.Date(2026, 2, 14, 8, 30, 5, 250_000_000, time.UTC),
		Headers: []sdk.Header{
			{Name: "content-type", Value: "application/json"}, {Name: "x-kind", Value: `a "b"`}, {Name: "x-kind", Value: "c"},
		},
	}
	return ev, req
}

func parse(t testing.TB, text string) hclsyntax.Expression {
	t.Helper()
	e, diags := hclsyntax.ParseExpression([]byte(text), "test.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", text, diags)
	}
	return e
}

var anySchema = &sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
	{Name: "v", Schema: sdk.Schema{Kind: sdk.KindAny, Optional: true, Nullable: true}},
}}

func newTestSet(hclOnly bool) *Set {
	s := NewSet(testConsts, nil)
	s.hclOnly = hclOnly
	return s
}

// argument evaluates an expression as an attribute of any kind: its JSON, "absent", or an error of compiling or
// evaluating.
func argument(s *Set, e hcl.Expression, ev *core.Event, req *core.Request) (string, error) {
	m, diags := s.Message(map[string]*hcl.Attribute{"v": {Name: "v", Expr: e}}, anySchema, hcl.Range{})
	if diags.HasErrors() {
		return "", diags
	}
	rec := s.NewRecord()
	rec.Reset(ev, req)
	out, err := m.Append(nil, rec)
	if err != nil {
		return "", err
	}
	if string(out) == "{}" {
		return "absent", nil
	}
	return string(out[len(`{"v":`) : len(out)-1]), nil
}

// plain evaluates an expression by hcl alone, on the whole event.
func plain(e hclsyntax.Expression, ev *core.Event, req *core.Request) (string, error) {
	s := NewSet(testConsts, nil)
	rec := s.NewRecord()
	rec.Reset(ev, req)
	build := func(kind refKind) cty.Value {
		v, _, diags := rec.ctyValue(&reference{kind: kind})
		if diags.HasErrors() {
			panic(diags)
		}
		return v
	}
	event := build(refEvent).AsValueMap()
	event["raw"] = event["data"]
	v, diags := e.Value(&hcl.EvalContext{Functions: Functions(), Variables: map[string]cty.Value{
		"event": cty.ObjectVal(event), "request": build(refRequest), "local": testConsts["local"],
	}})
	if diags.HasErrors() {
		return "", diags
	}
	if !v.IsWhollyKnown() {
		return "", errors.New("unknown")
	}
	out, bad := appendAny(nil, v, &sdk.Schema{Kind: sdk.KindAny}, false)
	if bad != nil {
		return "", bad.at(e.Range(), nil)
	}
	return string(out), nil
}

// sameJSON compares two JSON texts as hcl values: numbers by value, texts in normal form.
func sameJSON(a, b string) bool {
	nodesA, nodesB := maxNodes, maxNodes
	x, okA := valueOf([]byte(a), 64, &nodesA)
	y, okB := valueOf([]byte(b), 64, &nodesB)
	return okA && okB && x.RawEquals(y)
}

func TestCorpus(t *testing.T) {
	f, err := os.Open("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var data, changes string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case line == "" || line[0] == '#':
			continue
		case strings.HasPrefix(line, "data: "):
			data = line[len("data: "):]
			continue
		case strings.HasPrefix(line, "changes: "):
			changes = line[len("changes: "):]
			continue
		}
		text, want, ok := strings.Cut(line, " => ")
		if !ok {
			if text, want, ok = strings.Cut(line, " =>! "); !ok {
				t.Fatalf("line %d has no arrow", n)
			}
			ok = false
		}
		ev, req := testEvent(data, changes)
		e := parse(t, text)
		checkResult := func(how, got string, err error) {
			t.Helper()
			if start, isErr := strings.CutPrefix(want, "error: "); isErr {
				if err == nil {
					t.Errorf("line %d: %s by %s: got %s, want an error", n, text, how, got)
				} else if !strings.Contains(err.Error(), start) && how != "plain hcl" {
					t.Errorf("line %d: %s by %s: got %v, want %s", n, text, how, err, want)
				}
				return
			}
			if err != nil {
				t.Errorf("line %d: %s by %s: %v", n, text, how, err)
			} else if got != want && !(how != "closures" && sameJSON(got, want)) {
				t.Errorf("line %d: %s by %s: got %s, want %s", n, text, how, got, want)
			}
			if got != "absent" && err == nil {
				if err := jsonscan.Check([]byte(got), jsonscan.DefaultLimits()); err != nil {
					t.Errorf("line %d: %s by %s: %s is no JSON: %v", n, text, how, got, err)
				}
			}
		}
		got, err := argument(newTestSet(false), e, ev, req)
		checkResult("closures", got, err)
		got, err = argument(newTestSet(true), e, ev, req)
		checkResult("hcl", got, err)
		if ok {
			got, err = plain(e, ev, req)
			checkResult("plain hcl", got, err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
