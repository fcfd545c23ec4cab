package expr

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

// Message is the compiled arguments of a `to` block.
type Message struct {
	emit   emitFunc
	rng    hcl.Range
	ranges map[string]hcl.Range // of the attributes
	args   []arg                // in the order in which they are written
}

// arg is one attribute as it was written, rewritten.
type arg struct {
	name   string
	expr   hclsyntax.Expression
	schema *sdk.Schema
	known  cty.Value // its value or at least type, as far as that does not depend on the event
}

// emitFunc appends the JSON of an argument for the record's event. If it returns no JSON (emitted other than wrote),
// dst is as it was given. On an error, dst is of no use.
type emitFunc func(dst []byte, r *Record) ([]byte, emitted, *Error)

type emitted uint8

const (
	wrote   emitted = iota
	isNull          // the result is null
	nothing         // a bare reference to an absent field
)

// emitter is a compiled argument or part of one.
type emitter struct {
	emit emitFunc
	rng  hcl.Range
	ref  *reference // the bare reference that it is, or nil
}

// Message compiles the attributes of a `to` block against the message schema of its sink, an object. It reports every
// unknown, missing and ill-typed attribute that is visible without an event. block is where a missing attribute is
// reported. A Message with errors is for a Checker only.
func (s *Set) Message(attrs map[string]*hcl.Attribute, schema *sdk.Schema, block hcl.Range) (
	*Message, hcl.Diagnostics,
) {
	b := &builder{set: s}
	members := make([]member, 0, len(attrs))
	for name, attr := range attrs {
		members = append(members, member{name: name, rng: attr.NameRange, attr: attr})
	}
	sort.Slice(members, func(i, j int) bool { // by place in the file, for the order of diagnostics
		a, c := members[i].rng, members[j].rng
		return a.Filename < c.Filename || a.Filename == c.Filename && a.Start.Byte < c.Start.Byte
	})
	em := b.object(members, schema, block, nil)
	if b.diags.HasErrors() {
		return &Message{rng: block, args: b.args}, b.diags
	}
	ranges := make(map[string]hcl.Range, len(attrs))
	for name, attr := range attrs {
		ranges[name] = attr.Range
	}
	return &Message{emit: em.emit, rng: block, ranges: ranges, args: b.args}, b.diags
}

// Append renders the message for the record's event as a JSON object that meets the schema, and appends it to dst. An
// error is an *Error whose Path names the attribute; dst is then returned as it was given.
func (m *Message) Append(dst []byte, rec *Record) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, rec.panicError(p, m.rng)
		}
	}()
	rec.arena = rec.arena[:0]
	out, _, e := m.emit(dst, rec)
	if e != nil {
		return dst, e
	}
	if n := len(out) - len(dst); n > maxMessage {
		return dst, errorAt(m.rng, "Message too large", "It has %d bytes for this event, and at most %d are possible.",
			n, maxMessage)
	}
	return out, nil
}

// builder compiles one message.
type builder struct {
	set   *Set
	args  []arg
	diags hcl.Diagnostics
}

func (b *builder) fail(rng hcl.Range, summary, format string, args ...any) {
	b.diags = append(b.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &rng,
	})
}

// member is a named part of an object: an attribute of the block, or an item of a constructor.
type member struct {
	name string
	rng  hcl.Range
	attr *hcl.Attribute       // of the block, not yet rewritten
	expr hclsyntax.Expression // or rewritten
}

func (b *builder) member(m member, schema *sdk.Schema, path []string) (emitter, bool) {
	if m.attr == nil {
		return b.build(m.expr, schema, path)
	}
	out, known, diags := b.set.rewrite(m.attr.Expr, true)
	b.diags = append(b.diags, diags...)
	if out != nil {
		b.args = append(b.args, arg{m.name, out, schema, known})
	}
	if diags.HasErrors() {
		return emitter{}, false
	}
	before := len(b.diags)
	em, ok := b.build(out, schema, path)
	if ok && len(b.diags) == before {
		if want := unfit(known, schema); want != "" {
			b.fail(m.attr.Expr.Range(), "Wrong type", "The attribute %q needs %s, but this is %s.", strings.Join(path, "."),
				want, article(known.Type().FriendlyName()))
			return emitter{}, false
		}
	}
	return em, ok
}

