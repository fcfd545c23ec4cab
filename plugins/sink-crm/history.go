package main

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
)

// mark is an event's place in time. Two events at the same time are ordered by the order in which their source accepted
// them; those of different sources are not.
type mark struct {
	time     int64 // Unix nanoseconds
	sequence int64
	source   uint32 // hash
	event    uint32 // hash of its id
}

// ahead is how far in the future an event's time counts: one with a wrong year must not hold a record for years.
const ahead = 24 * time.Hour

func markOf(sequence int64, e sdk.Envelope, at, now time.Time) mark {
	if limit := now.Add(ahead); at.After(limit) {
		at = limit
	}
	return mark{time: at.UnixNano(), sequence: sequence, source: hash32(e.Source), event: hash32(e.ID)}
}

func (m mark) compare(o mark) int {
	if c := cmp.Compare(m.time, o.time); c != 0 || m.source != o.source {
		return c
	}
	return cmp.Compare(m.sequence, o.sequence)
}

// history is what has been applied under one order key: for every record, when each of its fields was written last. Events
// of several types may write different fields of one record, so one time for the whole record would drop values that
// nothing newer has replaced. It holds hashes and times only.
type history []record

type record struct {
	id       uint64 // hash of object and key
	archived *mark
	floor    *mark // of fields that are not listed any more
	fields   []written
}

type written struct {
	field uint32 // hash of the name
	mark  mark
}

func recordID(op *crm.Op) uint64 {
	h := fnv.New64a()
	for _, part := range []string{op.Object, op.Key.Name, op.Key.Value} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return h.Sum64()
}

func hash32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// older reports whether an event with mark m must not write over what old wrote. A replay of an event that stands at the
// same place as another one is the older of the two: the other was applied after it.
func older(m, old mark, replay bool) bool {
	if c := m.compare(old); c != 0 {
		return c < 0
	}
	return replay && m.event != old.event
}

func (h history) find(id uint64) *record {
	if i := slices.IndexFunc(h, func(r record) bool { return r.id == id }); i >= 0 {
		return &h[i]
	}
	return nil
}

// admit returns the operation without the fields that a newer event has written, and how many were left out; nil where
// nothing of it is left to do.
func (h history) admit(op *crm.Op, m mark, replay bool) (left *crm.Op, out int) {
	r := h.find(recordID(op))
	if r == nil {
		return op, 0
	}
	stale := func(old *mark) bool { return old != nil && older(m, *old, replay) }
	if stale(r.archived) {
		return nil, 0
	}
	if op.Kind == crm.Archive {
		newer := slices.ContainsFunc(r.fields, func(w written) bool { return stale(&w.mark) })
		if newer || stale(r.floor) {
			return nil, 0
		}
		return op, 0
	}
	if len(op.Fields) == 0 {
		if stale(r.floor) {
			return nil, 0
		}
		return op, 0
	}
	rest := *op
	rest.Fields = nil
	for _, f := range op.Fields {
		last := r.floor
		if i := slices.IndexFunc(r.fields, func(w written) bool { return w.field == hash32(f.Name) }); i >= 0 {
			last = &r.fields[i].mark
		}
		if !stale(last) {
			rest.Fields = append(rest.Fields, f)
		}
	}
	if len(rest.Fields) == 0 {
		return nil, 0
	}
	return &rest, len(op.Fields) - len(rest.Fields)
}

// missed returns the history after an archive that came too late: what is older than it is too late as well.
func (h history) missed(op *crm.Op, m mark) history {
	h = slices.Clone(h)
	if r := h.find(recordID(op)); r != nil && (r.archived == nil || r.archived.compare(m) < 0) {
		r.archived = &m
	}
	return h
}

// with returns the history after op, whose record becomes the first. Where an older event was applied on demand, it
// counts from now on: what it wrote is what the record has.
func (h history) with(op *crm.Op, m mark) history {
	id := recordID(op)
	r := record{id: id}
	if old := h.find(id); old != nil {
		r = *old
	}
	if op.Kind == crm.Archive {
		r.archived = &m
		r.floor = nil
		r.fields = nil
	} else {
		fields := make([]written, 0, len(op.Fields)+len(r.fields)+1)
		for _, f := range op.Fields {
			fields = append(fields, written{hash32(f.Name), m})
		}
		if len(op.Fields) == 0 { // the record is there since then
			fields = append(fields, written{hash32(""), m})
		}
		fresh := fields
		for _, w := range r.fields {
			if !slices.ContainsFunc(fresh, func(n written) bool { return n.field == w.field }) {
				fields = append(fields, w)
			}
		}
		r.fields = fields
	}
	out := history{r}
	for _, other := range h {
		if other.id != id {
			out = append(out, other)
		}
	}
	return out
}

