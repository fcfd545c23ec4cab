package expr

import (
	"bytes"
	"strconv"

	"github.com/zclconf/go-cty/cty"
)

// value is a value on the fast path.
type value struct {
	kind  kind
	typed bool   // of a null: it has a type, which the unification of conditionals would need
	b     bool   // kindBool
	exp   int8   // kindNumber: n × 10^exp, where n does not end in 0 unless it is 0
	n     int64  // kindNumber
	s     []byte // kindString: the text in normal form NFC; kindJSON: the raw token
}

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindJSON // an object or list
)

// maxExp and maxInt bound the numbers of the fast path: those that 512 bits hold, compare and print exactly, and whose
// products fit. Others are left to hcl.
const (
	maxExp = 30
	maxInt = 1e17
)

// parseNumber reads a JSON number.
func parseNumber(tok []byte) (v value, ok bool) {
	i, neg := 0, false
	if i < len(tok) && tok[i] == '-' {
		neg = true
		i++
	}
	var n int64
	exp := 0
	digits, start := false, i
	for ; i < len(tok) && tok[i]-'0' <= 9; i++ {
		if n > maxInt/10 {
			return value{}, false
		}
		n = n*10 + int64(tok[i]-'0')
		digits = true
	}
	if !digits || tok[start] == '0' && i > start+1 {
		return value{}, false
	}
	if i < len(tok) && tok[i] == '.' {
		first := i + 1
		for i++; i < len(tok) && tok[i]-'0' <= 9; i++ {
			if n > maxInt/10 {
				return value{}, false
			}
			n = n*10 + int64(tok[i]-'0')
			exp--
		}
		if i == first {
			return value{}, false
		}
	}
	if i < len(tok) && tok[i]|0x20 == 'e' {
		e, err := strconv.Atoi(string(tok[i+1:]))
		if err != nil || e > maxExp || e < -maxExp {
			return value{}, false
		}
		exp += e
		i = len(tok)
	}
	if i != len(tok) || n == 0 && neg {
		return value{}, false
	}
	if neg {
		n = -n
	}
	return number(n, exp)
}

// number makes n × 10^exp a value in normal form.
func number(n int64, exp int) (value, bool) {
	if n == 0 {
		return value{kind: kindNumber}, true
	}
	for n%10 == 0 {
		n /= 10
		exp++
	}
	if exp > maxExp || exp < -maxExp || n > maxInt || n < -maxInt {
		return value{}, false
	}
	return value{kind: kindNumber, n: n, exp: int8(exp)}, true
}

// integer is the number as an int64, if it is a whole one.
func (v *value) integer() (int64, bool) {
	n := v.n
	if v.exp < 0 {
		return 0, false
	}
	for range v.exp {
		if n > maxInt || n < -maxInt {
			return 0, false
		}
		n *= 10
	}
	return n, true
}

// compare orders two numbers.
func (v *value) compare(o *value) int {
	a, b := v.n, o.n
	switch {
	case v.exp == o.exp:
	case (a < 0) != (b < 0), a == 0, b == 0:
	default:
		// The same sign: scale the one with the greater exponent down to the other's, or see that it is far greater.
		ea, eb := int(v.exp), int(o.exp)
		for ea > eb {
			if a > maxInt || a < -maxInt {
				return sign(a)
			}
			a *= 10
			ea--
		}
		for eb > ea {
			if b > maxInt || b < -maxInt {
				return -sign(b)
			}
			b *= 10
			eb--
		}
	}
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func sign(n int64) int {
	if n < 0 {
		return -1
	}
	return 1
}

// appendNumber appends the number as cty writes it: without exponent or needless zeros.
func (v *value) appendNumber(dst []byte) []byte {
	if v.exp == 0 {
		return strconv.AppendInt(dst, v.n, 10)
	}
	n := v.n
	if n < 0 {
		dst = append(dst, '-')
		n = -n
	}
	var buf [20]byte
	digits := strconv.AppendInt(buf[:0], n, 10)
	if v.exp > 0 {
		dst = append(dst, digits...)
		for range v.exp {
			dst = append(dst, '0')
		}
		return dst
	}
	point := len(digits) + int(v.exp)
	if point <= 0 {
		dst = append(dst, "0."...)
		for ; point < 0; point++ {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	dst = append(dst, digits[:point]...)
	dst = append(dst, '.')
	return append(dst, digits[point:]...)
}

// appendText appends what a bool, number or string is in a text.
func (v *value) appendText(dst []byte) []byte {
	switch v.kind {
	case kindBool:
		return strconv.AppendBool(dst, v.b)
	case kindNumber:
		return v.appendNumber(dst)
	}
	return append(dst, v.s...)
}

// equal compares two values as hcl does; ok is false if only hcl can tell.
func (v *value) equal(o *value) (eq, ok bool) {
	if v.kind == kindJSON && o.kind == kindJSON {
		return false, false
	}
	if v.kind != o.kind {
		return false, true
	}
	switch v.kind {
	case kindBool:
		return v.b == o.b, true
	case kindNumber:
		return v.n == o.n && v.exp == o.exp, true
	case kindString:
		return bytes.Equal(v.s, o.s), true
	}
	return true, true
}

// fromCty makes a value of a constant; ok is false if the fast path cannot hold it.
func fromCty(c cty.Value) (value, bool) {
	switch {
	case !c.IsKnown() || c.IsMarked():
		return value{}, false
	case c.IsNull():
		return value{typed: c.Type() != cty.DynamicPseudoType}, true
	}
	switch c.Type() {
	case cty.Bool:
		return value{kind: kindBool, b: c.True()}, true
	case cty.String:
		return value{kind: kindString, s: []byte(c.AsString())}, true
	case cty.Number:
		text := c.AsBigFloat().Text('f', -1)
		v, ok := parseNumber([]byte(text))
		// A number that was computed may differ from the one that its text stands for.
		if !ok || c.AsBigFloat().Cmp(cty.MustParseNumberVal(text).AsBigFloat()) != 0 {
			return value{}, false
		}
		return v, true
	}
	return value{}, false
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends text as a JSON string.
func appendQuoted[T string | []byte](dst []byte, text T) []byte {
	dst = append(dst, '"')
	return append(appendQuotedPart(dst, text), '"')
}

// appendQuotedPart appends text as a part of a JSON string.
func appendQuotedPart[T string | []byte](dst []byte, text T) []byte {
	start := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	return append(dst, text[start:]...)
}
