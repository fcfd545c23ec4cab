package admin

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// Request is a stored request as shown.
type Request struct {
	ID         string    `json:"id"`
	Seq        int64     `json:"sequence"`
	Source     string    `json:"source"`
	Tenant     string    `json:"tenant,omitempty"`
	ReceivedAt time.Time `json:"received_at"`
	State      string    `json:"state"`
	Reason     string    `json:"reason,omitempty"`
	Notes      []string  `json:"notes,omitempty"`
	RemoteAddr string    `json:"remote_addr,omitempty"`
	Method     string    `json:"method,omitempty"`
	Query      string    `json:"query,omitempty"`
	TraceID    string    `json:"trace_id,omitempty"` // of its distributed trace

	// Only of a single request:
	Headers    []sdk.Header `json:"headers,omitempty"`
	Body       string       `json:"body,omitempty"`        // when it is UTF-8
	BodyBase64 []byte       `json:"body_base64,omitempty"` // when it is not
	Events     []Event      `json:"events,omitempty"`
	Deliveries []Delivery   `json:"deliveries,omitempty"`
}

// Event is a decoded event as shown.
type Event struct {
	sdk.Envelope
	Data    json.RawMessage `json:"data,omitempty"`
	Changes json.RawMessage `json:"changes,omitempty"`
}

// ListedEvent is an event in a list, without its data.
type ListedEvent struct {
	Event
	RequestID  string    `json:"request_id"`
	ReceivedAt time.Time `json:"received_at"` // its request
	Deliveries int       `json:"deliveries"`  // how many; 0: no route matched it
}

// EventDetail is an event with what came of it.
type EventDetail struct {
	Event
	RequestID  string     `json:"request_id"`
	ReceivedAt time.Time  `json:"received_at"`
	Deliveries []Delivery `json:"deliveries"`
}

// Delivery is a delivery as shown.
type Delivery struct {
	ID            string     `json:"id"`
	Sequence      int64      `json:"sequence"`
	ReplayOf      string     `json:"replay_of,omitempty"`   // the delivery that this one replays
	ReplayedBy    string     `json:"replayed_by,omitempty"` // the newest replay of this one
	Forced        bool       `json:"forced,omitempty"`      // to be applied even if something newer was
	AsIs          bool       `json:"as_is,omitempty"`       // its message is not rendered anew
	ReceivedAt    time.Time  `json:"received_at"`           // its request
	RequestID     string     `json:"request_id,omitempty"`
	TraceID       string     `json:"trace_id,omitempty"` // of its request's distributed trace
	EventID       string     `json:"event_id,omitempty"`
	Type          string     `json:"type,omitempty"`
	Subject       string     `json:"subject,omitempty"`
	Source        string     `json:"source,omitempty"`
	Route         string     `json:"route"`
	Sink          string     `json:"sink"`
	OrderKey      string     `json:"order_key,omitempty"`
	State         string     `json:"state"`
	Due           *time.Time `json:"due,omitempty"` // pending: not before; none: behind an earlier one of its order key
	Attempts      int        `json:"attempts"`
	Crashes       int        `json:"crashes,omitempty"`
	Reason        string     `json:"reason,omitempty"`
	AttributePath []string   `json:"attribute_path,omitempty"`
	RouteRange    string     `json:"route_range,omitempty"` // file:line,column of what is to be mended
	Reference     string     `json:"reference,omitempty"`
	SettledAt     *time.Time `json:"settled_at,omitempty"`

	// Only of a single delivery:
	WaitsFor string          `json:"waits_for,omitempty"` // the delivery that it is behind: an earlier one, or a dead one that holds the order key
	Message  json.RawMessage `json:"message,omitempty"`
	Event    *Event          `json:"event,omitempty"`
	History  []Attempt       `json:"history,omitempty"`
}

// Attempt is one try as shown.
type Attempt struct {
	Number  int       `json:"number"`  // its place in the history
	Attempt int       `json:"attempt"` // as the sink was told: the same again after one that was not charged, from 1 after a retry
	At      time.Time `json:"at"`
	TookMS  float64   `json:"took_ms"`
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason,omitempty"`
	Notes   []string  `json:"notes,omitempty"`
}

// Rejection is a request that was not stored, as shown.
type Rejection struct {
	ID         int64     `json:"id"`
	At         time.Time `json:"at"`
	Source     string    `json:"source,omitempty"`
	Status     int       `json:"status"`
	Cause      string    `json:"cause"`
	Detail     string    `json:"detail,omitempty"`
	RemoteAddr string    `json:"remote_addr,omitempty"`
	Method     string    `json:"method,omitempty"`
	Path       string    `json:"path,omitempty"`
}

