package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/core/pluginsource"
)

func newPluginLock(flags *pluginFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "lock [PLUGIN[@VERSION]]...",
		Short: "Write down which plugin programs may run",
		Long: `Write grapnel.lock.hcl beside the configuration: for every plugin that the configuration names, the version, the
protocol and the hashes of its programs, for this platform and for those in folders such as bin/plugins/linux_arm64. From
then on no other program is started. The programs of this platform are started once, to be asked: look at them before.

It takes the newest version that the configuration allows. With arguments it changes only those entries, and
sink-file@1.2.0 or 'sink-file@~> 1.2' takes another version than the newest, such as the one before. Hashes that are there
for other platforms stay as long as the version does.

--check writes nothing and fails if the lock file does not fit the configuration or the programs that are there.`,
		Args: cobra.ArbitraryArgs,
	}
	check := c.Flags().Bool("check", false, "write nothing; fail if the lock file does not fit")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		place, err := flags.place(c)
		if err != nil {
			return err
		}
		if place.config == "" {
			return fmt.Errorf("there is no %s: a lock file belongs to a configuration (--config)", flags.config)
		}
		targets, err := parseTargets(c, args)
		if err != nil {
			return err
		}
		if *check {
			if len(args) > 0 {
				return usage(c, "--check looks at all plugins")
			}
			return checkLock(c, place)
		}
		return writeLock(c, place, targets, newPrinter(c, *asJSON))
	}
	return c
}

// target is a plugin that an argument names.
type target struct {
	name       string // <kind>-<name> or name
	constraint pluginfile.Constraint
}

func (t target) is(label string) bool {
	_, name, _ := strings.Cut(label, "-")
	return t.name == label || t.name == name
}

// parseTargets reads NAME[@CONSTRAINT]...
func parseTargets(c *cobra.Command, args []string) ([]target, error) {
	var list []target
	for _, a := range args {
		name, text, ok := strings.Cut(a, "@")
		t := target{name: name}
		if ok {
			var err error
			if t.constraint, err = pluginfile.ParseConstraint(text); err != nil {
				return nil, usage(c, fmt.Sprintf("%q: %s; write sink-file@1.2.0 or 'sink-file@~> 1.2'", a, err))
			}
		}
		if _, err := pluginfile.ParseLabel(name); err != nil {
			if _, err := pluginfile.ParseLabel("sink-" + name); err != nil {
				return nil, usage(c, fmt.Sprintf("%q names no plugin: write sink-file, or sink-file@1.2.0", a))
			}
		}
		list = append(list, t)
	}
	return list, nil
}

// labels are the plugins that a configuration names, sorted.
func (p pluginPlace) labels() []string {
	var list []string
	for _, u := range p.uses {
		list = append(list, string(u.Kind)+"-"+u.Name)
	}
	slices.Sort(list)
	return list
}

