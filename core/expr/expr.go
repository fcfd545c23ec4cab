// Package expr compiles the expressions of a configuration that are evaluated per event (`when`, `order_by` and the
// arguments of `to` blocks) and evaluates them.
//
// The language is HCL's, with the listed exceptions: a traversal through null or to an absent member is null; a bare
// reference passes the payload's JSON token untouched into a message; a member of an object constructor that is a
// bare reference to an absent field is left out; and the parts of a template are escaped as the message's schema
// asks.
//
// One Set is made per configuration. Compile everything first, from one goroutine; then make Records, one per
// goroutine that evaluates, and Reset them from event to event. Compiled expressions may be evaluated from any number
// of goroutines at once, each with a Record of its own.
//
// Common expressions run as Go closures on the raw bytes of the event. Whatever those do not cover, and whatever goes
// wrong in them, is evaluated once more by hcl itself on cty values of just the fields that the expression names: hcl
// is the authority, the closures are its fast path.
//
// A Checker looks at what was compiled with the types of the events that it meets, before the first of them comes.
package expr

import (
	"maps"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/grapnelhq/grapnel/core/jsonscan"
)

// Sensitive marks cty values that are secret. Package config puts it on what env(), file() and sensitive() return and
// on locals made from it; a Set refuses such values, and those with any other mark, in every expression it compiles.
const Sensitive = sensitiveMark("sensitive")

type sensitiveMark string

// Set is the expressions of one configuration. The methods that compile are called from one goroutine, before the first
// Record is made.
type Set struct {
	consts    map[string]cty.Value
	load      map[string]function.Function // callable with constants only
	functions map[string]function.Function // callable at any time
	constCtx  *hcl.EvalContext             // consts and all functions
	data      *jsonscan.Paths              // into Event.Data
	changes   *jsonscan.Paths              // into Event.Changes

	sources map[string][]byte // files by name, for traces

	hclOnly bool // tests: no closures
}

// NewSet makes a Set. The variables of its expressions are event, request and consts, which holds the values known at
// load time ("local" → an object). loadFunctions are functions beyond Functions that may be called with constant
// arguments only (env, file, sensitive …); they are called while compiling, never per event. It may be nil.
func NewSet(consts map[string]cty.Value, loadFunctions map[string]function.Function) *Set {
	s := &Set{
		consts:    consts,
		load:      loadFunctions,
		functions: Functions(),
		data:      jsonscan.NewPaths(),
		changes:   jsonscan.NewPaths(),
	}
	all := maps.Clone(s.functions)
	maps.Copy(all, loadFunctions)
	s.constCtx = &hcl.EvalContext{Variables: consts, Functions: all}
	return s
}

// Condition is a compiled `when`.
type Condition struct {
	expr hclsyntax.Expression
	fast boolFunc // nil: hcl only
}

// Condition compiles an expression that is true or false. One with errors is for a Checker only; it can be nil.
func (s *Set) Condition(e hcl.Expression) (*Condition, hcl.Diagnostics) {
	out, known, diags := s.rewrite(e, false)
	if out == nil {
		return nil, diags
	}
	if diags.HasErrors() {
		return &Condition{expr: out}, diags
	}
	if d := mustConvert(known, cty.Bool, e.Range(), "a condition is true or false"); d != nil {
		return nil, append(diags, d)
	}
	return &Condition{expr: out, fast: s.compileBool(out)}, diags
}

// Constant reports whether the condition depends on neither the event nor the request.
func (c *Condition) Constant() bool {
	_, ok := c.expr.(*hclsyntax.LiteralValueExpr)
	return ok
}

// mustConvert reports a value that cannot become one of the type, as far as that is known without an event.
func mustConvert(known cty.Value, ty cty.Type, rng hcl.Range, want string) *hcl.Diagnostic {
	if known.IsNull() && known.IsKnown() {
		return &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Null is no value here", Detail: "This is always null, but " + want + ".",
			Subject: &rng,
		}
	}
	if _, err := convert.Convert(known, ty); err != nil {
		return &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Wrong type",
			Detail:  "This is " + article(known.Type().FriendlyName()) + ", but " + want + ".",
			Subject: &rng,
		}
	}
	return nil
}

func article(noun string) string {
	switch noun[0] {
	case 'a', 'e', 'i', 'o', 'u':
		return "an " + noun
	}
	return "a " + noun
}

// Eval evaluates the condition for the record's event. An error is an *Error; it never counts as false.
func (c *Condition) Eval(rec *Record) (bool, error) {
	rec.arena = rec.arena[:0]
	if c.fast != nil {
		if b := rec.runBool(c.fast); b != bail {
			return b == yes, nil
		}
	}
	v, err := rec.hclValue(c.expr)
	if err != nil {
		return false, err
	}
	if v.IsNull() {
		return false, errorAt(c.expr.Range(), "Condition is null",
			"It must be true or false. Guard it, for instance with coalesce.")
	}
	b, cerr := convert.Convert(v, cty.Bool)
	if cerr != nil {
		return false, errorAt(c.expr.Range(), "Condition has the wrong type", "It must be true or false, but it is %s.",
			article(v.Type().FriendlyName()))
	}
	return b.True(), nil
}

// Text is a compiled `order_by`.
type Text struct {
	expr hclsyntax.Expression
	fast valueFunc // nil: hcl only
}

// Text compiles an expression that is a string or null; numbers and bools convert. One with errors is for a Checker only;
// it can be nil.
func (s *Set) Text(e hcl.Expression) (*Text, hcl.Diagnostics) {
	out, known, diags := s.rewrite(e, false)
	if out == nil {
		return nil, diags
	}
	if diags.HasErrors() {
		return &Text{expr: out}, diags
	}
	if !known.IsNull() {
		if d := mustConvert(known, cty.String, e.Range(), "a text is required"); d != nil {
			return nil, append(diags, d)
		}
	}
	return &Text{expr: out, fast: s.compile(out).fn}, diags
}

// Eval evaluates the text for the record's event; ok is false if it is null. An error is an *Error.
func (t *Text) Eval(rec *Record) (text string, ok bool, err error) {
	rec.arena = rec.arena[:0]
	if t.fast != nil {
		if v, ok := rec.runValue(t.fast); ok && v.kind <= kindString {
			if v.kind == kindNull {
				return "", false, nil
			}
			return string(v.appendText(nil)), true, nil
		}
	}
	v, e := rec.hclValue(t.expr)
	if e != nil {
		return "", false, e
	}
	if v.IsNull() {
		return "", false, nil
	}
	s, cerr := convert.Convert(v, cty.String)
	if cerr != nil {
		return "", false, errorAt(t.expr.Range(), "Wrong type", "A text is required, but this is %s.",
			article(v.Type().FriendlyName()))
	}
	return s.AsString(), true, nil
}
