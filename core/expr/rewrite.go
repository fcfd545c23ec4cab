package expr

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/sdk"
)

// rewriter turns an expression of the configuration into one that hcl evaluates with this language's exceptions:
// references are resolved, constants folded, and mistakes that need no event are found.
type rewriter struct {
	set    *Set
	scopes []map[string]bool // variables of the for expressions around
	diags  hcl.Diagnostics
}

// rewrite prepares an expression, and checks it with unknown values in place of the event's, which gives known: its
// value or at least type, as far as that does not depend on the event. What has a mistake is a brokenNode in out. Of an argument, the object and tuple
// constructors that are its outer structure are kept, so that what is in them can be placed.
func (s *Set) rewrite(e hcl.Expression, argument bool) (
	out hclsyntax.Expression, known cty.Value, diags hcl.Diagnostics,
) {
	native, ok := e.(hclsyntax.Expression)
	if !ok {
		return nil, cty.NilVal, hcl.Diagnostics{{
			Severity: hcl.DiagError,
			Summary:  "Expression in another syntax",
			Detail:   "Expressions that are evaluated per event are written in native HCL syntax, not in JSON.",
			Subject:  e.Range().Ptr(),
		}}
	}
	if diags := hclsyntax.Walk(native, &bounds{}); diags.HasErrors() {
		return nil, cty.NilVal, diags
	}
	rw := &rewriter{set: s}
	if argument {
		out = rw.argument(native)
	} else {
		out = rw.expr(native)
	}
	known, diags = check(out, s)
	return out, known, append(rw.diags, diags...)
}

// check evaluates an expression without an event.
func check(e hclsyntax.Expression, s *Set) (v cty.Value, diags hcl.Diagnostics) {
	defer func() {
		if p := recover(); p != nil {
			v, diags = cty.DynamicVal, hcl.Diagnostics{{
				Severity: hcl.DiagError,
				Summary:  "Expression cannot be checked",
				Detail:   fmt.Sprintf("The evaluation panicked: %v. This is a bug in the host.", p),
				Subject:  e.Range().Ptr(),
			}}
		}
	}()
	v, diags = e.Value(&hcl.EvalContext{Functions: s.functions})
	for _, d := range diags {
		d.Detail = withoutPanic(d.Detail)
		d.EvalContext, d.Expression = nil, nil // they would keep alive what is only for the check
	}
	return v, diags
}

const (
	// maxDepth is how deep an expression may be: what is checked and rewritten looks at everything below it once more.
	maxDepth = 500
	// maxDoubling is how deep calls may stand inside each other that double the work, or the length of their result.
	maxDoubling = 6
	// maxExponent is the magnitude of a number's exponent, to the base of ten. Whoever wants one as text writes all its digits.
	maxExponent = 400
)

// bounds is a walker that refuses what would take too long, and says so once.
type bounds struct {
	depth, doubling int
	refused         bool
}

// doubles reports whether each call inside another of its kind doubles something: hcl evaluates what is in try and can twice,
// and JSON in JSON has a backslash before every backslash.
func doubles(n hclsyntax.Node) bool {
	call, ok := n.(*hclsyntax.FunctionCallExpr)
	return ok && (call.Name == "try" || call.Name == "can" || call.Name == "jsonencode")
}

// Enter implements hclsyntax.Walker.
func (b *bounds) Enter(n hclsyntax.Node) hcl.Diagnostics {
	b.depth++
	if doubles(n) {
		b.doubling++
	}
	lit, _ := n.(*hclsyntax.LiteralValueExpr)
	summary, detail := "Expression nested too deeply", ""
	switch {
	case b.refused:
		return nil
	case b.depth > maxDepth:
		detail = fmt.Sprintf("An expression may be %d levels deep; in a chain like a || b || c every operator is a level. "+
			"Ask whether a list holds a value instead: contains([…], event.type).", maxDepth)
	case b.doubling > maxDoubling:
		detail = fmt.Sprintf("Calls of try, can and jsonencode may stand inside each other %d levels deep, because each level "+
			"doubles the work. One try takes any number of alternatives: try(a, b, c).", maxDoubling)
	case lit != nil && OutOfRange(lit.Val) != "":
		summary, detail = "Number out of range", OutOfRange(lit.Val)
	default:
		return nil
	}
	b.refused = true
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: n.Range().Ptr()}}
}

// Exit implements hclsyntax.Walker.
func (b *bounds) Exit(n hclsyntax.Node) hcl.Diagnostics {
	b.depth--
	if doubles(n) {
		b.doubling--
	}
	return nil
}

