package expr

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

// generator makes expressions out of fuzz bytes, so that every input means something.
type generator struct {
	b      []byte
	strict bool // only references that exist: plain hcl must agree, too
	size   int
	vars   []string // of the for expressions around
}

func (g *generator) byte() int {
	if len(g.b) == 0 {
		return 0
	}
	c := g.b[0]
	g.b = g.b[1:]
	return int(c)
}

func pick[T any](g *generator, of ...T) T { return of[g.byte()%len(of)] }

var fuzzData = []string{
	`{"id":4101,"s":"Zoë","t":"abc","n":null,"f":40.0,"e":1e2,"h":0.5,"m":-3,"z":0,"b":true,"c":false,` +
		`"q":"a\"\n\u00e9","d":"e\u0301","k":"42","y":"true","x":"","o":{"i":12,"n":"P & <C>","z":null},` +
		`"l":["abc",null,3,"42"],"a":[{"n":"a","v":1},{"n":"b","v":null}],"w":"2026-03-01",` +
		`"g":"2026-02-14T09:30:00+01:00","p":{}}`,
	`{"id":"4101","s":40,"t":true,"n":"now","f":"40","e":null,"h":-0,"m":123456789012345678901234567890,` +
		`"z":-0.0,"b":"true","c":"false","q":"\ud800","d":"\u1100\u1161","k":[1],"y":1,"x":{},` +
		`"o":{"i":"1","n":null,"z":{"z":1}},"l":[],"a":[{"n":1,"v":1.50}],"w":"","g":1e400,"p":[[]]}`,
}

const fuzzChanges = `{"st":{"old":"a","new":"b"},"sa":{"new":50000.00},"no":{"old":null,"new":null}}`

func (g *generator) ref() string {
	refs := []string{
		"event.data.id", "event.data.s", "event.data.t", "event.data.n", "event.data.f", "event.data.e", "event.data.h",
		"event.data.m", "event.data.z", "event.data.b", "event.data.c", "event.data.q", "event.data.d", "event.data.k",
		"event.data.y", "event.data.x", "event.data.o", "event.data.o.i", "event.data.o.n", "event.data.o.z", "event.data.l",
		"event.data.a", "event.data.a[0].n", "event.data.a[0].v", "event.data.w", "event.data.g", "event.data.p",
		"event.type", "event.subject", "event.raw.s", "request.source", "local.greeting", "local.limit", "local.list",
		`request.headers["x-kind"]`, "event.changes.st.old", "event.changes.st.has_new",
	}
	if !g.strict {
		refs = append(refs, "event.data.nope", "event.data.n.x", "event.data.o.z.y", "event.data.l[7]", "event.data.l[1]",
			"event.data.s.x", "event.data.a[1].n", "event.tenant", `event.changes["none"]`, "event.changes.sa.old",
			"event.changes.none.has_old", "event.changes.st", "event.changes", `request.headers["none"]`, "event.data.a.n",
			`event.data.l["0"]`, "event.data[\"o\"][\"i\"]", "request.received_at", "request.headers", "event.changes.sa.new")
	}
	refs = append(refs, g.vars...)
	for _, v := range g.vars {
		if !g.strict {
			refs = append(refs, v+".n", v+".v")
		}
	}
	return pick(g, refs...)
}

func (g *generator) literal() string {
	return pick(g, "0", "1", "2", "40", "100", "4101", "0.5", "2.50", "1e2", "123456789012345678901234567890",
		"true", "false", "null", `""`, `"a"`, `"abc"`, `"Zoë"`, `"42"`, `"true"`, `"1"`,
		`"e`+"\u0301"+`"`, `"é"`, `"\u0301"`, `"2026-03-01"`, `"0.1"`, `"-0"`, `" x "`, `"1e3"`, `"P & <C>"`)
}

func (g *generator) list(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = g.expr()
	}
	return strings.Join(parts, ", ")
}

