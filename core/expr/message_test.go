package expr

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

func compileMessage(t *testing.T, s *Set, body string, schema *sdk.Schema) (*Message, hcl.Diagnostics) {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(body), "route.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", body, diags)
	}
	attrs, diags := f.Body.JustAttributes()
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	block := hcl.Range{Filename: "route.hcl", Start: hcl.Pos{Line: 9, Column: 1}, End: hcl.Pos{Line: 9, Column: 3}}
	return s.Message(attrs, schema, block)
}

func object(attrs ...sdk.Attribute) *sdk.Schema {
	return &sdk.Schema{Kind: sdk.KindObject, Attributes: attrs}
}

func attr(name string, s sdk.Schema) sdk.Attribute { return sdk.Attribute{Name: name, Schema: s} }

var (
	text     = sdk.Schema{Kind: sdk.KindString}
	anyOne   = sdk.Schema{Kind: sdk.KindAny}
	optional = sdk.Schema{Kind: sdk.KindString, Optional: true}
	clearing = sdk.Schema{Kind: sdk.KindString, Optional: true, Nullable: true}
	nullable = sdk.Schema{Kind: sdk.KindString, Nullable: true}
	filled   = sdk.Schema{Kind: sdk.KindString, Optional: true, Default: json.RawMessage(`"d"`)}
	color    = sdk.Schema{Kind: sdk.KindString, Enum: []string{"red", "green"}}
	mrkdwn   = sdk.Schema{Kind: sdk.KindString, Escape: sdk.EscapeSlackMrkdwn}
	// anyMrkdwn takes any value; holder has an attribute of that kind and one without escape.
	anyMrkdwn = sdk.Schema{Kind: sdk.KindAny, Escape: sdk.EscapeSlackMrkdwn}
	holder    = sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{attr("plain", text), attr("any", anyMrkdwn)}}
	person    = sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{attr("name", text), attr("nick", clearing),
		attr("lang", filled)}}
)

const messageData = `{"s":"Zoë","n":null,"i":7,"f":40.0,"big":1e30,"b":true,"num":"12","d":"1h","red":"red",` +
	`"x":"<!channel> & \"co\"","p":{"name":"A","nick":null},"q":{"name":"A","more":1},"r":{"nick":"x"},"l":["a","<b>"],` +
	`"m":{"a":1,"b":2.50},"u":"a/b ü","lx":[1,null],"e":"\u0026 \u003c",` +
	`"deep":{"<k>" : ["<a>",{"b":"\u0026"}],"n":1.50,"z":null,"e":"\u00e9"},"ps":[{"name":"<A>"},{"nick":"B"}],` +
	`"o":{"q":"<q>"},"j":"{\"k\":\"<v>\"}","p2":{"plain":"<p>","any":["<a>"]}}`

