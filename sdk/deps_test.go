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

// The order inside of the module: sdk below wire below serve and conform below plugintest; nothing of the host anywhere.
func TestLayers(t *testing.T) {
	const module = "github.com/grapnelhq/grapnel/"
	allowed := map[string]string{
		"wire":       "sdk sdk/proto/grapnel/plugin/v1",
		"serve":      "sdk sdk/wire sdk/proto/grapnel/plugin/v1",
		"conform":    "sdk sdk/wire sdk/proto/grapnel/plugin/v1",
		"reference":  "sdk",
		"plugintest": "sdk sdk/wire sdk/conform sdk/serve sdk/reference sdk/proto/grapnel/plugin/v1",
	}
	for dir, list := range allowed {
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			own, ok := strings.CutPrefix(path, module)
			if ok && !strings.Contains(" "+list+" ", " "+own+" ") {
				t.Errorf("sdk/%s imports %s", dir, path)
			}
		}
	}
}
