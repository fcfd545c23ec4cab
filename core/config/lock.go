package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

// LockPath is where the lock file of a configuration is, or would be: in its folder.
func LockPath(path string) string {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		path = filepath.Dir(path)
	}
	return filepath.Join(path, lockFile)
}

// FormatLock writes a lock file: what Load reads, in the order of the plugins' names.
func FormatLock(list []Locked) []byte {
	var b bytes.Buffer
	b.WriteString("# The plugin programs that may run. Written by `grapnel plugin lock`; keep it beside the configuration,\n" +
		"# under version control.\n")
	order := func(a, b Locked) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	}
	for _, x := range slices.SortedFunc(slices.Values(list), order) {
		fmt.Fprintf(&b, "\nplugin %q {\n", pluginRef{x.Kind, x.Name}.String())
		fmt.Fprintf(&b, "  version  = %q\n", x.Version)
		if x.Protocol != 0 {
			fmt.Fprintf(&b, "  protocol = %d\n", x.Protocol)
		}
		if x.SHA256 != "" {
			fmt.Fprintf(&b, "  sha256   = %q\n", x.SHA256)
		}
		if len(x.Hashes) > 0 {
			platforms := slices.Sorted(maps.Keys(x.Hashes))
			wide := 0
			for _, p := range platforms {
				wide = max(wide, len(p))
			}
			b.WriteString("  hashes = {\n")
			for _, p := range platforms {
				fmt.Fprintf(&b, "    %-*s = %q\n", wide, p, x.Hashes[p])
			}
			b.WriteString("  }\n")
		}
		b.WriteString("}\n")
	}
	return b.Bytes()
}

// Hash is the hash of the program that may run on a platform; empty if none is locked for it.
func (x Locked) Hash(platform string) string { return cmp.Or(x.Hashes[platform], x.SHA256) }

// readLock reads the lock file beside the configuration, if there is one. It reports false if it has a mistake.
func (l *loader) readLock() bool {
	name := LockPath(l.cfg.Path)
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
		b.literal("version", &x.Version, pluginfile.IsVersion, `the version that the program names, such as "1.2.0"`)
		b.protocol(&x.Protocol)
		b.hashes(&x.Hashes)
		if b.body.Attributes["hashes"] == nil || b.body.Attributes["sha256"] != nil {
			b.literal("sha256", &x.SHA256, hashPattern.MatchString, wantHash)
		}
		b.attrs = append(b.attrs, "sha256")
		b.finish()
		x.SHA256 = strings.ToLower(x.SHA256)
		l.cfg.Plugins.Locked = append(l.cfg.Plugins.Locked, x)
	}
}

var hashPattern = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)

const wantHash = "the 64 hexadecimal digits that sha256sum prints"

// literal takes a text that must be there and that nothing outside of the file can change.
func (b *block) literal(name string, to *string, valid func(string) bool, want string) {
	a := b.attr(name)
	if a == nil {
		b.l.error(b.at, fmt.Sprintf("%q is missing in %s", name, b.what), "")
		return
	}
	v, ok := b.constant(a)
	if !ok {
		return
	}
	s, ok := asText(v)
	if !ok || !valid(s) {
		b.wrong(name, a.Expr.Range(), want)
		return
	}
	*to = s
}

func (b *block) constant(a *hclsyntax.Attribute) (cty.Value, bool) {
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		b.l.foreign(diags, a.Expr.Range().Ptr())
	}
	return v, !diags.HasErrors()
}

// protocol takes the number of a plugin's protocol, which need not be there.
func (b *block) protocol(to *int) {
	a := b.attr("protocol")
	if a == nil {
		return
	}
	v, ok := b.constant(a)
	if !ok {
		return
	}
	n, ok := asInteger(v)
	if !ok || n < 1 || n > 1000 {
		b.wrong("protocol", a.Expr.Range(), "the number of the plugin protocol, such as 1")
		return
	}
	*to = int(n)
}

