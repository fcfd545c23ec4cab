package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
)

// entry is one delivery of a call that is to be carried out.
type entry struct {
	index  int // in the call
	op     crm.Op
	mark   mark // of its event
	seen   history
	apply  bool // carried out even when it is older than what the record has
	single bool // with an order key: never collapsed
	result crm.Result
	newer  *entry // collapsed into it
}

// DeliverBatch implements sdk.BatchSink.
//
// The host never sends two deliveries of one order key in a call. Two on one record are there all the same where there is
// no order key or it is another thing than the record; those are carried out one after the other, oldest event first.
func (s *sink) DeliverBatch(ctx context.Context, ds []*sdk.Delivery[Message]) []error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-min(time.Second, time.Until(end)/10)))
		defer cancel()
	}
	errs := make([]error, len(ds))
	var entries []*entry
	for i, d := range ds {
		e, err := s.entry(i, d)
		if err != nil {
			errs[i] = err
			continue
		}
		entries = append(entries, e)
	}
	for _, round := range rounds(entries) {
		s.carryOut(ctx, round)
	}
	for _, e := range entries {
		errs[e.index] = e.settle(ds[e.index])
	}
	return errs
}

// entry prepares a delivery. The error is its outcome.
func (s *sink) entry(index int, d *sdk.Delivery[Message]) (*entry, error) {
	op, err := s.op(d)
	if err != nil {
		return nil, err
	}
	stale := d.Message.Stale
	if stale == "" {
		stale = s.cfg.Stale
	}
	e := &entry{
		index: index, op: op, mark: markOf(d.Sequence, d.Event, op.Time, time.Now()), seen: parseHistory(d.State),
		apply: stale == "apply" || d.Force, single: d.OrderKey != "",
	}
	if e.single && !e.apply {
		left, out := e.seen.admit(&e.op, e.mark, d.Replay)
		if left == nil {
			if op.Kind == crm.Archive {
				d.SetState(e.seen.missed(&op, e.mark).bytes())
			}
			return nil, sdk.Skip("stale: a newer event has been applied to this record")
		}
		if e.op = *left; out > 0 {
			d.Note(fmt.Sprintf("stale: %d fields left out, which a newer event has written", out))
		}
	}
	return e, nil
}

// rounds orders the entries of a call: no round has a record twice, and of one record the oldest event comes first. An
// upsert that a newer one of the call writes over completely is in no round.
func rounds(entries []*entry) [][]*entry {
	type record struct{ object, name, value string }
	byRecord := map[record][]*entry{}
	for _, e := range entries {
		r := record{e.op.Object, e.op.Key.Name, e.op.Key.Value}
		byRecord[r] = append(byRecord[r], e)
	}
	turn := make(map[*entry]int, len(entries))
	most := 0
	for _, list := range byRecord {
		if len(list) > 1 {
			slices.SortStableFunc(list, func(a, b *entry) int { return a.mark.compare(b.mark) })
			collapse(list)
		}
		n := 0
		for _, e := range list {
			if e.newer == nil {
				turn[e] = n
				n++
			}
		}
		most = max(most, n)
	}
	out := make([][]*entry, most)
	for _, e := range entries {
		if e.newer == nil {
			out[turn[e]] = append(out[turn[e]], e)
		}
	}
	return out
}

// collapse finds, among a record's entries from the oldest to the newest, upserts that the next one writes over
// completely.
func collapse(list []*entry) {
	for i := len(list) - 2; i >= 0; i-- {
		old, next := list[i], list[i+1]
		if next.newer != nil {
			next = next.newer
		}
		if old.single || next.single || old.apply || old.op.Kind != crm.Upsert || next.op.Kind != crm.Upsert ||
			list[i+1].op.Kind != crm.Upsert {
			continue
		}
		covers := func(f crm.Field) bool {
			return slices.ContainsFunc(next.op.Fields, func(g crm.Field) bool { return g.Name == f.Name })
		}
		if !slices.ContainsFunc(old.op.Fields, func(f crm.Field) bool { return !covers(f) }) {
			old.newer = next
		}
	}
}

// carryOut hands the entries of a round to the dialect, in batches of one kind.
func (s *sink) carryOut(ctx context.Context, round []*entry) {
	type sort struct {
		kind         crm.Kind
		object, name string
	}
	var order []sort
	groups := map[sort][]*entry{}
	for _, e := range round {
		k := sort{e.op.Kind, e.op.Object, e.op.Key.Name}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], e)
	}
	for _, k := range order {
		for chunk := range slices.Chunk(groups[k], max(s.maxBatch, 1)) {
			ops := make([]crm.Op, len(chunk))
			for i, e := range chunk {
				ops[i] = e.op
			}
			var results []crm.Result
			if ctx.Err() != nil {
				results = crm.FailAll(len(ops), crm.NotSent())
			} else {
				results = s.dialect.Apply(ctx, ops)
			}
			if len(results) != len(ops) {
				results = crm.FailAll(len(ops), fmt.Errorf("%d results for %d operations", len(results), len(ops)))
			}
			for i, e := range chunk {
				e.result = results[i]
			}
		}
	}
}

// settle says what became of a delivery, and what to remember of it.
func (e *entry) settle(d *sdk.Delivery[Message]) error {
	if e.newer != nil {
		if r := e.newer.result; r.Err == nil && !r.Absent {
			return sdk.Skip("superseded: a newer event of the same call has been applied to this record")
		}
		return fmt.Errorf("a newer event of the same call on this record was not applied")
	}
	r := e.result
	for _, note := range r.Notes {
		d.Note(note)
	}
	if r.Err != nil {
		return r.Err
	}
	if e.single && (!r.Absent || e.op.Kind == crm.Archive) {
		d.SetState(e.seen.with(&e.op, e.mark).bytes())
	}
	if r.Absent {
		return sdk.Skip(fmt.Sprintf("there is no record to %s", e.op.Kind))
	}
	d.SetReference(r.Reference)
	switch {
	case r.Created:
		d.Note("created")
	case r.Updated:
		d.Note("updated")
	}
	return nil
}

// Check implements sdk.Checker.
func (s *sink) Check(ctx context.Context) error { return s.dialect.Check(ctx) }

// Close implements sdk.Closer.
func (s *sink) Close() error {
	if c, ok := s.dialect.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
