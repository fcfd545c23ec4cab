package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/store"
)

// printer writes answers for people or, with --json, for machines.
type printer struct {
	out, err io.Writer
	json     bool
}

func newPrinter(c *cobra.Command, asJSON bool) printer {
	return printer{c.OutOrStdout(), c.ErrOrStderr(), asJSON}
}

// value prints one thing: as JSON whatever the flag says, because a single thing is shown whole.
func (p printer) value(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	if !p.json {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// table prints rows under headings. Cells may hold foreign text: nothing in them reaches the terminal as a command.
func (p printer) table(headings string, rows [][]string) error {
	var buf bytes.Buffer
	w := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(headings, " ", "\t"))
	for _, r := range rows {
		for i := range r {
			r[i] = strings.Map(func(c rune) rune {
				if !unicode.IsPrint(c) {
					return '?'
				}
				return c
			}, r[i])
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(buf.String()) {
		if _, err := fmt.Fprintln(p.out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// page prints a list, as JSON Lines or a table, and tells on standard error how to go on.
func page[T any](p printer, items []T, next, headings string, row func(T) []string) error {
	var rows [][]string
	for _, it := range items {
		if !p.json {
			rows = append(rows, row(it))
		} else if err := p.value(it); err != nil {
			return err
		}
	}
	if !p.json {
		if err := p.table(headings, rows); err != nil {
			return err
		}
	}
	if next != "" {
		fmt.Fprintf(p.err, "there are more: --cursor %s\n", next)
	}
	return nil
}

// fill reads a list until it has as many as were asked for. On a terminal it tells how far back it has looked.
func fill[T any](
	p printer, cursor string, limit int, read func(cursor string, limit int) (admin.Page[T], error),
) (admin.Page[T], error) {
	b := newBar(p.err, "")
	defer b.clear()
	return admin.Fill(cursor, limit, read, func(t time.Time) { b.say("looked back to " + at(t)) })
}

// at writes a time as the machine's zone has it, and says which that is.
func at(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000 MST") }

func atOr(t *time.Time) string {
	if t == nil {
		return ""
	}
	return at(*t)
}

func rowsOf[T any](items []T, row func(T) []string) [][]string {
	rows := make([][]string, len(items))
	for i, it := range items {
		rows[i] = row(it)
	}
	return rows
}

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
			if d, err := config.ParseDuration(v); err == nil {
				*to = time.Now().Add(-d)
				return nil
			}
			t, err := time.Parse(time.RFC3339Nano, v)
			if err != nil {
				return fmt.Errorf("%q is neither a time like 2026-01-31T08:00:00Z nor a span like 2h or 3d", v)
			}
			*to = t
			return nil
		}
	}
	c.Flags().Func("since", "received at or after this `time` (RFC 3339, or 2h or 3d ago)", parse(since))
	c.Flags().Func("until", "received before this `time`", parse(until))
}

// pageFlags adds --cursor and --limit.
func pageFlags(c *cobra.Command, cursor *string, limit *int) {
	c.Flags().StringVar(cursor, "cursor", "", "go on where a list ended")
	numberFlag(c, limit, "limit", 50, 1000, "at most this `many`, up to 1000")
}

// numberFlag adds a flag that takes a number from 1 to most.
func numberFlag(c *cobra.Command, to *int, name string, value, most int, about string) {
	*to = value
	c.Flags().Func(name, fmt.Sprintf("%s (default %d)", about, value), func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > most {
			return fmt.Errorf("it is not a number from 1 to %d", most)
		}
		*to = n
		return nil
	})
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
	var f store.RequestFilter
	list := &cobra.Command{
		Use: "list", Short: "List requests, newest first", Args: cobra.NoArgs,
		Example: `  grapnel requests list --state dead
  grapnel requests list --type 'peopleforce.employee.*' --subject employee/4101 --since 7d
  grapnel requests list --text lovelace --since 2h`,
	}
	list.Flags().StringVar(&f.Source, "source", "", "only of this source")
	list.Flags().StringVar(&f.Tenant, "tenant", "", "only of this tenant")
	list.Flags().StringVar(&f.Type, "type", "", "only with an event of this `type`, or pattern such as 'youforce.*'")
	list.Flags().StringVar(&f.Subject, "subject", "", "only with an event of this subject, such as employee/4101")
	stateFlag(list, &f.State, core.RequestReceived, core.RequestRouted, core.RequestDead)
	list.Flags().BoolVar(&f.Unrouted, "unrouted", false, "only those with an event that no route matched")
	text := list.Flags().String("text", "", "only with this `text` in the body, in either case; of the last day unless --since says more")
	timeFlags(list, &f.Since, &f.Until)
	pageFlags(list, &f.Cursor, &f.Limit)
	const headings = "RECEIVED SOURCE STATE ID REASON"
	row := func(r admin.Request) []string {
		return []string{at(r.ReceivedAt), r.Source, r.State, r.ID, short(r.Reason)}
	}
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		if *text != "" {
			found, next, err := searchRequests(c.Context(), ctl, p, admin.SearchOrder{Filter: f, Text: *text})
			if p.json || err != nil {
				return err
			}
			return page(p, found, next, headings, row)
		}
		res, err := fill(p, f.Cursor, f.Limit, func(cursor string, limit int) (admin.Page[admin.Request], error) {
			f.Cursor, f.Limit = cursor, limit
			return ctl.Requests(c.Context(), f)
		})
		if err != nil {
			return err
		}
		if len(res.Items) == 0 {
			p.note(unknownNames(c, f.Source, "", ""))
		}
		return page(p, res.Items, res.Next, headings, row)
	})
	run := list.RunE
	list.RunE = func(c *cobra.Command, args []string) error {
		if emptyFlag(c, []string{"text"}) != "" {
			return usage(c, "--text is empty: leave it out for any")
		}
		return run(c, args)
	}

	show := &cobra.Command{Use: "show ID", Short: "Show a request with its events and deliveries", Args: cobra.ExactArgs(1)}
	withControl(show, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		r, err := ctl.Request(c.Context(), args[0])
		if err != nil {
			return err
		}
		return p.value(r)
	})

	return group("requests", "Show, retry and erase accepted webhooks", list, show, newExport(), newRetryRequests(), newErase(), newReceipts())
}

