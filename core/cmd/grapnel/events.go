package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/store"
)

func newEvents() *cobra.Command {
	var f store.EventFilter
	list := &cobra.Command{
		Use: "list", Short: "List events, newest first", Args: cobra.NoArgs,
		Example: `  grapnel events list --unrouted
  grapnel events list --unrouted --count
  grapnel events list --type 'peopleforce.employee.*' --since 1d`,
	}
	flags := list.Flags()
	flags.StringVar(&f.Source, "source", "", "only of this source")
	flags.StringVar(&f.Type, "type", "", "only of this `type`, or pattern such as 'youforce.*'")
	flags.StringVar(&f.Subject, "subject", "", "only of this subject, such as employee/4101")
	flags.StringVar(&f.Tenant, "tenant", "", "only of this tenant")
	flags.StringVar(&f.RequestID, "request", "", "only of this request")
	flags.BoolVar(&f.Unrouted, "unrouted", false, "only those that no route matched")
	count := flags.Bool("count", false, "count them by type instead")
	timeFlags(list, &f.Since, &f.Until)
	pageFlags(list, &f.Cursor, &f.Limit)
	withControl(list, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		if *count {
			n, err := countEvents(c, ctl, f)
			if err != nil {
				return err
			}
			if len(n) == 0 {
				p.note(unknownNames(c, f.Source, "", ""))
			}
			return p.types(n)
		}
		res, err := fill(p, f.Cursor, f.Limit, func(cursor string, limit int) (admin.Page[admin.ListedEvent], error) {
			f.Cursor, f.Limit = cursor, limit
			return ctl.Events(c.Context(), f)
		})
		if err != nil {
			return err
		}
		if len(res.Items) == 0 {
			p.note(unknownNames(c, f.Source, "", ""))
		}
		return page(p, res.Items, res.Next, "RECEIVED TYPE SUBJECT DELIVERIES ID", func(e admin.ListedEvent) []string {
			return []string{at(e.ReceivedAt), e.Type, e.Subject, strconv.Itoa(e.Deliveries), e.ID}
		})
	})

	show := &cobra.Command{Use: "show ID", Short: "Show an event with its data and deliveries", Args: cobra.ExactArgs(1)}
	withControl(show, func(c *cobra.Command, ctl admin.Control, p printer, args []string) error {
		e, err := ctl.Event(c.Context(), args[0])
		if err != nil {
			return err
		}
		return p.value(e)
	})
	return group("events", "Show what decoders made of webhooks", list, show)
}

// countEvents counts events by type. Of the unrouted ones the host knows by heart how many there are.
func countEvents(c *cobra.Command, ctl admin.Control, f store.EventFilter) (map[string]int64, error) {
	f.Limit, f.Cursor = 1000, ""
	if f == (store.EventFilter{Unrouted: true, Limit: f.Limit}) {
		s, err := ctl.Status(c.Context())
		return s.Stats.Unrouted, err
	}
	n := map[string]int64{}
	for {
		res, err := ctl.Events(c.Context(), f)
		if err != nil {
			return nil, err
		}
		for _, e := range res.Items {
			n[e.Type]++
		}
		if f.Cursor = res.Next; f.Cursor == "" {
			return n, nil
		}
	}
}

// typeCount is how many events there are of a type.
type typeCount struct {
	Type  string `json:"type"`
	Count int64  `json:"count"`
}

// types prints counts by type, the largest first.
func (p printer) types(n map[string]int64) error {
	names := slices.SortedFunc(maps.Keys(n), func(a, b string) int { return cmp.Or(cmp.Compare(n[b], n[a]), cmp.Compare(a, b)) })
	all := make([]typeCount, len(names))
	for i, name := range names {
		all[i] = typeCount{name, n[name]}
	}
	return page(p, all, "", "COUNT TYPE", func(t typeCount) []string {
		return []string{strconv.FormatInt(t.Count, 10), t.Type}
	})
}

// note tells people something beside the answer.
func (p printer) note(text string) {
	if text != "" {
		fmt.Fprintln(p.err, "note:", text)
	}
}

// unknownNames says which of the names that filters give are of no block of the configuration, "" if there is none or
// the configuration cannot be read. Such a name need not be wrong: blocks that were removed may have left something.
func unknownNames(c *cobra.Command, source, sink, route string) string {
	path, err := c.Flags().GetString("config")
	if err != nil {
		return ""
	}
	names, err := config.LoadNames(path, config.Options{})
	if err != nil {
		return ""
	}
	var said []string
	for _, n := range []struct {
		kind, name string
		known      []string
	}{{"source", source, names.Sources}, {"sink", sink, names.Sinks}, {"route", route, names.Routes}} {
		if n.name == "" || slices.Contains(n.known, n.name) {
			continue
		}
		text := fmt.Sprintf("the configuration has no %s %q", n.kind, n.name)
		if near := config.Nearest(n.name, n.known); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		} else if len(n.known) > 0 {
			text += ", only " + strings.Join(n.known, ", ")
		}
		said = append(said, text)
	}
	return strings.Join(said, "; ")
}
