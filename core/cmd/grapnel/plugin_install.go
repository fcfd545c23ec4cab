package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/core/pluginsource"
)

// install is one run of `plugin install`.
type install struct {
	c         *cobra.Command
	place     pluginPlace
	targets   []target
	platforms []string // to install for; the first is this one, unless it was left out
	locked    bool     // what the lock file says, and nothing else
	replace   bool
	lock      bool // write it
	authEnv   string
	stage     string // folder
}

// installed is what was done with a program.
type installed struct {
	Plugin   string `json:"plugin"`
	Version  string `json:"version"`
	Platform string `json:"platform"`
	SHA256   string `json:"sha256"`
	Path     string `json:"path"`
	Done     string `json:"done"`
}

func newPluginInstall(flags *pluginFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "install SOURCE [PLUGIN[@VERSION]]...",
		Short: "Install plugins from a file, a folder, an archive or a mirror",
		Long: `Put plugins' programs into the plugins' folder, beside the versions that are there. SOURCE is

  a program          grapnel-sink-file_v1.2.0
  a folder of them   with folders such as linux_arm64 for other platforms
  an archive         .tar.gz or .zip with the same in it
  a mirror           https://plugins.example.com/grapnel (http:// on this machine only); see docs/plugins.md

Of each plugin it takes the newest version that the configuration allows, or what 'sink-file@~> 1.2' says. Without names it
takes all plugins of a file, folder or archive, and of a mirror those that the configuration uses. --locked takes exactly
what the lock file says, checks the hashes, and is meant for servers and CI.

Every new program for this platform is started once, to be asked for its name and version, before it gets its place. Where
there is a lock file, the new version is locked (--lock=false: not). A running host goes on with what it runs.`,
		Args: cobra.MinimumNArgs(1),
	}
	in := &install{c: c}
	f := c.Flags()
	f.BoolVar(&in.locked, "locked", false, "install what the lock file says")
	f.BoolVar(&in.replace, "replace", false, "replace a program of the same version that differs")
	f.BoolVar(&in.lock, "lock", true, "lock the new version, where there is a lock file")
	f.StringVar(&in.authEnv, "auth-env", "", "environment `variable` with the value of the Authorization header for the mirror")
	timeout := f.Duration("timeout", 10*time.Minute, "for everything that is downloaded")
	platforms := f.StringSlice("platform", []string{pluginfile.Current()},
		"`platforms` to install for, such as linux_arm64, or all")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		in.platforms = *platforms
		for _, p := range in.platforms {
			if p != "all" && !pluginfile.IsPlatform(p) {
				return usage(c, fmt.Sprintf("%q is no platform such as linux_amd64", p))
			}
		}
		if in.targets, err = parseTargets(c, args[1:]); err != nil {
			return err
		}
		if in.place, err = flags.place(c); err != nil {
			return err
		}
		if in.locked && in.place.plugins.LockFile == "" {
			return fmt.Errorf("--locked: there is no %s", config.LockPath(cmp.Or(in.place.config, flags.config)))
		}
		ctx, cancel := context.WithTimeout(c.Context(), *timeout)
		defer cancel()
		done, err := in.run(ctx, args[0])
		if err != nil {
			told := "nothing was installed"
			if len(done) > 0 {
				told = fmt.Sprintf("%s got there before that, as a whole", plural(len(done), "program"))
			}
			return fmt.Errorf("%w\n%s", err, told)
		}
		return in.finish(done, newPrinter(c, *asJSON))
	}
	return c
}