// historyVersion is the first byte of a history. What starts with another one is of another version: not understood, and
// as good as none.
const historyVersion = 1

const markSize = 24

// bytes encodes a history within what the host keeps. Where it does not fit, other records than the first are forgotten,
// then fields: of those, the newest time is kept for all together.
func (h history) bytes() []byte {
	h = slices.Clone(h)
	for {
		b := []byte{historyVersion}
		for i := range h {
			b = h[i].append(b)
		}
		if len(b) <= sdk.MaxState {
			return b
		}
		if len(h) > 1 {
			h = h[:len(h)-1]
			continue
		}
		h[0].forget()
	}
}

// forget moves the oldest time of a record's fields to the floor.
func (r *record) forget() {
	oldest := slices.MinFunc(r.fields, func(a, b written) int { return a.mark.compare(b.mark) }).mark
	if r.floor == nil || r.floor.compare(oldest) < 0 {
		r.floor = &oldest
	}
	r.fields = slices.DeleteFunc(slices.Clone(r.fields), func(w written) bool { return w.mark.compare(oldest) <= 0 })
}

// append encodes a record: id, which of the two marks there are, those, and the fields by mark.
func (r *record) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, r.id)
	flags := byte(0)
	if r.archived != nil {
		flags |= 1
	}
	if r.floor != nil {
		flags |= 2
	}
	b = append(b, flags)
	for _, m := range []*mark{r.archived, r.floor} {
		if m != nil {
			b = m.append(b)
		}
	}
	var marks []mark
	for _, w := range r.fields {
		if !slices.Contains(marks, w.mark) {
			marks = append(marks, w.mark)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = m.append(b)
		n := 0
		for _, w := range r.fields {
			if w.mark == m {
				n++
			}
		}
		b = binary.AppendUvarint(b, uint64(n))
		for _, w := range r.fields {
			if w.mark == m {
				b = binary.BigEndian.AppendUint32(b, w.field)
			}
		}
	}
	return b
}

func (m mark) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(m.time))
	b = binary.BigEndian.AppendUint64(b, uint64(m.sequence))
	b = binary.BigEndian.AppendUint32(b, m.source)
	return binary.BigEndian.AppendUint32(b, m.event)
}

// parseHistory decodes what bytes encoded; nil where it is anything else.
func parseHistory(b []byte) history {
	if len(b) == 0 || b[0] != historyVersion {
		return nil
	}
	p := parser{rest: b[1:]}
	var h history
	for len(p.rest) > 0 && !p.failed {
		r := record{id: p.uint64()}
		flags := p.take(1)[0]
		if flags&1 != 0 {
			r.archived = new(p.mark())
		}
		if flags&2 != 0 {
			r.floor = new(p.mark())
		}
		for range p.count(markSize + 1) {
			m := p.mark()
			for range p.count(4) {
				r.fields = append(r.fields, written{binary.BigEndian.Uint32(p.take(4)), m})
			}
		}
		h = append(h, r)
	}
	if p.failed {
		return nil
	}
	return h
}

// parser reads numbers until there are no more; from then on it gives zeros.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) take(n int) []byte {
	if len(p.rest) < n {
		p.rest, p.failed = nil, true
		return make([]byte, n)
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) uint64() uint64 { return binary.BigEndian.Uint64(p.take(8)) }

// count reads how many things of at least size bytes follow.
func (p *parser) count(size int) int {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 || v > uint64(len(p.rest)/size) {
		p.rest, p.failed = nil, true
		return 0
	}
	p.rest = p.rest[n:]
	return int(v)
}

func (p *parser) mark() mark {
	return mark{
		time: int64(p.uint64()), sequence: int64(p.uint64()),
		source: binary.BigEndian.Uint32(p.take(4)), event: binary.BigEndian.Uint32(p.take(4)),
	}
}
