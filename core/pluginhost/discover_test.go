package pluginhost

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

func TestDiscover(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "windows_amd64"), 0o755),
		os.Mkdir(filepath.Join(dir, pluginfile.Current()), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"grapnel-sink-file", "grapnel-sink-file_v1.9.0", "grapnel-sink-file_v1.10.0", "grapnel-decoder-file", "grapnel-snik-x",
		"windows_amd64/grapnel-sink-file_v2.0.0.exe", pluginfile.Current() + "/grapnel-sink-crm_v0.1.0",
	} {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Discover(dir)
	here := pluginfile.Current()
	want := []Binary{
		{Kind: core.PluginDecoder, Name: "file", Version: "", Platform: here, Path: filepath.Join(dir, "grapnel-decoder-file")},
		{Kind: core.PluginSink, Name: "crm", Version: "0.1.0", Platform: here, Path: filepath.Join(dir, here, "grapnel-sink-crm_v0.1.0")},
		{Kind: core.PluginSink, Name: "file", Version: "1.10.0", Platform: here, Path: filepath.Join(dir, "grapnel-sink-file_v1.10.0")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err == nil || !strings.Contains(err.Error(), "grapnel-snik-x") {
		t.Errorf("what is no plugin is not told: %v", err)
	}
}

// TestChoose is about which of several programs a pin takes. None of them is started: they are texts.
func TestChoose(t *testing.T) {
	dir := t.TempDir()
	sums := map[string]string{}
	for _, v := range []string{"", "_v1.1.0", "_v1.2.0", "_v1.3.0-rc.1", "_v2.0.0"} {
		path := filepath.Join(dir, "grapnel-sink-x"+v)
		if err := os.WriteFile(path, []byte("program"+v), 0o755); err != nil {
			t.Fatal(err)
		}
		sum, err := pluginfile.Hash(path)
		if err != nil {
			t.Fatal(err)
		}
		sums[v] = sum
	}
	h, err := New(Options{Dir: dir, TempDir: shortTempDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	other := strings.Repeat("0", 64)
	for _, c := range []struct {
		constraint, version, sum string
		want                     string // end of the file's name, or a part of the error
		is                       error
	}{
		{"", "", "", "_v2.0.0", nil},
		{"~> 1.1", "", "", "_v1.2.0", nil},
		{"1.3.0-rc.1", "", "", "_v1.3.0-rc.1", nil},
		{"> 2", "", "", "-x", nil}, // may be: it is asked
		{"~> 1.1", "", sums["_v1.1.0"], "_v1.1.0", nil},
		{"~> 1.1", "", strings.ToUpper(sums["_v1.2.0"]), "_v1.2.0", nil},
		{"", "", sums[""], "-x", nil},
		{"~> 1.1", "", sums["_v2.0.0"], "grapnel-sink-x_v1.2.0: it is not the program", core.ErrNotLocked},
		{"", "1.1.0", sums["_v1.1.0"], "_v1.1.0", nil},
		{"", "5.0.0", sums[""], "-x", nil},
		{"", "1.1.0", other, "grapnel-sink-x_v1.1.0: it is not the program that was locked: its sha256 is " + sums["_v1.1.0"],
			core.ErrNotLocked},
		{"", "1.1.0", "", "the lock file has no hash for " + pluginfile.Current(), core.ErrNotLocked},
		{"", "5.0.0", other, "has version 5.0.0 (there are: 2.0.0, 1.3.0-rc.1, 1.2.0, 1.1.0, one without", core.ErrNoVersion},
	} {
		pin := Pin{Version: c.version, SHA256: c.sum}
		if c.constraint != "" {
			if pin.Constraint, err = pluginfile.ParseConstraint(c.constraint); err != nil {
				t.Fatal(err)
			}
		}
		b, err := h.choose(core.PluginSink, "x", pin)
		if !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && !strings.HasSuffix(b.Path, c.want) {
			t.Errorf("%+v: %s", c, b.Path)
		}
	}
	if err := os.Remove(filepath.Join(dir, "grapnel-sink-x")); err != nil {
		t.Fatal(err)
	}
	all, err := pluginfile.ParseConstraint("~> 3.0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.choose(core.PluginSink, "x", Pin{Constraint: all})
	if want := "has version ~> 3.0 (there are: 2.0.0, 1.3.0-rc.1, 1.2.0, 1.1.0)"; !errors.Is(err, core.ErrNoVersion) ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	if _, err := h.choose(core.PluginSink, "y", Pin{}); !errors.Is(err, core.ErrNoPlugin) ||
		!strings.HasSuffix(err.Error(), "(there are: x)") {
		t.Errorf("%v", err)
	}
}
