package config

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/core/sample"
	"github.com/grapnelhq/grapnel/sdk"
)

// Test is a test of the routes: a request, and what is to become of it.
type Test struct {
	Name   string
	Given  Given
	Expect Expectation
	Range  Range
}

// Given is the request of a test: a sample of an event type, or a file, and how it is changed.
type Given struct {
	Source  string       // of a file it may be empty: then its path tells
	Type    string       // of a sample
	Sample  string       // its name; empty: the first
	File    string       // absolute; empty: a sample
	Body    []byte       // in place of the sample's or file's; nil: as it is
	Set     []Edit       // changes of the body, in order
	Headers []HeaderEdit // changes of the headers
	At      time.Time    // when it comes in
	Range   Range
}

// Edit sets a value in a body, or removes it.
type Edit struct {
	Pointer string // RFC 6901
	Value   []byte // JSON; nil: remove
	Range   Range
}

// HeaderEdit sets a header, or removes it.
type HeaderEdit struct {
	Name, Value string
	Remove      bool
}

// Expectation is what is to become of a request.
type Expectation struct {
	To       []ExpectedTo
	Others   bool     // there may be more deliveries
	Unrouted bool     // there are events, and no deliveries
	Events   []string // their types, in order; nil: any
	Refused  *Phrase  // by the decoder, for a reason that holds the text
	Rejected string   // at the door, for this cause
	Range    Range
}

// Phrase is a text that has to be a part of another.
type Phrase struct{ Text string }

// ExpectedTo is a delivery that is to come of a request.
type ExpectedTo struct {
	Plugin, Sink string
	Route        string  // empty: any
	OrderKey     *string // empty: none; nil: any
	Dead         *Phrase // it is a dead letter, for a reason that holds the text
	Message      []byte  // the whole message, as JSON; nil: any
	Fields       []Field // of the message
	Absent       []Field // no Value
	Matches      []Field // Value is the pattern, as a JSON text
	Range        Range
}

// Field is a place in a message and what is to be there.
type Field struct {
	Path    string // as it is written
	Pointer string
	Value   []byte // JSON
	Pattern *regexp.Regexp
	Range   Range
}

