package expr

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/grapnelhq/grapnel/sdk"
)

// known is what holds where an expression is evaluated: the event types that get there, what is known of nulls, and
// the variables of for expressions around.
type known struct {
	live  mask
	facts *fact
	vars  *variable
}

// fact is what is known of a reference; a list, the latest first.
type fact struct {
	key  refKey
	what certainty
	next *fact
}

type certainty uint8

const (
	notNull   certainty = 1 << iota
	isPresent           // it exists, but may be null
	surelyNull
)

// refKey names what references of one spelling or another lead to.
type refKey struct {
	kind refKind
	n    int32  // of a path, its number; of a variable, which of that name
	name string // of a header; of a path from a variable
}

const refVariable = refKind(0xff)

func (v known) has(key refKey) certainty {
	c := certainty(0)
	for f := v.facts; f != nil; f = f.next {
		if f.key == key {
			c |= f.what
		}
	}
	return c
}

func (v known) with(key refKey, what certainty) known {
	if v.has(key)&what != what {
		v.facts = &fact{key, what, v.facts}
	}
	return v
}

// variable is one of a for expression, or the item of a splat.
type variable struct {
	name  string
	item  *hclsyntax.AnonSymbolExpr // or
	label string                    // of the item: what it is an item of
	scope int32
	typed typed
	next  *variable
}

func (v known) variable(name string, item *hclsyntax.AnonSymbolExpr) *variable {
	for x := v.vars; x != nil; x = x.next {
		if x.item == item && x.name == name {
			return x
		}
	}
	return nil
}

func (c *Checker) bind(v known, name string, item *hclsyntax.AnonSymbolExpr, t typed) known {
	c.scopes++
	v.vars = &variable{name: name, item: item, scope: int32(c.scopes), typed: t, next: v.vars}
	return v
}

// eval finds what an expression is, and reports what is wrong in it for the event types that get there.
func (c *Checker) eval(e hclsyntax.Expression, v known) typed {
	if v.live == 0 || !c.spend() {
		return typed{}
	}
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return literal(e.Val)
	case *hclsyntax.ParenthesesExpr:
		return c.eval(e.Expression, v)
	case *refNode:
		return c.reference(e, v)
	case *travNode:
		return c.traversal(e, v)
	case *hclsyntax.AnonSymbolExpr:
		if x := v.variable("", e); x != nil {
			return x.typed
		}
	case *indexNode:
		return c.index(e, v)
	case *presentNode:
		c.lenient++
		c.eval(e.arg, v)
		c.lenient--
		return typed{schema: aBool, null: neverNull}
	case *hclsyntax.FunctionCallExpr:
		return c.call(e, v)
	case *conditionalNode:
		return c.conditional(e.ConditionalExpr, v)
	case *hclsyntax.BinaryOpExpr:
		return c.binary(e, v)
	case *hclsyntax.UnaryOpExpr:
		kind, s := sdk.KindBool, aBool
		if e.Op == hclsyntax.OpNegate {
			kind, s = sdk.KindNumber, aNumber
		}
		c.need(e.Val, c.eval(e.Val, v), kind, nullFails("The operator takes no null."), "the operator", v)
		return typed{schema: s, null: neverNull}
	case *hclsyntax.TemplateWrapExpr:
		return c.eval(e.Wrapped, v)
	case *hclsyntax.TemplateExpr:
		for _, p := range e.Parts {
			c.need(p, c.eval(p, v), sdk.KindString, nullFails("Null inside a template is an error."), "a template", v)
		}
		return typed{schema: aText, null: neverNull}
	case *hclsyntax.TemplateJoinExpr:
		parts := c.eval(e.Tuple, v)
		if el := element(parts.schema); el.null == maybeNull {
			c.mayBeNull(e.Tuple, maybeNull, "", "A part of a template cannot be null.", v)
		}
		return typed{schema: aText, null: neverNull}
	case *hclsyntax.TupleConsExpr:
		return c.tuple(e, v)
	case *objectNode:
		for _, item := range e.Items {
			c.objectKey(item.KeyExpr, v)
			c.eval(item.ValueExpr, v)
		}
		return typed{schema: someMap, null: neverNull}
	case *hclsyntax.ForExpr:
		return c.loop(e, v)
	case *hclsyntax.SplatExpr:
		return c.splat(e, v)
	case *brokenNode:
		c.misplaced(e)
		for _, p := range e.parts {
			c.eval(p, v)
		}
	}
	return typed{}
}

