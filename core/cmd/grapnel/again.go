package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/store"
)

// routeTable makes the routing table of a configuration.
func routeTable(cfg *config.Config) *route.Table {
	return route.NewTable(routes(cfg), cfg.Set, cfg.Digest)
}

// renew is engine.Sink's Renew of one sink: by a configuration's routes, where the delivery's own differ.
func renew(st store.Store, r *route.Renderer) func(context.Context, *core.Delivery) error {
	return func(ctx context.Context, d *core.Delivery) error {
		if r.Current(d) {
			return nil
		}
		req, err := st.RequestOf(ctx, d.Key)
		if err != nil {
			return err
		}
		r.Render(d, req)
		return nil
	}
}

const againHelp = `They are named by id, or chosen by filters, of which at least one is needed.

The message is rendered anew by the routes as they are now: those of the host that runs or, when none does, those of
--config. With --as-is it is the message that is stored. What the routes cannot render any more stays dead, with the new
reason; what they do not send there any more is skipped.

Interrupted, it can be repeated: what was done is not done twice.`

func newRetryDeliveries() *cobra.Command {
	c := &cobra.Command{
		Use: "retry [ID...]", Short: "Deliver dead letters again, with the same ids",
		Long: "Deliver dead letters again, with the same ids, attempts counted from 1. " + againHelp,
		Example: `  grapnel deliveries retry dlv_0b5c…_0_61fa7c2e
  grapnel deliveries retry --sink crm --since 2h --dry-run
  grapnel deliveries retry --state dead`,
	}
	var o admin.DeliveryOrder
	againFlags(c, &o, core.DeliveryDead)
	withAgain(c, againSpec{&o.IDs, &o.Items, &o.DryRun, "deliveries", "retried"},
		func(c *cobra.Command) string { return unknownNames(c, o.Filter.Source, o.Filter.Sink, o.Filter.Route) },
		func(ctx context.Context, ctl admin.Control, report func(admin.Report)) (admin.Tally, error) {
			return ctl.RetryDeliveries(ctx, o, report)
		})
	return c
}

func newReplayDeliveries() *cobra.Command {
	c := &cobra.Command{
		Use: "replay [ID...]", Short: "Deliver dead or settled deliveries again, as new ones",
		Long: `Deliver dead letters, or with --state those that were delivered or skipped, again: each as a new delivery with an id of
its own, which takes a dead one's place. A sink that keeps track of what is newest skips what is stale, unless --force says
to apply it. ` + againHelp,
		Example: `  grapnel deliveries replay --route new_hires --since 2026-03-01T00:00:00Z --until 2026-03-02T00:00:00Z --dry-run
  grapnel deliveries replay --sink crm --type 'peopleforce.employee.*'
  grapnel deliveries replay --sink audit --state delivered --since 1d`,
	}
	var o admin.DeliveryOrder
	againFlags(c, &o, core.DeliveryDead, core.DeliveryDelivered, core.DeliverySkipped)
	c.Flags().BoolVar(&o.Force, "force", false, "have sinks apply them even if something newer was")
	withAgain(c, againSpec{&o.IDs, &o.Items, &o.DryRun, "deliveries", "replayed"},
		func(c *cobra.Command) string { return unknownNames(c, o.Filter.Source, o.Filter.Sink, o.Filter.Route) },
		func(ctx context.Context, ctl admin.Control, report func(admin.Report)) (admin.Tally, error) {
			return ctl.ReplayDeliveries(ctx, o, report)
		})
	return c
}

func newRetryRequests() *cobra.Command {
	c := &cobra.Command{
		Use: "retry [ID...]", Short: "Decode dead requests again",
		Long: `Decode dead requests again. They are named by id, or chosen by filters, of which at least one is needed.`,
		Example: `  grapnel requests retry req_0b5c…
  grapnel requests retry --source people --since 1d --dry-run`,
	}
	var o admin.RequestOrder
	c.Flags().StringVar(&o.Filter.Source, "source", "", "only of this source")
	c.Flags().StringVar(&o.Filter.Tenant, "tenant", "", "only of this tenant")
	stateFlag(c, &o.Filter.State, core.RequestDead)
	timeFlags(c, &o.Filter.Since, &o.Filter.Until)
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "change nothing: tell how many it would be")
	withAgain(c, againSpec{&o.IDs, &o.Items, &o.DryRun, "requests", "retried"},
		func(c *cobra.Command) string { return unknownNames(c, o.Filter.Source, "", "") },
		func(ctx context.Context, ctl admin.Control, report func(admin.Report)) (admin.Tally, error) {
			return ctl.RetryRequests(ctx, o, report)
		})
	return c
}

