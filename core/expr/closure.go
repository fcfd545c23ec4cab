package expr

import (
	"bytes"
	"encoding/binary"
	"regexp"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/text/unicode/norm"

	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

// The fast path: an expression becomes a tree of Go closures over the record. A closure that meets anything out of
// the ordinary (an error, a number that is too long, a comparison of objects …) gives up, and then hcl evaluates the
// whole expression: it alone decides what is an error, and words it. So the closures must agree with hcl only where
// they succeed.

// valueFunc evaluates an expression on the fast path; ok is false if hcl has to do it.
type valueFunc func(r *Record) (v value, ok bool)

// boolFunc evaluates a condition on the fast path.
type boolFunc func(r *Record) truth

type truth uint8

const (
	no truth = iota
	yes
	bail // hcl has to do it
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// compiled is an expression on the fast path.
type compiled struct {
	fn    valueFunc // nil: hcl only
	test  boolFunc  // set if typ is typeBool: the same as fn
	typ   valueType
	konst *value     // the value of a constant
	ref   *reference // the reference that it is
}

// valueType is what is known before evaluation: where fn succeeds, its value has this type and is not null; where hcl
// fails, the unknown value that it goes on with converts as this type does.
type valueType uint8

const (
	typeAny valueType = iota
	typeNull
	typeBool
	typeNumber
	typeString
)

// runBool evaluates a condition, and leaves it to hcl if it panics.
func (r *Record) runBool(f boolFunc) (t truth) {
	defer func() {
		if recover() != nil {
			t = bail
		}
	}()
	return f(r)
}

// runValue evaluates an expression, and leaves it to hcl if it panics.
func (r *Record) runValue(f valueFunc) (v value, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return f(r)
}

// compileBool makes the fast path of a condition, or nil.
func (s *Set) compileBool(e hclsyntax.Expression) boolFunc {
	c := s.compile(e)
	if c.test != nil || c.fn == nil {
		return c.test
	}
	return asBool(c).test
}

// asBool converts an operand as hcl does.
func asBool(c compiled) compiled {
	if c.test != nil || c.fn == nil {
		return c
	}
	fn := c.fn
	return boolean(func(r *Record) truth {
		v, ok := fn(r)
		if !ok {
			return bail
		}
		return v.truth()
	})
}

// truth converts to a bool; bail for null and what cannot be one.
func (v *value) truth() truth {
	switch v.kind {
	case kindBool:
		return truthOf(v.b)
	case kindString:
		switch string(v.s) {
		case "true", "1":
			return yes
		case "false", "0":
			return no
		}
	}
	return bail
}

// number converts to a number; ok is false for null and what cannot be one, and for what only hcl can read.
func (v *value) number() (value, bool) {
	switch v.kind {
	case kindNumber:
		return *v, true
	case kindString:
		return parseNumber(v.s)
	}
	return value{}, false
}

// text converts to a text; ok is false for null and what cannot be one.
func (r *Record) text(v *value) (text []byte, ok bool) {
	switch v.kind {
	case kindString:
		return v.s, true
	case kindBool, kindNumber:
		return r.scratch(v.appendText(r.arena)), true
	}
	return nil, false
}

// runPart renders a text, and leaves it to others if it panics.
func (r *Record) runPart(f partFunc, dst []byte) (out []byte, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return f(dst, r)
}

func boolean(test boolFunc) compiled {
	return compiled{typ: typeBool, test: test, fn: func(r *Record) (value, bool) {
		t := test(r)
		return value{kind: kindBool, b: t == yes}, t != bail
	}}
}

func constant(v value) compiled {
	c := compiled{konst: &v, fn: func(*Record) (value, bool) { return v, true }}
	switch v.kind {
	case kindNull:
		if !v.typed {
			c.typ = typeNull
		}
	case kindBool:
		c.typ = typeBool
		c.test = func(*Record) truth { return truthOf(v.b) }
	case kindNumber:
		c.typ = typeNumber
	case kindString:
		c.typ = typeString
	}
	return c
}

// compile makes the fast path of a rewritten expression. Its fn is nil if there is none.
func (s *Set) compile(e hclsyntax.Expression) compiled {
	if s.hclOnly {
		return compiled{}
	}
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		if v, ok := fromCty(e.Val); ok {
			return constant(v)
		}
	case *refNode:
		return compileRef(e.ref)
	case *hclsyntax.ParenthesesExpr:
		return s.compile(e.Expression)
	case *hclsyntax.TemplateWrapExpr:
		return s.compile(e.Wrapped)
	case *hclsyntax.ObjectConsKeyExpr:
		return s.compile(e.Wrapped)
	case *hclsyntax.TemplateExpr:
		return s.template(e)
	case *escapeNode:
		return s.escape(e)
	case *presentNode:
		if n, ok := e.arg.(*refNode); ok {
			return boolean(func(r *Record) truth { return truthOf(r.present(n.ref)) })
		}
	case *indexNode:
		return s.index(e)
	case *hclsyntax.UnaryOpExpr:
		return s.unary(e)
	case *hclsyntax.BinaryOpExpr:
		return s.binary(e)
	case *conditionalNode:
		return s.conditional(e.ConditionalExpr)
	case *hclsyntax.FunctionCallExpr:
		return s.call(e)
	}
	return compiled{}
}

// compileAll compiles several expressions; ok is false if one of them has no fast path.
func (s *Set) compileAll(es []hclsyntax.Expression) (cs []compiled, ok bool) {
	cs = make([]compiled, len(es))
	for i, e := range es {
		if cs[i] = s.compile(e); cs[i].fn == nil {
			return nil, false
		}
	}
	return cs, true
}

// aComposite stands for an object whose members the fast path does not look at.
var aComposite = []byte("{}")

func compileRef(ref *reference) compiled {
	var fn valueFunc
	switch ref.kind {
	case refData:
		path := ref.path
		fn = func(r *Record) (value, bool) {
			tok, st, _ := r.data.token(path)
			if st != present {
				return value{}, st == absent
			}
			return r.tokenValue(tok)
		}
	case refChangeVal:
		path := ref.path
		fn = func(r *Record) (value, bool) {
			tok, st, _ := r.chg.token(path)
			if st != present {
				return value{}, st == absent
			}
			return r.tokenValue(tok)
		}
	case refEnvelope:
		field := ref.field
		fn = func(r *Record) (value, bool) { return r.stringValue(r.envelope(field)), true }
	case refSource:
		fn = func(r *Record) (value, bool) { return r.stringValue(r.req.Source), true }
	case refReceived:
		fn = func(r *Record) (value, bool) { return r.stringValue(r.receivedAt()), true }
	case refHeader:
		name := ref.header
		fn = func(r *Record) (value, bool) {
			text, ok := r.header(name)
			if ok && text == "" {
				return value{kind: kindString}, true
			}
			return r.stringValue(text), true
		}
	case refHasOld, refHasNew:
		path := ref.path
		fn = func(r *Record) (value, bool) {
			if _, st, _ := r.chg.token(path[:1]); st != present {
				return value{}, st == absent
			}
			_, st, _ := r.chg.token(path)
			return value{kind: kindBool, b: st == present}, true
		}
	case refChange:
		path := ref.path
		fn = func(r *Record) (value, bool) {
			tok, st, _ := r.chg.token(path)
			if st != present || tok[0] == 'n' {
				return value{}, st != mismatch
			}
			return value{kind: kindJSON, s: aComposite}, true
		}
	case refChanges:
		fn = func(r *Record) (value, bool) {
			if r.chg.raw[0] != '{' {
				return value{}, true
			}
			return value{kind: kindJSON, s: aComposite}, true
		}
	default: // the event, the request, all headers: objects
		fn = func(*Record) (value, bool) { return value{kind: kindJSON, s: aComposite}, true }
	}
	return compiled{fn: fn, ref: ref}
}

// tokenValue is the value of a JSON token.
func (r *Record) tokenValue(tok []byte) (value, bool) {
	switch tok[0] {
	case '"':
		return value{kind: kindString, s: r.unquote(tok)}, true
	case 't':
		return value{kind: kindBool, b: true}, true
	case 'f':
		return value{kind: kindBool}, true
	case 'n':
		return value{}, true
	case '{', '[':
		return value{kind: kindJSON, s: tok}, true
	}
	return parseNumber(tok)
}

// stringValue is the value of a text of the host's; empty: null.
func (r *Record) stringValue(s string) value {
	if s == "" {
		return value{}
	}
	return value{kind: kindString, s: r.normal(r.scratch(append(r.arena, s...)))}
}

// unquote is the text of a string token in normal form NFC.
func (r *Record) unquote(tok []byte) []byte {
	text := tok[1 : len(tok)-1]
	plain, ascii := scanText(text)
	if !plain {
		arena, _ := jsonscan.AppendUnquote(r.arena, tok)
		text = r.scratch(arena)
		ascii = false
	}
	if ascii {
		return text
	}
	return r.normal(text)
}

// scanText reports whether the inside of a string token has no escapes, and whether it is all ASCII.
func scanText(b []byte) (plain, ascii bool) {
	const low, high = 0x0101010101010101, 0x8080808080808080
	var acc, slash uint64
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		acc |= w
		x := w ^ low*'\\'
		slash |= (x - low) &^ x
	}
	var last byte
	for _, c := range b {
		last |= c
		if c == '\\' {
			slash = high
		}
	}
	return slash&high == 0, (acc|uint64(last))&high == 0
}

