package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/dryrun"
	"github.com/grapnelhq/grapnel/core/store"
)

// errDiffers is plan's way to say that something would change: it is no failure, but scripts can see it.
var errDiffers = errors.New("something would change")

// planSince is how far plan looks back if it is not told.
const planSince = 24 * time.Hour

func newPlan() *cobra.Command {
	c := &cobra.Command{
		Use:   "plan NEW_CONFIG",
		Short: "Show what another configuration would have done with what was received",
		Long: `Take the requests that were really received through the configuration of --config and through NEW_CONFIG, side by
side, and show which deliveries would appear, vanish or change. Nothing is stored or sent, no sink is opened, and no secret
needs to be there.

The requests come from the host that runs with --config, or from its database when none does, or from a file that
"grapnel requests export" wrote.

Exit codes: 0 nothing would change; 3 something would; 1 failed; 2 the command line is wrong.`,
		Example: `  grapnel plan candidate.hcl
  grapnel plan candidate.hcl --since 7d --source people --show 20
  grapnel requests export --since 30d > requests.jsonl; grapnel plan candidate.hcl --requests requests.jsonl`,
		Args: cobra.ExactArgs(1),
	}
	path, asJSON := configFlag(c), jsonFlag(c)
	var f store.RequestFilter
	c.Flags().StringVar(&f.Source, "source", "", "only requests of this source")
	timeFlags(c, &f.Since, &f.Until)
	file := c.Flags().String("requests", "", "take the requests from this `file`; - is standard input")
	var show int
	numberFlag(c, &show, "show", 3, 10_000, "how `many` differences to show of each kind, per route and sink")
	c.RunE = func(c *cobra.Command, args []string) error {
		if f.Since.IsZero() && f.Until.IsZero() && *file == "" {
			f.Since = time.Now().Add(-planSince)
		}
		p := planner{printer: newPrinter(c, *asJSON), filter: f, diff: dryrun.NewComparison(show)}
		return p.run(c, *path, args[0], *file)
	}
	return c
}

// planner takes requests through two configurations.
type planner struct {
	printer
	filter        store.RequestFilter
	before, after *dryRun
	diff          *dryrun.Comparison
	oldest        time.Time // of the requests
	newest        time.Time
}

// planAtOnce is how many requests go through both configurations together.
const planAtOnce = 256

func (p *planner) run(c *cobra.Command, before, after, file string) (err error) {
	ctx := c.Context()
	for _, side := range []struct {
		path string
		open **dryRun
	}{{before, &p.before}, {after, &p.after}} {
		cfg, err := loadToLook(c, side.path)
		if err != nil {
			return err
		}
		if *side.open, err = openDryRun(ctx, cfg, hclog.NewNullLogger()); err != nil {
			return err
		}
		defer (*side.open).close()
	}
	if file != "" {
		err = p.fromFile(ctx, c.InOrStdin(), file)
	} else {
		err = p.fromStore(ctx, before)
	}
	if err != nil {
		return err
	}
	if p.json {
		err = p.value(p.result())
	} else {
		err = p.print()
	}
	if err == nil && p.diff.Differ > 0 {
		err = errDiffers
	}
	return err
}