func literal(val cty.Value) typed {
	t := typed{schema: schemaOf(val.Type()), null: neverNull, lit: val}
	if ty := val.Type(); ty.IsTupleType() && !val.IsNull() && !withoutNull(val) {
		t.schema = listOf(typed{null: maybeNull})
	}
	if val.IsNull() {
		t.null = alwaysNull
	}
	return t
}

func literalText(e hclsyntax.Expression) (string, bool) {
	for {
		switch x := e.(type) {
		case *hclsyntax.ParenthesesExpr:
			e = x.Expression
			continue
		case *hclsyntax.LiteralValueExpr:
			if x.Val.IsNull() || x.Val.Type() != cty.String {
				return "", false
			}
			return x.Val.AsString(), true
		}
		return "", false
	}
}

// reference finds what a reference to the event or request leads to.
func (c *Checker) reference(e *refNode, v known) typed {
	t := typed{ref: e}
	ref := e.ref
	switch ref.kind {
	case refEnvelope:
		t.schema = aText
		switch ref.field {
		case fieldID, fieldSource, fieldType, fieldTime, fieldProvider:
			t.null = neverNull
		case fieldTenant, fieldSubject, fieldPartitionKey, fieldOperation: // as the decoder likes
		}
	case refReceived, refSource:
		t.schema, t.null = aText, neverNull
	case refHeader:
		t.schema, t.null = aText, maybeNull
		if v.has(keyOf(e))&(notNull|isPresent) != 0 {
			t.null = neverNull
		}
	case refHeaders, refEvent, refRequest:
		t.schema, t.null = someMap, neverNull
	case refChanges:
		t.schema = someMap
	case refChange:
		c.changedField(e, v)
		t.schema, t.null = someMap, maybeNull
	case refHasOld, refHasNew:
		c.changedField(e, v)
		t.schema, t.null = aBool, maybeNull
		if v.has(refKey{kind: refChange, n: ref.path[0].path})&(notNull|isPresent) != 0 {
			t.null = neverNull
		}
	case refChangeVal:
		c.changedField(e, v)
		t.null = maybeNull
	case refData:
		c.data(e, &t, v)
	}
	if t.null != neverNull {
		t.null = v.has(keyOf(e)).of(t.null)
	}
	return t
}

// of is how a fact changes what a type says.
func (c certainty) of(n nullness) nullness {
	switch {
	case c&notNull != 0:
		return neverNull
	case c&surelyNull != 0:
		return alwaysNull
	}
	return n
}

func keyOf(e *refNode) refKey {
	ref := e.ref
	switch ref.kind {
	case refEnvelope:
		return refKey{kind: refEnvelope, n: int32(ref.field)}
	case refHeader:
		return refKey{kind: refHeader, name: ref.header}
	case refData, refChange, refChangeVal, refHasOld, refHasNew:
		n := int32(0) // the record itself
		if len(ref.path) > 0 {
			n = ref.path[len(ref.path)-1].path
		}
		return refKey{kind: ref.kind, n: n}
	}
	return refKey{kind: ref.kind}
}

// data follows a reference into the record.
func (c *Checker) data(e *refNode, t *typed, v known) {
	if e.ref.raw || c.sh.data == nil {
		c.sight(e, e.ref.text, c.sh.open || e.ref.raw, walk{stop: -1, doubts: []doubt{untypedStep}}, hops(e.ref.path), v)
		return
	}
	last := int32(0)
	if len(e.ref.path) > 0 {
		last = e.ref.path[len(e.ref.path)-1].path
	}
	w, ok := c.sh.paths[last]
	if !ok {
		w = follow(c.sh.data, hops(e.ref.path))
		if c.sh.paths == nil {
			c.sh.paths = map[int32]walk{}
		}
		c.sh.paths[last] = w
	}
	c.sight(e, e.ref.text, false, w, nil, v)
	if w.stop >= 0 {
		return
	}
	t.schema, t.null = w.schema, neverNull
	root := elementFlag(c.sh.data) // nullable or not, as an element is
	if n := root.null(); n != neverNull && v.has(refKey{kind: refData})&notNull == 0 {
		t.null = n
	}
	for i, f := range w.doubts {
		n := f.null()
		if n == neverNull || t.null == maybeNull {
			continue
		}
		if has := v.has(refKey{kind: refData, n: e.ref.path[i].path}); has&notNull != 0 ||
			has&isPresent != 0 && f&mayNull == 0 {
			continue
		}
		if n == maybeNull || t.null == neverNull {
			t.null = n
		}
	}
}

