package fakeslack

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
)

// checkContent checks what a message says against Slack's limits. The numbers are Slack's documentation's; they are
// written down here once more, so that the sink is not measured by its own.
func checkContent(c *call, attachments json.RawMessage) refusal {
	if n := count(c.Text); n > 40_000 || c.update && n > 4_000 {
		return refusal{word: "msg_too_long", detail: fmt.Sprint(n)}
	}
	var attached []json.RawMessage
	if attachments != nil && json.Unmarshal(attachments, &attached) != nil {
		return refusal{word: "invalid_attachments"}
	}
	if len(attached) > 100 {
		return refusal{word: "too_many_attachments"}
	}
	if strings.TrimSpace(c.Text) == "" && isEmpty(c.Blocks) && len(attached) == 0 {
		return refusal{word: "no_text"}
	}
	if c.Broadcast && c.ThreadTS == "" && !c.update {
		return refusal{word: "cant_broadcast_message"}
	}
	if len(c.Metadata) > 0 {
		var m struct {
			Type    string         `json:"event_type"`
			Payload map[string]any `json:"event_payload"`
		}
		if json.Unmarshal(c.Metadata, &m) != nil || m.Type == "" || m.Payload == nil {
			return refusal{word: "invalid_metadata_format"}
		}
	}
	if isEmpty(c.Blocks) {
		return refusal{}
	}
	var blocks []any
	if json.Unmarshal(c.Blocks, &blocks) != nil {
		return refusal{word: "invalid_blocks_format"}
	}
	k := &kit{ids: map[string]bool{}}
	k.blocks(blocks)
	if k.wrong != "" {
		return refusal{word: "invalid_blocks", detail: k.wrong}
	}
	if n := count(string(c.Blocks)); n > 13_200 {
		return refusal{word: "msg_blocks_too_long", detail: fmt.Sprint(n)}
	}
	return refusal{}
}

func count(s string) int { return len(utf16.Encode([]rune(s))) }

// kit checks Block Kit.
type kit struct {
	wrong    string // the first thing
	ids      map[string]bool
	markdown int

	onlyLimits bool // what is malformed does not matter
}

// fail notes what is malformed.
func (k *kit) fail(at, format string, args ...any) {
	if !k.onlyLimits {
		k.exceed(at, format, args...)
	}
}

// exceed notes what is too much.
func (k *kit) exceed(at, format string, args ...any) {
	if k.wrong == "" {
		k.wrong = fmt.Sprintf(format, args...) + " [json-pointer:" + at + "]"
	}
}

func (k *kit) blocks(blocks []any) {
	if len(blocks) > 50 {
		k.exceed("/blocks", "no more than 50 items allowed")
	}
	for i, v := range blocks {
		at := fmt.Sprintf("/blocks/%d", i)
		b, ok := v.(map[string]any)
		if !ok {
			k.fail(at, "must be an object")
			continue
		}
		k.nulls(b, at)
		if id, ok := b["block_id"]; ok {
			s, isText := id.(string)
			if !isText || s == "" || count(s) > 255 || k.ids[s] {
				k.exceed(at+"/block_id", "invalid block_id")
			}
			k.ids[s] = true
		}
		k.block(b, at)
	}
}

// nulls finds a null anywhere.
func (k *kit) nulls(v any, at string) {
	switch v := v.(type) {
	case nil:
		k.fail(at, "must not be null")
	case map[string]any:
		for name, el := range v {
			k.nulls(el, at+"/"+name)
		}
	case []any:
		for i, el := range v {
			k.nulls(el, fmt.Sprintf("%s/%d", at, i))
		}
	}
}