// unfit says what a schema wants if a value, of which maybe only the type is known, can never be that.
func unfit(known cty.Value, s *sdk.Schema) string {
	ty := known.Type()
	if ty == cty.DynamicPseudoType || known.IsNull() {
		return ""
	}
	fits := true
	switch s.Kind {
	case sdk.KindString:
		fits = ty.IsPrimitiveType()
	case sdk.KindNumber, sdk.KindInteger, sdk.KindDuration:
		fits = ty == cty.Number || ty == cty.String
	case sdk.KindBool:
		fits = ty == cty.Bool || ty == cty.String
	case sdk.KindObject, sdk.KindMap:
		fits = ty.IsObjectType() || ty.IsMapType()
	case sdk.KindList:
		fits = ty.IsTupleType() || ty.IsListType() || ty.IsSetType()
	}
	if fits {
		return ""
	}
	return wants(s)
}

// wants names what a schema wants.
func wants(s *sdk.Schema) string {
	switch s.Kind {
	case sdk.KindString:
		if len(s.Enum) > 0 {
			return "one of " + quoteList(s.Enum)
		}
		return "a string"
	case sdk.KindNumber:
		return "a number"
	case sdk.KindInteger:
		return "a whole number of at most 64 bits"
	case sdk.KindBool:
		return "true or false"
	case sdk.KindDuration:
		return `a duration such as "90s", "1h30m" or "3d"`
	case sdk.KindObject:
		return "an object"
	case sdk.KindMap:
		return "an object (a map)"
	case sdk.KindList:
		return "a list"
	}
	return "a value"
}

func quoteList(names []string) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", n)
	}
	return b.String()
}

// object compiles the members of an object whose schema names its attributes.
func (b *builder) object(members []member, schema *sdk.Schema, rng hcl.Range, path []string) emitter {
	names := make([]string, 0, len(schema.Attributes))
	for i := range schema.Attributes {
		names = append(names, schema.Attributes[i].Name)
	}
	given := map[string]emitter{}
	tried := map[string]bool{}
	for _, m := range members {
		tried[m.name] = true
		sub := schema.Attribute(m.name)
		if sub == nil {
			b.fail(m.rng, "Unsupported argument", "An argument named %q is not expected here.%s", m.name,
				didYouMean(m.name, names))
			if m.attr != nil { // what it is set to has mistakes of its own
				out, known, diags := b.set.rewrite(m.attr.Expr, true)
				if b.diags = append(b.diags, diags...); out != nil {
					b.args = append(b.args, arg{m.name, out, anyValue, known})
				}
			}
			continue
		}
		if em, ok := b.member(m, sub, append(slices.Clip(path), m.name)); ok {
			if before, twice := given[m.name]; twice {
				em = after(before, em)
			}
			given[m.name] = em
		}
	}
	type field struct {
		key    []byte // `,"name":`
		em     emitter
		given  bool
		schema *sdk.Schema
		path   []string
	}
	fields := make([]field, 0, len(schema.Attributes))
	for i := range schema.Attributes {
		a := &schema.Attributes[i]
		em, ok := given[a.Name]
		switch {
		case ok:
		case tried[a.Name]:
			continue // reported
		case !a.Schema.Optional:
			b.fail(rng, "Missing required argument", "The argument %q is required, but it is not set here.",
				strings.Join(append(slices.Clip(path), a.Name), "."))
			continue
		case a.Schema.Default == nil:
			continue
		}
		fields = append(fields, field{
			key: appendKey(nil, a.Name), em: em, given: ok, schema: &a.Schema, path: append(slices.Clip(path), a.Name),
		})
	}
	emit := func(dst []byte, r *Record) ([]byte, emitted, *Error) {
		dst = append(dst, '{')
		open := len(dst)
		for i := range fields {
			f := &fields[i]
			start := len(dst)
			dst = appendComma(dst, open)
			dst = append(dst, f.key...)
			got := nothing
			if f.given {
				var err *Error
				if dst, got, err = f.em.emit(dst, r); err != nil {
					return dst, wrote, err
				}
			}
			switch {
			case got == wrote:
			case got == isNull && f.schema.Nullable, got == nothing && !f.schema.Optional && f.schema.Nullable:
				dst = append(dst, "null"...)
			case !f.schema.Optional:
				return dst, wrote, missing(&f.em, f.path)
			case f.schema.Default != nil:
				dst = append(dst, f.schema.Default...)
			default:
				dst = dst[:start]
			}
		}
		return append(dst, '}'), wrote, nil
	}
	return emitter{emit: emit, rng: rng}
}

