package core

import (
	"errors"
	"slices"

	"github.com/grapnelhq/grapnel/sdk"
)

// PluginKind is what a plugin does.
type PluginKind string

// The kinds of plugins, as they stand in file names and on the command line.
const (
	PluginDecoder PluginKind = "decoder" // named by the first label of a source block
	PluginSink    PluginKind = "sink"    // named by the first label of a sink block
)

// ErrNoPlugin is wrapped by the error of whoever is asked for a plugin that is not there.
var ErrNoPlugin = errors.New("no such plugin")

// ErrNoVersion is wrapped by the error of whoever is asked for a plugin that is there, but in no version that may run.
var ErrNoVersion = errors.New("no such version of the plugin")

// ErrNotLocked is wrapped by the error of whoever is asked for a plugin whose program has another hash than the lock file, or
// the configuration, says.
var ErrNotLocked = errors.New("it is not the program that was locked")

// PluginInfo is what a plugin says about itself, checked by the host: names are well formed, no attribute has a reserved
// name, every enum value is known and everything the manifest asks for is implemented. It is not changed after it was made.
type PluginInfo struct {
	Kind         PluginKind `json:"kind"`
	Name         string     `json:"name"`
	Version      string     `json:"version"` // semantic version without v, or "devel"
	Description  string     `json:"description,omitempty"`
	Capabilities []string   `json:"capabilities,omitempty"` // "check", "validate", "manifest", "messages"
	Config       sdk.Schema `json:"config"`                 // KindObject

	// Sinks.
	Message   sdk.Schema `json:"message,omitzero"`    // KindObject
	MaxBatch  int        `json:"max_batch,omitempty"` // the most deliveries per call, at least 1
	WantData  bool       `json:"want_data,omitempty"`
	WantState bool       `json:"want_state,omitempty"`

	// Decoders.
	Provider *sdk.Provider `json:"provider,omitempty"` // nil for sinks; with "manifest", a source has its own: see Validation

	Protocol int `json:"protocol,omitempty"` // major version of the wire contract that host and plugin speak

	Path   string `json:"path,omitempty"`   // of the binary
	SHA256 string `json:"sha256,omitempty"` // of the binary, hexadecimal
	Dev    bool   `json:"dev,omitempty"`    // started from a path that the configuration gives, outside of the lock file
}

// Validation is what a plugin says about one configuration.
type Validation struct {
	Errors   []sdk.AttributeError
	MaxBatch int // sinks: the most deliveries per call with it; 0: that of PluginInfo
	// Provider is the manifest of a decoder's instance with it, checked like that of PluginInfo, in whose place it is; nil:
	// that of PluginInfo, or there are Errors. Its name may be another than the plugin's.
	Provider *sdk.Provider
}

// ManifestPerSource is the capability of a decoder whose manifest depends on its configuration.
const ManifestPerSource = "manifest"

// CanCheck is the capability of a plugin whose instances can reach their far end to see whether it is there.
const CanCheck = "check"

// JudgesMessages is the capability of a sink that can tell from a Draft that it will reject what a route sends.
const JudgesMessages = "messages"

// Draft is a message as a route makes it, as far as that does not depend on the event; see sdk.Draft.
type Draft struct {
	Message []byte     // JSON object
	Varies  [][]string // paths of what depends on the event
}

// Has reports whether the plugin has the named capability.
func (p *PluginInfo) Has(capability string) bool {
	return slices.Contains(p.Capabilities, capability)
}

// ReservedAttribute reports whether a name in a source or sink block belongs to the host, so that no plugin's configuration
// may declare it. A scheme of a decoder's manifest may all the same name its credentials "secrets".
func ReservedAttribute(name string) bool {
	switch name {
	case "enabled", "isolated", "auth", "path", "tenant", "allow_ips", "max_body", "retention", "secrets", "delivery":
		return true
	}
	return false
}