// run does it all. What is done comes with the error: a full disk can keep the second program from its place.
func (in *install) run(ctx context.Context, source string) (done []installed, err error) {
	if in.stage, err = pluginsource.NewStage(in.place.plugins.Dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(in.stage)) }()
	var programs []pluginsource.Program
	if pluginsource.IsURL(source) {
		programs, err = in.download(ctx, source)
	} else {
		programs, err = in.read(source)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		if err := in.againstLock(p); err != nil {
			return nil, err
		}
	}
	// All are asked before the first gets its place.
	var take []pluginsource.Program
	for _, p := range programs {
		if !in.wants(p.Platform) {
			continue
		}
		if p.Platform == pluginfile.Current() {
			if _, err := describeFile(in.c, p.Path); err != nil {
				return nil, fmt.Errorf("%s: %w", p.From, err)
			}
		}
		if there, err := pluginfile.Hash(pluginsource.Target(in.place.plugins.Dir, p.File)); !in.replace &&
			err == nil && there != p.SHA256 {
			return nil, fmt.Errorf("%s: %w; --replace replaces it", pluginsource.Target(in.place.plugins.Dir, p.File),
				pluginsource.ErrExists)
		}
		take = append(take, p)
	}
	for _, p := range take {
		path, fresh, err := pluginsource.Install(in.place.plugins.Dir, p, in.replace)
		if err != nil {
			return done, err
		}
		word := "installed"
		if !fresh {
			word = "was there"
		}
		done = append(done, installed{p.Label(), p.Version, p.Platform, p.SHA256, path, word})
	}
	return done, in.updateLock(take, programs)
}

func (in *install) wants(platform string) bool {
	return slices.Contains(in.platforms, "all") || slices.Contains(in.platforms, platform)
}

// constraint is what may be installed of a plugin.
func (in *install) constraint(label string) pluginfile.Constraint {
	for _, t := range in.targets {
		if t.is(label) && !t.constraint.Any() {
			return t.constraint
		}
	}
	return in.place.pin(label).Constraint
}

// allows reports whether a version is one that may be installed.
func (in *install) allows(label, version string) bool {
	if in.locked {
		x := in.place.locked(label)
		return x != nil && x.Version == version
	}
	return in.constraint(label).Allows(version)
}

// named says which of the plugins that a source has are meant. whole: without names, all.
func (in *install) named(labels []string, whole bool) ([]string, error) {
	if len(in.targets) > 0 {
		var list []string
		for _, t := range in.targets {
			label, err := t.pick(labels)
			if err != nil {
				return nil, err
			}
			list = append(list, label)
		}
		return list, nil
	}
	if whole && !in.locked {
		return labels, nil
	}
	var list, missing []string
	want := in.place.labels()
	if in.locked {
		want = nil
		for _, x := range in.place.plugins.Locked {
			want = append(want, string(x.Kind)+"-"+x.Name)
		}
	}
	for _, label := range want {
		if in.place.pin(label).Dev != "" {
			continue
		}
		if slices.Contains(labels, label) {
			list = append(list, label)
		} else {
			missing = append(missing, label)
		}
	}
	switch {
	case len(list) == 0 && len(missing) == 0:
		return nil, fmt.Errorf("name the plugins to install: there are %s", strings.Join(labels, ", "))
	case len(missing) > 0:
		return nil, fmt.Errorf("there is no %s in it; there are %s", strings.Join(missing, ", "),
			cmp.Or(strings.Join(labels, ", "), "none"))
	}
	return list, nil
}