func newDeliveries() *cobra.Command {
	var f store.DeliveryFilter
	list := &cobra.Command{Use: "list", Short: "List deliveries, newest first", Args: cobra.NoArgs}
	filterFlags(list, &f, core.DeliveryPending, core.DeliveryDelivered, core.DeliverySkipped,
		core.DeliveryDead)
	pageFlags(list, &f.Cursor, &f.Limit)
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		res, err := fill(p, f.Cursor, f.Limit, func(cursor string, limit int) (admin.Page[admin.Delivery], error) {
			f.Cursor, f.Limit = cursor, limit
			return ctl.Deliveries(c.Context(), f)
		})
		if err != nil {
			return err
		}
		if len(res.Items) == 0 {
			p.note(unknownNames(c, f.Source, f.Sink, f.Route))
		}
		return page(p, res.Items, res.Next, "RECEIVED TYPE SUBJECT ROUTE SINK STATE ATTEMPTS ID DETAIL", func(d admin.Delivery) []string {
			return []string{
				at(d.ReceivedAt), d.Type, d.Subject, d.Route, d.Sink, d.State, strconv.Itoa(d.Attempts), d.ID,
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

	return group("deliveries", "Show, retry, replay and skip deliveries to sinks",
		list, show, newRetryDeliveries(), newReplayDeliveries(), newSkip())
}

func newRejections() *cobra.Command {
	var f store.RejectionFilter
	list := &cobra.Command{Use: "list", Short: "List rejections, newest first", Args: cobra.NoArgs}
	list.Flags().StringVar(&f.Source, "source", "", "only of this source")
	list.Flags().StringVar(&f.Cause, "cause", "", "only of this cause, such as bad_signature")
	timeFlags(list, &f.Since, &f.Until)
	pageFlags(list, &f.Cursor, &f.Limit)
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		res, err := fill(p, f.Cursor, f.Limit, func(cursor string, limit int) (admin.Page[admin.Rejection], error) {
			f.Cursor, f.Limit = cursor, limit
			return ctl.Rejections(c.Context(), f)
		})
		if err != nil {
			return err
		}
		if len(res.Items) == 0 {
			p.note(unknownNames(c, f.Source, "", ""))
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
			return usage(c, fmt.Sprintf("%q is not a rejection's number", args[0]))
		}
		r, err := ctl.Rejection(c.Context(), id)
		if err != nil {
			return err
		}
		return p.value(r)
	})
	return group("rejections", "Show webhooks that were refused and not stored", list, show)
}

// changed lists what was changed of what was asked for; not all of it is a failure that scripts can see.
func changed[T any](p printer, done, what string, asked []string, items []T, id func(T) string) error {
	left := slices.Clone(asked)
	for _, it := range items {
		left = slices.DeleteFunc(left, func(s string) bool { return s == id(it) })
		if !p.json {
			fmt.Fprintln(p.out, done, id(it))
		} else if err := p.value(it); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("not %s, because only %s can be: %s", done, what, strings.Join(left, ", "))
	}
	return nil
}
