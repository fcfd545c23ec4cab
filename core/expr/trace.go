package expr

import (
	"encoding/json"
	"regexp"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/sdk"
)

// Step is an expression, or a part of one, with what became of it for one event. It holds no secret: no expression on
// events can.
type Step struct {
	Source string   `json:"source"`          // as it is written, on one line
	Range  string   `json:"range,omitempty"` // file:line,column-column; empty for what stands in no file
	Kind   StepKind `json:"kind"`
	Op     string   `json:"op,omitempty"` // of a comparison or operation its sign, of a call the function's name

	// Value is the result as JSON. There is none where the evaluation failed, and where it has more than MaxStepValue
	// bytes.
	Value  json.RawMessage `json:"value,omitempty"`
	Bytes  int             `json:"bytes,omitempty"`  // of a value that is too long to be here
	Absent bool            `json:"absent,omitempty"` // a reference that leads to nothing, which makes it null
	Error  *Error          `json:"error,omitempty"`

	// Unused is a part that did not decide: what follows a deciding side of && or ||, and the branch of ?: that was not
	// taken. Its error, if it has one, is none of the whole.
	Unused bool   `json:"unused,omitempty"`
	Steps  []Step `json:"steps,omitempty"` // the parts that are no plain constants, in the order of the source
}

// StepKind is what an expression does.
type StepKind string

// The kinds of steps.
const (
	StepAnd         StepKind = "and" // of all its parts: a && b && c is one step
	StepOr          StepKind = "or"  // likewise
	StepNot         StepKind = "not" // !x
	StepComparison  StepKind = "comparison"
	StepOperation   StepKind = "operation" // arithmetic
	StepConditional StepKind = "conditional"
	StepCall        StepKind = "call"
	StepReference   StepKind = "reference" // to the event or request
	StepConstant    StepKind = "constant"  // known at load; a local, for instance
	StepText        StepKind = "text"      // a template
	StepList        StepKind = "list"
	StepObject      StepKind = "object"
	StepFor         StepKind = "for" // and splats: only what is walked through is a part
	StepIndex       StepKind = "index"
)

// MaxStepValue is the longest value of a Step, in bytes of JSON.
const MaxStepValue = 16 << 10

// maxTraced bounds the parts of one expression that are evaluated, and how often the bounds of one evaluation may be
// spent on all of them together.
const (
	maxTraced  = 2000
	maxBudgets = 4
)

// Argument is one attribute of a message.
type Argument struct {
	Name string `json:"name"`
	Step Step   `json:"step"`
}

// SetSources gives the Set the text of the files that its expressions stand in, by the names that their ranges have.
// Only traces need it. It is called before the first Record is made; the texts must not change.
func (s *Set) SetSources(files map[string][]byte) { s.sources = files }

// Trace evaluates the condition and each of its parts for the record's event.
func (c *Condition) Trace(rec *Record) Step { return rec.trace(c.expr) }

// Trace evaluates the text and each of its parts for the record's event.
func (t *Text) Trace(rec *Record) Step { return rec.trace(t.expr) }

// Trace evaluates the message's attributes and each of their parts for the record's event, in the order in which they
// are written. The values are those before the schema converts and escapes them.
func (m *Message) Trace(rec *Record) []Argument {
	args := make([]Argument, len(m.args))
	for i, a := range m.args {
		args[i] = Argument{a.name, rec.trace(a.expr)}
	}
	return args
}

// tracer makes the steps of one expression.
type tracer struct {
	*Record
	left         int // parts that may be evaluated
	steps, bytes int // what they may spend
}

func (r *Record) trace(e hclsyntax.Expression) Step {
	t := &tracer{r, maxTraced, maxBudgets * maxSteps, maxBudgets * maxBytes}
	return t.step(e)
}