// pick finds the plugin that a target means among some.
func (t target) pick(labels []string) (string, error) {
	var found []string
	for _, l := range labels {
		if t.is(l) {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("there is no plugin %q among %s", t.name, cmp.Or(strings.Join(labels, ", "), "none"))
	}
	return "", fmt.Errorf("%q is %s: write which", t.name, strings.Join(found, " or "))
}

// change is what a new lock file says about a plugin, and what the old one said.
type change struct {
	Plugin  string            `json:"plugin"`
	Version string            `json:"version,omitempty"` // empty: its entry was removed
	Hashes  map[string]string `json:"hashes,omitempty"`
	Change  string            `json:"change"`
}

// writeLock locks what the targets name, or all plugins of the configuration.
func writeLock(c *cobra.Command, place pluginPlace, targets []target, out printer) error {
	constraints := map[string]pluginfile.Constraint{}
	used := place.labels()
	labels := used
	if len(targets) > 0 {
		labels = nil
		for _, t := range targets {
			label, err := t.pick(used)
			if err != nil {
				return fmt.Errorf("%s: %w", place.config, err)
			}
			labels = append(labels, label)
			constraints[label] = t.constraint
		}
	}
	var changes []change
	var errs []error
	entries := map[string]config.Locked{}
	for _, x := range place.plugins.Locked {
		label := string(x.Kind) + "-" + x.Name
		if len(targets) == 0 && !slices.Contains(used, label) {
			changes = append(changes, change{Plugin: label, Change: "removed, the configuration does not use it"})
			continue
		}
		entries[label] = x
	}
	for _, label := range labels {
		if pin := place.pin(label); pin.Dev != "" {
			changes = append(changes, change{Plugin: label, Change: "skipped, it is run from a development path"})
			continue
		}
		entry, err := lockOne(c.Context(), place, label, constraints[label])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		changes = append(changes, change{label, entry.Version, entry.Hashes, difference(place.locked(label), entry)})
		entries[label] = entry
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w\nnothing was written", err)
	}
	path := config.LockPath(place.config)
	if err := saveLock(path, slices.Collect(maps.Values(entries))); err != nil {
		return err
	}
	slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.Plugin, b.Plugin) })
	err := page(out, changes, "", "PLUGIN VERSION PLATFORMS CHANGE", func(x change) []string {
		return []string{x.Plugin, x.Version, strings.Join(slices.Sorted(maps.Keys(x.Hashes)), ","), x.Change}
	})
	if !out.json && err == nil {
		_, err = fmt.Fprintf(out.out, "%s is written\n", path)
	}
	return err
}

// saveLock writes a lock file, unless it says that already.
func saveLock(path string, entries []config.Locked) error {
	text := config.FormatLock(entries)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	return pluginsource.WriteFile(path, text)
}

// lockOne makes the entry of a plugin: of the newest version in the folder that the configuration and a constraint allow.
func lockOne(ctx context.Context, place pluginPlace, label string, constraint pluginfile.Constraint) (
	config.Locked, error) {
	name, err := pluginfile.ParseLabel(label)
	if err != nil {
		return config.Locked{}, err
	}
	pin := place.pin(label)
	want := config.Plugins{Dir: place.plugins.Dir, Pins: []config.Pin{
		{Kind: name.Kind, Name: name.Name, Constraint: pin.Constraint, SHA256: pin.SHA256},
	}}
	if !constraint.Any() {
		want.Pins[0].Constraint = constraint
	}
	host, err := newPluginHost(want, nil, hclog.NewNullLogger())
	if err != nil {
		return config.Locked{}, err
	}
	defer host.Close(ctx)
	info, err := host.Describe(ctx, name.Kind, name.Name)
	switch {
	case errors.Is(err, core.ErrNoVersion) || errors.Is(err, core.ErrNoPlugin):
		return config.Locked{}, fmt.Errorf("%w; to get it: grapnel plugin install SOURCE %s", err, label)
	case err != nil:
		return config.Locked{}, err
	case !pin.Constraint.Allows(info.Version):
		return config.Locked{}, fmt.Errorf("%s: the configuration asks for %q of the plugin %q, not for version %s",
			pin.Range, pin.Version, label, info.Version)
	case !pluginfile.IsVersion(info.Version):
		return config.Locked{}, fmt.Errorf("%s calls itself version %q, which is none", info.Path, info.Version)
	}
	entry := config.Locked{
		Kind: name.Kind, Name: name.Name, Version: info.Version, Protocol: info.Protocol,
		Hashes: map[string]string{pluginfile.Current(): info.SHA256},
	}
	if old := place.locked(label); old != nil && old.Version == entry.Version {
		for platform, hash := range old.Hashes {
			if platform != pluginfile.Current() {
				entry.Hashes[platform] = hash
			}
		}
	}
	foreign, err := foreignHashes(place.plugins.Dir, entry)
	maps.Copy(entry.Hashes, foreign)
	return entry, err
}