// filterFlags adds the flags that choose deliveries.
func filterFlags(c *cobra.Command, f *store.DeliveryFilter, states ...core.DeliveryState) {
	flags := c.Flags()
	flags.StringVar(&f.Source, "source", "", "only of this source")
	flags.StringVar(&f.Type, "type", "", "only of this event `type`, or pattern such as 'youforce.*'")
	flags.StringVar(&f.Subject, "subject", "", "only of this subject, such as employee/4101")
	flags.StringVar(&f.Tenant, "tenant", "", "only of this tenant")
	flags.StringVar(&f.Route, "route", "", "only of this route")
	flags.StringVar(&f.Sink, "sink", "", "only to this sink")
	flags.StringVar(&f.RequestID, "request", "", "only of this request")
	stateFlag(c, &f.State, states...)
	timeFlags(c, &f.Since, &f.Until)
}

func againFlags(c *cobra.Command, o *admin.DeliveryOrder, states ...core.DeliveryState) {
	filterFlags(c, &o.Filter, states...)
	c.Flags().BoolVar(&o.AsIs, "as-is", false, "deliver the stored messages; do not render them anew")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "change nothing: tell how many it would be, and the first few")
}

// againSpec is what a retry or replay is told, and how it speaks of itself.
type againSpec struct {
	ids    *[]string
	items  *int
	dryRun *bool
	what   string // "deliveries" or "requests"
	done   string // the word for what happens to them
}

// withAgain makes c a retry or replay. unknown says which names are misspelt when nothing was selected.
func withAgain(
	c *cobra.Command, spec againSpec, unknown func(*cobra.Command) string,
	work func(context.Context, admin.Control, func(admin.Report)) (admin.Tally, error),
) {
	var filters []string // names of flags that choose
	for _, name := range []string{"source", "type", "subject", "tenant", "route", "sink", "request", "state", "since", "until"} {
		if c.Flags().Lookup(name) != nil {
			filters = append(filters, name)
		}
	}
	c.Args = cobra.ArbitraryArgs
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		*spec.ids = args
		a := againPrinter{printer: p, againSpec: spec, byID: len(args) > 0}
		if a.byID || p.json && !*a.dryRun {
			*spec.items = 1 << 30
		}
		a.bar = newBar(p.err, spec.done)
		t, err := work(c.Context(), ctl, a.report)
		a.bar.clear()
		if text := unknown(c); err == nil && t.Selected == 0 && text != "" {
			return errors.New(text)
		}
		return a.end(t, err)
	})
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		filtered := slices.ContainsFunc(filters, func(name string) bool { return c.Flags().Changed(name) })
		switch {
		case len(args) == 0 && !filtered:
			return usage(c, "it takes ID... or filters, such as --state dead for all dead ones")
		case len(args) > 0 && filtered:
			return usage(c, "it takes ID... or filters, not both")
		case emptyFlag(c, filters) != "":
			return usage(c, "--"+emptyFlag(c, filters)+" is empty: leave it out for any")
		}
		return run(c, args)
	}
}

// emptyFlag is the first of some flags that is given without a value, "" if none is. What a variable of a script that is
// not set was meant to choose, must not be all.
func emptyFlag(c *cobra.Command, names []string) string {
	for _, name := range names {
		if f := c.Flags().Lookup(name); f != nil && f.Changed && f.Value.Type() == "string" && f.Value.String() == "" {
			return name
		}
	}
	return ""
}

// againPrinter shows a retry or replay.
type againPrinter struct {
	printer
	againSpec
	byID   bool
	bar    *bar
	sample []admin.Item
	failed error // of writing
}

func (a *againPrinter) report(r admin.Report) {
	switch {
	case r.Progress != nil:
		a.bar.show(r.Progress.Seen, r.Progress.Selected)
	case r.Item == nil || a.failed != nil:
	case a.json:
		a.failed = a.value(r)
	case a.byID:
		a.bar.clear()
		a.failed = a.item(*r.Item)
	case *a.dryRun:
		a.sample = append(a.sample, *r.Item)
	}
}

