package expr

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/sdk"
)

// onNull is what a null does in a place: why it fails, or nothing.
type onNull string

const nullFine onNull = ""

func nullFails(why string) onNull { return onNull(why) }

// need checks that a value can stand where a text, a number or a truth is asked for.
func (c *Checker) need(e hclsyntax.Expression, t typed, kind sdk.Kind, null onNull, where string, v known) {
	if v.live == 0 {
		return
	}
	if c.fit(e, t, kind, where, v) && null != nullFine && c.mayFailOfNull(e, t) {
		c.mayBeNull(e, t.null, refText(t.ref), string(null), v)
	}
}

func (c *Checker) mayFailOfNull(e hclsyntax.Expression, t typed) bool {
	if t.null == alwaysNull {
		_, isLit := unwrap(e).(*hclsyntax.LiteralValueExpr)
		return !isLit // that is reported without types
	}
	return t.null == maybeNull
}

// fit checks that a value converts to a kind.
func (c *Checker) fit(e hclsyntax.Expression, t typed, kind sdk.Kind, where string, v known) bool {
	if t.null == alwaysNull {
		return true
	}
	want := noun(&sdk.Schema{Kind: kind})
	if t.lit != cty.NilVal {
		if kind == sdk.KindNumber && t.lit.Type() == cty.String && !readable(t.lit.AsString(), kind) {
			c.fail(e.Range(), "Wrong type", fmt.Sprintf("This text is no number, but %s takes one.%s", where, timeAdvice), v)
			return false
		}
		return true
	}
	switch convertible(t.schema, kind) {
	case fails:
		c.fail(e.Range(), "Wrong type", fmt.Sprintf("%s, but %s takes %s.%s",
			is(t), where, want, c.inSample(t, v)), v)
		return false
	case byText:
		text, ok := c.sampleOf(t.ref, v).(string)
		if len(t.schema.Enum) > 0 {
			text, ok = t.schema.Enum[0], true
		}
		if !ok || readable(text, kind) {
			return true
		}
		advice := ""
		if class(&sdk.Schema{Kind: kind}) == "number" {
			advice = timeAdvice
		}
		c.warn(e.Range(), "This text is hardly "+want, fmt.Sprintf("%s takes %s, and %s, in a sample %s.%s",
			capital(where), want, strings.ToLower(is(t)[:1])+is(t)[1:], show(text), advice), v)
	}
	return true
}

const timeAdvice = " Dates and times compare with timecmp(a, b) < 0."

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// is says what a value is.
func is(t typed) string {
	text := refText(t.ref)
	if text == "" {
		text = "This"
	}
	return text + " is " + noun(t.schema)
}

// sampleOf is a reference's value in a sample.
func (c *Checker) sampleOf(e hclsyntax.Expression, v known) any {
	r, ok := e.(*refNode)
	if !ok || r.ref.kind != refData {
		return nil
	}
	return c.sh.sampleAt(v.live, hops(r.ref.path))
}

func (c *Checker) inSample(t typed, v known) string {
	if shown := show(c.sampleOf(t.ref, v)); shown != "" {
		return fmt.Sprintf(" In a sample it is %s.", shown)
	}
	return ""
}

// mayBeNull reports a null where none may be.
func (c *Checker) mayBeNull(e hclsyntax.Expression, null nullness, text, why string, v known) {
	what := "This"
	guard := " Guard it, for instance with coalesce."
	if text != "" {
		what = text
		guard = fmt.Sprintf(" Guard it: coalesce(%s, …), or %s != null in a condition before it.", text, text)
	}
	ref, _ := isRef(e)
	switch x := ref.(type) {
	case *refNode:
		if v.has(keyOf(x))&isPresent != 0 {
			guard += " present() is true of a null, too."
		}
		if k := x.ref.kind; k == refChangeVal || k == refHasOld || k == refHasNew {
			why += " It is null where the field did not change."
		}
	case *hclsyntax.FunctionCallExpr:
		switch x.Name {
		case "try":
			guard = " A null is no failure, so try() passes it on: write coalesce()."
		case "coalesce":
			guard = " Let the last be a constant."
		}
	case *hclsyntax.ForExpr:
		guard = " Leave nulls out: [for x in … : x if x != null]."
	}
	if null == alwaysNull {
		c.fail(e.Range(), what+" is always null here", why, v)
		return
	}
	c.warn(e.Range(), what+" may be null", why+guard, v)
}