// after makes an emitter of the last of two equal keys, which wins. The first is evaluated all the same: it may fail.
func after(first, last emitter) emitter {
	out := last
	out.emit = func(dst []byte, r *Record) ([]byte, emitted, *Error) {
		start := len(dst)
		dst, _, err := first.emit(dst, r)
		if err != nil {
			return dst, wrote, err
		}
		return last.emit(dst[:start], r)
	}
	return out
}

// missing is the error of a null where a value is required.
func missing(em *emitter, path []string) *Error {
	e := errorAt(em.rng, "Missing value", "The attribute needs a value, but the result of this expression is null.")
	if em.ref != nil {
		e.Detail = fmt.Sprintf("The attribute needs a value, but %s is null or absent here.", em.ref.text)
	}
	e.Path = path
	return e
}

func appendKey[T string | []byte](dst []byte, name T) []byte {
	return append(appendQuoted(dst, name), ':')
}

func appendComma(dst []byte, open int) []byte {
	if len(dst) > open {
		return append(dst, ',')
	}
	return dst
}

// build compiles a rewritten expression for a schema.
func (b *builder) build(e hclsyntax.Expression, schema *sdk.Schema, path []string) (emitter, bool) {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return b.build(e.Expression, schema, path)
	case *hclsyntax.LiteralValueExpr:
		return b.literal(e, schema, path)
	case *refNode:
		return b.reference(e, schema, path), true
	case *objectNode:
		switch schema.Kind {
		case sdk.KindObject:
			if members, ok := staticMembers(e); ok {
				before := len(b.diags)
				em := b.object(members, schema, e.Range(), path)
				return em, len(b.diags) == before
			}
		case sdk.KindMap:
			return b.items(e, schema.Element, path)
		case sdk.KindAny:
			return b.items(e, schema, path)
		}
	case *hclsyntax.TupleConsExpr:
		switch schema.Kind {
		case sdk.KindList:
			return b.elements(e, schema.Element, path)
		case sdk.KindAny:
			return b.elements(e, schema, path)
		}
	case *hclsyntax.FunctionCallExpr:
		if e.Name == "raw" && len(e.Args) == 1 && !e.ExpandFinal && schema.Escape != sdk.EscapeNone {
			plain := *schema
			plain.Escape = sdk.EscapeNone
			return b.build(e.Args[0], &plain, path)
		}
	}
	return b.computed(e, schema, path), true
}

// literal compiles a constant: its JSON is made once, and what is wrong with it is known now.
func (b *builder) literal(e *hclsyntax.LiteralValueExpr, schema *sdk.Schema, path []string) (emitter, bool) {
	if e.Val.IsNull() {
		if !schema.Optional && !schema.Nullable && schema.Kind != sdk.KindAny {
			b.fail(e.Range(), "Missing value", "The attribute %q needs %s, but this is null.", strings.Join(path, "."),
				wants(schema))
			return emitter{}, false
		}
		return emitter{rng: e.Range(), emit: func(dst []byte, _ *Record) ([]byte, emitted, *Error) {
			return dst, isNull, nil
		}}, true
	}
	js, bad := appendCty(nil, e.Val, schema, false)
	if bad != nil {
		b.fail(e.Range(), "Wrong value", "The attribute %q %s.", strings.Join(append(slices.Clip(path), bad.path...), "."),
			bad.text)
		return emitter{}, false
	}
	return emitter{rng: e.Range(), emit: func(dst []byte, _ *Record) ([]byte, emitted, *Error) {
		return append(dst, js...), wrote, nil
	}}, true
}