// foreignHashes are those of a version's programs for other platforms in the plugins' folder.
func foreignHashes(dir string, entry config.Locked) (map[string]string, error) {
	files, err := pluginfile.List(dir)
	if files == nil && err != nil { // what is odd about single files does not matter here
		return nil, err
	}
	hashes := map[string]string{}
	for _, f := range files {
		if f.Kind != entry.Kind || f.Name != entry.Name || f.Version != entry.Version || f.Platform == pluginfile.Current() {
			continue
		}
		if hashes[f.Platform], err = pluginfile.Hash(f.Path); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// difference says in few words what is new about an entry.
func difference(old *config.Locked, now config.Locked) string {
	switch here := pluginfile.Current(); {
	case old == nil:
		return "new"
	case old.Version != now.Version:
		return "was " + old.Version
	case old.Hash(here) != "" && old.Hash(here) != now.Hash(here):
		return "another program of the same version"
	}
	var more []string
	for _, platform := range slices.Sorted(maps.Keys(now.Hashes)) {
		switch old.Hash(platform) {
		case now.Hashes[platform]:
		case "":
			more = append(more, "also for "+platform)
		default:
			more = append(more, "another program for "+platform)
		}
	}
	return cmp.Or(strings.Join(more, ", "), "as it was")
}

// checkLock says whether what runs would be what the lock file says, and whether it says enough.
func checkLock(c *cobra.Command, place pluginPlace) error {
	if place.plugins.LockFile == "" {
		return fmt.Errorf("there is no %s; grapnel plugin lock writes it", config.LockPath(place.config))
	}
	host, err := newPluginHost(place.plugins, nil, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer host.Close(c.Context())
	var errs []error
	checked := 0
	for _, label := range place.labels() {
		entry, pin := place.locked(label), place.pin(label)
		switch {
		case pin.Dev != "":
			fmt.Fprintf(c.ErrOrStderr(), "%s: warning: %s is run from a development path, the lock file is not consulted for it\n",
				pin.Range, label)
			continue
		case entry == nil:
			errs = append(errs, fmt.Errorf("%s: the plugin %q is not in it", place.plugins.LockFile, label))
			continue
		case !pin.Constraint.Allows(entry.Version):
			errs = append(errs, fmt.Errorf("%s: it has version %s of the plugin %q, the configuration asks for %q",
				entry.Range, entry.Version, label, pin.Version))
			continue
		}
		if err := checkEntry(c.Context(), host, place, *entry); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", entry.Range, err))
			continue
		}
		checked++
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w\nto get what is locked: grapnel plugin install --locked SOURCE"+
			"\nto lock what is there, once it is checked: grapnel plugin lock", err)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s fits: %s\n", filepath.Clean(place.plugins.LockFile), plural(checked, "plugin"))
	return err
}

func checkEntry(ctx context.Context, host describer, place pluginPlace, entry config.Locked) error {
	info, err := host.Describe(ctx, entry.Kind, entry.Name)
	switch {
	case err != nil:
		return err
	case info.Version != entry.Version:
		return fmt.Errorf("the locked program calls itself version %s", info.Version)
	case entry.Protocol != 0 && entry.Protocol != info.Protocol:
		return fmt.Errorf("it was locked with protocol %d, and speaks %d", entry.Protocol, info.Protocol)
	}
	foreign, err := foreignHashes(place.plugins.Dir, entry)
	if err != nil {
		return err
	}
	for _, platform := range slices.Sorted(maps.Keys(foreign)) {
		switch entry.Hash(platform) {
		case foreign[platform]:
		case "":
			return fmt.Errorf("it has no hash of the plugin %q for %s, whose program is there", entry.Name, platform)
		default:
			return fmt.Errorf("the program of the plugin %q for %s is not the one that was locked", entry.Name, platform)
		}
	}
	return nil
}

type describer interface {
	Describe(ctx context.Context, kind core.PluginKind, name string) (*core.PluginInfo, error)
}

// samePath reports whether two paths are one.
func samePath(a, b string) bool {
	x, errA := filepath.Abs(a)
	y, errB := filepath.Abs(b)
	return a == b || errA == nil && errB == nil && x == y
}
