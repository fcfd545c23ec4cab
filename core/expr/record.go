package expr

import (
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/jsonscan"
)

// Record is the event that expressions are evaluated against. It is used by one goroutine at a time and reused from
// event to event.
type Record struct {
	ev   *core.Event
	req  *core.Request
	none struct { // stands in where Reset got nil
		ev  core.Event
		req core.Request
	}
	set *Set

	data view // event.data and event.raw
	chg  view // event.changes

	arena []byte // texts made while evaluating; emptied when an evaluation starts

	ctx   *hcl.EvalContext // for hcl: the functions, and this record under recordKey
	steps int              // what hcl may still do in this evaluation
	bytes int              // what it may still handle in it
}

// view is a JSON text and where the values of the paths that expressions name lie in it.
type view struct {
	raw    []byte
	paths  *jsonscan.Paths
	spans  []jsonscan.Span
	done   bool        // spans are filled
	values []cty.Value // by path, NilVal until hcl asks for it
	made   bool        // some of values are set
}

// maxSteps and maxBytes bound one evaluation by hcl: every reference costs one step, one for each element of its value,
// and the bytes of its value. So a large text that a for expression repeats for every element of a large list ends the
// evaluation, not the host. maxNodes bounds the cty values built of one reference, maxMessage a rendered message.
const (
	maxSteps   = 200_000
	maxBytes   = 128 << 20
	maxNodes   = 10_000
	maxMessage = 40 << 20 // more than the largest body, less than what a plugin takes

	nodeBytes = 16 // what a value costs besides its text
)

// NewRecord makes a Record for the expressions that the Set has compiled by now.
func (s *Set) NewRecord() *Record {
	r := &Record{set: s, data: view{paths: s.data}, chg: view{paths: s.changes}}
	r.ctx = &hcl.EvalContext{
		Functions: s.functions,
		Variables: map[string]cty.Value{recordKey: cty.CapsuleVal(recordType, r)},
	}
	r.Reset(nil, nil)
	return r
}

// Reset points the record at another event and the request it came in. Both, with all they refer to, must stay
// unchanged until the next Reset; Reset(nil, nil) lets go of them. Event.Data and Event.Changes must have passed
// jsonscan.Check.
func (r *Record) Reset(ev *core.Event, req *core.Request) {
	if ev == nil {
		ev = &r.none.ev
	}
	if req == nil {
		req = &r.none.req
	}
	r.ev, r.req = ev, req
	r.arena = r.arena[:0]
	r.data.reset(ev.Data)
	r.chg.reset(ev.Changes)
}

var jsonNull = []byte("null")

func (v *view) reset(raw []byte) {
	if len(raw) == 0 {
		raw = jsonNull
	}
	v.raw, v.done = raw, false
	if v.made {
		clear(v.values)
		v.made = false
	}
}

// fill extracts the paths, once per event.
func (v *view) fill() {
	if n := v.paths.Len(); len(v.spans) != n {
		v.spans = make([]jsonscan.Span, n)
	}
	v.paths.Extract(v.raw, v.spans)
	v.done = true
}

// state is what became of a reference.
type state uint8

const (
	present  state = iota
	absent         // the member, or something on the way to it, is not there, or something on the way is null
	mismatch       // something on the way is no object or list
)

// token returns the raw JSON token that a path leads to. at is the number of steps that could be taken: all of them
// unless the state is mismatch.
func (v *view) token(path []step) (tok []byte, st state, at int) {
	if !v.done {
		v.fill()
	}
	if len(path) == 0 {
		s := v.spans[0]
		return v.raw[s.Start:s.End], present, 0
	}
	if s := v.spans[path[len(path)-1].path]; s.Present() {
		return v.raw[s.Start:s.End], present, len(path)
	}
	for at = len(path) - 1; ; at-- {
		s := v.spans[0]
		if at > 0 {
			s = v.spans[path[at-1].path]
		}
		if !s.Present() {
			if at == 0 {
				return nil, absent, len(path)
			}
			continue
		}
		switch c := v.raw[s.Start]; {
		case c == 'n', c == '{', c == '[' && path[at].index:
			return nil, absent, len(path)
		}
		return v.raw[s.Start:s.End], mismatch, at
	}
}

// receivedAt is request.received_at.
func (r *Record) receivedAt() string {
	return r.req.ReceivedAt.UTC().Format(time.RFC3339Nano)
}

// header is the first value of a header; ok is false if there is none. HTTP allows bytes in it that are no UTF-8.
func (r *Record) header(name string) (value string, ok bool) {
	for i := range r.req.Headers {
		if r.req.Headers[i].Name == name {
			return strings.ToValidUTF8(r.req.Headers[i].Value, "\ufffd"), true
		}
	}
	return "", false
}

// envelope is one of the event's own attributes; empty: null.
func (r *Record) envelope(f envelopeField) string {
	e := &r.ev.Envelope
	switch f {
	case fieldID:
		return e.ID
	case fieldSource:
		return e.Source
	case fieldType:
		return e.Type
	case fieldSubject:
		return e.Subject
	case fieldTime:
		return e.Time
	case fieldPartitionKey:
		return e.PartitionKey
	case fieldProvider:
		return e.Provider
	case fieldOperation:
		return e.Operation
	case fieldTenant:
		return e.Tenant
	}
	return ""
}
