package config

import (
	"bytes"
	"testing"
)

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