// testTime is when requests of tests come in that do not say so. Any time would do, but for that it never changes.
var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// FindTests lists the files with tests of a configuration: *.test.hcl in its folder.
func FindTests(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	dir := path
	if !info.IsDir() {
		dir = filepath.Dir(path)
	}
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && strings.HasSuffix(name, testFile) && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

// LoadTests is Load, with Options.Incomplete, for a configuration and files of its tests, and returns the tests in the
// order of the files. The variables of the files' env blocks come before those of Options.Getenv. Mistakes of both are
// among the diagnostics; there are no tests then, either.
func LoadTests(ctx context.Context, path string, files []string, opt Options) (*Config, []Test, *Diagnostics) {
	opt.Incomplete = true
	l := newLoader(ctx, path, opt)
	l.testing = true
	t := &testLoader{loader: l, vars: map[string]string{}, names: map[string]hcl.Range{}}
	for _, name := range files {
		if body := l.parse(name); body != nil {
			t.bodies = append(t.bodies, body)
		}
	}
	unreadable := l.partial
	l.partial = false // of the tests, not of the configuration
	t.readEnv()
	outer := l.opt.Getenv
	l.opt.Getenv = func(name string) (string, bool) {
		if v, ok := t.vars[name]; ok {
			return v, v != ""
		}
		return outer(name)
	}
	if l.read(path) {
		l.load()
		l.partial = l.partial || unreadable
		t.tests()
	}
	l.finish()
	if l.diags.HasErrors() {
		return nil, nil, l.diags
	}
	return l.cfg, t.list, l.diags
}

// testLoader is the state of one LoadTests.
type testLoader struct {
	*loader
	bodies []*hclsyntax.Body
	vars   map[string]string // of env blocks; empty: not set
	names  map[string]hcl.Range
	list   []Test
}

// readEnv takes the variables that the configuration is to see.
func (t *testLoader) readEnv() {
	at := map[string]hcl.Range{}
	for _, body := range t.bodies {
		for _, hb := range body.Blocks {
			if hb.Type != "env" {
				continue
			}
			if len(hb.Labels) > 0 {
				t.error(blockHeader(hb), "An env block has no label", `Write env { NAME = "value" }.`)
			}
			for _, nested := range hb.Body.Blocks {
				t.error(blockHeader(nested), "An env block holds attributes only", `Write NAME = "value".`)
			}
			for _, a := range inOrder(hb.Body.Attributes) {
				if earlier, twice := at[a.Name]; twice {
					t.error(a.NameRange, fmt.Sprintf("The variable %q is set twice", a.Name),
						"The first is at "+rangeOf(earlier).place()+". All tests see the same variables.")
					continue
				}
				at[a.Name] = a.NameRange
				v, diags := a.Expr.Value(nil)
				text, err := convert.Convert(v, cty.String)
				if diags.HasErrors() || err != nil || !v.IsWhollyKnown() {
					t.error(a.Expr.Range(), fmt.Sprintf("The variable %q is no plain text", a.Name),
						`Write a text in quotes, or null for a variable that is not set.`)
					continue
				}
				t.vars[a.Name] = ""
				if !text.IsNull() {
					t.vars[a.Name] = text.AsString()
				}
			}
		}
	}
}

func (t *testLoader) tests() {
	for _, body := range t.bodies {
		for _, a := range inOrder(body.Attributes) {
			t.error(a.NameRange, fmt.Sprintf("The attribute %q stands outside of all blocks", a.Name),
				"A file of tests holds test and env blocks only.")
		}
		for _, hb := range body.Blocks {
			switch {
			case hb.Type == "env":
			case hb.Type != "test":
				detail := suggest(hb.Type, []string{"test", "env"})
				if _, known := topBlocks[hb.Type]; known {
					detail = "It belongs into the configuration; a file of tests holds test and env blocks only."
				}
				if detail == "" {
					detail = "The blocks are env and test."
				}
				t.error(hb.TypeRange, fmt.Sprintf("There is no block %q", hb.Type), detail)
			case len(hb.Labels) != 1 || strings.TrimSpace(hb.Labels[0]) == "":
				t.error(blockHeader(hb), "A test block has one label", `Write test "what is to happen" { … }`)
			default:
				t.test(hb)
			}
		}
	}
}

func (t *testLoader) test(hb *hclsyntax.Block) {
	name := hb.Labels[0]
	what := fmt.Sprintf("test %q", name)
	if earlier, twice := t.names[name]; twice {
		t.error(hb.LabelRanges[0], "A second "+what, "The first is at "+rangeOf(earlier).place()+".")
	}
	t.names[name] = hb.LabelRanges[0]
	test := Test{Name: name, Range: rangeOf(blockHeader(hb))}
	b := t.block(hb, what)
	for _, part := range []struct {
		name string
		take func(*block)
	}{
		{"given", func(g *block) { t.given(g, &test.Given) }},
		{"expect", func(e *block) { t.expect(e, &test.Expect) }},
	} {
		inner := b.block(part.name)
		if inner == nil {
			if !t.partial {
				t.error(b.at, fmt.Sprintf("%q is missing in %s", part.name, what), "A test has a given and an expect block.")
			}
			continue
		}
		part.take(inner)
	}
	b.finish()
	t.list = append(t.list, test)
}

// given takes the request.
func (t *testLoader) given(b *block, g *Given) {
	g.Range, g.At = rangeOf(b.at), testTime
	source := b.attr("source")
	if source != nil {
		if name, ok := b.sourceName(source.Expr, "Write source.<plugin>.<name>, as in a route."); ok {
			g.Source = name
		}
		for _, d := range t.cfg.Disabled {
			if d.Kind == "source" && d.Name == g.Source {
				t.error(source.Expr.Range(), fmt.Sprintf("The source %q is disabled", g.Source), fmt.Sprintf(
					"Where its block, at %s, asks for a variable, set that in an env block of this file.", d.Range.place()))
				g.Source = ""
			}
		}
	}
	b.path("file", &g.File)
	named := b.text("type", &g.Type)
	b.text("sample", &g.Sample)
	var text string
	if b.attr("body") != nil {
		if v, ok := t.constant(b.attr("body").Expr); ok {
			if s, isText := asText(v); isText {
				g.Body = []byte(s)
			} else {
				b.wrong("body", b.attr("body").Expr.Range(), "a text: jsonencode({ … }) makes one")
			}
		}
	}
	if b.text("received_at", &text) {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			b.wrong("received_at", b.body.Attributes["received_at"].Expr.Range(), `a time such as "2026-01-31T08:00:00Z"`)
		} else {
			g.At = at
		}
	}
	b.edits(g)
	b.headerEdits(g)
	b.finish()
	switch {
	case b.body.Attributes["file"] != nil && (named || b.body.Attributes["sample"] != nil):
		t.error(b.at, fmt.Sprintf("%s names a file and a sample", b.what), "It is one or the other.")
	case b.body.Attributes["file"] != nil:
		if g.File != "" {
			if info, err := os.Stat(g.File); err != nil || info.IsDir() {
				why := "it is a folder"
				if err != nil {
					why = ioMessage(err)
				}
				t.error(b.body.Attributes["file"].Expr.Range(), fmt.Sprintf("The file of %s cannot be read", b.what),
					sentence(g.File+": "+why))
			}
		}
	case source == nil || b.body.Attributes["type"] == nil:
		if !t.partial {
			t.error(b.at, fmt.Sprintf("%s names no request", b.what),
				`Write source and type, such as source = source.peopleforce.people and `+
					`type = "peopleforce.employee.created", or file.`)
		}
	case g.Source != "" && named:
		b.checkSample(g)
	}
}