// OutOfRange says why a value is a number too large or too small to be written out; "": it is not.
func OutOfRange(v cty.Value) string {
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.Number {
		return ""
	}
	exponent := v.AsBigFloat().MantExp(nil)
	const bits = maxExponent * 10 / 3 // a decimal digit takes a little more than three
	if -bits <= exponent && exponent <= bits {
		return ""
	}
	return fmt.Sprintf("A number's exponent may be up to %d, or down to -%[1]d.", maxExponent)
}

func (rw *rewriter) fail(rng hcl.Range, summary, format string, args ...any) {
	rw.report(&hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &rng,
	})
}

// report adds a diagnostic, once: a node may be looked at several times.
func (rw *rewriter) report(d *hcl.Diagnostic) {
	for _, o := range rw.diags {
		if o.Summary == d.Summary && *o.Subject == *d.Subject {
			return
		}
	}
	rw.diags = append(rw.diags, d)
}

func (rw *rewriter) local(name string) bool {
	for _, s := range rw.scopes {
		if s[name] {
			return true
		}
	}
	return false
}

// constant reports whether an expression depends on neither the event nor a variable of a for expression around it.
func (rw *rewriter) constant(e hclsyntax.Expression) bool {
	for _, t := range hclsyntax.Variables(e) {
		name := t.RootName()
		if _, ok := rw.set.consts[name]; !ok || rw.local(name) {
			return false
		}
	}
	anonymous := false
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok && call.Name == "present" {
			anonymous = true // for its own diagnostic
		}
		return nil
	})
	return !anonymous
}

// fold evaluates a constant expression. What fails stays as it is: a `try` around it may still want the failure.
func (rw *rewriter) fold(e hclsyntax.Expression) (hclsyntax.Expression, bool) {
	v, diags := func() (v cty.Value, diags hcl.Diagnostics) {
		defer func() {
			if p := recover(); p != nil {
				diags = hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Expression failed", Subject: e.Range().Ptr()}}
			}
		}()
		return e.Value(rw.set.constCtx)
	}()
	if diags.HasErrors() || !v.IsWhollyKnown() {
		return nil, false
	}
	if v.ContainsMarked() {
		rw.sensitive(e.Range())
		v, _ = v.UnmarkDeep()
	}
	return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: e.Range()}, true
}

// sensitive reports a secret, unless a part of the expression has been reported.
func (rw *rewriter) sensitive(rng hcl.Range) {
	const summary = "Sensitive value in an event's expression"
	for _, d := range rw.diags {
		if d.Summary == summary && d.Subject.Start.Byte >= rng.Start.Byte && d.Subject.End.Byte <= rng.End.Byte {
			return
		}
	}
	rw.fail(rng, summary,
		"This value is secret (it comes from env, file or sensitive). Conditions, order keys and messages are stored and "+
			"shown, so secrets belong in the sink's own block only.")
}

func (rw *rewriter) expr(e hclsyntax.Expression) hclsyntax.Expression {
	switch e.(type) {
	case *hclsyntax.AnonSymbolExpr, *hclsyntax.ExprSyntaxError:
		return e
	}
	rw.names(e)
	if !hasAnonymous(e) && rw.constant(e) {
		if lit, ok := rw.fold(e); ok {
			return lit
		}
	}
	return rw.children(e)
}

// hasAnonymous reports whether an expression holds the item of a splat that is around it.
func hasAnonymous(e hclsyntax.Expression) bool {
	made := map[*hclsyntax.AnonSymbolExpr]bool{}
	used := map[*hclsyntax.AnonSymbolExpr]bool{}
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.SplatExpr:
			made[n.Item] = true
		case *hclsyntax.AnonSymbolExpr:
			used[n] = true
		}
		return nil
	})
	for item := range used {
		if !made[item] {
			return true
		}
	}
	return false
}

// names checks the node e itself, where it is a name or a call. Of a constant expression it checks all children, too:
// they may be folded away.
func (rw *rewriter) names(e hclsyntax.Expression) {
	check := func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			if n == e {
				rw.scopeName(n)
			} else if _, ok := rw.set.consts[n.Traversal.RootName()]; ok {
				rw.constTraversal(n)
			}
		case *hclsyntax.FunctionCallExpr:
			rw.call(n)
		}
		return nil
	}
	if rw.constant(e) {
		_ = hclsyntax.VisitAll(e, check) // check collects what it finds by itself
	} else {
		_ = check(e)
	}
}

