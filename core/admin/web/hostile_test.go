package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// evil is text that must stay text wherever it stands.
const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}'</pre></title>` + "\u202e\x00"

// TestHostileTextStaysText puts markup into everything that strangers may fill, and looks at every page that shows it.
func TestHostileTextStaysText(t *testing.T) {
	f := newFixture(t)
	var quoted strings.Builder
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false) // as an attacker would
	if err := enc.Encode(evil); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{%[1]s:%[1]s}`, quoted.String())
	ids := f.add(t, received{
		source: "people", tenant: evil, body: body, headers: []sdk.Header{{Name: "x-evil", Value: evil}},
		events: []madeEvent{{
			kind: "x." + evil, subject: evil, data: body, changes: fmt.Sprintf(`{%[1]s:{"old":%[1]s,"new":%[1]s}}`, quoted.String()),
			deliveries: []madeDelivery{{
				route: "r" + evil, sink: "s" + evil, message: body, key: evil, state: core.DeliveryDead, reason: evil,
				attempts: []core.Attempt{{Number: 1, At: noon, Outcome: "rejected", Reason: evil, Notes: []string{evil}}},
			}},
		}},
	}, received{source: "people", body: evil, dead: evil})
	r, err := f.control.Request(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	pages := []string{
		"/", "/tail", "/requests", "/events", "/deliveries", "/dead", "/unrouted", "/rejections", "/sinks", "/requests/" + ids[0],
		"/requests/" + ids[1], "/requests/" + ids[0] + "/payload", "/requests/" + ids[0] + "/payload?view=raw",
		"/requests/" + ids[1] + "/payload", "/events/" + r.Events[0].ID, "/deliveries/" + r.Deliveries[0].ID,
	}
	for _, list := range []string{"/requests", "/events", "/deliveries"} {
		for _, name := range []string{"source", "type", "subject", "tenant", "state", "route", "sink", "request"} {
			pages = append(pages, address(list, query(name, evil)))
		}
	}
	for _, page := range pages {
		d := get(t, f, page) // which fails for scripts, handlers and addresses elsewhere
		if d.status != http.StatusOK {
			t.Errorf("%s: %d", page, d.status)
		}
		for _, n := range d.all("img") {
			t.Errorf("%s: an image %v", page, n.Attr)
		}
	}
	if got := get(t, f, "/events/"+r.Events[0].ID).texts(".code .str"); !slices.ContainsFunc(got, func(s string) bool {
		return strings.Contains(s, "<script>alert(1)</script>")
	}) {
		t.Errorf("the data is not shown as it is: %q", got)
	}
}

func TestLargePayloadsAreCut(t *testing.T) {
	f := newFixture(t)
	long := `{"text":"` + strings.Repeat("x", 10<<20) + `"}`
	many := "[" + strings.Repeat("1,", 1<<19) + "1]"
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	ids := f.add(t, received{source: "a", body: long}, received{source: "a", body: many}, received{source: "a", body: deep})
	for i, id := range ids {
		for _, view := range []string{"", "?view=raw"} {
			d := get(t, f, "/requests/"+id+"/payload"+view)
			if d.status != http.StatusOK || len(d.body) > 2<<20 {
				t.Fatalf("%d%s: status %d, a page of %d bytes", i, view, d.status, len(d.body))
			}
			cut := len(d.all("p.cut")) > 0
			shown := text(d.one("pre.code"))
			if want := i < 2 && (view != "" || i == 1) || i == 2 && view == ""; cut != want {
				t.Errorf("%d%s: cut: %v; %d bytes shown", i, view, cut, len(shown))
			}
			if cut && attr(d.one("p.cut a"), "href") != "/requests/"+id+"/body" {
				t.Error("no link to the whole")
			}
		}
	}
	if d := get(t, f, "/requests/"+ids[0]+"/payload"); !strings.Contains(d.text("pre.code"), "characters more") {
		t.Error("nothing says that the text goes on")
	}
	d := get(t, f, "/requests/"+ids[0]+"/body")
	if d.body != long || d.header.Get("Content-Type") != "application/octet-stream" ||
		!strings.HasPrefix(d.header.Get("Content-Disposition"), "attachment") ||
		!strings.Contains(d.header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("the download: %d bytes, %v", len(d.body), d.header)
	}
}

func TestBytesThatAreNoText(t *testing.T) {
	f := newFixture(t)
	ids := f.add(t, received{source: "a", body: "\xff\xfe\x00<b>"}, received{source: "a", body: "a\r\n\x1b[31mb\x7f"})
	d := get(t, f, "/requests/"+ids[0]+"/payload")
	if got := d.text("pre.hex"); !strings.Contains(got, "ff fe 00 3c 62 3e") {
		t.Errorf("a dump: %s", got)
	}
	if got := get(t, f, "/requests/"+ids[0]+"/body").body; got != "\xff\xfe\x00<b>" {
		t.Errorf("the download: %q", got)
	}
	if got := get(t, f, "/requests/"+ids[1]+"/payload").text("pre.code"); got != "a␍ ␛[31mb␡" {
		t.Errorf("control characters: %q", got)
	}
}

func TestPretty(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1.0,"b":[true,null,{}],"a":"x\u00e9"}`: "{\n  \"a\": 1.0,\n  \"b\": [\n    true,\n    null,\n    {}\n  ],\n" +
			"  \"a\": \"x\\u00e9\"\n}",
		` [ ] `: "[]", `1e400`: "1e400", `"a"`: `"a"`, `{"":{"":[[]]}}`: "{\n  \"\": {\n    \"\": [\n      []\n    ]\n  }\n}",
		`["a","b"]`: "[\n  \"a\",\n  \"b\"\n]",
	} {
		if got := plain(pretty([]byte(in), nil)); got != want {
			t.Errorf("%s is laid out as\n%s", in, got)
		}
	}
	for _, in := range []string{"", "{", "a", `{"a":1}x`, "\xff"} {
		if !pretty([]byte(in), nil).Plain {
			t.Errorf("%q is laid out", in)
		}
	}
}

