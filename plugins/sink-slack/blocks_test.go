package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/plugins/sink-slack/internal/fakeslack"
	"github.com/grapnelhq/grapnel/sdk"
)

func mustCompose(t *testing.T, m Message) content {
	t.Helper()
	c, err := compose(&m, "test.thing.created", maxText)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func raws(blocks ...string) []json.RawMessage {
	var all []json.RawMessage
	for _, b := range blocks {
		all = append(all, json.RawMessage(b))
	}
	return all
}

func repeated(n int, format string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = strings.ReplaceAll(format, "#", fmt.Sprint(i))
	}
	return strings.Join(parts, ",")
}

// TestLimits has too much of everything that Slack counts. The fake, which has limits of its own, takes the result.
func TestLimits(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	section := func(text string) string {
		return fmt.Sprintf(`{"type":"section","text":{"type":"mrkdwn","text":%q}}`, text)
	}
	for _, tt := range []struct {
		name   string
		blocks []json.RawMessage
		want   string // of the blocks; "" is not compared, "text" is none
		note   string
	}{
		{"as it is", raws(section("a"), `{"type":"divider"}`),
			`[{"text":{"text":"a","type":"mrkdwn"},"type":"section"},{"type":"divider"}]`, ""},
		{"nulls", raws(`null`, section("a"),
			`{"type":"section","accessory":null,"fields":[null,{"type":"mrkdwn","text":"f","emoji":null}],"text":null}`),
			`[{"text":{"text":"a","type":"mrkdwn"},"type":"section"},{"fields":[{"text":"f","type":"mrkdwn"}],"type":"section"}]`, ""},
		{"nested lists", raws(section("a"),
			`{"type":"table","rows":[[{"type":"raw_text","text":"a&amp;b"},null],null,[]]}`),
			`[{"text":{"text":"a","type":"mrkdwn"},"type":"section"},{"rows":[[{"text":"a&b","type":"raw_text"}],[]],"type":"table"}]`, ""},
		{"number", raws(`{"type":"divider","x":12345678901234567890.10}`), "", ""},
		{"51 blocks", raws(strings.Split(repeated(51, `{"type":"divider"}`), ",")...), "",
			"51 blocks, of which Slack takes 50"},
		{"section text", raws(section(x(3001))), "", "blocks[0].text.text has 3001 characters and is cut to 3000"},
		{"empty section", raws(section(""), section("a")), `[{"text":{"text":"a","type":"mrkdwn"},"type":"section"}]`,
			"blocks[0] has nothing to show"},
		{"blank section", raws(section(" \n"), section("a")), "", "blocks[0] has nothing to show"},
		{"section without text", raws(`{"type":"section"}`, section("a")), "", "blocks[0] has nothing to show"},
		{"fields", raws(`{"type":"section","fields":[` + repeated(11, `{"type":"mrkdwn","text":"f#"}`) + `]}`), "",
			"blocks[0].fields has 11 elements, of which Slack takes 10"},
		{"field text", raws(`{"type":"section","fields":[{"type":"mrkdwn","text":"` + x(2001) + `"}]}`), "",
			"blocks[0].fields[0].text has 2001"},
		{"empty field", raws(`{"type":"section","fields":[{"type":"mrkdwn","text":""},{"type":"mrkdwn","text":"f"}]}`),
			"", "blocks[0].fields[0] is left out"},
		{"header", raws(`{"type":"header","text":{"type":"plain_text","text":"` + x(151) + `"}}`), "",
			"blocks[0].text.text has 151"},
		{"header in mrkdwn", raws(`{"type":"header","text":{"type":"mrkdwn","text":"a","verbatim":true}}`),
			`[{"text":{"text":"a","type":"plain_text"},"type":"header"}]`, ""},
		{"context", raws(`{"type":"context","elements":[` + repeated(11, `{"type":"mrkdwn","text":"c#"}`) + `]}`), "",
			"blocks[0].elements has 11"},
		{"empty context", raws(`{"type":"context","elements":[{"type":"mrkdwn","text":""}]}`, section("a")), "",
			"blocks[0] has nothing"},
		{"context without elements", raws(`{"type":"context"}`, section("a")), "", "blocks[0] has nothing"},
		{"actions", raws(`{"type":"actions","elements":[` + repeated(26,
			`{"type":"button","text":{"type":"plain_text","text":"b#"}}`) + `]}`), "",
			"blocks[0].elements has 26"},
		{"button", raws(`{"type":"actions","elements":[{"type":"button","action_id":"` + x(256) + `","value":"` + x(2001) + `","accessibility_label":"` + x(76) +
			`","text":{"type":"mrkdwn","text":"` + x(76) + `","verbatim":false}}]}`), "", "value is longer than 2000"},
		{"button with a long address", raws(`{"type":"actions","elements":[{"type":"button","url":"https://` + x(3000) +
			`","text":{"type":"plain_text","text":"b"}},{"type":"button","url":"https://x.example/?a=1&amp;b=&lt;","text":{"type":"plain_text","text":"c&amp;"}}]}`),
			`[{"elements":[{"text":{"text":"c&amp;","type":"plain_text"},"type":"button","url":"https://x.example/?a=1&b=<"}],"type":"actions"}]`,
			"blocks[0].elements[0] is left out"},
		{"accessory", raws(`{"type":"section","text":{"type":"mrkdwn","text":"a"},"accessory":{"type":"image","image_url":"https://` + x(3000) + `","alt_text":"i"}}`),
			`[{"text":{"text":"a","type":"mrkdwn"},"type":"section"}]`, ""},
		{"image", raws(`{"type":"image","image_url":"https://x.example/i.png?a&amp;b","alt_text":"` + x(2001) + `","title":{"type":"plain_text","text":"` + x(2001) + `"}}`),
			"", "blocks[0].alt_text has 2001"},
		{"image without alt_text", raws(`{"type":"image","image_url":"https://x.example/i.png","title":{"type":"plain_text","text":"P &amp; C"}}`),
			`[{"alt_text":"P & C","image_url":"https://x.example/i.png","title":{"text":"P &amp; C","type":"plain_text"},"type":"image"}]`, ""},
		{"image address", raws(`{"type":"image","image_url":"https://`+x(3000)+`","alt_text":"i"}`, section("a")), "",
			"blocks[0] has nothing"},
		{"block ids", raws(`{"type":"divider","block_id":"a"}`, `{"type":"divider","block_id":"a"}`,
			`{"type":"divider","block_id":"`+x(256)+`"}`,
			`{"type":"divider","block_id":""}`, `{"type":"divider","block_id":7}`),
			`[{"block_id":"a","type":"divider"},{"type":"divider"},{"type":"divider"},{"type":"divider"},{"type":"divider"}]`, "blocks[1].block_id is that"},
		{"markdown", raws(`{"type":"markdown","text":"`+x(6000)+`"}`, `{"type":"markdown","text":"`+x(4000)+`"}`), "", ""},
		{"too much markdown", raws(`{"type":"markdown","text":"`+x(11990)+`"}`,
			`{"type":"markdown","text":"`+strings.Repeat("é", 100)+`"}`), "text",
			"blocks[1].text is cut"},
		{"rich text", raws(`{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"&lt;!channel&gt; &amp; co"}]}]}`),
			`[{"elements":[{"elements":[{"text":"<!channel> & co","type":"text"}],"type":"rich_text_section"}],"type":"rich_text"}]`, ""},
		{"deep text", raws(`{"type":"section","text":{"type":"mrkdwn","text":"a"},"accessory":{"type":"overflow","confirm":{"text":{"type":"mrkdwn","text":"` + x(3001) + `"}}}}`),
			"", "blocks[0].accessory.confirm.text.text has 3001"},
		{"too many bytes", raws(section(x(2990)), section(x(2990)), section(x(2990)), section(x(2990))), "text",
			"the blocks have"},
		{"too many bytes of few characters", raws(section(strings.Repeat("é", 2900)), section(strings.Repeat("é", 2900)),
			section(strings.Repeat("é", 900))),
			"text", "the blocks have"},
		{"emoji", raws(section(strings.Repeat("😀", 1501))), "", "blocks[0].text.text has 3002"},
		{"an unknown block", raws(`{"type":"hologram","text":"&lt;a&gt;","x_url":"a&amp;b"}`),
			`[{"text":"&lt;a&gt;","type":"hologram","x_url":"a&b"}]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustCompose(t, Message{Blocks: tt.blocks})
			if blank(c.text) || blank(c.plain) {
				t.Errorf("no text beside the blocks: %+v", c)
			}
			switch {
			case tt.want == "text":
				if c.blocks != nil {
					t.Errorf("%d bytes of blocks", len(c.blocks))
				}
			case tt.want != "" && string(c.blocks) != tt.want:
				t.Errorf("got  %s\nwant %s", c.blocks, tt.want)
			}
			notes := strings.Join(c.notes, "\n")
			if (tt.note == "") != (notes == "") && tt.name != "accessory" || !strings.Contains(notes, tt.note) {
				t.Errorf("notes %q, want %q", notes, tt.note)
			}
			if len(c.notes) > maxNotes+1 || strings.Contains(notes, "xxxx") {
				t.Errorf("notes %q", notes)
			}
			if tt.name == "an unknown block" {
				return
			}
			h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
			b, err := json.Marshal(map[string]any{"blocks": tt.blocks})
			if err != nil {
				t.Fatal(err)
			}
			h.must("k", string(b))
			h.noProblems()
			if n := h.fake.Requests(); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestManyNotes(t *testing.T) {
	blocks := raws(`{"type":"divider"}`)
	for range 20 {
		blocks = append(blocks, json.RawMessage(`{"type":"section"}`))
	}
	c := mustCompose(t, Message{Blocks: blocks})
	if n := len(c.notes); n != maxNotes+1 || c.notes[n-1] != "and 12 more changes" {
		t.Errorf("%q", c.notes)
	}
}

func TestFallback(t *testing.T) {
	for _, tt := range []struct {
		name        string
		m           Message
		text, plain string
	}{
		{"only text", Message{Text: "a"}, "a", "a"},
		{"only blocks", Message{Blocks: raws(`{"type":"header","text":{"type":"plain_text","text":"H &amp; M"}}`,
			`{"type":"section","text":{"type":"mrkdwn","text":"*b*"},"fields":[{"type":"mrkdwn","text":"f1"},{"type":"plain_text","text":"f2"}],
				"accessory":{"type":"button","text":{"type":"plain_text","text":"press"}}}`,
			`{"type":"divider"}`, `{"type":"context","elements":[{"type":"image","image_url":"https://x","alt_text":"a <b>"},{"type":"mrkdwn","text":"c"}]}`,
			`{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":"press"}}]}`,
			`{"type":"markdown","text":"**m**"}`)},
			"H &amp; M\n*b*\nf1\nf2\na &lt;b&gt;\nc\n**m**", "H &amp; M\n*b*\nf1\nf2\na &lt;b&gt;\nc\n**m**"},
		{"rich text", Message{Blocks: raws(`{"type":"rich_text","elements":[
				{"type":"rich_text_section","elements":[{"type":"text","text":"Hi &lt;you&gt; "},{"type":"user","user_id":"U1"},
					{"type":"link","url":"https://x.example/?a&b"},{"type":"link","url":"u","text":"<l>"},{"type":"emoji","name":"wave"},{"type":"broadcast","range":"here"}]},
				{"type":"rich_text_list","style":"bullet","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"one"}]},
					{"type":"rich_text_section","elements":[{"type":"text","text":"two"}]}]}]}`)},
			"Hi &lt;you&gt; https://x.example/?a&amp;b&lt;l&gt;:wave:\none\ntwo",
			"Hi &lt;you&gt; https://x.example/?a&amp;b&lt;l&gt;:wave:\none\ntwo"},
		{"table", Message{Blocks: raws(`{"type":"table","rows":[[{"type":"raw_text","text":"a&b"},{"type":"raw_text","text":"c"}]]}`)}, "a&amp;b\nc", "a&amp;b\nc"},
		{"a text for an object", Message{Blocks: raws(`{"type":"section","text":"a"}`)}, "a", "a"},
		{"nothing to say", Message{Blocks: raws(`{"type":"divider"}`)}, "test.thing.created", "test.thing.created"},
		{"both", Message{Text: "short", Blocks: raws(`{"type":"section","text":{"type":"mrkdwn","text":"long"}}`)},
			"short", "short\nlong"},
		{"the same", Message{Text: "long", Blocks: raws(`{"type":"section","text":{"type":"mrkdwn","text":"long"}}`)},
			"long", "long"},
	} {
		c := mustCompose(t, tt.m)
		if c.text != tt.text || c.plain != tt.plain {
			t.Errorf("%s: got %q and %q\nwant %q and %q", tt.name, c.text, c.plain, tt.text, tt.plain)
		}
	}
}