// checkSample checks that a sample is there, and that what is changed in it is.
func (b *block) checkSample(g *Given) {
	src := b.l.sources[g.Source]
	if src == nil || src.info == nil || src.info.Provider == nil {
		return // said elsewhere
	}
	p := src.info.Provider
	i := slices.IndexFunc(p.Events, func(e sdk.EventType) bool { return e.Type == g.Type })
	if i < 0 {
		var types []string
		for _, e := range p.Events {
			types = append(types, e.Type)
		}
		detail := suggest(g.Type, types)
		if detail == "" {
			detail = fmt.Sprintf("grapnel plugin describe %s lists them.", p.Name)
		}
		b.l.error(b.body.Attributes["type"].Expr.Range(),
			fmt.Sprintf("%s has no event type %q", cmp.Or(p.Title, p.Name), g.Type), detail)
		return
	}
	samples := p.Events[i].Samples
	var names []string
	for _, s := range samples {
		names = append(names, s.Name)
	}
	at := 0
	if g.Sample != "" {
		if at = slices.Index(names, g.Sample); at < 0 {
			detail := suggest(g.Sample, names)
			if detail == "" {
				detail = "There are " + list(names) + "."
			}
			b.l.error(b.body.Attributes["sample"].Expr.Range(), fmt.Sprintf("%s has no sample %q", g.Type, g.Sample), detail)
			return
		}
	}
	if len(samples) == 0 {
		b.l.error(b.body.Attributes["type"].Expr.Range(), fmt.Sprintf("%s has no sample", g.Type), "Give a file instead.")
		return
	}
	body := []byte(samples[at].Body)
	if g.Body != nil {
		body = g.Body
	}
	form := sample.IsForm(samples[at].Headers)
	for _, e := range g.Set {
		changed, err := e.Apply(body, form)
		if err != nil {
			b.l.say(Error, e.Range, "The sample cannot be changed so", sentence(err.Error()))
			continue
		}
		if hint := misspeltMember(body, form, e); hint != "" {
			b.l.say(Warning, e.Range, fmt.Sprintf("The sample has no %s, so it is added", e.Pointer), hint)
		}
		body = changed
	}
}

// misspeltMember suggests what a change of a member that is not there may have meant.
func misspeltMember(body []byte, form bool, e Edit) string {
	if form || e.Value == nil {
		return ""
	}
	if _, there := jsonscan.Lookup(body, e.Pointer, false); there {
		return ""
	}
	i := strings.LastIndexByte(e.Pointer, '/')
	raw, _ := jsonscan.Lookup(body, e.Pointer[:i], false)
	var names []string
	for m := jsonscan.Open(raw); m.Next() && m.Key != nil; {
		name, _ := jsonscan.Unquote(m.Key)
		names = append(names, name)
	}
	return suggest(e.Pointer[i+1:], names)
}

