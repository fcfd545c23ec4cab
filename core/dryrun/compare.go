package dryrun

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// Comparison is how two configurations differ in what they make of the same requests. It keeps counts, and a few
// differences of each kind to show.
type Comparison struct {
	Requests int
	Differ   int // requests of which something differs
	Before   Totals
	After    Totals
	Targets  map[Target]*Changes

	Differences []Difference // the first few of each target and kind, in the order of the requests

	keep  int
	shown map[shown]int
}

// Totals are what one of the configurations makes of all requests.
type Totals struct {
	Events     int `json:"events"`
	Unrouted   int `json:"unrouted"`  // events without a delivery
	Refused    int `json:"refused"`   // requests that the decoder refuses
	NoSource   int `json:"no_source"` // requests of sources that the configuration lacks
	Deliveries int `json:"deliveries"`
	Dead       int `json:"dead"` // deliveries whose route fails
}

// Target is what a delivery comes from and goes to.
type Target struct{ Route, Sink string }

// Changes counts a target's deliveries.
type Changes struct {
	Before int `json:"before"`
	After  int `json:"after"`
	Appear int `json:"appear"`
	Vanish int `json:"vanish"`
	Change int `json:"change"`
}

// The kinds of differences.
const (
	Appears  = "appears"  // a delivery that there was not
	Vanishes = "vanishes" // a delivery that there would not be
	Differs  = "changes"  // another message, order key or end
	Decoded  = "decoded"  // the request is decoded otherwise; Route and Sink are empty
)

// Difference is one delivery, or one request, that differs.
type Difference struct {
	Kind       string        `json:"kind"`
	RequestID  string        `json:"request_id"`
	ReceivedAt time.Time     `json:"received_at"`
	Source     string        `json:"source"`
	EventID    string        `json:"event_id,omitempty"`
	EventType  string        `json:"event_type,omitempty"`
	Subject    string        `json:"subject,omitempty"`
	Route      string        `json:"route,omitempty"`
	Sink       string        `json:"sink,omitempty"`
	Fields     []FieldChange `json:"fields,omitempty"`
}

