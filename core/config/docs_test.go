package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/sdk"
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
		if len(top[kind]) == 0 && !slices.Contains([]string{"log", "reload", "tracing", "alert"}, kind) {
			t.Errorf("no %s block", kind)
		}
	}
}

// stubs are plugins that documents write about and that do not come with the repository.
func stubs() described {
	secret := text()
	secret.Sensitive = true
	return described{"sink-chat": {
		Kind: core.PluginSink, Name: "chat", Version: "1.0.0", MaxBatch: 1,
		Config: object(
			sdk.Attribute{Name: "url", Schema: text()},
			sdk.Attribute{Name: "token", Schema: optional(secret, "")},
			sdk.Attribute{Name: "channel", Schema: optional(text(), "")},
		),
		Message: object(
			sdk.Attribute{Name: "text", Schema: text()},
			sdk.Attribute{Name: "channel", Schema: optional(text(), "")},
		),
	}}
}

// minimal is what a block of a plugin needs at least, where an example leaves it out.
var minimal = map[string]string{
	"youforce": `secrets = ["sixteen characters"]`, "peopleforce": `secrets = ["sixteen characters"]`,
	"acculynx": `path_token = "sixteen_characters"`, "shop": `secrets = ["sixteen characters"]`,
	"file": `dir = "events"`, "http": `url = "https://example.com"`, "slack": `webhook_url = "https://example.com"`,
	"crm": "dialect = \"hubspot\"\n  token = \"sixteen characters\"", "chat": `url = "https://example.com"`,
}

// complete writes the blocks that an example names and does not have, and a route for every sink that it leaves without.
func complete(t *testing.T, src, name string) string {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(src), name, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	have, sources, reached := map[string]bool{}, 0, map[string]bool{}
	var sinks [][2]string
	for _, b := range f.Body.(*hclsyntax.Body).Blocks {
		if len(b.Labels) == 2 {
			have[b.Type+"."+b.Labels[0]+"."+b.Labels[1]] = true
		}
		switch b.Type {
		case "source":
			sources++
		case "sink":
			sinks = append(sinks, [2]string{b.Labels[0], b.Labels[1]})
		case "route", "alert":
			for _, to := range b.Body.Blocks {
				if to.Type == "to" && len(to.Labels) == 2 {
					reached[to.Labels[1]] = true
					if key := "sink." + to.Labels[0] + "." + to.Labels[1]; !have[key] {
						have[key] = true
						src += fmt.Sprintf("\nsink %q %q {\n  %s\n}\n", to.Labels[0], to.Labels[1], minimal[to.Labels[0]])
					}
				}
			}
		}
	}
	src2 := src
	for _, b := range f.Body.(*hclsyntax.Body).Blocks {
		if a := b.Body.Attributes["from"]; b.Type == "route" && a != nil {
			for _, t := range a.Expr.Variables() {
				if key := traversal(t); !have[key] && strings.Count(key, ".") == 2 {
					have[key] = true
					parts := strings.Split(key, ".")
					sources++
					src2 += fmt.Sprintf("\nsource %q %q {\n  %s\n}\n", parts[1], parts[2], minimal[parts[1]])
				}
			}
		}
	}
	if sources == 0 {
		for _, s := range [][2]string{{"youforce", "hr"}, {"peopleforce", "people"}, {"acculynx", "roofing"}} {
			src2 += fmt.Sprintf("\nsource %q %q {\n  %s\n}\n", s[0], s[1], minimal[s[0]])
		}
	}
	for _, s := range sinks {
		if !reached[s[1]] && len(reached) > 0 {
			src2 += fmt.Sprintf("\nroute \"to_%s\" {\n  to %q %q {}\n}\n", s[1], s[0], s[1])
		}
	}
	return src2
}

func traversal(t hcl.Traversal) string {
	var names []string
	for _, step := range t {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			names = append(names, step.Name)
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		}
	}
	return strings.Join(names, ".")
}

// examples are the configurations in the repository's documents and in its root, by where they stand. Those of the folder
// examples have plugins of their own, so the commands of their READMEs are what checks them.
func examples(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{
		"README.md", "docs/*.md", "docs/operations/*.md", "sdk/README.md", "plugins/*/README.md", "plugins/*/*/README.md", "examples/*.md",
		"examples/*/*.md", "config.hcl",
	} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, testFile) || filepath.Base(file) == lockFile {
				continue
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimPrefix(file, "../../")
			if filepath.Ext(file) == ".hcl" {
				out[name] = string(b)
				continue
			}
			for i, part := range strings.Split(string(b), "```hcl\n")[1:] {
				example, _, _ := strings.Cut(part, "```")
				if ours(example) {
					out[fmt.Sprintf("%s#%d", name, i+1)] = example
				}
			}
		}
	}
	return out
}

// ours reports whether an example is a configuration: some show the lock file, or a few attributes.
func ours(src string) bool {
	f, diags := hclsyntax.ParseConfig([]byte(src), "x", hcl.InitialPos)
	if diags.HasErrors() {
		return false
	}
	body := f.Body.(*hclsyntax.Body)
	if len(body.Attributes) > 0 || len(body.Blocks) == 0 {
		return false
	}
	return !slices.ContainsFunc(body.Blocks, func(b *hclsyntax.Block) bool {
		_, ok := topBlocks[b.Type]
		// Their plugins have to be asked, or written first. Scripts of the commands and of the first README do.
		return !ok || b.Type == "source" && (b.Labels[0] == "json" || b.Labels[0] == "parcels")
	})
}

// TestExamples checks that there is nothing to say about any configuration of the documents, except that a block stays out.
func TestExamples(t *testing.T) {
	d := describedPlugins(t)
	maps.Copy(d, stubs())
	all := examples(t)
	if len(all) < 20 {
		t.Errorf("only %d examples", len(all))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			if _, said := loadCase(t, nil, complete(t, all[name], name), d.options()); said != "" {
				t.Errorf("there is something to say:\n%s", said)
			}
		})
	}
}
