package expr

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// assume is what is known where a condition was evaluated and is true, or false.
func (c *Checker) assume(e hclsyntax.Expression, want bool, v known) known {
	if v.live == 0 || !c.spend() {
		return v
	}
	if c.dependsOnType(e) {
		v.live &= c.typesWhere(e, want)
		return v
	}
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.assume(e.Expression, want, v)
	case *hclsyntax.TemplateWrapExpr:
		return c.assume(e.Wrapped, want, v)
	case *hclsyntax.LiteralValueExpr:
		if e.Val.Type() == cty.Bool && !e.Val.IsNull() && e.Val.True() != want {
			v.live = 0
		}
		return v
	case *hclsyntax.UnaryOpExpr:
		if e.Op == hclsyntax.OpLogicalNot {
			return c.assume(e.Val, !want, v)
		}
	case *hclsyntax.BinaryOpExpr:
		switch e.Op {
		case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
			return c.assumeChain(operands(e), e.Op == hclsyntax.OpLogicalAnd, want, v)
		case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
			return c.assumeEqual(e, (e.Op == hclsyntax.OpEqual) == want, v)
		}
	case *presentNode:
		if want {
			v = c.holds(e.arg, isPresent, v)
		}
		return v
	case *refNode:
		if want && (e.ref.kind == refHasOld || e.ref.kind == refHasNew) {
			v = v.with(refKey{kind: refChange, n: e.ref.path[0].path}, notNull)
		}
		return c.holds(e, notNull, v)
	case *travNode:
		return c.holds(e, notNull, v)
	case *hclsyntax.FunctionCallExpr:
		return c.assumeCall(e, want, v)
	}
	return c.succeeds(e, v)
}

// maxChoices bounds how deep operators stand inside each other of which one operand decides: each level doubles the work.
// What is deeper is not known.
const maxChoices = 6

// assumeChain is about && (and) or ||, of which all operands decide, or the first that does.
func (c *Checker) assumeChain(of []hclsyntax.Expression, and, want bool, v known) known {
	if and == want {
		for _, x := range of {
			v = c.assume(x, want, v)
		}
		return v
	}
	// One operand decides; those before it did not.
	if c.choices == maxChoices {
		return v
	}
	c.choices++
	defer func() { c.choices-- }()
	before := v.facts
	out := known{facts: before, vars: v.vars}
	first := true
	for _, x := range of {
		if d := c.assume(x, want, v); d.live != 0 {
			out.live |= d.live
			if first {
				out.facts = d.facts
			} else {
				out.facts = c.common(out.facts, d, before)
			}
			first = false
		}
		v = c.assume(x, !want, v)
	}
	return out
}

// common keeps the facts, down to those that were known before, that another side knows, too.
func (c *Checker) common(facts *fact, other known, before *fact) *fact {
	out := before
	for f := facts; f != nil && f != before; f = f.next {
		if !c.spend() {
			break
		}
		if has := other.has(f.key) & f.what; has != 0 {
			out = &fact{f.key, has, out}
		}
	}
	return out
}

// assumeEqual is about two values that are equal, or not.
func (c *Checker) assumeEqual(e *hclsyntax.BinaryOpExpr, equal bool, v known) known {
	for _, sides := range [2][2]hclsyntax.Expression{{e.LHS, e.RHS}, {e.RHS, e.LHS}} {
		v = c.succeeds(sides[0], v)
		if x, instead, ok := coalesced(sides[0]); ok {
			lit, isLit := unwrap(sides[1]).(*hclsyntax.LiteralValueExpr)
			if isLit && !lit.Val.IsNull() && lit.Val.RawEquals(instead) != equal {
				v = c.holds(x, notNull, v) // it is not what coalesce puts in place of a null
			}
		}
		ref, ok := isRef(sides[0])
		if !ok {
			continue
		}
		other := unwrap(sides[1])
		lit, isLit := other.(*hclsyntax.LiteralValueExpr)
		switch {
		case isLit && lit.Val.IsNull():
			if equal {
				v = c.isNull(ref, v)
			} else {
				v = c.holds(ref, notNull, v)
			}
		case equal && (isLit || c.never(other)):
			v = c.holds(ref, notNull, v)
			if isLit && lit.Val.Type() == cty.Bool {
				v = c.assume(ref, lit.Val.True(), v)
			}
		}
	}
	return v
}

// isNull adds that a reference is null.
func (c *Checker) isNull(e hclsyntax.Expression, v known) known {
	switch e := e.(type) {
	case *refNode:
		return v.with(keyOf(e), surelyNull)
	case *travNode:
		if x := v.variable(e.name, nil); e.bare() && x != nil {
			if path, ok := hopsOf(e.steps); ok {
				return v.with(refKey{kind: refVariable, n: x.scope, name: pathName(path)}, surelyNull)
			}
		}
	}
	return v
}

// coalesced recognizes coalesce(x, constant) of a reference.
func coalesced(e hclsyntax.Expression) (x hclsyntax.Expression, instead cty.Value, ok bool) {
	call, isCall := unwrap(e).(*hclsyntax.FunctionCallExpr)
	if !isCall || call.Name != "coalesce" || len(call.Args) != 2 || call.ExpandFinal {
		return nil, cty.NilVal, false
	}
	lit, isLit := unwrap(call.Args[1]).(*hclsyntax.LiteralValueExpr)
	x, isReference := isRef(call.Args[0])
	if !isLit || !isReference || lit.Val.IsNull() {
		return nil, cty.NilVal, false
	}
	return x, lit.Val, true
}

