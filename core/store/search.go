package store

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// Text is what bodies are searched for: letters in either case, and written as JSON may escape them (\u00fc for ü, \/). It
// is for one goroutine at a time.
type Text struct {
	folded  []byte
	scratch []byte
}

// NewText returns a text to search for.
func NewText(text string) *Text { return &Text{folded: appendFolded(nil, []byte(text))} }

// In reports whether a body has the text.
func (t *Text) In(body []byte) bool {
	t.scratch = appendFolded(t.scratch[:0], body)
	return bytes.Contains(t.scratch, t.folded)
}

// appendFolded appends a text in one case, with what JSON escapes written out. What is no UTF-8 stays as it is.
func appendFolded(to, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c >= 'A' && c <= 'Z':
			to = append(to, c+'a'-'A')
			i++
		case c == '\\' && i+1 < len(text):
			r, n := unescape(text[i:])
			if r < 0 {
				to = append(to, text[i:i+n]...)
			} else {
				to = utf8.AppendRune(to, foldRune(r))
			}
			i += n
		case c < utf8.RuneSelf:
			to = append(to, c)
			i++
		default:
			r, n := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && n <= 1 {
				to = append(to, c)
			} else {
				to = utf8.AppendRune(to, foldRune(r))
			}
			i += n
		}
	}
	return to
}

// foldRune is the same for a letter in any case.
func foldRune(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

// unescape reads the escape that a text begins with; -1: it stands for itself.
func unescape(text []byte) (r rune, n int) {
	switch text[1] {
	case '/':
		return '/', 2
	case 'u':
		high := hex4(text[2:])
		if high < 0 {
			return -1, 2
		}
		if high < 0xd800 || high > 0xdfff {
			return high, 6
		}
		if len(text) >= 12 && text[6] == '\\' && text[7] == 'u' {
			if low := hex4(text[8:]); high < 0xdc00 && low >= 0xdc00 && low <= 0xdfff {
				return (high-0xd800)<<10 | (low - 0xdc00) + 0x10000, 12
			}
		}
		return -1, 6
	default:
		return -1, 2
	}
}

// hex4 reads four hexadecimal digits; -1: there are none.
func hex4(text []byte) rune {
	if len(text) < 4 {
		return -1
	}
	var r rune
	for _, c := range text[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
