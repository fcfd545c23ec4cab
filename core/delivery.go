package core

import (
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// DeliveryState is the state of a delivery as stored.
type DeliveryState string

// The states of a delivery; see the package comment for the transitions.
const (
	DeliveryPending   DeliveryState = "pending"
	DeliveryLeased    DeliveryState = "leased" // in the hands of a running host; shown as pending
	DeliveryDelivered DeliveryState = "delivered"
	DeliverySkipped   DeliveryState = "skipped"
	DeliveryDead      DeliveryState = "dead"
)

// Settled reports whether nothing more happens to a delivery in this state by itself.
func (s DeliveryState) Settled() bool {
	return s == DeliveryDelivered || s == DeliverySkipped || s == DeliveryDead
}

// Delivery is one message for one sink, about one event.
type Delivery struct {
	Key      DeliveryKey // where it stands: request, event, ordinal; the store's primary key
	ID       string      // public, derived from event id, route, sink and replay count; the same on every attempt
	Replay   int         // 0, or the n-th replay of the same event to the same route and sink
	AsIs     bool        // the message is delivered as it is, whatever the configuration has become
	Force    bool        // a replay that the sink is to apply even if something newer was applied
	Route    string
	Sink     string
	OrderKey string // empty: unordered
	Message  []byte // JSON object of the sink's message schema, rendered by the host

	ConfigDigest string // of the configuration that rendered the message
	SchemaDigest string // of the message schema it was rendered for

	State    DeliveryState
	Due      time.Time // pending: not before
	Attempts int       // attempts that were charged
	Crashes  int       // how often a sink process died on it in quarantine
	Claims   int       // how often a host started on it after an unclean stop

	Reason        string   // of the last outcome
	AttributePath []string // rejected: the message's attribute that is wrong
	Reference     string   // delivered: the far end's own id
	ReplayOf      string   // id of the delivery that this one is a replay of
	ReplayedBy    string   // id of the newest replay of this one
	RouteRange    string   // dead by a route's error or a rejected attribute: file:line,column of the route
	SettledAt     time.Time
	FirstAttempt  time.Time // zero before the first
	// FirstActive is the sink's active time at the first attempt: what a delivery's age is counted from.
	FirstActive time.Duration

	ReceivedAt time.Time // when its request was received
	Trace      Trace     // its request's

	// For dispatch only, not stored here:
	Renewed   bool // message and digests are newer than the stored ones: the settlement stores them
	Event     *Event
	KeyState  []byte // keyed state of OrderKey, for sinks that want it
	StateRead bool   // KeyState is filled
	CallTrace string // traceparent of the call to the sink that is under way
}

// Attempt is one try of a delivery.
type Attempt struct {
	Number  int
	At      time.Time
	Took    time.Duration
	Outcome sdk.OutcomeKind
	Reason  string
	Notes   []string
}

// Outcome is what became of one delivery in one call to its sink. Kind is sdk's vocabulary plus Crashed.
type Outcome struct {
	Kind          sdk.OutcomeKind
	Reason        string
	After         time.Duration
	Reference     string
	AttributePath []string
	State         []byte
	StateSet      bool
	Notes         []string
	Spans         []Span // what the plugin measured, where the delivery's CallTrace is sampled
}

// Crashed is the outcome of a delivery that alone in a quarantine process made that process die; Reason holds the
// process's last words.
const Crashed sdk.OutcomeKind = "crashed"