func (g *generator) template() string {
	var b strings.Builder
	b.WriteByte('"')
	for range 1 + g.byte()%3 {
		switch g.byte() % 5 {
		case 0:
			b.WriteString(pick(g, "a", " ", "é", "\u0301", "<&>", "-"))
		case 1:
			fmt.Fprintf(&b, "%%{ if %s }%s%%{ else }x%%{ endif }", g.expr(), pick(g, "y", "${"+g.expr()+"}"))
		case 2:
			v := fmt.Sprintf("v%d", len(g.vars))
			fmt.Fprintf(&b, "%%{ for %s in %s }", v, g.expr())
			g.vars = append(g.vars, v)
			fmt.Fprintf(&b, "[${%s}]%%{ endfor }", g.expr())
			g.vars = g.vars[:len(g.vars)-1]
		default:
			b.WriteString("${" + g.expr() + "}")
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (g *generator) expr() string {
	g.size++
	if g.size > 25 {
		return g.literal()
	}
	switch g.byte() % 20 {
	case 0, 1, 2, 3:
		return g.ref()
	case 4, 5:
		return g.literal()
	case 6:
		return "(" + g.expr() + pick(g, " == ", " != ") + g.expr() + ")"
	case 7:
		return "(" + g.expr() + pick(g, " < ", " <= ", " > ", " >= ") + g.expr() + ")"
	case 8, 9:
		return "(" + g.expr() + pick(g, " && ", " || ") + g.expr() + ")"
	case 10:
		return "(" + g.expr() + pick(g, " + ", " - ", " * ", " / ", " % ") + g.expr() + ")"
	case 11:
		return pick(g, "!", "-") + g.expr()
	case 12, 13:
		return "(" + g.expr() + " ? " + g.expr() + " : " + g.expr() + ")"
	case 14:
		return g.template()
	case 15:
		name := pick(g, "upper", "lower", "trimspace", "tostring", "tonumber", "tobool", "length", "can", "raw", "date",
			"strlen", "jsonencode", "keys", "abs", "jsondecode", "title", "sort", "distinct", "flatten", "tolist", "toset")
		return name + "(" + g.expr() + ")"
	case 16:
		name := pick(g, "startswith", "endswith", "contains", "timecmp", "trimprefix", "trimsuffix", "join", "split",
			"element", "merge", "concat", "matches", "lookup", "setunion")
		if name == "matches" {
			return name + "(" + g.expr() + ", " + pick(g, `"^[a-z]+$"`, `"4"`, `"("`, g.expr()) + ")"
		}
		return name + "(" + g.expr() + ", " + g.expr() + ")"
	case 17:
		name := pick(g, "coalesce", "try", "coalesce", "replace", "contains", "format", "present", "max")
		switch name {
		case "replace":
			return name + "(" + g.list(3) + ")"
		case "contains":
			return name + "([" + g.list(g.byte()%4) + "], " + g.expr() + ")"
		case "format":
			return name + "(" + pick(g, `"%s|%v"`, `"%d %s"`, `"%05d%%"`) + ", " + g.list(2) + ")"
		case "present":
			if g.strict {
				return "true"
			}
			return name + "(" + g.ref() + ")"
		}
		return name + "(" + g.list(1+g.byte()%3) + ")"
	case 18:
		switch g.byte() % 4 {
		case 0:
			return "[" + g.list(g.byte()%3) + "]"
		case 1:
			return "{ a = " + g.expr() + ", b = " + g.expr() + pick(g, "", ", a = "+g.expr(), `, "${event.type}" = 1`,
				", (event.data.t) = "+g.expr()) + " }"
		case 2:
			if g.strict {
				return g.ref() + "[*]"
			}
			return g.ref() + "[*]" + pick(g, "", ".n")
		}
		v := fmt.Sprintf("v%d", len(g.vars))
		coll := g.expr()
		g.vars = append(g.vars, v)
		val := g.expr()
		cond := ""
		if g.byte()%2 == 0 {
			cond = " if " + g.expr()
		}
		g.vars = g.vars[:len(g.vars)-1]
		return "[for " + v + " in " + coll + " : " + val + cond + "]"
	default:
		if g.strict {
			return `local.names["42"]`
		}
		return pick(g, "local.names", "event.data.o", "event.data.l", "local.list") + "[" + g.expr() + "]"
	}
}

func fuzzCase(b []byte) (text string, strict bool, data string) {
	g := &generator{b: b}
	head := g.byte()
	g.strict = head&1 == 1
	data = fuzzData[0]
	if !g.strict {
		data = fuzzData[head>>1&1]
	}
	return g.expr(), g.strict, data
}

// FuzzCompiledMatchesHCL compares the closures with hcl on generated expressions: value, absence and failure must be
// the same. Expressions that use none of the exceptions are compared with plain hcl, too.
func FuzzCompiledMatchesHCL(f *testing.F) {
	for i := range 64 {
		f.Add([]byte{byte(i), byte(i * 7), byte(i * 13), byte(i), byte(255 - i), byte(i * 3), byte(i * 5), 1, 2, 3, 4, 5})
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text, strict, data := fuzzCase(b)
		compareAll(t, text, strict, data)
	})
}

// TestCompiledMatchesHCL does the same with random bytes.
func TestCompiledMatchesHCL(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range *generated {
		b := make([]byte, 60)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		text, strict, data := fuzzCase(b)
		compareAll(t, text, strict, data)
	}
}

var generated = flag.Int("generated", 500, "how many random expressions to compare")

func compareAll(t *testing.T, text string, strict bool, data string) {
	e, diags := hclsyntax.ParseExpression([]byte(text), "test.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return // the generator made a shape that the grammar refuses, such as a.b[*] in an index
	}
	ev, req := testEvent(data, fuzzChanges)
	fast, fastErr := argument(newTestSet(false), e, ev, req)
	slow, slowErr := argument(newTestSet(true), e, ev, req)
	if fast != slow || (fastErr == nil) != (slowErr == nil) {
		t.Fatalf("%s\nclosures: %s %v\nhcl:      %s %v", text, fast, fastErr, slow, slowErr)
	}
	if fastErr == nil && fast != "absent" {
		if err := jsonscan.Check([]byte(fast), jsonscan.DefaultLimits()); err != nil {
			t.Fatalf("%s\nis no JSON: %s: %v", text, fast, err)
		}
	}
	if _, compiling := errors.AsType[hcl.Diagnostics](fastErr); strict && !compiling {
		want, wantErr := plain(e, ev, req)
		// What is surely wrong on any event is reported when compiling, even where hcl would not get to it.
		if (fastErr == nil) != (wantErr == nil) || fastErr == nil && fast != "absent" && !sameJSON(fast, want) {
			t.Fatalf("%s\nhere:      %s %v\nplain hcl: %s %v", text, fast, fastErr, want, wantErr)
		}
	}
	compareScalars(t, text, e, data)
}

// compareScalars compares the same expression as a condition and as a text.
func compareScalars(t *testing.T, text string, e hclsyntax.Expression, data string) {
	var results [2]string
	for i, hclOnly := range []bool{false, true} {
		s := newTestSet(hclOnly)
		cond, diags := s.Condition(e)
		if !diags.HasErrors() {
			rec := s.NewRecord()
			rec.Reset(testEvent(data, fuzzChanges))
			b, err := cond.Eval(rec)
			results[i] = fmt.Sprint(b, err)
		}
		s = newTestSet(hclOnly)
		order, diags := s.Text(e)
		if !diags.HasErrors() {
			rec := s.NewRecord()
			rec.Reset(testEvent(data, fuzzChanges))
			text, ok, err := order.Eval(rec)
			results[i] += fmt.Sprint(text, ok, err)
		}
	}
	if results[0] != results[1] {
		t.Fatalf("%s\nclosures: %s\nhcl:      %s", text, results[0], results[1])
	}
}

// evilData is fuzzData[0] with texts that must not get through an escape.
var evilData = strings.NewReplacer(`"Zoë"`, `"<evil>"`, `"abc"`, `"a<evil>"`, `"P & <C>"`, `"<EVIL"`, `"n":"a"`, `"n":"<evil|>"`).
	Replace(fuzzData[0])

// FuzzEscape renders generated expressions into an attribute that takes any value and is escaped: the closures and hcl
// agree, and no text of the event gets through as it is.
func FuzzEscape(f *testing.F) {
	for i := range 64 {
		f.Add([]byte{byte(i * 5), byte(i * 3), byte(i * 11), byte(i), byte(255 - i), byte(i * 3), byte(i * 5), 1, 2, 3, 4, 5})
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkEscape(t, b) })
}

// TestEscape does the same with random bytes.
func TestEscape(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range *generated / 4 {
		b := make([]byte, 60)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		checkEscape(t, b)
	}
}

func checkEscape(t *testing.T, b []byte) {
	g := &generator{b: b}
	text := g.expr()
	if strings.Contains(text, "raw(") {
		return
	}
	if _, diags := hclsyntax.ParseExpression([]byte(text), "test.hcl", hcl.InitialPos); diags.HasErrors() {
		return
	}
	for _, schema := range []sdk.Schema{anyMrkdwn, {Kind: sdk.KindList, Element: &anyMrkdwn}, mrkdwn} {
		var results [2]string
		for i, hclOnly := range []bool{false, true} {
			s := newTestSet(hclOnly)
			m, diags := compileMessage(t, s, "v = "+text, object(attr("v", schema)))
			if diags.HasErrors() {
				continue
			}
			rec := s.NewRecord()
			rec.Reset(testEvent(evilData, fuzzChanges))
			out, err := m.Append(nil, rec)
			results[i] = fmt.Sprint(string(out), err)
			if err != nil {
				continue
			}
			if err := jsonscan.Check(out, jsonscan.DefaultLimits()); err != nil {
				t.Fatalf("%s\nis no JSON: %s: %v", text, out, err)
			}
			if strings.Contains(valuesOf(t, out), "<evil") {
				t.Fatalf("%s\ngets through: %s", text, out)
			}
		}
		if results[0] != results[1] {
			t.Fatalf("%s\nclosures: %s\nhcl:      %s", text, results[0], results[1])
		}
	}
}

// valuesOf is the texts in a JSON value, without the names of members, in lower case.
func valuesOf(t *testing.T, js []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(js, &v); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			b.WriteString(strings.ToLower(v) + "\n")
		case []any:
			for _, el := range v {
				walk(el)
			}
		case map[string]any:
			for _, el := range v {
				walk(el)
			}
		}
	}
	walk(v)
	return b.String()
}
