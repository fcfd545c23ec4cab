package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
)

func newReload() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the running host load its configuration again",
		Long: `Have the running host load its configuration again: check it, open what is new beside what runs, and go over to it. What
is under way ends as it began, and what is the same goes on as it is. A configuration with mistakes changes nothing: they are
printed, and the host goes on with the one that it has.

The environment of the host is what it was at its start; files that file() names are read again.

Exit codes: 0 the host runs by the files as they are; 1 it does not, and standard error says why.`,
		Args: cobra.NoArgs,
	}
	path, asJSON := configFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		storage, broken := config.GuessStorage(*path)
		client, err := hostOf(c.Context(), filepath.Dir(storage.Path))
		switch {
		case errors.Is(err, admin.ErrNotRunning) && broken: // which may be why it is not found
			_, diags := load(c, *path)
			return showDiagnostics(c, diags)
		case errors.Is(err, admin.ErrNotRunning):
			return fmt.Errorf("no host runs by %s: `grapnel run --config %[1]s` starts one", *path)
		case err != nil:
			return err
		}
		defer client.Close()
		v, err := client.Reload(c.Context())
		if err != nil {
			return err
		}
		p := newPrinter(c, *asJSON)
		if p.json {
			err = p.value(v)
		} else {
			err = p.reload(v)
		}
		if err == nil && !came(&v) {
			err = errShown
		}
		return err
	}
	return c
}

// reload prints what came of a reload, for people.
func (p printer) reload(v admin.Reload) error {
	if v.Text != "" {
		fmt.Fprintln(p.err, strings.TrimSuffix(v.Text, "\n"))
	}
	switch v.Result {
	case admin.ReloadUnchanged:
		_, err := fmt.Fprintln(p.out, "The host runs by this configuration already.")
		return err
	case admin.ReloadApplied:
		fmt.Fprintln(p.out, "The host runs by the configuration as it is now:")
		for _, c := range v.Changes {
			fmt.Fprintf(p.out, "  %s\n", c)
		}
		return nil
	case admin.ReloadRefused:
		_, err := fmt.Fprintln(p.err, "Not reloaded: a restart is needed. The host goes on with the configuration that it has.")
		return err
	}
	_, err := fmt.Fprintln(p.err, "Not reloaded. The host goes on with the configuration that it has.")
	return err
}
