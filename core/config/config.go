// Package config loads a configuration: HCL files in, plain structs out, with every mistake reported at once at its
// file, line and column. What it takes is described in docs/config.md.
//
// Host blocks are decoded here. The rest of a source or sink block belongs to its plugin: it is decoded against the
// schema that the plugin describes, turned into JSON and shown to the plugin's own validation. Routes are compiled by
// package expr. No other package sees HCL.
package config

import (
	"context"
	"net/netip"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/sdk"
)

// Catalog knows the plugins that a configuration can name. Load calls it from one goroutine. If it also has a method
// Names(core.PluginKind) []string, its answer is used for suggestions; if it is a MessageCatalog, sinks judge what routes
// send to them.
type Catalog interface {
	// Describe returns what a plugin says about itself. An error wraps core.ErrNoPlugin if there is none of that name.
	Describe(ctx context.Context, kind core.PluginKind, name string) (*core.PluginInfo, error)
	// Validate asks a plugin about a configuration that already fits its schema. The error is about asking, not about the
	// configuration. Nothing is opened or dialled.
	Validate(ctx context.Context, kind core.PluginKind, name string, config []byte) (core.Validation, error)
}

// MessageCatalog is a Catalog that can ask sinks with the capability core.JudgesMessages about messages.
type MessageCatalog interface {
	// ValidateMessages returns the errors of each draft, for a configuration that Validate has found good. The error is
	// about asking.
	ValidateMessages(ctx context.Context, sink string, config []byte, drafts []core.Draft) ([][]sdk.AttributeError, error)
}

// Options are what Load needs from outside. The zero value reads the process's environment and knows no plugin.
type Options struct {
	// Getenv looks up an environment variable; default os.LookupEnv. A variable that is set but empty counts as not set.
	Getenv func(name string) (string, bool)
	// Plugins opens the catalogue once the plugins block is known. It is called at most once; an error is reported at the
	// block.
	Plugins func(p Plugins) (Catalog, error)
	// CheckAuth says what is wrong with a source's credentials or allow lists, or nil; default: nothing is. Its error must
	// not show a credential.
	CheckAuth func(scheme sdk.Scheme, secrets []string, allow map[string][]string) error
	// CheckTLS says what is wrong with a certificate's and a key's file, or what deserves a warning; default: nothing.
	CheckTLS func(cert, key string) (warning string, err error)
	// Incomplete is for those who only decode and route. A variable that is not set and has no default, and a file that is
	// not there, are no mistakes then, unless decoding or routing needs them: what they would have given is left out, and
	// Config.Unset names them. Such a configuration is not to be run.
	Incomplete bool
}

// Config is a configuration without mistakes. It is not changed after Load and may be read from any number of
// goroutines.
type Config struct {
	Path string // as Load was told
	Dir  string // absolute; what relative paths start from

	Server  Server
	Admin   Admin
	Storage Storage
	Plugins Plugins
	Log     Log
	Reload  Reload
	Tracing *Tracing // nil: nothing is traced

	Sources []Source // enabled ones, in order of files and lines, like the lists below
	Sinks   []Sink   // enabled ones
	Alerts  []Alert  // enabled ones
	// Builtin is the source that alerts come from; nil: there is no alert. It is not among Sources: it has no endpoint and
	// no plugin.
	Builtin  *Source
	Routes   []Route    // enabled ones, and one for each alert that has `to` blocks
	Disabled []Disabled // blocks that stay out
	// Retention is how long settled requests of sources are kept whose blocks say so, by name, instead of
	// Storage.Retention. Disabled sources are in it.
	Retention map[string]time.Duration
	Idle      []Idle // `to` blocks of enabled routes that make no delivery because their sink is disabled

	Unset []string // with Options.Incomplete: "environment variable X", "file y", sorted

	Set     *expr.Set // what all conditions and messages were compiled in
	Secrets []string  // every secret text, longest first, for redaction
	Digest  string    // of the routes, and of what they use: deliveries are rendered again when it changes
}

// Server is the listener for webhooks.
type Server struct {
	Listen          string
	TLS             *TLS
	TrustedProxies  []netip.Prefix // peers whose Forwarded or X-Forwarded-For header names the client
	Limits          Limits
	ShutdownTimeout time.Duration
}

// TLS names the files of a certificate chain and its key; absolute.
type TLS struct{ Cert, Key string }

// Limits bound what one request may cost.
type Limits struct {
	MaxBody       int64 // bytes
	MaxHeader     int   // bytes
	HeaderTimeout time.Duration
	ReadTimeout   time.Duration
	IdleTimeout   time.Duration
	Connections   int     // at a time
	Rate          float64 // requests per second of each source; 0: no limit
}

