// Package pluginfile holds what can be known about a plugin's program without running it: what its file name says, which
// platform it is for, which versions satisfy a constraint, and which programs a folder holds.
package pluginfile

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/grapnelhq/grapnel/core"
)

// File is a plugin's program, known by its file name and its folder alone.
type File struct {
	Kind     core.PluginKind
	Name     string
	Version  string // semantic version without v; empty when the file name has none
	Platform string // such as "linux_amd64"
	Path     string // of the program; empty when only a name was parsed
}

// Prefix is what the file names of plugins begin with.
const Prefix = "grapnel-"

// Label is how configurations, lock files and mirrors name the plugin: <kind>-<name>.
func (f File) Label() string { return string(f.Kind) + "-" + f.Name }

// FileName is the name that says all of it but the platform.
func (f File) FileName() string {
	name := Prefix + f.Label()
	if f.Version != "" {
		name += "_v" + f.Version
	}
	if strings.HasPrefix(f.Platform, "windows_") {
		name += ".exe"
	}
	return name
}

// Current is the platform that this process runs on.
func Current() string { return runtime.GOOS + "_" + runtime.GOARCH }

// systems are the operating systems that a platform can name: without a list, any folder with an underscore would be one.
const systems = " android darwin dragonfly freebsd illumos ios linux netbsd openbsd solaris windows "

var platformPattern = regexp.MustCompile(`^([a-z0-9]+)_([a-z0-9]+)$`)

// IsPlatform reports whether s names a platform as Go does: <os>_<arch>.
func IsPlatform(s string) bool {
	m := platformPattern.FindStringSubmatch(s)
	return m != nil && strings.Contains(systems, " "+m[1]+" ") && len(m[2]) <= 16
}

// ParsePath reads what a program's slash-separated path says: grapnel-<kind>-<name> or grapnel-<kind>-<name>_v<version>, in
// a folder named after its platform, or else for the given one. Path is set to p.
func ParsePath(p, platform string) (File, error) {
	if dir := path.Base(path.Dir(p)); IsPlatform(dir) {
		platform = dir
	}
	f, err := ParseName(path.Base(p), platform)
	f.Path = p
	return f, err
}

// ParseName reads what the name of a program for a platform says. On Windows it may end in .exe.
func ParseName(file, platform string) (File, error) {
	rest, ok := strings.CutPrefix(file, Prefix)
	if strings.HasPrefix(platform, "windows_") {
		rest = strings.TrimSuffix(rest, ".exe")
	}
	kind, name, dash := strings.Cut(rest, "-")
	if !ok || !dash {
		return File{}, errors.New("a plugin's file is named grapnel-<kind>-<name> or grapnel-<kind>-<name>_v<version>")
	}
	f := File{Kind: core.PluginKind(kind), Name: name, Platform: platform}
	if f.Kind != core.PluginDecoder && f.Kind != core.PluginSink {
		return File{}, fmt.Errorf("the kind of a plugin is decoder or sink, not %q", f.Kind)
	}
	if i := strings.LastIndex(name, "_v"); i >= 0 && i+2 < len(name) && name[i+2] >= '0' && name[i+2] <= '9' {
		f.Name, f.Version = name[:i], name[i+2:]
		if !exact(f.Version) {
			return File{}, fmt.Errorf("%q is not a semantic version such as 1.2.0", f.Version)
		}
	}
	if !ValidName(f.Name) {
		return File{}, fmt.Errorf("%q is not a plugin name: lower-case letters, digits and _, starting with a letter", f.Name)
	}
	return f, nil
}

// ParseLabel reads a plugin's <kind>-<name>.
func ParseLabel(label string) (File, error) {
	kind, name, ok := strings.Cut(label, "-")
	f := File{Kind: core.PluginKind(kind), Name: name}
	if !ok || f.Kind != core.PluginDecoder && f.Kind != core.PluginSink || !ValidName(name) {
		return File{}, fmt.Errorf("%q names no plugin: write its kind and its name, such as decoder-youforce or sink-file", label)
	}
	return f, nil
}

// exact reports whether a version has all three numbers: 1.2.0, not 1.2.
func exact(version string) bool {
	return semver.Canonical("v"+version) == "v"+strings.SplitN(version, "+", 2)[0]
}

// IsVersion reports whether a plugin can have that version.
func IsVersion(s string) bool { return s == "devel" || exact(s) && len(s) <= 64 }

// ValidName reports whether s matches [a-z][a-z0-9_]* and is of sensible length.
func ValidName(s string) bool {
	if s == "" || len(s) > 64 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// CompareVersions orders versions, the older one first. A version that is none, such as "" or "devel", is older than any.
func CompareVersions(a, b string) int { return semver.Compare("v"+a, "v"+b) }

// compare puts this platform first, and newer versions before older ones.
func compare(a, b File) int {
	here := Current()
	foreign := func(f File) int {
		if f.Platform == here {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(foreign(a), foreign(b)),
		cmp.Compare(a.Platform, b.Platform), CompareVersions(b.Version, a.Version), cmp.Compare(a.Path, b.Path))
}

// Sort orders programs by plugin, this platform first, newer versions first.
func Sort(files []File) { slices.SortFunc(files, compare) }
