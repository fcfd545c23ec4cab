package pluginhost

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
)

func TestDiscover(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode fs.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"grapnel-sink-file", "grapnel-sink-file_v1.9.0", "grapnel-sink-file_v1.10.0", "grapnel-sink-file_v1.10.0-rc.1",
		"grapnel-sink-my_very_own", "grapnel-decoder-file", "README.md", "grapnel",
		"grapnel-sink-two_v1.0.0", "grapnel-sink-two_v1.0.0+build",
		"grapnel-snik-file", "grapnel-sink-Bad", "grapnel-sink-short_v1.2", "grapnel-sink-", "grapnel-sink",
	} {
		write(name, 0o755)
	}
	write("grapnel-sink-plain", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "grapnel-sink-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("grapnel-sink-file", filepath.Join(dir, "grapnel-sink-link_v0.1.0")); err != nil {
		t.Fatal(err)
	}
	got, err := Discover(dir)
	want := []Binary{
		{core.PluginDecoder, "file", "", filepath.Join(dir, "grapnel-decoder-file")},
		{core.PluginSink, "file", "1.10.0", filepath.Join(dir, "grapnel-sink-file_v1.10.0")},
		{core.PluginSink, "link", "0.1.0", filepath.Join(dir, "grapnel-sink-link_v0.1.0")},
		{core.PluginSink, "my_very_own", "", filepath.Join(dir, "grapnel-sink-my_very_own")},
		{core.PluginSink, "two", "1.0.0", filepath.Join(dir, "grapnel-sink-two_v1.0.0")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, part := range []string{
		`grapnel-snik-file: the kind of a plugin is decoder or sink, not "snik"`,
		`"Bad" is not a plugin name`, `"1.2" is not a semantic version`, `"" is not a plugin name`,
		"grapnel-sink: a plugin's file is named", "grapnel-sink-plain is not executable", "grapnel-sink-folder is not a regular file",
		"are the same version",
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q:\n%v", part, err)
		}
	}
	if _, err := Discover(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

func FuzzBinaryName(f *testing.F) {
	for _, s := range []string{"grapnel-sink-file", "grapnel-sink-file_v1.2.3", "grapnel-decoder-a_v1_v2.0.0-x+y", "grapnel--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := parseBinaryName(s)
		if err == nil && (!validName(b.Name) || b.Kind == "") {
			t.Errorf("%q: %+v", s, b)
		}
	})
}
