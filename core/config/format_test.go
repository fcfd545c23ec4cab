package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestOwnLayout has the repository's own configurations laid out as the command does it.
func TestOwnLayout(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.hcl", "examples/*/*.hcl", "plugins/*/*.hcl", "plugins/*/*/*.hcl", "plugins/*/*/*/*.hcl"} {
		found, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 5 {
		t.Errorf("only %d files", len(files))
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if out, diags := Format(name, src); diags.HasErrors() || !bytes.Equal(out, src) {
			t.Errorf("%s: grapnel fmt would change it, or cannot read it: %v", name, diags.Err())
		}
	}
}

// FuzzFormat has what is laid out stay as it is when it is laid out again, and stay readable.
func FuzzFormat(f *testing.F) {
	for _, src := range []string{
		"a=1\n", "sink \"file\" \"x\" {\ndir=\"d\" # c\n}\n", "x = <<EOT\n a ${b}\nEOT\n", "a = [\n1,2]\n", "/* c */ a = b ? c:d\n", "{",
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		once, diags := Format("x.hcl", src)
		if diags.HasErrors() {
			if !bytes.Equal(once, src) {
				t.Errorf("%q was changed to %q though it cannot be read", src, once)
			}
			return
		}
		if _, diags := Format("x.hcl", once); diags.HasErrors() {
			t.Errorf("%q became %q, which cannot be read: %v", src, once, diags.Err())
		}
	})
}