// TestLongText cuts what is too long, and less for an update.
func TestLongText(t *testing.T) {
	h := newHarness(t, quick(botConfig()), fakeOptions(), nil)
	long := strings.Repeat("word ", 9000)
	message := func(update bool) string {
		return fmt.Sprintf(`{"text": %q, "thread": "true", "update": %t}`, long, update)
	}
	o := h.must("k", message(false))
	m := h.last()
	if n := length(m.Text); n > 40_000 || n < 39_990 || !strings.HasSuffix(m.Text, "word…") || len(o.Notes) != 1 {
		t.Errorf("%d characters, %q", length(m.Text), o.Notes)
	}
	h.must("k", message(true))
	if m := h.last(); length(m.Text) > 4000 || length(m.Text) < 3990 || m.Updates != 1 {
		t.Errorf("%d characters", length(m.Text))
	}
	h.noProblems()
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"ééé", 3, "ééé"},
		{"éééé", 3, "éé…"},
		{"😀😀", 4, "😀😀"},
		{"😀😀😀", 4, "😀…"},
		{"😀😀😀", 5, "😀😀…"},
		{"ab &amp; cd", 6, "ab…"},
		{"ab &amp; cd", 9, "ab &amp;…"},
		{"see <https://x.example|there> ok", 20, "see…"},
		{"see <https://x.example|there> ok then", 31, "see <https://x.example|there>…"},
		{"a < b < c and so on", 8, "a < b…"},
		{"<https://x.example|there>", 10, "<https://…"},
		{"word word", 6, "word…"},
		{"abc", 0, ""},
		{"abc", -1, ""},
		{"abc", 1, "…"},
	} {
		if got := cut(tt.text, tt.limit); got != tt.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.text, tt.limit, got, tt.want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("a &amp; b", 5)
	f.Add("<https://x|y> 😀", 7)
	f.Add("\xff\xfe&", 2)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = min(max(limit, -1), 5000)
		got := cut(s, limit)
		if length(got) > max(limit, 0) {
			t.Errorf("cut(%q, %d) = %q has %d", s, limit, got, length(got))
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("cut(%q, %d) = %q", s, limit, got)
		}
		if length(s) <= limit && got != s {
			t.Errorf("cut(%q, %d) = %q", s, limit, got)
		}
		if again := cut(got, limit); again != got {
			t.Errorf("cut again: %q, %q", got, again)
		}
		one := clean(s, 300)
		if len(one) > 300+len("…") || strings.ContainsAny(one, "\n\r\x00\x1b") || !utf8.ValidString(one) {
			t.Errorf("clean(%q) = %q", s, one)
		}
	})
}

