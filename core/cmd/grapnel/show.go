package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

// printer writes answers for people or, with --json, for machines.
type printer struct {
	out  io.Writer
	json bool
}

func newPrinter(c *cobra.Command, asJSON bool) printer { return printer{c.OutOrStdout(), asJSON} }

// value prints one thing: as JSON whatever the flag says, because a single thing is shown whole.
func (p printer) value(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	if !p.json {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// table prints rows under headings.
func (p printer) table(headings string, rows [][]string) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(headings, " ", "\t"))
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// page prints a list: JSON Lines, or a table and how to go on.
func page[T any](p printer, items []T, next, headings string, row func(T) []string) error {
	if p.json {
		enc := json.NewEncoder(p.out)
		enc.SetEscapeHTML(false)
		for _, it := range items {
			if err := enc.Encode(it); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	for _, it := range items {
		rows = append(rows, row(it))
	}
	if err := p.table(headings, rows); err != nil {
		return err
	}
	if next != "" {
		fmt.Fprintf(p.out, "more: --cursor %s\n", next)
	}
	return nil
}

func at(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }

// short cuts a text for a table, at its first line.
func short(s string) string {
	s, _, cut := strings.Cut(s, "\n")
	const most = 100
	if r := []rune(s); len(r) > most {
		s, cut = string(r[:most]), true
	}
	if cut {
		s += "…"
	}
	return s
}

// timeFlags adds --since and --until, which take RFC 3339 or a span that ends now, such as 2h.
func timeFlags(c *cobra.Command, since, until *time.Time) {
	parse := func(to *time.Time) func(string) error {
		return func(v string) error {
			if d, err := time.ParseDuration(v); err == nil {
				*to = time.Now().Add(-d)
				return nil
			}
			t, err := time.Parse(time.RFC3339Nano, v)
			if err != nil {
				return fmt.Errorf("%q is neither a time like 2026-01-31T08:00:00Z nor a span like 2h", v)
			}
			*to = t
			return nil
		}
	}
	c.Flags().Func("since", "received at or after this `time` (RFC 3339, or 2h for two hours ago)", parse(since))
	c.Flags().Func("until", "received before this `time`", parse(until))
}

// stateFlag adds --state, which takes one of the given words.
func stateFlag[S ~string](c *cobra.Command, to *S, states ...S) {
	c.Flags().Func("state", fmt.Sprintf("only this `state`: %s", joinStates(states)), func(v string) error {
		if !slices.Contains(states, S(v)) {
			return fmt.Errorf("%q is not one of %s", v, joinStates(states))
		}
		*to = S(v)
		return nil
	})
}

func joinStates[S ~string](states []S) string {
	words := make([]string, len(states))
	for i, s := range states {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

func newRequests() *cobra.Command {
	group := &cobra.Command{Use: "requests", Short: "Show and retry accepted webhooks", Args: cobra.NoArgs}
	group.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }

	var f store.RequestFilter
	list := &cobra.Command{Use: "list", Short: "List requests, newest first", Args: cobra.NoArgs}
	list.Flags().StringVar(&f.Source, "source", "", "only of this source")
	stateFlag(list, &f.State, core.RequestReceived, core.RequestRouted, core.RequestDead)
	list.Flags().BoolVar(&f.Unrouted, "unrouted", false, "only those with an event that no route matched")
	timeFlags(list, &f.Since, &f.Until)
	list.Flags().StringVar(&f.Cursor, "cursor", "", "go on where a list ended")
	list.Flags().IntVar(&f.Limit, "limit", 50, "at most this many, up to 1000")
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		res, err := ctl.Requests(c.Context(), f)
		if err != nil {
			return err
		}
		return page(p, res.Items, res.Next, "RECEIVED SOURCE STATE ID REASON", func(r admin.Request) []string {
			return []string{at(r.ReceivedAt), r.Source, r.State, r.ID, short(r.Reason)}
		})
	})

	show := &cobra.Command{Use: "show ID", Short: "Show a request with its events and deliveries", Args: cobra.ExactArgs(1)}
	withControl(show, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		r, err := ctl.Request(c.Context(), args[0])
		if err != nil {
			return err
		}
		return p.value(r)
	})

	retry := &cobra.Command{Use: "retry ID...", Short: "Decode dead requests again", Args: cobra.MinimumNArgs(1)}
	withControl(retry, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		res, err := ctl.RetryRequests(c.Context(), args)
		if err != nil {
			return err
		}
		return p.retried("request", len(args), len(res.Items), res)
	})
	group.AddCommand(list, show, retry)
	return group
}

