package jsonscan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// The causes of an Error: fixed words, fit for metrics and rejections.
const (
	CauseSyntax   = "syntax"
	CauseUTF8     = "utf8"
	CauseDepth    = "depth"
	CauseDigits   = "digits"
	CauseExponent = "exponent"
	CauseKeys     = "keys"
	CauseElements = "elements"
)

// Limits bound what Check lets pass. The length of a string is bounded by that of the body, which is the caller's.
type Limits struct {
	MaxDepth    int // open objects and arrays at one point; at most 1024, higher values count as 1024
	MaxDigits   int // digits of one number before its exponent
	MaxExponent int // magnitude of a number's written exponent
	MaxKeys     int // members of all objects together
	MaxElements int // elements of all arrays together
}

const depthWords = 16

// DefaultLimits are far above what webhooks send and below what hurts the parsers behind Check.
//
//   - Depth 64: decoders recurse, and 20 000 levels cost seconds in a generic value tree.
//   - 512 digits: every number that computes without loss in 512 bits (154 digits) and every float64 written
//     out without an exponent at its large end (309) passes; parsing one takes microseconds.
//   - Exponent 400: covers float64 (-324…308); 1e1000000 would take half a second to expand.
//   - 50 000 keys and 200 000 elements: each becomes an allocation or more in whatever decodes the body.
func DefaultLimits() Limits {
	return Limits{MaxDepth: 64, MaxDigits: 512, MaxExponent: 400, MaxKeys: 50_000, MaxElements: 200_000}
}

// Error is why Check refused. It holds nothing of the input but positions.
type Error struct {
	Offset int    // byte offset of the problem; the input's length when the text ends too early
	Cause  string // one of the Cause words
	Limit  int    // the limit that was passed, 0 for syntax and utf8
	text   string
}

// Error implements error: what is wrong, where, and what to do.
func (e *Error) Error() string { return e.text }

