package rest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/internal/fake"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

func TestConfigMistakes(t *testing.T) {
	const step = `{"method":"POST","path":"/x"}`
	const lookup = `"lookup":{"method":"GET","path":"/x","found":"","id":"/id"}`
	const good = lookup + `,"create":` + step
	for _, c := range []struct{ config, want string }{
		{`{}`, `rest.lookup: is missing`},
		{`{"create":` + step + `}`, `rest.lookup: is missing`},
		{`{` + lookup + `}`, `rest.lookup: is given without a step that follows it`},
		{`{` + good + `,"upsert":` + step + `}`, `rest.create: is given beside upsert`},
		{`{"upsert":` + step + `,"archive":{"method":"DELETE","path":"/x/{id}"}}`, `rest.archive.path: {id} means nothing here`},
		{`{` + good + `,"update":{"method":"PUT","path":"x"}}`, `rest.update.path: a path starts with "/"; it is added to base_url`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x#y"}}`, `rest.update.path: a path has no blanks and no fragment`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{id"}}`, `rest.update.path: a "{" without its "}"`},
		{`{` + good + `,"update":{"method":"PUT","path":"/id}"}}`, `rest.update.path: no URI template (RFC 6570): failed to expand token, invalid at col: 3`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{id:x}"}}`, `rest.update.path: no URI template (RFC 6570): illegal character identified in the token at col: 5`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{}"}}`, `rest.update.path: {} is no placeholder; a brace that means itself is written twice`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{fields}"}}`, `rest.update.path: {fields} is an object`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{found}"}}`, `rest.update.path: {found} needs a member behind it`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{id.x}"}}`, `rest.update.path: {id} has no members to name`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{key.value}"}}`, `rest.update.path: {key} has no members to name`},
		{`{` + good + `,"update":{"method":"PUT","path":"/{idd}"}}`,
			`rest.update.path: {idd} means nothing here`},
		{`{` + lookup + `,"create":{"method":"POST","path":"/x/{id}"}}`,
			`rest.create.path: {id} means nothing here`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x","query":{"a":"{"}}}`, `rest.update.query.a: a "{" without its "}"; a brace that means itself is written twice`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x","headers":{"A b":"}"}}}`,
			`rest.update.headers.A b: a "}" without its "{"; a brace that means itself is written twice; rest.update.headers.A b: is no name of a header`},
		{`{` + good + `,"headers":{"host":"a\nb"}}`, `rest.headers.host: cannot be set; rest.headers.host: has a control character`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x","body":{"a":[1,{"b":"{nope}"}]}}}`,
			`rest.update.body.a.1.b: {nope} means nothing here`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x","body":{"a":[1,{"b":"x {"}]}}}`,
			`rest.update.body.a.1.b: a "{" without its "}"; a brace that means itself is written twice`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x","body":{"{key}":1}}}`, `rest.update.body.{key}: the name of a member cannot have placeholders`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x","body":{"a":"x{fields}"}}}`, `rest.update.body.a: {fields} is an object`},
		{`{` + good + `,"update":{"method":"GET","path":"/x","body":{}}}`, `rest.update.body: does not go with GET`},
		{`{` + good + `,"update":{"method":"PUT","path":"/x","escape":{"ab":""}}}`, `rest.update.escape.ab: is not a single character`},
		{`{"lookup":{"method":"GET","path":"/","found":"x","id":"/~2","where":{"y":"{z}"},"none":[40]},"create":` + step + `}`,
			`rest.lookup.found: a JSON pointer starts with "/"; rest.lookup.id: in a JSON pointer "~" is written "~0", and "/" in a name "~1"; ` +
				`rest.lookup.where.y: a JSON pointer starts with "/"; rest.lookup.where.y: {z} means nothing here; ` +
				`rest.lookup.none.0: is no HTTP status`},
		{`{` + good + `,"check":{"method":"GET","path":"/{key}"}}`, `rest.check.path: {key} means nothing here`},
		{`{` + good + `,"login":{"method":"POST","path":"/l{key}","values":{"user":"/u","a-b":"x"},"session":{"header":"","value":"{nope}"}}}`,
			`rest.login.path: {key} means nothing here; ` +
				`rest.login.values.a-b: a JSON pointer starts with "/"; rest.login.values.a-b: is no name for a value; rest.login.values.user: is no name for a value; ` +
				`rest.login.session.value: {nope} means nothing here; rest.login.session.header: is no name of a header`},
		{`{` + good + `,"login":{"method":"POST","path":"/l","body":{"u":"{user}"},"values":{"t":"/t"},"session":{"value":"{t}{password}"}}}`,
			`rest.login.user: is missing; rest.login.password: is missing`},
		{`{` + good + `,"login":{"method":"POST","path":"/l","values":{},"session":{"value":""},"lifetime":-1}}`, `rest.login.session.value: is empty; rest.login.lifetime: is negative`},
		{`{` + good + `,"errors":{"at":"x","expect":"/~","message":"y","field":"z","rules":[{"class":"skip"},{"class":"retry","status":[1],"at":"q"},{"class":"skip","contains":"x","pause":1}]}}`,
			`rest.errors.at: a JSON pointer starts with "/"; rest.errors.expect: in a JSON pointer "~" is written "~0", and "/" in a name "~1"; ` +
				`rest.errors.message: a JSON pointer starts with "/"; rest.errors.field: a JSON pointer starts with "/"; rest.errors.rules.0: matches every failure; ` +
				`rest.errors.rules.1.status.0: is no HTTP status; rest.errors.rules.1.at: a JSON pointer starts with "/"; rest.errors.rules.2.pause: is of no use here`},
	} {
		_, err := load(c.config)
		var got []string
		for _, e := range sdk.AttributeErrors(err) {
			got = append(got, strings.Join(e.Path, ".")+": "+e.Summary)
		}
		if text := strings.Join(got, "; "); text != c.want && !strings.HasPrefix(text, c.want+"; ") || c.want == "" {
			t.Errorf("%s:\ngot  %s\nwant %s", c.config, text, c.want)
		}
	}
	if _, err := load(`{` + good + `}`); err != nil {
		t.Error(err)
	}
	if _, err := load(fake.RPCSteps); err != nil {
		t.Error(err)
	}
}

func TestPointer(t *testing.T) {
	const doc = `{"a":{"b":[10,{"c":"d"}],"":5,"x/y":6,"m~n":7,"~1":8},"0":[],"ü":9}`
	for _, c := range []struct{ pointer, want string }{
		{"", doc}, {"/a/b/0", "10"}, {"/a/b/1/c", `"d"`}, {"/a/", "5"}, {"/a/x~1y", "6"}, {"/a/m~0n", "7"}, {"/a/~01", "8"}, {"/ü", "9"},
		{"/a/b/2", ""}, {"/a/b/-", ""}, {"/a/b/01", ""}, {"/a/b/+1", ""}, {"/a/b/-1", ""}, {"/0", "[]"}, {"/0/0", ""}, {"/x", ""}, {"/a/b/1/c/d", ""},
		{"/a/b/99999999999999999999", ""},
	} {
		p, err := parsePointer(c.pointer)
		if err != nil {
			t.Errorf("%q: %v", c.pointer, err)
			continue
		}
		if got := string(p.in(rawjson.Value(doc))); got != c.want {
			t.Errorf("%q leads to %s, want %s", c.pointer, got, c.want)
		}
	}
	for _, bad := range []string{"a", "~", "/~", "/a~2", "/~0~", "#/a"} {
		if p, err := parsePointer(bad); err == nil {
			t.Errorf("%q is a pointer: %q", bad, p)
		}
	}
}

// stand gives every placeholder the same value.
func stand(value string) values {
	return func(ref) (rawjson.Value, error) { return rawjson.Value(value), nil }
}

func TestEmbed(t *testing.T) {
	for _, c := range []struct{ template, value, want string }{
		{`{key}`, `"it's"`, `it's`},
		{`code='{key}'`, `"ü/ 1 & 2"`, `code='ü/ 1 & 2'`},
		{`code='{key}'`, `"it's"`, `refused`},
		{`code="{key}"`, `"a\"b"`, `refused`},
		{"code=`{key}`", "\"a`b\"", `refused`},
		{`x {key}`, `"a\\"`, `refused`},
		{`x {key}`, `"a\nb"`, `refused`},
		{`x {key}`, `"a\u0000b"`, `refused`},
		{`x {key}`, `"50%"`, `x 50 percent`},
		{`{{{key}}}`, `1.0`, `{1.0}`},
		{`{{key}}`, `1.0`, `{key}`},
		{`{key}{key}`, `true`, `truetrue`},
	} {
		parsed, err := parseText(c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		got, err := parsed.text(stand(c.value), map[string]string{"%": " percent"})
		if err != nil {
			got = "refused"
		}
		if got != c.want {
			t.Errorf("%s with %s is %s, want %s", c.template, c.value, got, c.want)
		}
	}
	parsed, err := parseText("'{key}'")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parsed.text(stand(`"it's"`), map[string]string{"'": "''"}); err != nil || got != "'it''s'" {
		t.Errorf("escaped: %s, %v", got, err)
	}
}