func (rw *rewriter) scopeName(e *hclsyntax.ScopeTraversalExpr) {
	name := e.Traversal.RootName()
	switch _, isConst := rw.set.consts[name]; {
	case rw.local(name), name == "event", name == "request":
	case isConst:
		rw.constTraversal(e)
	default:
		known := append(slices.Sorted(maps.Keys(rw.set.consts)), "event", "request")
		for _, s := range rw.scopes {
			known = append(known, slices.Sorted(maps.Keys(s))...)
		}
		rw.fail(e.Traversal[0].SourceRange(), "Unknown variable", "There is no variable named %q.%s",
			name, didYouMean(name, known))
	}
}

// constTraversal checks a reference to a constant: it must exist and not be secret.
func (rw *rewriter) constTraversal(e *hclsyntax.ScopeTraversalExpr) {
	v, diags := e.Traversal.TraverseAbs(rw.set.constCtx)
	for _, d := range diags {
		d.EvalContext, d.Expression = nil, nil
		rw.report(d)
	}
	if !diags.HasErrors() && v.ContainsMarked() {
		rw.sensitive(e.Range())
	}
}

// call checks the name of a function and how it may be used here.
func (rw *rewriter) call(e *hclsyntax.FunctionCallExpr) {
	if _, ok := rw.set.load[e.Name]; ok {
		for _, arg := range e.Args {
			if !rw.constant(arg) {
				rw.fail(e.Range(), "Function needs constants here",
					"%s() is evaluated once, when the configuration is loaded, so its arguments cannot depend on an event.", e.Name)
				return
			}
		}
		return
	}
	if _, ok := rw.set.functions[e.Name]; ok {
		return
	}
	detail := fmt.Sprintf("There is no function named %q.", e.Name)
	switch e.Name {
	case "now", "timestamp", "plantimestamp":
		detail += " Use request.received_at, so that a test or a replay gives the same result."
	case "env", "file", "sensitive":
		detail += " Values from outside are read when the configuration is loaded: put them in a locals block."
	default:
		detail += didYouMean(e.Name, slices.Sorted(maps.Keys(rw.set.functions)))
	}
	rw.fail(e.NameRange, "Call to unknown function", "%s", detail)
}

// children rebuilds a node from its rewritten children. Nothing of the original is changed.
func (rw *rewriter) children(e hclsyntax.Expression) hclsyntax.Expression {
	switch e := e.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		return rw.scope(e)
	case *hclsyntax.RelativeTraversalExpr:
		source := rw.expr(e.Source)
		if before, ok := source.(*refNode); ok {
			return rw.refer(e, append(slices.Clip(before.traversal), e.Traversal...))
		}
		return &travNode{Expression: e, source: source, steps: e.Traversal}
	case *hclsyntax.IndexExpr:
		return rw.index(e)
	case *hclsyntax.FunctionCallExpr:
		c := *e
		c.Args = rw.exprs(e.Args)
		if e.Name == "present" {
			return rw.present(e, &c)
		}
		if _, ok := rw.set.functions[e.Name]; !ok {
			if _, ok := rw.set.load[e.Name]; !ok || !rw.constant(e) {
				return &brokenNode{Expression: e, parts: c.Args} // reported
			}
		}
		return &c
	case *hclsyntax.ConditionalExpr:
		c := *e
		c.Condition, c.TrueResult, c.FalseResult = rw.expr(e.Condition), rw.expr(e.TrueResult), rw.expr(e.FalseResult)
		return &conditionalNode{&c}
	case *hclsyntax.TupleConsExpr:
		c := *e
		c.Exprs = rw.exprs(e.Exprs)
		return &c
	case *hclsyntax.ObjectConsExpr:
		c := *e
		c.Items = make([]hclsyntax.ObjectConsItem, len(e.Items))
		for i, item := range e.Items {
			c.Items[i] = hclsyntax.ObjectConsItem{KeyExpr: rw.key(item.KeyExpr), ValueExpr: rw.expr(item.ValueExpr)}
		}
		return &objectNode{&c}
	case *hclsyntax.ForExpr:
		c := *e
		c.CollExpr = rw.expr(e.CollExpr)
		rw.scopes = append(rw.scopes, map[string]bool{e.ValVar: true})
		if e.KeyVar != "" {
			rw.scopes[len(rw.scopes)-1][e.KeyVar] = true
		}
		c.ValExpr = rw.expr(e.ValExpr)
		if e.KeyExpr != nil {
			c.KeyExpr = rw.expr(e.KeyExpr)
		}
		if e.CondExpr != nil {
			c.CondExpr = rw.expr(e.CondExpr)
		}
		rw.scopes = rw.scopes[:len(rw.scopes)-1]
		return &c
	case *hclsyntax.SplatExpr:
		return &hclsyntax.SplatExpr{
			Source: rw.expr(e.Source), Each: rw.expr(e.Each), Item: e.Item, SrcRange: e.SrcRange, MarkerRange: e.MarkerRange,
		}
	case *hclsyntax.BinaryOpExpr:
		c := *e
		c.LHS, c.RHS = rw.expr(e.LHS), rw.expr(e.RHS)
		return &c
	case *hclsyntax.UnaryOpExpr:
		c := *e
		c.Val = rw.expr(e.Val)
		return &c
	case *hclsyntax.ParenthesesExpr:
		c := *e
		c.Expression = rw.expr(e.Expression)
		return &c
	case *hclsyntax.TemplateExpr:
		c := *e
		c.Parts = rw.exprs(e.Parts)
		return &c
	case *hclsyntax.TemplateJoinExpr:
		return &hclsyntax.TemplateJoinExpr{Tuple: rw.children(e.Tuple)}
	case *hclsyntax.TemplateWrapExpr:
		c := *e
		c.Wrapped = rw.expr(e.Wrapped)
		return &c
	case *hclsyntax.LiteralValueExpr:
		return e
	}
	rw.fail(e.Range(), "Unsupported expression", "Expressions of this kind (%T) are not supported here.", e)
	return &brokenNode{Expression: e}
}

