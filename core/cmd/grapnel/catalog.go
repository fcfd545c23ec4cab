package main

import (
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

// catalog is the plugins of a folder as package config asks for them.
type catalog struct {
	*pluginhost.Host
	dir string
}

// Names implements config.Catalog.
func (c catalog) Names(kind core.PluginKind) []string {
	found, _ := pluginhost.Discover(c.dir) // the host's Describe reports the error
	var names []string
	for _, b := range found {
		if b.Kind == kind {
			names = append(names, b.Name)
		}
	}
	return names
}

// newPluginHost makes a host for the plugins that a configuration names. What plugins say of themselves is remembered
// between runs, by the hash of their programs, so that a check of a configuration starts nothing it knows.
func newPluginHost(p config.Plugins, secrets []string, log hclog.Logger) (*pluginhost.Host, error) {
	dev, pins := choices(p, log)
	cache := ""
	if dir, err := os.UserCacheDir(); err == nil {
		cache = filepath.Join(dir, "grapnel", "plugins")
	}
	return pluginhost.New(pluginhost.Options{
		Dir: p.Dir, Dev: dev, Pins: pins, MemoryLimit: p.MemoryLimit, CacheDir: cache, Secrets: secrets, Logger: log,
	})
}

// choices are the programs that a configuration and its lock file choose.
func choices(p config.Plugins, log hclog.Logger) (dev map[string]string, pins map[string]pluginhost.Pin) {
	dev, pins = map[string]string{}, map[string]pluginhost.Pin{}
	for _, pin := range p.Pins {
		name := string(pin.Kind) + "-" + pin.Name
		if pin.Dev != "" {
			dev[name] = pin.Dev
			log.Warn("a plugin is started from a path of the configuration", "plugin", name, "path", pin.Dev)
		}
		pins[name] = pluginhost.Pin{Constraint: pin.Constraint, SHA256: pin.SHA256}
	}
	for _, locked := range p.Locked { // config has checked that it fits what the configuration asks for
		name := string(locked.Kind) + "-" + locked.Name
		pin := pins[name]
		pin.Version, pin.SHA256 = locked.Version, locked.Hash(pluginfile.Current())
		pins[name] = pin
	}
	return dev, pins
}
