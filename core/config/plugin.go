package config

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
)

type pluginRef struct {
	kind core.PluginKind
	name string
}

// String is how plugins and lock files are labelled.
func (r pluginRef) String() string { return string(r.kind) + "-" + r.name }

type pluginAnswer struct {
	info    *core.PluginInfo
	err     error
	checked bool // against the lock file
}

// lister is a Catalog that can list its plugins, for suggestions.
type lister interface {
	Names(kind core.PluginKind) []string
}

// describe asks for a block's plugin, once per plugin. Without an answer it says so at the block's first label, as an
// error or, for a block that stays out anyway, as a warning; nil then.
func (l *loader) describe(kind core.PluginKind, b *hclsyntax.Block, disabled bool) *core.PluginInfo {
	if !namePattern.MatchString(b.Labels[0]) {
		return nil // said with the labels
	}
	if l.catalog == nil {
		if l.opt.Plugins == nil && !disabled {
			l.error(b.LabelRanges[0], fmt.Sprintf("There is no %s plugin %q", kind, b.Labels[0]), "")
		}
		return nil // or the catalogue itself failed, and that was said
	}
	ref := pluginRef{kind, b.Labels[0]}
	answer := l.infos[ref]
	if answer == nil {
		answer = &pluginAnswer{err: l.fits(ref)}
		if answer.err == nil {
			answer.info, answer.err = l.catalog.Describe(l.ctx, kind, ref.name)
		}
		if answer.err == nil && answer.info == nil {
			answer.err = core.ErrNoPlugin
		}
		l.infos[ref] = answer
		if answer.err == nil {
			l.checkPin(ref, answer.info)
		}
	}
	if answer.err == nil {
		if !disabled && !answer.checked {
			answer.checked = true
			l.checkLocked(ref, b, answer.info)
		}
		return answer.info
	}
	severity := Error
	if disabled {
		severity = Warning
	}
	if m, ok := errors.AsType[*misfit](answer.err); ok {
		l.say(severity, m.at, m.summary, m.detail)
		return nil
	}
	locked, pin := l.locked(ref), l.pin(ref)
	switch at := b.LabelRanges[0]; {
	case errors.Is(answer.err, core.ErrNotLocked) && locked != nil:
		l.say(severity, locked.Range,
			fmt.Sprintf("The program of the plugin %q is not the one that was locked", ref.String()),
			sentence(answer.err.Error())+fmt.Sprintf("\nIf it was replaced on purpose, and is checked: "+
				"grapnel plugin lock %s\nIf not, install the locked one again: "+
				"grapnel plugin install --locked --replace SOURCE %s", ref, ref))
		return nil
	case errors.Is(answer.err, core.ErrNotLocked) && pin != nil:
		l.say(severity, pin.Range, fmt.Sprintf("No program of the plugin %q has the sha256 that is asked for", ref.String()),
			sentence(answer.err.Error()))
		return nil
	case errors.Is(answer.err, core.ErrNoVersion):
		place, want := rangeOf(at), ""
		if locked != nil {
			place, want = locked.Range, locked.Version
		} else if pin != nil {
			place, want = pin.Range, pin.Version
		}
		l.say(severity, place, fmt.Sprintf("The plugin %q is not there in version %s", ref.String(), want),
			sentence(answer.err.Error())+fmt.Sprintf("\nTo get it: grapnel plugin install SOURCE '%s@%s'", ref, want))
		return nil
	}
	if !errors.Is(answer.err, core.ErrNoPlugin) {
		l.say(severity, rangeOf(b.LabelRanges[0]), fmt.Sprintf("The %s plugin %q does not work", kind, ref.name),
			sentence(l.hush(answer.err.Error())))
		return nil
	}
	l.say(severity, rangeOf(b.LabelRanges[0]), fmt.Sprintf("There is no %s plugin %q", kind, ref.name),
		l.elsewhere(kind, ref.name))
	return nil
}

// elsewhere helps with a plugin that is not there.
func (l *loader) elsewhere(kind core.PluginKind, name string) string {
	file := fmt.Sprintf("grapnel-%s-%s", kind, name)
	where := fmt.Sprintf("No %s is in %s.", file, l.cfg.Plugins.Dir)
	get := fmt.Sprintf("\nTo get it: grapnel plugin install SOURCE %s-%s", kind, name)
	names, ok := l.catalog.(lister)
	if !ok {
		return where + get
	}
	there := slices.Sorted(slices.Values(names.Names(kind)))
	if s := suggest(name, there); s != "" {
		return s
	}
	if len(there) > 0 {
		where += " There are " + list(there) + "."
	}
	return where + get
}

// checkPin compares a plugin with what the plugins block asks of it.
func (l *loader) checkPin(ref pluginRef, info *core.PluginInfo) {
	p := l.pin(ref)
	if p == nil || p.Dev != "" || p.Constraint.Allows(info.Version) {
		return
	}
	l.say(Error, p.Range, fmt.Sprintf("The plugin %q has version %s", ref.String(), info.Version),
		fmt.Sprintf("The configuration asks for %q.", p.Version))
}

// checkConfig shows a decoded configuration to its plugin and places the answer.
func (l *loader) checkConfig(
	b *hclsyntax.Block, what string, info *core.PluginInfo, config []byte,
) (answer core.Validation, ok bool) {
	answer, err := l.catalog.Validate(l.ctx, info.Kind, info.Name, config)
	if err != nil {
		l.error(blockHeader(b), fmt.Sprintf("The configuration of %s cannot be checked", what), sentence(l.hush(err.Error())))
		return answer, false
	}
	for _, e := range answer.Errors {
		at := rangeInBody(b.Body, blockHeader(b), e.Path)
		l.error(at, l.hush(refusal(what, &e)), sentence(l.hush(e.Detail)))
		l.veil(false)
	}
	return answer, len(answer.Errors) == 0
}

// names checks a block's labels and reports whether its name is new. what is `sink "audit"`.
func (l *loader) names(b *hclsyntax.Block, seen map[string]hcl.Range) (what string, first bool) {
	for i, label := range b.Labels {
		if !namePattern.MatchString(label) {
			l.error(b.LabelRanges[i], fmt.Sprintf("%q is no name", label),
				"Names start with a letter a to z and go on with those, digits and underscores.")
		}
	}
	last := len(b.Labels) - 1
	name := b.Labels[last]
	what = fmt.Sprintf("%s %q", b.Type, name)
	if earlier, twice := seen[name]; twice {
		l.error(b.LabelRanges[last], fmt.Sprintf("A second %s", what),
			"The first is at "+rangeOf(earlier).place()+fmt.Sprintf(". Names are unique among all %s blocks.", b.Type))
		return what, false
	}
	seen[name] = b.LabelRanges[last]
	return what, true
}

// enabled reads the attribute that keeps a block out. A null or wrong value is a mistake: neither default would be
// right.
func (b *block) enabled() bool {
	a := b.attr("enabled")
	if a == nil {
		return true
	}
	v, ok := b.l.evalNeeded(a.Expr)
	if !ok {
		return true
	}
	bare, _ := v.UnmarkDeep()
	x, ok := asBool(bare)
	if !ok {
		b.l.error(a.Expr.Range(), fmt.Sprintf("%q of %s must be true or false", "enabled", b.what), b.l.because(v))
		return true
	}
	return x
}