// Apply returns a copy of a body with the change.
func (e *Edit) Apply(body []byte, form bool) ([]byte, error) {
	if e.Value == nil {
		return sample.Remove(body, form, e.Pointer)
	}
	return sample.Set(body, form, e.Pointer, e.Value)
}

// edits takes what is changed in the body: set, then remove.
func (b *block) edits(g *Given) {
	if a := b.attr("set"); a != nil {
		for _, m := range b.members(a) {
			pointer, err := sample.Pointer(m.name)
			if err != nil {
				b.l.error(m.at, "This is no place in the body", sentence(err.Error()))
				continue
			}
			g.Set = append(g.Set, Edit{Pointer: pointer, Value: m.json, Range: rangeOf(m.at)})
		}
	}
	paths, _ := b.texts("remove")
	for i, path := range paths {
		pointer, err := sample.Pointer(path)
		if err != nil {
			b.l.error(b.item("remove", i), "This is no place in the body", sentence(err.Error()))
			continue
		}
		g.Set = append(g.Set, Edit{Pointer: pointer, Range: rangeOf(b.item("remove", i))})
	}
}

// headerEdits takes the headers that are changed.
func (b *block) headerEdits(g *Given) {
	a := b.attr("headers")
	if a == nil {
		return
	}
	for _, m := range b.members(a) {
		var text *string
		if err := json.Unmarshal(m.json, &text); err != nil || text != nil && strings.ContainsAny(*text, "\r\n\x00") {
			b.l.error(m.at, fmt.Sprintf("The header %q is no text", m.name),
				"Write a text in quotes, or null to take the header away.")
			continue
		}
		h := HeaderEdit{Name: m.name, Remove: text == nil}
		if text != nil {
			h.Value = *text
		}
		g.Headers = append(g.Headers, h)
	}
}

// expect takes what is to happen.
func (t *testLoader) expect(b *block, x *Expectation) {
	x.Range = rangeOf(b.at)
	b.bool("others", &x.Others)
	b.bool("unrouted", &x.Unrouted)
	if b.attr("events") != nil {
		if types, ok := b.texts("events"); ok {
			x.Events = append([]string{}, types...)
		}
	}
	x.Refused = b.phrase("refused")
	b.text("rejected", &x.Rejected)
	b.blocks = append(b.blocks, "to")
	for _, hb := range b.body.Blocks {
		if hb.Type == "to" {
			if to, ok := t.to(hb); ok {
				x.To = append(x.To, to)
			}
		}
	}
	b.finish()
	to := slices.ContainsFunc(b.body.Blocks, func(hb *hclsyntax.Block) bool { return hb.Type == "to" })
	said := 0
	if to {
		said++
	}
	for _, name := range []string{"unrouted", "refused", "rejected"} { // wrong ones, too: that is said
		if b.body.Attributes[name] != nil {
			said++
		}
	}
	switch {
	case t.partial:
	case said > 1:
		t.error(b.at, fmt.Sprintf("%s contradicts itself", b.what), "It has to blocks, or unrouted, or refused, or rejected.")
	case said == 0 && b.body.Attributes["events"] == nil:
		t.error(b.at, fmt.Sprintf("%s says nothing", b.what),
			`Write to "plugin" "name" { … } for each delivery, unrouted = true, refused = "…", rejected = "…" or events = […].`)
	case x.Others && !to:
		t.error(b.body.Attributes["others"].NameRange, `"others" goes with to blocks`, "")
	case x.Events != nil && (x.Refused != nil || x.Rejected != ""):
		t.error(b.body.Attributes["events"].NameRange, "A request that is refused has no events", "")
	}
}

// phrase takes a text that is a part of another, or true for any.
func (b *block) phrase(name string) *Phrase {
	v, at, ok := b.value(name)
	if !ok {
		return nil
	}
	if s, isText := asText(v); isText {
		return &Phrase{s}
	}
	if yes, isBool := asBool(v); isBool && yes {
		return &Phrase{}
	}
	b.wrong(name, at, "a part of the reason, or true for any")
	return nil
}

