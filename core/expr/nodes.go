package expr

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

// The nodes here replace those of hcl in a rewritten expression, where this language differs from hcl. Each embeds
// the node it replaces, for its range and for the methods that only hcl can write.
//
// A node finds the record in the outermost context. Where there is none, an expression is only checked: what depends
// on the event is then an unknown value.

const recordKey = "(record)" // no identifier, so no expression can name it

var recordType = cty.Capsule("record", reflect.TypeFor[Record]())

func recordOf(ctx *hcl.EvalContext) *Record {
	if ctx == nil {
		return nil
	}
	for p := ctx.Parent(); p != nil; p = ctx.Parent() {
		ctx = p
	}
	v, ok := ctx.Variables[recordKey]
	if !ok {
		return nil
	}
	r, _ := v.EncapsulatedValue().(*Record)
	return r
}

// budgetSpent is the panic that ends an evaluation which does too much. Record.hclValue recovers it.
type budgetSpent struct{}

func (r *Record) spend(n int) {
	if r == nil {
		return
	}
	r.steps -= n
	if r.steps < 0 {
		panic(budgetSpent{})
	}
}

// handle accounts for the bytes of a value.
func (r *Record) handle(n int) {
	r.bytes -= n
	if r.bytes < 0 {
		panic(budgetSpent{})
	}
}

// handleAll accounts for a value that was taken out of another one.
func (r *Record) handleAll(v cty.Value) {
	switch ty := v.Type(); {
	case v.IsNull(), !v.IsKnown():
		r.handle(nodeBytes)
	case ty == cty.String:
		r.handle(nodeBytes + len(v.AsString()))
	case ty.IsTupleType(), ty.IsObjectType(), ty.IsCollectionType():
		r.handle(nodeBytes)
		for it := v.ElementIterator(); it.Next(); {
			_, el := it.Element()
			r.handleAll(el)
		}
	default:
		r.handle(nodeBytes)
	}
}

// spendOnPart is spendOn for what was taken out of another value, whose bytes were not counted as often as it is taken.
func (r *Record) spendOnPart(v cty.Value) {
	if r == nil {
		return
	}
	r.spendOn(v)
	r.handleAll(v)
}

func (r *Record) spendOn(v cty.Value) {
	if r == nil {
		return
	}
	n := 1
	if ty := v.Type(); !v.IsNull() && v.IsKnown() && (ty.IsTupleType() || ty.IsObjectType() || ty.IsCollectionType()) {
		n += v.LengthInt()
	}
	r.spend(n)
}

// refNode is a reference to the event or request.
type refNode struct {
	hclsyntax.Expression
	ref       *reference
	traversal hcl.Traversal
}

func (n *refNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	r := recordOf(ctx)
	if r == nil {
		return n.ref.unknown(), nil
	}
	v, _, diags := r.ctyValue(n.ref)
	if diags.HasErrors() {
		return cty.DynamicVal, diags // as hcl: unknown, so that a deciding other side of && or || still decides
	}
	r.spendOn(v)
	r.handle(n.ref.size(r))
	return v, diags
}

// size is how many bytes of JSON a reference leads to.
func (ref *reference) size(r *Record) int {
	switch ref.kind {
	case refData, refChangeVal:
		tok, st, _ := ref.view(r).token(ref.path)
		if st != present {
			return 0
		}
		return len(tok)
	case refChange, refChanges:
		return len(r.chg.raw)
	case refEvent:
		return len(r.data.raw) + len(r.chg.raw)
	}
	return nodeBytes // the rest is small, as the host bounds it
}

// unknown is the value of a reference of which only the type is known.
func (ref *reference) unknown() cty.Value {
	switch ref.kind {
	case refEnvelope, refReceived, refSource, refHeader:
		return cty.UnknownVal(cty.String)
	case refHeaders:
		return cty.UnknownVal(cty.Map(cty.String))
	case refHasOld, refHasNew:
		return cty.UnknownVal(cty.Bool)
	}
	return cty.DynamicVal
}