// item tells of one that was named by its id.
func (a *againPrinter) item(i admin.Item) (err error) {
	would := ""
	if *a.dryRun {
		would = "would be "
	}
	switch i.Outcome {
	case admin.OutcomeReplayed, admin.OutcomeRetried:
		if i.ReplayID == "" {
			_, err = fmt.Fprintf(a.out, "%s%s %s%s\n", would, a.done, i.ID, whatOf(i))
		} else {
			_, err = fmt.Fprintf(a.out, "%s %s as %s\n", a.done, i.ID, i.ReplayID)
		}
	default:
		_, err = fmt.Fprintf(a.err, "not %s: %s: %s\n", a.done, i.ID, place(i.Reason, i.RouteRange))
	}
	return err
}

// whatOf says what a sink would get, as far as a dry run tells.
func whatOf(i admin.Item) string {
	switch {
	case len(i.Message) == 0:
		return ""
	case len(i.Stored) == 0:
		return fmt.Sprintf("\n  to %s: %s", i.Sink, i.Message)
	case bytes.Equal(i.Message, i.Stored):
		return fmt.Sprintf("\n  to %s, the message that is stored: %s", i.Sink, i.Message)
	default:
		return fmt.Sprintf("\n  to %s, another message than is stored: %s", i.Sink, i.Message)
	}
}

// end tells what it came to. Not all that was asked for is a failure that scripts can see.
func (a *againPrinter) end(t admin.Tally, err error) error {
	if err = errors.Join(err, a.failed); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		if t.Seen == 0 {
			return err
		}
		return fmt.Errorf("%w after %d of %d %s; the same command goes on with the rest", err, t.Seen, t.Selected, a.what)
	}
	left := t.Dead + t.Refused
	switch {
	case a.json:
		if err := a.value(admin.Report{Result: &t}); err != nil {
			return err
		}
	case a.byID:
	default:
		if err := a.summary(t); err != nil {
			return err
		}
	}
	if left > 0 && !*a.dryRun {
		return fmt.Errorf("%d of %d %s not %s", left, t.Selected, a.what, a.done)
	}
	return nil
}

func (a *againPrinter) summary(t admin.Tally) error {
	verb := a.done
	if *a.dryRun {
		verb = "would be " + verb
	}
	fmt.Fprintf(a.out, "%d of %d %s %s\n", t.Done, t.Selected, a.what, verb)
	for _, r := range t.Reasons {
		said := map[string]string{
			admin.OutcomeDead:    "cannot be rendered",
			admin.OutcomeSkipped: "skipped",
			admin.OutcomeRefused: "left as they are",
		}[r.Outcome]
		reason, _, _ := strings.Cut(place(r.Reason, r.RouteRange), "\n")
		fmt.Fprintf(a.out, "%d %s: %s (such as %s)\n", r.Count, said, reason, r.ID)
	}
	if len(a.sample) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	if a.what == "requests" {
		return a.table("WOULD-BE RECEIVED SOURCE ID", rowsOf(a.sample, func(i admin.Item) []string {
			return []string{i.Outcome, atOr(i.ReceivedAt), i.Source, i.ID}
		}))
	}
	return a.table("WOULD-BE RECEIVED TYPE SUBJECT ROUTE SINK ID", rowsOf(a.sample, func(i admin.Item) []string {
		return []string{i.Outcome, atOr(i.ReceivedAt), i.Type, i.Subject, i.Route, i.Sink, i.ID}
	}))
}

// place puts where something is written before what is wrong with it.
func place(reason, routeRange string) string {
	if routeRange == "" || strings.HasPrefix(reason, routeRange) {
		return reason
	}
	return routeRange + ": " + reason
}

// bar is a progress bar: one line of a terminal, nothing elsewhere. A nil one shows nothing.
type bar struct {
	out   io.Writer
	label string
	shown bool
}

// newBar makes a bar on standard error, if that is a terminal.
func newBar(out io.Writer, label string) *bar {
	f, ok := out.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return &bar{out: f, label: label}
}

func (b *bar) show(n, of int) {
	if b == nil || of == 0 {
		return
	}
	b.shown = true
	fmt.Fprint(b.out, "\r", barLine(n, of, b.label))
}

// say shows a text in the bar's place.
func (b *bar) say(text string) {
	if b == nil {
		return
	}
	b.shown = true
	fmt.Fprint(b.out, "\r\x1b[K", text)
}

func (b *bar) clear() {
	if b != nil && b.shown {
		b.shown = false
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

// barLine draws a bar of 30 cells.
func barLine(n, of int, label string) string {
	const cells = 30
	full := min(n*cells/max(of, 1), cells)
	return fmt.Sprintf("[%s%s] %3d%% %d of %d %s", strings.Repeat("#", full), strings.Repeat(".", cells-full),
		min(n*100/max(of, 1), 100), n, of, label)
}