// Page is one page of a list; Next is the cursor of the following one, empty at the end. No answer takes long: a page may
// hold less than was asked for, or nothing, though there is a next one. Looked is there then: all that was received at
// that time or later was looked at. Fill goes on by itself.
type Page[T any] struct {
	Items  []T        `json:"items"`
	Next   string     `json:"next,omitempty"`
	Looked *time.Time `json:"looked_to,omitempty"`
}

// Fill reads a list, from a cursor on, until there are limit items or the list ends. It tells how far back it has looked
// in between; looked may be nil. An error comes with what was there before it.
func Fill[T any](
	cursor string, limit int, read func(cursor string, limit int) (Page[T], error), looked func(time.Time),
) (Page[T], error) {
	all := Page[T]{Items: []T{}, Next: cursor}
	for {
		p, err := read(all.Next, limit-len(all.Items))
		if err != nil {
			return all, err
		}
		all.Items, all.Next = append(all.Items, p.Items...), p.Next
		if p.Next == "" || len(all.Items) >= limit {
			return all, nil
		}
		if p.Looked != nil && looked != nil {
			looked(*p.Looked)
		}
	}
}

// Status is what a host holds and how its parts are.
type Status struct {
	Running bool           `json:"running"` // false: read from the store of a host that does not run
	Version string         `json:"version,omitempty"`
	Stats   store.Stats    `json:"stats"`
	Sources []SourceStatus `json:"sources,omitempty"`
	Routes  []RouteStatus  `json:"routes,omitempty"` // in the order of the configuration
	Sinks   []SinkStatus   `json:"sinks,omitempty"`
	Plugins []Plugin       `json:"plugins,omitempty"`
	Config  *ConfigStatus  `json:"config,omitempty"`  // that runs
	Firing  []AlertThing   `json:"firing,omitempty"`  // alerts that fire
	Tracing *TracingStatus `json:"tracing,omitempty"` // of a host that traces
}

// TracingStatus counts spans of distributed traces since start.
type TracingStatus struct {
	Exported uint64 `json:"exported"`
	Dropped  uint64 `json:"dropped"` // there was no room for them while they waited
	Failed   uint64 `json:"failed"`  // the receiver did not take them
}

// SourceStatus is what came in at a source since start.
type SourceStatus struct {
	Source     string            `json:"source"`
	Accepted   uint64            `json:"accepted"`
	Duplicates uint64            `json:"duplicates"`
	Reopened   uint64            `json:"reopened"`
	Rejected   map[string]uint64 `json:"rejected,omitempty"` // by cause
	Secrets    []uint64          `json:"secrets,omitempty"`  // authentic requests, by place of the secret in the configuration
}

// RouteStatus is what a route leads from and to.
type RouteStatus struct {
	Route string   `json:"route"`
	Range string   `json:"range"`           // file:line,column
	From  []string `json:"from,omitempty"`  // sources; none: all
	On    []string `json:"on,omitempty"`    // event types and patterns; none: all
	When  bool     `json:"when,omitempty"`  // it has a condition
	Sinks []string `json:"sinks,omitempty"` // but for disabled ones
}

// SinkStatus is where a sink stands.
type SinkStatus struct {
	Sink     string    `json:"sink"`
	State    string    `json:"state"` // working, paused, suspended, failing, down, on hold
	Reason   string    `json:"reason,omitempty"`
	Until    time.Time `json:"until,omitzero"` // suspended, failing: no probe before
	InMemory int       `json:"in_memory"`
	InFlight int       `json:"in_flight"`
	Behind   bool      `json:"behind"`

	OldestAt *time.Time `json:"oldest_at,omitempty"` // when the request of the oldest delivery that waits was received
}

