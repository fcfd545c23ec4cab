package main

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
)

func anOp(kind crm.Kind, key string, fields ...string) *crm.Op {
	op := &crm.Op{Kind: kind, Object: "contacts", Key: crm.Key{Name: "hr_id", Value: key}}
	for _, f := range fields {
		op.Fields = append(op.Fields, crm.Field{Name: f, Value: []byte("1")})
	}
	return op
}

func aMark(second int, sequence int64) mark {
	at := time.Unix(int64(second), 0)
	return markOf(sequence, sdk.Envelope{ID: fmt.Sprintf("e-%d-%d", second, sequence), Source: "hr"}, at, at)
}

// TestHistoryRoundTrip has what is encoded come back the same.
func TestHistoryRoundTrip(t *testing.T) {
	var h history
	h = h.with(anOp(crm.Upsert, "1", "a", "b"), aMark(1, 1))
	h = h.with(anOp(crm.Archive, "2"), aMark(2, 2))
	h = h.with(anOp(crm.Upsert, "1", "b", "c"), aMark(-3, 3))
	h = h.with(anOp(crm.Upsert, "2", "x"), aMark(4, 4))
	h = h.with(anOp(crm.Upsert, "3"), aMark(5, 5))
	b := h.bytes()
	if got := parseHistory(b).bytes(); !bytes.Equal(got, b) {
		t.Errorf("%x\n%x", got, b)
	}
	if len(parseHistory(b)) != 3 {
		t.Errorf("%+v", parseHistory(b))
	}
	for _, other := range [][]byte{nil, {}, {2}, {1, 0}, append([]byte{9}, b...), b[:len(b)-1]} {
		if h := parseHistory(other); h != nil {
			t.Errorf("%x: %+v", other, h)
		}
	}
}

// TestHistoryLimit has records with more fields, and keys with more records, than there is room for. What is forgotten
// must never let an older event write over a newer one of the same record.
func TestHistoryLimit(t *testing.T) {
	var h history
	var all []string
	for i := range 400 {
		all = append(all, fmt.Sprintf("field_%d", i))
	}
	for i := range 40 {
		h = parseHistory(h.with(anOp(crm.Upsert, "1", all[i*10:i*10+10]...), aMark(100+i, 1)).bytes())
	}
	b := h.bytes()
	if len(b) > sdk.MaxState || len(b) < sdk.MaxState/2 {
		t.Errorf("%d bytes", len(b))
	}
	for i := range 40 {
		if left, _ := h.admit(anOp(crm.Upsert, "1", all[i*10:i*10+10]...), aMark(99+i, 1), false); left != nil {
			t.Errorf("fields %d: an older event is admitted", i)
		}
	}
	if left, out := h.admit(anOp(crm.Upsert, "1", all[:20]...), aMark(200, 1), false); left == nil || out != 0 {
		t.Error("a newer event is not admitted")
	}
	h = parseHistory(h.with(anOp(crm.Upsert, "1", all...), aMark(300, 1)).bytes()) // more than fits, at one time
	if left, _ := h.admit(anOp(crm.Upsert, "1", "field_399"), aMark(299, 1), false); left != nil {
		t.Error("an older event is admitted")
	}
	for i := range 100 { // more records than fit: the last written stay
		h = parseHistory(h.with(anOp(crm.Upsert, fmt.Sprint(i), "a"), aMark(400+i, 1)).bytes())
	}
	if left, _ := h.admit(anOp(crm.Upsert, "99", "a"), aMark(400, 1), false); left != nil {
		t.Error("an older event is admitted")
	}
	if len(h.bytes()) > sdk.MaxState {
		t.Errorf("%d bytes", len(h.bytes()))
	}
}

// TestHistoryModel delivers events in random order, with repeats, and compares what the record ends as with what it is
// when they come in the order of their times. The one difference: a value that was written before its archive came, and
// after a newer upsert had, is still there.
func TestHistoryModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		type event struct {
			at     int
			op     *crm.Op
			values map[string]int
		}
		var events []event
		for i := range 2 + r.IntN(12) {
			e := event{at: i, values: map[string]int{}}
			if r.IntN(6) == 0 {
				e.op = anOp(crm.Archive, "1")
			} else {
				e.op = anOp(crm.Upsert, "1")
				for _, name := range []string{"a", "b", "c", "d"} {
					if r.IntN(2) == 0 {
						e.op.Fields = append(e.op.Fields, crm.Field{Name: name})
						e.values[name] = i
					}
				}
			}
			events = append(events, e)
		}
		type state struct {
			archived bool
			fields   map[string]int
		}
		apply := func(s *state, e event, fields []crm.Field) {
			if e.op.Kind == crm.Archive {
				*s = state{archived: true, fields: map[string]int{}}
				return
			}
			if s.archived {
				s.archived, s.fields = false, map[string]int{}
			}
			for _, f := range fields {
				s.fields[f.Name] = e.values[f.Name]
			}
		}
		want := state{fields: map[string]int{}}
		for _, e := range events {
			apply(&want, e, e.op.Fields)
		}
		got := state{fields: map[string]int{}}
		var h history
		order := r.Perm(len(events))
		order = append(order, r.Perm(len(events))...) // each comes twice
		for n, i := range order {
			e := events[i]
			left, _ := h.admit(e.op, aMark(e.at, 1), n >= len(events))
			if left == nil {
				continue
			}
			apply(&got, e, left.Fields)
			h = parseHistory(h.with(left, aMark(e.at, 1)).bytes())
		}
		archives := slices.ContainsFunc(events, func(e event) bool { return e.op.Kind == crm.Archive })
		if archives && !want.archived {
			maps.DeleteFunc(got.fields, func(name string, _ int) bool {
				_, there := want.fields[name]
				return !there
			})
		}
		if got.archived != want.archived || fmt.Sprint(got.fields) != fmt.Sprint(want.fields) {
			t.Fatalf("round %d, order %v: %+v, want %+v", round, order, got, want)
		}
	}
}

// FuzzHistory decodes anything, and what it decodes encodes within the limit.
func FuzzHistory(f *testing.F) {
	var h history
	h = h.with(anOp(crm.Upsert, "1", "a", "b"), aMark(1, 1)).with(anOp(crm.Archive, "2"), aMark(2, 2))
	f.Add(h.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		h := parseHistory(b)
		out := h.bytes()
		if len(out) > sdk.MaxState {
			t.Errorf("%d bytes", len(out))
		}
		for _, op := range []*crm.Op{anOp(crm.Upsert, "1", "a", "c"), anOp(crm.Archive, "2")} {
			if left, out := h.admit(op, aMark(3, 3), true); left != nil && len(left.Fields)+out != len(op.Fields) {
				t.Errorf("%+v, %d left out", left, out)
			}
		}
		_ = slices.Clone(h)
	})
}