// read stages a file, folder or archive.
func (in *install) read(source string) ([]pluginsource.Program, error) {
	all, err := pluginsource.Stage(source, in.stage, pluginsource.Limits{}, nil)
	if err != nil {
		return nil, err
	}
	// Those without a version in their name get the one that they say, as far as they can be asked.
	var programs []pluginsource.Program
	for _, p := range all {
		if p.Version == "" && p.Platform == pluginfile.Current() && in.mayBeAsked(p) {
			if p, err = in.version(p); err != nil {
				return nil, err
			}
		}
		programs = append(programs, p)
	}
	var labels []string
	for _, p := range programs {
		if !slices.Contains(labels, p.Label()) {
			labels = append(labels, p.Label())
		}
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("%s holds no plugin: a program is named grapnel-<kind>-<name>", source)
	}
	slices.Sort(labels)
	if labels, err = in.named(labels, true); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	var chosen []pluginsource.Program
	for _, label := range labels {
		some, err := in.choose(label, programs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		chosen = append(chosen, some...)
	}
	return chosen, nil
}

// mayBeAsked reports whether a program is one that was asked for, and that nothing keeps from running.
func (in *install) mayBeAsked(p pluginsource.Program) bool {
	if len(in.targets) > 0 && !slices.ContainsFunc(in.targets, func(t target) bool { return t.is(p.Label()) }) {
		return false
	}
	x := in.place.locked(p.Label())
	return !in.locked || x != nil && x.Hash(p.Platform) == p.SHA256
}

// version asks a program for its version and gives it the name that has it. "devel" is no version that a name can have.
func (in *install) version(p pluginsource.Program) (pluginsource.Program, error) {
	info, err := describeFile(in.c, p.Path)
	if err != nil {
		return p, fmt.Errorf("%s: %w", p.From, err)
	}
	named := p.File
	named.Version = info.Version
	if info.Version == "devel" || !pluginfile.IsVersion(info.Version) {
		return p, nil // it keeps its name
	}
	named.Path = filepath.Join(filepath.Dir(p.Path), named.FileName())
	if _, err := os.Lstat(named.Path); !errors.Is(err, fs.ErrNotExist) {
		return p, errors.Join(fmt.Errorf("%s is version %s, of which there is another program in the source", p.From, info.Version), err)
	}
	if err := os.Rename(p.Path, named.Path); err != nil {
		return p, err
	}
	p.File = named
	return p, nil
}

// choose takes the newest version of a plugin that may be installed and has a program for a platform that is wanted. Its
// programs for other platforms come with it: their hashes are locked.
func (in *install) choose(label string, programs []pluginsource.Program) ([]pluginsource.Program, error) {
	best, there := "", []string{}
	found := false
	for _, p := range programs {
		if p.Label() != label {
			continue
		}
		there = append(there, cmp.Or(p.Version, "one without a version")+" for "+p.Platform)
		if in.wants(p.Platform) && in.allows(label, p.Version) &&
			(!found || pluginfile.CompareVersions(p.Version, best) > 0) {
			best, found = p.Version, true
		}
	}
	if !found {
		return nil, in.none(label, there)
	}
	var list []pluginsource.Program
	for _, p := range programs {
		if p.Label() == label && p.Version == best {
			list = append(list, p)
		}
	}
	return list, nil
}

func (in *install) none(label string, there []string) error {
	want := in.constraint(label).String()
	if x := in.place.locked(label); in.locked && x != nil {
		want = x.Version
	}
	return fmt.Errorf("no program of %s that is %s for %s; there are: %s", label, cmp.Or(want, "of any version"),
		strings.Join(in.platforms, ","), strings.Join(there, ", "))
}

// download stages what is wanted of a mirror.
func (in *install) download(ctx context.Context, address string) ([]pluginsource.Program, error) {
	opts := pluginsource.MirrorOptions{UserAgent: "grapnel/" + version}
	if in.authEnv != "" {
		if opts.Authorization = os.Getenv(in.authEnv); opts.Authorization == "" {
			return nil, fmt.Errorf("--auth-env: the environment variable %s is not set", in.authEnv)
		}
	}
	m, err := pluginsource.OpenMirror(ctx, address, opts)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var labels []string
	for _, r := range m.Releases {
		if !slices.Contains(labels, r.Plugin) {
			labels = append(labels, r.Plugin)
		}
	}
	slices.Sort(labels)
	if labels, err = in.named(labels, false); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	var programs []pluginsource.Program
	for _, label := range labels {
		r, err := in.release(label, m.Releases)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", address, err)
		}
		fmt.Fprintf(in.c.ErrOrStderr(), "downloading %s %s\n", r.Plugin, r.Version)
		some, err := m.Fetch(ctx, r, in.stage)
		if err != nil {
			return nil, err
		}
		programs = append(programs, some...)
	}
	return programs, nil
}

// release takes the newest release of a plugin that may be installed: a pre-release only if there is nothing else, or it
// was asked for.
func (in *install) release(label string, releases []pluginsource.Release) (pluginsource.Release, error) {
	var best pluginsource.Release
	var there []string
	finished, err := pluginfile.ParseConstraint(">= 0.0.0") // which no pre-release is
	if err != nil {
		return best, err
	}
	for _, r := range releases {
		if r.Plugin != label {
			continue
		}
		there = append(there, r.Version+" for "+strings.Join(r.Platforms, ","))
		if !in.allows(label, r.Version) || !slices.ContainsFunc(r.Platforms, in.wants) {
			continue
		}
		better := pluginfile.CompareVersions(r.Version, best.Version) > 0
		if in.constraint(label).Any() && best.Version != "" && finished.Allows(r.Version) != finished.Allows(best.Version) {
			better = finished.Allows(r.Version)
		}
		if better {
			best = r
		}
	}
	if best.Version == "" {
		return best, in.none(label, there)
	}
	return best, nil
}

