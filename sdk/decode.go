package sdk

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxProblems bounds how many problems of one value are reported.
const maxProblems = 50

// decodeConfig decodes a configuration strictly and asks its Validator. Every error is made of AttributeErrors.
func decodeConfig[C any](n *node, config []byte) (C, error) {
	var c C
	if err := n.decode(config, reflect.ValueOf(&c).Elem()); err != nil {
		return c, err
	}
	if v, ok := any(&c).(Validator); ok { // the pointer's methods include the value's
		if err := v.Validate(); err != nil {
			return c, joinAttributeErrors(AttributeErrors(err))
		}
	}
	return c, nil
}

func joinAttributeErrors(list []*AttributeError) error {
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// AttributeErrors lists the attribute errors that err is, wraps or joins. What else is joined to them comes as one
// without a path. It returns nil for nil. Package serve calls it.
func AttributeErrors(err error) []*AttributeError {
	list, rest := attributeErrors(err, nil)
	if rest {
		list = append(list, &AttributeError{Summary: firstLine(err)})
	}
	return list
}

// HasAttributeError reports whether err is, wraps or joins an AttributeError.
func HasAttributeError(err error) bool {
	var ae *AttributeError
	return errors.As(err, &ae)
}

func attributeErrors(err error, list []*AttributeError) (_ []*AttributeError, rest bool) {
	if err == nil {
		return list, false
	}
	if ae, ok := err.(*AttributeError); ok { //nolint:errorlint // every level is looked at
		return append(list, ae), false
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			var plain bool
			if list, plain = attributeErrors(e, list); plain {
				list = append(list, &AttributeError{Summary: firstLine(e)})
			}
		}
		return list, false
	}
	if HasAttributeError(err) {
		return attributeErrors(errors.Unwrap(err), list)
	}
	return list, true
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// decode decodes one JSON value strictly into v, which is settable and of the node's type: no member that the schema
// does not name, none twice, none missing, exact names, exact integers. Its error joins an AttributeError for every
// problem. json.RawMessage values alias data. Errors hold no values, which may be secret.
func (n *node) decode(data []byte, v reflect.Value) error {
	if n.op == opStruct && len(data) == 0 {
		data = emptyObject
	}
	if n.op == opStruct && len(n.fields) == 0 && string(data) == string(emptyObject) {
		return nil
	}
	if !json.Valid(data) {
		return &AttributeError{Summary: "is not valid JSON"}
	}
	r := reader{data: data}
	r.value(n, v)
	if len(r.problems) == 1 {
		return r.problems[0]
	}
	return joinAttributeErrors(r.problems)
}

var emptyObject = []byte("{}")

// reader walks valid JSON.
type reader struct {
	data     []byte
	pos      int
	path     []string
	problems []*AttributeError
}

func (r *reader) problem(format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, &AttributeError{Path: slices.Clone(r.path), Summary: fmt.Sprintf(format, args...)})
	}
}

// space skips white space and returns the byte that follows.
func (r *reader) space() byte {
	for {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return c
		}
	}
}

