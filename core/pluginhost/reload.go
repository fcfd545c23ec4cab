package pluginhost

import (
	"slices"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// Choose has other programs chosen for what is described and opened from now on, and more secrets cut from what plugins
// write; those of before are cut from it, too. What runs stays as it is.
func (h *Host) Choose(dev map[string]string, pins map[string]Pin, secrets []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opts.Dev, h.opts.Pins = dev, pins
	var added []string
	for _, s := range secrets {
		if !slices.Contains(h.opts.Secrets, s) {
			added = append(added, s)
		}
	}
	if len(added) == 0 {
		return
	}
	h.opts.Secrets = slices.Concat(h.opts.Secrets, added)
	for _, b := range h.binaries {
		b.redact.add(added...)
	}
}

// SetLogLevel tells plugins, with their next calls, what is worth to be written.
func (h *Host) SetLogLevel(level hclog.Level) {
	h.callContext.Store(&pluginv1.CallContext{LogLevel: logLevel(level)})
}

func (h *Host) pin(kind core.PluginKind, name string) (Pin, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return setting(h.opts.Pins, kind, name)
}

func (h *Host) devPath(kind core.PluginKind, name string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return setting(h.opts.Dev, kind, name)
}

// Program is what the program says of itself that the block runs in now, and Made what the block was opened for: the same
// but after an upgrade.
func (hd *Handle) Program() *core.PluginInfo { return hd.at.Load().p.info }

// Made is described at Program.
func (hd *Handle) Made() *core.PluginInfo { return hd.made }
