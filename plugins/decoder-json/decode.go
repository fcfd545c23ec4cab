package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// What an operator is told about requests that are odd but no reason to refuse them. None of it is of the payload: places
// are the configuration's.
const (
	noteTime = "the time is not written as time_format says: the time of receipt stands in"
	noteData = "there is nothing at the pointer of the data: it is null"
)

// decoder decodes one provider's requests. It does not change after it was made.
type decoder struct {
	provider  string
	unchecked bool // content types are taken whose bodies the host does not check
	list      bool // the body has a list of events
	items     pointer
	typ       template
	ignore    []string
	words     map[string]string // the types, without the provider, by the provider's words
	ops       map[string]string // operations by type
	subject   template
	key       template
	op        template
	tenant    template
	time      template
	format    string
	data      pointer
	changes   *changes // nil: the provider does not say
}

type changes struct {
	old, new, each, name   pointer
	hasOld, hasNew, inEach bool
}

// headers are those that the decoder looks at.
func (d *decoder) headers() []string {
	var names []string
	for _, t := range []template{d.typ, d.subject, d.key, d.op, d.tenant, d.time} {
		names = append(names, t.headers()...)
	}
	return names
}

// Decode implements sdk.Decoder.
func (d *decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	body := rawjson.Root(r.Body)
	if body.Kind() == rawjson.Absent || d.unchecked && !json.Valid(r.Body) {
		return nil, errors.New("the body is not JSON")
	}
	s := &source{request: r, body: body, element: body}
	if !d.list {
		return d.event(nil, s)
	}
	list := d.items.in(body)
	if list.Kind() != rawjson.Array {
		return nil, fmt.Errorf("what is at the pointer of the items is %v, not an array", list.Kind())
	}
	var events []sdk.Event
	items := rawjson.Elements(list)
	for items.Next() {
		s.element = items.Value
		var err error
		if events, err = d.event(events, s); err != nil {
			return nil, fmt.Errorf("item %d: %w", items.Index, err)
		}
	}
	return events, items.Err()
}

// event appends the event of one element, or none.
func (d *decoder) event(events []sdk.Event, s *source) ([]sdk.Event, error) {
	word, missing := d.typ.text(s)
	if missing != "" {
		return nil, fmt.Errorf("the type is not there: nothing is at %s", missing)
	}
	if slices.Contains(d.ignore, word) {
		return events, nil
	}
	typ := d.words[word]
	if typ == "" {
		var ok bool
		if typ, ok = strings.CutPrefix(typeOf(d.provider, word), d.provider+"."); !ok {
			return nil, errors.New("the type is nothing but full stops and white space")
		}
	}
	e := sdk.Event{Type: d.provider + "." + typ}
	note := func(format string, args ...any) { e.Notes = append(e.Notes, fmt.Sprintf(format, args...)) }
	optional := func(t template, what string) string {
		text, missing := t.text(s)
		if missing != "" {
			note("there is no %s: nothing is at %s", what, missing)
		}
		return text
	}
	e.Subject = optional(d.subject, "subject")
	if e.PartitionKey = e.Subject; d.key != nil {
		e.PartitionKey = optional(d.key, "partition key")
	}
	e.Tenant = optional(d.tenant, "tenant")
	if e.Operation = d.ops[typ]; e.Operation == "" {
		e.Operation = optional(d.op, "operation")
	}
	if e.Operation == "" {
		switch last := typ[strings.LastIndexByte(typ, '.')+1:]; last {
		case "created", "updated", "deleted":
			e.Operation = last
		}
	}
	if text, missing := d.time.text(s); missing == "" && text != "" {
		if t, ok := timeOf(d.format, text); ok {
			e.Time = t
		} else {
			note(noteTime)
		}
	}
	data := d.data.in(s.element)
	switch {
	case data == nil:
		note(noteData)
	case data.Kind() != rawjson.Null:
		e.Data = json.RawMessage(data)
	}
	if d.changes != nil {
		var err error
		if e.Changes, err = d.changes.of(s.element); err != nil {
			return nil, fmt.Errorf("changes: %w", err)
		}
	}
	return append(events, e), nil
}

// maxType is the longest event type that the host takes.
const maxType = 128