// Check reports whether b is exactly one JSON text (RFC 8259) in valid UTF-8 within the limits; if not, the error is
// an *Error about the first problem. Escapes of lone surrogates pass, as in encoding/json. It takes linear time and
// constant memory, and allocates only the error.
func Check(b []byte, l Limits) error {
	var (
		n      = len(b)
		i      int
		depth  int
		stack  [depthWords]uint64 // one bit per level: 1 is an object
		keys   int
		elems  int
		object bool   // the innermost container is an object
		seen   uint64 // all bytes of strings, or-ed: tells whether there is anything beyond ASCII
	)
	maxDepth := min(l.MaxDepth, depthWords*64)

value:
	for i < n && isSpace(b[i]) {
		i++
	}
	if i >= n {
		return ended(b)
	}
	switch c := b[i]; c {
	case '"':
		goto str
	case '{', '[':
		if depth >= maxDepth {
			return limitError(CauseDepth, i, l.MaxDepth, "objects and arrays are nested deeper than %d levels",
				"flatten the payload, or raise the depth limit")
		}
		object = c == '{'
		if object {
			stack[depth>>6&(depthWords-1)] |= 1 << (depth & 63)
		} else {
			stack[depth>>6&(depthWords-1)] &^= 1 << (depth & 63)
		}
		depth++
		i++
		for i < n && isSpace(b[i]) {
			i++
		}
		if i >= n {
			return ended(b)
		}
		if b[i] == c+2 { // '}' and ']' stand two after their openers
			i++
			goto pop
		}
		if object {
			goto key
		}
		elems++
		if elems > l.MaxElements {
			return limitError(CauseElements, i, l.MaxElements, "the arrays have more than %d elements in all",
				"send smaller batches, or raise the element limit")
		}
		goto value
	case 't':
		if i+4 > n || b[i+1] != 'r' || b[i+2] != 'u' || b[i+3] != 'e' {
			return literalError(b, i, "true")
		}
		i += 4
		goto after
	case 'f':
		if i+5 > n || b[i+1] != 'a' || b[i+2] != 'l' || b[i+3] != 's' || b[i+4] != 'e' {
			return literalError(b, i, "false")
		}
		i += 5
		goto after
	case 'n':
		if i+4 > n || b[i+1] != 'u' || b[i+2] != 'l' || b[i+3] != 'l' {
			return literalError(b, i, "null")
		}
		i += 4
		goto after
	default:
		if c != '-' && !isDigit(c) {
			return syntaxError(b, i, "a value must start here")
		}
		end, err := checkNumber(b, i, &l)
		if err != nil {
			return err
		}
		i = end
		goto after
	}

key:
	if b[i] != '"' {
		return syntaxError(b, i, `a member's name in double quotes must start here`)
	}
	keys++
	if keys > l.MaxKeys {
		return limitError(CauseKeys, i, l.MaxKeys, "the objects have more than %d members in all",
			"send smaller batches, or raise the key limit")
	}
	{
		end, err := checkString(b, i, &seen)
		if err != nil {
			return err
		}
		i = end
	}
	for i < n && isSpace(b[i]) {
		i++
	}
	if i >= n {
		return ended(b)
	}
	if b[i] != ':' {
		return syntaxError(b, i, "a colon must follow a member's name")
	}
	i++
	if i < n && b[i] == '"' {
		goto str
	}
	goto value

str:
	{
		end, err := checkString(b, i, &seen)
		if err != nil {
			return err
		}
		i = end
	}

after:
	if depth == 0 {
		goto end
	}
	for i < n && isSpace(b[i]) {
		i++
	}
	if i >= n {
		return ended(b)
	}
	if object {
		switch b[i] {
		case ',':
			i++
			for i < n && isSpace(b[i]) {
				i++
			}
			if i >= n {
				return ended(b)
			}
			goto key
		case '}':
			i++
			goto pop
		}
		return syntaxError(b, i, "a comma or } must follow an object's member")
	}
	switch b[i] {
	case ',':
		i++
		elems++
		if elems > l.MaxElements {
			return limitError(CauseElements, i, l.MaxElements, "the arrays have more than %d elements in all",
				"send smaller batches, or raise the element limit")
		}
		goto value
	case ']':
		i++
		goto pop
	}
	return syntaxError(b, i, "a comma or ] must follow an array's element")

pop:
	depth--
	if depth > 0 {
		object = stack[(depth-1)>>6&(depthWords-1)]>>((depth-1)&63)&1 == 1
	}
	goto after

end:
	for i < n && isSpace(b[i]) {
		i++
	}
	if i < n {
		return syntaxError(b, i, "nothing may follow the JSON value")
	}
	if seen&highBits != 0 && !utf8.Valid(b) {
		return utf8Error(b)
	}
	return nil
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// special marks, in the high bit of each byte, quotes, backslashes and control characters. Only the lowest mark is
// exact; those above it may be false.
func special(w uint64) uint64 {
	q := w ^ lowBits*'"'
	s := w ^ lowBits*'\\'
	return ((q-lowBits)&^q | (s-lowBits)&^s | (w-lowBits*' ')&^w) & highBits
}

// checkString checks the string whose opening quote is at i and returns the offset after its closing quote.
func checkString(b []byte, i int, seen *uint64) (int, error) {
	acc := *seen
	i++
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			acc |= w
			if m := special(w); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			return 0, ended(b)
		}
		switch c := b[i]; {
		case c == '"':
			*seen = acc
			return i + 1, nil
		case c == '\\':
			if i+1 >= len(b) {
				return 0, ended(b)
			}
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if i+6 > len(b) {
					return 0, syntaxError(b, i, `\u needs four hexadecimal digits`)
				}
				for _, h := range b[i+2 : i+6] {
					if hexValue(h) < 0 {
						return 0, syntaxError(b, i, `\u needs four hexadecimal digits`)
					}
				}
				i += 6
			default:
				return 0, syntaxError(b, i, "this escape does not exist in JSON")
			}
		case c < ' ':
			return 0, syntaxError(b, i, "control characters in strings must be escaped")
		default: // the last bytes of the input, one by one
			acc |= uint64(c)
			i++
		}
	}
}