// normal is the text in normal form NFC.
func (r *Record) normal(text []byte) []byte {
	for _, c := range text {
		if c > 0xcb { // the first byte of U+0300 or above: below it there is nothing to compose
			if norm.NFC.IsNormal(text) {
				return text
			}
			return norm.NFC.Bytes(text)
		}
	}
	return text
}

func (s *Set) template(e *hclsyntax.TemplateExpr) compiled {
	parts, ok := s.compileAll(e.Parts)
	if !ok {
		return compiled{}
	}
	fn := func(r *Record) (value, bool) {
		// The parts may use the arena themselves, so they come first.
		var few [12]value
		vals := few[:0]
		for i := range parts {
			v, ok := parts[i].fn(r)
			if !ok || v.kind == kindNull || v.kind == kindJSON {
				return value{}, false
			}
			vals = append(vals, v)
		}
		arena := r.arena
		for i := range vals {
			arena = vals[i].appendText(arena)
		}
		return value{kind: kindString, s: r.normal(r.scratch(arena))}, true
	}
	return compiled{fn: fn, typ: typeString}
}

// partFunc appends a part of a template as a part of a JSON string; ok is false if that needs another way.
type partFunc func(dst []byte, r *Record) (out []byte, ok bool)

// quotedTemplate compiles a template whose text goes straight into a message, or returns nil. It gives up on characters
// that might compose with their neighbours.
func (s *Set) quotedTemplate(e hclsyntax.Expression) partFunc {
	t, ok := e.(*hclsyntax.TemplateExpr)
	if !ok || s.hclOnly {
		return nil
	}
	parts := make([]partFunc, len(t.Parts))
	for i, p := range t.Parts {
		if parts[i] = s.quotedPart(p); parts[i] == nil {
			return nil
		}
	}
	return func(dst []byte, r *Record) (out []byte, ok bool) {
		dst = append(dst, '"')
		for _, part := range parts {
			if dst, ok = part(dst, r); !ok {
				return dst, false
			}
		}
		return append(dst, '"'), true
	}
}