// staticMembers are the members of a constructor all of whose keys are constant.
func staticMembers(e *objectNode) ([]member, bool) {
	members := make([]member, 0, len(e.Items))
	for _, item := range e.Items {
		name, ok := staticKey(item.KeyExpr)
		if !ok {
			return nil, false
		}
		members = append(members, member{name: name, rng: item.KeyExpr.Range(), expr: item.ValueExpr})
	}
	return members, true
}

func staticKey(e hclsyntax.Expression) (string, bool) {
	k, ok := e.(*hclsyntax.ObjectConsKeyExpr)
	if ok && !k.ForceNonLiteral {
		name := hcl.ExprAsKeyword(k.Wrapped)
		return name, name != ""
	}
	if ok {
		e = k.Wrapped
	}
	if lit, ok := e.(*hclsyntax.LiteralValueExpr); ok && !lit.Val.IsNull() {
		if s, err := convert.Convert(lit.Val, cty.String); err == nil {
			return s.AsString(), true
		}
	}
	return "", false
}

// items compiles an object constructor whose members all have one schema.
func (b *builder) items(e *objectNode, schema *sdk.Schema, path []string) (emitter, bool) {
	type item struct {
		key    []byte    // `"name":` if it is constant
		keyFn  valueFunc // or computed
		keyHCL hclsyntax.Expression
		em     emitter
		path   []string
	}
	var items []item
	allOK, dynamic := true, false // dynamic: keys are computed, or equal
	for _, it := range e.Items {
		name, static := staticKey(it.KeyExpr)
		here := path
		if static {
			here = append(slices.Clip(path), name)
		}
		em, ok := b.build(it.ValueExpr, schema, here)
		if !ok {
			allOK = false
			continue
		}
		x := item{em: em, path: here}
		if static {
			x.key = appendKey(nil, cty.NormalizeString(name))
			dynamic = dynamic || slices.ContainsFunc(items, func(o item) bool { return string(o.key) == string(x.key) })
		} else {
			dynamic = true
			x.keyFn, x.keyHCL = b.set.compile(it.KeyExpr).fn, it.KeyExpr
		}
		items = append(items, x)
	}
	emit := func(dst []byte, r *Record) ([]byte, emitted, *Error) {
		var keys [][]byte
		if dynamic {
			keys = make([][]byte, len(items))
			for i := range items {
				x := &items[i]
				if keys[i] = x.key; x.key != nil {
					continue
				}
				text, err := r.keyText(x.keyFn, x.keyHCL)
				if err != nil {
					err.Path = x.path
					return dst, wrote, err
				}
				keys[i] = appendKey(nil, text)
			}
		}
		dst = append(dst, '{')
		open := len(dst)
		for i := range items {
			x := &items[i]
			key, replaced := x.key, false
			if dynamic {
				key = keys[i]
				replaced = slices.ContainsFunc(keys[i+1:], func(later []byte) bool { return string(later) == string(key) })
			}
			start := len(dst)
			dst = appendComma(dst, open)
			dst = append(dst, key...)
			var got emitted
			var err *Error
			if dst, got, err = x.em.emit(dst, r); err != nil {
				return dst, wrote, err
			}
			switch {
			case got == nothing, replaced: // of equal keys the last wins, but each may fail
				dst = dst[:start]
			case got == wrote:
			case schema.Nullable || schema.Kind == sdk.KindAny:
				dst = append(dst, "null"...)
			default:
				return dst, wrote, missing(&x.em, x.path)
			}
		}
		return append(dst, '}'), wrote, nil
	}
	return emitter{emit: emit, rng: e.Range()}, allOK
}