func hops(path []step) []hop {
	out := make([]hop, len(path))
	for i, s := range path {
		out[i] = hop{s.name, s.index}
	}
	return out
}

func hopsOf(steps hcl.Traversal) (path []hop, ok bool) {
	path = make([]hop, 0, len(steps))
	for _, s := range steps {
		name, index, diags := stepName(s)
		if diags.HasErrors() {
			return nil, false
		}
		path = append(path, hop{name, index})
	}
	return path, true
}

// traversal follows a traversal of a variable, or of what is computed.
func (c *Checker) traversal(e *travNode, v known) typed {
	var from typed
	text, key := "", refKey{kind: refVariable}
	if e.source == nil {
		x := v.variable(e.name, nil)
		if x == nil {
			return typed{}
		}
		from, text, key.n = x.typed, e.name, x.scope
	} else {
		from = c.eval(e.source, v)
		if item, ok := e.source.(*hclsyntax.AnonSymbolExpr); ok {
			if x := v.variable("", item); x != nil {
				text, key.n = x.label+"[*]", x.scope
			}
		} else {
			text = "this"
		}
	}
	path, ok := hopsOf(e.steps)
	if !ok {
		return typed{}
	}
	t := typed{null: from.null}
	if e.bare() {
		t.ref = e
		if v.has(key)&notNull != 0 {
			t.null = neverNull
		}
	}
	w := follow(from.schema, path)
	if isAny(from.schema) {
		w = walk{stop: -1, doubts: []doubt{untypedStep}}
	}
	c.sight(e, text+traversalText(e.steps), isAny(from.schema), w, path, v)
	if w.stop >= 0 {
		return typed{ref: t.ref}
	}
	t.schema = w.schema
	for i, f := range w.doubts {
		n := f.null()
		if n == neverNull || t.null == maybeNull {
			continue
		}
		if i < len(path) && e.bare() {
			key.name = pathName(path[:i+1])
			if has := v.has(key); has&notNull != 0 || has&isPresent != 0 && f&mayNull == 0 {
				continue
			}
		}
		if n == maybeNull || t.null == neverNull {
			t.null = n
		}
	}
	if e.bare() && t.null != neverNull {
		key.name = pathName(path)
		t.null = v.has(key).of(t.null)
	}
	return t
}

func pathName(path []hop) string {
	var b strings.Builder
	for _, h := range path {
		b.WriteByte('.')
		b.WriteString(h.name)
	}
	return b.String()
}

func (c *Checker) index(e *indexNode, v known) typed {
	coll, key := c.eval(e.coll, v), c.eval(e.key, v)
	if c.mayFailOfNull(e.key, key) {
		c.mayBeNull(e.key, key.null, refText(key.ref), "An index cannot be null.", v)
	}
	if isAny(coll.schema) {
		return typed{}
	}
	if class(coll.schema) != "list" && class(coll.schema) != "object" {
		c.fail(e.coll.Range(), "This has no elements", fmt.Sprintf("It is %s.", noun(coll.schema)), v)
		return typed{}
	}
	if coll.schema.Kind == sdk.KindObject {
		return typed{}
	}
	t := element(coll.schema)
	if !isAny(t.schema) {
		t.null = maybeNull // out of range, or no such key
	}
	return t
}

func (c *Checker) conditional(e *hclsyntax.ConditionalExpr, v known) typed {
	c.need(e.Condition, c.eval(e.Condition, v), sdk.KindBool, nullFails("A condition cannot be null."), "a condition", v)
	yes, no := c.assume(e.Condition, true, v), c.assume(e.Condition, false, v)
	a, b := c.eval(e.TrueResult, yes), c.eval(e.FalseResult, no)
	switch {
	case yes.live == 0 && no.live == 0:
		return typed{}
	case yes.live == 0:
		return b
	case no.live == 0:
		return a
	}
	simple := func(class string) bool { return class == "text" || class == "number" || class == "bool" }
	if ca, cb := class(a.schema), class(b.schema); ca != "" && cb != "" && simple(ca) != simple(cb) &&
		a.null != alwaysNull && b.null != alwaysNull {
		c.fail(hcl.RangeBetween(e.TrueResult.Range(), e.FalseResult.Range()), "The two results have different types",
			fmt.Sprintf("One is %s, the other %s: a conditional gives the same either way.", noun(a.schema), noun(b.schema)), v)
		return typed{}
	}
	out := either(a, b)
	if ca, cb := class(a.schema), class(b.schema); simple(ca) && simple(cb) && ca != cb {
		out.schema = aText // hcl makes both one
	}
	return out
}