// to takes an expected delivery.
func (t *testLoader) to(hb *hclsyntax.Block) (ExpectedTo, bool) {
	x := ExpectedTo{Range: rangeOf(blockHeader(hb))}
	if len(hb.Labels) != 2 {
		t.error(blockHeader(hb), "A to block has two labels", `Write to "plugin" "name" { … }, as in the route.`)
		return x, false
	}
	x.Plugin, x.Sink = hb.Labels[0], hb.Labels[1]
	at := hcl.RangeBetween(hb.LabelRanges[0], hb.LabelRanges[1])
	s, found := t.sinks[x.Sink]
	switch {
	case !found || s.plugin != x.Plugin:
		t.noSink(x.Plugin, x.Sink, at)
	case s.disabled:
		i := slices.IndexFunc(t.cfg.Disabled, func(d Disabled) bool { return d.Kind == "sink" && d.Name == x.Sink })
		t.error(at, fmt.Sprintf("The sink %q is disabled, so nothing comes to it", x.Sink), fmt.Sprintf(
			"Where its block, at %s, asks for a variable, set that in an env block of this file.",
			t.cfg.Disabled[i].Range.place()))
	}
	b := t.block(hb, fmt.Sprintf("to %q", x.Sink))
	if b.text("route", &x.Route) {
		t.checkRoute(x, b.body.Attributes["route"].Expr.Range())
	}
	if a := b.attr("order_key"); a != nil {
		if v, ok := t.constant(a.Expr); ok {
			text, isText := asText(v)
			if !isText && !v.IsNull() {
				b.wrong("order_key", a.Expr.Range(), "a text, or null for none")
			}
			x.OrderKey = &text
		}
	}
	x.Dead = b.phrase("dead")
	if a := b.attr("message"); a != nil {
		if v, ok := t.constant(a.Expr); ok {
			if ty := v.Type(); v.IsNull() || !ty.IsObjectType() && !ty.IsMapType() {
				b.wrong("message", a.Expr.Range(), "the whole message: { name = … }")
			} else {
				x.Message = b.l.jsonOf(v, a.Expr)
			}
		}
	}
	if a := b.attr("fields"); a != nil {
		x.Fields = b.fields(a)
	}
	if a := b.attr("matches"); a != nil {
		x.Matches = b.patterns(a)
	}
	if b.attr("absent") != nil {
		paths, _ := b.texts("absent")
		for i, path := range paths {
			if f, ok := b.field(path, b.item("absent", i)); ok {
				x.Absent = append(x.Absent, f)
			}
		}
	}
	b.finish()
	if x.Dead != nil && (x.Message != nil || x.Fields != nil || x.Matches != nil || x.Absent != nil || x.OrderKey != nil) {
		t.error(blockHeader(hb), "A dead letter of this kind has no message and no order key",
			"Expect dead, or message, fields, absent, matches and order_key.")
	}
	b.checkFields(&x, s)
	return x, true
}

// checkRoute checks that a route is there and sends to the sink.
func (t *testLoader) checkRoute(x ExpectedTo, at hcl.Range) {
	var names []string
	for _, r := range t.cfg.Routes {
		if r.Name != x.Route {
			names = append(names, r.Name)
			continue
		}
		if !slices.ContainsFunc(r.To, func(to To) bool { return to.Sink == x.Sink }) && t.sinks[x.Sink] != nil {
			t.error(at, fmt.Sprintf("The route %q does not send to sink %q", x.Route, x.Sink), "It is at "+r.Range.place()+".")
		}
		return
	}
	if t.partial {
		return
	}
	detail := suggest(x.Route, names)
	for _, d := range t.cfg.Disabled {
		if d.Kind == "route" && d.Name == x.Route {
			detail = "It is disabled, at " + d.Range.place() + "."
		}
	}
	t.error(at, fmt.Sprintf("There is no route %q", x.Route), detail)
}

// checkFields compares what is expected of a message with what the sink's messages can hold.
func (b *block) checkFields(x *ExpectedTo, s *sinkBlock) {
	if s == nil || s.info == nil {
		return
	}
	schema := &s.info.Message
	var names []string
	for _, a := range schema.Attributes {
		names = append(names, a.Name)
	}
	check := func(name string, at Range) {
		if schema.Attribute(name) != nil {
			return
		}
		detail := suggest(name, names)
		if detail == "" {
			detail = "There are " + strings.Join(names, ", ") + "."
		}
		b.l.say(Error, at, fmt.Sprintf("A message to %q has no attribute %q", x.Sink, name), detail)
	}
	for _, fs := range [][]Field{x.Fields, x.Absent, x.Matches} {
		for _, f := range fs {
			first, _, _ := strings.Cut(strings.TrimPrefix(f.Pointer, "/"), "/")
			check(strings.NewReplacer("~1", "/", "~0", "~").Replace(first), f.Range)
		}
	}
	var message map[string]json.RawMessage
	if x.Message != nil && json.Unmarshal(x.Message, &message) == nil {
		for _, name := range slices.Sorted(maps.Keys(message)) {
			check(name, rangeOf(nameRange(b.body.Attributes["message"].Expr, name)))
		}
	}
}

