package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"golang.org/x/mod/semver"

	"github.com/grapnelhq/grapnel/core"
)

// readLock reads the lock file beside the configuration, if there is one. It reports false if it has a mistake.
func (l *loader) readLock() bool {
	dir := l.cfg.Path
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	name := filepath.Join(dir, lockFile)
	// A link that leads nowhere is a file that is missing, not one that nobody wanted.
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	l.cfg.Plugins.LockFile = name
	before := len(l.diags.list)
	if body := l.parse(name); body != nil && len(l.diags.list) == before {
		l.lockEntries(body)
	}
	return len(l.diags.list) == before
}

func (l *loader) lockEntries(body *hclsyntax.Body) {
	for _, a := range inOrder(body.Attributes) {
		l.error(a.NameRange, fmt.Sprintf("The attribute %q stands outside of all blocks", a.Name),
			`A lock file holds plugin blocks only: plugin "sink-file" { … }`)
	}
	first := map[pluginRef]hcl.Range{}
	for _, n := range body.Blocks {
		if n.Type != "plugin" {
			l.error(n.TypeRange, fmt.Sprintf("There is no block %q in a lock file", n.Type),
				`It holds plugin blocks only: plugin "sink-file" { … }`)
			continue
		}
		ref, ok := l.pluginLabel(n)
		if !ok {
			continue
		}
		if earlier, twice := first[ref]; twice {
			l.error(blockHeader(n), fmt.Sprintf("A second block for the plugin %q", ref.String()),
				"The first is at "+rangeOf(earlier).place()+".")
			continue
		}
		first[ref] = blockHeader(n)
		b := l.block(n, fmt.Sprintf("plugin %q", ref.String()))
		x := Locked{Kind: ref.kind, Name: ref.name, Range: rangeOf(b.at)}
		b.literal("version", &x.Version, isVersion, `the version that the program names, such as "1.2.0"`)
		b.literal("sha256", &x.SHA256, hashPattern.MatchString, "the 64 hexadecimal digits that sha256sum prints")
		b.finish()
		x.SHA256 = strings.ToLower(x.SHA256)
		l.cfg.Plugins.Locked = append(l.cfg.Plugins.Locked, x)
	}
}

var hashPattern = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)

// isVersion reports whether a plugin can have that version.
func isVersion(s string) bool {
	return s == "devel" || !strings.HasPrefix(s, "v") && semver.IsValid("v"+s)
}

// literal takes a text that must be there and that nothing outside of the file can change.
func (b *block) literal(name string, to *string, valid func(string) bool, want string) {
	a := b.attr(name)
	if a == nil {
		b.l.error(b.at, fmt.Sprintf("%q is missing in %s", name, b.what), "")
		return
	}
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		b.l.foreign(diags, a.Expr.Range().Ptr())
		return
	}
	s, ok := asText(v)
	if !ok || !valid(s) {
		b.wrong(name, a.Expr.Range(), want)
		return
	}
	*to = s
}

// locked finds a plugin in the lock file, unless a development path stands in its place.
func (l *loader) locked(ref pluginRef) *Locked {
	for i, x := range l.cfg.Plugins.Locked {
		if x.Kind == ref.kind && x.Name == ref.name && !l.dev(ref) {
			return &l.cfg.Plugins.Locked[i]
		}
	}
	return nil
}

// dev reports whether a plugin is run from a development path.
func (l *loader) dev(ref pluginRef) bool {
	for _, p := range l.cfg.Plugins.Pins {
		if p.Kind == ref.kind && p.Name == ref.name {
			return p.Dev != ""
		}
	}
	return false
}

// checkLocked compares a plugin that block b uses with the lock file. That its program is the one that was locked is
// for the catalogue to see, before it starts it.
func (l *loader) checkLocked(ref pluginRef, b *hclsyntax.Block, info *core.PluginInfo) {
	if l.cfg.Plugins.LockFile == "" || l.dev(ref) {
		return
	}
	x := l.locked(ref)
	if x == nil {
		l.warn(b.LabelRanges[0], fmt.Sprintf("The plugin %q is not in the lock file", ref.String()),
			fmt.Sprintf("Any program of that name is run. To lock the one that is there now, add to %s:\n"+
				"plugin %q {\n  version = %q\n  sha256  = %q\n}", l.cfg.Plugins.LockFile, ref.String(), info.Version, info.SHA256))
		return
	}
	if x.Version != info.Version {
		l.say(Error, x.Range,
			fmt.Sprintf("The locked program of the plugin %q calls itself version %s", ref.String(), info.Version),
			fmt.Sprintf("The lock file says %q. Correct it there.", x.Version))
	}
}