// verdict is what became of a comparison for all types that get to it.
type verdict struct {
	e      *hclsyntax.BinaryOpExpr
	gaveUp *bool
	may    bool // it may hold for some
	never  bool // it does not for some
	why    string
	sev    hcl.DiagnosticSeverity
}

// compare checks == and !=.
func (c *Checker) compare(e *hclsyntax.BinaryOpExpr, a, b typed, v known) {
	if lit, _, ok := typeLiteral(e); ok && lit != "" {
		c.typeCompared(e, lit, v)
		return
	}
	why, sev := "", hcl.DiagError
	ca, cb := class(a.schema), class(b.schema)
	switch {
	case a.null == alwaysNull || b.null == alwaysNull:
	case ca == "" || cb == "":
		if !c.sh.open || !isAnyRef(a, b) {
			c.judge(e, "", sev, v)
		}
		return
	case ca != cb:
		if a.lit != cty.NilVal {
			a, b = b, a
		}
		why = fmt.Sprintf("%s%s, and %s: values of different types are never equal.%s", is(a), c.such(a, v), other(b),
			convertAdvice(a, b))
	default:
		if a.lit != cty.NilVal {
			a, b = b, a
		}
		if b.lit != cty.NilVal && b.lit.Type() == cty.String && a.schema != nil && len(a.schema.Enum) > 0 &&
			!slices.Contains(a.schema.Enum, b.lit.AsString()) {
			why = fmt.Sprintf("%s is one of %s.", nonEmpty(refText(a.ref), "This"), quoteList(a.schema.Enum))
			if guess := nearestName(b.lit.AsString(), a.schema.Enum); guess != "" {
				why += fmt.Sprintf(" Did you mean %q?", guess)
			} else {
				sev = hcl.DiagWarning // the provider may have added one
			}
		}
	}
	c.judge(e, why, sev, v)
}

// isAnyRef reports whether one of two values is a reference to untyped data.
func isAnyRef(a, b typed) bool {
	return a.ref != nil && isAny(a.schema) || b.ref != nil && isAny(b.schema)
}