// fromStore reads the requests of a host or of its database.
func (p *planner) fromStore(ctx context.Context, path string) (err error) {
	ctl, done, err := openControl(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	newest, err := admin.Fill("", 1, func(cursor string, limit int) (admin.Page[admin.Request], error) {
		return ctl.Requests(ctx, store.RequestFilter{
			Source: p.filter.Source, Until: p.filter.Until, Cursor: cursor, Limit: limit,
		})
	}, nil)
	if err != nil || len(newest.Items) == 0 {
		return err
	}
	bar := newBar(p.err, "requests")
	defer bar.clear()
	first, last := int64(0), newest.Items[0].Seq
	return export(ctx, ctl, p.filter, func(page []admin.Request) error {
		first = cmp.Or(first, page[0].Seq)
		for some := range slices.Chunk(page, planAtOnce) {
			requests := make([]*core.Request, len(some))
			for i := range some {
				if requests[i], err = some[i].Stored(); err != nil {
					return fmt.Errorf("%s: %w", some[i].ID, err)
				}
			}
			if err := p.take(ctx, requests); err != nil {
				return err
			}
			// What has come in since the beginning is taken, too.
			done := some[len(some)-1].Seq
			bar.show(int(done-first+1), int(max(last, done)-first+1))
		}
		return nil
	})
}

// export reads what a filter selects, page by page.
func export(ctx context.Context, ctl admin.Control, f store.RequestFilter, each func([]admin.Request) error) error {
	for {
		page, err := ctl.Export(ctx, f)
		if err != nil {
			return err
		}
		if len(page.Items) > 0 {
			if err := each(page.Items); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		f.Cursor = page.Next
	}
}

// maxExported bounds a line of a file of requests: the largest body with each byte escaped, and the rest.
const maxExported = 256 << 20

// fromFile reads the requests of a file that export wrote.
func (p *planner) fromFile(ctx context.Context, stdin io.Reader, name string) error {
	from, size := stdin, int64(0)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		from, size = file, info.Size()
	}
	bar := newBar(p.err, "KiB")
	defer bar.clear()
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), maxExported)
	var some []*core.Request
	read, bytesOf := int64(0), 0
	flush := func() error {
		bar.show(int(read>>10), int(size>>10))
		err := p.take(ctx, some)
		some, bytesOf = some[:0], 0
		return err
	}
	for n := 1; lines.Scan(); n++ {
		read += int64(len(lines.Bytes())) + 1
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		r, err := exported(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%s:%d: this is no request as \"grapnel requests export\" writes it: %w", name, n, err)
		}
		if !p.selects(r) {
			continue
		}
		some, bytesOf = append(some, r), bytesOf+len(r.Body)
		if len(some) == planAtOnce || bytesOf > 4<<20 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return flush()
}

// exported reads a line of a file of requests.
func exported(line []byte) (*core.Request, error) {
	var v admin.Request
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return v.Stored()
}

// selects applies the filter to requests of a file.
func (p *planner) selects(r *core.Request) bool {
	f := &p.filter
	return (f.Source == "" || r.Source == f.Source) && !r.ReceivedAt.Before(f.Since) &&
		(f.Until.IsZero() || r.ReceivedAt.Before(f.Until))
}

// take takes requests through both configurations.
func (p *planner) take(ctx context.Context, requests []*core.Request) error {
	if len(requests) == 0 {
		return nil
	}
	before, err := p.before.Run(ctx, requests)
	if err != nil {
		return fmt.Errorf("with the configuration as it is: %w", err)
	}
	after, err := p.after.Run(ctx, requests)
	if err != nil {
		return fmt.Errorf("with the new configuration: %w", err)
	}
	p.diff.Add(before, after)
	if p.oldest.IsZero() {
		p.oldest = requests[0].ReceivedAt
	}
	p.newest = requests[len(requests)-1].ReceivedAt
	return nil
}

// planned is what plan prints with --json.
type planned struct {
	Requests    int                 `json:"requests"`
	Differ      int                 `json:"differ"` // requests of which something differs
	Oldest      *time.Time          `json:"oldest,omitempty"`
	Newest      *time.Time          `json:"newest,omitempty"`
	Before      dryrun.Totals       `json:"before"`
	After       dryrun.Totals       `json:"after"`
	Targets     []plannedTarget     `json:"targets"`
	Differences []dryrun.Difference `json:"differences"`
}

type plannedTarget struct {
	Route string `json:"route"`
	Sink  string `json:"sink"`
	dryrun.Changes
}

func (p *planner) result() planned {
	v := planned{
		Requests: p.diff.Requests, Differ: p.diff.Differ, Before: p.diff.Before, After: p.diff.After,
		Targets: p.targets(), Differences: append([]dryrun.Difference{}, p.diff.Differences...),
	}
	if !p.oldest.IsZero() {
		v.Oldest, v.Newest = &p.oldest, &p.newest
	}
	return v
}

func (p *planner) targets() []plannedTarget {
	list := make([]plannedTarget, 0, len(p.diff.Targets))
	for t, n := range p.diff.Targets {
		list = append(list, plannedTarget{t.Route, t.Sink, *n})
	}
	slices.SortFunc(list, func(a, b plannedTarget) int {
		return cmp.Or(strings.Compare(a.Route, b.Route), strings.Compare(a.Sink, b.Sink))
	})
	return list
}