// never reports whether an expression of some common kinds is never null.
func (c *Checker) never(e hclsyntax.Expression) bool {
	switch e := e.(type) {
	case *hclsyntax.TemplateExpr, *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr, *presentNode, *objectNode,
		*hclsyntax.TupleConsExpr:
		return true
	case *hclsyntax.FunctionCallExpr:
		return slices.Contains([]string{"lower", "upper", "trimspace", "date", "coalesce"}, e.Name)
	case *refNode:
		return e.ref.kind == refEnvelope && (e.ref.field == fieldType || e.ref.field == fieldID || e.ref.field == fieldTime)
	}
	return false
}

func unwrap(e hclsyntax.Expression) hclsyntax.Expression {
	for {
		p, ok := e.(*hclsyntax.ParenthesesExpr)
		if !ok {
			return e
		}
		e = p.Expression
	}
}

func (c *Checker) assumeCall(e *hclsyntax.FunctionCallExpr, want bool, v known) known {
	if e.ExpandFinal {
		return v
	}
	switch e.Name {
	case "can":
		if want {
			for _, a := range e.Args {
				v = c.succeeds(a, v)
			}
		}
		return v
	case "try":
		return v
	case "coalesce": // coalesce(x, false) is true where x is, and the other way round
		if len(e.Args) == 2 {
			lit, ok := unwrap(e.Args[1]).(*hclsyntax.LiteralValueExpr)
			if ok && lit.Val.Type() == cty.Bool && !lit.Val.IsNull() && lit.Val.True() != want {
				return c.assume(e.Args[0], want, v)
			}
		}
		return v
	case "contains":
		if want && len(e.Args) == 2 {
			if list, ok := unwrap(e.Args[0]).(*hclsyntax.LiteralValueExpr); ok && withoutNull(list.Val) {
				if ref, ok := isRef(e.Args[1]); ok {
					v = c.holds(ref, notNull, v)
				}
			}
		}
	}
	return c.succeeds(e, v)
}

func withoutNull(list cty.Value) bool {
	if list.IsNull() || !list.CanIterateElements() {
		return false
	}
	for it := list.ElementIterator(); it.Next(); {
		if _, el := it.Element(); el.IsNull() {
			return false
		}
	}
	return true
}

// succeeds is what is known where an expression was evaluated without an error: what it does not take null for is not
// null.
func (c *Checker) succeeds(e hclsyntax.Expression, v known) known {
	if !c.spend() {
		return v
	}
	operand := func(x hclsyntax.Expression) {
		if ref, ok := isRef(x); ok {
			v = c.holds(ref, notNull, v)
		} else {
			v = c.succeeds(x, v)
		}
	}
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.succeeds(e.Expression, v)
	case *hclsyntax.TemplateWrapExpr:
		return c.succeeds(e.Wrapped, v)
	case *hclsyntax.TemplateExpr:
		for _, p := range e.Parts {
			operand(p)
		}
	case *hclsyntax.UnaryOpExpr:
		operand(e.Val)
	case *hclsyntax.BinaryOpExpr:
		switch e.Op {
		case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr: // one side may have failed
			return c.succeeds(operands(e)[0], v)
		case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
			return c.succeeds(e.RHS, c.succeeds(e.LHS, v))
		}
		operand(e.LHS)
		operand(e.RHS)
	case *hclsyntax.FunctionCallExpr:
		fn, ok := c.set.functions[e.Name]
		if !ok || e.ExpandFinal || e.Name == "try" || e.Name == "can" {
			return v
		}
		params, rest := fn.Params(), fn.VarParam()
		for i, a := range e.Args {
			p := rest
			if i < len(params) {
				p = &params[i]
			}
			switch {
			case p == nil:
			case p.AllowNull:
				v = c.succeeds(a, v)
			default:
				operand(a)
			}
		}
	}
	return v
}

// holds adds what is known of a reference, and of what it goes through.
func (c *Checker) holds(e hclsyntax.Expression, what certainty, v known) known {
	switch e := e.(type) {
	case *refNode:
		ref := e.ref
		if ref.kind == refData {
			v = v.with(refKey{kind: refData}, notNull)
			for _, s := range ref.path[:max(0, len(ref.path)-1)] {
				v = v.with(refKey{kind: refData, n: s.path}, notNull)
			}
		}
		if ref.kind == refChangeVal || ref.kind == refHasOld || ref.kind == refHasNew {
			v = v.with(refKey{kind: refChange, n: ref.path[0].path}, notNull)
		}
		if len(ref.path) == 0 && what == isPresent && ref.kind == refData {
			return v.with(refKey{kind: refData}, isPresent)
		}
		return v.with(keyOf(e), what)
	case *travNode:
		x := v.variable(e.name, nil)
		if !e.bare() || x == nil {
			return v
		}
		path, ok := hopsOf(e.steps)
		if !ok {
			return v
		}
		for i := range path {
			v = v.with(refKey{kind: refVariable, n: x.scope, name: pathName(path[:i])}, notNull)
		}
		return v.with(refKey{kind: refVariable, n: x.scope, name: pathName(path)}, what)
	}
	return v
}