// operands lists the operands of && or || in their order.
func operands(e *hclsyntax.BinaryOpExpr) []hclsyntax.Expression {
	var back []hclsyntax.Expression
	var at hclsyntax.Expression = e
	for {
		op, ok := at.(*hclsyntax.BinaryOpExpr)
		if !ok || op.Op != e.Op {
			break
		}
		back = append(back, op.RHS)
		at = op.LHS
	}
	back = append(back, at)
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return back
}

func (c *Checker) binary(e *hclsyntax.BinaryOpExpr, v known) typed {
	switch e.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		for _, x := range operands(e) {
			c.need(x, c.eval(x, v), sdk.KindBool, nullFails("The operator takes no null."), "the operator", v)
			v = c.assume(x, e.Op == hclsyntax.OpLogicalAnd, v)
		}
		return typed{schema: aBool, null: neverNull}
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		c.compare(e, c.eval(e.LHS, v), c.eval(e.RHS, v), v)
		return typed{schema: aBool, null: neverNull}
	}
	out := aNumber
	if e.Op.Type == cty.Bool {
		out = aBool
	}
	for _, x := range []hclsyntax.Expression{e.LHS, e.RHS} {
		c.need(x, c.eval(x, v), sdk.KindNumber, nullFails("The operator takes no null."), "the operator", v)
	}
	return typed{schema: out, null: neverNull}
}

func (c *Checker) tuple(e *hclsyntax.TupleConsExpr, v known) typed {
	if len(e.Exprs) == 0 {
		return typed{schema: noList, null: neverNull}
	}
	var all typed
	for i, x := range e.Exprs {
		if t := c.eval(x, v); i == 0 {
			all = t
		} else {
			all = either(all, t)
		}
	}
	return typed{schema: listOf(all), null: neverNull}
}

// listOf is a list whose elements are like a value.
func listOf(t typed) *sdk.Schema {
	el := sdk.Schema{Kind: sdk.KindAny}
	if t.schema != nil {
		el = *t.schema
	}
	el.Optional, el.Nullable = false, t.null == maybeNull || t.null == alwaysNull
	return &sdk.Schema{Kind: sdk.KindList, Element: &el}
}

// objectKey checks the key of an object constructor.
func (c *Checker) objectKey(e hclsyntax.Expression, v known) {
	if _, ok := staticKey(e); ok {
		return
	}
	if k, ok := e.(*hclsyntax.ObjectConsKeyExpr); ok {
		e = k.Wrapped
	}
	c.need(e, c.eval(e, v), sdk.KindString, nullFails("A member's name cannot be null."), "a member's name", v)
}

func (c *Checker) loop(e *hclsyntax.ForExpr, v known) typed {
	coll := c.eval(e.CollExpr, v)
	if c.mayFailOfNull(e.CollExpr, coll) {
		c.mayBeNull(e.CollExpr, coll.null, refText(coll.ref), "A for expression cannot go through null.", v)
	}
	switch class(coll.schema) {
	case "text", "number", "bool":
		c.fail(e.CollExpr.Range(), "A for expression goes through a list or an object",
			fmt.Sprintf("This is %s.", noun(coll.schema)), v)
	}
	item, key := element(coll.schema), typed{schema: aText, null: neverNull}
	if class(coll.schema) == "list" {
		key.schema = aNumber
	} else if isAny(coll.schema) {
		key.schema = nil
	}
	in := c.bind(v, e.ValVar, nil, item)
	if e.KeyVar != "" {
		in = c.bind(in, e.KeyVar, nil, key)
	}
	if e.CondExpr != nil {
		c.condition2(e.CondExpr, in)
		in = c.assume(e.CondExpr, true, in)
	}
	if e.KeyExpr != nil {
		c.need(e.KeyExpr, c.eval(e.KeyExpr, in), sdk.KindString, nullFails("A key cannot be null."), "a key", in)
	}
	val := c.eval(e.ValExpr, in)
	if e.KeyExpr != nil {
		return typed{schema: someMap, null: neverNull}
	}
	return typed{schema: listOf(val), null: neverNull}
}

func (c *Checker) condition2(e hclsyntax.Expression, v known) {
	c.need(e, c.eval(e, v), sdk.KindBool, nullFails("A condition cannot be null."), "a condition", v)
}