func nonEmpty(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (c *Checker) such(t typed, v known) string {
	if shown := show(c.sampleOf(t.ref, v)); shown != "" {
		return fmt.Sprintf(" (in a sample %s)", shown)
	}
	return ""
}

func other(t typed) string {
	if t.lit != cty.NilVal && t.lit.Type() == cty.String {
		return fmt.Sprintf("%q is a text", t.lit.AsString())
	}
	if t.lit != cty.NilVal && t.lit.Type() == cty.Number {
		return t.lit.AsBigFloat().Text('f', -1) + " is a number"
	}
	if text := refText(t.ref); text != "" {
		return text + " is " + noun(t.schema)
	}
	return "this is " + noun(t.schema)
}

func convertAdvice(a, b typed) string {
	ca, cb := class(a.schema), class(b.schema)
	if b.lit != cty.NilVal {
		switch {
		case ca == "number" && cb == "text":
			if _, err := strconv.ParseFloat(b.lit.AsString(), 64); err == nil {
				return fmt.Sprintf(" Write %s without quotes.", b.lit.AsString())
			}
		case ca == "bool" && cb == "text":
			if text := b.lit.AsString(); text == "true" || text == "false" {
				return fmt.Sprintf(" Write %s without quotes.", text)
			}
		case ca == "text" && cb == "number":
			return fmt.Sprintf(" Write tonumber(%s), or the number in quotes.", nonEmpty(refText(a.ref), "…"))
		case ca == "text" && cb == "bool":
			return fmt.Sprintf(" Write \"%t\".", b.lit.True())
		}
	}
	if ca == "number" && cb == "text" || ca == "text" && cb == "number" {
		return " tostring() makes a text of a number."
	}
	return ""
}

// typeCompared checks a comparison of the event's type with a literal.
func (c *Checker) typeCompared(e *hclsyntax.BinaryOpExpr, lit string, v known) {
	var m mask
	if c.sh.open {
		c.sh.each(v.live, func(i int, a *atom) {
			if !c.sh.known[lit] && strings.HasPrefix(lit, c.sh.provider+".") && c.route.takes(a.source, lit) {
				m |= 1 << i
			}
		})
	} else {
		m = v.live & c.typesWhere(e, e.Op == hclsyntax.OpEqual)
	}
	if m != 0 && c.sh.open && !c.listed[lit] { // it may be a type that the catalogue lacks, or a misspelt one
		if guess := nearestName(lit, c.typeNames()); guess != "" {
			c.warn(e.Range(), fmt.Sprintf("No source of this route is known to send %q", lit),
				fmt.Sprintf("Did you mean %q?", guess), v)
		}
	}
	if m != 0 {
		c.judge(e, "", hcl.DiagError, v)
		return
	}
	why := fmt.Sprintf("No event of the type %q gets here.", lit)
	if !c.listed[lit] {
		if guess := nearestName(lit, c.typeNames()); guess != "" {
			why += fmt.Sprintf(" Did you mean %q?", guess)
		}
	}
	sev := hcl.DiagError
	if e.Op == hclsyntax.OpNotEqual {
		sev = hcl.DiagWarning // to exclude what does not come is needless, no more
	}
	c.judge(e, why, sev, v)
}

// judge records whether a comparison can be true for the types at hand; it cannot be for the reason why.
func (c *Checker) judge(e *hclsyntax.BinaryOpExpr, why string, sev hcl.DiagnosticSeverity, v known) {
	if v.live == 0 {
		return
	}
	d := c.verdicts[e]
	if d == nil {
		d = &verdict{e: e, gaveUp: &c.route.gaveUp}
		c.verdicts[e] = d
	}
	if why == "" {
		d.may = true
		return
	}
	if !d.never || d.sev == hcl.DiagWarning {
		d.why, d.sev = why, sev
	}
	d.never = true
}

// argument checks a part of a message against its schema, as Message builds it.
func (c *Checker) argument(e hclsyntax.Expression, s *sdk.Schema, place part, path []string, v known) {
	if v.live == 0 || !c.spend() {
		return
	}
	sub := func(e hclsyntax.Expression, s *sdk.Schema, place part, step string) {
		c.argument(e, s, place, append(slices.Clip(path), step), v)
	}
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		c.argument(e.Expression, s, place, path, v)
		return
	case *hclsyntax.LiteralValueExpr:
		return // checked where it was compiled
	case *conditionalNode:
		c.conditional(e.ConditionalExpr, v)
		c.argument(e.TrueResult, s, place, path, c.assume(e.Condition, true, v))
		c.argument(e.FalseResult, s, place, path, c.assume(e.Condition, false, v))
		return
	case *objectNode:
		switch s.Kind {
		case sdk.KindObject:
			if members, ok := staticMembers(e); ok {
				for _, m := range members {
					if a := s.Attribute(m.name); a != nil {
						sub(m.expr, a, asAttribute, m.name)
					}
				}
				return
			}
		case sdk.KindMap, sdk.KindAny:
			el := s
			if s.Kind == sdk.KindMap {
				el = s.Element
			}
			for _, item := range e.Items {
				c.objectKey(item.KeyExpr, v)
				name, ok := staticKey(item.KeyExpr)
				if !ok {
					name = "…"
				}
				sub(item.ValueExpr, el, asItem, name)
			}
			return
		}
	case *hclsyntax.TupleConsExpr:
		if s.Kind == sdk.KindList || s.Kind == sdk.KindAny {
			el := s
			if s.Kind == sdk.KindList {
				el = s.Element
			}
			for i, x := range e.Exprs {
				sub(x, el, asElement, strconv.Itoa(i))
			}
			return
		}
	case *hclsyntax.FunctionCallExpr:
		if e.Name == "raw" && len(e.Args) == 1 && !e.ExpandFinal {
			c.argument(e.Args[0], s, place, path, v)
			return
		}
	}
	t := c.eval(e, v)
	if !place.takesNull(e, t, s) && c.mayFailOfNull(e, t) {
		c.mayBeNull(e, t.null, refText(t.ref), fmt.Sprintf("The message needs a value for %q.", strings.Join(path, ".")), v)
	}
	if !isAny(s) && !isAny(t.schema) && t.null != alwaysNull {
		c.matches(e, t, s, strconv.Quote(strings.Join(path, ".")), v)
	}
}

