package pluginfile

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

func TestConstraint(t *testing.T) {
	for _, c := range []struct {
		constraint, version string
		want                bool
	}{
		{"~> 1.2", "1.2.0", true}, {"~> 1.2", "1.9.3", true}, {"~> 1.2", "2.0.0", false}, {"~> 1.2", "1.1.9", false},
		{"~> 1.2.3", "1.2.9", true}, {"~> 1.2.3", "1.3.0", false}, {">= 1.2, < 2", "1.5.0", true},
		{">= 1.2, < 2", "2.0.0", false}, {"1.4.0", "1.4.0", true}, {"= 1.4", "1.4.1", false}, {"!= 1.4.0", "1.4.0", false},
		{"> 1", "1.0.1", true}, {"<= 1", "1.0.0", true}, {">= 0.1", "devel", false}, {">= 0.1", "", false},
		// Pre-releases are asked for by name.
		{"~> 1.2", "1.3.0-rc.1", false}, {"< 2", "2.0.0-rc.1", false}, {"> 1", "2.0.0-0", false},
		{"1.3.0-rc.1", "1.3.0-rc.1", true}, {"~> 1.3.0-rc.1", "1.3.0-rc.2", true}, {"~> 1.3.0-rc.1", "1.3.0", true},
		{"~> 1.3.0-rc.1", "1.3.1-rc.1", false}, {"~> 1.3.0-rc.1", "1.4.0", false}, {">= 1.3.0-rc.1", "1.4.0", true},
		{"0.1.0-dev", "0.1.0-dev", true}, {"~> 0.1", "0.1.0-dev", false},
		{"1.4.0", "1.4.0+build", true},
	} {
		parsed, err := ParseConstraint(c.constraint)
		if err != nil {
			t.Errorf("%q: %v", c.constraint, err)
			continue
		}
		if got := parsed.Allows(c.version); got != c.want || parsed.Any() || parsed.String() != c.constraint {
			t.Errorf("%q allows %s: %v, want %v", c.constraint, c.version, got, c.want)
		}
	}
	for _, s := range []string{"", "newest", "~>", "1.2.x", ">= 1,"} {
		if c, err := ParseConstraint(s); err == nil {
			t.Errorf("%q: %v, want an error", s, c)
		}
	}
	if any := (Constraint{}); !any.Any() || !any.Allows("devel") || !any.Allows("1.0.0-rc.1") {
		t.Error("no constraint does not allow everything")
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	other := "linux_arm64"
	if Current() == other {
		other = "linux_amd64"
	}
	write := func(name string, mode fs.FileMode) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"grapnel-sink-file", "grapnel-sink-file_v1.9.0", "grapnel-sink-file_v1.10.0", "grapnel-sink-file_v1.10.0-rc.1",
		"grapnel-sink-my_very_own", "grapnel-decoder-file", "README.md", "grapnel",
		"grapnel-sink-two_v1.0.0", "grapnel-sink-two_v1.0.0+build",
		"grapnel-snik-file", "grapnel-sink-Bad", "grapnel-sink-short_v1.2", "grapnel-sink-", "grapnel-sink",
		Current() + "/grapnel-sink-file_v1.9.0", Current() + "/grapnel-sink-file_v1.11.0",
		"windows_amd64/grapnel-sink-file_v1.9.0.exe", "not_platform/grapnel-sink-file_v5.0.0", other + "/README.md",
	} {
		write(name, 0o755)
	}
	write(other+"/grapnel-sink-file_v1.12.0", 0o644) // is not started here
	write("grapnel-sink-plain", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "grapnel-sink-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("grapnel-sink-file", filepath.Join(dir, "grapnel-sink-link_v0.1.0")); err != nil {
		t.Fatal(err)
	}
	got, err := List(dir)
	var lines []string
	for _, f := range got {
		rel, relErr := filepath.Rel(dir, f.Path)
		if relErr != nil || f.Platform == Current() && strings.Count(rel, "/") > 0 && f.Version != "1.11.0" {
			t.Errorf("%+v, %v", f, relErr)
		}
		if filepath.Base(rel) != f.FileName() {
			t.Errorf("%s would be named %s", rel, f.FileName())
		}
		lines = append(lines, strings.TrimPrefix(f.Platform, Current())+" "+f.Label()+" "+f.Version)
	}
	want := []string{
		" decoder-file ", " sink-file 1.11.0", " sink-file 1.10.0", " sink-file 1.10.0-rc.1", " sink-file 1.9.0", " sink-file ",
		other + " sink-file 1.12.0", "windows_amd64 sink-file 1.9.0", " sink-link 0.1.0", " sink-my_very_own ", " sink-two 1.0.0",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	for _, part := range []string{
		`grapnel-snik-file: the kind of a plugin is decoder or sink, not "snik"`,
		`"Bad" is not a plugin name`, `"1.2" is not a semantic version`, `"" is not a plugin name`,
		"grapnel-sink: a plugin's file is named", "grapnel-sink-plain is not executable", "grapnel-sink-folder is not a regular file",
		"/grapnel-sink-two_v1.0.0 and ", Current() + "/grapnel-sink-file_v1.9.0 are the same version",
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q:\n%v", part, err)
		}
	}
	if _, err := List(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

func TestParsePath(t *testing.T) {
	f, err := ParsePath("dist/darwin_arm64/grapnel-sink-file_v1.2.0", "linux_amd64")
	want := File{core.PluginSink, "file", "1.2.0", "darwin_arm64", "dist/darwin_arm64/grapnel-sink-file_v1.2.0"}
	if err != nil || f != want {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := ParsePath("grapnel-decoder-x", "linux_amd64"); err != nil || f.Platform != "linux_amd64" || f.Version != "" {
		t.Errorf("%+v, %v", f, err)
	}
	for s, want := range map[string]bool{
		"linux_amd64": true, "darwin_arm64": true, "windows_386": true, "my_plugins": false, "linux": false, "linux_": false,
		"linux_amd64_v3": false, "js_wasm": false, "": false, "..": false,
	} {
		if IsPlatform(s) != want {
			t.Errorf("%q is a platform: %v", s, !want)
		}
	}
	for _, label := range []string{"file", "sink-", "snik-file", "sink-File", "sink-file_v1.2.0", ""} {
		if f, err := ParseLabel(label); err == nil {
			t.Errorf("%q: %+v", label, f)
		}
	}
}

func TestCheckHead(t *testing.T) {
	elf := "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00"
	arm := "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
	s390 := "\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16"
	mach := "\xcf\xfa\xed\xfe\x0c\x00\x00\x01\x00\x00"
	for _, c := range []struct{ head, platform, want string }{
		{"#!/bin/sh\n", "linux_amd64", ""}, {"#!/bin/sh\n", "darwin_arm64", ""}, {"#!/bin/sh\n", "windows_amd64", "script"},
		{elf, "linux_amd64", ""}, {elf, "freebsd_amd64", ""}, {elf, "linux_arm64", "another platform"},
		{elf, "darwin_amd64", "(ELF amd64)"}, {elf, "windows_amd64", "another platform"},
		{arm, "linux_arm64", ""}, {s390, "linux_s390x", ""}, {s390, "linux_amd64", "s390x"},
		{mach, "darwin_arm64", ""}, {mach, "darwin_amd64", "Mach-O arm64"}, {mach, "linux_arm64", "another platform"},
		{"\xca\xfe\xba\xbe", "darwin_arm64", ""}, {"MZ\x90", "windows_amd64", ""}, {"MZ\x90", "linux_amd64", "(PE)"},
		{"# Readme", "linux_amd64", "no program"}, {"", "linux_amd64", "no program"}, {"\x7fELF", "linux_amd64", "no program"},
	} {
		err := CheckHead([]byte(c.head), c.platform)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q on %s: %v, want %q", c.head, c.platform, err, c.want)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckHead(program[:HeadSize], Current()); err != nil {
		t.Errorf("this test's own program: %v", err)
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"grapnel-sink-file", "grapnel-sink-file_v1.2.3", "grapnel-decoder-a_v1_v2.0.0-x+y", "grapnel--"} {
		f.Add(s, "linux_amd64")
	}
	f.Add("grapnel-sink-file_v1.2.3.exe", "windows_amd64")
	f.Fuzz(func(t *testing.T, s, platform string) {
		file, err := ParseName(s, platform)
		if err != nil {
			return
		}
		if !ValidName(file.Name) || file.Kind == "" {
			t.Errorf("%q: %+v", s, file)
		}
		again, err := ParseName(file.FileName(), platform)
		if err != nil || again != file {
			t.Errorf("%q: %+v, written again %+v, %v", s, file, again, err)
		}
	})
}

func FuzzConstraint(f *testing.F) {
	f.Add("~> 1.2.3-rc.1, != 1.2.4", "1.2.3")
	f.Fuzz(func(t *testing.T, s, version string) {
		c, err := ParseConstraint(s)
		if err == nil && c.Allows(version) && CompareVersions(version, "") <= 0 && !strings.HasPrefix(version, "v") {
			t.Errorf("%q allows %q", s, version)
		}
	})
}
