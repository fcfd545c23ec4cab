package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// UpgradeOrder says which program of a plugin takes over from the one that runs. It names a path that the host runs, so it
// is for the socket, which only the host's user can open, and for no other listener.
type UpgradeOrder struct {
	Plugin  string  `json:"plugin"`             // "sink-file", or "file" if the host has only one of that name
	Version string  `json:"version,omitempty"`  // in the plugin folder; empty: what a start of the host would run
	Program string  `json:"program,omitempty"`  // absolute path, instead
	Dev     bool    `json:"dev,omitempty"`      // a program under development: neither pin nor lock file are asked
	NoWait  bool    `json:"no_wait,omitempty"`  // the answer does not wait for the last calls in the old version
	TrialMS float64 `json:"trial_ms,omitempty"` // for so long a crash takes everything back; 0: the default
}

func (o UpgradeOrder) trial() time.Duration {
	return time.Duration(o.TrialMS * float64(time.Millisecond))
}

// UpgradeProgress is how far an upgrade has come, as shown.
type UpgradeProgress struct {
	Stage string `json:"stage"` // checking, starting, opening, moved, settled, draining, done
	Done  int    `json:"done"`
	Total int    `json:"total"`
}

// PluginProgram is one program of a plugin.
type PluginProgram struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Path    string `json:"path"`
	Dev     bool   `json:"dev,omitempty"`
}

// Upgraded is what an upgrade came to.
type Upgraded struct {
	Plugin  string        `json:"plugin"`
	From    PluginProgram `json:"from"`
	To      PluginProgram `json:"to"`
	Same    bool          `json:"same,omitempty"`    // it ran already, nothing was done
	Blocks  []string      `json:"blocks,omitempty"`  // that moved
	Drained bool          `json:"drained"`           // the old version is gone; false: it ends after its last calls
	Notes   []string      `json:"notes,omitempty"`   // what is not in force before a restart
	Restart string        `json:"restart,omitempty"` // what a restart would run instead, and what to do about it
}

// UpgradeReport is one line of what an upgrade says while it works. Exactly one of Progress, Result and Error is set.
type UpgradeReport struct {
	Progress *UpgradeProgress `json:"progress,omitempty"`
	Result   *Upgraded        `json:"result,omitempty"` // the last line
	Error    *UpgradeError    `json:"error,omitempty"`  // the last line instead
}

// UpgradeError says why an upgrade did not happen. The old version goes on.
type UpgradeError struct {
	Reason     string   `json:"reason"`
	Problems   []string `json:"problems,omitempty"`    // what does not fit, one by one
	Misfit     bool     `json:"misfit,omitempty"`      // the program does not fit under the running configuration
	RolledBack bool     `json:"rolled_back,omitempty"` // it was tried; false: it was refused before
}

// Error implements error.
func (e *UpgradeError) Error() string {
	if len(e.Problems) == 0 {
		return e.Reason
	}
	return e.Reason + "\n  " + strings.Join(e.Problems, "\n  ")
}

// Upgrader swaps programs of plugins in a running host. report is called from the caller's goroutine. Errors that say more
// than a text are *UpgradeError.
type Upgrader interface {
	Upgrade(ctx context.Context, o UpgradeOrder, trial time.Duration, report func(UpgradeProgress)) (Upgraded, error)
}

// Upgrade implements Control.
func (c *Direct) Upgrade(ctx context.Context, o UpgradeOrder, report func(UpgradeProgress)) (Upgraded, error) {
	switch {
	case c.Upgrader == nil:
		return Upgraded{}, ErrNotRunning
	case o.Plugin == "" || o.Version != "" && o.Program != "" || o.Dev && o.Program == "" || o.TrialMS < 0:
		return Upgraded{}, badRequest{errors.New(
			`an upgrade names a plugin and at most one of version and program, and "dev" goes with a program`)}
	}
	if report == nil {
		report = func(UpgradeProgress) {}
	}
	return c.Upgrader.Upgrade(ctx, o, o.trial(), report)
}

// Upgrade implements Control.
func (c *Client) Upgrade(ctx context.Context, o UpgradeOrder, report func(UpgradeProgress)) (Upgraded, error) {
	body, err := jsonBody(o)
	if err != nil {
		return Upgraded{}, err
	}
	resp, err := c.open(ctx, http.MethodPost, "plugins/upgrade", body)
	if err != nil {
		return Upgraded{}, err
	}
	defer resp.Body.Close()
	var result Upgraded
	err = readLines(resp.Body, func(r UpgradeReport) (last bool, err error) {
		switch {
		case r.Result != nil:
			result, last = *r.Result, true
		case r.Error != nil:
			err = r.Error
		case r.Progress != nil && report != nil:
			report(*r.Progress)
		}
		return last, err
	})
	return result, err
}

// handleUpgrade answers an upgrade with lines as it goes on. Who hangs up before the trial is over takes it back.
func handleUpgrade(c Control, w http.ResponseWriter, r *http.Request) {
	l := newLines(w)
	var o UpgradeOrder
	if err := readBody(r, &o, `{"plugin": "…", "version": "…"} or {"plugin": "…", "program": "…", "dev": …}`); err != nil {
		l.fail(err)
		return
	}
	result, err := c.Upgrade(r.Context(), o, func(p UpgradeProgress) { l.say(UpgradeReport{Progress: &p}, true) })
	var told *UpgradeError
	switch {
	case err == nil:
		l.say(UpgradeReport{Result: &result}, true)
	case !l.begun && (errors.As(err, new(badRequest)) || !errors.As(err, &told)):
		l.fail(err)
	default:
		if !errors.As(err, &told) {
			told = &UpgradeError{Reason: err.Error()}
		}
		l.say(UpgradeReport{Error: told}, true)
	}
}