// Plugin is how a plugin process is.
type Plugin struct {
	Plugin   string `json:"plugin"`
	Version  string `json:"version"`
	SHA256   string `json:"sha256,omitempty"`   // of the program that runs
	Path     string `json:"path,omitempty"`     // of the program that it was taken from
	Dev      bool   `json:"dev,omitempty"`      // from a development path
	Isolated string `json:"isolated,omitempty"` // the block that has the process for itself
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"` // why it is not ready
	PID      int    `json:"pid,omitempty"`

	StartedAt  *time.Time `json:"started_at,omitempty"`
	Restarts   int        `json:"restarts"`
	RSSBytes   int64      `json:"rss_bytes,omitempty"`
	CPUSeconds float64    `json:"cpu_seconds,omitempty"` // that the process has used since its start
	InFlight   int        `json:"in_flight"`             // calls
	Abandoned  int        `json:"abandoned,omitempty"`   // calls that got no answer in time
	Faults     int        `json:"faults,omitempty"`      // answers that broke the protocol
	Quarantine int        `json:"quarantine_pid,omitempty"`

	LastCrash   string     `json:"last_crash,omitempty"` // how it ended, and its last words
	LastCrashAt *time.Time `json:"last_crash_at,omitempty"`

	Instances []string      `json:"instances,omitempty"` // blocks that live in it
	Blocks    []PluginBlock `json:"blocks,omitempty"`    // likewise, with how they are
	Upgrade   string        `json:"upgrade,omitempty"`   // "new", "old": one version takes over from another
}

// PluginBlock is how a block in a plugin process is.
type PluginBlock struct {
	Block  string `json:"block"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"` // why it is not
}

func viewRequest(r *core.Request) Request {
	v := Request{
		ID: r.ID(), Seq: r.Seq, Source: r.Source, Tenant: r.Tenant, ReceivedAt: r.ReceivedAt, State: string(r.State),
		Reason: r.Reason, Notes: r.Notes, RemoteAddr: r.RemoteAddr, Method: r.Method, Query: r.Query, Headers: r.Headers,
		TraceID: r.Trace.ID(),
	}
	if utf8.Valid(r.Body) {
		v.Body = string(r.Body)
	} else {
		v.BodyBase64 = r.Body
	}
	return v
}

func viewEvent(e *core.Event) Event {
	return Event{Envelope: e.Envelope, Data: e.Data, Changes: e.Changes}
}

func viewListed(e store.ListedEvent) ListedEvent {
	return ListedEvent{viewEvent(&e.Event), requestOf(e.Event.ID), e.ReceivedAt, e.Deliveries}
}

// requestOf is the id of an event's request.
func requestOf(eventID string) string {
	key, repeat, _, err := core.ParseEventID(eventID)
	if err != nil {
		return ""
	}
	return core.RequestID(key, repeat)
}

func viewDelivery(d *core.Delivery) Delivery {
	v := Delivery{
		ID: d.ID, Sequence: int64(d.Key), Route: d.Route, Sink: d.Sink, OrderKey: d.OrderKey, State: string(d.State),
		Attempts: d.Attempts, Crashes: d.Crashes, Reason: d.Reason, AttributePath: d.AttributePath, RouteRange: d.RouteRange,
		Reference: d.Reference, Message: d.Message, ReplayOf: d.ReplayOf, ReplayedBy: d.ReplayedBy, Forced: d.Force,
		AsIs: d.AsIs, ReceivedAt: d.ReceivedAt, TraceID: d.Trace.ID(),
	}
	if d.State == core.DeliveryPending && !d.Due.IsZero() {
		v.Due = &d.Due
	}
	if !d.SettledAt.IsZero() {
		v.SettledAt = &d.SettledAt
	}
	if d.Event != nil {
		v.EventID, v.Type, v.Subject, v.Source = d.Event.ID, d.Event.Type, d.Event.Subject, d.Event.Source
	}
	if key, repeat, _, err := core.ParseDeliveryID(d.ID); err == nil {
		v.RequestID = core.RequestID(key, repeat)
	}
	return v
}

func viewAttempts(as []core.Attempt) []Attempt {
	var views []Attempt
	for i, a := range as {
		views = append(views, Attempt{
			Number: i + 1, Attempt: a.Number, At: a.At, TookMS: float64(a.Took) / float64(time.Millisecond),
			Outcome: string(a.Outcome), Reason: a.Reason, Notes: a.Notes,
		})
	}
	return views
}

func viewRejection(r core.Rejection) Rejection {
	return Rejection{
		ID: r.ID, At: r.At, Source: r.Source, Status: r.Status, Cause: r.Cause, Detail: r.Detail,
		RemoteAddr: r.RemoteAddr, Method: r.Method, Path: r.Path,
	}
}

func viewAll[T, V any](ts []T, next string, view func(T) V) Page[V] {
	p := Page[V]{Items: make([]V, len(ts)), Next: next}
	if looked := store.Looked(next); !looked.IsZero() {
		p.Looked = &looked
	}
	for i, t := range ts {
		p.Items[i] = view(t)
	}
	return p
}
