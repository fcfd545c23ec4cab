package core

import (
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

// Trace is the place of a request in a distributed trace: a W3C traceparent and, after a space, its tracestate if there is
// one. It names the span of the acceptance; what happens to the request afterwards, however late, is below that. Empty: the
// request is in no trace.
type Trace string

// Parent is the traceparent.
func (t Trace) Parent() string {
	parent, _, _ := strings.Cut(string(t), " ")
	return parent
}

// State is the tracestate.
func (t Trace) State() string {
	_, state, _ := strings.Cut(string(t), " ")
	return state
}

// ID is the id of the trace, 32 hexadecimal digits; empty: none.
func (t Trace) ID() string {
	const from, to = len("00-"), len("00-") + 32
	if len(t) < to {
		return ""
	}
	return string(t[from:to])
}

// Log returns the arguments of a log line about what is traced: args, and trace_id if there is one.
func (t Trace) Log(args ...any) []any {
	if id := t.ID(); id != "" {
		return append(args, "trace_id", id)
	}
	return args
}

// Span is a step of the work on one item that a plugin measured.
type Span struct {
	Plugin, Version string // whose
	sdk.Span
}
