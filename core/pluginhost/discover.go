package pluginhost

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/grapnelhq/grapnel/core"
)

// Binary is a plugin's program, known by its file name alone.
type Binary struct {
	Kind    core.PluginKind
	Name    string
	Version string // semantic version without v; empty when the file name has none
	Path    string
}

const binaryPrefix = "grapnel-"

// Discover lists the plugins in a folder: programs named grapnel-<kind>-<name> or grapnel-<kind>-<name>_v<version>,
// such as grapnel-sink-file_v1.2.0. Of several versions the newest is listed; a file without a version counts as
// older than any.
//
// Binaries and error come together: the error joins what is wrong with single files that look like plugins but are
// none.
func Discover(dir string) ([]Binary, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("plugin folder: %w", err)
	}
	type id struct {
		kind core.PluginKind
		name string
	}
	newest := map[id]Binary{}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), binaryPrefix) {
			continue
		}
		b, err := parseBinaryName(e.Name())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err))
			continue
		}
		b.Path = filepath.Join(dir, e.Name())
		if err := checkExecutable(b.Path); err != nil {
			errs = append(errs, err)
			continue
		}
		k := id{b.Kind, b.Name}
		old, ok := newest[k]
		if !ok {
			newest[k] = b
			continue
		}
		switch c := semver.Compare(semverOf(b.Version), semverOf(old.Version)); {
		case c > 0:
			newest[k] = b
		case c == 0:
			errs = append(errs, fmt.Errorf("%s and %s are the same version of one plugin: remove one", old.Path, b.Path))
		}
	}
	list := make([]Binary, 0, len(newest))
	for _, b := range newest {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b Binary) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return list, errors.Join(errs...)
}

// semverOf makes a version comparable; semver.Compare takes "" as older than any valid one.
func semverOf(version string) string {
	if version == "" {
		return ""
	}
	return "v" + version
}

func parseBinaryName(file string) (Binary, error) {
	rest := strings.TrimPrefix(file, binaryPrefix)
	if runtime.GOOS == "windows" {
		rest = strings.TrimSuffix(rest, ".exe")
	}
	kind, name, ok := strings.Cut(rest, "-")
	if !ok {
		return Binary{}, errors.New("a plugin's file is named grapnel-<kind>-<name> or grapnel-<kind>-<name>_v<version>")
	}
	b := Binary{Kind: core.PluginKind(kind), Name: name}
	if b.Kind != core.PluginDecoder && b.Kind != core.PluginSink {
		return Binary{}, fmt.Errorf("the kind of a plugin is decoder or sink, not %q", kind)
	}
	if i := strings.LastIndex(name, "_v"); i >= 0 && i+2 < len(name) && name[i+2] >= '0' && name[i+2] <= '9' {
		b.Name, b.Version = name[:i], name[i+2:]
		if semver.Canonical("v"+b.Version) != "v"+strings.SplitN(b.Version, "+", 2)[0] {
			return Binary{}, fmt.Errorf("%q is not a semantic version such as 1.2.0", b.Version)
		}
	}
	if !validName(b.Name) {
		return Binary{}, fmt.Errorf("%q is not a plugin name: lower-case letters, digits and _, starting with a letter", b.Name)
	}
	return b, nil
}

// validName reports whether s matches [a-z][a-z0-9_]* and is of sensible length.
func validName(s string) bool {
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

func checkExecutable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("plugin: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case runtime.GOOS != "windows" && info.Mode()&fs.FileMode(0o111) == 0:
		return fmt.Errorf("%s is not executable: chmod +x it", path)
	}
	return nil
}

// NotFoundError says that a plugin is not installed.
type NotFoundError struct {
	Kind      core.PluginKind
	Name      string
	Dir       string
	Available []string // names of the plugins of that kind that are there
	Problems  error    // files that look like plugins but are none; may be nil
}

// Error implements error.
func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("no %s plugin %q in %s", e.Kind, e.Name, e.Dir)
	if len(e.Available) == 0 {
		s += fmt.Sprintf(" (there is no %s at all)", e.Kind)
	} else {
		s += " (there are: " + strings.Join(e.Available, ", ") + ")"
	}
	if e.Problems != nil {
		s += "; " + e.Problems.Error()
	}
	return s
}

// Unwrap makes errors.Is true for fs.ErrNotExist, and for core.ErrNoPlugin where nothing else is to be told.
func (e *NotFoundError) Unwrap() []error {
	if e.Problems != nil {
		return []error{fs.ErrNotExist}
	}
	return []error{fs.ErrNotExist, core.ErrNoPlugin}
}