func (rw *rewriter) exprs(es []hclsyntax.Expression) []hclsyntax.Expression {
	out := make([]hclsyntax.Expression, len(es))
	for i, e := range es {
		out[i] = rw.expr(e)
	}
	return out
}

// index rewrites an index. With a constant key it is one more step of the reference before it.
func (rw *rewriter) index(e *hclsyntax.IndexExpr) hclsyntax.Expression {
	n := &indexNode{Expression: e, coll: rw.expr(e.Collection), key: rw.expr(e.Key), rng: e.BracketRange}
	before, ok := n.coll.(*refNode)
	if !ok {
		return n
	}
	key, ok := n.key.(*hclsyntax.LiteralValueExpr)
	if !ok || key.Val.IsNull() || key.Val.Type() != cty.String && key.Val.Type() != cty.Number {
		return n
	}
	return rw.refer(e, append(slices.Clip(before.traversal), hcl.TraverseIndex{Key: key.Val, SrcRange: e.BracketRange}))
}

func (rw *rewriter) refer(e hclsyntax.Expression, t hcl.Traversal) hclsyntax.Expression {
	ref, diags := rw.set.resolve(t)
	for _, d := range diags {
		rw.report(d)
	}
	if diags.HasErrors() {
		return &brokenNode{Expression: e, traversal: t}
	}
	return &refNode{Expression: e, ref: ref, traversal: t}
}

func (rw *rewriter) scope(e *hclsyntax.ScopeTraversalExpr) hclsyntax.Expression {
	name := e.Traversal.RootName()
	if rw.local(name) {
		return &travNode{Expression: e, name: name, steps: e.Traversal[1:]}
	}
	if name != "event" && name != "request" {
		if _, diags := e.Traversal.TraverseAbs(rw.set.constCtx); !diags.HasErrors() {
			rw.fail(e.Range(), "Unknown value", "%s is not known.", traversalText(e.Traversal))
		}
		return &brokenNode{Expression: e} // reported
	}
	return rw.refer(e, e.Traversal)
}

func (rw *rewriter) present(e, c *hclsyntax.FunctionCallExpr) hclsyntax.Expression {
	if len(c.Args) != 1 || c.ExpandFinal {
		rw.fail(e.Range(), "Wrong number of arguments", "present takes one reference, as in present(event.data.name).")
		return &brokenNode{Expression: e, parts: c.Args}
	}
	arg := c.Args[0]
	for {
		p, ok := arg.(*hclsyntax.ParenthesesExpr)
		if !ok {
			break
		}
		arg = p.Expression
	}
	switch a := arg.(type) {
	case *refNode:
		return &presentNode{FunctionCallExpr: c, arg: a}
	case *travNode:
		if a.bare() {
			return &presentNode{FunctionCallExpr: c, arg: a}
		}
	}
	if _, broken := arg.(*brokenNode); !broken {
		rw.fail(e.Args[0].Range(), "present needs a reference",
			"present tells whether a field exists, so it takes a reference such as event.data.name, not a computed value.")
	}
	return &brokenNode{Expression: e, parts: c.Args}
}

