package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
)

func newBackup() *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE", Short: "Copy the database into a file, while the host runs or not",
		Long: `Copy the database into a file that is not there yet. The host that runs goes on meanwhile; when none does, the command
opens the database itself. What was accepted before the command is in the copy. The file appears when it is whole, synced and
looked through; it is for its owner's eyes only, as the database is.

To restore it: stop the host, put the file in the place of the database, remove the -wal and -shm files beside it, start.
With --verify the command looks through a backup that was made before, and needs no host and no configuration.`,
		Example: `  grapnel backup /var/backups/grapnel-$(date +%F).db
  grapnel backup --verify /var/backups/grapnel-2026-03-01.db`,
		Args: cobra.ExactArgs(1),
	}
	var o admin.BackupOrder
	c.Flags().BoolVar(&o.NoCheck, "no-check", false, "do not look the copy through, which takes longer than copying")
	verify := c.Flags().Bool("verify", false, "look through a backup that is there, instead of making one")
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, args []string) (err error) {
		if o.Path, err = filepath.Abs(args[0]); err != nil { // the host has another folder
			return err
		}
		bar := newBar(p.err, "MiB")
		b, err := ctl.Backup(c.Context(), o, func(r store.BackupProgress) {
			if r.Stage == store.BackupChecking {
				bar.say("looking the copy through")
			} else {
				bar.show(int(r.Done>>20), int(r.Total>>20))
			}
		})
		bar.clear()
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted; nothing of the backup is left")
		}
		if err != nil {
			return err
		}
		return p.backup(b)
	})
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !*verify {
			return run(c, args)
		}
		if o.NoCheck {
			return usage(c, "--verify checks: it does not go with --no-check")
		}
		asJSON, _ := c.Flags().GetBool("json")
		b, err := sqlite.CheckBackup(c.Context(), args[0])
		if err != nil {
			return err
		}
		return newPrinter(c, asJSON).backup(b)
	}
	return c
}

// backup tells what a backup holds.
func (p printer) backup(b store.Backup) error {
	if p.json {
		return p.value(b)
	}
	checked := "looked through, it is whole"
	if !b.Checked {
		checked = "not looked through"
	}
	newest := "no request"
	if !b.Newest.IsZero() {
		newest = fmt.Sprintf("%s, the newest received at %s", count(b.Requests, "request"), at(b.Newest))
	}
	_, err := fmt.Fprintf(p.out, "%s: %.1f MiB, %s; %s\n", b.Path, float64(b.Bytes)/(1<<20), newest, checked)
	return err
}