func (b *block) field(path string, at hcl.Range) (Field, bool) {
	pointer, err := sample.Pointer(path)
	if err != nil {
		b.l.error(at, "This is no place in a message", sentence(err.Error()))
		return Field{}, false
	}
	return Field{Path: path, Pointer: pointer, Range: rangeOf(at)}, true
}

func (b *block) fields(a *hclsyntax.Attribute) (out []Field) {
	for _, m := range b.members(a) {
		if f, ok := b.field(m.name, m.at); ok {
			f.Value = m.json
			out = append(out, f)
		}
	}
	return out
}

func (b *block) patterns(a *hclsyntax.Attribute) (out []Field) {
	for _, m := range b.members(a) {
		f, ok := b.field(m.name, m.at)
		if !ok {
			continue
		}
		var text string
		if err := json.Unmarshal(m.json, &text); err != nil || string(m.json) == "null" {
			b.l.error(m.at, fmt.Sprintf("%q is to match no text", m.name),
				`Write a regular expression in quotes, such as "^Welcome ".`)
			continue
		}
		pattern, err := regexp.Compile(text)
		if err != nil {
			b.l.error(m.at, "This is no regular expression", sentence(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
			continue
		}
		f.Pattern = pattern
		out = append(out, f)
	}
	return out
}

// member is a member of an object that is written out.
type member struct {
	name string
	json []byte
	at   hcl.Range
}

// members evaluates an object, in the order in which it is written.
func (b *block) members(a *hclsyntax.Attribute) []member {
	v, ok := b.l.constant(a.Expr)
	if !ok || v.IsNull() {
		return nil
	}
	if ty := v.Type(); !ty.IsObjectType() && !ty.IsMapType() {
		b.wrong(a.Name, a.Expr.Range(), `an object: { "data.name" = … }`)
		return nil
	}
	var out []member
	for name, x := range v.AsValueMap() {
		if js := b.l.jsonOf(x, a.Expr); js != nil {
			out = append(out, member{name, js, nameRange(a.Expr, name)})
		}
	}
	slices.SortFunc(out, func(x, y member) int {
		if d := x.at.Start.Byte - y.at.Start.Byte; d != 0 {
			return d
		}
		return strings.Compare(x.name, y.name)
	})
	return out
}

// nameRange is where the name of a member stands, or all of what makes the object.
func nameRange(e hclsyntax.Expression, name string) hcl.Range {
	if object, ok := e.(*hclsyntax.ObjectConsExpr); ok {
		if item := objectItem(object, name); item != nil {
			return item.KeyExpr.Range()
		}
	}
	return e.Range()
}

// constant evaluates an expression of a test. It may name locals, and must hold no secret: what tests expect is shown.
func (l *loader) constant(e hclsyntax.Expression) (cty.Value, bool) {
	for _, call := range callsOf(e, "env", "sensitive") {
		l.error(call.Range(), fmt.Sprintf("%s() cannot be called in a test", call.Name),
			"A test says the same on every machine. An env block sets what the configuration sees.")
		return cty.DynamicVal, false
	}
	v, ok := l.evalNeeded(e)
	if !ok {
		return v, false
	}
	v, err := cty.TransformWithTransformer(v, &classifier{l})
	if err != nil || v.ContainsMarked() {
		l.error(e.Range(), "A secret cannot be a part of a test", "What tests expect is shown.")
		l.veilValue(e)
		return cty.DynamicVal, false
	}
	return v, true
}

// jsonOf is a value as JSON; nil: it is none, and that was said.
func (l *loader) jsonOf(v cty.Value, e hclsyntax.Expression) []byte {
	js, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
	if err != nil {
		l.error(e.Range(), "The value cannot be written as JSON", sentence(err.Error()))
		return nil
	}
	return js
}