// ctyValue builds the value of a reference; found is false if it is absent.
func (r *Record) ctyValue(ref *reference) (v cty.Value, found bool, diags hcl.Diagnostics) {
	switch ref.kind {
	case refEnvelope:
		v = textOrNull(r.envelope(ref.field))
		return v, !v.IsNull(), nil
	case refData, refChangeVal:
		return r.pathValue(ref, ref.view(r), ref.path)
	case refHasOld, refHasNew:
		_, st, at := r.chg.token(ref.path[:1])
		if st != present {
			return nullValue, false, r.mismatch(ref, r.chg.raw, st, at)
		}
		_, st, _ = r.chg.token(ref.path)
		return cty.BoolVal(st == present), true, nil
	case refChange:
		tok, st, at := r.chg.token(ref.path)
		if st != present || string(tok) == "null" {
			return nullValue, false, r.mismatch(ref, tok, st, at)
		}
		v, diags = r.changeValue(ref, tok)
		return v, true, diags
	case refChanges:
		tok, _, _ := r.chg.token(nil)
		v, diags = r.changesValue(ref, tok)
		return v, !v.IsNull(), diags
	case refReceived:
		return cty.StringVal(r.receivedAt()), true, nil
	case refSource:
		v = textOrNull(r.req.Source)
		return v, !v.IsNull(), nil
	case refHeaders:
		return r.headersValue(), true, nil
	case refHeader:
		text, ok := r.header(ref.header)
		if !ok {
			return nullValue, false, nil
		}
		return cty.StringVal(text), true, nil
	case refEvent:
		attrs := map[string]cty.Value{}
		for i, name := range envelopeNames {
			attrs[name] = textOrNull(r.envelope(envelopeField(i)))
		}
		if attrs["data"], _, diags = r.pathValue(ref, &r.data, nil); diags.HasErrors() {
			return cty.DynamicVal, true, diags
		}
		tok, _, _ := r.chg.token(nil)
		attrs["changes"], diags = r.changesValue(ref, tok)
		return cty.ObjectVal(attrs), true, diags
	case refRequest:
		return cty.ObjectVal(map[string]cty.Value{
			"received_at": cty.StringVal(r.receivedAt()),
			"source":      textOrNull(r.req.Source),
			"headers":     r.headersValue(),
		}), true, nil
	}
	return nullValue, false, nil
}

var nullValue = cty.NullVal(cty.DynamicPseudoType)

func textOrNull(s string) cty.Value {
	if s == "" {
		return nullValue
	}
	return cty.StringVal(s)
}

func (r *Record) headersValue() cty.Value {
	m := map[string]cty.Value{}
	for _, h := range r.req.Headers {
		if _, dup := m[h.Name]; !dup {
			m[h.Name] = cty.StringVal(strings.ToValidUTF8(h.Value, "\ufffd"))
		}
	}
	if len(m) == 0 {
		return cty.MapValEmpty(cty.String)
	}
	return cty.MapVal(m)
}

func (r *Record) pathValue(ref *reference, v *view, path []step) (cty.Value, bool, hcl.Diagnostics) {
	tok, st, at := v.token(path)
	if st != present {
		return nullValue, false, r.mismatch(ref, tok, st, at)
	}
	n := int32(0)
	if len(path) > 0 {
		n = path[len(path)-1].path
	}
	if len(v.values) != len(v.spans) {
		v.values = make([]cty.Value, len(v.spans))
	}
	if v.values[n] == cty.NilVal {
		val, diags := buildValue(ref, tok)
		if diags.HasErrors() {
			return cty.DynamicVal, true, diags
		}
		v.values[n], v.made = val, true
	}
	return v.values[n], true, nil
}

// mismatch is what hcl would say about a step into something that has no members.
func (r *Record) mismatch(ref *reference, tok []byte, st state, at int) hcl.Diagnostics {
	if st != mismatch {
		return nil
	}
	return hcl.Diagnostics{{
		Severity: hcl.DiagError,
		Summary:  "Unsupported attribute",
		Detail: fmt.Sprintf("%s cannot be followed here: on its way, before step %s, is %s.",
			ref.text, ref.path[at].name, kindOf(tok)),
		Subject: &ref.rng,
	}}
}