// step evaluates an expression and then its parts.
func (t *tracer) step(e hclsyntax.Expression) Step {
	e = bare(e)
	s := Step{Source: t.source(e)}
	if rng := e.Range(); t.set.sources[rng.Filename] != nil {
		s.Range = rng.String()
	}
	var parts []hclsyntax.Expression
	s.Kind, s.Op, parts = anatomy(e)
	t.evaluate(&s, e)
	used := func(int) bool { return true }
	switch c := e.(type) {
	case *conditionalNode:
		if v, ok := t.quiet(c.Condition); ok {
			taken := 2
			if v == yes {
				taken = 1
			}
			used = func(i int) bool { return i == 0 || i == taken }
		}
	case *hclsyntax.BinaryOpExpr:
		if s.Kind == StepAnd || s.Kind == StepOr {
			decided := -1
			used = func(i int) bool { return decided < 0 || i <= decided }
			for i, p := range parts {
				if v, ok := t.quiet(p); ok && decided < 0 && (v == yes) == (s.Kind == StepOr) {
					decided = i
				}
			}
		}
	}
	for i, p := range parts {
		if !t.telling(p) {
			continue
		}
		part := t.step(p)
		if !used(i) {
			part.unuse()
		}
		s.Steps = append(s.Steps, part)
	}
	return s
}

// unuse marks a step and all its parts as unused.
func (s *Step) unuse() {
	s.Unused = true
	for i := range s.Steps {
		s.Steps[i].unuse()
	}
}

// bare takes off what computes nothing.
func bare(e hclsyntax.Expression) hclsyntax.Expression {
	for {
		switch x := e.(type) {
		case *hclsyntax.ParenthesesExpr:
			e = x.Expression
		case *hclsyntax.TemplateWrapExpr:
			e = x.Wrapped
		case *hclsyntax.ObjectConsKeyExpr:
			e = x.Wrapped
		case *escapeNode:
			e = x.Expression
		default:
			return e
		}
	}
}

// anatomy says what an expression does, and of which parts it is made that can be evaluated on their own.
func anatomy(e hclsyntax.Expression) (kind StepKind, op string, parts []hclsyntax.Expression) {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return StepConstant, "", nil
	case *refNode:
		return StepReference, "", nil
	case *travNode:
		if e.source != nil {
			parts = append(parts, e.source)
		}
		return StepReference, "", parts
	case *indexNode:
		return StepIndex, "", []hclsyntax.Expression{e.coll, e.key}
	case *presentNode:
		return StepCall, e.Name, []hclsyntax.Expression{e.arg}
	case *hclsyntax.FunctionCallExpr:
		return StepCall, e.Name, e.Args
	case *hclsyntax.UnaryOpExpr:
		if e.Op == hclsyntax.OpLogicalNot {
			return StepNot, "", []hclsyntax.Expression{e.Val}
		}
		return StepOperation, "-", []hclsyntax.Expression{e.Val}
	case *hclsyntax.BinaryOpExpr:
		kind, op = operator(e.Op)
		if kind == StepAnd || kind == StepOr {
			return kind, op, chain(nil, e, e.Op)
		}
		return kind, op, []hclsyntax.Expression{e.LHS, e.RHS}
	case *conditionalNode:
		return StepConditional, "", []hclsyntax.Expression{e.Condition, e.TrueResult, e.FalseResult}
	case *hclsyntax.TemplateExpr:
		return StepText, "", e.Parts
	case *hclsyntax.TemplateJoinExpr:
		_, _, parts = anatomy(e.Tuple)
		return StepFor, "", parts
	case *hclsyntax.TupleConsExpr:
		return StepList, "", e.Exprs
	case *objectNode:
		for _, item := range e.Items {
			parts = append(parts, item.ValueExpr)
		}
		return StepObject, "", parts
	case *hclsyntax.ForExpr:
		return StepFor, "", []hclsyntax.Expression{e.CollExpr}
	case *hclsyntax.SplatExpr:
		return StepFor, "", []hclsyntax.Expression{e.Source}
	}
	return StepOperation, "", nil
}

// chain lists the operands of one operator that follows itself: a && b && c is parsed as (a && b) && c.
func chain(dst []hclsyntax.Expression, e hclsyntax.Expression, op *hclsyntax.Operation) []hclsyntax.Expression {
	if b, ok := bare(e).(*hclsyntax.BinaryOpExpr); ok && b.Op == op {
		return chain(chain(dst, b.LHS, op), b.RHS, op)
	}
	return append(dst, e)
}