func TestPathTemplate(t *testing.T) {
	for _, c := range []struct{ template, value, want string }{
		{"/a/{key}", `"é名😀 /?#%+&=~"`, "/a/%C3%A9%E5%90%8D%F0%9F%98%80%20%2F%3F%23%25%2B%26%3D~"},
		{"/a{/key}{?key,id}{&object}", `"x y"`, "/a/x%20y?key=x%20y&id=x%20y&object=x%20y"},
		{"/set(alt='{key}')", `"AB-1"`, "/set(alt='AB-1')"},
		{"/set(alt='{key}')", `"AB'1"`, "refused"},
		{"/set(alt=%27{key}%27)", `"AB'1"`, "refused"},
		{"/a/{key}", `".."`, "refused"},
		{"/a/{key}", `"."`, "refused"},
		{"/a/{key}", `""`, "refused"},
		{"/a/{key}", `null`, "refused"},
		{"/a/{key}", `[1]`, "refused"},
		{"/a/{fields.a_b.c}", `12`, "/a/12"},
		{"/a/{key}", `"b..c/..d"`, "/a/b..c%2F..d"},
		{"/a/{key}", `"../b"`, "refused"},
		{"/a/{key}", `"b\\..;x"`, "refused"},
		{"/a/{key:2}", `"..b"`, "refused"},
		{"/a/.{key}", `".b"`, "/a/..b"},
		{"/a/.{key:1}", `".b"`, "refused"},
		{"/a{.key:1}", `".b"`, "/a.."},
		{"/a{?key}", `"../b"`, "/a?key=..%2Fb"},
		{"/a/{+key}", `"b/c"`, "/a/b/c"},
		{"/a/{+key}", `"b/../c"`, "refused"},
		{"/a/{+key}", `"b/%2E%2e/c"`, "refused"},
		{"/a/{+key}", `"b?c"`, "refused"},
		{"/a/{+key}", `"b#c"`, "refused"},
	} {
		p, err := parsePath(c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		got, err := p.expand(stand(c.value), nil)
		if err != nil {
			got = "refused"
		}
		if got != c.want {
			t.Errorf("%s with %s is %s, want %s", c.template, c.value, got, c.want)
		}
	}
}

// FuzzTemplate checks that whatever a value is, it does not get out of where the template puts it.
func FuzzTemplate(f *testing.F) {
	f.Add(`{"a":["{key}","x{key}y",{"b":"{{{id}}}"}],"n":1e400}`, `/a/{key}{?id}`, `filter='{key}'`, `it's "x" \ `)
	f.Add(`"{key}"`, `/{+key}/{key}`, `{key}`, "../é\x00")
	f.Add(`[[["{key.name}","=","{key}"]],null,true,-0.0]`, `/x{&a.b,c}`, `}}{{`, "名")
	f.Fuzz(func(t *testing.T, body, address, text, value string) {
		token, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		v := stand(string(token))
		if b, err := parseBody([]byte(body)); err == nil {
			plainBody, err := b.json(stand(`"v"`), nil)
			if err != nil || !json.Valid(plainBody) {
				t.Fatalf("%s became %s, %v", body, plainBody, err)
			}
			if out, err := b.json(v, nil); err == nil {
				if !json.Valid(out) {
					t.Fatalf("%s with %q became %s", body, value, out)
				}
				if got, want := outline(t, out), outline(t, plainBody); got != want {
					t.Fatalf("%s with %q has another shape: %s, want %s", body, value, got, want)
				}
			}
			// A whole value goes in as it is.
			if !slices.ContainsFunc(b.parts, func(p part) bool { return p.ref != nil && !p.whole }) {
				if out, err := b.json(stand(`{"x":[1.0]}`), nil); err != nil || !json.Valid(out) {
					t.Fatalf("%s with an object became %s, %v", body, out, err)
				}
			}
		}
		if p, err := parsePath(address); err == nil && !strings.ContainsAny(address, "+") {
			out, err := p.expand(v, nil)
			low, err2 := p.expand(stand(`"v"`), nil)
			if err2 != nil {
				t.Fatalf("%s: %v", address, err2)
			}
			if err == nil {
				for _, c := range "/?&=#" {
					if strings.Count(out, string(c)) != strings.Count(low, string(c)) {
						t.Fatalf("%s with %q became %s, without it %s", address, value, out, low)
					}
				}
			}
		}
		if p, err := parseText(text); err == nil {
			out, err := p.text(v, nil)
			if err == nil && p.careful && strings.ContainsAny(value, `'"\`) && slices.ContainsFunc(p.parts, func(p part) bool { return p.ref != nil }) {
				t.Fatalf("%q with %q became %q", text, value, out)
			}
		}
	})
}

// outline is a JSON text with its strings emptied.
func outline(t *testing.T, text []byte) string {
	t.Helper()
	var out strings.Builder
	var walk func(v rawjson.Value)
	walk = func(v rawjson.Value) {
		switch v.Kind() {
		case rawjson.Object:
			out.WriteByte('{')
			for w := rawjson.Members(v); w.Next(); {
				out.WriteString(quote(string(w.Name)) + ":")
				walk(w.Value)
			}
			out.WriteByte('}')
		case rawjson.Array:
			out.WriteByte('[')
			for w := rawjson.Elements(v); w.Next(); {
				walk(w.Value)
			}
			out.WriteByte(']')
		case rawjson.String:
			out.WriteString(`""`)
		default:
			out.Write(v)
		}
		out.WriteByte(' ')
	}
	walk(rawjson.Root(text))
	return out.String()
}

func TestScopeShown(t *testing.T) {
	if d := cmp.Diff("no placeholders", scope{}.String()); d != "" {
		t.Error(d)
	}
}