func (k *kit) block(b map[string]any, at string) {
	list := func(name string, most int) []any {
		l, ok := b[name].([]any)
		if !ok || len(l) == 0 {
			k.fail(at+"/"+name, "at least one item")
		} else if len(l) > most {
			k.exceed(at+"/"+name, "no more than %d items", most)
		}
		return l
	}
	switch b["type"] {
	case "section":
		fields, hasFields := b["fields"]
		if hasFields {
			for i, f := range list("fields", 10) {
				k.text(f, fmt.Sprintf("%s/fields/%d", at, i), 2000, true)
			}
		}
		if t, ok := b["text"]; ok {
			k.text(t, at+"/text", 3000, true)
		} else if fields == nil {
			k.fail(at, "missing required field: text or fields")
		}
		if a, ok := b["accessory"]; ok {
			k.element(a, at+"/accessory")
		}
	case "header":
		k.text(b["text"], at+"/text", 150, false)
	case "context":
		for i, e := range list("elements", 10) {
			k.element(e, fmt.Sprintf("%s/elements/%d", at, i))
		}
	case "actions":
		for i, e := range list("elements", 25) {
			k.element(e, fmt.Sprintf("%s/elements/%d", at, i))
		}
	case "image":
		k.image(b, at)
		if t, ok := b["title"]; ok {
			k.text(t, at+"/title", 2000, false)
		}
	case "divider":
	case "markdown":
		s, ok := b["text"].(string)
		if k.markdown += count(s); k.markdown > 12_000 {
			k.exceed(at+"/text", "no more than 12000 characters of markdown")
		}
		if !ok || s == "" {
			k.fail(at+"/text", "must be a text")
		}
	case "rich_text":
		list("elements", 1000)
	case "table":
		list("rows", 100)
	default:
		k.fail(at+"/type", "unsupported type: %v", b["type"])
	}
}

// text checks a text object.
func (k *kit) text(v any, at string, most int, mrkdwn bool) {
	t, ok := v.(map[string]any)
	if !ok {
		k.fail(at, "must be a text object")
		return
	}
	switch t["type"] {
	case "plain_text":
		if _, ok := t["verbatim"]; ok {
			k.fail(at+"/verbatim", "not for plain_text")
		}
	case "mrkdwn":
		if !mrkdwn {
			k.fail(at+"/type", "must be plain_text")
		}
		if _, ok := t["emoji"]; ok {
			k.fail(at+"/emoji", "not for mrkdwn")
		}
	default:
		k.fail(at+"/type", "must be plain_text or mrkdwn")
	}
	s, ok := t["text"].(string)
	if n := count(s); n > most {
		k.exceed(at+"/text", "must be at most %d characters, has %d", most, n)
	}
	if !ok || s == "" {
		k.fail(at+"/text", "must be a text")
	}
}

func (k *kit) image(b map[string]any, at string) {
	alt, ok := b["alt_text"].(string)
	if n := count(alt); n > 2000 {
		k.exceed(at+"/alt_text", "must be at most 2000 characters, has %d", n)
	}
	if !ok || alt == "" {
		k.fail(at+"/alt_text", "must be a text")
	}
	u, isURL := b["image_url"].(string)
	_, isFile := b["slack_file"]
	if count(u) > 3000 {
		k.exceed(at+"/image_url", "must be at most 3000 characters")
	}
	if !isURL && !isFile {
		k.fail(at+"/image_url", "missing required field")
	}
	if isURL && !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
		k.fail(at+"/image_url", "invalid url")
	}
}

func (k *kit) element(v any, at string) {
	e, ok := v.(map[string]any)
	if !ok {
		k.fail(at, "must be an object")
		return
	}
	if id, ok := e["action_id"]; ok {
		s, isText := id.(string)
		if count(s) > 255 {
			k.exceed(at+"/action_id", "must be at most 255 characters")
		}
		if !isText || s == "" {
			k.fail(at+"/action_id", "invalid action_id")
		}
	}
	switch e["type"] {
	case "mrkdwn", "plain_text":
		k.text(e, at, 3000, true)
	case "image":
		k.image(e, at)
	case "button":
		k.text(e["text"], at+"/text", 75, false)
		for name, most := range map[string]int{"value": 2000, "url": 3000, "accessibility_label": 75} {
			if s, ok := e[name].(string); ok && count(s) > most {
				k.exceed(at+"/"+name, "must be at most %d characters", most)
			}
		}
	case "overflow", "static_select", "datepicker", "users_select", "checkboxes", "radio_buttons":
	default:
		k.fail(at+"/type", "unsupported type: %v", e["type"])
	}
}

// TooMuch says which of Slack's limits blocks exceed, whatever else is wrong with them; "" is none.
func TooMuch(blocks json.RawMessage) string {
	var list []any
	if json.Unmarshal(blocks, &list) != nil {
		return "no list"
	}
	k := &kit{ids: map[string]bool{}, onlyLimits: true}
	k.blocks(list)
	return k.wrong
}