// raw skips one value and returns its bytes.
func (r *reader) raw() []byte {
	c := r.space()
	start := r.pos
	switch c {
	case '"':
		r.skipString()
	case '{', '[':
		r.pos++
		for depth := 1; depth > 0; {
			switch r.data[r.pos] {
			case '"':
				r.skipString()
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			r.pos++
		}
	default:
		for r.pos < len(r.data) && !strings.ContainsRune(" \t\r\n,]}", rune(r.data[r.pos])) {
			r.pos++
		}
	}
	return r.data[start:r.pos:r.pos]
}

func (r *reader) skipString() {
	for r.pos++; r.data[r.pos] != '"'; r.pos++ {
		if r.data[r.pos] == '\\' {
			r.pos++
		}
	}
	r.pos++
}

// text reads a string.
func (r *reader) text() string {
	r.space()
	start := r.pos
	r.skipString()
	token := r.data[start:r.pos]
	inner := token[1 : len(token)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var s string
	if err := json.Unmarshal(token, &s); err != nil {
		r.problem("is not a valid string")
	}
	return s
}

// kindName says what a JSON value is, by its first byte.
func kindName(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a bool"
	case 'n':
		return "null"
	}
	return "a number"
}

// expect reports whether the next value starts as wanted; if not, it skips the value and notes the problem.
func (r *reader) expect(want string) bool {
	got := kindName(r.space())
	if got == want {
		return true
	}
	r.raw()
	if got == "null" {
		r.problem("must not be null")
	} else {
		r.problem("must be %s, not %s", want, got)
	}
	return false
}

func (r *reader) value(n *node, v reflect.Value) {
	if r.space() == 'n' && n.schema.Nullable && n.op != opRaw && n.op != opCustom {
		r.raw()
		v.SetZero()
		return
	}
	switch n.op {
	case opPointer:
		p := reflect.New(n.elem.typ)
		r.value(n.elem, p.Elem())
		v.Set(p)
	case opString:
		if r.expect("a string") {
			s := r.text()
			r.enum(n, s)
			v.SetString(s)
		}
	case opText:
		if r.expect("a string") {
			s := r.text()
			r.enum(n, s)
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
				r.problem("is not a valid %s", n.typ.Name()) // the error itself may hold the value
			}
		}
	case opBool:
		if r.expect("a bool") {
			v.SetBool(r.raw()[0] == 't')
		}
	case opDuration, opInt, opUint, opFloat, opNumber:
		if r.expect("a number") {
			r.number(n, v)
		}
	case opRaw:
		v.SetBytes(r.raw())
	case opAny:
		dec := json.NewDecoder(bytes.NewReader(r.raw()))
		dec.UseNumber() // a float64 would round
		if err := dec.Decode(v.Addr().Interface()); err != nil {
			r.problem("is not valid JSON")
		}
	case opCustom:
		if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(r.raw()); err != nil {
			r.problem("is not a valid %s", n.typ.Name())
		}
	case opList:
		r.list(n, v)
	case opMap:
		r.mapping(n, v)
	case opStruct:
		r.object(n, v)
	}
}

func (r *reader) enum(n *node, s string) {
	if n.schema.Enum != nil && !slices.Contains(n.schema.Enum, s) {
		r.problem("must be one of %q", n.schema.Enum)
	}
}