func newDeliveries() *cobra.Command {
	group := &cobra.Command{Use: "deliveries", Short: "Show and retry deliveries to sinks", Args: cobra.NoArgs}
	group.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }

	var f store.DeliveryFilter
	list := &cobra.Command{Use: "list", Short: "List deliveries, newest first", Args: cobra.NoArgs}
	flags := list.Flags()
	flags.StringVar(&f.Source, "source", "", "only of this source")
	flags.StringVar(&f.Type, "type", "", "only of this event type")
	flags.StringVar(&f.Subject, "subject", "", "only of this subject, such as employee/4101")
	flags.StringVar(&f.Tenant, "tenant", "", "only of this tenant")
	flags.StringVar(&f.Route, "route", "", "only of this route")
	flags.StringVar(&f.Sink, "sink", "", "only to this sink")
	flags.StringVar(&f.RequestID, "request", "", "only of this request")
	stateFlag(list, &f.State, core.DeliveryPending, core.DeliveryDelivered, core.DeliverySkipped, core.DeliveryDead)
	timeFlags(list, &f.Since, &f.Until)
	flags.StringVar(&f.Cursor, "cursor", "", "go on where a list ended")
	flags.IntVar(&f.Limit, "limit", 50, "at most this many, up to 1000")
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		res, err := ctl.Deliveries(c.Context(), f)
		if err != nil {
			return err
		}
		return page(p, res.Items, res.Next, "TYPE SUBJECT ROUTE SINK STATE ATTEMPTS ID REASON", func(d admin.Delivery) []string {
			return []string{
				d.Type, d.Subject, d.Route, d.Sink, d.State, strconv.Itoa(d.Attempts), d.ID,
				short(cmp.Or(d.Reason, d.Reference)),
			}
		})
	})

	show := &cobra.Command{Use: "show ID", Short: "Show a delivery with its message and attempts", Args: cobra.ExactArgs(1)}
	withControl(show, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		d, err := ctl.Delivery(c.Context(), args[0])
		if err != nil {
			return err
		}
		return p.value(d)
	})

	retry := &cobra.Command{
		Use: "retry ID...", Short: "Deliver dead letters again, with the same id", Args: cobra.MinimumNArgs(1),
	}
	withControl(retry, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		res, err := ctl.RetryDeliveries(c.Context(), args)
		if err != nil {
			return err
		}
		return p.retried("delivery", len(args), len(res.Items), res)
	})
	group.AddCommand(list, show, retry)
	return group
}

func newRejections() *cobra.Command {
	group := &cobra.Command{Use: "rejections", Short: "Show webhooks that were refused and not stored", Args: cobra.NoArgs}
	group.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }

	var f store.RejectionFilter
	list := &cobra.Command{Use: "list", Short: "List rejections, newest first", Args: cobra.NoArgs}
	list.Flags().StringVar(&f.Source, "source", "", "only of this source")
	list.Flags().StringVar(&f.Cause, "cause", "", "only of this cause, such as bad_signature")
	list.Flags().StringVar(&f.Cursor, "cursor", "", "go on where a list ended")
	list.Flags().IntVar(&f.Limit, "limit", 50, "at most this many, up to 1000")
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		res, err := ctl.Rejections(c.Context(), f)
		if err != nil {
			return err
		}
		headings := "AT SOURCE STATUS CAUSE FROM NUMBER DETAIL"
		return page(p, res.Items, res.Next, headings, func(r admin.Rejection) []string {
			return []string{
				at(r.At), r.Source, strconv.Itoa(r.Status), r.Cause, r.RemoteAddr, strconv.FormatInt(r.ID, 10), short(r.Detail),
			}
		})
	})

	show := &cobra.Command{Use: "show NUMBER", Short: "Show a rejection", Args: cobra.ExactArgs(1)}
	withControl(show, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is not a rejection's number", args[0])}
		}
		r, err := ctl.Rejection(c.Context(), id)
		if err != nil {
			return err
		}
		return p.value(r)
	})
	group.AddCommand(list, show)
	return group
}

// retried says how many of the things asked for were retried; not all of them is a failure that scripts can see.
func (p printer) retried(what string, asked, changed int, res any) error {
	if p.json {
		if err := p.value(res); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(p.out, "retried %d of %d\n", changed, asked)
	}
	if changed < asked {
		return fmt.Errorf("%d of %d were not retried: only a dead %s that exists can be", asked-changed, asked, what)
	}
	return nil
}

func newStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show what a host holds and how its sinks and plugins are", Args: cobra.NoArgs}
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		s, err := ctl.Status(c.Context())
		if err != nil {
			return err
		}
		return p.value(s)
	})
	return c
}