// hashes takes a hash for each platform.
func (b *block) hashes(to *map[string]string) {
	a := b.attr("hashes")
	if a == nil {
		return
	}
	v, ok := b.constant(a)
	if !ok {
		return
	}
	const want = `a hash for each platform, such as { linux_amd64 = "…" }`
	if v.IsNull() || !v.Type().IsObjectType() || v.LengthInt() == 0 {
		b.wrong("hashes", a.Expr.Range(), want)
		return
	}
	m := map[string]string{}
	for platform, hash := range v.AsValueMap() {
		s, ok := asText(hash)
		if !ok || !hashPattern.MatchString(s) || !pluginfile.IsPlatform(platform) {
			b.wrong("hashes", a.Expr.Range(), want)
			return
		}
		m[platform] = strings.ToLower(s)
	}
	*to = m
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

// pin finds what the configuration asks of a plugin.
func (l *loader) pin(ref pluginRef) *Pin {
	for i, p := range l.cfg.Plugins.Pins {
		if p.Kind == ref.kind && p.Name == ref.name {
			return &l.cfg.Plugins.Pins[i]
		}
	}
	return nil
}

// dev reports whether a plugin is run from a development path.
func (l *loader) dev(ref pluginRef) bool {
	p := l.pin(ref)
	return p != nil && p.Dev != ""
}

// misfit is what keeps a plugin from being asked at all.
type misfit struct {
	at              Range
	summary, detail string
}

func (m *misfit) Error() string { return m.summary }

// fits says whether the lock file and the configuration agree about a plugin, and whether the lock file allows a program
// for this platform. The error is nil or a *misfit.
func (l *loader) fits(ref pluginRef) error {
	locked, pin, here := l.locked(ref), l.pin(ref), pluginfile.Current()
	if locked == nil {
		return nil
	}
	hash := locked.Hash(here)
	switch {
	case pin != nil && !pin.Constraint.Allows(locked.Version):
		return &misfit{pin.Range,
			fmt.Sprintf("The lock file has version %s of the plugin %q, the configuration asks for %q",
				locked.Version, ref.String(), pin.Version),
			fmt.Sprintf("The entry is at %s.\nTo lock a version that satisfies it: grapnel plugin lock %s", locked.Range.place(), ref)}
	case hash == "":
		return &misfit{locked.Range,
			fmt.Sprintf("The lock file has no hash of the plugin %q for %s", ref.String(), here),
			fmt.Sprintf("It has one for %s.\nTo add that of the program of version %s, once it is in %s: grapnel plugin lock %s",
				list(slices.Sorted(maps.Keys(locked.Hashes))), locked.Version, l.cfg.Plugins.Dir, ref)}
	case pin != nil && pin.SHA256 != "" && pin.SHA256 != hash:
		return &misfit{pin.Range,
			fmt.Sprintf("The lock file has another hash of the plugin %q than the configuration", ref.String()),
			fmt.Sprintf("It has %s, at %s. With a lock file sha256 need not be written here.", hash, locked.Range.place())}
	}
	return nil
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
			fmt.Sprintf("Any program of that name is run; the one that is there now has version %s.\nTo lock it: grapnel plugin lock %s",
				info.Version, ref))
		return
	}
	if x.Version != info.Version {
		l.say(Error, x.Range,
			fmt.Sprintf("The locked program of the plugin %q calls itself version %s", ref.String(), info.Version),
			fmt.Sprintf("The lock file says %q. To correct it: grapnel plugin lock %s", x.Version, ref))
	}
	if x.Protocol != 0 && info.Protocol != 0 && x.Protocol != info.Protocol {
		l.say(Error, x.Range,
			fmt.Sprintf("The plugin %q was locked with protocol %d, this version of grapnel speaks %d with it",
				ref.String(), x.Protocol, info.Protocol),
			fmt.Sprintf("Use the version of grapnel that it was locked with.\nTo lock it again: grapnel plugin lock %s", ref))
	}
}
