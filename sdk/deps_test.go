package sdk_test

import (
	"go/build"
	"path/filepath"
	"strings"
	"testing"
)

// A plugin author who imports sdk alone gets the standard library and nothing else: the wire glue is in sub-packages.
func TestPackageImportsTheStandardLibraryOnly(t *testing.T) {
	for _, dir := range []string{".", "rawjson"} {
		p, err := build.ImportDir(filepath.FromSlash(dir), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			first, _, _ := strings.Cut(path, "/")
			if strings.Contains(first, ".") || path == "unsafe" {
				t.Errorf("%s imports %s", dir, path)
			}
		}
	}
}