// keyText evaluates the key of an object constructor.
func (r *Record) keyText(fast valueFunc, e hclsyntax.Expression) ([]byte, *Error) {
	if fast != nil {
		if v, ok := r.runValue(fast); ok && v.kind != kindNull && v.kind <= kindString {
			return v.appendText(nil), nil
		}
	}
	v, err := r.hclValue(e)
	if err != nil {
		return nil, err
	}
	if v.IsNull() {
		return nil, errorAt(e.Range(), "Null value as key", "A member's name cannot be null.")
	}
	s, cerr := convert.Convert(v, cty.String)
	if cerr != nil {
		return nil, errorAt(e.Range(), "Incorrect key type", "A member's name cannot be %s.",
			article(v.Type().FriendlyName()))
	}
	return []byte(s.AsString()), nil
}

// elements compiles a tuple constructor whose elements all have one schema.
func (b *builder) elements(e *hclsyntax.TupleConsExpr, schema *sdk.Schema, path []string) (emitter, bool) {
	ems := make([]emitter, 0, len(e.Exprs))
	allOK := true
	paths := make([][]string, len(e.Exprs))
	for i, el := range e.Exprs {
		paths[i] = append(slices.Clip(path), fmt.Sprint(i))
		em, ok := b.build(el, schema, paths[i])
		allOK = allOK && ok
		ems = append(ems, em)
	}
	emit := func(dst []byte, r *Record) ([]byte, emitted, *Error) {
		dst = append(dst, '[')
		open := len(dst)
		for i := range ems {
			dst = appendComma(dst, open)
			var got emitted
			var err *Error
			if dst, got, err = ems[i].emit(dst, r); err != nil {
				return dst, wrote, err
			}
			switch {
			case got == wrote:
			case schema.Nullable || schema.Kind == sdk.KindAny:
				dst = append(dst, "null"...)
			default:
				return dst, wrote, missing(&ems[i], paths[i])
			}
		}
		return append(dst, ']'), wrote, nil
	}
	return emitter{emit: emit, rng: e.Range()}, allOK
}

// reference compiles a bare reference: the payload's token passes as it is, if the schema can take it.
func (b *builder) reference(e *refNode, schema *sdk.Schema, path []string) emitter {
	ref, rng := e.ref, e.Range()
	emit := func(dst []byte, r *Record) ([]byte, emitted, *Error) {
		tok, st, at := r.refToken(ref)
		switch {
		case st == mismatch:
			err := evalError(r.mismatch(ref, tok, st, at), rng)
			err.Path = path
			return dst, wrote, err
		case st == absent:
			return dst, nothing, nil
		case tok[0] == 'n':
			return dst, isNull, nil
		}
		out, bad := appendToken(dst, tok, schema)
		if bad != nil {
			return dst, wrote, bad.at(rng, path)
		}
		return out, wrote, nil
	}
	return emitter{emit: emit, rng: rng, ref: ref}
}

// refToken is the JSON token of a reference.
func (r *Record) refToken(ref *reference) (tok []byte, st state, at int) {
	switch ref.kind {
	case refData, refChangeVal:
		return ref.view(r).token(ref.path)
	case refChange:
		tok, st, at = r.chg.token(ref.path)
		if st != present || tok[0] != '{' {
			return tok, st, at
		}
		return r.scratch(appendChange(r.arena, tok)), present, 0
	case refChanges:
		if r.chg.raw[0] != '{' {
			return nil, absent, 0
		}
		return r.scratch(appendChanges(r.arena, r.chg.raw)), present, 0
	case refHasOld, refHasNew:
		if _, st, at = r.chg.token(ref.path[:1]); st != present {
			return nil, st, at
		}
		if _, st, _ = r.chg.token(ref.path); st == present {
			return []byte("true"), present, 0
		}
		return []byte("false"), present, 0
	case refHeaders:
		return r.scratch(r.appendHeaders(r.arena)), present, 0
	case refRequest:
		dst := append(r.arena, `{"received_at":`...)
		dst = appendQuoted(dst, r.receivedAt())
		if r.req.Source != "" {
			dst = appendQuoted(append(dst, `,"source":`...), r.req.Source)
		}
		return r.scratch(append(r.appendHeaders(append(dst, `,"headers":`...)), '}')), present, 0
	case refEvent:
		dst := append(r.arena, '{')
		for i, name := range envelopeNames {
			if text := r.envelope(envelopeField(i)); text != "" {
				dst = append(appendQuoted(appendKey(dst, name), text), ',')
			}
		}
		dst = append(append(dst, `"data":`...), r.data.raw...)
		if r.chg.raw[0] == '{' {
			dst = appendChanges(append(dst, `,"changes":`...), r.chg.raw)
		}
		return r.scratch(append(dst, '}')), present, 0
	case refReceived:
		return r.scratch(appendQuoted(r.arena, r.receivedAt())), present, 0
	}
	text := ""
	switch ref.kind {
	case refEnvelope:
		text = r.envelope(ref.field)
	case refSource:
		text = r.req.Source
	case refHeader:
		var ok bool
		if text, ok = r.header(ref.header); ok && text == "" {
			return []byte(`""`), present, 0
		}
	}
	if text == "" {
		return nil, absent, 0
	}
	return r.scratch(appendQuoted(r.arena, text)), present, 0
}

