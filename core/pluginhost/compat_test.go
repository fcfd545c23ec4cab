package pluginhost

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

func object(attributes ...sdk.Attribute) sdk.Schema {
	return sdk.Schema{Kind: sdk.KindObject, Attributes: attributes}
}

func attr(name string, kind sdk.Kind, change ...func(*sdk.Schema)) sdk.Attribute {
	s := sdk.Schema{Kind: kind}
	for _, c := range change {
		c(&s)
	}
	return sdk.Attribute{Name: name, Schema: s}
}

func optional(s *sdk.Schema) { s.Optional = true }
func nullable(s *sdk.Schema) { s.Nullable = true }
func isPath(s *sdk.Schema)   { s.Format = sdk.FormatPath }
func byDefault(v string) func(*sdk.Schema) {
	return func(s *sdk.Schema) { s.Optional, s.Default = true, json.RawMessage(v) }
}
func oneOf(vs ...string) func(*sdk.Schema) { return func(s *sdk.Schema) { s.Enum = vs } }
func of(e sdk.Schema) func(*sdk.Schema)    { return func(s *sdk.Schema) { s.Element = &e } }
func with(as ...sdk.Attribute) func(*sdk.Schema) {
	return func(s *sdk.Schema) { s.Attributes = as }
}

func TestRefit(t *testing.T) {
	const str, num = sdk.KindString, sdk.KindNumber
	for _, test := range []struct {
		name       string
		old, other sdk.Schema
		config     string
		want       string // empty: as it was
		wrong      string // the first mistake
	}{
		{"the same", object(attr("a", str)), object(attr("a", str)), `{"a":"x"}`, "", ""},
		{"one that is optional comes", object(attr("a", str)), object(attr("a", str), attr("b", num, optional)), `{"a":"x"}`, "", ""},
		{"one with a default comes", object(attr("a", str)), object(attr("a", str), attr("b", num, byDefault(`1e3`))),
			`{"a":"x"}`, `{"a":"x","b":1e3}`, ""},
		{"one that is required comes", object(), object(attr("b", num)), `{}`, "", "b: The new version requires this attribute"},
		{"a path by default comes", object(), object(attr("b", str, isPath, byDefault(`"data"`))), `{}`, "",
			"b: The new version has a path here, with a default"},
		{"one goes", object(attr("a", str, optional)), object(), `{"a":"x"}`, "", "a: The new version has no such attribute"},
		{"one goes that is not set", object(attr("a", str, optional)), object(), `{}`, "", ""},
		{"one goes that the host filled in", object(attr("a", num, byDefault(`10.0`))), object(), `{"a":10}`, `{}`, ""},
		{"one goes with another value than its default", object(attr("a", num, byDefault(`10`))), object(), `{"a":11}`, "",
			"a: The new version has no such attribute"},
		{"another kind", object(attr("a", str)), object(attr("a", num)), `{"a":"1"}`, "", "a: The new version takes a number here"},
		{"a text becomes a path", object(attr("a", str)), object(attr("a", str, isPath)), `{"a":"x"}`, "",
			"a: The new version takes a path here"},
		{"a path becomes a text", object(attr("a", str, isPath)), object(attr("a", str)), `{"a":"/x"}`, "", ""},
		{"an integer is a number", object(attr("a", sdk.KindInteger)), object(attr("a", num)), `{"a":1}`, "", ""},
		{"a number that is whole", object(attr("a", num)), object(attr("a", sdk.KindInteger)), `{"a":12}`, "", ""},
		{"a number that is not", object(attr("a", num)), object(attr("a", sdk.KindInteger)), `{"a":1.5}`, "",
			"a: The new version takes an integer here"},
		{"a duration is no number", object(attr("a", sdk.KindDuration)), object(attr("a", num)), `{"a":1000}`, "",
			"a: The new version takes a number here"},
		{"a number is no duration", object(attr("a", num)), object(attr("a", sdk.KindDuration)), `{"a":1000}`, "",
			"a: The new version takes a duration here"},
		{"fewer values", object(attr("a", str, oneOf("x", "y"))), object(attr("a", str, oneOf("y"))), `{"a":"x"}`, "",
			"a: The new version does not take this value"},
		{"fewer values, not of this one", object(attr("a", str, oneOf("x", "y"))), object(attr("a", str, oneOf("y"))), `{"a":"y"}`, "", ""},
		{"null", object(attr("a", str, nullable)), object(attr("a", str)), `{"a":null}`, "", "a: The new version does not take null here"},
		{"any takes all", object(attr("a", str)), object(attr("a", sdk.KindAny)), `{"a":[{"b":null}]}`, "", ""},
		{"in lists and maps", object(attr("a", sdk.KindList, of(object(attr("b", str))))),
			object(attr("a", sdk.KindList, of(object(attr("b", str), attr("c", sdk.KindBool, byDefault("true")))))),
			`{"a":[{"b":"x"},{"b":"y","c":false}]}`, `{"a":[{"b":"x","c":true},{"b":"y","c":false}]}`, ""},
		{"wrong in a map", object(attr("a", sdk.KindMap, of(sdk.Schema{Kind: str}))),
			object(attr("a", sdk.KindMap, of(sdk.Schema{Kind: num}))), `{"a":{"k":"x"}}`, "", "a.k: The new version takes a number here"},
		{"an object is no list", object(attr("a", sdk.KindObject)), object(attr("a", sdk.KindList, of(sdk.Schema{Kind: str}))),
			`{"a":{}}`, "", "a: The new version takes a list here"},
		{"large numbers stay", object(attr("a", num)), object(attr("a", num), attr("b", str, byDefault(`"<&>"`))),
			`{"a":12345678901234567890.5}`, `{"a":12345678901234567890.5,"b":"<&>"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c refit
			got := string(c.config(&test.old, &test.other, []byte(test.config)))
			want := test.want
			if want == "" {
				want = test.config
			}
			if !sameJSON([]byte(got), []byte(want)) || test.want == "" && got != test.config {
				t.Errorf("configuration %s, want %s", got, want)
			}
			wrong := ""
			if len(c.attrs) > 0 {
				wrong = c.attrs[0].Error()
			}
			if !strings.HasPrefix(wrong, test.wrong) || test.wrong == "" && wrong != "" {
				t.Errorf("mistake %q, want %q", wrong, test.wrong)
			}
		})
	}
}

func TestMessageFit(t *testing.T) {
	const str, num = sdk.KindString, sdk.KindNumber
	html := func(s *sdk.Schema) { s.Escape = sdk.EscapeHTML }
	for _, test := range []struct {
		name       string
		old, other sdk.Schema
		uses       string // attributes
		fill       string
		problem    string
		note       string
	}{
		{name: "the same", old: object(attr("a", str)), other: object(attr("a", str))},
		{name: "texts for people", old: object(attr("a", str)),
			other: object(attr("a", str, func(s *sdk.Schema) { s.Description = "new" }))},
		{name: "an optional one comes", old: object(), other: object(attr("a", str, optional))},
		{name: "one with a default comes", old: object(), other: object(attr("a", str, byDefault(`"x"`))), fill: `,"a":"x"`},
		{name: "a required one comes", old: object(), other: object(attr("a", str)), problem: `messages must have "a", which no route sets`},
		{name: "one goes", old: object(attr("a", str)), other: object(), problem: `messages have no "a" any more`},
		{name: "one goes that no route sets", old: object(attr("a", str, optional)), other: object()},
		{name: "one goes that a route sets", old: object(attr("a", str, optional)), other: object(), uses: "a", problem: `no "a" any more`},
		{name: "one goes that the host fills in", old: object(attr("a", str, byDefault(`"x"`))), other: object(), problem: `no "a" any more`},
		{name: "another kind, not set", old: object(attr("a", str, optional)), other: object(attr("a", num, optional))},
		{name: "another kind", old: object(attr("a", str)), other: object(attr("a", num)), problem: "message.a was a string and is a number"},
		{name: "required that was optional", old: object(attr("a", str, optional)), other: object(attr("a", str)), uses: "a",
			problem: "message.a may not be left out any more"},
		{name: "required, and no route sets it", old: object(attr("a", str, optional)), other: object(attr("a", str)),
			problem: `messages must have "a"`},
		{name: "required that had a default", old: object(attr("a", str, byDefault(`"x"`))), other: object(attr("a", str))},
		{name: "optional that was required", old: object(attr("a", str)), other: object(attr("a", str, optional))},
		{name: "a default for what routes may leave out", old: object(attr("a", str, optional)), other: object(attr("a", str, byDefault(`"x"`))),
			uses: "a", problem: "message.a has a default"},
		{name: "another default", old: object(attr("a", str, byDefault(`"x"`))), other: object(attr("a", str, byDefault(`"y"`))),
			note: `the default of "message.a" changes with a restart`},
		{name: "null no more", old: object(attr("a", str, nullable)), other: object(attr("a", str)), problem: "message.a may not be null any more"},
		{name: "another escape", old: object(attr("a", str)), other: object(attr("a", str, html)), problem: "message.a is escaped in another way"},
		{name: "any", old: object(attr("a", str)), other: object(attr("a", sdk.KindAny))},
		{name: "any no more", old: object(attr("a", sdk.KindAny)), other: object(attr("a", str)), problem: "message.a was any value and is a string"},
		{name: "fewer values", old: object(attr("a", str, oneOf("x", "y"))), other: object(attr("a", str, oneOf("x"))),
			problem: `message.a may not be "y" any more`},
		{name: "more values", old: object(attr("a", str, oneOf("x"))), other: object(attr("a", str, oneOf("x", "y")))},
		{name: "only some values", old: object(attr("a", str)), other: object(attr("a", str, oneOf("x"))), problem: "message.a may only be one of x now"},
		{name: "inside", old: object(attr("a", sdk.KindList, of(object(attr("b", str))))),
			other: object(attr("a", sdk.KindList, of(object(attr("b", str), attr("c", str))))), problem: "message.a[*].c is required now"},
		{name: "a default inside", old: object(attr("a", sdk.KindObject)),
			other: object(attr("a", sdk.KindObject, with(attr("c", str, byDefault(`"x"`))))), problem: "message.a.c has a default"},
		{name: "gone inside", old: object(attr("a", sdk.KindObject, with(attr("c", str, optional)))),
			other: object(attr("a", sdk.KindObject)), problem: "message.a.c is not taken any more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var f fitting
			f.message(&test.old, &test.other, func(a string) bool { return strings.Contains(test.uses, a) })
			wantOne(t, "problem", f.problems, test.problem)
			wantOne(t, "note", f.notes, test.note)
			if string(f.fill) != test.fill {
				t.Errorf("fill %s, want %s", f.fill, test.fill)
			}
		})
	}
}

// wantOne wants one text with a part, or none.
func wantOne(t *testing.T, what string, got []string, want string) {
	t.Helper()
	if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
		t.Errorf("%ss %q, want %q", what, got, want)
	}
}

func TestEventChanges(t *testing.T) {
	const str, num = sdk.KindString, sdk.KindNumber
	for _, test := range []struct {
		name       string
		old, other sdk.Schema
		problem    string
	}{
		{"more", object(attr("a", str)), object(attr("a", str), attr("b", num)), ""},
		{"gone", object(attr("a", str)), object(), "data of x.made.a is gone"},
		{"another kind", object(attr("a", str)), object(attr("a", num)), "data of x.made.a was a string and is a number"},
		{"an integer is a number", object(attr("a", num)), object(attr("a", sdk.KindInteger)), ""},
		{"was any", object(attr("a", sdk.KindAny)), object(attr("a", num)), ""},
		{"null", object(attr("a", str)), object(attr("a", str, nullable)), "data of x.made.a may be null now"},
		{"null no more", object(attr("a", str, nullable)), object(attr("a", str)), ""},
		{"missing", object(attr("a", str)), object(attr("a", str, optional)), "data of x.made.a may be missing now"},
		{"more values", object(attr("a", str, oneOf("x"))), object(attr("a", str, oneOf("x", "y"))), `data of x.made.a may be "y" now`},
		{"fewer values", object(attr("a", str, oneOf("x", "y"))), object(attr("a", str, oneOf("x"))), ""},
		{"all values", object(attr("a", str, oneOf("x", "y"))), object(attr("a", str)), "data of x.made.a may be any text now"},
		{"inside", object(attr("a", sdk.KindMap, of(object(attr("b", str))))), object(attr("a", sdk.KindMap, of(object()))),
			"data of x.made.a[*].b is gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantOne(t, "problem", eventChanges([]sdk.EventType{{Type: "x.made", Data: test.old}},
				[]sdk.EventType{{Type: "x.gone"}, {Type: "x.made", Data: test.other}}), test.problem)
		})
	}
	wantOne(t, "problem", eventChanges([]sdk.EventType{{Type: "x.made"}}, nil), "its catalogue has no event x.made any more")
}

func TestCompare(t *testing.T) {
	provider := func(change func(*sdk.Provider)) *core.PluginInfo {
		info := validDecoder()
		p := *info.Provider
		p.Schemes = slices.Clone(p.Schemes)
		if change != nil {
			change(&p)
		}
		info.Provider = &p
		return info
	}
	for _, test := range []struct {
		name    string
		change  func(*sdk.Provider)
		problem string
	}{
		{"the same", nil, ""},
		{"texts for people", func(p *sdk.Provider) { p.Title, p.Schemes[0].Description = "New", "New" }, ""},
		{"addresses", func(p *sdk.Provider) { p.Addresses = []string{"192.0.2.1"} }, ""},
		{"headers", func(p *sdk.Provider) { p.Headers = append(p.Headers, "x-new") }, "other headers to keep"},
		{"schemes", func(p *sdk.Provider) { p.Schemes[0].Name = "new" }, "other schemes"},
		{"dedupe", func(p *sdk.Provider) { p.Dedupe = []sdk.DedupeKey{{{Kind: sdk.PartHeader, Name: "x-id"}}} }, "other dedupe key"},
		{"reply", func(p *sdk.Provider) { p.Reply.Status = 204 }, "other reply"},
		{"handshake", func(p *sdk.Provider) { p.Handshake = &sdk.Handshake{} }, "other handshake"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var f fitting
			f.compare(provider(nil), provider(test.change), nil, false)
			wantOne(t, "problem", f.problems, test.problem)
		})
	}
	gone := func(p *sdk.Provider) { p.Events = nil }
	always := func(string) bool { return true }
	var f fitting
	if f.compare(provider(nil), provider(gone), nil, true); len(f.problems) > 0 || len(f.notes) == 0 {
		t.Errorf("changed events under development: %+v", f)
	}
	keeps := validSink()
	keeps.WantState = true
	f = fitting{}
	f.compare(validSink(), keeps, always, false)
	wantOne(t, "problem", f.problems, "it keeps state per order key")
	f = fitting{}
	if f.compare(keeps, validSink(), always, false); len(f.problems) > 0 {
		t.Errorf("state no more: %q", f.problems)
	}
}
