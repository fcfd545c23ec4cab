package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

func newPluginUpgrade(flags *pluginFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "upgrade NAME [VERSION | PATH]",
		Short: "Swap a plugin's program in the running host",
		Long: `Have the running host put another program of a plugin in the place of the one that runs: the named version
from the plugin folder, a program by its path (with at least one slash in it), or, without either, what a start of the host
would run.

The new version starts beside the old one and opens every block of the plugin. Then all new calls go to it, while those
under way end in the old one: nothing waits, nothing is lost, and the order per key holds. If it does not start, does not
open a block, or dies during the trial, the old version goes on and nobody is charged. Interrupting the command before the
trial is over takes everything back, too.

What the configuration's plugins block and the lock file do not allow is refused. So is a version whose configuration,
messages or manifest do not fit under the configuration that runs: it needs a restart of the host.

Exit codes: 0 the program runs, or ran already; 1 it does not, the old one goes on, and standard error says why.`,
		Example: `  grapnel plugin upgrade sink-file            # what is newest in the folder, or locked
  grapnel plugin upgrade file 1.2.0
  grapnel plugin upgrade file ./build/grapnel-sink-file`,
		Args: cobra.RangeArgs(1, 2),
	}
	asJSON := jsonFlag(c)
	trial := c.Flags().Duration("trial", 3*time.Second, "for so long after the move a crash takes everything back")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *trial <= 0 || *trial > time.Hour {
			return usage(c, "--trial is more than 0 and at most 1h")
		}
		o := admin.UpgradeOrder{Plugin: args[0], TrialMS: float64(*trial) / float64(time.Millisecond)}
		if len(args) == 2 {
			if err := chosen(c, &o, args[1]); err != nil {
				return err
			}
		}
		client, err := runningHost(c.Context(), flags.config)
		if err != nil {
			return err
		}
		defer client.Close()
		if *asJSON {
			return upgradeJSON(c, client, o)
		}
		return showUpgrade(c, client, o, *trial)
	}
	return c
}

// chosen reads what an argument names: a path if there is a slash in it, else a version.
func chosen(c *cobra.Command, o *admin.UpgradeOrder, arg string) error {
	if !strings.ContainsAny(arg, "/"+string(filepath.Separator)) {
		if o.Version = strings.TrimPrefix(arg, "v"); !pluginfile.IsVersion(o.Version) {
			return usage(c, fmt.Sprintf("%q is no version such as 1.2.0, and no path, which has a slash in it", arg))
		}
		return nil
	}
	var err error
	o.Program, err = filepath.Abs(arg)
	return err
}

// runningHost finds the host that runs on a configuration, and says what to do when there is none.
func runningHost(ctx context.Context, configPath string) (*admin.Client, error) {
	storage, err := config.LoadStorage(configPath, config.Options{})
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(storage.Path)
	client, err := hostOf(ctx, dir)
	if errors.Is(err, admin.ErrNotRunning) {
		return nil, fmt.Errorf("no host runs on %s, so there is nothing to swap: `grapnel run --config %s` starts with the "+
			"newest version of each plugin that the configuration and its lock file allow", dir, configPath)
	}
	return client, err
}

// hostOf finds the host that runs on a data folder, or returns admin.ErrNotRunning.
func hostOf(ctx context.Context, dir string) (*admin.Client, error) {
	socket, err := admin.SocketPath(dir)
	if err != nil {
		return nil, err
	}
	client := admin.NewClient(socket)
	if _, err := client.Status(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// upgradeJSON passes on what the host says, a line per report.
func upgradeJSON(c *cobra.Command, client *admin.Client, o admin.UpgradeOrder) error {
	p := newPrinter(c, true)
	result, err := client.Upgrade(c.Context(), o, func(u admin.UpgradeProgress) {
		_ = p.value(admin.UpgradeReport{Progress: &u}) // a reader that went away sees no end either
	})
	var told *admin.UpgradeError
	switch {
	case err == nil:
		return p.value(admin.UpgradeReport{Result: &result})
	case errors.As(err, &told):
		if err := p.value(admin.UpgradeReport{Error: told}); err != nil {
			return err
		}
		return errShown
	}
	return interrupted(err, "")
}

// showUpgrade tells an upgrade's progress and result to people.
func showUpgrade(c *cobra.Command, client *admin.Client, o admin.UpgradeOrder, trial time.Duration) error {
	out, stage := c.OutOrStdout(), ""
	result, err := client.Upgrade(c.Context(), o, func(u admin.UpgradeProgress) {
		words := map[string]string{
			"starting": "starting beside the version that runs",
			"moved":    fmt.Sprintf("moved: new calls go to the new version; on trial for %s", trial),
			"settled":  "settled: the trial is over",
			"done":     "drained: the old version is gone",
		}[u.Stage]
		switch {
		case u.Stage == "opening" && u.Done == u.Total:
			words = fmt.Sprintf("opened %d of %s", u.Done, plural(u.Total, "block"))
		case u.Stage == "draining" && u.Stage != stage:
			words = "draining: calls that the old version began end there"
		}
		if stage = u.Stage; words != "" {
			fmt.Fprintf(c.ErrOrStderr(), "%s: %s\n", o.Plugin, words)
		}
	})
	var told *admin.UpgradeError
	switch {
	case errors.As(err, &told) && told.Misfit:
		return fmt.Errorf("%w\nTo run it, restart the host with it; `grapnel validate` tells what the configuration then needs",
			err)
	case err != nil:
		return interrupted(err, stage)
	}
	if result.Same {
		fmt.Fprintf(out, "%s runs version %s already, %s\n", result.Plugin, result.To.Version, result.To.Path)
	} else {
		fmt.Fprintf(out, "%s runs version %s, before %s: %s\n", result.Plugin, result.To.Version, result.From.Version,
			strings.Join(result.Blocks, ", "))
	}
	for _, n := range result.Notes {
		fmt.Fprintf(out, "Note: %s.\n", n)
	}
	if result.Restart != "" {
		fmt.Fprintf(out, "Note: %s.\n", result.Restart)
	}
	return nil
}

// interrupted tells what an interruption means at a stage.
func interrupted(err error, stage string) error {
	switch {
	case !errors.Is(err, context.Canceled):
		return err
	case stage == "settled" || stage == "draining":
		return errors.New("interrupted; the new version runs, and the old one ends by itself after its last calls")
	}
	return errors.New("interrupted; the version that ran before goes on")
}