func TestPrettyMarksChanges(t *testing.T) {
	cs := changesOf([]byte(`{"b.c":{"old":1,"new":2.0},"gone":{"old":[1]},"list":{"new":[1, 2]}}`))
	if len(cs) != 3 || cs[0].Field != "b.c" || cs[1].New != "" || cs[2].Old != "" {
		t.Fatalf("%+v", cs)
	}
	var marked []string
	for _, l := range pretty([]byte(`{"value":{"b":{"c":2.0,"d":2.0},"c":2.0},"b":{"c":3}}`), cs).Lines {
		if l.Change != nil {
			marked = append(marked, plain(layout{Lines: []line{l}})+" was "+l.Change.Old)
		}
	}
	if want := []string{`      "c": 2.0, was 1`}; !slices.Equal(marked, want) {
		t.Errorf("marked: %q", marked)
	}
}

// plain is a layout as text.
func plain(l layout) string {
	var lines []string
	for _, l := range l.Lines {
		s := l.Indent
		for _, t := range l.Tokens {
			s += t.Text
		}
		lines = append(lines, s)
	}
	return strings.Join(lines, "\n")
}

// FuzzPretty lays out and shows whatever comes.
func FuzzPretty(f *testing.F) {
	for _, s := range []string{`{"a":[1,2,{"b":null}]}`, `[[[]]]`, `"\ud800"`, "\xff", `{"a":1,"a":{"a":"` + evil + `"}}`, ` 1 `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := pretty(b, []change{{Field: "a", New: "1"}, {Field: "a.b", New: "null"}})
		raw := rawOf(b)
		if !utf8.ValidString(raw.Text) {
			t.Error("the raw view is no text")
		}
		if l.Plain != !json.Valid(b) {
			t.Fatalf("plain: %v", l.Plain)
		}
		if l.Plain || l.Cut {
			return
		}
		text := plain(l)
		if !utf8.ValidString(text) {
			t.Error("the layout is no text")
		}
		if visible(b) == string(b) && !strings.Contains(text, " more") && compactJSON([]byte(text)) != compactJSON(b) {
			t.Errorf("the layout is another text:\n%s\n%s", b, text)
		}
		if _, err := html.Parse(strings.NewReader("<pre>" + html.EscapeString(text) + "</pre>")); err != nil {
			t.Error(err)
		}
	})
}
