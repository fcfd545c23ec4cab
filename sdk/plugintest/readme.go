package plugintest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

// update is the flag of all tests that import this package.
var update = flag.Bool("update", false, "rewrite golden files and generated parts of READMEs instead of comparing them")

// Update reports whether the test was run with -update: golden files are then to be written, not compared. The flag is
// registered here, so a test package that imports this one asks here and registers none of its own.
func Update() bool { return *update }

// The lines around the part of a README that Readme owns.
const (
	readmeBegin = "<!-- schema:begin -->\n"
	readmeEnd   = "<!-- schema:end -->\n"
)

// Readme checks that the part of a plugin's README between the lines <!-- schema:begin --> and <!-- schema:end --> is
// the reference of its configuration and, for a sink, of its message. With -update it writes that part.
//
//	func TestReadme(t *testing.T) { plugintest.Readme(t, factory(), "README.md") }
func Readme[F serve.Factory](t testing.TB, factory F, path string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, begins := bytes.Cut(file, []byte(readmeBegin))
	got, tail, ends := bytes.Cut(rest, []byte(readmeEnd))
	if !begins || !ends {
		t.Fatalf("%s lacks the lines around the reference of the schema:\n%s%s", path, readmeBegin, readmeEnd)
	}
	want := Reference(factory)
	if string(got) == want {
		return
	}
	if !Update() {
		t.Fatalf("the reference in %s is not that of the schema; run this test with -update to write it. It should be:\n%s",
			path, want)
	}
	file = bytes.Join([][]byte{head, []byte(readmeBegin), []byte(want), []byte(readmeEnd), tail}, nil)
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Reference describes a plugin's configuration and, for a sink, its message in Markdown, one table each.
func Reference[F serve.Factory](factory F) string {
	var b strings.Builder
	switch f := any(factory).(type) {
	case *sdk.SinkFactory:
		reference(&b, "Configuration", "The sink has no settings of its own.", f.Config, false)
		b.WriteString("\n")
		reference(&b, "Message", "The message has no attributes.", f.Message, true)
	case *sdk.DecoderFactory:
		reference(&b, "Configuration", "The decoder has no settings of its own.", f.Config, false)
	}
	return b.String()
}

func reference(b *strings.Builder, title, empty string, s sdk.Schema, nulls bool) {
	fmt.Fprintf(b, "## %s\n\n", title)
	if len(s.Attributes) == 0 {
		fmt.Fprintln(b, empty)
		return
	}
	b.WriteString("| attribute | type | default | meaning |\n|---|---|---|---|\n")
	rows(b, "", &s, nulls)
}

// rows writes a row for every attribute of an object, and after it those of the objects in it: "a.b" of an object,
// "a[].b" of a list of objects, "a.*.b" of a map of them. nulls: null is a value of its own where it is allowed; in a
// configuration it never is.
func rows(b *strings.Builder, prefix string, s *sdk.Schema, nulls bool) {
	for i := range s.Attributes {
		a := &s.Attributes[i]
		name := prefix + a.Name
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n",
			name, typeName(&a.Schema, nulls), defaultText(&a.Schema), cell(a.Schema.Description))
		inner := &a.Schema
		for inner.Element != nil {
			if inner.Kind == sdk.KindList {
				name += "[]"
			} else {
				name += ".*"
			}
			inner = inner.Element
		}
		rows(b, name+".", inner, nulls)
	}
}

// typeName says what a value may be, in the words of docs/config.md.
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
