package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

// shop is a configuration that uses most of what there is.
func shop(t testing.TB) string {
	t.Helper()
	body, err := os.ReadFile("testdata/order.json")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile("testdata/order.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	quote := func(b []byte) string {
		q, err := json.Marshal(string(b))
		if err != nil {
			t.Fatal(err)
		}
		return string(q)
	}
	return `{
		"provider": "shop", "title": "Example Shop",
		"signature": {"header": "X-Shop-Signature", "content": "{timestamp}.{body}", "separator": ",", "item_key": "v1",
			"timestamp": {"item": "t", "tolerance": 60000000000}},
		"dedupe": ["{header.x-request-id}", "{/id}/{/event}/{/at}"],
		"event": {
			"type": "{/event}", "ignore": ["ping"], "subject": "order/{/order/id|/order/number}",
			"partition_key": "customer/{/order/customer/id}", "tenant": "{header.x-shop}", "time": "{/at}",
			"time_format": "unix", "data": "/order", "changes": {"old": "/before", "new": "/order"}
		},
		"types": {
			"order.created": {"words": ["ORDER_NEW"], "description": "A customer ordered.", "schema": ` + quote(schema) + `,
				"sample": {"body": ` + quote(body) + `, "headers": {"X-Shop": "acme", "X-Request-Id": "r-1001"}}},
			"order.changed": {"words": ["ORDER_PAID", "ORDER_SHIPPED"], "operation": "updated",
				"sample": {"body": ` + strings.Replace(quote(body), "ORDER_NEW", "ORDER_PAID", 1) + `}}
		}
	}`
}

func TestConformance(t *testing.T) {
	plugintest.Decoder(t, factory(), plugintest.Options{Config: shop(t), Golden: "testdata/golden"})
}

func TestReadme(t *testing.T) { plugintest.Readme(t, factory(), "README.md") }

// made is a decoder for a configuration, JSON.
func made(t testing.TB, config string) sdk.Decoder {
	t.Helper()
	d, err := factory().Open(context.Background(), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// decode returns what a decoder makes of a body.
func decode(t testing.TB, d sdk.Decoder, body string, headers ...string) sdk.Decoded {
	t.Helper()
	r := &sdk.Request{ID: "r", Source: "s", Method: "POST", Query: "a=1&b=%20x", Body: []byte(body)}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, sdk.Header{Name: headers[i], Value: headers[i+1]})
	}
	return sdk.DecodeAll(context.Background(), d, []*sdk.Request{r})[0]
}