// print writes the plan for people.
func (p *planner) print() error {
	d := p.diff
	if d.Requests == 0 {
		_, err := fmt.Fprintln(p.out, "There are no such requests; --since says how far to look back.")
		return err
	}
	fmt.Fprintf(p.out, "%s from %s to %s, %s\n\n", plural(d.Requests, "request"),
		p.oldest.Local().Format(time.DateTime), p.newest.Local().Format(time.DateTime), plural(d.After.Events, "event"))
	rows := rowsOf(p.targets(), func(t plannedTarget) []string {
		row := []string{t.Route, t.Sink}
		for _, n := range []int{t.Before, t.After, t.Appear, t.Vanish, t.Change} {
			row = append(row, fmt.Sprint(n))
		}
		return row
	})
	if err := p.table("ROUTE SINK BEFORE AFTER APPEAR VANISH CHANGE", rows); err != nil {
		return err
	}
	fmt.Fprintln(p.out)
	for _, t := range []struct {
		what          string
		before, after int
	}{
		{"events that no route matches", d.Before.Unrouted, d.After.Unrouted},
		{"deliveries whose route fails", d.Before.Dead, d.After.Dead},
		{"requests that the decoder refuses", d.Before.Refused, d.After.Refused},
		{"requests of sources that are not there", d.Before.NoSource, d.After.NoSource},
	} {
		if t.before != 0 || t.after != 0 {
			fmt.Fprintf(p.out, "%s: %d before, %d after\n", t.what, t.before, t.after)
		}
	}
	if d.Differ == 0 {
		_, err := fmt.Fprintln(p.out, "Nothing would change.")
		return err
	}
	fmt.Fprintf(p.out, "%d of %s would come out otherwise. Such as:\n", d.Differ, plural(d.Requests, "request"))
	v := newView(p.out, nil)
	for i := range d.Differences {
		v.difference(&d.Differences[i])
	}
	return v.flush()
}

// mark is the sign and colour of a kind of difference.
func mark(kind string) (sign, color string) {
	switch kind {
	case dryrun.Appears:
		return "+", green
	case dryrun.Vanishes:
		return "-", red
	case dryrun.Decoded:
		return "!", yellow
	}
	return "~", yellow
}

// difference writes one for people.
func (v *view) difference(d *dryrun.Difference) {
	sign, color := mark(d.Kind)
	v.line(0, "")
	if d.Kind == dryrun.Decoded {
		v.line(0, "%s  %s %s", v.paint(color, sign+" decoded otherwise"), v.text(d.Source), v.paint(grey, d.RequestID))
	} else {
		v.line(0, "%s  %s %s  %s", v.paint(color, sign+" "+d.Route+" → "+d.Sink), v.text(d.EventType), v.text(d.Subject),
			v.paint(grey, d.RequestID))
	}
	for _, f := range d.Fields {
		name := cmp.Or(v.text(f.Path), f.What)
		switch {
		case f.Before == nil:
			v.line(2, "%s: %s", name, v.token(f.After))
		case f.After == nil && d.Kind == dryrun.Vanishes:
			v.line(2, "%s: %s", name, v.token(f.Before))
		default:
			v.line(2, "%s: %s → %s", name, v.token(f.Before), v.token(f.After))
		}
	}
}

// token writes a piece of JSON short enough for a line; nil is nothing.
func (v *view) token(raw json.RawMessage) string {
	if raw == nil {
		return v.paint(grey, "(none)")
	}
	return v.text(cut(string(raw), 120))
}

func newExport() *cobra.Command {
	c := &cobra.Command{
		Use:   "export",
		Short: "Write requests with their bodies, oldest first, one line of JSON each",
		Long: `Write requests with their headers and bodies, oldest first, one line of JSON each: to keep them, or to try
configurations on them (grapnel plan --requests). They hold what providers sent, people's data as well.`,
		Example: `  grapnel requests export --source people --since 7d > requests.jsonl`,
		Args:    cobra.NoArgs,
	}
	var f store.RequestFilter
	c.Flags().StringVar(&f.Source, "source", "", "only of this source")
	stateFlag(c, &f.State, core.RequestReceived, core.RequestRouted, core.RequestDead)
	timeFlags(c, &f.Since, &f.Until)
	path := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctl, done, err := openControl(c.Context(), *path)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(c.OutOrStdout())
		p := printer{out: out, json: true}
		err = export(c.Context(), ctl, f, func(page []admin.Request) error {
			for _, r := range page {
				if err := p.value(r); err != nil {
					return err
				}
			}
			return nil
		})
		return errors.Join(err, out.Flush(), done())
	}
	return c
}
