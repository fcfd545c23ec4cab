// Package formscan checks and reads application/x-www-form-urlencoded text where it lies: nothing is built of it, so
// that what a sender writes costs no more than its length. The ingress checks with it, package auth looks fields up.
//
// Check lets pass what every parser of forms reads alike; the text itself goes on unchanged. A field may repeat. What
// values decode to may be any bytes, also such that are not UTF-8: some senders write in older character sets.
package formscan

import (
	"bytes"
	"fmt"
	"strings"
)

// The causes of an Error: fixed words, fit for metrics and rejections.
const (
	CauseEscape    = "escape"    // % without two hexadecimal digits
	CauseControl   = "control"   // a control character, such as a line break
	CauseSemicolon = "semicolon" // some parsers take it for &
	CauseFields    = "fields"
	CauseName      = "name"
)

// Limits bound what Check lets pass. The length of a value is bounded by that of the text, which is the caller's.
type Limits struct {
	MaxFields int // between two &, empty ones too
	MaxName   int // bytes of a field's name as it is written
}

// DefaultLimits are what the parsers of widespread languages bound forms by, or less.
func DefaultLimits() Limits { return Limits{MaxFields: 1000, MaxName: 1024} }

// Error is why Check refused. It holds nothing of the input but positions.
type Error struct {
	Offset int    // byte offset of the problem
	Cause  string // one of the Cause words
	text   string
}

// Error implements error: what is wrong, where, and what to do.
func (e *Error) Error() string { return e.text }

func refuse(at int, cause, format string, args ...any) error {
	return &Error{Offset: at, Cause: cause, text: fmt.Sprintf(format, args...)}
}

// Check reports whether b is a form within the limits; if not, the error is an *Error about the first problem. The
// empty text is a form without fields. It takes linear time and constant memory, and allocates only the error.
func Check(b []byte, l Limits) error {
	if len(b) == 0 {
		return nil
	}
	fields, start, inName := 1, 0, true
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '&':
			if fields++; fields > l.MaxFields {
				return refuse(i, CauseFields, "more than %d fields, at byte %d", l.MaxFields, i)
			}
			start, inName = i+1, true
			continue
		case c == '=':
			inName = false
		case c == '%':
			if i+2 >= len(b) || unhex(b[i+1]) < 0 || unhex(b[i+2]) < 0 {
				return refuse(i, CauseEscape, "a %% that is not followed by two hexadecimal digits, at byte %d", i)
			}
		case c == ';':
			return refuse(i, CauseSemicolon, "a semicolon that is not escaped, at byte %d", i)
		case c < ' ' || c == 0x7f:
			return refuse(i, CauseControl, "a control character, at byte %d", i)
		}
		if inName && i-start >= l.MaxName {
			return refuse(i, CauseName, "a field's name of more than %d bytes, at byte %d", l.MaxName, i)
		}
	}
	return nil
}

// Lookup finds a field by its decoded name, with foldCase in any case of letters. raw is the first one's value as it is
// written, a slice of b; n is how many there are. A field without = has an empty value.
func Lookup(b []byte, name string, foldCase bool) (raw []byte, n int) {
	for more := true; more && len(b) > 0; {
		var field []byte
		field, b, more = bytes.Cut(b, []byte("&"))
		if len(field) == 0 {
			continue // a field without a name is written with =
		}
		key, value, ok := bytes.Cut(field, []byte("="))
		if !is(key, name, foldCase) {
			continue
		}
		if !ok {
			value = field[len(field):]
		}
		if n++; n == 1 {
			raw = value
		}
	}
	return raw, n
}

// is reports whether a written name stands for name.
func is(written []byte, name string, foldCase bool) bool {
	if len(written) < len(name) {
		return false
	}
	if bytes.IndexByte(written, '%') < 0 && bytes.IndexByte(written, '+') < 0 {
		if foldCase {
			return strings.EqualFold(string(written), name)
		}
		return string(written) == name
	}
	text := string(Unescape(written))
	if foldCase {
		return strings.EqualFold(text, name)
	}
	return text == name
}

// Unescape decodes a written name or value. What is no escape stands for itself. The result may be raw itself.
func Unescape(raw []byte) []byte {
	i := bytes.IndexAny(raw, "%+")
	if i < 0 {
		return raw
	}
	out := append(make([]byte, 0, len(raw)), raw[:i]...)
	for ; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '+':
			out = append(out, ' ')
		case c == '%' && i+2 < len(raw) && unhex(raw[i+1]) >= 0 && unhex(raw[i+2]) >= 0:
			out = append(out, byte(unhex(raw[i+1])<<4|unhex(raw[i+2])))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
