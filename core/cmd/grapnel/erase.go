package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

func newErase() *cobra.Command {
	c := &cobra.Command{
		Use: "erase (--subject SUBJECT | ID...)", Short: "Erase a person, or requests, for good",
		Long: `Erase all that is stored about a person, or about any other subject of events: requests, events, messages, attempts,
keyed state, and what deleted rows have left in the files of the database. Events are the subject's if they have it as
subject or as partition key. A request with events of others stays, without its body. Sinks, backups and logs are not
touched: the receipt tells which deliveries went where.

A dead request has no events, so it is found by no subject. Requests can be erased by id, in any state.`,
		Example: `  grapnel events list --subject employee/4101
  grapnel requests erase --subject employee/4101 --dry-run
  grapnel requests erase --subject employee/4101 --source people --yes
  grapnel requests erase req_0b5c…
  grapnel requests receipts`,
		Args: cobra.ArbitraryArgs,
	}
	var o admin.EraseOrder
	flags := c.Flags()
	flags.StringVar(&o.Subject, "subject", "", "whom, exactly as events name them, such as employee/4101")
	flags.StringVar(&o.Source, "source", "", "only events of this source")
	flags.StringVar(&o.Tenant, "tenant", "", "only events of this tenant")
	dryRun := flags.Bool("dry-run", false, "change nothing: tell what would be removed")
	yes := flags.Bool("yes", false, "do not ask")
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		o.IDs = args
		e := eraser{printer: p, order: o}
		preview, err := ctl.PreviewErase(c.Context(), o)
		if err != nil {
			return err
		}
		if preview.Removed == (store.Removed{}) && preview.CutShort == 0 {
			return e.nothing(c, preview)
		}
		switch {
		case *dryRun && p.json:
			return p.value(preview)
		case *dryRun:
			return e.preview(preview)
		case *yes && len(preview.Origins) > 1:
			return fmt.Errorf("%s is known from %s: that may be several persons, so choose with --source and --tenant, or "+
				"leave out --yes", o.Subject, origins(preview.Origins))
		case !*yes:
			if err := e.preview(preview); err != nil {
				return err
			}
			if err := e.ask(c); err != nil {
				return err
			}
		}
		return e.erase(c.Context(), ctl)
	})
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		asJSON, _ := c.Flags().GetBool("json")
		switch {
		case (o.Subject == "") == (len(args) == 0):
			return usage(c, "it takes --subject or ID...")
		case len(args) > 0 && (o.Source != "" || o.Tenant != ""):
			return usage(c, "--source and --tenant are for --subject")
		case emptyFlag(c, []string{"source", "tenant"}) != "":
			return usage(c, "--"+emptyFlag(c, []string{"source", "tenant"})+" is empty: leave it out for any")
		case asJSON && !*yes && !*dryRun:
			return usage(c, "--json does not ask: it takes --yes or --dry-run")
		}
		return run(c, args)
	}
	return c
}

// eraser shows an erasure.
type eraser struct {
	printer
	order admin.EraseOrder
}

// nothing tells that there is nothing to erase, and what may have been meant.
func (e eraser) nothing(c *cobra.Command, p admin.ErasePreview) error {
	if len(e.order.IDs) > 0 {
		return errors.New("there are no such requests")
	}
	text := "nothing is stored about " + strconv.Quote(e.order.Subject)
	if e.order.Source != "" || e.order.Tenant != "" {
		text += " of that source and tenant"
	}
	if unknown := unknownNames(c, e.order.Source, "", ""); unknown != "" {
		text += "; " + unknown
	}
	if len(p.Similar) > 0 {
		text += "; did you mean " + strings.Join(quoted(p.Similar), " or ") + "?"
	}
	if n := len(p.DeadMentions); n > 0 {
		text += fmt.Sprintf("; %s that may be about it: erase by id %s", count(int64(n), "dead request"),
			strings.Join(p.DeadMentions, " "))
	}
	return errors.New(text)
}

func (e eraser) preview(p admin.ErasePreview) error {
	if p.CutShort != 0 {
		fmt.Fprintf(e.out, "It was begun before and cut short, receipt %d: what was removed is still to be overwritten.\n", p.CutShort)
		if p.Removed == (store.Removed{}) {
			return nil
		}
		fmt.Fprintln(e.out)
	}
	if len(p.Origins) > 0 {
		if err := e.table("SOURCE TENANT EVENTS", rowsOf(p.Origins, func(o store.EraseOrigin) []string {
			return []string{o.Source, o.Tenant, strconv.FormatInt(o.Events, 10)}
		})); err != nil {
			return err
		}
		fmt.Fprintln(e.out)
	}
	return e.removed("To be removed: ", p.Removed, p.Sent, p.Unread, p.DeadMentions...)
}

