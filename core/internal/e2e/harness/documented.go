//go:build unix

package harness

import (
	"os"
	"strings"
	"testing"
)

// Documented is the first configuration below a heading of a Markdown file, so that what is tested is what people copy.
// heading is without its number signs; empty, it is the first one of the file.
func Documented(t testing.TB, file, heading string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	section := string(b)
	if heading != "" {
		var ok bool
		if _, section, ok = strings.Cut(section, "# "+heading+"\n"); !ok {
			t.Fatalf("%s has no heading %q", file, heading)
		}
	}
	before, rest, _ := strings.Cut(section, "```hcl\n")
	config, _, ok := strings.Cut(rest, "```\n")
	if !ok || heading != "" && (strings.Contains(before, "\n# ") || strings.Contains(before, "\n## ")) {
		t.Fatalf("%s: %q has no configuration", file, heading)
	}
	return config
}