func (s *Set) quotedPart(e hclsyntax.Expression) partFunc {
	how := sdk.EscapeNone
	if esc, ok := e.(*escapeNode); ok {
		e, how = esc.Expression, esc.how
	}
	c := s.compile(e)
	if c.fn == nil {
		return nil
	}
	quoted := func(dst, text []byte) ([]byte, bool) {
		for _, c := range text {
			if c > 0xcb {
				return dst, false
			}
		}
		if how != sdk.EscapeNone && escapeNeeded(text, how) {
			text = appendEscaped(nil, text, how)
		}
		return appendQuotedPart(dst, text), true
	}
	switch {
	case c.konst != nil && c.konst.kind == kindString:
		text, ok := quoted(nil, c.konst.s)
		if !ok {
			return nil
		}
		return func(dst []byte, _ *Record) ([]byte, bool) { return append(dst, text...), true }
	case c.ref != nil && c.ref.kind == refEnvelope && how == sdk.EscapeNone:
		field := c.ref.field
		return func(dst []byte, r *Record) ([]byte, bool) {
			text := r.envelope(field)
			for i := range len(text) {
				if text[i] > 0xcb {
					return dst, false
				}
			}
			return appendQuotedPart(dst, text), text != ""
		}
	case c.ref != nil && c.ref.kind == refData:
		path := c.ref.path
		return func(dst []byte, r *Record) ([]byte, bool) {
			tok, st, _ := r.data.token(path)
			if st != present {
				return dst, false
			}
			if tok[0] == '"' {
				text := tok[1 : len(tok)-1]
				for _, c := range text {
					if c > 0xcb || c == '\\' {
						return dst, false
					}
				}
				if how == sdk.EscapeNone || !escapeNeeded(text, how) {
					return append(dst, text...), true
				}
				return appendQuotedPart(dst, appendEscaped(nil, text, how)), true
			}
			v, ok := r.tokenValue(tok)
			if !ok || v.kind == kindNull || v.kind == kindJSON {
				return dst, false
			}
			return v.appendText(dst), true
		}
	}
	return func(dst []byte, r *Record) ([]byte, bool) {
		v, ok := c.fn(r)
		switch {
		case !ok, v.kind == kindNull, v.kind == kindJSON:
			return dst, false
		case v.kind == kindString:
			return quoted(dst, v.s)
		}
		return v.appendText(dst), true
	}
}