// typeOf makes an event type of a provider's word, in which full stops separate parts: "Invitee.Created" is
// calendly.invitee.created, "orders/create" is shopify.orders_create. Without a part it is the provider's name and nothing else.
func typeOf(provider, word string) string {
	t := provider
	for part := range strings.SplitSeq(word, ".") {
		part = sdk.TypeWord(part)
		if part == "" {
			continue
		}
		if room := maxType - len(t) - 1; len(part) > room {
			if room <= 0 {
				break
			}
			part = part[:room]
		}
		t += "." + part
	}
	return t
}

// timeOf writes a time as RFC 3339.
func timeOf(format, text string) (string, bool) {
	switch format {
	case "unix", "unix_ms":
		return unixTime(text, format == "unix_ms")
	case "datetime":
		t, err := time.Parse("2006-01-02 15:04:05.999999999", text)
		return t.Format(time.RFC3339Nano), err == nil
	}
	return text, sdk.ValidTime(text)
}

// unixTime reads seconds, which may have a fraction, or milliseconds.
func unixTime(text string, milliseconds bool) (string, bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(fraction) > 9 || strings.Trim(fraction, "0123456789") != "" {
		return "", false
	}
	nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64) // nine digits
	if strings.HasPrefix(whole, "-") {
		nanos = -nanos
	}
	if milliseconds {
		if n > math.MaxInt64/2 || n < math.MinInt64/2 {
			return "", false
		}
		nanos, n = n%1000*int64(time.Millisecond)+nanos/1000, n/1000
	}
	const year0, year10000 = -62167219200, 253402300800
	if n <= year0 || n >= year10000 {
		return "", false
	}
	return time.Unix(n, nanos).UTC().Format(time.RFC3339Nano), true
}

// of lists what has changed in an element. What is not there, or of another kind than declared, means that nothing has.
func (c *changes) of(element rawjson.Value) ([]sdk.Change, error) {
	if c.inEach {
		return c.entries(element)
	}
	before, after := c.old.in(element), rawjson.Value(nil)
	if c.hasNew {
		after = c.new.in(element)
	}
	if before.Kind() != rawjson.Object {
		return nil, nil
	}
	now := map[string]rawjson.Value{}
	if after.Kind() == rawjson.Object {
		m := rawjson.Members(after)
		for m.Next() {
			now[string(m.Name)] = m.Value
		}
		if m.Err() != nil {
			return nil, m.Err()
		}
	}
	var list changeList
	m := rawjson.Members(before)
	for m.Next() {
		if value, ok := now[string(m.Name)]; !ok || !bytes.Equal(value, m.Value) {
			list.add(sdk.Change{Field: string(m.Name), Old: json.RawMessage(m.Value), New: json.RawMessage(value)})
		}
	}
	return list.all, m.Err()
}

// entries is of for providers that have an entry for each field.
func (c *changes) entries(element rawjson.Value) ([]sdk.Change, error) {
	entries := c.each.in(element)
	var list changeList
	take := func(field string, entry rawjson.Value) {
		change := sdk.Change{Field: field}
		if c.hasOld {
			change.Old = json.RawMessage(c.old.in(entry))
		}
		if c.hasNew {
			change.New = json.RawMessage(c.new.in(entry))
		}
		if field != "" && (change.Old != nil || change.New != nil) {
			list.add(change)
		}
	}
	var walk *rawjson.Walk
	switch entries.Kind() {
	case rawjson.Object:
		walk = rawjson.Members(entries)
		for walk.Next() {
			take(string(walk.Name), walk.Value)
		}
	case rawjson.Array:
		walk = rawjson.Elements(entries)
		for walk.Next() {
			name, _ := c.name.in(walk.Value).Text()
			take(name, walk.Value)
		}
	default:
		return nil, nil
	}
	return list.all, walk.Err()
}

// changeList has every field once: the last says it, as with members of an object.
type changeList struct {
	all []sdk.Change
	at  map[string]int
}

func (l *changeList) add(c sdk.Change) {
	if l.at == nil {
		l.at = map[string]int{}
	}
	if i, ok := l.at[c.Field]; ok {
		l.all[i] = c
		return
	}
	l.at[c.Field] = len(l.all)
	l.all = append(l.all, c)
}