func operator(op *hclsyntax.Operation) (StepKind, string) {
	switch op {
	case hclsyntax.OpLogicalAnd:
		return StepAnd, ""
	case hclsyntax.OpLogicalOr:
		return StepOr, ""
	case hclsyntax.OpEqual:
		return StepComparison, "=="
	case hclsyntax.OpNotEqual:
		return StepComparison, "!="
	case hclsyntax.OpLessThan:
		return StepComparison, "<"
	case hclsyntax.OpLessThanOrEqual:
		return StepComparison, "<="
	case hclsyntax.OpGreaterThan:
		return StepComparison, ">"
	case hclsyntax.OpGreaterThanOrEqual:
		return StepComparison, ">="
	case hclsyntax.OpAdd:
		return StepOperation, "+"
	case hclsyntax.OpSubtract:
		return StepOperation, "-"
	case hclsyntax.OpMultiply:
		return StepOperation, "*"
	case hclsyntax.OpDivide:
		return StepOperation, "/"
	case hclsyntax.OpModulo:
		return StepOperation, "%"
	}
	return StepOperation, ""
}

// telling reports whether a part says more than its source does: a literal that is written out does not, and neither
// does a variable of a for expression, which has no value outside.
func (t *tracer) telling(e hclsyntax.Expression) bool {
	switch e := bare(e).(type) {
	case *hclsyntax.LiteralValueExpr:
		for name := range t.set.consts {
			if named, err := regexp.MatchString(`\b`+regexp.QuoteMeta(name)+`\s*[.\[]`, t.source(e)); named && err == nil {
				return true
			}
		}
		return false
	case *travNode:
		return e.source != nil
	case *hclsyntax.AnonSymbolExpr:
		return false
	}
	return true
}

// evaluate fills in the value of a step.
func (t *tracer) evaluate(s *Step, e hclsyntax.Expression) {
	t.left--
	if t.left < 0 || t.steps < 0 || t.bytes < 0 {
		s.Error = errorAt(e.Range(), "Not evaluated", "The expression has too many parts, or they do too much.")
		return
	}
	t.arena = t.arena[:0]
	v, err := t.hclValue(e)
	t.steps -= maxSteps - t.Record.steps
	t.bytes -= maxBytes - t.Record.bytes
	if err != nil {
		s.Error = err
		return
	}
	if ref, ok := e.(*refNode); ok {
		// The payload's own spelling. A value that the host adds up (has_old …) has one, too.
		if _, found, _ := t.ctyValue(ref.ref); !found {
			s.Absent = true
		} else if tok, st, _ := t.refToken(ref.ref); st == present {
			s.set(tok)
			return
		}
	}
	s.set(jsonOf(v))
}

func (s *Step) set(value []byte) {
	if len(value) > MaxStepValue {
		s.Bytes = len(value)
		return
	}
	s.Value = append(json.RawMessage{}, value...)
}

// jsonOf is a value as JSON.
func jsonOf(v cty.Value) []byte {
	if v.IsNull() {
		return jsonNull
	}
	out, bad := appendCty(nil, v, &sdk.Schema{Kind: sdk.KindAny}, false)
	if bad != nil { // a capsule, or an infinite number: nothing that JSON has
		return jsonNull
	}
	return out
}

// quiet evaluates a part that is true or false; not ok: it fails, or is neither.
func (t *tracer) quiet(e hclsyntax.Expression) (truth, bool) {
	if t.left < 0 || t.steps < 0 || t.bytes < 0 {
		return no, false
	}
	t.left--
	t.arena = t.arena[:0]
	v, err := t.hclValue(e)
	t.steps -= maxSteps - t.Record.steps
	t.bytes -= maxBytes - t.Record.bytes
	if err != nil || v.IsNull() {
		return no, false
	}
	x, ok := fromCty(v)
	if !ok {
		return no, false
	}
	b := x.truth()
	return b, b != bail
}

// lineBreak is a line's end with the white space around it.
var lineBreak = regexp.MustCompile(`\s*\n\s*`)

// source is an expression as it is written, on one line.
func (t *tracer) source(e hclsyntax.Expression) string {
	rng := e.Range()
	if src := t.set.sources[rng.Filename]; rng.CanSliceBytes(src) {
		return lineBreak.ReplaceAllString(string(rng.SliceBytes(src)), " ")
	}
	if ref, ok := e.(*refNode); ok {
		return ref.ref.text
	}
	return ""
}