// scratch keeps an appended arena and returns what was appended.
func (r *Record) scratch(appended []byte) []byte {
	start := len(r.arena)
	r.arena = appended
	return appended[start:]
}

func (r *Record) appendHeaders(dst []byte) []byte {
	dst = append(dst, '{')
	open := len(dst)
	for i, h := range r.req.Headers {
		if slices.ContainsFunc(r.req.Headers[:i], func(o sdk.Header) bool { return o.Name == h.Name }) {
			continue
		}
		dst = appendComma(dst, open)
		dst = appendQuoted(appendKey(dst, h.Name), strings.ToValidUTF8(h.Value, "\ufffd"))
	}
	return append(dst, '}')
}

func appendChanges(dst, tok []byte) []byte {
	dst = append(dst, '{')
	open := len(dst)
	for m := jsonscan.Open(tok); m.Next(); {
		dst = appendComma(dst, open)
		dst = append(append(dst, m.Key...), ':')
		dst = appendChange(dst, m.Value)
	}
	return append(dst, '}')
}

// appendChange appends a change with has_old and has_new; old and new are left out where they are absent.
func appendChange(dst, tok []byte) []byte {
	dst = append(dst, '{')
	for _, name := range []string{"old", "new"} {
		val, ok := jsonscan.Child(tok, name, false)
		if ok {
			dst = append(append(appendKey(dst, name), val...), ',')
		}
		dst = fmt.Appendf(dst, `"has_%s":%t,`, name, ok)
	}
	dst[len(dst)-1] = '}'
	return dst
}

// computed compiles an expression that makes a value.
func (b *builder) computed(e hclsyntax.Expression, schema *sdk.Schema, path []string) emitter {
	rng := e.Range()
	how, same := uniform(schema)
	if same {
		e = escaped(e, how)
	}
	fast := b.set.compile(e).fn
	var quoted partFunc
	if schema.Kind == sdk.KindAny || schema.Kind == sdk.KindString && len(schema.Enum) == 0 {
		quoted = b.set.quotedTemplate(e)
	}
	emit := func(dst []byte, r *Record) ([]byte, emitted, *Error) {
		if quoted != nil {
			if out, ok := r.runPart(quoted, dst); ok {
				return out, wrote, nil
			}
		}
		if fast != nil {
			if v, ok := r.runValue(fast); ok {
				if v.kind == kindNull {
					return dst, isNull, nil
				}
				if out, ok := appendScalar(dst, &v, schema); ok {
					return out, wrote, nil
				}
			}
		}
		v, err := r.hclValue(e)
		if err != nil {
			err.Path = path
			return dst, wrote, err
		}
		if v.IsNull() {
			return dst, isNull, nil
		}
		out, bad := appendCty(dst, v, schema, !same) // where it differs, texts are escaped as they are written
		if bad != nil {
			return dst, wrote, bad.at(rng, path)
		}
		return out, wrote, nil
	}
	return emitter{emit: emit, rng: rng}
}
