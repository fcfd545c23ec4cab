package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

// upgrader is the control API's way to the plugins of a running host.
type upgrader struct{ *host }

var _ admin.Upgrader = upgrader{}

// Upgrade implements admin.Upgrader. What may run is read from the files of the configuration as they are now, as a start
// of the host would read them; all else stays as it is in the running host.
func (u upgrader) Upgrade(
	ctx context.Context, o admin.UpgradeOrder, trial time.Duration, report func(admin.UpgradeProgress),
) (admin.Upgraded, error) {
	if err := u.reloads.take(ctx); err != nil {
		return admin.Upgraded{}, &admin.UpgradeError{Reason: "a reload or another upgrade goes on: " + err.Error()}
	}
	defer u.reloads.give()
	kind, name, err := u.used(o.Plugin)
	if err != nil {
		return admin.Upgraded{}, err
	}
	plugins, uses, diags := config.LoadPlugins(u.config().Path, config.Options{})
	if err := diags.Err(); err != nil {
		return admin.Upgraded{}, fmt.Errorf("the configuration as it is now: %w", err)
	}
	a := allowed{pluginPlace{u.config().Path, plugins, uses}, kind, name, u.config().Secrets}
	c := candidate{path: o.Program, dev: o.Dev}
	if !o.Dev {
		if c, err = a.choose(ctx, o); err != nil {
			return admin.Upgraded{}, &admin.UpgradeError{Reason: err.Error()}
		}
	}
	done, err := u.plugins.Upgrade(ctx, kind, name, c.path, pluginhost.UpgradeOptions{
		SHA256: c.sha256, Allow: c.allow, Dev: c.dev, Trial: trial, NoWait: o.NoWait, Uses: u.uses,
		Progress: func(p pluginhost.UpgradeProgress) {
			report(admin.UpgradeProgress{Stage: string(p.Stage), Done: p.Done, Total: p.Total})
		},
	})
	if err != nil {
		return admin.Upgraded{}, upgradeError(err)
	}
	return admin.Upgraded{
		Plugin: string(kind) + "-" + name, From: programOf(done.From), To: programOf(done.To), Same: done.Same,
		Blocks: done.Blocks, Drained: done.Drained, Notes: done.Notes,
		Restart: a.afterRestart(ctx, done.To),
	}, nil
}

