// Command grapnel is the host: it receives webhooks, stores them, and routes their events to plugins. Its subcommands also
// check a configuration, send signed samples, and show and retry what a host holds.
//
// Exit codes: 0 done; 1 failed, and the reason is on standard error; 2 the command line is wrong; 3 plan: something would
// change; 4 doctor: there are warnings; 5 doctor: there are problems.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=1.2.3.
var version = "devel"

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if onTerminal() {
		signals = append(signals, syscall.SIGHUP) // it goes away, which is no reason to stop uncleanly
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // a second signal does what it does to any program: it ends the process at once
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// onTerminal reports whether a person watches: standard error is a terminal.
func onTerminal() bool {
	info, err := os.Stderr.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// usageError marks a wrong command line.
type usageError struct{ error }

// errShown is returned by a command that has already told what is wrong.
var errShown = errors.New("shown")

func execute(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var wrong usageError
	switch {
	case errors.Is(err, errDiffers):
		return 3
	case errors.Is(err, errWarnings):
		return 4
	case errors.Is(err, errProblems):
		return 5
	case errors.As(err, &wrong): // it begins with the command's name
		fmt.Fprintln(root.ErrOrStderr(), err)
		return 2
	case !errors.Is(err, errShown):
		fmt.Fprintf(root.ErrOrStderr(), "grapnel: %v\n", err)
	}
	return 1
}

func newRoot() *cobra.Command {
	root := group("grapnel", "Receive webhooks, never lose one, route them to plugins",
		newInit(), newRun(), newReload(), newValidate(), newExplain(), newTest(), newPlan(), newFmt(), newSend(),
		newRequests(), newEvents(), newDeliveries(), newRejections(), newSinks(), newAlerts(), newStatus(), newTail(),
		newBackup(), newDoctor(),
		newPlugin(), newDocs(), newMan(), newVersion(),
	)
	root.Long = `Grapnel receives webhooks, stores them before it answers, and routes their events to sinks by the rules of
config.hcl.

Exit codes: 0 done; 1 failed, and standard error says why; 2 the command line is wrong. plan and doctor have more.`
	root.SilenceUsage, root.SilenceErrors = true, true
	root.Version = version
	root.SetVersionTemplate("grapnel {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, err.Error()) })
	markUsage(root)
	return root
}

// group makes a command that only has subcommands.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(subs...)
	return c
}

// markUsage makes wrong arguments of a command and its subcommands usage errors that say what is right.
func markUsage(c *cobra.Command) {
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		if !c.HasSubCommands() {
			_, want, _ := strings.Cut(c.Use, " ")
			if want == "" && c.Flags().Lookup("config") != nil {
				want = "no arguments; --config FILE names a configuration"
			}
			return usage(c, "it takes "+cmp.Or(want, "no arguments"))
		}
		c.SuggestionsMinimumDistance = 2
		text := fmt.Sprintf("there is no command %q", args[0])
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usage(c, text)
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

func usage(c *cobra.Command, text string) error {
	return usageError{fmt.Errorf("%s: %s (see %[1]s --help)", c.CommandPath(), text)}
}

func newVersion() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *asJSON {
			return newPrinter(c, true).value(map[string]string{"version": version, "go": runtime.Version()})
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "grapnel", version)
		return err
	}
	return c
}

// jsonFlag adds --json.
func jsonFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON, one line per thing")
}

// configFlag adds --config.
func configFlag(c *cobra.Command) *string {
	return c.Flags().String("config", "config.hcl", "configuration `file` or folder")
}
