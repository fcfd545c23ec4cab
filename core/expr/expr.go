// Package expr compiles the expressions of a configuration that are evaluated per event (`when`, `order_by` and the
// arguments of `to` blocks) and evaluates them.
//
// The language is HCL's, with the listed exceptions: a traversal through null or to an absent member is null; a bare
// reference passes the payload's JSON token untouched into a message; a member of an object constructor that is a bare
// reference to an absent field is left out; and the parts of a template are escaped as the message's schema asks.
//
// One Set is made per configuration. Compile everything first, from one goroutine; then make Records, one per goroutine
// that evaluates, and Reset them from event to event. Compiled expressions may be evaluated from any number of goroutines
// at once, each with a Record of its own.
//
// Common expressions run as Go closures on the raw bytes of the event. Whatever those do not cover, and whatever goes
// wrong in them, is evaluated once more by hcl itself on cty values of just the fields that the expression names: hcl is
// the authority, the closures are its fast path.
package expr

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// Sensitive marks cty values that are secret. Package config puts it on what env(), file() and sensitive() return and on
// locals made from it; a Set refuses such values in every expression it compiles.
const Sensitive = sensitiveMark("sensitive")

type sensitiveMark string

// Set is the expressions of one configuration. The methods that compile are called from one goroutine, before the first
// Record is made.
type Set struct{}

// NewSet makes a Set. The variables of its expressions are event, request and consts, which holds the values known at
// load time ("local" → an object). loadFunctions are functions beyond Functions that may be called with constant
// arguments only (env, file, sensitive …); they are called while compiling, never per event. It may be nil.
func NewSet(consts map[string]cty.Value, loadFunctions map[string]function.Function) *Set { return &Set{} }

// Condition is a compiled `when`.
type Condition struct{}

// Condition compiles an expression that is true or false.
func (s *Set) Condition(e hcl.Expression) (*Condition, hcl.Diagnostics) { return &Condition{}, nil }

// Eval evaluates the condition for the record's event. An error is an *Error; it never counts as false.
func (c *Condition) Eval(rec *Record) (bool, error) { return false, nil }

// Text is a compiled `order_by`.
type Text struct{}

// Text compiles an expression that is a string or null; numbers and bools convert.
func (s *Set) Text(e hcl.Expression) (*Text, hcl.Diagnostics) { return &Text{}, nil }

// Eval evaluates the text for the record's event; ok is false if it is null. An error is an *Error.
func (t *Text) Eval(rec *Record) (text string, ok bool, err error) { return "", false, nil }

// Message is the compiled arguments of a `to` block.
type Message struct{}

// Message compiles the attributes of a `to` block against the message schema of its sink, an object. It reports every
// unknown, missing and ill-typed attribute that is visible without an event. block is where a missing attribute is reported.
func (s *Set) Message(attrs map[string]*hcl.Attribute, schema *sdk.Schema, block hcl.Range) (*Message, hcl.Diagnostics) {
	return &Message{}, nil
}

// Append renders the message for the record's event as a JSON object that meets the schema, and appends it to dst. An
// error is an *Error whose Path names the attribute; dst is then returned as it was given.
func (m *Message) Append(dst []byte, rec *Record) ([]byte, error) { return append(dst, "{}"...), nil }

// Record is the event that expressions are evaluated against. It is used by one goroutine at a time and reused from event
// to event.
type Record struct{}

// NewRecord makes a Record for the expressions that the Set has compiled by now.
func (s *Set) NewRecord() *Record { return &Record{} }

// Reset points the record at another event and the request it came in. Both, with all they refer to, must stay unchanged
// until the next Reset; Reset(nil, nil) lets go of them. Event.Data and Event.Changes must have passed jsonscan.Check.
func (r *Record) Reset(ev *core.Event, req *core.Request) {}

// Error is why an expression could not be evaluated for an event. It holds no values of the event.
type Error struct {
	Summary string   // one line
	Detail  string   // may be empty
	Range   string   // file:line,column-column of the expression
	Path    []string // Message: the attribute, outermost first
}

// Error implements error.
func (e *Error) Error() string { return e.Summary }

// Functions returns a new table of the functions that every expression may call. Package config adds its own for
// expressions that are evaluated at load.
func Functions() map[string]function.Function { return map[string]function.Function{} }
