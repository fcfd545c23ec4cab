package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
)

func newSinks() *cobra.Command {
	var reason string
	pause := &cobra.Command{
		Use: "pause SINK...", Short: "Stop calling sinks; their deliveries wait", Args: cobra.MinimumNArgs(1),
		Long: `Stop calling sinks. Their deliveries wait, grow no older, and flow on resume, the oldest first. Calls that are under way
end as they do. A sink stays paused when the host is started again.`,
	}
	pause.Flags().StringVar(&reason, "reason", "", "`why`, shown by status")
	withControl(pause, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		for _, sink := range args {
			if err := ctl.PauseSink(c.Context(), sink, reason); err != nil {
				return err
			}
			fmt.Fprintln(p.out, "paused", sink)
		}
		return nil
	})
	resume := &cobra.Command{
		Use: "resume SINK...", Short: "Call sinks again, paused or suspended ones", Args: cobra.MinimumNArgs(1),
	}
	withControl(resume, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		for _, sink := range args {
			changed, err := ctl.ResumeSink(c.Context(), sink)
			switch {
			case err != nil:
				return err
			case changed:
				fmt.Fprintln(p.out, "resumed", sink)
			default:
				fmt.Fprintln(p.out, sink, "was neither paused nor failing")
			}
		}
		return nil
	})
	return group("sinks", "Pause and resume sinks; status lists them", pause, resume)
}

// newSkip is a subcommand of deliveries.
func newSkip() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "skip ID...", Short: "Give dead letters up, so that order keys they hold go on", Args: cobra.MinimumNArgs(1),
	}
	c.Flags().StringVar(&reason, "reason", "skipped by an operator", "`why`, kept with the delivery")
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		res, err := ctl.SkipDeliveries(c.Context(), args, reason)
		if err != nil {
			return err
		}
		return changed(p, "skipped", "a dead delivery", args, res.Items, func(d admin.Delivery) string { return d.ID })
	})
	return c
}