func (r *reader) number(n *node, v reflect.Value) {
	token := string(r.raw())
	switch n.op {
	case opNumber:
		v.SetString(token)
	case opFloat:
		f, err := strconv.ParseFloat(token, n.typ.Bits())
		if err != nil {
			r.problem("is out of range")
		}
		v.SetFloat(f)
	default:
		i, err := exactInt(token)
		switch {
		case err != nil:
			r.problem("%v", err)
		case n.op == opUint:
			if i < 0 || v.OverflowUint(uint64(i)) {
				r.problem("must be a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-n.typ.Bits()))
				return
			}
			v.SetUint(uint64(i))
		case v.OverflowInt(i):
			limit := int64(math.MaxInt64) >> (64 - n.typ.Bits())
			r.problem("must be a whole number from %d to %d", -limit-1, limit)
		default:
			v.SetInt(i)
		}
	}
}

var (
	errFraction = errors.New("must be a whole number")
	errRange    = errors.New("must be a whole number within 64 bits")
)

// exactInt reads a JSON number that is whole, in whatever way it is written: 12, 12.0, 1.2e1. It never goes through a
// float.
func exactInt(token string) (int64, error) {
	if i, err := strconv.ParseInt(token, 10, 64); err == nil {
		return i, nil
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(token), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return 0, nil
	}
	exp := 0
	if exponent != "" {
		var err error
		if exp, err = strconv.Atoi(exponent); err != nil || exp > 1<<20 || exp < -1<<20 {
			return 0, errRange
		}
	}
	exp -= len(fraction)
	significant := strings.TrimRight(digits, "0")
	exp += len(digits) - len(significant)
	if exp < 0 {
		return 0, errFraction
	}
	if len(significant)+exp > 19 {
		return 0, errRange
	}
	i, err := strconv.ParseInt(sign+significant+strings.Repeat("0", exp), 10, 64)
	if err != nil {
		return 0, errRange
	}
	return i, nil
}

func (r *reader) list(n *node, v reflect.Value) {
	if !r.expect("a list") {
		return
	}
	r.pos++
	list := reflect.MakeSlice(n.typ, 0, 4)
	elem := reflect.New(n.elem.typ).Elem()
	for i := 0; r.space() != ']'; i++ {
		elem.SetZero()
		r.path = append(r.path, strconv.Itoa(i))
		r.value(n.elem, elem)
		r.path = r.path[:len(r.path)-1]
		list = reflect.Append(list, elem)
		r.comma()
	}
	r.pos++
	v.Set(list)
}

func (r *reader) comma() {
	if r.space() == ',' {
		r.pos++
	}
}

func (r *reader) key() string {
	name := r.text()
	r.space()
	r.pos++ // the colon
	return name
}

func (r *reader) mapping(n *node, v reflect.Value) {
	if !r.expect("an object") {
		return
	}
	r.pos++
	m := reflect.MakeMap(n.typ)
	elem := reflect.New(n.elem.typ).Elem()
	for r.space() != '}' {
		name := r.key()
		key := reflect.ValueOf(name).Convert(n.typ.Key())
		elem.SetZero()
		r.path = append(r.path, name)
		if m.MapIndex(key).IsValid() {
			r.problem("is given twice")
		}
		r.value(n.elem, elem)
		r.path = r.path[:len(r.path)-1]
		m.SetMapIndex(key, elem)
		r.comma()
	}
	r.pos++
	v.Set(m)
}

func (r *reader) object(n *node, v reflect.Value) {
	if !r.expect("an object") {
		return
	}
	r.pos++
	seen := make([]bool, len(n.fields))
	next := 0 // the host writes attributes in order of declaration
	for r.space() != '}' {
		name := r.key()
		if next < len(n.fields) && n.fields[next].name == name {
			r.member(n, next, v, seen)
			next++
		} else if i := slices.IndexFunc(n.fields, func(f field) bool { return f.name == name }); i >= 0 {
			r.member(n, i, v, seen)
			next = i + 1
		} else {
			r.raw()
			r.path = append(r.path, name)
			r.problem("there is no such attribute%s", suggestion(n, name))
			r.path = r.path[:len(r.path)-1]
		}
		r.comma()
	}
	r.pos++
	for i := range n.fields {
		if !seen[i] {
			r.missing(&n.fields[i], v)
		}
	}
}

func (r *reader) member(n *node, i int, v reflect.Value, seen []bool) {
	f := &n.fields[i]
	if r.space() == 'n' && f.node.schema.Optional && !f.node.schema.Nullable {
		r.raw() // null where it is not a value of its own: left out
		return
	}
	r.path = append(r.path, f.name)
	if seen[i] {
		r.problem("is given twice")
	}
	seen[i] = true
	r.value(f.node, v.FieldByIndex(f.index))
	r.path = r.path[:len(r.path)-1]
}

func (r *reader) missing(f *field, v reflect.Value) {
	switch s := &f.node.schema; {
	case s.Default != nil:
		d := reader{data: s.Default, path: r.path}
		d.value(f.node, v.FieldByIndex(f.index)) // proven good when the schema was derived
	case s.Optional && f.node.op == opStruct: // an object that is left out is one whose attributes are left out
		for i := range f.node.fields {
			if f.node.fields[i].node.schema.Optional {
				r.missing(&f.node.fields[i], v.FieldByIndex(f.index))
			}
		}
	case !s.Optional:
		r.path = append(r.path, f.name)
		r.problem("is required")
		r.path = r.path[:len(r.path)-1]
	}
}

// suggestion offers the attribute that was probably meant.
func suggestion(n *node, name string) string {
	best, distance := "", max(2, len(name)/3)+1
	for i := range n.fields {
		if d := editDistance(name, n.fields[i].name); d < distance {
			best, distance = n.fields[i].name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func editDistance(a, b string) int {
	const long = 64 // a name longer than this is no typing mistake
	if len(a) > long || len(b) > long {
		return long
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
