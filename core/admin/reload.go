package admin

import (
	"context"
	"net/http"
	"time"
)

// Results of a reload.
const (
	ReloadApplied   = "applied"
	ReloadUnchanged = "unchanged" // the files say what runs already
	ReloadInvalid   = "invalid"   // there are mistakes in the files
	ReloadRefused   = "refused"   // the files change what needs a restart
	ReloadFailed    = "failed"    // what they ask for could not be opened
)

// Reload is one time that a host loaded its configuration: at its start, and again. Unless it was applied, what ran before
// goes on as it was.
type Reload struct {
	ID          int64        `json:"id"` // since the start of the host, from 1
	At          time.Time    `json:"at"`
	TookMS      float64      `json:"took_ms"`
	Trigger     string       `json:"trigger"`           // "start", "SIGHUP", "file", "command"
	Result      string       `json:"result"`            // "applied", "unchanged", "invalid", "refused", "failed"
	Digest      string       `json:"digest,omitempty"`  // of the routes and what they use
	Changes     []string     `json:"changes,omitempty"` // of applied ones, in words
	Error       string       `json:"error,omitempty"`   // the first one
	Diagnostics []Diagnostic `json:"diagnostics,omitempty"`
	Text        string       `json:"text,omitempty"` // the diagnostics as commands print them, with the lines of the files
	Draining    bool         `json:"draining"`       // calls that began before go on as they were
}

// Diagnostic is something that is wrong in a configuration, or deserves attention. It holds no secret.
type Diagnostic struct {
	Severity string `json:"severity"` // "error", "warning"
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
}

// Config is the configuration that runs, as it was loaded.
type Config struct {
	Path        string       `json:"path"`
	Loaded      Reload       `json:"loaded"`           // when and why
	Failed      *Reload      `json:"failed,omitempty"` // the newest one, if it did not come to be: the files say something else
	Files       []ConfigFile `json:"files"`
	Watched     bool         `json:"watched"`               // a change of the files is a reload
	Diagnostics []Diagnostic `json:"diagnostics,omitempty"` // warnings of what runs
}

// ConfigFile is a file of a configuration. What is secret in it is left out.
type ConfigFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// ConfigStatus is what a status says of the configuration.
type ConfigStatus struct {
	LoadedAt time.Time `json:"loaded_at"`
	Trigger  string    `json:"trigger"`
	Digest   string    `json:"digest"`
	Reloads  int64     `json:"reloads"` // that were applied
	Draining bool      `json:"draining"`
	// Failed is the newest reload, without its diagnostics, if it did not come to be: what runs is not what the files say.
	Failed *Reload `json:"failed,omitempty"`
}

// Reloader is a running host that can load its configuration again.
type Reloader interface {
	Reload(ctx context.Context, trigger string) (Reload, error) // an error: it was not tried
	Reloads() []Reload
	Config() Config
}

// Reload implements Control.
func (c *Direct) Reload(ctx context.Context) (Reload, error) {
	if c.Reloader == nil {
		return Reload{}, ErrNotRunning
	}
	return c.Reloader.Reload(ctx, "command")
}

// Reloads implements Control.
func (c *Direct) Reloads(context.Context) (Page[Reload], error) {
	if c.Reloader == nil {
		return Page[Reload]{}, ErrNotRunning
	}
	return Page[Reload]{Items: c.Reloader.Reloads()}, nil
}

// Config implements Control.
func (c *Direct) Config(context.Context) (Config, error) {
	if c.Reloader == nil {
		return Config{}, ErrNotRunning
	}
	return c.Reloader.Config(), nil
}

// Reload implements Control.
func (c *Client) Reload(ctx context.Context) (v Reload, err error) {
	err = c.call(ctx, http.MethodPost, "reload", nil, &v)
	return v, err
}

// Reloads implements Control.
func (c *Client) Reloads(ctx context.Context) (v Page[Reload], err error) {
	err = c.get(ctx, "reloads", "", &v)
	return v, err
}

// Config implements Control.
func (c *Client) Config(ctx context.Context) (v Config, err error) {
	err = c.get(ctx, "config", "", &v)
	return v, err
}
