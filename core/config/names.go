package config

import (
	"context"
	"slices"

	"github.com/grapnelhq/grapnel/core"
)

// Names are the names of a configuration's blocks, disabled ones included.
type Names struct{ Sources, Sinks, Routes []string }

// LoadNames reads which blocks a configuration has and nothing of what is in them. Mistakes do not matter as long as the
// files can be read.
func LoadNames(path string, opt Options) (Names, error) {
	l := newLoader(context.Background(), path, opt)
	if !l.read(path) {
		l.finish()
		return Names{}, l.diags.Err()
	}
	var n Names
	for kind, blocks := range l.split() {
		to := map[string]*[]string{"source": &n.Sources, "sink": &n.Sinks, "route": &n.Routes}[kind]
		if to == nil {
			continue
		}
		for _, b := range blocks {
			*to = append(*to, b.Labels[len(b.Labels)-1])
		}
	}
	return n, nil
}

// Use is a plugin that a configuration names in a source or sink block, disabled ones included.
type Use struct {
	Kind core.PluginKind
	Name string
}

// LoadPlugins reads the plugins block of a configuration and its lock file, and which plugins its blocks name, for those
// who install and lock them: what other blocks need of the environment need not be there, and no plugin is asked. Plugins
// and uses hold what could be read, unless the Diagnostics have an error.
func LoadPlugins(path string, opt Options) (Plugins, []Use, *Diagnostics) {
	l := newLoader(context.Background(), path, opt)
	if !l.read(path) || l.partial {
		l.finish()
		return Plugins{}, nil, l.diags
	}
	top := l.split()
	l.diags.list = nil // not about plugins
	l.declareLocals(top["locals"])
	l.diags.list = nil
	l.plugins(top["plugins"])
	l.readLock()
	var uses []Use
	for _, kind := range []struct {
		block string
		kind  core.PluginKind
	}{{"source", core.PluginDecoder}, {"sink", core.PluginSink}} {
		for _, b := range top[kind.block] {
			if u := (Use{kind.kind, b.Labels[0]}); namePattern.MatchString(u.Name) && !slices.Contains(uses, u) {
				uses = append(uses, u)
			}
		}
	}
	l.finish()
	return l.cfg.Plugins, uses, l.diags
}

// Nearest returns the candidate that is meant when a name is not among them, or "" if none is near enough.
func Nearest(name string, candidates []string) string { return nearest(name, candidates) }
