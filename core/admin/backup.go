package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

// BackupOrder asks for a backup: a file that the host writes, by its full path, and that is not there yet.
type BackupOrder struct {
	Path    string `json:"path"`
	NoCheck bool   `json:"no_check,omitempty"` // do not look the copy through before it is called done
}

// BackupReport is one line of what a backup says while it is made. Exactly one field is set.
type BackupReport struct {
	Progress *store.BackupProgress `json:"progress,omitempty"`
	Result   *store.Backup         `json:"result,omitempty"` // the last line
	Error    string                `json:"error,omitempty"`  // the last line instead
}

// Backup implements Control.
func (c *Direct) Backup(
	ctx context.Context, o BackupOrder, report func(store.BackupProgress),
) (b store.Backup, err error) {
	if !filepath.IsAbs(o.Path) {
		return b, badRequest{fmt.Errorf("the path %q is not a full one", o.Path)}
	}
	b, err = c.Store.Backup(ctx, store.BackupOrder(o), report)
	for _, asked := range []error{store.ErrBackupThere, store.ErrBackupBusy, store.ErrBackupRoom} {
		if errors.Is(err, asked) {
			return b, badRequest{err}
		}
	}
	return b, err
}

// Backup implements Control.
func (c *Client) Backup(
	ctx context.Context, o BackupOrder, report func(store.BackupProgress),
) (b store.Backup, err error) {
	body, err := jsonBody(o)
	if err != nil {
		return b, err
	}
	resp, err := c.open(ctx, http.MethodPost, "backup", body)
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	err = readLines(resp.Body, func(r BackupReport) (last bool, err error) {
		switch {
		case r.Result != nil:
			b, last = *r.Result, true
		case r.Error != "":
			err = errors.New(r.Error)
		case r.Progress != nil && report != nil:
			report(*r.Progress)
		}
		return last, err
	})
	return b, err
}

// handleBackup answers with lines while a backup is made. Who hangs up stops it, and nothing is left of it.
func handleBackup(c Control, w http.ResponseWriter, r *http.Request) {
	var o BackupOrder
	l := newLines(w)
	err := readBody(r, &o, `{"path": "…"}`)
	var b store.Backup
	if err == nil {
		var last store.BackupProgress
		var said time.Time
		b, err = c.Backup(r.Context(), o, func(p store.BackupProgress) {
			if p.Stage != last.Stage || time.Since(said) > progressEvery {
				last, said = p, time.Now()
				l.say(BackupReport{Progress: &p}, true)
			}
		})
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("the host stops; nothing of the backup is left")
	}
	switch {
	case err == nil:
		l.say(BackupReport{Result: &b}, true)
	case l.begun:
		l.say(BackupReport{Error: err.Error()}, true)
	default:
		l.fail(err)
	}
}