func TestMessage(t *testing.T) {
	one := func(s sdk.Schema) *sdk.Schema { return object(attr("v", s)) }
	list := func(s sdk.Schema) *sdk.Schema { return one(sdk.Schema{Kind: sdk.KindList, Element: &s}) }
	mapOf := func(s sdk.Schema) *sdk.Schema { return one(sdk.Schema{Kind: sdk.KindMap, Element: &s}) }
	kind := func(k sdk.Kind) *sdk.Schema { return one(sdk.Schema{Kind: k}) }
	url := sdk.Schema{Kind: sdk.KindString, Escape: sdk.EscapeURL}
	html := sdk.Schema{Kind: sdk.KindString, Escape: sdk.EscapeHTML}
	tests := []struct {
		name   string
		body   string
		schema *sdk.Schema
		want   string // or "error: path: text"
	}{
		// Absence and null, by what the schema allows.
		{"optional absent", `v = event.data.nope`, one(optional), `{}`},
		{"optional null", `v = event.data.n`, one(optional), `{}`},
		{"clearing absent", `v = event.data.nope`, one(clearing), `{}`},
		{"clearing null", `v = event.data.n`, one(clearing), `{"v":null}`},
		{"clearing literal null", `v = null`, one(clearing), `{"v":null}`},
		{"clearing computed null", `v = event.data.b ? null : "x"`, one(clearing), `{"v":null}`},
		{"nullable absent", `v = event.data.nope`, one(nullable), `{"v":null}`},
		{"default for not set", ``, one(filled), `{"v":"d"}`},
		{"default for absent", `v = event.data.nope`, one(filled), `{"v":"d"}`},
		{"default for null", `v = event.data.n`, one(filled), `{"v":"d"}`},
		{"required null", `v = event.data.n`, one(text),
			`error: v: Missing value; The attribute needs a value, but event.data.n is null or absent here.`},
		{"required absent", `v = event.data.nope`, one(text),
			`error: v: Missing value; The attribute needs a value, but event.data.nope`},
		{"required computed null", `v = event.data.b ? event.data.n : null`, one(text),
			`error: v: Missing value; The attribute needs a value, but the result`},
		{"null in a template", `v = "x${event.data.n}"`, one(text),
			`error: v: Invalid template interpolation value; event.data.n is null here.`},

		// Lists and objects of different types are chosen from as they are.
		{"coalesce list, none", `v = coalesce(event.data.ps, [])`, one(anyOne), `{"v":[{"name":"<A>"},{"nick":"B"}]}`},
		{"coalesce absent list, none", `v = coalesce(event.data.nope, event.data.n, [])`, one(anyOne), `{"v":[]}`},
		{"coalesce list of kinds", `v = coalesce(event.data.lx, ["x"])`, one(anyOne), `{"v":[1,null]}`},
		{"coalesce keeps what is in it", `v = coalesce([event.data.i, "a"], [])`, one(anyOne), `{"v":[7,"a"]}`},
		{"coalesce object", `v = coalesce(event.data.q, {})`, one(anyOne), `{"v":{"more":1,"name":"A"}}`},
		{"coalesce list and text", `v = coalesce(event.data.ps, "x")`, one(anyOne), `error: v: Error in function call; `},
		{"for over coalesce", `v = [for p in coalesce(event.data.ps, []) : p.name]`, one(anyOne), `{"v":["<A>",null]}`},
		{"conditional list or none", `v = event.data.b ? event.data.ps : []`, one(anyOne), `{"v":[{"name":"<A>"},{"nick":"B"}]}`},
		{"conditional none", `v = event.data.n == null ? [] : event.data.ps`, one(anyOne), `{"v":[]}`},
		{"conditional keeps what is in it", `v = event.data.b ? [event.data.i, "a"] : []`, one(anyOne), `{"v":[7,"a"]}`},
		{"conditional objects", `v = event.data.b ? { a = event.data.i } : { b = "x" }`, one(anyOne), `{"v":{"a":7}}`},
		{"conditional escapes", `v = event.data.b ? event.data.ps : ["<own>"]`, one(anyMrkdwn),
			`{"v":[{"name":"&lt;A&gt;"},{"nick":"B"}]}`},
		{"conditional list or object", `v = event.data.b ? event.data.ps : event.data.q`, one(anyOne),
			`error: v: Inconsistent conditional result types; `},

		// Kinds.
		{"string token", `v = event.data.s`, one(text), `{"v":"Zoë"}`},
		{"string of number", `v = event.data.f`, one(text), `{"v":"40"}`},
		{"string of bool", `v = event.data.b`, one(text), `{"v":"true"}`},
		{"string of list", `v = event.data.l`, one(text),
			`error: v: Wrong value; The attribute needs a string, but this is a list.`},
		{"enum", `v = event.data.red`, one(color), `{"v":"red"}`},
		{"enum computed", `v = lower("R${event.data.n == null ? "ed" : ""}")`, one(color), `{"v":"red"}`},
		{"enum misfit", `v = event.data.s`, one(color),
			`error: v: Wrong value; The attribute needs one of "red", "green", but this is another text.`},
		{"number token", `v = event.data.f`, kind(sdk.KindNumber), `{"v":40.0}`},
		{"number computed", `v = event.data.f / 16`, kind(sdk.KindNumber), `{"v":2.5}`},
		{"number of string", `v = event.data.num`, kind(sdk.KindNumber), `{"v":12}`},
		{"number of text", `v = event.data.s`, kind(sdk.KindNumber),
			`error: v: Wrong value; The attribute needs a number, but this is a string.`},
		{"number infinite", `v = event.data.i / 0`, kind(sdk.KindNumber),
			`error: v: Wrong value; The attribute needs a number, but this is infinite.`},
		{"integer token", `v = event.data.i`, kind(sdk.KindInteger), `{"v":7}`},
		{"integer with a needless fraction", `v = event.data.f`, kind(sdk.KindInteger), `{"v":40}`},
		{"integer too big", `v = event.data.big`, kind(sdk.KindInteger),
			`error: v: Wrong value; The attribute needs a whole number`},
		{"integer fraction", `v = event.data.m.b`, kind(sdk.KindInteger), `error: v: Wrong value`},
		{"integer computed", `v = event.data.i + 1`, kind(sdk.KindInteger), `{"v":8}`},
		{"bool", `v = event.data.b`, kind(sdk.KindBool), `{"v":true}`},
		{"bool computed", `v = event.data.i > 3`, kind(sdk.KindBool), `{"v":true}`},
		{"bool misfit", `v = event.data.i`, kind(sdk.KindBool),
			`error: v: Wrong value; The attribute needs true or false, but this is a number.`},
		{"duration constant", `v = "3d"`, kind(sdk.KindDuration), `{"v":259200000000000}`},
		{"duration token", `v = event.data.d`, kind(sdk.KindDuration), `{"v":3600000000000}`},
		{"duration number", `v = event.data.i`, kind(sdk.KindDuration), `{"v":7}`},
		{"duration misfit", `v = event.data.s`, kind(sdk.KindDuration),
			`error: v: Wrong value; The attribute needs a duration`},
		{"any", `v = event.data.m`, one(anyOne), `{"v":{"a":1,"b":2.50}}`},
		{"any constructor", `v = { a = event.data.f, b = [event.data.nope, "${event.data.i}!"] }`, one(anyOne),
			`{"v":{"a":40.0,"b":[null,"7!"]}}`},

		// Objects, maps and lists, as constructors, tokens and computed values.
		{"object constructor", `v = { name = event.data.s }`, one(person), `{"v":{"name":"Zoë","lang":"d"}}`},
		{"object token", `v = event.data.p`, one(person), `{"v":{"name":"A","nick":null,"lang":"d"}}`},
		{"object computed", `v = merge(event.data.p, { lang = "en" })`, one(person),
			`{"v":{"name":"A","nick":null,"lang":"en"}}`},
		{"object token with more", `v = event.data.q`, one(person),
			`error: v: Wrong value; The attribute gets an object with a member that is not expected there.`},
		{"object token with less", `v = event.data.r`, one(person),
			`error: v.name: Wrong value; The attribute needs a value, but there is none.`},
		{"object member missing", `v = { name = event.data.n }`, one(person), `error: v.name: Missing value`},
		{"object of string", `v = event.data.s`, one(person),
			`error: v: Wrong value; The attribute needs an object, but this is a string.`},
		{"map constructor", `v = { a = event.data.s, b = event.data.nope, (event.data.s) = "x" }`, mapOf(text),
			`{"v":{"a":"Zoë","Zoë":"x"}}`},
		{"map of equal keys", `v = { a = "1", "${event.data.nope == null ? "a" : "b"}" = "2" }`, mapOf(text),
			`{"v":{"a":"2"}}`},
		{"map null", `v = { a = event.data.n }`, mapOf(text),
			`error: v.a: Missing value; The attribute needs a value, but event.data.n`},
		{"map nullable", `v = { a = event.data.n, b = null }`, mapOf(nullable), `{"v":{"a":null,"b":null}}`},
		{"map of any", `v = { a = event.data.n, b = event.data.m }`, mapOf(anyOne),
			`{"v":{"a":null,"b":{"a":1,"b":2.50}}}`},
		{"map token converts", `v = event.data.m`, mapOf(text), `{"v":{"a":"1","b":"2.5"}}`},
		{"map computed", `v = { for k, x in event.data.m : upper(k) => x }`, mapOf(text), `{"v":{"A":"1","B":"2.5"}}`},
		{"list constructor", `v = [event.data.s, "b"]`, list(text), `{"v":["Zoë","b"]}`},
		{"list token", `v = event.data.l`, list(text), `{"v":["a","<b>"]}`},
		{"list token with null", `v = event.data.lx`, list(text),
			`error: v: Wrong value; The attribute has an element that is null.`},
		{"list element null", `v = ["a", event.data.nope]`, list(text), `error: v.1: Missing value`},
		{"list computed", `v = [for x in event.data.l : upper(x)]`, list(text), `{"v":["A","<B>"]}`},

		// Escaping: what the event brings, not what the author wrote.
		{"escape parts", `v = "<b> ${event.data.x}"`, one(mrkdwn), `{"v":"<b> &lt;!channel&gt; &amp; \"co\""}`},
		{"escape nothing", `v = "<b> ${event.data.s}"`, one(mrkdwn), `{"v":"<b> Zoë"}`},
		{"escape a wrapped part", `v = "${event.data.x}"`, one(mrkdwn), `{"v":"&lt;!channel&gt; &amp; \"co\""}`},
		{"escape a reference", `v = event.data.x`, one(mrkdwn), `{"v":"&lt;!channel&gt; &amp; \"co\""}`},
		{"escape behind JSON escapes", `v = event.data.e`, one(mrkdwn), `{"v":"&amp; &lt;"}`},
		{"raw part", `v = "<b> ${raw(event.data.x)}"`, one(mrkdwn), `{"v":"<b> <!channel> & \"co\""}`},
		{"raw reference", `v = raw(event.data.x)`, one(mrkdwn), `{"v":"<!channel> & \"co\""}`},
		{"escape in branches", `v = event.data.b ? "<b>${event.data.x}" : "<i>"`, one(mrkdwn),
			`{"v":"<b>&lt;!channel&gt; &amp; \"co\""}`},
		{"author's branch", `v = event.data.b ? "<i>" : event.data.x`, one(mrkdwn), `{"v":"<i>"}`},
		{"escape in if", `v = "%{ if event.data.b }<${event.data.x}>%{ endif }"`, one(mrkdwn),
			`{"v":"<&lt;!channel&gt; &amp; \"co\">"}`},
		{"escape in for", `v = "%{ for x in event.data.l }<${x}>%{ endfor }"`, one(mrkdwn), `{"v":"<a><&lt;b&gt;>"}`},
		{"escape a call", `v = "${join("|", event.data.l)}"`, one(mrkdwn), `{"v":"a|&lt;b&gt;"}`},
		{"author's fallback", `v = coalesce(event.data.n, "<i>")`, one(mrkdwn), `{"v":"<i>"}`},
		{"constants are the author's", `v = "${local.greeting}<"`, one(mrkdwn), `{"v":"Hello<"}`},
		{"escape in a list token", `v = event.data.l`, list(mrkdwn), `{"v":["a","&lt;b&gt;"]}`},
		{"escape in a computed list", `v = [for x in event.data.l : x]`, list(mrkdwn), `{"v":["a","&lt;b&gt;"]}`},
		{"escape in any", `v = event.data.x`, one(anyMrkdwn), `{"v":"&lt;!channel&gt; &amp; \"co\""}`},
		{"escape in any's token", `v = event.data.deep`, one(anyMrkdwn),
			`{"v":{"<k>" : ["&lt;a&gt;",{"b":"&amp;"}],"n":1.50,"z":null,"e":"\u00e9"}}`},
		{"escape in any's template", `v = "<b> ${event.data.x}"`, one(anyMrkdwn),
			`{"v":"<b> &lt;!channel&gt; &amp; \"co\""}`},
		{"escape in any's constructor", `v = [{ type = "<t>", "<k>" = event.data.x, gone = event.data.nope }, null]`, one(anyMrkdwn),
			`{"v":[{"type":"<t>","<k>":"&lt;!channel&gt; &amp; \"co\""},null]}`},
		{"escape in any's branches", `v = event.data.b ? { a = "<i>", b = "<${event.data.x}>" } : null`, one(anyMrkdwn),
			`{"v":{"a":"<i>","b":"<&lt;!channel&gt; &amp; \"co\">"}}`},
		{"escape in any's for", `v = [for x in event.data.l : { t = "<i>", v = "*${x}*", y = x }]`, one(anyMrkdwn),
			`{"v":[{"t":"<i>","v":"*a*","y":"a"},{"t":"<i>","v":"*&lt;b&gt;*","y":"&lt;b&gt;"}]}`},
		{"absent in any's for", `v = [for x in event.data.ps : { n = x.name, k = x.nick }]`, one(anyMrkdwn),
			`{"v":[{"n":"&lt;A&gt;"},{"k":"B"}]}`},
		{"escape a list in any's for", `v = { for k, x in event.data.deep : k => x if k != "z" }`, one(anyMrkdwn),
			`{"v":{"<k>":["&lt;a&gt;",{"b":"&amp;"}],"e":"é","n":1.5}}`},
		{"escape in any's functions", `v = concat(["<i>"], event.data.l, flatten([["<j>"], [event.data.l]]))`, one(anyMrkdwn),
			`{"v":["<i>","a","&lt;b&gt;","<j>","a","&lt;b&gt;"]}`},
		{"escape in any's merge", `v = merge(event.data.p, { nick = "<i>" }, event.data.o)`, one(anyMrkdwn),
			`{"v":{"name":"A","nick":"<i>","q":"&lt;q&gt;"}}`},
		{"escape spread arguments", `v = concat([["<i>"], event.data.l]...)`, one(anyMrkdwn), `{"v":["<i>","a","&lt;b&gt;"]}`},
		{"escape any's other functions", `v = reverse(event.data.l)`, one(anyMrkdwn), `{"v":["&lt;b&gt;","a"]}`},
		{"escape any's set", `v = setunion(event.data.l, ["<i>"])`, one(anyMrkdwn), `{"v":["&lt;b&gt;","&lt;i&gt;","a"]}`},
		{"escape any's decoded text", `v = jsondecode(event.data.j)`, one(anyMrkdwn), `{"v":{"k":"&lt;v&gt;"}}`},
		{"escape any's fallback", `v = try(event.data.s.x, coalesce(event.data.n, event.data.l))`, one(anyMrkdwn),
			`{"v":["a","&lt;b&gt;"]}`},
		{"raw any", `v = { a = raw(event.data.l), b = event.data.l }`, one(anyMrkdwn),
			`{"v":{"a":["a","<b>"],"b":["a","&lt;b&gt;"]}}`},
		{"raw in any's for", `v = [for x in event.data.l : raw(x)]`, one(anyMrkdwn), `{"v":["a","<b>"]}`},
		{"any's numbers", `v = [event.data.f, event.data.i + 1, event.data.b]`, one(anyMrkdwn), `{"v":[40.0,8,true]}`},
		{"author's any", `v = { a = "<i>", b = [local.greeting, "<!here>"] }`, one(anyMrkdwn),
			`{"v":{"a":"<i>","b":["Hello","<!here>"]}}`},
		{"escape in a list of any", `v = [{ a = event.data.x }, event.data.o]`, list(anyMrkdwn),
			`{"v":[{"a":"&lt;!channel&gt; &amp; \"co\""},{"q":"&lt;q&gt;"}]}`},
		{"escape in a token of a list of any", `v = event.data.l`, list(anyMrkdwn), `{"v":["a","&lt;b&gt;"]}`},
		{"escape in a computed list of any", `v = concat([{ a = "<i>" }], [for x in event.data.l : { a = x }])`, list(anyMrkdwn),
			`{"v":[{"a":"<i>"},{"a":"a"},{"a":"&lt;b&gt;"}]}`},
		{"raw list of any", `v = raw(event.data.l)`, list(anyMrkdwn), `{"v":["a","<b>"]}`},
		{"escape any in a computed object", `v = merge(event.data.p2, {})`, one(holder),
			`{"v":{"plain":"<p>","any":["&lt;a&gt;"]}}`},
		{"escape any in an object's token", `v = event.data.p2`, one(holder), `{"v":{"plain":"<p>","any":["&lt;a&gt;"]}}`},
		{"author's text in a computed list", `v = [for x in event.data.l : "<i>${x}"]`, list(mrkdwn),
			`{"v":["<i>a","<i>&lt;b&gt;"]}`},
		{"escape joined texts", `v = join("<br>", [for x in event.data.l : "<${x}>"])`, one(mrkdwn),
			`{"v":"<a><br><&lt;b&gt;>"}`},
		{"escape formatted texts", `v = format("<%s|%d>", event.data.x, event.data.i)`, one(mrkdwn),
			`{"v":"<&lt;!channel&gt; &amp; \"co\"|7>"}`},
		{"escape a format", `v = format(event.data.x)`, one(mrkdwn), `{"v":"&lt;!channel&gt; &amp; \"co\""}`},
		{"html", `v = "<a title='${event.data.x}'>"`, one(html), `{"v":"<a title='&lt;!channel&gt; &amp; &#34;co&#34;'>"}`},
		{"url", `v = "https://x.example/${event.data.u}?q=${event.data.i}"`, one(url),
			`{"v":"https://x.example/a%2Fb%20%C3%BC?q=7"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, hclOnly := range []bool{false, true} {
				s := newTestSet(hclOnly)
				m, diags := compileMessage(t, s, tt.body, tt.schema)
				if diags.HasErrors() {
					t.Fatal(diags)
				}
				rec := s.NewRecord()
				rec.Reset(testEvent(messageData, ""))
				out, err := m.Append([]byte("kept"), rec)
				if want, isErr := strings.CutPrefix(tt.want, "error: "); isErr {
					e, ok := errors.AsType[*Error](err)
					if !ok {
						t.Fatalf("hcl only %v: got %s, want %s", hclOnly, out, tt.want)
					}
					got := strings.Join(e.Path, ".") + ": " + e.Summary + "; " + e.Detail
					if !strings.HasPrefix(got, want) {
						t.Errorf("hcl only %v: got %s, want %s", hclOnly, got, want)
					}
					if !strings.HasPrefix(e.Range, "route.hcl:1,") {
						t.Errorf("range is %s", e.Range)
					}
					if string(out) != "kept" {
						t.Errorf("an error left %s", out)
					}
					continue
				}
				if err != nil {
					t.Fatalf("hcl only %v: %v", hclOnly, err)
				}
				if got := strings.TrimPrefix(string(out), "kept"); got != tt.want {
					t.Errorf("hcl only %v: got %s, want %s", hclOnly, got, tt.want)
				}
			}
		})
	}
}

// TestDiagnostics is what is found without an event.
func TestDiagnostics(t *testing.T) {
	schema := object(attr("text", optional), attr("color", sdk.Schema{Kind: sdk.KindString, Optional: true,
		Enum: []string{"red", "green"}}), attr("count", sdk.Schema{Kind: sdk.KindInteger, Optional: true}),
		attr("person", sdk.Schema{Kind: sdk.KindObject, Optional: true, Attributes: person.Attributes}),
		attr("tags", sdk.Schema{Kind: sdk.KindList, Optional: true, Element: &text}))
	needy := object(attr("text", text), attr("title", text))
	load := map[string]function.Function{
		"env": function.New(&function.Spec{
			Params: []function.Parameter{{Name: "name", Type: cty.String}},
			Type:   function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				if args[0].AsString() == "REGION" {
					return cty.StringVal("eu"), nil
				}
				return cty.StringVal("hunter2").Mark(Sensitive), nil
			},
		}),
	}
	tests := []struct {
		body   string
		schema *sdk.Schema
		want   []string // "line,column: text"
	}{
		{`txt = "a"`, schema,
			[]string{`1,1: Unsupported argument; An argument named "txt" is not expected here. Did you mean "text"?`}},
		{`text = "a"`, needy, []string{`9,1: Missing required argument; The argument "title" is required`}},
		{`text = null`, needy, []string{`1,8: Missing value`, `9,1: Missing required`}},
		{`color = "blue"`, schema,
			[]string{`1,9: Wrong value; The attribute "color" needs one of "red", "green", but this is another text.`}},
		{`count = "many"`, schema, []string{`1,9: Wrong value; The attribute "count" needs a whole number`}},
		{`count = 1.5`, schema, []string{`1,9: Wrong value`}},
		{`count = event.data.a && true`, schema,
			[]string{`1,9: Wrong type; The attribute "count" needs a whole number of at most 64 bits, but this is a bool.`}},
		{`tags = "x${event.data.a}"`, schema,
			[]string{`1,8: Wrong type; The attribute "tags" needs a list, but this is a string.`}},
		{`person = { nam = "x" }`, schema,
			[]string{`1,12: Unsupported argument; An argument named "nam" is not expected here. Did you mean "name"?`,
				`1,10: Missing required argument; The argument "person.name" is required`}},
		{"text = event.data\ncount = \"many\"\nfoo = 1", schema, []string{`2,9: Wrong value`, `3,1: Unsupported argument`}},
		{`text = event.typ`, schema,
			[]string{`1,13: Unsupported attribute; There is no attribute "typ" in event. Did you mean "type"?`}},
		{`text = event.id.x`, schema, []string{`1,16: Unsupported attribute; event.id has no attributes.`}},
		{`text = request.header`, schema,
			[]string{`1,15: Unsupported attribute; There is no attribute "header" in request. Did you mean "headers"?`}},
		{`text = request.headers["X-Kind"]`, schema, []string{`1,23: Header names are in lower case; Write "x-kind"`}},
		{`text = event.changes.a.hasold`, schema,
			[]string{`1,23: Unsupported attribute; There is no attribute "hasold" in a change. Did you mean "has_old"?`}},
		{`text = evnt.type`, schema,
			[]string{`1,8: Unknown variable; There is no variable named "evnt". Did you mean "event"?`}},
		{`text = event.data.a[-1]`, schema, []string{`1,20: Invalid index; An index is a whole number, 0 or more.`}},
		{`text = local.greting`, schema, []string{`1,13: Unsupported attribute`}},
		{`text = uper(event.type)`, schema,
			[]string{`1,8: Call to unknown function; There is no function named "uper". Did you mean "upper"?`}},
		{`text = "${now()}"`, schema,
			[]string{`1,11: Call to unknown function; There is no function named "now". Use request.received_at`}},
		{`text = upper(event.type, 1)`, schema, []string{`1,26: Too many function arguments`}},
		{`text = matches(event.type, "(") ? "a" : "b"`, schema, []string{`1,28: Invalid function argument`}},
		{`text = formatdate("QQ", "2026-01-01T00:00:00Z")`, schema, []string{`1,19: Invalid function argument`}},
		{`text = present("a") ? "x" : "y"`, schema, []string{`1,16: present needs a reference`}},
		{`text = local.secret`, schema, []string{`1,8: Sensitive value in an event's expression`}},
		{`text = "${event.id} ${local.secret}"`, schema, []string{`1,23: Sensitive value`}},
		{`text = length(local) > 1 ? "a" : event.id`, schema, []string{`1,15: Sensitive value`}},
		{`text = try(local.secret, event.id)`, schema, []string{`1,12: Sensitive value`}},
		{`text = env("TOKEN")`, schema, []string{`1,8: Sensitive value`}},
		{`text = "${event.id}-${env("TOKEN")}"`, schema, []string{`1,23: Sensitive value`}},
		{`text = env(event.id)`, schema, []string{`1,8: Function needs constants here; env() is evaluated once`}},
		{`text = "${env("REGION")}-${event.id}"`, schema, nil},
		{`text = "${event.data.a.b[0].c}"`, schema, nil},
		{`text = 5 + event.data.x`, schema, nil},
		{`text = "abc" && event.data.x ? "a" : "b"`, schema, []string{`1,8: Invalid operand`}},
	}
	for _, tt := range tests {
		_, diags := compileMessage(t, NewSet(testConsts, load), tt.body, tt.schema)
		var got []string
		for _, d := range diags {
			if d.Subject == nil {
				t.Fatalf("%s: no place: %v", tt.body, d)
			}
			start := d.Subject.Start
			got = append(got, strings.TrimPrefix(strings.SplitN(hcl.Range{Start: start, End: start}.String(), "-", 2)[0], ":")+
				": "+d.Summary+"; "+d.Detail)
			if strings.Contains(d.Error(), "hunter2") {
				t.Errorf("%s: shows the secret", tt.body)
			}
		}
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: got\n  %s\nwant\n  %s", tt.body, strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
		}
	}
}