// show is a result on a line for each event.
func show(d sdk.Decoded) string {
	if d.Refused != "" {
		return "refused: " + d.Refused
	}
	var lines []string
	for _, e := range d.Events {
		line := e.Type
		for _, x := range []struct{ name, text string }{
			{"subject", e.Subject}, {"key", e.PartitionKey}, {"op", e.Operation}, {"tenant", e.Tenant}, {"time", e.Time},
			{"data", string(e.Data)},
		} {
			if x.text != "" && !(x.name == "key" && x.text == e.Subject) {
				line += " " + x.name + "=" + x.text
			}
		}
		for _, c := range e.Changes {
			line += fmt.Sprintf(" %s:%s>%s", c.Field, c.Old, c.New)
		}
		for _, n := range e.Notes {
			line += " (" + n + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ name, event, body, want string }{
		{"constant", `"type":"thing.made"`, `{"a":1}`, `p.thing.made data={"a":1}`},
		{"template", `"type":"{/kind}.{/verb}"`, `{"kind":"Order","verb":"created"}`,
			`p.order.created op=created data={"kind":"Order","verb":"created"}`},
		{"odd words", `"type":"{/t}","data":"/d"`, `{"t":"orders/créate. ..x ","d":1}`, `p.orders_cr__ate.x data=1`},
		{"long word", `"type":"{/t}","data":"/d"`, `{"t":"` + strings.Repeat("a", 70) + "." + strings.Repeat("b", 70) + `.c","d":1}`,
			`p.` + strings.Repeat("a", 64) + "." + strings.Repeat("b", 61) + ` data=1`},
		{"type of dots", `"type":"{/t}"`, `{"t":" . . "}`, `refused: the type is nothing but full stops and white space`},
		{"no type", `"type":"{/t|/u}"`, `{"t":null,"u":""}`, `refused: the type is not there: nothing is at {/t|/u}`},
		{"type is an object", `"type":"{/t}"`, `{"t":{}}`, `refused: the type is not there: nothing is at {/t}`},
		{"ignored", `"type":"{/t}","ignore":["ping","pong"]`, `{"t":"pong"}`, ``},
		{"query and header", `"type":"{query.b}","subject":"{header.X-A,x-c}","data":"/d"`, `{"d":[]}`, `p.x subject=head data=[]`},
		{"subject", `"type":"x","subject":"{{{/id}}}:{/n}:{/b}","data":"/d"`, `{"id":"a\u0062","n":1.50,"b":true}`,
			`p.x subject={ab}:1.50:true (there is nothing at the pointer of the data: it is null)`},
		{"no subject", `"type":"x","subject":"a/{/id}","data":"/d"`, `{"d":null}`,
			`p.x (there is no subject: nothing is at {/id})`},
		{"key without subject", `"type":"x","partition_key":"{/id}","data":"/d"`, `{"d":1,"id":7}`, `p.x key=7 data=1`},
		{"operation", `"type":"x.deleted","operation":"{/op}","data":"/d"`, `{"d":1,"op":"gone"}`, `p.x.deleted op=gone data=1`},
		{"last part", `"type":"x.deleted","data":"/d"`, `{"d":1}`, `p.x.deleted op=deleted data=1`},
		{"escaped pointer", `"type":"{/a~1b/m~0n}","data":"/l/1/0"`, `{"a/b":{"m~n":"t"},"l":[0,[{"z":1}]]}`, `p.t data={"z":1}`},
		{"rfc3339", `"type":"x","time":"{/at}","data":"/d"`, `{"d":1,"at":"2026-02-14T08:00:00+01:00"}`,
			`p.x time=2026-02-14T08:00:00+01:00 data=1`},
		{"no time", `"type":"x","time":"{/at}","data":"/d"`, `{"d":1}`, `p.x data=1`},
		{"bad time", `"type":"x","time":"{/at}","data":"/d"`, `{"d":1,"at":"yesterday"}`, `p.x data=1 (` + noteTime + `)`},
		{"items", `"items":"/list","type":"{/t}","subject":"{body/id}-{/n}","data":"/n"`,
			`{"id":7,"list":[{"t":"a","n":1},{"t":"b","n":2}]}`, "p.a subject=7-1 data=1\np.b subject=7-2 data=2"},
		{"items at the root", `"items":"","type":"x"`, `[1,"two"]`, "p.x data=1\np.x data=\"two\""},
		{"no items", `"items":"/list","type":"x"`, `{"list":[]}`, ""},
		{"bad item", `"items":"","type":"{/t}"`, `[{"t":"a"},{}]`, "refused: item 1: the type is not there: nothing is at {/t}"},
		{"items are no array", `"items":"/list","type":"x"`, `{"list":{}}`,
			"refused: what is at the pointer of the items is an object, not an array"},
		{"items are missing", `"items":"/list","type":"x"`, `{}`,
			"refused: what is at the pointer of the items is absent, not an array"},
		{"a list where none is declared", `"type":"{/t}"`, `[{"t":"a"}]`, "refused: the type is not there: nothing is at {/t}"},
		{"before and after", `"type":"x","data":"/n","changes":{"old":"/o","new":"/n"}`,
			`{"o":{"a":1,"b":2,"c":null},"n":{"a":1,"b":3}}`, `p.x data={"a":1,"b":3} b:2>3 c:null>`},
		{"before alone", `"type":"x","data":"/d","changes":{"old":"/o"}`, `{"o":{"a":1},"d":1}`, `p.x data=1 a:1>`},
		{"no before", `"type":"x","data":"/d","changes":{"old":"/o","new":""}`, `{"o":null,"d":1}`, `p.x data=1`},
		{"entries of an object", `"type":"x","data":"/d","changes":{"each":"/c","old":"/from","new":"/to"}`,
			`{"c":{"a":{"from":1,"to":2},"b":{"to":3},"c":{}},"d":1}`, `p.x data=1 a:1>2 b:>3`},
		{"entries of a list", `"type":"x","data":"/d","changes":{"each":"/c","name":"/f","old":"/0","new":"/to"}`,
			`{"c":[{"f":"a","to":2},{"f":"b","to":3},{"f":"a","to":4},{"f":5,"to":6}],"d":1}`, `p.x data=1 a:>4 b:>3`},
		{"no JSON", `"type":"x"`, ``, `refused: the body is not JSON`},
	} {
		d := made(t, `{"provider":"p","event":{`+c.event+`}}`)
		if diff := cmp.Diff(c.want, show(decode(t, d, c.body, "x-a", "head"))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct{ format, text, want string }{
		{"unix", "1771056000", "2026-02-14T08:00:00Z"},
		{"unix", "1771056000.25", "2026-02-14T08:00:00.25Z"},
		{"unix", "-1.5", "1969-12-31T23:59:58.5Z"},
		{"unix", "1e9", ""},
		{"unix", "9223372036854775807", ""},
		{"unix", "-9223372036854775808", ""},
		{"unix", "253402300800", ""},
		{"unix", "", ""},
		{"unix_ms", "1771056000250", "2026-02-14T08:00:00.25Z"},
		{"unix_ms", "9223372036854775807", ""},
		{"datetime", "2026-02-14 08:00:00", "2026-02-14T08:00:00Z"},
		{"datetime", "2026-02-14 08:00:00.5", "2026-02-14T08:00:00.5Z"},
		{"datetime", "2026-02-14T08:00:00Z", ""},
		{"rfc3339", "2026-02-14T08:00:00.000Z", "2026-02-14T08:00:00.000Z"},
		{"rfc3339", "2026-02-14", ""},
	} {
		got, ok := timeOf(c.format, c.text)
		if ok != (c.want != "") || ok && got != c.want || ok && !sdk.ValidTime(got) {
			t.Errorf("%s %q: %q, %v; want %q", c.format, c.text, got, ok, c.want)
		}
	}
}

// Bodies of a content type that the host does not check are checked here.
func TestUncheckedBodies(t *testing.T) {
	d := made(t, `{"provider":"p","event":{"type":"x"},"content_types":["text/plain"]}`)
	if got := show(decode(t, d, `{"a":1`)); got != "refused: the body is not JSON" {
		t.Error(got)
	}
	if got := show(decode(t, d, `{"a":1}`)); got != `p.x data={"a":1}` {
		t.Error(got)
	}
}

func TestMistakes(t *testing.T) {
	order := `"types":{"order.made":{"sample":{"body":"{\"event\":\"order.made\",\"at\":1}"}}}`
	for _, c := range []struct{ config, want string }{
		{`"event":{"type":""}`, `event.type: is empty`},
		{`"event":{"type":"{order}"}`, `event.type: {order} is no place: write {/a/json/pointer}, {body/a/json/pointer}, ` +
			`{header.Name} or {query.name}`},
		{`"event":{"type":"{/a"}`, `event.type: a brace is not closed; the sign itself is written {{`},
		{`"event":{"type":"a}"}`, `event.type: a closing brace stands alone; the sign itself is written }}`},
		{`"event":{"type":"{/a~b}"}`, `event.type: "/a~b" is no JSON pointer: a ~ is written ~0, a / in a name ~1`},
		{`"event":{"type":"{}"}`, `event.type: {} is no place: write {/a/json/pointer}, {body/a/json/pointer}, {header.Name} or {query.name}`},
		{`"event":{"type":"{header.X Y}"}`, `event.type: {header.X Y}: "X Y" is no header name`},
		{`"event":{"type":"x","subject":"{body}"}`, `event.subject: {body} is for what the host does with a request; an event has none`},
		{`"event":{"type":"x","data":"order"}`, `event.data: "order" is no JSON pointer: it starts with a slash`},
		{`"event":{"type":"x","data":"{/data}"}`, `event.data: "{/data}" is no JSON pointer: write it without braces: "/data"`},
		{`"event":{"type":"/event"},"types":{"a":{"sample":{"body":"{\"event\":\"a\"}"}}}`,
			`types.a.sample: makes p._event, not p.a: a place needs braces: event.type = "{/event}"`},
		{`"event":{"type":"x"},"signature":{"header":"X","content":"{ts}:{body}"}`, `signature.content: {ts} is no place: write ` +
			`{timestamp}, {body}, {/a/json/pointer}, {body/a/json/pointer}, {header.Name} or {query.name}`},
		{`"event":{"type":"x"},"dedupe":["{id}"]`, `dedupe.0: {id} is no place: write {body}, {/a/json/pointer}, ` +
			`{body/a/json/pointer}, {header.Name} or {query.name}`},
		{`"event":{"type":"x","items":"list"}`, `event.items: "list" is no JSON pointer: it starts with a slash`},
		{`"event":{"type":"x","changes":{}}`, `event.changes.old: is missing in changes`},
		{`"event":{"type":"x","changes":{"old":"/a","name":"/b"}}`, `event.changes.name: is for entries, so each is needed`},
		{`"provider":"My Shop","event":{"type":"x"}`, `provider: "My Shop" is no name: names start with a letter a to z and go on ` +
			`with those, digits and underscores`},
		{`"event":{"type":"x"},"types":{"Order Made":{}}`, `types.Order Made: "Order Made" is no event type: types are parts of a-z, ` +
			`0-9 and _ with full stops between them, at most 64 bytes each: order.created`},
		{`"event":{"type":"x"},"types":{"a":{"words":["w"]},"b":{"words":["v","w"]}}`, `types.b.words.1: "w" means a already`},
		{`"event":{"type":"x","ignore":["a"]},"types":{"a":{}}`, `event.ignore.0: "a" means a`},
		{`"event":{"type":"{/event}"},"types":{"a":{"sample":{"body":"{"}}}`, `types.a.sample.body: is no JSON`},
		{`"event":{"type":"{/event}"},"types":{"a":{"sample":{"body":"{}"}}}`,
			`types.a.sample: cannot be decoded: the type is not there: nothing is at {/event}`},
		{`"event":{"type":"{/event}"},"types":{"a":{"sample":{"body":"{\"event\":\"b\"}"}}}`, `types.a.sample: makes p.b, not p.a`},
		{`"event":{"type":"{/event}","ignore":["b"]},"types":{"a":{"sample":{"body":"{\"event\":\"b\"}"}}}`,
			`types.a.sample: makes no event, not p.a`},
		{`"event":{"type":"x"},"types":{"a":{"schema":"{\"type\":\"text\"}"}}`, `types.a.schema: the schema: unknown type "text"`},
		{`"event":{"type":"x"},"dedupe":["order"]`, `dedupe.0: has no place: every request would be the same`},
		{`"event":{"type":"x"},"dedupe":["{/a|/b}"]`, `dedupe.0: {/a|/b}: alternatives cannot stand here`},
		{`"event":{"type":"x"},"dedupe":["{timestamp}"]`,
			`dedupe.0: {timestamp} and {path_token} say nothing of what a request is about`},
		{`"event":{"type":"x"},"signature":{"header":"X Y"}`, `signature.header: "X Y" is no header name`},
		{`"event":{"type":"x"},"signature":{"header":"X","content":"{/id}"}`,
			`signature.content: lacks {body}: anybody could change it: write what is signed, such as {timestamp}.{body}`},
		{`"event":{"type":"x"},"signature":{"header":"X","content":"{timestamp}.{body}"}`,
			`signature.content: names the timestamp, and where that stands is not declared: write timestamp { header = "X-Timestamp" }, ` +
				`or item = "t" where it is in the signature's header`},
		{`"event":{"type":"x"},"signature":{"header":"X","timestamp":{"header":"Y"}}`, `signature.content: does not name {timestamp}: ` +
			`it would protect nothing: write what is signed, such as {timestamp}.{body}`},
		{`"event":{"type":"x"},"signature":{"header":"X","content":"{timestamp}{body}","timestamp":{"item":"t"}}`,
			`signature.timestamp.item: needs a separator and an item_key of the signature, another one`},
		{`"event":{"type":"x"},"signature":{"header":"X","content":"{timestamp}{body}","timestamp":{}}`,
			`signature.timestamp: needs either header or item`},
		{`"event":{"type":"x"},"signature":{"header":"X","content":"{timestamp}{body}","timestamp":{"header":"T","tolerance":5}}`,
			`signature.timestamp.tolerance: must be within a second and a year`},
		{`"event":{"type":"x"},"signature":{"header":"X","item_key":"a","item_version":"b"}`,
			`signature.item_version: is there beside item_key; items are key=value or version,value`},
		{`"event":{"type":"x"},"signature":{"header":"X","separator":",","item_version":"b"}`,
			`signature.separator: cannot be a comma with item_version`},
		{`"event":{"type":"x"},"signature":{"header":"X","algorithm":"ed25519","prefix":"b"}`,
			`signature.prefix: is for HMAC, not for ed25519`},
		{`"event":{"type":"x"},"token":{"place":"{/token}"}`,
			`token.place: must be one place: {header.X-Api-Key}, {query.key} or {path_token}`},
		{`"event":{"type":"x"},"token":{"place":"{path_token}","prefix":"Bearer "}`,
			`token.prefix: is for headers, and the token is in none`},
		{`"event":{"type":"x"},"handshake":{"echo":"a{/b}"}`,
			`handshake.echo: must be one place: {/a/json/pointer}, {header.Name} or {query.name}, or a text`},
		{`"event":{"type":"x"},"handshake":{"echo":"{/b}","method":"POST"}`, `handshake: is missing: every webhook would be a test: ` +
			`such as when = { "{/type}" = "url_verification" }`},
		{`"event":{"type":"x"},"handshake":{"echo":"{/b}","method":"get"}`, `handshake.method: "get" is no HTTP method`},
		{`"event":{"type":"x"},"handshake":{"echo":"{/b}","when":{"type":"y"}}`,
			`handshake.when.type: must be one place: {/a/json/pointer}, {header.Name} or {query.name}`},
		{`"event":{"type":"x"},"reply":{"status":404}`, `reply.status: 404 is not within 200 and 299`},
		{`"event":{"type":"x"},"content_types":["Application/JSON"]`,
			`content_types.0: "Application/JSON" is no media type in lower case without parameters`},
		{`"event":{"type":"x"},"headers":["x y"]`, `headers.0: "x y" is no header name`},
		{`"event":{"type":"{/event}"},` + order, ``},
	} {
		config := `{` + c.config + `}`
		if !strings.Contains(config, `"provider"`) {
			config = `{"provider":"p",` + c.config + `}`
		}
		_, err := factory().Manifest([]byte(config))
		got := ""
		if err != nil {
			var all []string
			for _, e := range sdk.AttributeErrors(err) {
				text := strings.Join(e.Path, ".") + ": " + e.Summary
				if e.Detail != "" {
					text += ": " + e.Detail
				}
				all = append(all, text)
			}
			got = strings.Join(all, "\n")
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.config, diff)
		}
	}
}

func TestManifest(t *testing.T) {
	p, err := factory().Manifest([]byte(strings.Replace(shop(t), `"types": {`, `"types": {"order.lost": {},`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	pointer := func(name string) sdk.Part { return sdk.Part{Kind: sdk.PartJSONPointer, Name: name} }
	literal := func(text string) sdk.Part { return sdk.Part{Kind: sdk.PartLiteral, Name: text} }
	want := sdk.Scheme{
		Name: "signature", Description: "a signature in X-Shop-Signature, as the configuration declares it",
		HMAC: &sdk.HMAC{
			Headers: []string{"X-Shop-Signature"}, Algorithm: sdk.SHA256, Encoding: sdk.Hex, KeyFormat: sdk.KeyText,
			SignedContent: []sdk.Part{{Kind: sdk.PartTimestamp}, literal("."), {Kind: sdk.PartBody}},
			Timestamp:     &sdk.Timestamp{ItemKey: "t", PastSeconds: 60, FutureSeconds: 60}, Separator: ",", ItemKey: "v1",
		},
	}
	if diff := cmp.Diff(want, p.Schemes[0]); diff != "" || p.ChooseScheme {
		t.Errorf("the scheme (-want +got):\n%s", diff)
	}
	if got := len(p.Schemes) - len(sdk.Presets()); got != 1 {
		t.Errorf("%d schemes besides the presets", got)
	}
	keys := []sdk.DedupeKey{
		{{Kind: sdk.PartHeader, Name: "x-request-id"}},
		{pointer("/id"), literal("/"), pointer("/event"), literal("/"), pointer("/at")},
	}
	if diff := cmp.Diff(keys, p.Dedupe); diff != "" {
		t.Errorf("dedupe (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"x-shop"}, p.Headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	// The type's place stays as it is, or a copy would be of another type.
	vary := []sdk.Variation{
		{Part: pointer("/at"), Kind: sdk.VaryTime}, {Part: sdk.Part{Kind: sdk.PartHeader, Name: "x-request-id"}, Kind: sdk.VaryID},
		{Part: pointer("/id"), Kind: sdk.VaryID},
	}
	for _, e := range p.Events {
		switch e.Type {
		case "shop.order.created":
			if diff := cmp.Diff(vary, e.Samples[0].Vary); diff != "" {
				t.Errorf("variations (-want +got):\n%s", diff)
			}
			if a := e.Data.Attribute("total"); a == nil || a.Kind != sdk.KindString || a.Optional {
				t.Errorf("the schema of the file: %+v", a)
			}
		case "shop.order.changed":
			if a := e.Data.Attribute("total"); a == nil || a.Kind != sdk.KindString || a.Optional || a.Nullable {
				t.Errorf("what the sample shows: %+v", a)
			}
		case "shop.order.lost":
			if e.Data.Kind != sdk.KindAny || e.Samples != nil {
				t.Errorf("a type without anything: %+v", e)
			}
		default:
			t.Errorf("there is %s", e.Type)
		}
	}
	if bare, err := factory().Manifest([]byte(`{"provider":"p","event":{"type":"x"}}`)); err != nil || !bare.ChooseScheme {
		t.Errorf("without a signature: %v, %v", bare.ChooseScheme, err)
	}
}

func TestShape(t *testing.T) {
	for in, want := range map[string]string{
		`[{"a":1,"b":null,"c":[{"d":"x"},{"d":null,"e":true}]},{"a":2}]`: `{a number, b any?, c [{d string0, e bool?}]?}`,
		`[{"a":1},{"a":"x"}]`: `{a any}`,
		`[{"a":{}},{"a":[]}]`: `{a any}`,
		`[{"":1}]`:            `any`,
		`["x",null]`:          `string0`,
		`[null]`:              `any`,
		`[[],[1]]`:            `[number]`,
	} {
		var samples []json.RawMessage
		if err := json.Unmarshal([]byte(in), &samples); err != nil {
			t.Fatal(err)
		}
		if got := outline(shapeOf(samples)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// outline is a schema in short; a 0 stands where null is possible, a ? where a field may be missing.
func outline(s sdk.Schema) string {
	text := outlineKind(s)
	if s.Nullable && s.Kind != sdk.KindAny {
		text += "0"
	}
	if s.Optional {
		text += "?"
	}
	return text
}

func outlineKind(s sdk.Schema) string {
	switch s.Kind {
	case sdk.KindObject:
		var fields []string
		for _, a := range s.Attributes {
			fields = append(fields, a.Name+" "+outline(a.Schema))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case sdk.KindList:
		return "[" + outline(*s.Element) + "]"
	case sdk.KindMap:
		return "map " + outline(*s.Element)
	}
	return string(s.Kind)
}

func TestJSONSchema(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":["string","null"]},"c":{"$ref":"#/$defs/x"}},
			"$defs":{"x":{"type":"array","items":{"type":"boolean"}}}}`: `{a integer?, b string0?, c [bool]?}`,
		`{"properties":{"a":{"enum":["x","y"]},"b":{"enum":[1]},"c":{"const":"z"}}}`: `{a string?, b any?, c string?}`,
		`{"type":"object","additionalProperties":{"type":"number"}}`:                 `map number`,
		`{"type":"object"}`:             `map any`,
		`{"oneOf":[{"type":"string"}]}`: `any`,
		`{"type":["string","number"]}`:  `any`,
		`{"properties":{"a":true}}`:     `{a any?}`,
		`{"type":"array"}`:              `[any]`,
		`{"$ref":"#/$defs/x","$defs":{"x":{"type":"array","items":{"$ref":"#/$defs/x"}}}}`: `[[[[[[[[[[[[any]]]]]]]]]]]]`,
		`{"$ref":"#/definitions/x"}`: `error: the schema: $ref "#/definitions/x" is not in $defs or definitions`,
		`{"type":"text"}`:            `error: the schema: unknown type "text"`,
		`{"properties":{"a":{"items":{"type":7},"type":"array"}}}`: `error: /a/items: type is neither a name nor a list of names`,
		`{`:                      `error: is no JSON`,
		`{"properties":{"":{}}}`: `error: /: the name is empty, too long or there twice`,
		`{"properties":[]}`:      `error: is no JSON Schema that is understood: not a JSON object`,
	} {
		s, err := schemaOf([]byte(in))
		got := outline(s)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	s, err := schemaOf([]byte(`{"properties":{"a":{"type":"string"},"b":{"enum":["x",null]}},"required":["a"]}`))
	if err != nil || s.Optional || s.Attribute("a").Optional || !s.Attribute("b").Optional || !s.Attribute("b").Nullable {
		t.Errorf("%+v, %v", s, err)
	}
}

// FuzzDecode decodes any body with configurations that use all places.
func FuzzDecode(f *testing.F) {
	shopConfig := shop(f)
	decoders := []sdk.Decoder{
		made(f, shopConfig),
		made(f, `{"provider":"p","event":{"items":"","type":"{/t|header.x-t}","subject":"{body/0/id}",
			"changes":{"each":"/c","name":"/f","old":"/o","new":"/n"},"time":"{/at}","time_format":"unix_ms"}}`),
		made(f, `{"provider":"p","event":{"type":"{query.t|header.x-t}","data":"/0","time":"{/at}","time_format":"datetime"},
			"content_types":["text/plain"]}`),
	}
	body, err := os.ReadFile("testdata/order.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, "a.B", "t=x")
	f.Add([]byte(`[{"t":"a","c":[{"f":"x","o":1}],"at":1771056000250}]`), "", "%zz")
	f.Fuzz(func(t *testing.T, body []byte, header, query string) {
		for _, d := range decoders {
			r := &sdk.Request{ID: "r", Method: "POST", Query: query, Body: body, Headers: []sdk.Header{{Name: "x-t", Value: header}}}
			first := sdk.DecodeAll(context.Background(), d, []*sdk.Request{r})[0]
			if strings.HasPrefix(first.Refused, "panic") {
				t.Fatal(first.Refused)
			}
			for _, e := range first.Events {
				name, rest, _ := strings.Cut(e.Type, ".")
				if (name != "p" && name != "shop") || typeOf(name, rest) != e.Type || len(e.Type) > maxType {
					t.Errorf("type %q", e.Type)
				}
				if e.Time != "" && !sdk.ValidTime(e.Time) {
					t.Errorf("time %q", e.Time)
				}
				if json.Valid(body) && e.Data != nil && !json.Valid(e.Data) {
					t.Errorf("data %q", e.Data)
				}
			}
			if diff := cmp.Diff(first, sdk.DecodeAll(context.Background(), d, []*sdk.Request{r})[0]); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// FuzzConfig compiles configurations made of foreign texts: templates, a schema and a sample.
func FuzzConfig(f *testing.F) {
	f.Add("{/a|header.x}", "/a/0", `{"properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{"$ref":"#/$defs/b"}}}`, `{"a":["x"]}`)
	f.Add("{{a}}", "", `{"enum":[null]}`, `[{}]`)
	f.Fuzz(func(t *testing.T, text, pointer, schema, sample string) {
		cfg := &Config{
			Provider: "p", Methods: []string{"POST"}, ContentTypes: []string{"application/json"},
			Event:  Event{Type: text, Subject: text, Data: pointer, Items: &pointer, Changes: &Changes{Old: pointer, New: pointer}},
			Types:  map[string]Type{text: {}, "a": {Schema: schema, Sample: &Sample{Body: sample}}},
			Dedupe: []string{text}, Signature: &Signature{Header: text, Content: text, Encoding: "hex", Timestamp: &Timestamp{Header: text}},
			Token: &Token{Place: text}, Handshake: &Handshake{Method: "GET", Echo: text, When: map[string]string{text: text}},
		}
		_, _, err := compile(cfg)
		if err != nil && errors.As(err, new(*sdk.AttributeError)) {
			return
		}
		if err != nil {
			t.Errorf("an error without a place: %v", err)
		}
	})
}