// part is what a part of a message is in what is around it; that decides what becomes of a null.
type part uint8

const (
	asAttribute part = iota
	asItem
	asElement
)

func (p part) takesNull(e hclsyntax.Expression, t typed, s *sdk.Schema) bool {
	_, bare := isRef(e)
	switch p {
	case asAttribute:
		return s.Nullable || s.Optional
	case asItem: // one that is absent is left out
		return s.Nullable || s.Kind == sdk.KindAny || bare && t.schema != nil && !t.schema.Nullable
	}
	return s.Nullable || s.Kind == sdk.KindAny
}

// matches checks that a typed value, if it is not null, fits the schema of a part of a message.
func (c *Checker) matches(e hclsyntax.Expression, t typed, s *sdk.Schema, name string, v known) {
	if !c.fit(e, t, s.Kind, "the attribute "+name, v) {
		return
	}
	switch {
	case len(s.Enum) > 0 && len(t.schema.Enum) > 0:
		if !slices.ContainsFunc(t.schema.Enum, func(x string) bool { return slices.Contains(s.Enum, x) }) {
			c.fail(e.Range(), "Wrong value", fmt.Sprintf("%s of %s, but the attribute %s takes one of %s.", is(t),
				quoteList(t.schema.Enum), name, quoteList(s.Enum)), v)
		}
	case s.Kind == sdk.KindObject && t.schema.Kind == sdk.KindObject:
		c.members(e, t, s, name, v)
	case (s.Kind == sdk.KindList || s.Kind == sdk.KindMap) && t.schema.Kind == s.Kind && s.Element != nil:
		el := element(t.schema)
		if el.null == maybeNull && !s.Element.Nullable && s.Element.Kind != sdk.KindAny {
			c.mayBeNull(e, maybeNull, "", fmt.Sprintf("No element of the attribute %s can be null.", name), v)
		}
		if convertible(el.schema, s.Element.Kind) == fails {
			c.fail(e.Range(), "Wrong type", fmt.Sprintf("Its elements are each %s, but those of the attribute %s %s.",
				noun(el.schema), name, noun(s.Element)), v)
		}
	}
}

// members checks an object of the event that becomes an object of a message.
func (c *Checker) members(e hclsyntax.Expression, t typed, s *sdk.Schema, name string, v known) {
	for i := range t.schema.Attributes {
		a := &t.schema.Attributes[i]
		if s.Attribute(a.Name) == nil && !a.Schema.Optional {
			c.fail(e.Range(), "Wrong value", fmt.Sprintf("It has a member %q, which the attribute %s does not take. "+
				"Write an object with the members that it takes.", a.Name, name), v)
			return
		}
	}
	for i := range s.Attributes {
		a := &s.Attributes[i]
		if have := t.schema.Attribute(a.Name); have == nil && !a.Schema.Optional && !a.Schema.Nullable {
			c.fail(e.Range(), "Wrong value", fmt.Sprintf("It has no member %q, which the attribute %s needs.", a.Name, name), v)
			return
		}
	}
}
