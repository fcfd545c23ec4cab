package expr

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Error is why an expression could not be evaluated for an event. It holds no values of the event.
type Error struct {
	Summary string   `json:"summary"`          // one line
	Detail  string   `json:"detail,omitempty"` // may be empty
	Range   string   `json:"range"`            // file:line,column-column of the expression
	Path    []string `json:"path,omitempty"`   // Message: the attribute, outermost first
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Range)
	b.WriteString(": ")
	if len(e.Path) > 0 {
		b.WriteString(strings.Join(e.Path, "."))
		b.WriteString(": ")
	}
	b.WriteString(e.Summary)
	if e.Detail != "" {
		b.WriteString("; ")
		b.WriteString(e.Detail)
	}
	return b.String()
}

// evalError makes an Error of what hcl reports about one evaluation: its first error.
func evalError(diags hcl.Diagnostics, rng hcl.Range) *Error {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		e := &Error{Summary: d.Summary, Detail: scrub(withoutPanic(d.Detail)), Range: rng.String()}
		if d.Subject != nil {
			e.Range = d.Subject.String()
		}
		if d.Summary == nullPart {
			part := d.Expression
			if esc, ok := part.(*escapeNode); ok {
				part = esc.Expression
			}
			if ref, ok := part.(*refNode); ok {
				e.Detail = ref.ref.text + " is null here. Guard it, for instance with coalesce or a conditional."
			}
		}
		return e
	}
	return &Error{Summary: "Evaluation failed", Range: rng.String()}
}

// withoutPanic cuts the stack trace that cty makes part of an error where one of its functions panics.
func withoutPanic(detail string) string {
	before, _, found := strings.Cut(detail, "panic in function implementation: ")
	if !found {
		return detail
	}
	return before + "it cannot work on values of these types."
}

// nullPart is what hcl says about a null in a template, whose detail then does not name it.
const nullPart = "Invalid template interpolation value"

var quoted = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`")

// scrub takes out of an hcl detail what may be a value of the event: all that stands in quotes, except names of
// functions and parameters, which hcl puts in fixed places.
func scrub(detail string) string {
	var b strings.Builder
	rest := detail
	for {
		at := quoted.FindStringIndex(rest)
		if at == nil {
			break
		}
		before, text := rest[:at[0]], rest[at[0]:at[1]]
		b.WriteString(before)
		named := strings.HasSuffix(before, "Invalid value for ") || strings.HasSuffix(before, "unction ") ||
			strings.HasSuffix(before, "unction named ")
		if !named {
			text = `"…"`
		}
		b.WriteString(text)
		rest = rest[at[1]:]
	}
	b.WriteString(rest)
	// An unbalanced quote may be the start of a cut value.
	s := b.String()
	if strings.Count(s, `"`)%2 == 1 {
		s = s[:strings.LastIndexByte(s, '"')] + "…"
	}
	return s
}

func errorAt(rng hcl.Range, summary, format string, args ...any) *Error {
	return &Error{Summary: summary, Detail: fmt.Sprintf(format, args...), Range: rng.String()}
}