// argument rewrites an expression and folds constants below its outer constructors only.
func (rw *rewriter) argument(e hclsyntax.Expression) hclsyntax.Expression {
	switch e := e.(type) {
	case *hclsyntax.ObjectConsExpr:
		c := *e
		c.Items = make([]hclsyntax.ObjectConsItem, len(e.Items))
		for i, item := range e.Items {
			c.Items[i] = hclsyntax.ObjectConsItem{KeyExpr: rw.key(item.KeyExpr), ValueExpr: rw.argument(item.ValueExpr)}
		}
		return &objectNode{&c}
	case *hclsyntax.TupleConsExpr:
		c := *e
		c.Exprs = make([]hclsyntax.Expression, len(e.Exprs))
		for i, el := range e.Exprs {
			c.Exprs[i] = rw.argument(el)
		}
		return &c
	case *hclsyntax.ParenthesesExpr:
		return rw.argument(e.Expression)
	}
	return rw.expr(e)
}

// key rewrites the key of an object constructor. A naked word is a key, not a reference.
func (rw *rewriter) key(e hclsyntax.Expression) hclsyntax.Expression {
	k, ok := e.(*hclsyntax.ObjectConsKeyExpr)
	if !ok {
		return rw.expr(e)
	}
	if !k.ForceNonLiteral {
		if hcl.ExprAsKeyword(k.Wrapped) != "" {
			return k
		}
		if t, ok := k.Wrapped.(*hclsyntax.ScopeTraversalExpr); ok && len(t.Traversal) > 1 {
			return k // hcl refuses it, and says why
		}
	}
	return &hclsyntax.ObjectConsKeyExpr{Wrapped: rw.expr(k.Wrapped), ForceNonLiteral: true}
}

// uniform is the escape of every text that a value of a schema holds; ok is false if that differs from place to place.
func uniform(s *sdk.Schema) (how sdk.Escape, ok bool) {
	for s.Element != nil {
		s = s.Element
	}
	return s.Escape, s.Kind != sdk.KindObject
}

// escaped adds escaping to a rewritten expression: to every part that comes from the event, not to the author's own
// text. It goes into what only puts values together, so that author's and event's texts in one list or object stay
// apart; whatever else is computed is escaped as a whole. raw() opts out.
func escaped(e hclsyntax.Expression, how sdk.Escape) hclsyntax.Expression {
	if how == sdk.EscapeNone {
		return e
	}
	all := func(es []hclsyntax.Expression) []hclsyntax.Expression {
		out := make([]hclsyntax.Expression, len(es))
		for i, e := range es {
			out[i] = escaped(e, how)
		}
		return out
	}
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return e
	case *hclsyntax.TemplateExpr:
		c := *e
		c.Parts = all(e.Parts)
		return &c
	case *hclsyntax.TemplateWrapExpr:
		c := *e
		c.Wrapped = escaped(e.Wrapped, how)
		return &c
	case *hclsyntax.ParenthesesExpr:
		c := *e
		c.Expression = escaped(e.Expression, how)
		return &c
	case *conditionalNode:
		c := *e.ConditionalExpr
		c.TrueResult, c.FalseResult = escaped(e.TrueResult, how), escaped(e.FalseResult, how)
		return &conditionalNode{&c}
	case *hclsyntax.TemplateJoinExpr:
		f, ok := e.Tuple.(*hclsyntax.ForExpr)
		if !ok {
			return e // folded: the author's own text
		}
		c := *f
		c.ValExpr = escaped(f.ValExpr, how)
		return &hclsyntax.TemplateJoinExpr{Tuple: &c}
	case *hclsyntax.ForExpr:
		c := *e
		c.ValExpr = escaped(e.ValExpr, how)
		return &c
	case *hclsyntax.TupleConsExpr:
		c := *e
		c.Exprs = all(e.Exprs)
		return &c
	case *objectNode:
		c := *e.ObjectConsExpr
		c.Items = make([]hclsyntax.ObjectConsItem, len(e.Items))
		for i, item := range e.Items {
			c.Items[i] = hclsyntax.ObjectConsItem{KeyExpr: item.KeyExpr, ValueExpr: escaped(item.ValueExpr, how)}
		}
		return &objectNode{&c}
	case *hclsyntax.FunctionCallExpr:
		if e.ExpandFinal && e.Name != "concat" && e.Name != "merge" {
			break
		}
		switch e.Name {
		case "raw":
			if len(e.Args) == 1 {
				return e.Args[0]
			}
		case "try", "coalesce", "coalescelist", "concat", "flatten", "merge", "compact", "join", "format":
			c := *e
			c.Args = all(e.Args)
			return &c
		}
	}
	return &escapeNode{Expression: e, how: how}
}