func TestConditionAndText(t *testing.T) {
	s := NewSet(testConsts, nil)
	for _, text := range []string{`5`, `null`, `"maybe"`, `"${event.id}x" == 1 ? 5 : 6`, `local.secret == "x"`} {
		if _, diags := s.Condition(parse(t, text)); !diags.HasErrors() {
			t.Errorf("%s passes as a condition", text)
		}
	}
	if _, diags := s.Text(parse(t, `[event.id]`)); !diags.HasErrors() {
		t.Error("a tuple passes as a text")
	}
	for text, want := range map[string]string{
		`event.data.n`:            "Condition is null",
		`event.data.s`:            "Condition has the wrong type",
		`event.data.n > 1`:        "Operation failed",
		`event.data.s.x == 1`:     "Unsupported attribute",
		`tolist(event.data.s)[0]`: "Invalid function argument",
	} {
		c, diags := s.Condition(parse(t, text))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		rec := s.NewRecord()
		rec.Reset(testEvent(messageData, ""))
		ok, err := c.Eval(rec)
		if e, isErr := errors.AsType[*Error](err); ok || !isErr || e.Summary != want || e.Range == "" {
			t.Errorf("%s: got %v, %v; want %s", text, ok, err, want)
		}
	}
	for text, want := range map[string]string{
		`event.partitionkey`: "employee/4101", `event.data.i`: "7", `event.data.f`: "40", `event.data.b`: "true",
		`event.data.n`: "null", `event.data.nope`: "null", `null`: "null", `"${event.data.i}-x"`: "7-x",
	} {
		c, diags := s.Text(parse(t, text))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		rec := s.NewRecord()
		rec.Reset(testEvent(messageData, ""))
		got, ok, err := c.Eval(rec)
		if !ok {
			got = "null"
		}
		if got != want || err != nil {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
}

// TestErrorsHoldNoValues evaluates what fails on texts of the event and looks for those in the errors.
func TestErrorsHoldNoValues(t *testing.T) {
	const secret = "Jane Roe 1970"
	data := `{"s":"Jane Roe 1970","m":{"Jane Roe 1970":1},"l":["Jane Roe 1970","Jane Roe 1970"],"t":"Jane\" Roe 1970"}`
	for _, text := range []string{
		`event.data.s + 1`, `formatdate("YYYY", event.data.s)`, `formatdate(event.data.s, event.time)`,
		`timeadd(event.time, event.data.s)`,
		`parseint(event.data.s, 10)`, `regex(event.data.s, "x")`, `regex("x", event.data.s)`,
		`matches(event.data.s, "(${event.data.s}")`,
		`{ for x in event.data.l : x => 1 }`, `jsondecode(event.data.s)`, `tonumber(event.data.s)`, `tobool(event.data.s)`,
		`event.data.s ? 1 : 2`, `event.data.s[0]`, `format("%d", event.data.s)`, `format(event.data.s, 1, 2)`,
		`tolist(event.data.s)`,
		`zipmap(event.data.l, [1])`, `element(event.data.m, 1)`, `lookup(event.data.m, "x")`, `slice(event.data.l, 1, 9)`,
		`event.data.m[event.data.l]`, `date(event.data.s)`, `timecmp(event.data.s, "x${event.data.s}")`, `"x${event.data.m}"`,
		`formatdate("YYYY", event.data.t)`, `try(event.data.s.x, tonumber(event.data.s))`, `merge(event.data.s, {})`,
		`setunion(event.data.s, event.data.l)`, `substr(event.data.s, "a", 1)`, `chunklist(event.data.l, -1)`,
		`event.data.s && true`, `{ (event.data.n) = 1 }`, `join(event.data.l, event.data.s)`,
	} {
		s := NewSet(testConsts, nil)
		ev, req := testEvent(data, "")
		_, err := argument(s, parse(t, text), ev, req)
		if err == nil {
			t.Errorf("%s does not fail", text)
			continue
		}
		for _, word := range append(strings.Fields(secret), "Roe") {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%s shows a value: %v", text, err)
				break
			}
		}
	}
}

// TestBounds evaluates expressions that would run long or fill the memory.
func TestBounds(t *testing.T) {
	many := `[` + strings.TrimSuffix(strings.Repeat(`"x",`, 5000), ",") + `]`
	deep := strings.Repeat("[", 60) + strings.Repeat("]", 60)
	long := strings.Repeat("a", 100_000)
	big := strings.Repeat("a", 1<<20)
	data := `{"big":"` + big + `","pattern":"(a?){1000}b","many":` + many + `,"more":[` + strings.TrimSuffix(strings.Repeat(many+",", 5), ",") + `],"deep":` + deep +
		`,"long":"` + long + `","bomb":"` + strings.Repeat("[", 50_000) + `"}`
	for text, want := range map[string]string{
		`[for a in event.data.many : [for b in event.data.many : b]]`:         "Expression does too much",
		`try([for a in event.data.many : [for b in event.data.many : b]], 1)`: "Expression does too much",
		`length(event.data.more[*])`:                                          "Value too large to compute with",
		`distinct(event.data.many)`:                                           "Invalid function argument",
		`jsondecode(event.data.bomb)`:                                         "Invalid function argument",
		`replace(event.data.long, "", event.data.long)`:                       "Invalid function argument",
		`format("%${length(event.data.many)}999d", 1)`:                        "Invalid function argument",
		`matches("a", event.data.long)`:                                       "Invalid function argument",
		// A large text for every element of a large list.
		`[for a in event.data.many : event.data.big]`:                             "Expression does too much",
		`[for a in event.data.many : { a = "${event.data.big}x" }]`:               "Expression does too much",
		`[for a in event.data.many : event["data"].big]`:                          "Expression does too much",
		`[for b in [[event.data.big]] : [for a in event.data.many : b]]`:          "Expression does too much",
		`"%{for a in event.data.many}${event.data.big}%{endfor}"`:                 "Expression does too much",
		`can(join("", [for a in event.data.many : event.data.big]))`:              "Expression does too much",
		`join(event.data.big, event.data.many)`:                                   "Invalid function argument",
		`formatlist("%s%s", event.data.many, event.data.big)`:                     "Invalid function argument",
		`format(join("", [for a in event.data.many : "%[1]s"]), event.data.long)`: "Invalid function argument",
		`[` + strings.Repeat("event.data.big,", 41) + `]`:                         "Message too large",
		`[` + strings.Repeat("event.data.big,", 39) + `]`:                         "",
		// Patterns that take long.
		`matches(event.data.big, event.data.pattern)`:          "Invalid function argument",
		`regex(event.data.pattern, event.data.big)`:            "Invalid function argument",
		`regexall(event.data.pattern, event.data.big)`:         "Invalid function argument",
		`regexreplace(event.data.big, event.data.pattern, "")`: "Invalid function argument",
		`length(regexall("a{3}", event.data.long))`:            "",
		`formatlist("%s-%s", event.data.many, "y")`:            "",
		`join(", ", event.data.many)`:                          "",
		`[for a in event.data.many : event.data.pattern]`:      "",
		`event.data.more`:                       "",
		`event.data.deep`:                       "",
		`length(event.data.many)`:               "",
		`contains(event.data.many, "y")`:        "",
		`[for a in event.data.many : upper(a)]`: "",
		`event.data.deep == event.data.deep`:    "",
	} {
		s := NewSet(testConsts, nil)
		ev, req := testEvent(data, "")
		_, err := argument(s, parse(t, text), ev, req)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Summary != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestGarbage evaluates over bytes that are no JSON, which a decoder must not send and a host must survive.
func TestGarbage(t *testing.T) {
	for _, data := range []string{
		"", "x", "{", `{"a"`, `{"a":`, `{"a":}`, `{"a":"`, `[`, `{"a":tru`, `{"a":-}`, "\xff", `{"a":1e}`, `"`,
	} {
		for _, text := range []string{
			`event.data.a == "x"`, `event.data.a + 1`, `"${event.data.a}"`, `event.data`, `event.data[*]`,
			`keys(event.data)`, `event.changes.a.old`, `keys(event.changes)`, `event`,
		} {
			s := NewSet(testConsts, nil)
			ev, req := testEvent(data, data)
			_, _ = argument(s, parse(t, text), ev, req)
		}
	}
}

// TestConcurrent evaluates one message from many goroutines, each with a record of its own.
func TestConcurrent(t *testing.T) {
	s := NewSet(testConsts, nil)
	m, diags := compileMessage(t, s, `v = { a = event.data.s, b = [for x in event.data.l : upper(x)], c = event.data.l[*], `+
		`d = "${event.data.i}${event.id}" }`, object(attr("v", anyOne)))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			rec := s.NewRecord()
			for range 200 {
				rec.Reset(testEvent(messageData, ""))
				out, err := m.Append(nil, rec)
				if want := `{"v":{"a":"Zoë","b":["A","<B>"],"c":["a","<b>"],"d":"7evt_1"}}`; err != nil || string(out) != want {
					t.Errorf("got %s, %v", out, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestReuse checks that nothing of an event shows in the next.
func TestReuse(t *testing.T) {
	for _, hclOnly := range []bool{false, true} {
		s := newTestSet(hclOnly)
		m, diags := compileMessage(t, s,
			`v = [event.data.a, "${event.type}", event.changes.x.old, request.source, event.data[*]]`,
			object(attr("v", anyOne)))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		rec := s.NewRecord()
		ev, req := testEvent(`{"a":1}`, `{"x":{"old":2}}`)
		rec.Reset(ev, req)
		if out, err := m.Append(nil, rec); err != nil ||
			string(out) != `{"v":[1,"peopleforce.employee.updated",2,"people",[{"a":1}]]}` {
			t.Errorf("got %s, %v", out, err)
		}
		rec.Reset(&core.Event{Envelope: sdk.Envelope{Type: "t"}}, nil)
		if out, err := m.Append(nil, rec); err != nil || string(out) != `{"v":[null,"t",null,null,[]]}` {
			t.Errorf("got %s, %v", out, err)
		}
		rec.Reset(nil, nil)
		if rec.ev == ev || rec.req == req {
			t.Error("Reset keeps the event")
		}
	}
}

func TestHeaderBytes(t *testing.T) {
	s := NewSet(testConsts, nil)
	m, diags := compileMessage(t, s, `v = [request.headers["x"], request.headers, "${request.headers["x"]}!", `+
		`values(request.headers)]`, object(attr("v", anyOne)))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := s.NewRecord()
	rec.Reset(&core.Event{}, &core.Request{Headers: []sdk.Header{{Name: "x", Value: "caf\xe9"}}})
	out, err := m.Append(nil, rec)
	if want := `{"v":["caf\ufffd",{"x":"caf\ufffd"},"caf\ufffd!",["caf\ufffd"]]}`; err != nil ||
		string(out) != strings.ReplaceAll(want, `\ufffd`, "\ufffd") {
		t.Errorf("got %s, %v", out, err)
	}
}

func TestAllocations(t *testing.T) {
	s := NewSet(testConsts, nil)
	cond, diags := s.Condition(parse(t, benchWhen))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	m, diags := compileMessage(t, s, `text = "Hi ${event.data.s} <${lower(event.data.red)}> ${event.data.i}"`,
		object(attr("text", mrkdwn)))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := s.NewRecord()
	ev, req := testEvent(messageData, "")
	dst := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		rec.Reset(ev, req)
		_, _ = cond.Eval(rec)
		_, _ = m.Append(dst, rec)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWorkIsBounded bounds what takes quadratic time here and what takes hcl itself exponential time.
func TestWorkIsBounded(t *testing.T) {
	for _, c := range []struct {
		name, before, middle, after string
		most                        int
	}{
		{"try", "try(", "event.data.id", ", null)", maxDoubling},
		{"jsonencode", "jsonencode(", "event.data.id", ")", maxDoubling},
		{"not", "!", "true", "", maxDepth - 2},
		{"or", "", "true", " || event.type == \"a\"", maxDepth - 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			nested := func(depth int) hcl.Diagnostics {
				text := strings.Repeat(c.before, depth) + c.middle + strings.Repeat(c.after, depth)
				e, diags := hclsyntax.ParseExpression([]byte(text), "test.hcl", hcl.InitialPos)
				if diags.HasErrors() {
					t.Fatal(diags)
				}
				_, diags = newTestSet(false).Text(e)
				return diags
			}
			if diags := nested(c.most); diags.HasErrors() {
				t.Error(diags)
			}
			for _, depth := range []int{c.most + 10, c.most + 90} {
				if diags := nested(depth); len(diags) != 1 || diags[0].Summary != "Expression nested too deeply" {
					t.Errorf("got %v", diags)
				}
			}
		})
	}
	for text, ok := range map[string]bool{"1e400": true, "-1e-400": true, "1e500": false, "9999999E9899999": false} {
		e, diags := hclsyntax.ParseExpression([]byte(text), "test.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if _, diags = newTestSet(false).Text(e); diags.HasErrors() == ok {
			t.Errorf("%s: %v", text, diags)
		}
	}
}