// kindOf names what a JSON token is.
func kindOf(tok []byte) string {
	if len(tok) == 0 {
		return "nothing"
	}
	switch tok[0] {
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

func (r *Record) changesValue(ref *reference, tok []byte) (cty.Value, hcl.Diagnostics) {
	if len(tok) == 0 || tok[0] != '{' {
		return nullValue, nil
	}
	attrs := map[string]cty.Value{}
	for m := jsonscan.Open(tok); m.Next(); {
		name, _ := jsonscan.Unquote(m.Key)
		v, diags := r.changeValue(ref, m.Value)
		if diags.HasErrors() {
			return cty.DynamicVal, diags
		}
		attrs[name] = v
	}
	return cty.ObjectVal(attrs), nil
}

func (r *Record) changeValue(ref *reference, tok []byte) (cty.Value, hcl.Diagnostics) {
	attrs := map[string]cty.Value{"old": nullValue, "new": nullValue}
	for _, name := range []string{"old", "new"} {
		val, ok := jsonscan.Child(tok, name, false)
		attrs["has_"+name] = cty.BoolVal(ok)
		if !ok {
			continue
		}
		v, diags := buildValue(ref, val)
		if diags.HasErrors() {
			return cty.DynamicVal, diags
		}
		attrs[name] = v
	}
	return cty.ObjectVal(attrs), nil
}

// buildValue makes a cty value of a JSON token, as hcl's jsondecode would.
func buildValue(ref *reference, tok []byte) (cty.Value, hcl.Diagnostics) {
	nodes := maxNodes
	v, ok := valueOf(tok, jsonscan.DefaultLimits().MaxDepth, &nodes)
	if !ok {
		return cty.DynamicVal, hcl.Diagnostics{{
			Severity: hcl.DiagError,
			Summary:  "Value too large to compute with",
			Detail: fmt.Sprintf("%s has more than %d values in it, or is nested too deeply. Refer to a part of it; "+
				"a bare reference to the whole passes.", ref.text, maxNodes),
			Subject: &ref.rng,
		}}
	}
	return v, nil
}

func valueOf(tok []byte, depth int, nodes *int) (cty.Value, bool) {
	*nodes--
	if *nodes < 0 || depth < 0 || len(tok) == 0 {
		return cty.DynamicVal, false
	}
	switch tok[0] {
	case 'n':
		return nullValue, true
	case 't':
		return cty.True, true
	case 'f':
		return cty.False, true
	case '"':
		text, ok := jsonscan.Unquote(tok)
		return cty.StringVal(text), ok
	case '[':
		vals := []cty.Value{}
		for m := jsonscan.Open(tok); m.Next(); {
			v, ok := valueOf(m.Value, depth-1, nodes)
			if !ok {
				return cty.DynamicVal, false
			}
			vals = append(vals, v)
		}
		return cty.TupleVal(vals), true
	case '{':
		attrs := map[string]cty.Value{}
		for m := jsonscan.Open(tok); m.Next(); {
			name, _ := jsonscan.Unquote(m.Key)
			v, ok := valueOf(m.Value, depth-1, nodes)
			if !ok {
				return cty.DynamicVal, false
			}
			attrs[cty.NormalizeString(name)] = v
		}
		return cty.ObjectVal(attrs), true
	}
	v, err := cty.ParseNumberVal(string(tok))
	return v, err == nil
}

// travNode is a traversal of anything but event, request and constants: a variable of a for expression, or the result
// of another expression.
type travNode struct {
	hclsyntax.Expression
	name   string               // the variable, if source is nil
	source hclsyntax.Expression // or what is traversed
	steps  hcl.Traversal        // relative
}

// bare reports whether the node is a reference and computes nothing.
func (n *travNode) bare() bool { return n.source == nil }

func (n *travNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, _, diags := n.find(ctx)
	return v, diags
}

func (n *travNode) find(ctx *hcl.EvalContext) (v cty.Value, found bool, diags hcl.Diagnostics) {
	if n.source == nil {
		v, diags = hcl.Traversal{hcl.TraverseRoot{Name: n.name, SrcRange: n.Range()}}.TraverseAbs(ctx)
	} else {
		v, diags = n.source.Value(ctx)
	}
	if diags.HasErrors() {
		return cty.DynamicVal, true, diags
	}
	found = true
	for _, t := range n.steps {
		var more hcl.Diagnostics
		switch t := t.(type) {
		case hcl.TraverseAttr:
			v, found, more = lenientAttr(v, t.Name, t.SrcRange)
		case hcl.TraverseIndex:
			v, found, more = lenientIndex(v, t.Key, t.SrcRange)
		default:
			v, more = t.TraversalStep(v)
		}
		diags = append(diags, more...)
		if diags.HasErrors() {
			return cty.DynamicVal, true, diags
		}
	}
	recordOf(ctx).spendOnPart(v)
	return v, found, diags
}

// lenientAttr is hcl.GetAttr with null for what is absent, and for the members of null.
func lenientAttr(v cty.Value, name string, rng hcl.Range) (cty.Value, bool, hcl.Diagnostics) {
	if v.IsNull() {
		return nullValue, false, nil
	}
	if !v.IsKnown() && v.Type() == cty.DynamicPseudoType {
		return cty.DynamicVal, true, nil
	}
	switch ty := v.Type(); {
	case ty.IsObjectType() && !ty.HasAttribute(name):
		return nullValue, false, nil
	case ty.IsMapType() && v.IsKnown() && v.HasIndex(cty.StringVal(name)).False():
		return cty.NullVal(ty.ElementType()), false, nil
	}
	out, diags := hcl.GetAttr(v, name, &rng)
	return out, true, diags
}

// lenientIndex is hcl.Index with null for what is absent, and for the members of null.
func lenientIndex(v, key cty.Value, rng hcl.Range) (cty.Value, bool, hcl.Diagnostics) {
	if v.IsNull() {
		return nullValue, false, nil
	}
	if !v.IsKnown() && v.Type() == cty.DynamicPseudoType {
		return cty.DynamicVal, true, nil
	}
	if key.IsNull() || !key.IsKnown() || !v.IsKnown() {
		out, diags := hcl.Index(v, key, &rng)
		return out, true, diags
	}
	switch ty := v.Type(); {
	case ty.IsObjectType(), ty.IsMapType():
		name, err := convert.Convert(key, cty.String)
		if err != nil {
			break
		}
		if ty.IsObjectType() && !ty.HasAttribute(name.AsString()) {
			return nullValue, false, nil
		}
		if ty.IsMapType() && v.HasIndex(name).False() {
			return cty.NullVal(ty.ElementType()), false, nil
		}
	case ty.IsTupleType(), ty.IsListType():
		n, err := convert.Convert(key, cty.Number)
		if err != nil {
			break
		}
		if f := n.AsBigFloat(); f.IsInt() && f.Sign() >= 0 && v.HasIndex(n).False() {
			return nullValue, false, nil
		}
	}
	out, diags := hcl.Index(v, key, &rng)
	return out, true, diags
}

// indexNode is an index whose key is computed.
type indexNode struct {
	hclsyntax.Expression
	coll, key hclsyntax.Expression
	rng       hcl.Range
}

func (n *indexNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	coll, diags := n.coll.Value(ctx)
	key, more := n.key.Value(ctx)
	diags = append(diags, more...)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	v, _, more := lenientIndex(coll, key, n.rng)
	recordOf(ctx).spendOnPart(v)
	return v, append(diags, more...)
}

// objectNode is an object constructor: members that are bare references to absent fields are left out.
type objectNode struct {
	*hclsyntax.ObjectConsExpr
}

func (n *objectNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	all := hclsyntax.ObjectConsExpr{SrcRange: n.SrcRange, OpenRange: n.OpenRange}
	var diags hcl.Diagnostics
	attrs := map[string]cty.Value{}
	known := true
	recordOf(ctx).spend(len(n.Items))
	for _, item := range n.Items {
		// One member at a time through hcl itself, which knows what may be a key.
		all.Items = []hclsyntax.ObjectConsItem{item}
		v, more := all.Value(ctx)
		diags = append(diags, more...)
		if !v.Type().IsObjectType() {
			known = false // its key is unknown, or failed
			continue
		}
		left := leftOut(item.ValueExpr, ctx)
		for name, val := range v.AsValueMap() {
			delete(attrs, name)
			if !left {
				attrs[name] = val
			}
		}
	}
	if !known {
		return cty.DynamicVal, diags
	}
	return cty.ObjectVal(attrs), diags
}

// leftOut reports whether an expression is a bare reference to an absent field.
func leftOut(e hclsyntax.Expression, ctx *hcl.EvalContext) bool {
	switch e := e.(type) {
	case *refNode:
		r := recordOf(ctx)
		if r == nil {
			return false
		}
		_, found, diags := r.ctyValue(e.ref)
		return !found && !diags.HasErrors()
	case *travNode:
		if !e.bare() {
			return false
		}
		_, found, diags := e.find(ctx)
		return !found && !diags.HasErrors()
	case *escapeNode:
		return leftOut(e.Expression, ctx)
	case *hclsyntax.ParenthesesExpr:
		return leftOut(e.Expression, ctx)
	}
	return false
}

// conditionalNode chooses between two lists, or two objects, as they are. hcl makes them of one type, which those of
// events seldom have: it would refuse cond ? event.data.lines : [], or change what is in the lists.
type conditionalNode struct {
	*hclsyntax.ConditionalExpr
}

func (n *conditionalNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e := *n.ConditionalExpr
	yes, no := evaluate(e.TrueResult, ctx), evaluate(e.FalseResult, ctx)
	if both := collectionOf(yes.value); both != noCollection && both == collectionOf(no.value) &&
		!yes.value.IsNull() && !no.value.IsNull() {
		cond := evaluate(e.Condition, ctx)
		e.Condition = cond
		choice, _ := cond.value.Unmark()
		choice, err := convert.Convert(choice, cty.Bool)
		switch {
		case err != nil || choice.IsNull(): // a mistake, which hcl words
		case !choice.IsKnown():
			yes.value, no.value = cty.DynamicVal, cty.DynamicVal
		case choice.True(): // a null without a type takes that of the other
			no.value = cty.NullVal(cty.DynamicPseudoType)
		default:
			yes.value = cty.NullVal(cty.DynamicPseudoType)
		}
	}
	e.TrueResult, e.FalseResult = yes, no
	return e.Value(ctx)
}

// evaluated is an expression with its value, so that it is evaluated once.
type evaluated struct {
	hclsyntax.Expression
	value cty.Value
	diags hcl.Diagnostics
}

func evaluate(e hclsyntax.Expression, ctx *hcl.EvalContext) *evaluated {
	v, diags := e.Value(ctx)
	return &evaluated{Expression: e, value: v, diags: diags}
}

func (e *evaluated) Value(*hcl.EvalContext) (cty.Value, hcl.Diagnostics) { return e.value, e.diags }

// presentNode is present(x).
type presentNode struct {
	*hclsyntax.FunctionCallExpr
	arg hclsyntax.Expression // *refNode or bare *travNode
}

func (n *presentNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	var found bool
	var diags hcl.Diagnostics
	switch arg := n.arg.(type) {
	case *refNode:
		r := recordOf(ctx)
		if r == nil {
			return cty.UnknownVal(cty.Bool).RefineNotNull(), nil
		}
		r.spend(1)
		found = r.present(arg.ref)
	case *travNode:
		var v cty.Value
		v, found, diags = arg.find(ctx)
		if diags.HasErrors() {
			return cty.False, nil // a member of something that has none
		}
		if !v.IsKnown() {
			return cty.UnknownVal(cty.Bool).RefineNotNull(), diags
		}
	}
	return cty.BoolVal(found), diags
}

// present reports whether the path of a reference exists, be its value null or not.
func (r *Record) present(ref *reference) bool {
	switch ref.kind {
	case refData, refChangeVal, refChange:
		_, st, _ := ref.view(r).token(ref.path)
		return st == present
	case refHasOld, refHasNew:
		_, st, _ := r.chg.token(ref.path[:1])
		return st == present
	case refChanges:
		return r.chg.raw[0] == '{'
	case refEnvelope:
		return r.envelope(ref.field) != ""
	case refSource:
		return r.req.Source != ""
	case refHeader:
		_, ok := r.header(ref.header)
		return ok
	}
	return true
}

// escapeNode escapes the text that its expression makes, or every text in the list or object; names of members stay.
type escapeNode struct {
	hclsyntax.Expression
	how sdk.Escape
}

func (n *escapeNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := n.Expression.Value(ctx)
	if diags.HasErrors() || v.IsNull() || !v.IsWhollyKnown() || v.Type().IsPrimitiveType() && v.Type() != cty.String {
		return v, diags
	}
	if v.Type() == cty.String {
		return n.text(v), diags
	}
	if r := recordOf(ctx); r != nil {
		r.handleAll(v)
	}
	out, err := cty.Transform(v, func(_ cty.Path, v cty.Value) (cty.Value, error) {
		if v.Type() != cty.String || v.IsNull() {
			return v, nil
		}
		return n.text(v), nil
	})
	if err != nil { // it has none of its own, and neither has the function above
		return cty.DynamicVal, append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Escaping failed", Detail: err.Error(), Subject: n.Range().Ptr(),
		})
	}
	return out, diags
}