// FuzzBlocks sends whatever a route makes: it is rejected with an attribute, or the fake finds nothing beyond a limit.
func FuzzBlocks(f *testing.F) {
	f.Add(`[{"type":"section","text":{"type":"mrkdwn","text":"a"}}]`, "t", 3)
	f.Add(`[{"type":"section","fields":[{"type":"mrkdwn","text":"#"},null,3,{"text":{}}]},null]`, "", 3100)
	f.Add(`[{"type":"context","elements":[{"type":"image","alt_text":"#"}]},{"type":"markdown","text":"#"}]`, "#", 13000)
	f.Add(`[{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":"#"},"value":"#","url":"#"}]}]`, "", 2999)
	f.Add(`[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"#"}]}]}]`,
		"", 1)
	f.Add(`[{"type":"image","image_url":"#","title":{"type":"plain_text","text":"#"},"block_id":"#"},{"type":"header","text":{"text":"#"}}]`, "x", 256)
	f.Fuzz(func(t *testing.T, blocks, text string, n int) {
		var list []json.RawMessage
		if json.Unmarshal([]byte(blocks), &list) != nil {
			return
		}
		for i := range list {
			list[i] = json.RawMessage(strings.ReplaceAll(string(list[i]), "#", strings.Repeat("é", min(max(n, 0), 20_000))))
			if !json.Valid(list[i]) {
				return
			}
		}
		m := Message{Text: text, Blocks: list}
		c, err := compose(&m, "a.b", maxText)
		if err != nil {
			if o := outcomeOf(t, err); o.Kind != sdk.Rejected || len(o.AttributePath) == 0 {
				t.Fatalf("%v", err)
			}
			return
		}
		if blank(c.text) || blank(c.plain) || length(c.text) > maxText || length(c.plain) > maxText {
			t.Errorf("text %d, plain %d", length(c.text), length(c.plain))
		}
		if c.blocks == nil {
			return
		}
		if len(c.blocks) > maxBlockBytes || !json.Valid(c.blocks) {
			t.Errorf("%d bytes", len(c.blocks))
		}
		var sent []map[string]any
		if err := json.Unmarshal(c.blocks, &sent); err != nil || len(sent) == 0 || len(sent) > 50 {
			t.Errorf("%v: %s", err, c.blocks)
		}
		if why := fakeslack.TooMuch(c.blocks); why != "" {
			t.Errorf("%s: %s", why, c.blocks)
		}
	})
}

// outcomeOf is what the host makes of an error.
func outcomeOf(t *testing.T, err error) sdk.Outcome {
	t.Helper()
	f := sdk.NewSink(sdk.SinkInfo{Name: "probe"}, probe(err).open)
	in, openErr := f.Open(t.Context(), []byte("{}"))
	if openErr != nil {
		t.Fatal(openErr)
	}
	return in.DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{{ID: "1", Message: []byte("{}")}})[0]
}
