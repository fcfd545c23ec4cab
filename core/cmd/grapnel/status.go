package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

func newStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show what a host holds and how its sinks and plugins are", Args: cobra.NoArgs}
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		s, err := ctl.Status(c.Context())
		if err != nil {
			return err
		}
		if p.json {
			return p.value(s)
		}
		return p.status(s)
	})
	return c
}

// status prints how a host is, for people.
func (p printer) status(s admin.Status) error {
	host := "does not run; this is what its store holds"
	if s.Running {
		host = "runs, version " + s.Version
	}
	fmt.Fprintf(p.out, "The host %s.\n\n", host)
	if len(s.Firing) > 0 {
		rows := make([][]string, len(s.Firing))
		for i, t := range s.Firing {
			rows[i] = []string{t.Alert, t.Subject, t.Since.Local().Format(time.DateTime), short(t.Text)}
		}
		if err := p.table("FIRING SUBJECT SINCE NOTE", rows); err != nil {
			return err
		}
		fmt.Fprintln(p.out)
	}
	if err := p.configStatus(s.Config); err != nil {
		return err
	}
	if t := s.Tracing; t != nil {
		spans := map[string]uint64{"exported": t.Exported, "dropped": t.Dropped, "failed": t.Failed}
		if err := p.table("SPANS", [][]string{{"of traces", counts(spans)}}); err != nil {
			return err
		}
		fmt.Fprintln(p.out)
	}
	if err := p.table("STORED", [][]string{
		{"requests", counts(s.Stats.Requests)},
		{"unrouted events", counts(s.Stats.Unrouted)},
		{"rejections", counts(s.Stats.Rejections)},
	}); err != nil {
		return err
	}

	live := map[string]admin.SinkStatus{}
	names := slices.Collect(maps.Keys(s.Stats.Deliveries))
	for _, v := range s.Sinks {
		live[v.Sink] = v
		names = append(names, v.Sink)
	}
	slices.Sort(names)
	var rows [][]string
	for _, name := range slices.Compact(names) {
		n, v := s.Stats.Deliveries[name], live[name]
		row := []string{name}
		for _, state := range []core.DeliveryState{
			core.DeliveryPending, core.DeliveryDelivered, core.DeliverySkipped, core.DeliveryDead,
		} {
			row = append(row, strconv.FormatInt(n[state], 10))
		}
		state, note := v.State, short(v.Reason)
		if s.Running && v.Sink == "" {
			note = "not in the configuration"
		}
		if !v.Until.IsZero() {
			note = "probe at " + v.Until.Local().Format(time.TimeOnly) + ": " + note
		}
		if held := s.Stats.Held[name]; held > 0 {
			note = strings.TrimSuffix(fmt.Sprintf("%s the order keys: %s", holders(held), note), ": ")
		}
		rows = append(rows, append(row, strconv.Itoa(v.InFlight), state, note))
	}
	fmt.Fprintln(p.out)
	if err := p.table("SINK PENDING DELIVERED SKIPPED DEAD IN-FLIGHT STATE NOTE", rows); err != nil || !s.Running {
		return err
	}

	rows = nil
	for _, v := range s.Sources {
		rows = append(rows, []string{
			v.Source, strconv.FormatUint(v.Accepted, 10), strconv.FormatUint(v.Duplicates, 10),
			strconv.FormatUint(v.Reopened, 10), counts(v.Rejected),
		})
	}
	fmt.Fprintln(p.out, "\nSince its start:")
	if err := p.table("SOURCE ACCEPTED DUPLICATES REOPENED REJECTED", rows); err != nil {
		return err
	}
	rows = nil
	for _, v := range s.Plugins {
		state := v.State
		if v.Upgrade != "" {
			state += " (" + v.Upgrade + ")"
		}
		crash := short(v.LastCrash)
		if v.LastCrashAt != nil {
			crash = v.LastCrashAt.Local().Format(time.DateTime) + " " + crash
		}
		rows = append(rows, []string{
			v.Plugin, v.Version, v.SHA256[:min(len(v.SHA256), 12)], state, strconv.Itoa(v.PID), strconv.Itoa(v.Restarts),
			fmt.Sprintf("%.1fMiB", float64(v.RSSBytes)/(1<<20)), fmt.Sprintf("%.2fs", v.CPUSeconds),
			strings.Join(v.Instances, ","), crash,
		})
	}
	fmt.Fprintln(p.out)
	return p.table("PLUGIN VERSION SHA256 STATE PID RESTARTS MEMORY CPU BLOCKS LAST-CRASH", rows)
}

// configStatus prints which configuration runs, and why the files say something else, if they do.
func (p printer) configStatus(c *admin.ConfigStatus) error {
	if c == nil {
		return nil
	}
	how := "loaded at " + c.LoadedAt.Local().Format(time.DateTime)
	if c.Trigger != byStart {
		how += " (" + c.Trigger + ")"
	}
	if c.Draining {
		how += ", calls that began before it go on as they were"
	}
	fmt.Fprintf(p.out, "Configuration: %s.\n", how)
	if f := c.Failed; f != nil {
		fmt.Fprintf(p.out, "What the files say now does not run: the reload at %s (%s) was %s: %s\n",
			f.At.Local().Format(time.DateTime), f.Trigger, f.Result, short(f.Error))
	}
	_, err := fmt.Fprintln(p.out)
	return err
}

// holders says how many dead letters hold their order keys.
func holders(n int64) string {
	if n == 1 {
		return "1 dead letter holds"
	}
	return fmt.Sprintf("%d dead letters hold", n)
}

// counts writes numbers for people: "12 routed, 1 dead", the largest first.
func counts[K ~string, N int64 | uint64](m map[K]N) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	var parts []string
	for _, k := range keys {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}