// Admin is the listener for people and monitoring.
type Admin struct {
	Listen string   // empty: none
	Token  string   // empty: who reaches it may do everything; then it is a loopback address
	Hosts  []string // names and addresses that it is called by, besides its own, in lower case, without ports
	TLS    *TLS
}

// Storage is the store.
type Storage struct {
	Driver         string        // "sqlite"
	Path           string        // absolute
	Retention      time.Duration // of settled requests
	StateRetention time.Duration // of keyed state that no delivery has used
	DedupeWindow   time.Duration
	MinFree        int64 // bytes
}

// Plugins says where plugins are and what they may be.
type Plugins struct {
	Dir         string // absolute
	MemoryLimit int64  // bytes in RAM of one plugin process; 0: none
	Pins        []Pin
	LockFile    string // as the configuration's files are named; empty: there is none
	Locked      []Locked
}

// Pin is what a configuration asks of one plugin.
type Pin struct {
	Kind       core.PluginKind
	Name       string
	Version    string                // a constraint like "~> 1.2"; empty: any. Load checks it
	Constraint pluginfile.Constraint // Version, read
	SHA256     string                // of the program that may run, lower-case hexadecimal; empty: any
	Dev        string                // absolute path of a binary to run instead; empty: none
	Range      Range
}

// Locked is a plugin in the lock file: the version, and the programs of it that may run.
type Locked struct {
	Kind     core.PluginKind
	Name     string
	Version  string            // what the program calls itself
	Protocol int               // that it speaks; 0: not said
	SHA256   string            // of the program on whatever platform, lower-case hexadecimal; empty: Hashes says
	Hashes   map[string]string // by platform, such as "linux_amd64"
	Range    Range             // of the block's header
}

// Log is what the host writes to its standard error.
type Log struct {
	Level  string // trace, debug, info, warn, error
	Format string // text, json; empty: text on a terminal, json otherwise
}

// Source is an enabled source block.
type Source struct {
	Name, Plugin string
	Info         *core.PluginInfo // of the decoder

	Path     string // of the URL, without a slash at its end
	Auth     string // name of the scheme, or "none"
	Scheme   *sdk.Scheme
	Secrets  []string            // credentials of the scheme, at least one unless Auth is "none" or Unset is not empty
	Unset    []string            // of Config.Unset, what its credentials or allow lists lack
	Allow    map[string][]string // values of the scheme's allow lists that are written
	AllowIPs []netip.Prefix      // nil: every address
	Tenant   string
	MaxBody  int64 // bytes
	Isolated bool
	Config   []byte // JSON for the decoder

	Range Range
}

// Sink is an enabled sink block.
type Sink struct {
	Name, Plugin string
	Info         *core.PluginInfo

	Config   []byte // JSON for the plugin
	Isolated bool
	Delivery Delivery

	SchemaDigest string // of the message schema
	Range        Range
}

// Delivery is how the host hands deliveries to a sink.
type Delivery struct {
	Concurrency int // calls in flight
	Batch       int // deliveries per call
	Timeout     time.Duration
	Rate        float64    // calls per second; 0: no bound
	OrderBy     *expr.Text // nil: unordered
	HoldDead    bool       // an order key waits after a dead letter
	Retry       Retry
	Breaker     Breaker
}

// Retry is when a failed delivery is tried again, and when not any more.
type Retry struct {
	MaxAttempts int
	MaxAge      time.Duration // since the first attempt, while the sink could be called
	Min, Max    time.Duration // pause after the first failure; longest pause
}

// Breaker is when a sink that fails is left alone.
type Breaker struct {
	Failures int           // calls in a row; 0: never
	Min, Max time.Duration // pause after them; longest pause
}

// Route is an enabled route block.
type Route struct {
	Name    string
	Alert   string          // of the alert whose route it is; empty: it is a route block's
	Sources []string        // names of sources; nil: all but the built-in one
	On      []string        // event types, or patterns whose * crosses dots; nil: all
	When    *expr.Condition // nil: always
	To      []To            // to enabled sinks
	Range   Range
}

// To is a `to` block.
type To struct {
	Sink         string
	Message      *expr.Message
	SchemaDigest string     // Sink.SchemaDigest
	OrderBy      *expr.Text // of an alert's message: by alert and thing; nil: Sink.Delivery.OrderBy is in force
	Range        Range
}

// Disabled is a block that `enabled` keeps out.
type Disabled struct {
	Kind         string // "source", "sink" or "route"
	Plugin, Name string // Plugin is empty for a route
	Range        Range
}

// Idle is a `to` block that makes no delivery because its sink is disabled.
type Idle struct {
	Route, Sink string
	Range       Range
}