// removed tells what goes, where it went before, and what cannot be known.
func (e eraser) removed(head string, r store.Removed, sent []store.SentDelivery, unread int64, dead ...string) error {
	var parts []string
	for _, n := range []struct {
		n    int64
		what string
	}{
		{r.Requests, "request"}, {r.Events, "event"}, {r.Deliveries, "delivery"}, {r.Attempts, "attempt"}, {r.States, "keyed state"},
		{r.Rejections, "rejection"},
	} {
		if n.n > 0 {
			parts = append(parts, count(n.n, n.what))
		}
	}
	fmt.Fprintln(e.out, head+strings.Join(parts, ", "))
	if r.Shared > 0 {
		fmt.Fprintf(e.out, "Left without body, since others have events in it: %s\n", count(r.Shared, "request"))
	}
	if unread > 0 {
		fmt.Fprintf(e.out, "Not decoded or dead, so that nobody knows who is in it: %s\n", count(unread, "request"))
	}
	if len(dead) > 0 {
		fmt.Fprintf(e.out, "Of these, dead ones that seem to be about it, and can be erased by id: %s\n", strings.Join(dead, " "))
	}
	if len(sent) == 0 {
		return nil
	}
	bySink := map[string]map[string]int{}
	for _, s := range sent {
		if bySink[s.Sink] == nil {
			bySink[s.Sink] = map[string]int{}
		}
		bySink[s.Sink][s.State]++
	}
	fmt.Fprintln(e.out, "\nSinks that know of it, or may:")
	return e.table("SINK DELIVERED TRIED IN-FLIGHT", rowsOf(slices.Sorted(maps.Keys(bySink)), func(sink string) []string {
		n := bySink[sink]
		return []string{
			sink, strconv.Itoa(n[store.SentDelivered]), strconv.Itoa(n[store.SentTried]), strconv.Itoa(n[store.SentInFlight]),
		}
	}))
}

// ask has people type what they are about to erase.
func (e eraser) ask(c *cobra.Command) error {
	word := e.order.Subject
	if word == "" {
		word = "erase"
	}
	fmt.Fprintf(e.err, "\nThis cannot be undone. Type %s to go on: ", word)
	line, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if got := strings.TrimRight(line, "\r\n"); got != word {
		if err != nil {
			fmt.Fprintln(e.err)
		}
		return errors.New("nothing was erased")
	}
	return nil
}

func (e eraser) erase(ctx context.Context, ctl admin.Control) error {
	labels := map[string]string{
		store.EraseSearching: "searched", store.EraseWaiting: "decoded", store.EraseOverwriting: "looked through",
	}
	var b *bar
	stage := ""
	r, err := ctl.Erase(ctx, e.order, func(p admin.EraseProgress) {
		if p.Stage != stage {
			b.clear()
			stage, b = p.Stage, newBar(e.err, labels[p.Stage])
		}
		b.show(int(p.Done), int(p.Total))
	})
	b.clear()
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; what was begun goes on by itself while the host runs, or with the same command")
	case err != nil:
		return err
	case e.json:
		return e.value(r)
	}
	return e.removed(fmt.Sprintf("Erased, receipt %d: ", r.ID), r.Removed, r.Sent, r.Unread)
}

func newReceipts() *cobra.Command {
	var cursor string
	var limit int
	c := &cobra.Command{
		Use: "receipts [NUMBER]", Short: "List the receipts of what was erased, or show one", Args: cobra.MaximumNArgs(1),
	}
	pageFlags(c, &cursor, &limit)
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		if len(args) == 1 {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usage(c, fmt.Sprintf("%q is not a receipt's number", args[0]))
			}
			r, err := ctl.Receipt(c.Context(), id)
			if err != nil {
				return err
			}
			return p.value(r)
		}
		res, err := ctl.Receipts(c.Context(), cursor, limit)
		if err != nil {
			return err
		}
		headings := "NUMBER DONE SUBJECT-SHA256 SOURCE TENANT REQUESTS EVENTS DELIVERIES"
		return page(p, res.Items, res.Next, headings, func(r admin.Receipt) []string {
			done := "not yet"
			if r.DoneAt != nil {
				done = at(*r.DoneAt)
			}
			subject := r.Subject
			if len(subject) > 12 {
				subject = subject[:12] + "…"
			}
			return []string{
				strconv.FormatInt(r.ID, 10), done, subject, r.Source, r.Tenant,
				strconv.FormatInt(r.Removed.Requests+r.Removed.Shared, 10), strconv.FormatInt(r.Removed.Events, 10),
				strconv.FormatInt(r.Removed.Deliveries, 10),
			}
		})
	})
	return c
}

// count writes a number of things.
func count(n int64, what string) string {
	switch stem, y := strings.CutSuffix(what, "y"); {
	case n == 1:
	case y:
		what = stem + "ies"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func quoted(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = strconv.Quote(t)
	}
	return out
}

// origins lists where a subject is known from.
func origins(list []store.EraseOrigin) string {
	parts := make([]string, len(list))
	for i, o := range list {
		if parts[i] = "source " + o.Source; o.Tenant != "" {
			parts[i] += ", tenant " + o.Tenant
		}
	}
	return strings.Join(parts, "; ")
}