func (s *Set) escape(e *escapeNode) compiled {
	c := s.compile(e.Expression)
	if c.fn == nil {
		return c
	}
	inner, how := c.fn, e.how
	return compiled{typ: c.typ, test: c.test, fn: func(r *Record) (value, bool) {
		v, ok := inner(r)
		if ok && v.kind == kindString && escapeNeeded(v.s, how) {
			v.s = r.scratch(appendEscaped(r.arena, v.s, how))
		}
		return v, ok && v.kind != kindJSON
	}}
}

// index compiles a computed key into a constant table.
func (s *Set) index(e *indexNode) compiled {
	lit, ok := e.coll.(*hclsyntax.LiteralValueExpr)
	if !ok || lit.Val.IsNull() || !lit.Val.Type().IsObjectType() && !lit.Val.Type().IsMapType() {
		return compiled{}
	}
	key := s.compile(e.key)
	if key.fn == nil {
		return compiled{}
	}
	table := map[string]value{}
	for name, c := range lit.Val.AsValueMap() {
		v, ok := fromCty(c)
		if !ok {
			return compiled{}
		}
		table[name] = v
	}
	missing := value{typed: lit.Val.Type().IsMapType()}
	return compiled{fn: func(r *Record) (value, bool) {
		k, ok := key.fn(r)
		if !ok {
			return value{}, false
		}
		name, ok := r.text(&k)
		if !ok {
			return value{}, false
		}
		v, ok := table[string(name)]
		if !ok {
			v = missing
		}
		return v, true
	}}
}

func (s *Set) unary(e *hclsyntax.UnaryOpExpr) compiled {
	c := s.compile(e.Val)
	if c.fn == nil {
		return c
	}
	switch e.Op {
	case hclsyntax.OpLogicalNot:
		test := asBool(c).test
		return boolean(func(r *Record) truth {
			switch test(r) {
			case no:
				return yes
			case yes:
				return no
			}
			return bail
		})
	case hclsyntax.OpNegate:
		return compiled{typ: typeNumber, fn: func(r *Record) (value, bool) {
			v, ok := c.fn(r)
			if !ok {
				return v, false
			}
			v, ok = v.number()
			v.n = -v.n
			return v, ok && v.n != 0 // cty has a negative zero
		}}
	}
	return compiled{}
}

func (s *Set) binary(e *hclsyntax.BinaryOpExpr) compiled {
	a, b := s.compile(e.LHS), s.compile(e.RHS)
	if a.fn == nil || b.fn == nil {
		return compiled{}
	}
	switch e.Op {
	case hclsyntax.OpLogicalAnd:
		return logical(a, b, no)
	case hclsyntax.OpLogicalOr:
		return logical(a, b, yes)
	case hclsyntax.OpEqual:
		return equality(a, b, yes)
	case hclsyntax.OpNotEqual:
		return equality(a, b, no)
	case hclsyntax.OpLessThan:
		return comparison(a, b, func(c int) bool { return c < 0 })
	case hclsyntax.OpLessThanOrEqual:
		return comparison(a, b, func(c int) bool { return c <= 0 })
	case hclsyntax.OpGreaterThan:
		return comparison(a, b, func(c int) bool { return c > 0 })
	case hclsyntax.OpGreaterThanOrEqual:
		return comparison(a, b, func(c int) bool { return c >= 0 })
	case hclsyntax.OpAdd:
		return arithmetic(a, b, func(x, y int64) (int64, bool) { return x + y, true })
	case hclsyntax.OpSubtract:
		return arithmetic(a, b, func(x, y int64) (int64, bool) { return x - y, true })
	case hclsyntax.OpMultiply:
		return arithmetic(a, b, func(x, y int64) (int64, bool) {
			small := x > -1<<31 && x < 1<<31 && y > -1<<31 && y < 1<<31
			return x * y, small && x != 0 && y != 0 // cty has a negative zero
		})
	case hclsyntax.OpDivide:
		return arithmetic(a, b, func(x, y int64) (int64, bool) {
			if x == 0 || y == 0 || x%y != 0 {
				return 0, false
			}
			return x / y, true
		})
	case hclsyntax.OpModulo:
		return arithmetic(a, b, func(x, y int64) (int64, bool) {
			small := x > -1<<31 && x < 1<<31 && y > -1<<31 && y < 1<<31
			if y == 0 || !small {
				return 0, false
			}
			return x % y, true
		})
	}
	return compiled{}
}

