package jsonscan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Space returns the offset of the first byte at or after i that is no white space, or len(b).
func Space(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

// StringEnd returns the offset after the string whose opening quote is at i, or len(b).
func StringEnd(b []byte, i int) int {
	i++
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q := w ^ lowBits*'"'
			s := w ^ lowBits*'\\'
			if m := ((q-lowBits)&^q | (s-lowBits)&^s) & highBits; m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			return len(b)
		}
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
		i++
	}
}

// Skip returns the offset after the value that starts at i, or len(b).
func Skip(b []byte, i int) int {
	if i >= len(b) {
		return len(b)
	}
	switch b[i] {
	case '"':
		return StringEnd(b, i)
	case '{', '[':
	default:
		for i < len(b) && !endsScalar[b[i]] {
			i++
		}
		return i
	}
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = StringEnd(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth <= 0 {
				return i + 1
			}
		}
		i++
	}
	return len(b)
}

// endsScalar marks the bytes that end a number or a word.
var endsScalar = [256]bool{' ': true, '\t': true, '\n': true, '\r': true, ',': true, ']': true, '}': true}

// Trim returns b without white space around it.
func Trim(b []byte) []byte {
	i, n := Space(b, 0), len(b)
	for n > i && isSpace(b[n-1]) {
		n--
	}
	return b[i:n]
}

// Members steps through the members of an object or the elements of an array:
//
//	for m := jsonscan.Open(raw); m.Next(); {
//		use(m.Key, m.Value)
//	}
type Members struct {
	Key   []byte // the member's name as a raw string token with its quotes; nil in an array
	Value []byte // the raw token of the value

	b      []byte
	i      int
	object bool
}

// Open prepares to step through the object or array raw. Any other value has no members.
func Open(raw []byte) Members {
	i := Space(raw, 0)
	if i >= len(raw) || raw[i] != '{' && raw[i] != '[' {
		return Members{}
	}
	return Members{b: raw, i: i + 1, object: raw[i] == '{'}
}

// Next goes to the next member, in the order of the text, and reports whether there is one.
func (m *Members) Next() bool {
	b := m.b
	i := Space(b, m.i)
	if i < len(b) && b[i] == ',' {
		i = Space(b, i+1)
	}
	if i >= len(b) || b[i] == '}' || b[i] == ']' {
		m.i = len(b)
		return false
	}
	if m.object {
		end := StringEnd(b, i)
		m.Key = b[i:end]
		i = Space(b, end)
		if i >= len(b) || b[i] != ':' {
			m.i = len(b)
			return false
		}
		i = Space(b, i+1)
	}
	end := Skip(b, i)
	if end == i {
		m.i = len(b)
		return false
	}
	m.Value, m.i = b[i:end], end
	return true
}

// Lookup finds the value at an RFC 6901 pointer ("" is the whole text, "/a/0/b" steps into objects and arrays) and
// returns its raw token, a slice of b. A member that is present and null is found. With foldCase, member names are
// compared without regard to the case of letters. Of several matching members the last counts. A pointer that starts
// with anything but "/" finds nothing.
func Lookup(b []byte, pointer string, foldCase bool) (raw []byte, ok bool) {
	raw = Trim(b)
	if pointer == "" {
		return raw, len(raw) > 0
	}
	if pointer[0] != '/' {
		return nil, false
	}
	for rest, more := pointer[1:], true; more; {
		var step string
		step, rest, more = strings.Cut(rest, "/")
		if strings.IndexByte(step, '~') >= 0 {
			step = pointerUnescaper.Replace(step)
		}
		if raw, ok = Child(raw, step, foldCase); !ok {
			return nil, false
		}
	}
	return raw, true
}

var pointerUnescaper = strings.NewReplacer("~0", "~", "~1", "/")

// Child returns the raw token of an object's member or, where name is a decimal number without leading zeros, of an
// array's element.
func Child(raw []byte, name string, foldCase bool) (child []byte, ok bool) {
	m := Open(raw)
	if !m.object {
		want := arrayIndex(name)
		if want < 0 {
			return nil, false
		}
		for n := 0; m.Next(); n++ {
			if n == want {
				return m.Value, true
			}
		}
		return nil, false
	}
	for m.Next() {
		if KeyIs(m.Key, name) || foldCase && keyFolds(m.Key, name) {
			child, ok = m.Value, true
		}
	}
	return child, ok
}

// arrayIndex parses a decimal number without leading zeros, or returns -1.
func arrayIndex(s string) int {
	if s == "" || len(s) > 9 || s[0] == '0' && len(s) > 1 {
		return -1
	}
	n := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// KeyIs reports whether a raw string token is the text name.
func KeyIs(raw []byte, name string) bool {
	if len(raw) < 2 {
		return false
	}
	if inner := raw[1 : len(raw)-1]; len(inner) == len(name) {
		// With an escape in it, a token is longer than its text.
		return string(inner) == name && bytes.IndexByte(inner, '\\') < 0
	} else if len(inner) < len(name) || bytes.IndexByte(inner, '\\') < 0 {
		// An escaped lone surrogate becomes U+FFFD, still shorter than its escape.
		return false
	}
	text, ok := Unquote(raw)
	return ok && text == name
}

func keyFolds(raw []byte, name string) bool {
	text, ok := Unquote(raw)
	return ok && strings.EqualFold(text, name)
}

// Unquote returns the text of a raw JSON string token. Escapes of lone surrogates become U+FFFD. ok is false if raw
// is no string token.
func Unquote(raw []byte) (text string, ok bool) {
	if !isQuoted(raw) {
		return "", false
	}
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	dst, ok := AppendUnquote(make([]byte, 0, len(inner)), raw)
	return string(dst), ok
}

// Plain returns the text of a raw JSON string token as a slice of it; ok is false if raw is no string token or has
// escapes.
func Plain(raw []byte) (text []byte, ok bool) {
	if !isQuoted(raw) {
		return nil, false
	}
	inner := raw[1 : len(raw)-1]
	return inner, bytes.IndexByte(inner, '\\') < 0
}

func isQuoted(raw []byte) bool {
	return len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"'
}

// AppendUnquote appends the text of a raw JSON string token to dst; see Unquote.
func AppendUnquote(dst, raw []byte) ([]byte, bool) {
	if !isQuoted(raw) {
		return dst, false
	}
	s := raw[1 : len(raw)-1]
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...), true
		}
		dst = append(dst, s[:i]...)
		s = s[i:]
		if len(s) < 2 {
			return dst, false
		}
		c := s[1]
		switch c {
		case '"', '\\', '/':
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hexRune(s)
			if r < 0 {
				return dst, false
			}
			s = s[6:]
			if utf16.IsSurrogate(r) {
				if pair := utf16.DecodeRune(r, hexRune(s)); pair != utf8.RuneError {
					r = pair
					s = s[6:]
				} else {
					r = utf8.RuneError
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		default:
			return dst, false
		}
		dst = append(dst, c)
		s = s[2:]
	}
}

// hexRune is the code unit of the \uXXXX at the start of s, or -1.
func hexRune(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range s[2:6] {
		v := hexValue(c)
		if v < 0 {
			return -1
		}
		r = r<<4 | rune(v)
	}
	return r
}
