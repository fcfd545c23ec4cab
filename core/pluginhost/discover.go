package pluginhost

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

// Binary is a plugin's program, known by its file name alone.
type Binary = pluginfile.File

// Discover lists the plugins of a folder that this platform runs, of several versions the newest; a file without a
// version counts as older than any. See pluginfile.List for what a folder may hold, and for the error.
func Discover(dir string) ([]Binary, error) {
	all, err := pluginfile.List(dir)
	var list []Binary
	for _, b := range all { // the newest come first
		if b.Platform != pluginfile.Current() {
			continue
		}
		if n := len(list); n == 0 || list[n-1].Label() != b.Label() {
			list = append(list, b)
		}
	}
	return list, err
}

// Pin says which of a plugin's programs may run. The zero value allows any.
type Pin struct {
	Constraint pluginfile.Constraint // what the configuration asks for
	// Version is the locked one: no other runs. Empty: the newest that the constraint allows. A locked version needs a SHA256.
	Version string
	SHA256  string // of the program, hexadecimal; empty: any
}

// fitting lists the programs that may run as far as their file names tell, in the order in which they are preferred.
// What has no version in its name is asked, so it comes last and is always among them.
func (p Pin) fitting(versions []Binary) []Binary {
	var list []Binary
	for _, b := range versions {
		if b.Version == "" || p.allows(b.Version) {
			list = append(list, b)
		}
	}
	return list
}

func (p Pin) allows(version string) bool {
	return (p.Version == "" || p.Version == version) && p.Constraint.Allows(version)
}

func (p Pin) want() string {
	if p.Version != "" {
		return p.Version
	}
	return p.Constraint.String()
}

// VersionError says that a plugin is installed, but in no version that may run.
type VersionError struct {
	Kind  core.PluginKind
	Name  string
	Dir   string
	Want  string   // a constraint, or the locked version
	There []string // the versions that are there
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("no program of the %s plugin %q in %s has version %s (there are: %s)",
		e.Kind, e.Name, e.Dir, e.Want, strings.Join(e.There, ", "))
}

// Unwrap makes errors.Is true for core.ErrNoVersion.
func (e *VersionError) Unwrap() error { return core.ErrNoVersion }

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

// versions lists the programs of one plugin for this platform, the newest first. Without any it is a *NotFoundError.
func (h *Host) versions(kind core.PluginKind, name string) ([]Binary, error) {
	list, problems := pluginfile.List(h.opts.Dir)
	missing := &NotFoundError{Kind: kind, Name: name, Dir: h.opts.Dir, Problems: problems}
	var versions []Binary
	for _, b := range list {
		if b.Kind != kind || b.Platform != pluginfile.Current() {
			continue
		}
		if b.Name == name {
			versions = append(versions, b)
		} else if !slices.Contains(missing.Available, b.Name) {
			missing.Available = append(missing.Available, b.Name)
		}
	}
	if len(versions) == 0 {
		return nil, missing
	}
	return versions, nil
}

// choose finds the program of a plugin that its pin allows, by file names and content. Nothing is started.
func (h *Host) choose(kind core.PluginKind, name string, pin Pin) (*binary, error) {
	versions, err := h.versions(kind, name)
	if err != nil {
		return nil, err
	}
	fitting := pin.fitting(versions)
	if len(fitting) == 0 {
		return nil, h.noVersion(kind, name, pin, versions)
	}
	if pin.Version != "" && pin.SHA256 == "" {
		return nil, fmt.Errorf("plugin %s: %w: the lock file has no hash for %s; `grapnel plugin lock` there adds it",
			fitting[0].Path, core.ErrNotLocked, pluginfile.Current())
	}
	var other *binary
	for _, b := range fitting {
		found, err := h.read(b, false)
		if err != nil {
			return nil, err
		}
		if pin.SHA256 == "" || strings.EqualFold(pin.SHA256, found.sha256) {
			return found, nil
		}
		if other == nil || b.Version != "" && b.Version == pin.Version {
			other = found
		}
	}
	if pin.Version != "" && other.Version == "" && len(versions) > 1 { // Which of them was meant?
		return nil, h.noVersion(kind, name, pin, versions)
	}
	return nil, fmt.Errorf("plugin %s: %w: its sha256 is %s, not %s", other.Path, core.ErrNotLocked, other.sha256, pin.SHA256)
}

func (h *Host) noVersion(kind core.PluginKind, name string, pin Pin, versions []Binary) error {
	e := &VersionError{Kind: kind, Name: name, Dir: h.opts.Dir, Want: pin.want()}
	for _, b := range versions {
		v := b.Version
		if v == "" {
			v = "one without a version in its file name"
			if found, err := h.read(b, false); err == nil {
				if info := h.known(found); info != nil {
					v = info.Version + " (without a version in its file name)"
				}
			}
		}
		e.There = append(e.There, v)
	}
	return e
}

// checkVersion refuses a program whose file name has no version and that turns out to be another than was asked for.
func (h *Host) checkVersion(b *binary, info *core.PluginInfo) error {
	pin, _ := h.pin(b.Kind, b.Name)
	if b.dev || pin.Constraint.Allows(info.Version) {
		return nil
	}
	versions, err := h.versions(b.Kind, b.Name)
	if err != nil {
		return err
	}
	return h.noVersion(b.Kind, b.Name, pin, versions)
}