// checkNumber checks the number at i and returns the offset after it. What may follow a number is the caller's matter.
func checkNumber(b []byte, i int, l *Limits) (int, error) {
	start, n := i, len(b)
	if b[i] == '-' {
		i++
	}
	if i >= n {
		return 0, ended(b)
	}
	digits := i
	switch {
	case b[i] == '0':
		i++
	case isDigit(b[i]):
		for i++; i < n && isDigit(b[i]); i++ {
		}
	default:
		return 0, syntaxError(b, i, "a digit must follow the minus sign")
	}
	count := i - digits
	if i < n && b[i] == '.' {
		i++
		digits = i
		for i < n && isDigit(b[i]) {
			i++
		}
		if i == digits {
			return 0, syntaxError(b, i, "a digit must follow the decimal point")
		}
		count += i - digits
	}
	if count > l.MaxDigits {
		return 0, limitError(CauseDigits, start, l.MaxDigits, "a number has more than %d digits",
			"send it as a string, or raise the digit limit")
	}
	if i < n && b[i]|0x20 == 'e' {
		i++
		if i < n && (b[i] == '+' || b[i] == '-') {
			i++
		}
		digits = i
		exp := 0
		for ; i < n && isDigit(b[i]); i++ {
			if exp < 1<<24 { // enough to compare; never overflows
				exp = exp*10 + int(b[i]-'0')
			}
		}
		if i == digits {
			return 0, syntaxError(b, i, "a digit must follow in the exponent")
		}
		if exp > l.MaxExponent {
			return 0, limitError(CauseExponent, start, l.MaxExponent, "a number has an exponent beyond ±%d",
				"send it as a string, or raise the exponent limit")
		}
	}
	return i, nil
}

func isSpace(c byte) bool { return c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t') }

func isDigit(c byte) bool { return c-'0' <= 9 }

// hexValue is the value of a hexadecimal digit, or -1.
func hexValue(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

func ended(b []byte) error {
	if len(b) == 0 {
		return &Error{Cause: CauseSyntax, text: "the body is empty: send one JSON value"}
	}
	return &Error{Offset: len(b), Cause: CauseSyntax,
		text: fmt.Sprintf("invalid JSON: it ends after byte %d in the middle of a value; send the whole text", len(b))}
}

func syntaxError(b []byte, i int, problem string) error {
	if i >= len(b) {
		return ended(b)
	}
	if i == 0 && len(b) >= 3 && string(b[:3]) == "\xef\xbb\xbf" {
		problem = "the text starts with a byte order mark, which JSON does not allow"
	}
	return &Error{Offset: i, Cause: CauseSyntax,
		text: fmt.Sprintf("invalid JSON at byte %d: %s; send one JSON value (RFC 8259)", i, problem)}
}

func literalError(b []byte, i int, want string) error {
	for k := range len(want) {
		if i+k >= len(b) || b[i+k] != want[k] {
			return syntaxError(b, i+k, "the only words are true, false and null")
		}
	}
	return nil
}

func limitError(cause string, i, limit int, problem, remedy string) error {
	return &Error{Offset: i, Cause: cause, Limit: limit,
		text: fmt.Sprintf("JSON beyond limits at byte %d: "+problem+"; %s", i, limit, remedy)}
}

func utf8Error(b []byte) error {
	i := 0
	for i < len(b) {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		i += size
	}
	return &Error{Offset: i, Cause: CauseUTF8,
		text: fmt.Sprintf("invalid UTF-8 at byte %d: encode the text as UTF-8, as JSON requires", i)}
}
