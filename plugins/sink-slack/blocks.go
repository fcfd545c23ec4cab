package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

// What Slack takes. It refuses a message that has more, so more is never sent.
const (
	maxBlocks        = 50
	maxSectionText   = 3000
	maxFields        = 10
	maxFieldText     = 2000
	maxHeaderText    = 150
	maxContext       = 10
	maxActions       = 25
	maxAltText       = 2000
	maxImageURL      = 3000
	maxTitle         = 2000
	maxID            = 255
	maxButtonText    = 75
	maxButtonValue   = 2000
	maxButtonURL     = 3000
	maxMarkdown      = 12000 // of all markdown blocks of a message
	maxBlockBytes    = 12000 // of all blocks as JSON; undocumented, at about 13 200 Slack was seen to refuse
	maxTextObject    = 3000
	maxNesting       = 32
	maxNotes         = 8
	maxFallbackParts = 500
)

// object is an object of Block Kit. Objects and lists are as encoding/json decodes them, numbers with their digits.
type object = map[string]any

// fitter makes blocks that Slack takes out of those of a route.
type fitter struct {
	notes    []string
	left     int // notes that are left out
	ids      map[string]bool
	markdown int // units of markdown text so far
}

// note tells an operator what was changed. It names places, never what stood there.
func (f *fitter) note(format string, args ...any) {
	if len(f.notes) == maxNotes {
		f.left++
		return
	}
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

// all are the notes.
func (f *fitter) all() []string {
	if f.left == 0 {
		return f.notes
	}
	return append(f.notes, fmt.Sprintf("and %d more changes", f.left))
}

// decodeBlocks reads the message's blocks. What can never be a block is the route's mistake and rejects the delivery.
// Nulls are left out wherever they stand: `cond ? { … } : null` is how a route makes a block, a field or an attribute
// depend on something.
func decodeBlocks(raw []json.RawMessage) ([]object, error) {
	blocks := make([]object, 0, len(raw))
	for i, r := range raw {
		wrong := func(what string) error {
			return sdk.Reject(fmt.Errorf("blocks[%d] %s", i, what), "blocks", fmt.Sprint(i))
		}
		dec := json.NewDecoder(bytes.NewReader(r))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, wrong("is not valid JSON")
		}
		if v == nil {
			continue
		}
		b, ok := v.(object)
		if !ok {
			return nil, wrong("is no object")
		}
		if !withoutNulls(b, 0) {
			return nil, wrong("is nested too deeply")
		}
		if text(b, "type") == "" {
			return nil, wrong("has no type")
		}
		literally(b, text(b, "type") == "rich_text")
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// withoutNulls takes null members and elements out; false: the value is too deep.
func withoutNulls(v any, depth int) bool {
	if depth > maxNesting {
		return false
	}
	switch v := v.(type) {
	case object:
		for name, el := range v {
			switch el := el.(type) {
			case nil:
				delete(v, name)
			case []any:
				v[name] = compact(el)
				if !withoutNulls(v[name], depth+1) {
					return false
				}
			default:
				if !withoutNulls(el, depth+1) {
					return false
				}
			}
		}
	case []any:
		for i, el := range v {
			if l, ok := el.([]any); ok {
				v[i] = compact(l)
			}
			if !withoutNulls(v[i], depth+1) {
				return false
			}
		}
	}
	return true
}

func compact(l []any) []any {
	kept := l[:0]
	for _, el := range l {
		if el != nil {
			kept = append(kept, el)
		}
	}
	return kept
}

// literally undoes the host's escaping where Slack takes a text as it is: addresses, ids and values, and the texts of
// rich text, which has its own objects for links and mentions. Elsewhere a text stays escaped, also in what this
// program does not know.
func literally(v any, rich bool) {
	switch v := v.(type) {
	case object:
		kind := text(v, "type")
		for name, el := range v {
			s, ok := el.(string)
			if !ok {
				literally(el, rich || kind == "rich_text")
				continue
			}
			if isLiteral(name) || name == "text" && (kind == "raw_text" || rich && kind != "plain_text" && kind != "mrkdwn") {
				v[name] = unescape(s)
			}
		}
	case []any:
		for _, el := range v {
			literally(el, rich)
		}
	}
}

// isLiteral reports whether Slack takes the attribute of that name as it is.
func isLiteral(name string) bool {
	switch name {
	case "url", "value", "action_id", "block_id", "external_id", "alt_text", "accessibility_label":
		return true
	}
	return strings.HasSuffix(name, "_url")
}

// fit changes blocks so that they keep to the limits, and leaves out those of which nothing is left.
func (f *fitter) fit(blocks []object) []object {
	kept := blocks[:0]
	for i, b := range blocks {
		at := fmt.Sprintf("blocks[%d]", i)
		if len(kept) == maxBlocks {
			f.note("%d blocks, of which Slack takes %d: the others are left out", len(blocks), maxBlocks)
			break
		}
		f.blockID(b, at)
		if !f.block(b, at) {
			f.note("%s has nothing to show and is left out", at)
			continue
		}
		f.textObjects(b, at)
		kept = append(kept, b)
	}
	return kept
}

// blockID takes out an id that is too long or there before: Slack makes one itself.
func (f *fitter) blockID(b object, at string) {
	id, ok := b["block_id"]
	if !ok {
		return
	}
	s, isText := id.(string)
	switch {
	case !isText || s == "":
		delete(b, "block_id")
	case length(s) > maxID:
		f.note("%s.block_id is longer than %d and is left out", at, maxID)
		delete(b, "block_id")
	case f.ids[s]:
		f.note("%s.block_id is that of an earlier block and is left out", at)
		delete(b, "block_id")
	default:
		if f.ids == nil {
			f.ids = map[string]bool{}
		}
		f.ids[s] = true
	}
}

// block fits one block; false: nothing is left of it.
func (f *fitter) block(b object, at string) bool {
	switch text(b, "type") {
	case "section":
		shows := f.textAt(b, "text", maxSectionText, at)
		if fields, ok := b["fields"].([]any); ok {
			fields = f.elements(fields, maxFields, at+".fields", func(v any, at string) bool {
				o, ok := v.(object)
				return !ok || f.textIn(o, maxFieldText, at)
			})
			b["fields"] = fields
			if len(fields) == 0 {
				delete(b, "fields")
			}
			shows = shows || len(fields) > 0
		}
		if a, ok := b["accessory"].(object); ok && !f.element(a, at+".accessory") {
			delete(b, "accessory")
		}
		return shows
	case "header":
		if t, ok := b["text"].(object); ok && text(t, "type") == "mrkdwn" {
			t["type"] = "plain_text" // the only one that a header takes
			delete(t, "verbatim")
		}
		return f.textAt(b, "text", maxHeaderText, at)
	case "context":
		return f.list(b, maxContext, at)
	case "actions":
		return f.list(b, maxActions, at)
	case "image":
		f.textAt(b, "title", maxTitle, at)
		return f.image(b, at)
	case "markdown":
		s := text(b, "text")
		if most := maxMarkdown - f.markdown; length(s) > most {
			f.note("%s.text is cut: Slack takes %d characters of Markdown in a message", at, maxMarkdown)
			s = cut(s, most)
			b["text"] = s
		}
		f.markdown += length(s)
		return !blank(s)
	}
	return true
}

// list fits the elements of a block that is nothing without them.
func (f *fitter) list(b object, most int, at string) bool {
	elements, ok := b["elements"].([]any)
	if !ok {
		return false
	}
	b["elements"] = f.elements(elements, most, at+".elements", func(v any, at string) bool {
		o, ok := v.(object)
		return !ok || f.element(o, at)
	})
	return len(b["elements"].([]any)) > 0
}

func (f *fitter) elements(all []any, most int, at string, fits func(v any, at string) bool) []any {
	kept := make([]any, 0, min(len(all), most))
	for i, v := range all {
		if len(kept) == most {
			f.note("%s has %d elements, of which Slack takes %d: the others are left out", at, len(all), most)
			break
		}
		if here := fmt.Sprintf("%s[%d]", at, i); fits(v, here) {
			kept = append(kept, v)
		} else {
			f.note("%s is left out: it is empty, or has an address that is too long", here)
		}
	}
	return kept
}

// element fits what stands in a section, in actions or in a context; false: it cannot be shown.
func (f *fitter) element(e object, at string) bool {
	if length(text(e, "action_id")) > maxID {
		f.note("%s.action_id is longer than %d and is left out", at, maxID)
		delete(e, "action_id")
	}
	switch text(e, "type") {
	case "plain_text", "mrkdwn":
		return f.textIn(e, maxTextObject, at)
	case "image":
		return f.image(e, at)
	case "button":
		if t, ok := e["text"].(object); ok && text(t, "type") == "mrkdwn" {
			t["type"] = "plain_text"
			delete(t, "verbatim")
		}
		if length(text(e, "value")) > maxButtonValue { // a part of a value is a wrong value
			f.note("%s.value is longer than %d and is left out", at, maxButtonValue)
			delete(e, "value")
		}
		f.stringAt(e, "accessibility_label", maxButtonText, at)
		return f.textAt(e, "text", maxButtonText, at) && length(text(e, "url")) <= maxButtonURL
	}
	return true
}

// image fits an image block or element. Slack wants a text for those who do not see it.
func (f *fitter) image(b object, at string) bool {
	if length(text(b, "image_url")) > maxImageURL {
		return false
	}
	f.stringAt(b, "alt_text", maxAltText, at)
	if blank(text(b, "alt_text")) {
		b["alt_text"] = "image"
		if t, ok := b["title"].(object); ok && !blank(text(t, "text")) {
			b["alt_text"] = unescape(text(t, "text"))
		}
	}
	return true
}

// textAt fits the text object that an attribute is; false: there is none, or it is empty and was taken out.
func (f *fitter) textAt(b object, name string, most int, at string) bool {
	v, ok := b[name]
	if !ok {
		return false
	}
	t, ok := v.(object)
	if !ok {
		return true // for Slack to say
	}
	if !f.textIn(t, most, at+"."+name) {
		delete(b, name)
		return false
	}
	return true
}

// textIn fits a text object; false: it is empty.
func (f *fitter) textIn(t object, most int, at string) bool {
	if v, ok := t["text"]; ok {
		if _, isText := v.(string); !isText {
			return true
		}
	}
	f.stringAt(t, "text", most, at)
	return !blank(text(t, "text"))
}

func (f *fitter) stringAt(o object, name string, most int, at string) {
	s := text(o, name)
	if n := length(s); n > most {
		f.note("%s.%s has %d characters and is cut to %d", at, name, n, most)
		o[name] = cut(s, most)
	}
}

// textObjects fits the text objects of places that have no smaller limit.
func (f *fitter) textObjects(v any, at string) {
	switch v := v.(type) {
	case object:
		if kind := text(v, "type"); kind == "mrkdwn" || kind == "plain_text" {
			f.stringAt(v, "text", maxTextObject, at)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) { // so that the notes come in one order
			f.textObjects(v[name], at+"."+name)
		}
	case []any:
		for i, el := range v {
			f.textObjects(el, fmt.Sprintf("%s[%d]", at, i))
		}
	}
}

// text is a member that is a text, or "".
func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// encodeBlocks is blocks as Slack gets them.
func encodeBlocks(blocks []object) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // as others do, it would make six bytes of each & and <
	if err := enc.Encode(blocks); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// fallback is what blocks say, as mrkdwn: for notifications, for screen readers, and where the blocks are refused.
func fallback(blocks []object) string {
	var lines []string
	for _, b := range blocks {
		for _, line := range spoken(b) {
			if !blank(line) && len(lines) < maxFallbackParts {
				lines = append(lines, line)
			}
		}
	}
	return strings.Join(lines, "\n")
}

// spoken are the texts of a part of a block, in the order of Block Kit rather than of JSON.
func spoken(v any) []string {
	var lines []string
	switch v := v.(type) {
	case string: // where Block Kit wants an object: Slack will refuse it
		return []string{v}
	case []any:
		for _, el := range v {
			lines = append(lines, spoken(el)...)
		}
	case object:
		switch text(v, "type") {
		case "button", "workflow_button", "overflow", "checkboxes", "radio_buttons", "datepicker", "timepicker":
			return nil // nothing can be pressed in a text
		case "mrkdwn", "plain_text", "markdown":
			return []string{text(v, "text")}
		case "raw_text":
			return []string{escape(text(v, "text"))}
		case "rich_text_section", "rich_text_preformatted", "rich_text_quote":
			return []string{inline(v["elements"])}
		}
		lines = append(lines, spoken(v["title"])...)
		lines = append(lines, spoken(v["text"])...)
		lines = append(lines, spoken(v["description"])...)
		lines = append(lines, spoken(v["fields"])...)
		lines = append(lines, spoken(v["elements"])...)
		lines = append(lines, spoken(v["rows"])...)
		if len(lines) == 0 {
			lines = append(lines, escape(text(v, "alt_text")))
		}
	}
	return lines
}

// inline is the text of a line of rich text. Mentions are left out: a fallback pings nobody.
func inline(v any) string {
	var b strings.Builder
	elements, _ := v.([]any)
	for _, el := range elements {
		o, ok := el.(object)
		if !ok {
			continue
		}
		switch text(o, "type") {
		case "text":
			b.WriteString(escape(text(o, "text")))
		case "link":
			if s := text(o, "text"); s != "" {
				b.WriteString(escape(s))
			} else {
				b.WriteString(escape(text(o, "url")))
			}
		case "emoji":
			b.WriteString(":" + escape(text(o, "name")) + ":")
		}
	}
	return b.String()
}

var errNothing = errors.New("there is nothing to say: text is empty, and there is no block that shows anything")