func (c *Checker) splat(e *hclsyntax.SplatExpr, v known) typed {
	from := c.eval(e.Source, v)
	item := typed{schema: from.schema, null: neverNull} // what is no list stands for a list of it
	switch class(from.schema) {
	case "":
		item = typed{}
	case "list":
		item = element(from.schema)
	}
	in := c.bind(v, "", e.Item, item)
	in.vars.label = refText(from.ref)
	return typed{schema: listOf(c.eval(e.Each, in)), null: neverNull}
}

// call finds what a function gives.
func (c *Checker) call(e *hclsyntax.FunctionCallExpr, v known) typed {
	switch e.Name {
	case "try":
		return c.try(e, v)
	case "can":
		c.lenient++
		c.tolerant++
		for _, a := range e.Args {
			c.eval(a, v)
		}
		c.tolerant--
		c.lenient--
		return typed{schema: aBool, null: neverNull}
	case "raw":
		if len(e.Args) == 1 && !e.ExpandFinal {
			return c.eval(e.Args[0], v)
		}
	case "coalesce":
		if !e.ExpandFinal {
			return c.coalesce(e, v)
		}
	}
	args := make([]typed, len(e.Args))
	for i, a := range e.Args {
		args[i] = c.eval(a, v)
	}
	fn, ok := c.set.functions[e.Name]
	if !ok || e.ExpandFinal {
		return typed{}
	}
	params, rest := fn.Params(), fn.VarParam()
	if len(args) < len(params) || len(args) > len(params) && rest == nil {
		return typed{} // hcl says so
	}
	good := true
	vals := make([]cty.Value, len(args))
	for i, t := range args {
		p := rest
		if i < len(params) {
			p = &params[i]
		}
		if !p.AllowNull && c.mayFailOfNull(e.Args[i], t) {
			c.mayBeNull(e.Args[i], t.null, refText(t.ref), e.Name+"() takes no null.", v)
			good = good && t.null != alwaysNull
		}
		vals[i] = unknownOf(t)
		good = c.takes(e, i, t, v) && c.parameter(e, i, t, p, v) && good
		if cv, err := convert.Convert(vals[i], p.Type); err == nil {
			vals[i] = cv
		} else {
			good = false
		}
	}
	if (e.Name == "join" || e.Name == "sort") && len(args) > 0 {
		last := args[len(args)-1]
		if el := element(last.schema); el.null == maybeNull && last.null != alwaysNull {
			c.mayBeNull(e.Args[len(args)-1], maybeNull, "", e.Name+"() takes no list with a null in it.", v)
		}
	}
	if !good {
		return typed{}
	}
	return c.returned(e, fn, vals, v)
}

// takes checks what the type of a parameter does not say: a number converts to a text, but that is no time.
func (c *Checker) takes(e *hclsyntax.FunctionCallExpr, i int, t typed, v known) bool {
	kind := class(t.schema)
	if t.null == alwaysNull || kind == "" || kind == "text" {
		return true
	}
	want := ""
	switch e.Name {
	case "timecmp":
		want = "a date or a time"
	case "date", "timeadd":
		if i == 0 {
			want = "a date or a time"
		}
	case "formatdate":
		if i == 1 {
			want = "a time"
		}
	case "tostring", "tonumber", "tobool":
		if kind == "list" || kind == "object" {
			want = "a text, a number, true or false"
		}
	}
	if want == "" {
		return true
	}
	c.fail(e.Args[i].Range(), "Wrong argument of "+e.Name+"()", is(t)+", and the function takes "+want+"."+c.inSample(t, v), v)
	return false
}

// parameter checks one argument of a function.
func (c *Checker) parameter(e *hclsyntax.FunctionCallExpr, i int, t typed, p *function.Parameter, v known) bool {
	if t.null == alwaysNull || isAny(t.schema) {
		return true
	}
	var kind sdk.Kind
	switch {
	case p.Type == cty.String:
		kind = sdk.KindString
	case p.Type == cty.Number:
		kind = sdk.KindNumber
	case p.Type == cty.Bool:
		kind = sdk.KindBool
	case p.Type.IsListType(), p.Type.IsSetType(), p.Type.IsTupleType():
		kind = sdk.KindList
	case p.Type.IsMapType():
		kind = sdk.KindMap
	default:
		return true
	}
	if convertible(t.schema, kind) == converts {
		return true
	}
	return c.fit(e.Args[i], t, kind, fmt.Sprintf("the parameter %q of %s()", p.Name, e.Name), v)
}