func (n *escapeNode) text(v cty.Value) cty.Value {
	text := []byte(v.AsString())
	if !escapeNeeded(text, n.how) {
		return v
	}
	return cty.StringVal(string(appendEscaped(nil, text, n.how)))
}

// hclValue evaluates a rewritten expression by hcl. Its errors, panics and unknown results become an *Error.
func (r *Record) hclValue(e hclsyntax.Expression) (v cty.Value, err *Error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = cty.NilVal, r.panicError(p, e.Range())
		}
	}()
	r.steps, r.bytes = maxSteps, maxBytes
	v, diags := e.Value(r.ctx)
	if r.steps < 0 || r.bytes < 0 { // a function may have taken the panic for an error of its own
		return cty.NilVal, r.panicError(budgetSpent{}, e.Range())
	}
	if diags.HasErrors() {
		return cty.NilVal, evalError(diags, e.Range())
	}
	if !v.IsWhollyKnown() {
		return cty.NilVal, errorAt(e.Range(), "Result depends on a null",
			"A function that needs a value was given null, so there is no result. Guard it, for instance with coalesce.")
	}
	return v, nil
}

func (r *Record) panicError(p any, rng hcl.Range) *Error {
	if _, ok := p.(budgetSpent); ok {
		if r.bytes < 0 {
			return errorAt(rng, "Expression does too much", "It was stopped after %d MiB of values on this event.", maxBytes>>20)
		}
		return errorAt(rng, "Expression does too much", "It was stopped after %d steps on this event.", maxSteps)
	}
	// The text of a panic may hold values.
	return errorAt(rng, "Expression failed", "The evaluation panicked (%T). This is a bug in the host.", p)
}

// brokenNode is an expression with a mistake that was reported: it could be anything. It keeps what is around it, and in
// it, open to checks; nothing that holds one is ever evaluated for an event.
type brokenNode struct {
	hclsyntax.Expression
	parts     []hclsyntax.Expression // rewritten
	traversal hcl.Traversal          // of a reference
}

// Value implements hcl.Expression.
func (n *brokenNode) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	for _, p := range n.parts {
		_, more := p.Value(ctx)
		diags = append(diags, more...)
	}
	return cty.DynamicVal, diags
}