// logical compiles && (decisive is no) and || (decisive is yes). hcl evaluates both sides and drops the errors of the
// one that does not decide; but a side that cannot be a bool is an error in any case. It takes null for false beside
// &&.
func logical(a, b compiled, decisive truth) compiled {
	if a.typ == typeBool && b.typ == typeBool {
		x, y := a.test, b.test
		return boolean(func(r *Record) truth {
			if t := x(r); t == decisive || t == bail {
				return t
			}
			return y(r)
		})
	}
	side := func(c compiled) func(r *Record) (t truth, null bool) {
		if c.typ == typeBool {
			return func(r *Record) (truth, bool) { return c.test(r), false }
		}
		return func(r *Record) (truth, bool) {
			v, ok := c.fn(r)
			if !ok {
				return bail, false
			}
			if v.kind == kindNull && !v.typed {
				return no, true
			}
			return v.truth(), false
		}
	}
	x, y := side(a), side(b)
	return boolean(func(r *Record) truth {
		tx, nullX := x(r)
		ty, nullY := y(r)
		switch {
		case tx == bail || ty == bail:
			return bail
		case tx == decisive || ty == decisive:
			return decisive
		case nullX || nullY:
			return bail
		}
		return ty // neither decides, so it is the other
	})
}

func equality(a, b compiled, equal truth) compiled {
	differ := yes - equal
	if a.konst != nil {
		a, b = b, a
	}
	x, y := a.fn, b.fn
	if k := b.konst; k != nil {
		if test := equalityOfRef(a.ref, x, k, equal); test != nil {
			return boolean(test)
		}
		return boolean(func(r *Record) truth {
			v, ok := x(r)
			if !ok {
				return bail
			}
			if v.kind == kindString && k.kind == kindString {
				if string(v.s) == string(k.s) {
					return equal
				}
				return differ
			}
			if eq, _ := v.equal(k); eq { // a constant is a scalar, so this is sure
				return equal
			}
			return differ
		})
	}
	return boolean(func(r *Record) truth {
		v, ok := x(r)
		if !ok {
			return bail
		}
		w, ok := y(r)
		if !ok {
			return bail
		}
		switch eq, ok := v.equal(&w); {
		case !ok:
			return bail
		case eq:
			return equal
		}
		return differ
	})
}

