// Command grapnel is the host: it receives webhooks, stores them, and routes their events to plugins. Its subcommands also
// check a configuration, send signed samples, and show and retry what a host holds.
//
// Exit codes: 0 done; 1 failed, and the reason is on standard error; 2 the command line is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=1.2.3.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// usageError marks a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errShown is returned by a command that has already told what is wrong.
var errShown = errors.New("shown")

func execute(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errShown):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(root.ErrOrStderr(), "grapnel: %v\n", err)
		return 2
	default:
		fmt.Fprintf(root.ErrOrStderr(), "grapnel: %v\n", err)
		return 1
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "grapnel",
		Short:         "Receive webhooks, never lose one, route them to plugins",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newRun(), newValidate(), newSend(),
		newRequests(), newDeliveries(), newRejections(), newStatus(),
		newPlugin(), newVersion(),
	)
	for _, c := range root.Commands() {
		markUsage(c)
	}
	return root
}

// markUsage makes wrong arguments of a command and its subcommands usage errors.
func markUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%s: %w; see grapnel %[1]s --help", c.Name(), err)}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), "grapnel", version) },
	}
}

// configFlag adds --config.
func configFlag(c *cobra.Command) *string {
	return c.Flags().String("config", "config.hcl", "configuration `file` or folder")
}
