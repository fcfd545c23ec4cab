package web

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/core"
)

// The bounds of what a page shows of a payload. The whole can be downloaded.
const (
	maxShown      = 256 << 10 // bytes
	maxShownHex   = 16 << 10
	maxShownLines = 4000
	maxShownText  = 4000 // characters of one string
	maxIndent     = 40   // levels
)

// line is one line of JSON laid out for reading. The tokens are the provider's own.
type line struct {
	Indent string
	Tokens []token
	Change *change // the value of this line is new
}

type token struct{ Class, Text string }

// change is what an event says of a field.
type change struct {
	Field    string
	Old, New string // JSON texts; empty: there was, or is, none
	Cut      bool
}

// layout is a JSON text for reading.
type layout struct {
	Lines []line
	Cut   bool // there is more
	Plain bool // it is no JSON text: there are no lines
}

// changesOf reads an event's changes, in the order of its JSON.
func changesOf(raw json.RawMessage) []change {
	if len(raw) == 0 {
		return nil
	}
	var m map[string]core.Change
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	var cs []change
	dec := json.NewDecoder(bytes.NewReader(raw))
	for depth := 0; ; {
		t, err := dec.Token()
		if err != nil {
			break
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		default:
			name, ok := t.(string)
			c, known := m[name]
			if depth == 1 && ok && known {
				cs = append(cs, change{Field: name, Old: string(c.Old), New: string(c.New)})
				delete(m, name)
			}
		}
	}
	return cs
}

// compactJSON is a value without white space, for comparison.
func compactJSON(raw []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// pretty lays out a JSON text, line by line and without recursion: foreign JSON may be deep. Lines whose value is what
// a change names as new, at a path that ends with its field, have the change.
func pretty(b []byte, changes []change) layout {
	if !json.Valid(b) {
		return layout{Plain: true}
	}
	type level struct {
		array bool
		key   string // that leads to it
	}
	var out layout
	var stack []level
	var cur line
	key := "" // of the value that comes next
	indent := func() string { return strings.Repeat("  ", min(len(stack), maxIndent)) }
	end := func() {
		out.Lines = append(out.Lines, cur)
		cur = line{Indent: indent()}
	}
	shown := 0
	put := func(class, text string) {
		if n := utf8.RuneCountInString(text); n > maxShownText {
			text = string([]rune(text)[:maxShownText]) + fmt.Sprintf("… %s more", plural(n-maxShownText, "character"))
		}
		shown += len(text)
		cur.Tokens = append(cur.Tokens, token{class, text})
	}
	changed := func(raw []byte) *change {
		for i := range changes {
			c := &changes[i]
			if c.New == "" || compactJSON([]byte(c.New)) != compactJSON(raw) {
				continue
			}
			path := key
			for j := len(stack) - 1; j >= 0 && len(path) < len(c.Field); j-- {
				if k := stack[j].key; k != "" {
					path = k + "." + path
				}
			}
			if path == c.Field || strings.HasSuffix(path, "."+c.Field) {
				return c
			}
		}
		return nil
	}
	for i := 0; i < len(b); {
		if shown > maxShown || len(out.Lines) >= maxShownLines {
			out.Cut = true
			break
		}
		switch ch := b[i]; ch {
		case ' ', '\t', '\n', '\r':
			i++
		case '{', '[':
			put("", string(ch))
			i++
			rest := bytes.TrimLeft(b[i:], " \t\r\n")
			if rest[0] == '}' || rest[0] == ']' { // empty: on one line
				put("", string(rest[0]))
				i = len(b) - len(rest) + 1
				key = ""
				continue
			}
			stack = append(stack, level{ch == '[', key})
			key = ""
			end()
		case '}', ']':
			stack = stack[:len(stack)-1]
			key = ""
			end()
			cur.Indent = indent()
			put("", string(ch))
			i++
		case ',':
			put("", ",")
			i++
			key = ""
			end()
		case ':':
			put("", ": ")
			i++
		default:
			n := tokenLen(b[i:])
			raw := b[i : i+n]
			isKey := ch == '"' && len(stack) > 0 && !stack[len(stack)-1].array && key == "" && followedByColon(b[i+n:])
			if isKey {
				put("key", visible(raw))
				if json.Unmarshal(raw, &key) != nil || key == "" {
					key = "\x00" // a key all the same
				}
			} else {
				cur.Change = changed(raw)
				put(classOf(ch), visible(raw))
			}
			i += n
		}
	}
	if len(cur.Tokens) > 0 {
		out.Lines = append(out.Lines, cur)
	}
	return out
}

// brief lays out a text that is short enough to stand among others; nil: it is not.
func brief(b json.RawMessage) *layout {
	const most = 8 << 10
	if len(b) > most {
		return nil
	}
	l := pretty(b, nil)
	if l.Plain {
		return nil
	}
	return &l
}

func followedByColon(b []byte) bool {
	rest := bytes.TrimLeft(b, " \t\r\n")
	return len(rest) > 0 && rest[0] == ':'
}

func classOf(first byte) string {
	switch first {
	case '"':
		return "str"
	case 't', 'f', 'n':
		return "word"
	default:
		return "nr"
	}
}

// tokenLen is the length of the string, number or word that valid JSON begins with.
func tokenLen(b []byte) int {
	if b[0] == '"' {
		for i := 1; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(b)
	}
	if i := bytes.IndexAny(b, ",:]} \t\r\n"); i >= 0 {
		return i
	}
	return len(b)
}

// visible is a text in which control characters and what is no UTF-8 can be seen.
func visible(b []byte) string {
	plain := func(r rune) bool {
		return r != utf8.RuneError && (r >= ' ' || r == '\n' || r == '\t') && r != 0x7f && !bidi(r)
	}
	if utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return !plain(r) }) {
		return string(b)
	}
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&s, "\\x%02x", b[0])
		case plain(r):
			s.WriteRune(r)
		case r < ' ':
			s.WriteRune('␀' + r) // the picture of the control character
		case r == 0x7f:
			s.WriteRune('␡')
		case bidi(r):
			fmt.Fprintf(&s, "\\u%04x", r)
		default:
			s.WriteRune(r)
		}
		b = b[n:]
	}
	return s.String()
}

// bidi reports whether a character turns the direction of a text: with it a payload could look like another one.
func bidi(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c
}

// rawText is a body as it came, for reading.
type rawText struct {
	Text string
	Hex  bool // it is no UTF-8: a dump
	Cut  bool
}

func rawOf(b []byte) rawText {
	if !utf8.Valid(b) {
		cut := len(b) > maxShownHex
		return rawText{hex.Dump(b[:min(len(b), maxShownHex)]), true, cut}
	}
	cut := len(b) > maxShown
	if cut {
		b = b[:maxShown]
		for len(b) > 0 && !utf8.Valid(b[max(0, len(b)-utf8.UTFMax):]) && !utf8.RuneStart(b[len(b)-1]) {
			b = b[:len(b)-1]
		}
		if r, n := utf8.DecodeLastRune(b); r == utf8.RuneError && n <= 1 && len(b) > 0 {
			b = b[:len(b)-1]
		}
	}
	return rawText{visible(b), false, cut}
}

// shorten cuts the JSON texts of changes.
func shorten(cs []change) []change {
	cs = slices.Clone(cs)
	for i := range cs {
		c := &cs[i]
		c.Cut = utf8.RuneCountInString(c.Old) > maxShownText || utf8.RuneCountInString(c.New) > maxShownText
		c.Old, c.New = visible([]byte(cut(maxShownText, c.Old))), visible([]byte(cut(maxShownText, c.New)))
	}
	return cs
}