// used finds the plugin that a name means, among those that the running configuration uses.
func (u upgrader) used(name string) (core.PluginKind, string, error) {
	type ref struct {
		kind core.PluginKind
		name string
	}
	var all []ref
	for _, s := range u.config().Sources {
		all = append(all, ref{core.PluginDecoder, s.Plugin})
	}
	for _, s := range u.config().Sinks {
		all = append(all, ref{core.PluginSink, s.Plugin})
	}
	var found []ref
	var labels []string
	for _, r := range all {
		label := string(r.kind) + "-" + r.name
		if (name == r.name || name == label) && !slices.Contains(found, r) {
			found = append(found, r)
		}
		if !slices.Contains(labels, label) {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	switch len(found) {
	case 1:
		return found[0].kind, found[0].name, nil
	case 0:
		return "", "", &admin.UpgradeError{Reason: fmt.Sprintf(
			"no block of the running configuration uses a plugin %q; there are %s", name, strings.Join(labels, ", "))}
	}
	return "", "", &admin.UpgradeError{Reason: fmt.Sprintf(
		"%q is a source's and a sink's plugin: say decoder-%[1]s or sink-%[1]s", name)}
}

// uses reports whether a route of the running configuration sets an attribute of the messages to a sink.
func (u upgrader) uses(sink, attribute string) bool {
	for _, r := range u.config().Routes {
		for _, to := range r.To {
			if to.Sink == sink && to.Message.Locate([]string{attribute}) != "" {
				return true
			}
		}
	}
	return false
}

// upgradeError says why an upgrade did not happen in a way that can be shown in parts.
func upgradeError(err error) error {
	var refused *pluginhost.RefusedError
	var back *pluginhost.RolledBackError
	switch {
	case errors.As(err, &refused):
		told := &admin.UpgradeError{
			Misfit: true, Reason: "the new version does not fit under the configuration that runs, so the old one stays",
		}
		told.Problems = append(told.Problems, refused.Problems...)
		for _, block := range refused.Names() {
			for k := range refused.Blocks[block] {
				told.Problems = append(told.Problems, fmt.Sprintf("%q: %s", block, refused.Blocks[block][k].Error()))
			}
		}
		return told
	case errors.As(err, &back):
		return &admin.UpgradeError{RolledBack: true, Reason: "taken back, the old version goes on: " + back.Reason}
	}
	return &admin.UpgradeError{Reason: err.Error()}
}

func programOf(info *core.PluginInfo) admin.PluginProgram {
	return admin.PluginProgram{Version: info.Version, SHA256: info.SHA256, Path: info.Path, Dev: info.Dev}
}

// allowed is what the files of a configuration say about the programs of one plugin.
type allowed struct {
	pluginPlace
	kind    core.PluginKind
	name    string
	secrets []string
}

func (a allowed) label() string { return string(a.kind) + "-" + a.name }

// candidate is a program that may run, if it is what it should be.
type candidate struct {
	path   string
	sha256 string                       // empty: any
	allow  func(*core.PluginInfo) error // what it says of itself; nil: anything
	dev    bool
}

// choose finds the program that an order means and sees, before it is started, whether it may run.
func (a allowed) choose(ctx context.Context, o admin.UpgradeOrder) (candidate, error) {
	if o.Program != "" {
		return a.program(o.Program)
	}
	find := a.atStart
	if o.Version != "" {
		find = func(ctx context.Context) (*core.PluginInfo, error) { return a.version(ctx, o.Version) }
	}
	info, err := find(ctx)
	if err != nil {
		return candidate{}, err
	}
	return candidate{path: info.Path, sha256: info.SHA256, dev: info.Dev}, nil
}

// program sees whether a program that may be anywhere may run.
func (a allowed) program(path string) (candidate, error) {
	if err := pluginfile.CheckExecutable(path); err != nil {
		return candidate{}, err
	}
	sum, err := pluginfile.Hash(path)
	if err != nil {
		return candidate{}, err
	}
	c := candidate{path: path, sha256: sum}
	pin, locked := a.pin(a.label()), a.locked(a.label())
	switch {
	case pin.Dev != "": // neither pin nor lock file hold for a path of the configuration
		return c, nil
	case locked != nil && locked.Hash(pluginfile.Current()) != sum:
		return c, fmt.Errorf("%s does not know %s (sha256 %s): install it in %s, and then grapnel plugin lock %s",
			a.plugins.LockFile, path, sum, a.plugins.Dir, a.label())
	case pin.SHA256 != "" && pin.SHA256 != sum:
		return c, fmt.Errorf("%s asks for another program than %s: its sha256 is %s", pin.Range, path, sum)
	}
	c.allow = func(info *core.PluginInfo) error { return a.allows(info.Version) }
	return c, nil
}

// version finds a version in the plugin folder.
func (a allowed) version(ctx context.Context, version string) (*core.PluginInfo, error) {
	pin := a.pin(a.label())
	if pin.Dev != "" {
		return nil, fmt.Errorf("%s has %s run from %s: no version is looked for", pin.Range, a.label(), pin.Dev)
	}
	if err := a.allows(version); err != nil {
		return nil, err
	}
	exactly, err := pluginfile.ParseConstraint(version)
	if err != nil {
		return nil, fmt.Errorf("%q is no version: %w", version, err)
	}
	a.plugins.Pins = slices.DeleteFunc(slices.Clone(a.plugins.Pins), func(p config.Pin) bool {
		return p.Kind == a.kind && p.Name == a.name
	})
	pin.Kind, pin.Name, pin.Constraint = a.kind, a.name, exactly
	a.plugins.Pins = append(a.plugins.Pins, pin)
	return a.atStart(ctx)
}

// allows says why a version may not run.
func (a allowed) allows(version string) error {
	pin, locked := a.pin(a.label()), a.locked(a.label())
	if !pin.Constraint.Allows(version) {
		return fmt.Errorf("%s asks for version %q of %s, and %s is not: change it there", pin.Range, pin.Version, a.label(),
			version)
	}
	if locked != nil && locked.Version != version {
		return fmt.Errorf("%s locks version %s of %s, not %s: grapnel plugin lock %[3]s@%[4]s", a.plugins.LockFile,
			locked.Version, a.label(), version)
	}
	return nil
}

// atStart tells which program of the plugin a start of the host would run.
func (a allowed) atStart(ctx context.Context) (*core.PluginInfo, error) {
	host, err := newPluginHost(a.plugins, a.secrets, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer host.Close(ctx)
	return host.Describe(ctx, a.kind, a.name)
}

// afterRestart tells what a restart would run instead of what runs now.
func (a allowed) afterRestart(ctx context.Context, now *core.PluginInfo) string {
	info, err := a.atStart(ctx)
	switch {
	case err != nil:
		return fmt.Sprintf("a restart finds no program that may run: %v", err)
	case info.SHA256 == now.SHA256:
		return ""
	case now.Dev:
		return fmt.Sprintf("a restart runs version %s again, %s", info.Version, info.Path)
	case outside(a.plugins.Dir, now.Path):
		return fmt.Sprintf("a restart runs version %s, %s: to keep this one, install it in %s", info.Version, info.Path,
			a.plugins.Dir)
	}
	return fmt.Sprintf("a restart runs version %s, %s: to keep this one, ask for version %q in the plugins block, "+
		"or lock it", info.Version, info.Path, now.Version)
}

// outside reports whether a file is not below a folder.
func outside(dir, file string) bool {
	rel, err := filepath.Rel(dir, file)
	return err != nil || !filepath.IsLocal(rel)
}
