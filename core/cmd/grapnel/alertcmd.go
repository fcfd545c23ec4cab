package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

func newAlerts() *cobra.Command {
	list := &cobra.Command{
		Use: "alerts", Short: "Show where each alert stands", Args: cobra.NoArgs,
		Long: "Show where each alert stands with each sink, source or plugin that it watches.",
	}
	var quiet bool
	list.Flags().BoolVar(&quiet, "firing", false, "only those that fire")
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		page, err := ctl.Alerts(c.Context())
		if err != nil {
			return err
		}
		if p.json {
			return p.value(page)
		}
		return p.alerts(page.Items, quiet)
	})
	list.AddCommand(newAlertTest())
	return list
}

// alerts prints where each alert stands, for people.
func (p printer) alerts(all []admin.Alert, firing bool) error {
	var rows [][]string
	for _, a := range all {
		to := cmp.Or(strings.Join(a.To, ","), "nowhere")
		for _, t := range a.Things {
			if firing && !t.Fires() {
				continue
			}
			since := ""
			if !t.Since.IsZero() {
				since = t.Since.Local().Format(time.DateTime)
			}
			rows = append(rows, []string{
				a.Name, t.Subject, t.State, since, amount(t.Value, t.Unit), amount(t.Threshold, t.Unit), to, short(t.Text),
			})
		}
		if len(a.Things) == 0 && !firing {
			rows = append(rows, []string{a.Name, "none", a.State, "", "", "", to, ""})
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, "The configuration has no alert.")
		return nil
	}
	return p.table("ALERT SUBJECT STATE SINCE VALUE THRESHOLD TO NOTE", rows)
}

// amount writes a number of an alert with its unit.
func amount(v float64, unit string) string {
	if unit == "seconds" {
		return (time.Duration(v*1000) * time.Millisecond).Round(100 * time.Millisecond).String()
	}
	return fmt.Sprintf("%g", v)
}

// alertTestWait is how long a test of an alert waits for its deliveries.
const alertTestWait = 30 * time.Second

func newAlertTest() *cobra.Command {
	c := &cobra.Command{
		Use: "test ALERT", Short: "Send a test message through an alert's sinks", Args: cobra.ExactArgs(1),
		Long: `Send a message of an alert that says it is a test (event.data.test is true) the way its messages go, and wait until
it is delivered. Exit status 1 if it goes nowhere or does not arrive.`,
	}
	wait := c.Flags().Duration("wait", alertTestWait, "how long to wait for its deliveries")
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		test, err := ctl.TestAlert(c.Context(), args[0])
		if err != nil {
			return err
		}
		var r admin.Request
		for end := time.Now().Add(*wait); ; {
			if r, err = ctl.Request(c.Context(), test.RequestID); err != nil {
				return err
			}
			if r.State != string(core.RequestReceived) && settledAll(r.Deliveries) || time.Now().After(end) {
				break
			}
			select {
			case <-c.Context().Done():
				return c.Context().Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
		if p.json {
			if err := p.value(r); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(p.out, "sent", test.RequestID)
			rows := make([][]string, len(r.Deliveries))
			for i, d := range r.Deliveries {
				rows[i] = []string{d.Sink, d.State, d.ID, short(d.Reason)}
			}
			if err := p.table("SINK STATE DELIVERY REASON", rows); err != nil {
				return err
			}
		}
		return arrived(r)
	})
	return c
}

func settledAll(ds []admin.Delivery) bool {
	for _, d := range ds {
		if !core.DeliveryState(d.State).Settled() {
			return false
		}
	}
	return true
}

// arrived is nil if a test of an alert was delivered everywhere.
func arrived(r admin.Request) error {
	if len(r.Deliveries) == 0 {
		return errors.New("the alert goes to no sink")
	}
	var not []string
	for _, d := range r.Deliveries {
		if d.State != string(core.DeliveryDelivered) {
			not = append(not, fmt.Sprintf("%s (%s)", d.Sink, d.State))
		}
	}
	if len(not) > 0 {
		return fmt.Errorf("not delivered to %s", strings.Join(not, ", "))
	}
	return nil
}