// againstLock refuses a program that has the locked version and is not the program that was locked.
func (in *install) againstLock(p pluginsource.Program) error {
	x := in.place.locked(p.Label())
	if x == nil || x.Version != p.Version || in.place.pin(p.Label()).Dev != "" {
		return nil
	}
	hash := x.Hash(p.Platform)
	if hash == p.SHA256 || hash == "" && !in.locked {
		return nil
	}
	if !in.wants(p.Platform) && hash == "" {
		return nil
	}
	if hash == "" {
		return fmt.Errorf("%s: %w: the lock file has no hash of %s %s for %s",
			p.From, core.ErrNotLocked, p.Label(), p.Version, p.Platform)
	}
	return fmt.Errorf("%s: %w: its sha256 is %s, %s has %s for %s %s on %s\n"+
		"one version has one program: find out why it changed; to accept it, remove the entry from the lock file",
		p.From, core.ErrNotLocked, p.SHA256, x.Range, hash, p.Label(), p.Version, p.Platform)
}

// updateLock locks the new versions, with the hashes of all platforms that the source has them for.
func (in *install) updateLock(taken, programs []pluginsource.Program) error {
	if in.locked || !in.lock || in.place.plugins.LockFile == "" {
		return nil
	}
	entries := slices.Clone(in.place.plugins.Locked)
	for _, p := range taken {
		pin := in.place.pin(p.Label())
		switch {
		case p.Platform != pluginfile.Current() || pin.Dev != "":
			continue
		case !pin.Constraint.Allows(p.Version):
			fmt.Fprintf(in.c.ErrOrStderr(), "warning: %s %s is not locked: the configuration asks for %q, at %s\n",
				p.Label(), p.Version, pin.Version, pin.Range)
			continue
		}
		info, err := describeFile(in.c, pluginsource.Target(in.place.plugins.Dir, p.File))
		if err != nil {
			return fmt.Errorf("it was installed, but not locked: %w", err)
		}
		entry := config.Locked{
			Kind: p.Kind, Name: p.Name, Version: info.Version, Protocol: info.Protocol, Hashes: map[string]string{},
		}
		i := slices.IndexFunc(entries, func(x config.Locked) bool { return x.Kind == p.Kind && x.Name == p.Name })
		if i >= 0 && entries[i].Version == entry.Version {
			maps.Copy(entry.Hashes, entries[i].Hashes)
		}
		for _, x := range programs {
			if x.Label() == p.Label() && x.Version == p.Version {
				entry.Hashes[x.Platform] = x.SHA256
			}
		}
		if i >= 0 {
			entries[i] = entry
		} else {
			entries = append(entries, entry)
		}
	}
	if err := saveLock(config.LockPath(in.place.config), entries); err != nil {
		return fmt.Errorf("it was installed, but not locked: %w", err)
	}
	return nil
}

// finish tells what was done, and what to do now.
func (in *install) finish(done []installed, out printer) error {
	err := page(out, done, "", "PLUGIN VERSION PLATFORM SHA256 DONE", func(d installed) []string {
		return []string{d.Plugin, cmp.Or(d.Version, "?"), d.Platform, d.SHA256[:12], d.Done}
	})
	if err != nil || out.json {
		return err
	}
	next := "a running host goes on with what it runs until grapnel plugin upgrade, or a restart"
	switch {
	case in.place.config == "":
		next = "name it in a configuration: source or sink blocks have its name as their first label"
	case in.locked:
	case in.place.plugins.LockFile == "":
		next += "\nthere is no lock file: grapnel plugin lock writes one"
	case !in.lock:
		next += "\nthe lock file is as it was: grapnel plugin lock takes the new version"
	}
	_, err = fmt.Fprintln(out.out, next)
	return err
}
