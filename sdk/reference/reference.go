// Package reference writes what schemas say as Markdown tables, in the words of docs/config.md. The conformance kit keeps
// the READMEs of plugins so, and the host's command "docs" writes references.
package reference

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// Config is the table of a configuration, or a sentence that there is nothing in it.
func Config(s *sdk.Schema) string {
	return table(s, false, "It has no settings of its own.\n")
}

// Message is the table of a sink's message, or a sentence that there is nothing in it.
func Message(s *sdk.Schema) string { return table(s, true, "The message has no attributes.\n") }

func table(s *sdk.Schema, nulls bool, empty string) string {
	if len(s.Attributes) == 0 {
		return empty
	}
	var b strings.Builder
	b.WriteString("| attribute | type | default | meaning |\n|---|---|---|---|\n")
	rows(s, "", func(name string, s *sdk.Schema) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, typeName(s, nulls), defaultText(s), cell(s.Description))
	})
	return b.String()
}

// Data is the table of an event's data, or a sentence that nothing is known about it.
func Data(s *sdk.Schema) string {
	if len(s.Attributes) == 0 {
		return "Its fields are not declared.\n"
	}
	var b strings.Builder
	b.WriteString("| field | type | meaning |\n|---|---|---|\n")
	rows(s, "", func(name string, s *sdk.Schema) {
		kind := typeName(s, true)
		if s.Optional {
			kind += ", may be missing"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", code(name), kind, cell(s.Description))
	})
	return b.String()
}

// rows calls row for every attribute of an object, and after it for those of the objects in it: "a.b" of an object, "a[].b"
// of a list of objects, "a.*.b" of a map of them.
func rows(s *sdk.Schema, prefix string, row func(name string, s *sdk.Schema)) {
	for i := range s.Attributes {
		a := &s.Attributes[i]
		name := prefix + a.Name
		row(name, &a.Schema)
		inner := &a.Schema
		for inner.Element != nil {
			if inner.Kind == sdk.KindList {
				name += "[]"
			} else {
				name += ".*"
			}
			inner = inner.Element
		}
		rows(inner, name+".", row)
	}
}

// typeName says what a value may be. nulls: null is a value of its own where it is allowed; in a configuration it never is.
func typeName(s *sdk.Schema, nulls bool) string {
	name := kindText(s, nulls)
	if inner := innermost(s); inner.Escape != sdk.EscapeNone {
		name += fmt.Sprintf(", escaped (`%s`)", inner.Escape)
	}
	if s.Sensitive {
		name += ", secret"
	}
	return name
}

func innermost(s *sdk.Schema) *sdk.Schema {
	for s.Element != nil {
		s = s.Element
	}
	return s
}

func kindText(s *sdk.Schema, nulls bool) string {
	text := string(s.Kind)
	switch s.Kind {
	case sdk.KindString:
		text = "text"
		if s.Format == sdk.FormatPath {
			text = "path"
		}
		if len(s.Enum) > 0 {
			words := make([]string, len(s.Enum))
			for i, w := range s.Enum {
				words[i] = code(quote(w))
			}
			text = strings.Join(words, ", ")
		}
	case sdk.KindBool:
		text = "true or false"
	case sdk.KindList, sdk.KindMap:
		text += " of " + kindText(s.Element, nulls)
	}
	if nulls && s.Nullable && s.Kind != sdk.KindAny {
		text += " or null"
	}
	return text
}

// defaultText is "required", the default as it would be written in a configuration, or nothing.
func defaultText(s *sdk.Schema) string {
	switch {
	case !s.Optional:
		return "required"
	case s.Default == nil:
		return ""
	}
	text := string(s.Default)
	var d time.Duration
	if s.Kind == sdk.KindDuration && json.Unmarshal(s.Default, &d) == nil {
		text = quote(durationText(d))
	}
	return code(text)
}

// durationText is 1h30m, not 1h30m0s.
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func quote(s string) string { return `"` + s + `"` }

func code(s string) string { return "`" + strings.ReplaceAll(s, "|", `\|`) + "`" }

// cell is a text within a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "|", `\|`), "\n", " ")
}