// FieldChange is a part of a message, or something about a delivery, that differs. What is not there on one side is nil.
type FieldChange struct {
	// What is message, order_key, dead (why its route fails) or, of a request, refused, source or events.
	What   string          `json:"what"`
	Path   string          `json:"path,omitempty"` // within the message, like fields.name or items[2]
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

type shown struct {
	Target
	kind string
}

// NewComparison makes an empty comparison that keeps so many differences of each target and kind.
func NewComparison(keep int) *Comparison {
	return &Comparison{keep: keep, Targets: map[Target]*Changes{}, shown: map[shown]int{}}
}

// Add adds what both configurations make of the same requests, given in the same order. It keeps nothing of them but
// what it shows.
func (c *Comparison) Add(before, after []Result) {
	for i := range before {
		c.add(&before[i], &after[i])
	}
}

// place is a delivery's place in its request.
type place struct {
	event int
	Target
}

func (c *Comparison) add(before, after *Result) {
	c.Requests++
	c.Before.count(before)
	c.After.count(after)
	differs := c.decoded(before, after)

	was := make(map[place]*core.Delivery, len(before.Deliveries))
	for _, d := range before.Deliveries {
		was[placeOf(d)] = d
	}
	for _, d := range after.Deliveries {
		t := c.target(d)
		t.After++
		old, ok := was[placeOf(d)]
		if !ok {
			t.Appear++
			differs = true
			c.show(Appears, after, d, func() []FieldChange { return changes(&core.Delivery{}, d) })
			continue
		}
		delete(was, placeOf(d))
		t.Before++
		if d.State != old.State || d.Reason != old.Reason || d.OrderKey != old.OrderKey || !bytes.Equal(d.Message, old.Message) {
			t.Change++
			differs = true
			c.show(Differs, after, d, func() []FieldChange { return changes(old, d) })
		}
	}
	for _, d := range before.Deliveries { // in their order
		if _, left := was[placeOf(d)]; left {
			t := c.target(d)
			t.Before++
			t.Vanish++
			differs = true
			c.show(Vanishes, before, d, func() []FieldChange { return changes(d, &core.Delivery{}) })
		}
	}
	if differs {
		c.Differ++
	}
}

func (t *Totals) count(r *Result) {
	t.Events += len(r.Events)
	t.Deliveries += len(r.Deliveries)
	if r.Refusal != "" {
		t.Refused++
	}
	if r.NoSource {
		t.NoSource++
	}
	routed := make(map[int]bool, len(r.Events))
	for _, d := range r.Deliveries {
		routed[d.Event.Index] = true
		if d.State == core.DeliveryDead {
			t.Dead++
		}
	}
	t.Unrouted += len(r.Events) - len(routed)
}

func placeOf(d *core.Delivery) place { return place{d.Event.Index, Target{d.Route, d.Sink}} }

func (c *Comparison) target(d *core.Delivery) *Changes {
	t := c.Targets[Target{d.Route, d.Sink}]
	if t == nil {
		t = &Changes{}
		c.Targets[Target{d.Route, d.Sink}] = t
	}
	return t
}

// decoded compares what the decoders made of a request.
func (c *Comparison) decoded(before, after *Result) bool {
	fields := compareText(nil, "refused", before.Refusal, after.Refusal)
	fields = compareText(fields, "source", noSource(before), noSource(after))
	if len(fields) == 0 && !slices.EqualFunc(before.Events, after.Events, sameEvent) {
		fields = append(fields, FieldChange{What: "events", Before: events(before), After: events(after)})
	}
	if len(fields) == 0 {
		return false
	}
	c.show(Decoded, after, nil, func() []FieldChange { return fields })
	return true
}

func noSource(r *Result) string {
	if r.NoSource {
		return "the configuration has no such source"
	}
	return ""
}

func sameEvent(a, b core.Event) bool {
	return a.ID == b.ID && a.Type == b.Type && a.Subject == b.Subject && a.PartitionKey == b.PartitionKey &&
		a.Operation == b.Operation && a.Tenant == b.Tenant && a.Time == b.Time && bytes.Equal(a.Data, b.Data)
}

// events lists the types and subjects of a request's events.
func events(r *Result) json.RawMessage {
	list := make([]string, len(r.Events))
	for i, e := range r.Events {
		list[i] = e.Type + " " + e.Subject
	}
	b, _ := json.Marshal(list) // of strings it cannot fail
	return b
}

// show keeps a difference to be shown, if not too many of its kind are. d is nil for a request.
func (c *Comparison) show(kind string, r *Result, d *core.Delivery, fields func() []FieldChange) {
	s := shown{kind: kind}
	if d != nil {
		s.Target = Target{d.Route, d.Sink}
	}
	if c.shown[s] == c.keep {
		return
	}
	c.shown[s]++
	diff := Difference{
		Kind: kind, RequestID: r.Request.ID(), ReceivedAt: r.Request.ReceivedAt, Source: r.Request.Source,
		Route: s.Route, Sink: s.Sink, Fields: fields(),
	}
	if d != nil {
		diff.EventID, diff.EventType, diff.Subject = d.Event.ID, d.Event.Type, d.Event.Subject
	}
	c.Differences = append(c.Differences, diff)
}

// changes compares two deliveries of the same event, route and sink.
func changes(before, after *core.Delivery) []FieldChange {
	fields := compareText(nil, "dead", before.Reason, after.Reason)
	if after.State == core.DeliveryDead { // without a message, of course
		return fields
	}
	fields = compareText(fields, "order_key", before.OrderKey, after.OrderKey)
	return compareJSON(fields, "", message(before), message(after))
}

// message is a delivery's message; one that could not be rendered has nothing in it.
func message(d *core.Delivery) json.RawMessage {
	if len(d.Message) == 0 {
		return json.RawMessage("{}")
	}
	return d.Message
}

func compareText(fields []FieldChange, what, before, after string) []FieldChange {
	if before == after {
		return fields
	}
	return append(fields, FieldChange{What: what, Before: quoted(before), After: quoted(after)})
}

func quoted(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	b, _ := json.Marshal(s) // of a string it cannot fail
	return b
}

// compareJSON appends the parts of two messages that differ, as deep as both have the same shape. Tokens are compared as
// they are written: 1.0 and 1 reach a sink as different bytes.
func compareJSON(fields []FieldChange, path string, before, after json.RawMessage) []FieldChange {
	if bytes.Equal(before, after) {
		return fields
	}
	if was, is := members(before), members(after); was != nil && is != nil {
		names := maps.Clone(was)
		maps.Copy(names, is)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			fields = compareJSON(fields, memberPath(path, name), was[name], is[name])
		}
		return fields
	}
	if was, is := elements(before), elements(after); was != nil && is != nil && len(was) == len(is) {
		for i := range was {
			fields = compareJSON(fields, path+"["+strconv.Itoa(i)+"]", was[i], is[i])
		}
		return fields
	}
	return append(fields, FieldChange{What: "message", Path: path, Before: before, After: after})
}

// members are those of a JSON object, nil if it is none.
func members(b json.RawMessage) (m map[string]json.RawMessage) {
	if len(b) == 0 || b[0] != '{' || json.Unmarshal(b, &m) != nil {
		return nil
	}
	return m
}

// elements are those of a JSON array, nil if it is none.
func elements(b json.RawMessage) (list []json.RawMessage) {
	if len(b) == 0 || b[0] != '[' || json.Unmarshal(b, &list) != nil {
		return nil
	}
	return list
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// memberPath writes a member of an object as HCL does.
func memberPath(path, name string) string {
	switch {
	case !plainName.MatchString(name):
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}
