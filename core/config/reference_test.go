package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/docs"
)

// row is a row of a table in docs/config.md.
type row struct{ name, fallback string }

var inCode = regexp.MustCompile("`([^`]+)`")

// tableRows reads the first table with three columns below a heading: `a`, `b { … }`, `c.d`.
func tableRows(t *testing.T, heading string) []row {
	t.Helper()
	_, section, ok := strings.Cut(docs.Config(), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("docs/config.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	_, table, _ := strings.Cut(section, "| attribute | default | |\n")
	var rows []row
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			break
		}
		names, defaults := inCode.FindAllStringSubmatch(cells[1], -1), inCode.FindAllStringSubmatch(cells[2], -1)
		literal := len(defaults) == len(names) && strings.Trim(inCode.ReplaceAllString(cells[2], ""), " ,") == ""
		for i, m := range names {
			r := row{name: strings.Fields(m[1])[0]}
			if literal {
				r.fallback = defaults[i][1] // as it can be written
			}
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("section %q has no table", heading)
	}
	return rows
}

// taken lists the names that the loader takes where a configuration has the attribute zzzzzz.
func taken(t *testing.T, src string) []string {
	t.Helper()
	_, said := loadCase(t, nil, src, describedPlugins(t).options())
	text := strings.Join(strings.Fields(said), " ")
	_, list, ok := strings.Cut(text, "There are ")
	if !ok {
		t.Fatalf("no names in\n%s", said)
	}
	list, _, _ = strings.Cut(list, ". ")
	return strings.Split(strings.TrimSuffix(list, "."), ", ")
}

// TestBlocks checks that the tables of docs/config.md have exactly what can be written into the host's blocks.
func TestBlocks(t *testing.T) {
	for _, c := range []struct {
		heading, in string // in: the rows are those with this before the full stop
		src         string
		besides     []string // are described in the text
	}{
		{"server", "", `server { zzzzzz = 1 }`, nil},
		{"server", "limits", "server {\n limits { zzzzzz = 1 }\n}", nil},
		{"admin", "", `admin { zzzzzz = 1 }`, nil},
		{"storage", "", `storage "sqlite" { zzzzzz = 1 }`, nil},
		{"reload", "", `reload { zzzzzz = 1 }`, nil},
		{"tracing", "", `tracing { zzzzzz = 1 }`, nil},
		{"source", "", "source \"peopleforce\" \"x\" {\n secrets = [\"sixteen characters\"]\n zzzzzz = 1\n}", []string{"secrets"}},
		{"sink", "", "sink \"file\" \"x\" {\n dir = \"x\"\n delivery { zzzzzz = 1 }\n}", nil},
		{"sink", "retry", "sink \"file\" \"x\" {\n dir = \"x\"\n delivery {\n retry { zzzzzz = 1 }\n }\n}", nil},
		{"sink", "breaker", "sink \"file\" \"x\" {\n dir = \"x\"\n delivery {\n breaker { zzzzzz = 1 }\n }\n}", nil},
		{"route", "", "route \"x\" {\n zzzzzz = 1\n to \"file\" \"x\" {}\n}\nsink \"file\" \"x\" { dir = \"x\" }", nil},
	} {
		t.Run(c.heading+"."+c.in, func(t *testing.T) {
			listed := slices.Clone(c.besides)
			for _, r := range tableRows(t, c.heading) {
				first, rest, nested := strings.Cut(r.name, ".")
				switch {
				case c.in == "":
					listed = append(listed, first)
				case nested && first == c.in:
					listed = append(listed, rest)
				}
			}
			slices.Sort(listed)
			if diff := cmp.Diff(taken(t, c.src), slices.Compact(listed)); diff != "" {
				t.Errorf("-can be written +listed:\n%s", diff)
			}
		})
	}
}

// TestAlertBlock does so for alert blocks, which take what belongs to their condition.
func TestAlertBlock(t *testing.T) {
	var can, listed []string
	for _, condition := range []string{
		`sink_parked = "1m"`, `dead_letters = 1`, `oldest_waiting = "1m"`, `plugin_failed = true`, `source_silent = "usual"`,
		`rejected_signatures = 1`,
	} {
		can = append(can, taken(t, "alert \"x\" {\n "+condition+"\n zzzzzz = 1\n}")...)
	}
	for _, r := range tableRows(t, "alert") {
		listed = append(listed, r.name)
	}
	slices.Sort(can)
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Compact(can), slices.Compact(listed)); diff != "" {
		t.Errorf("-can be written +listed:\n%s", diff)
	}
}

// TestDefaults writes every default of the tables out, which makes no difference.
func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		heading, before, after string
		least                  int
	}{
		{"server", "server {\n", "}\n", 8},
		{"admin", "admin {\n", "}\n", 2},
		{"storage", "storage \"sqlite\" {\n", "}\n", 4},
		{"sink", "sink \"file\" \"x\" {\n dir = \"x\"\n delivery {\n", "}\n}\n", 8},
	} {
		t.Run(c.heading, func(t *testing.T) {
			var body strings.Builder
			written := map[string][]string{}
			n := 0
			for _, r := range tableRows(t, c.heading) {
				if _, diags := hclsyntax.ParseExpression([]byte(r.fallback), "x", hcl.InitialPos); r.fallback == "" || diags.HasErrors() {
					continue
				}
				block, name, nested := strings.Cut(r.name, ".")
				if !nested {
					block, name = "", r.name
				}
				written[block] = append(written[block], fmt.Sprintf("%s = %s\n", name, r.fallback))
				n++
			}
			for block, lines := range written {
				if block == "" {
					body.WriteString(strings.Join(lines, ""))
					continue
				}
				fmt.Fprintf(&body, "%s {\n%s}\n", block, strings.Join(lines, ""))
			}
			if n < c.least {
				t.Errorf("only %d defaults", n)
			}
			opt := describedPlugins(t).options()
			rest := `
source "peopleforce" "p" { secrets = ["sixteen characters"] }
route "x" {
  to "file" "x" {}
}
`
			if c.heading != "sink" {
				rest += "sink \"file\" \"x\" { dir = \"x\" }\n"
			}
			got, said := loadCase(t, nil, rest+c.before+body.String()+c.after, opt)
			if got == nil {
				t.Fatal(said)
			}
			switch c.heading {
			case "sink":
				rest += "sink \"file\" \"x\" { dir = \"x\" }\n"
			case "admin":
				rest += "admin {}\n"
			}
			want, said := loadCase(t, nil, rest, opt)
			if want == nil {
				t.Fatal(said)
			}
			want.Storage.Path, got.Storage.Path = "", "" // of two folders
			ignore := cmpopts.IgnoreFields(Delivery{}, "OrderBy")
			if diff := cmp.Diff(want.Server, got.Server, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(want.Admin, got.Admin, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(want.Storage, got.Storage); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(want.Sinks[0].Delivery, got.Sinks[0].Delivery, ignore); diff != "" {
				t.Error(diff)
			}
		})
	}
}