// equalityOfRef compares the commonest things, a reference and a constant, on the bytes of the payload; nil if it
// cannot.
func equalityOfRef(ref *reference, slow valueFunc, k *value, equal truth) boolFunc {
	if ref == nil {
		return nil
	}
	differ := yes - equal
	slowly := func(r *Record) truth {
		v, ok := slow(r)
		if !ok {
			return bail
		}
		if eq, _ := v.equal(k); eq {
			return equal
		}
		return differ
	}
	switch {
	case ref.kind == refEnvelope && k.kind == kindString:
		field, want := ref.field, string(k.s)
		return func(r *Record) truth {
			got := r.envelope(field)
			if got == want {
				return equal
			}
			if isASCII(got) {
				return differ
			}
			return slowly(r)
		}
	case ref.kind == refData && k.kind == kindNull:
		path := ref.path
		return func(r *Record) truth {
			tok, st, _ := r.data.token(path)
			switch {
			case st == mismatch:
				return bail
			case st == absent || tok[0] == 'n':
				return equal
			}
			return differ
		}
	case ref.kind == refData && k.kind == kindString:
		path, want := ref.path, string(appendQuoted(nil, k.s))
		return func(r *Record) truth {
			tok, st, _ := r.data.token(path)
			switch {
			case st == mismatch:
				return bail
			case st == absent || tok[0] != '"':
				return differ
			case string(tok) == want:
				return equal
			}
			if plain, ascii := scanText(tok); plain && ascii {
				return differ
			}
			return slowly(r)
		}
	}
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func comparison(a, b compiled, holds func(int) bool) compiled {
	x, y := a.fn, b.fn
	return boolean(func(r *Record) truth {
		v, ok := x(r)
		if !ok {
			return bail
		}
		w, ok2 := y(r)
		if !ok2 {
			return bail
		}
		v, ok = v.number()
		w, ok2 = w.number()
		if !ok || !ok2 {
			return bail
		}
		return truthOf(holds(v.compare(&w)))
	})
}

// arithmetic compiles an operation on whole numbers. Fractions are binary in hcl, with 512 bits, and are left to it.
func arithmetic(a, b compiled, op func(x, y int64) (int64, bool)) compiled {
	x, y := a.fn, b.fn
	whole := func(fn valueFunc, r *Record) (int64, bool) {
		v, ok := fn(r)
		if !ok {
			return 0, false
		}
		if v, ok = v.number(); !ok {
			return 0, false
		}
		return v.integer()
	}
	return compiled{typ: typeNumber, fn: func(r *Record) (value, bool) {
		m, ok := whole(x, r)
		if !ok {
			return value{}, false
		}
		n, ok := whole(y, r)
		if !ok {
			return value{}, false
		}
		if m, ok = op(m, n); !ok {
			return value{}, false
		}
		return number(m, 0)
	}}
}

func (s *Set) conditional(e *hclsyntax.ConditionalExpr) compiled {
	cond, a, b := asBool(s.compile(e.Condition)), s.compile(e.TrueResult), s.compile(e.FalseResult)
	if cond.fn == nil || a.fn == nil || b.fn == nil {
		return compiled{}
	}
	known := a.typ != typeAny && b.typ != typeAny
	if known && (a.typ == b.typ || a.typ == typeNull || b.typ == typeNull) {
		// The result that is not chosen cannot change the type, so it need not be evaluated.
		out := compiled{fn: func(r *Record) (value, bool) {
			chosen, other := a, b
			switch cond.test(r) {
			case no:
				chosen, other = b, a
			case bail:
				return value{}, false
			}
			v, ok := chosen.fn(r)
			if v.kind == kindNull {
				v.typed = other.typ != typeNull
			}
			return v, ok
		}}
		if a.typ == b.typ && a.typ != typeNull {
			out.typ = a.typ
			if a.typ == typeBool {
				return boolean(func(r *Record) truth {
					switch cond.test(r) {
					case no:
						return b.test(r)
					case yes:
						return a.test(r)
					}
					return bail
				})
			}
		}
		return out
	}
	return compiled{fn: func(r *Record) (value, bool) {
		t := cond.test(r)
		if t == bail {
			return value{}, false
		}
		v, ok := a.fn(r)
		if !ok {
			return value{}, false
		}
		w, ok := b.fn(r)
		if !ok {
			return value{}, false
		}
		if t == no {
			v, w = w, v
		}
		return r.unify(v, w)
	}}
}

// unify gives v the type that it shares with the other possible result w; ok is false if only hcl can tell.
func (r *Record) unify(v, w value) (value, bool) {
	switch {
	case v.kind == kindNull && w.kind == kindNull && !v.typed && !w.typed:
		return v, true
	case v.kind == kindNull && v.typed, w.kind == kindNull && w.typed:
		return v, false
	case v.kind == kindNull:
		v.typed = true
		return v, true
	case w.kind == kindNull:
		return v, true
	case v.kind == kindJSON || w.kind == kindJSON:
		return v, false
	case v.kind == w.kind:
		return v, true
	case w.kind == kindString:
		text, ok := r.text(&v)
		return value{kind: kindString, s: text}, ok
	case v.kind == kindString:
		return v, true
	}
	return v, false
}

func (s *Set) call(e *hclsyntax.FunctionCallExpr) compiled {
	if e.ExpandFinal {
		return compiled{}
	}
	if e.Name == "contains" && len(e.Args) == 2 {
		return s.contains(e.Args[0], e.Args[1])
	}
	args, ok := s.compileAll(e.Args)
	if !ok || len(args) == 0 {
		return compiled{}
	}
	switch e.Name {
	case "raw":
		if len(args) == 1 {
			return compiled{fn: args[0].fn}
		}
	case "try":
		return compiled{fn: args[0].fn}
	case "can":
		if len(args) == 1 {
			return boolean(func(r *Record) truth {
				if _, ok := args[0].fn(r); ok {
					return yes
				}
				return bail
			})
		}
	case "coalesce":
		return coalesce(args)
	case "tostring", "tonumber", "tobool":
		if len(args) == 1 {
			return conversion(e.Name, args[0])
		}
	case "length":
		if len(args) == 1 {
			return compiled{typ: typeNumber, fn: func(r *Record) (value, bool) {
				v, ok := args[0].fn(r)
				if !ok || v.kind != kindJSON || v.s[0] != '[' {
					return value{}, false
				}
				n := int64(0)
				for m := jsonscan.Open(v.s); m.Next(); {
					n++
				}
				return number(n, 0)
			}}
		}
	case "startswith":
		return textTest(args, bytes.HasPrefix)
	case "endswith":
		return textTest(args, bytes.HasSuffix)
	case "matches":
		return matches(args)
	case "upper":
		return textFunc(args, 1, func(r *Record, a [3][]byte) ([]byte, bool) {
			return r.mapCase(a[0], 'a', bytes.ToUpper), true
		})
	case "lower":
		return textFunc(args, 1, func(r *Record, a [3][]byte) ([]byte, bool) {
			return r.mapCase(a[0], 'A', bytes.ToLower), true
		})
	case "trimspace":
		return textFunc(args, 1, func(_ *Record, a [3][]byte) ([]byte, bool) { return bytes.TrimSpace(a[0]), true })
	case "trimprefix":
		return textFunc(args, 2, func(_ *Record, a [3][]byte) ([]byte, bool) { return bytes.TrimPrefix(a[0], a[1]), true })
	case "trimsuffix":
		return textFunc(args, 2, func(_ *Record, a [3][]byte) ([]byte, bool) { return bytes.TrimSuffix(a[0], a[1]), true })
	case "replace":
		return textFunc(args, 3, func(_ *Record, a [3][]byte) ([]byte, bool) {
			if (len(a[0])+1)*(len(a[2])+1) > 1<<16 {
				return nil, false
			}
			return bytes.ReplaceAll(a[0], a[1], a[2]), true
		})
	case "date":
		return textFunc(args, 1, func(_ *Record, a [3][]byte) ([]byte, bool) {
			if _, ok := parseTime(string(a[0])); !ok {
				return nil, false
			}
			return a[0][:dateLen], true
		})
	case "timecmp":
		if len(args) == 2 {
			return compiled{typ: typeNumber, fn: func(r *Record) (value, bool) {
				a, ok := r.textArg(args[0])
				if !ok {
					return value{}, false
				}
				b, ok := r.textArg(args[1])
				if !ok {
					return value{}, false
				}
				x, ok1 := parseTime(string(a))
				y, ok2 := parseTime(string(b))
				return value{kind: kindNumber, n: int64(x.Compare(y))}, ok1 && ok2
			}}
		}
	}
	return compiled{}
}

// textArg evaluates an argument whose parameter is a text.
func (r *Record) textArg(c compiled) ([]byte, bool) {
	v, ok := c.fn(r)
	if !ok {
		return nil, false
	}
	return r.text(&v)
}

// textFunc compiles a function of n texts that makes one.
func textFunc(args []compiled, n int, f func(r *Record, args [3][]byte) ([]byte, bool)) compiled {
	if len(args) != n {
		return compiled{}
	}
	return compiled{typ: typeString, fn: func(r *Record) (value, bool) {
		var a [3][]byte
		for i := range args {
			var ok bool
			if a[i], ok = r.textArg(args[i]); !ok {
				return value{}, false
			}
		}
		text, ok := f(r, a)
		if !ok {
			return value{}, false
		}
		return value{kind: kindString, s: r.normal(text)}, true
	}}
}

// mapCase switches the case of the letters of ASCII from first on; other texts are up to rest.
func (r *Record) mapCase(text []byte, first byte, rest func([]byte) []byte) []byte {
	for _, c := range text {
		if c >= 0x80 {
			return rest(text)
		}
	}
	out := r.scratch(append(r.arena, text...))
	for i, c := range out {
		if c-first <= 'z'-'a' {
			out[i] = c ^ 0x20
		}
	}
	return out
}

func textTest(args []compiled, has func(s, affix []byte) bool) compiled {
	if len(args) != 2 {
		return compiled{}
	}
	return boolean(func(r *Record) truth {
		s, ok := r.textArg(args[0])
		if !ok {
			return bail
		}
		affix, ok := r.textArg(args[1])
		if !ok {
			return bail
		}
		return truthOf(has(s, affix))
	})
}

func matches(args []compiled) compiled {
	if len(args) != 2 || args[1].konst == nil || args[1].konst.kind != kindString || len(args[1].konst.s) > maxPattern {
		return compiled{}
	}
	re, err := regexp.Compile(string(args[1].konst.s))
	if err != nil {
		return compiled{}
	}
	return boolean(func(r *Record) truth {
		text, ok := r.textArg(args[0])
		if !ok {
			return bail
		}
		return truthOf(re.Match(text))
	})
}

func coalesce(args []compiled) compiled {
	out := compiled{typ: args[0].typ, fn: func(r *Record) (value, bool) {
		// All are evaluated: together they make the type.
		var first value
		for i := range args {
			v, ok := args[i].fn(r)
			switch {
			case !ok, v.kind == kindJSON, v.kind == kindNull && v.typed:
				return value{}, false
			case v.kind == kindNull:
			case first.kind == kindNull:
				first = v
			case v.kind != first.kind:
				return value{}, false
			}
		}
		return first, first.kind != kindNull
	}}
	for _, a := range args {
		if a.typ != out.typ || a.typ == typeNull {
			out.typ = typeAny
		}
	}
	if out.typ == typeBool {
		fn := out.fn
		out.test = func(r *Record) truth {
			v, ok := fn(r)
			if !ok {
				return bail
			}
			return truthOf(v.b)
		}
	}
	return out
}

func conversion(name string, arg compiled) compiled {
	return compiled{fn: func(r *Record) (value, bool) {
		v, ok := arg.fn(r)
		switch {
		case !ok:
			return v, false
		case v.kind == kindNull:
			return value{typed: true}, !v.typed
		}
		switch name {
		case "tostring":
			text, ok := r.text(&v)
			return value{kind: kindString, s: text}, ok
		case "tonumber":
			return v.number()
		}
		t := v.truth()
		return value{kind: kindBool, b: t == yes}, t != bail
	}}
}

// contains compiles the search in a constructor or constant of scalars, or in a list of the event.
func (s *Set) contains(list, what hclsyntax.Expression) compiled {
	needle := s.compile(what)
	if needle.fn == nil {
		return compiled{}
	}
	for {
		p, ok := list.(*hclsyntax.ParenthesesExpr)
		if !ok {
			break
		}
		list = p.Expression
	}
	switch l := list.(type) {
	case *hclsyntax.TupleConsExpr:
		els, ok := s.compileAll(l.Exprs)
		if !ok {
			return compiled{}
		}
		return boolean(func(r *Record) truth {
			v, ok := needle.fn(r)
			if !ok {
				return bail
			}
			found := no
			for i := range els {
				el, ok := els[i].fn(r)
				if !ok {
					return bail // an element that fails fails the whole
				}
				switch eq, ok := el.equal(&v); {
				case !ok:
					return bail
				case eq:
					found = yes
				}
			}
			return found
		})
	case *hclsyntax.LiteralValueExpr:
		ty := l.Val.Type()
		if l.Val.IsNull() || !ty.IsTupleType() && !ty.IsListType() && !ty.IsSetType() {
			return compiled{}
		}
		return containsConst(l.Val, needle)
	}
	hay := s.compile(list)
	if hay.fn == nil {
		return compiled{}
	}
	return boolean(func(r *Record) truth {
		l, ok := hay.fn(r)
		if !ok || l.kind != kindJSON || l.s[0] != '[' {
			return bail
		}
		v, ok := needle.fn(r)
		if !ok {
			return bail
		}
		elements := 0
		for m := jsonscan.Open(l.s); m.Next(); {
			if elements++; elements > maxNodes/2 {
				return bail
			}
			el, ok := r.tokenValue(m.Value)
			if !ok {
				return bail
			}
			switch eq, ok := el.equal(&v); {
			case !ok:
				return bail
			case eq:
				return yes
			}
		}
		return no
	})
}

func containsConst(list cty.Value, needle compiled) compiled {
	var els []value
	texts := map[string]bool{}
	for it := list.ElementIterator(); it.Next(); {
		_, c := it.Element()
		v, ok := fromCty(c)
		if !ok {
			return compiled{}
		}
		if v.kind == kindString {
			texts[string(v.s)] = true
		} else {
			els = append(els, v)
		}
	}
	return boolean(func(r *Record) truth {
		v, ok := needle.fn(r)
		if !ok {
			return bail
		}
		if v.kind == kindString {
			return truthOf(texts[string(v.s)])
		}
		for i := range els {
			if eq, _ := els[i].equal(&v); eq {
				return yes
			}
		}
		return no
	})
}
