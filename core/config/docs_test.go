package config

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core/expr"
)

// TestReference keeps docs/config.md true where a test can: its examples parse, and it lists exactly the functions there are.
func TestReference(t *testing.T) {
	b, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for i, part := range strings.Split(doc, "```hcl\n")[1:] {
		example, _, _ := strings.Cut(part, "```")
		if _, diags := hclsyntax.ParseConfig([]byte(example), "docs/config.md", hcl.InitialPos); diags.HasErrors() {
			t.Errorf("example %d: %v", i+1, diags)
		}
	}

	_, table, ok := strings.Cut(doc, "### Functions\n")
	if !ok {
		t.Fatal("no table of functions")
	}
	var listed []string
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) == 4 {
			listed = append(listed, strings.Fields(strings.Trim(strings.TrimSpace(cells[2]), "`-"))...)
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(expr.Functions())), listed); diff != "" {
		t.Errorf("functions -there +listed:\n%s", diff)
	}
}

// TestExample checks that config.hcl at the top of the repository parses and has every kind of block that matters.
func TestExample(t *testing.T) {
	l := newLoader(t.Context(), "../../config.hcl", options(nil))
	if !l.read("../../config.hcl") {
		t.Fatal(l.diags.All())
	}
	top := l.split()
	if len(l.diags.All()) > 0 {
		t.Error(l.diags.All())
	}
	for kind := range topBlocks {
		if len(top[kind]) == 0 && kind != "admin" && kind != "log" {
			t.Errorf("no %s block", kind)
		}
	}
}