// unknownOf is a value of which no more is known than of an expression.
func unknownOf(t typed) cty.Value {
	if t.lit != cty.NilVal {
		return t.lit
	}
	switch class(t.schema) {
	case "text":
		return cty.UnknownVal(cty.String).RefineNotNull()
	case "number":
		return cty.UnknownVal(cty.Number).RefineNotNull()
	case "bool":
		return cty.UnknownVal(cty.Bool).RefineNotNull()
	}
	return cty.DynamicVal // an event's lists and objects have a type each
}

type returnKey struct {
	name string
	args string
}

type returned struct {
	schema *sdk.Schema
	err    string
	arg    int
}

// returned asks a function what it returns for values of which mostly the type is known.
func (c *Checker) returned(e *hclsyntax.FunctionCallExpr, fn function.Function, vals []cty.Value, v known) typed {
	key := returnKey{name: e.Name}
	for _, val := range vals {
		if val.IsKnown() {
			key.args += val.GoString() + ","
		} else {
			key.args += val.Type().FriendlyName() + ","
		}
	}
	r, ok := c.returns[key]
	if !ok {
		r = returnOf(fn, vals)
		c.returns[key] = r
	}
	if r.err != "" {
		at := e.Range()
		if r.arg >= 0 && r.arg < len(e.Args) {
			at = e.Args[r.arg].Range()
		}
		c.fail(at, "Wrong argument of "+e.Name+"()", sentenceOf(r.err), v)
		return typed{}
	}
	t := typed{schema: r.schema}
	switch e.Name {
	case "lookup", "element": // may give an element that is null
	default:
		if !isAny(r.schema) {
			t.null = neverNull
		}
	}
	return t
}

func returnOf(fn function.Function, vals []cty.Value) (r returned) {
	r.arg = -1
	defer func() {
		if recover() != nil {
			r = returned{arg: -1} // a function of cty that cannot work on unknown values
		}
	}()
	ty, err := fn.ReturnTypeForValues(vals)
	if err == nil {
		r.schema = schemaOf(ty)
		return r
	}
	r.err = withoutPanic(err.Error())
	if a, ok := err.(function.ArgError); ok { //nolint:errorlint // cty returns it as it is
		r.arg = a.Index
	}
	return r
}

// coalesce gives the first of its arguments that is not null.
func (c *Checker) coalesce(e *hclsyntax.FunctionCallExpr, v known) typed {
	var out typed
	certain := maybeNull
	for i, a := range e.Args {
		t := c.eval(a, v)
		switch {
		case t.null == neverNull:
			certain = neverNull
		case t.null == unsure && certain == maybeNull:
			certain = unsure
		}
		if i == 0 {
			out = t
			continue
		}
		if x, y := class(out.schema), class(t.schema); x != y && x != "" && y != "" && t.null != alwaysNull &&
			out.null != alwaysNull {
			if x == "list" || x == "object" || y == "list" || y == "object" {
				c.fail(a.Range(), "The arguments of coalesce() have different types",
					fmt.Sprintf("This is %s, and one before it is %s.", noun(t.schema), noun(out.schema)), v)
				return typed{null: neverNull}
			}
			out = typed{schema: aText, null: either2(out.null, t.null)}
			continue
		}
		out = either(out, t)
	}
	if certain == maybeNull && len(e.Args) > 0 {
		c.mayBeNull(e, maybeNull, "", "coalesce() fails if all its arguments are null.", v)
	}
	return typed{schema: out.schema, null: neverNull}
}

// try gives the first of its arguments that does not fail. A null is no failure.
func (c *Checker) try(e *hclsyntax.FunctionCallExpr, v known) typed {
	var out typed
	c.lenient++
	for i, a := range e.Args {
		last := i == len(e.Args)-1
		before := c.failures
		c.tolerant++
		t := c.eval(a, v)
		c.tolerant--
		if i == 0 {
			out = t
		} else {
			out = either(out, t)
		}
		if last && i > 0 && c.failures > before {
			c.eval(a, v) // nothing is left to try: its failures count
		}
	}
	c.lenient--
	out.ref = nil
	return out
}

func sentenceOf(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// refText is how a reference is written; empty: it is none.
func refText(e hclsyntax.Expression) string {
	switch e := e.(type) {
	case *refNode:
		return e.ref.text
	case *travNode:
		if e.bare() {
			return e.name + traversalText(e.steps)
		}
	}
	return ""
}
