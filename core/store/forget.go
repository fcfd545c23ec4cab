package store

import "time"

// Retention says what Purge deletes.
//
// A settled request goes with all that hangs on it: body, events, deliveries, attempts. A request is settled when it is
// dead, or routed with every delivery delivered, skipped or dead. Whatever still waits keeps it: a request that is not
// decoded yet, and one with a delivery that is due, waits for its key or its sink, or is being delivered.
type Retention struct {
	Before   time.Time            // settled requests received before are deleted; zero: none are
	BeforeOf map[string]time.Time // instead of Before, for the requests of some sources; zero: none of them are

	// StateBefore: keyed state is deleted if it was not written since, no delivery that settled since had its key, and none
	// of its key waits. Zero: none is.
	StateBefore time.Time
}

// Erasure says what to erase: a subject, or requests.
type Erasure struct {
	// Subject is a person, or a thing, as events name it: "employee/4101". Its events are those that have it as subject,
	// and those that have it as partition key, bare or behind their tenant and a slash: a leave request has a subject of its
	// own, and its employee as partition key.
	Subject string
	Source  string // only events that came in here; "": at any source
	Tenant  string // only events of this tenant; "": of any

	Requests []string // ids; they go whole, whatever their states. Unknown ones are passed over
}

// Removed counts what an erasure took away.
type Removed struct {
	Requests   int64 `json:"requests"` // with body and headers
	Shared     int64 `json:"shared"`   // requests that stay without body and headers, since others have events in them
	Events     int64 `json:"events"`
	Deliveries int64 `json:"deliveries"`
	Attempts   int64 `json:"attempts"`
	States     int64 `json:"states"` // of order keys that its deliveries had
	Rejections int64 `json:"rejections"`
}

// Receipt tells what was erased. It holds nothing of a person but a digest of the subject.
type Receipt struct {
	ID             int64
	Subject        string // hexadecimal SHA-256; "": requests were erased by id
	Source, Tenant string // as asked for
	// Through is the last request that it is about. One of them that is decoded only later, and turns out to be about the
	// subject, is erased then.
	Through int64
	BegunAt time.Time
	DoneAt  time.Time // zero: it was cut short, and goes on
	Removed Removed
	// Unread are the requests up to Through that were not decoded, or dead, at its end: nobody knows whom they are about.
	Unread int64
	// Sent are the deliveries that went to a sink, or may have, before they were removed. That is where else the person is.
	Sent []SentDelivery
}

// How far a delivery had come that was erased.
const (
	SentDelivered = "delivered" // the sink has it
	SentTried     = "tried"     // the sink was called, and did not accept it, or nobody knows
	SentInFlight  = "in_flight" // the sink had it in hand: it may accept it still
)

// SentDelivery is a delivery that its sink may know of.
type SentDelivery struct {
	ID    string    `json:"id"`
	Sink  string    `json:"sink"`
	State string    `json:"state"` // see above
	At    time.Time `json:"at,omitzero"`

	Reference string `json:"reference,omitempty"` // the far end's own id; previews only, since it may tell who it was
}

// The stages of an erasure.
const (
	EraseSearching   = "searching"   // for what is to go, and removing it
	EraseWaiting     = "waiting"     // until what had been received before is decoded
	EraseOverwriting = "overwriting" // what it left in the files
)

// EraseProgress is how far an erasure has come.
type EraseProgress struct {
	Stage       string
	Done, Total int64 // of the stage, in its own unit
	Removed     Removed
}

// ErasePreview is what an erasure would remove.
type ErasePreview struct {
	Removed Removed
	Origins []EraseOrigin
	Sent    []SentDelivery
	Unread  int64 // requests that are not decoded, or dead: nobody knows whom they are about

	// DeadMentions are ids of dead requests that hold the last part of the subject somewhere, up to 100. They are not erased
	// with the subject, but can be by id.
	DeadMentions []string
	Similar      []string // subjects like the one that nothing has

	// CutShort is the receipt of the same erasure of a subject, if it was begun and not ended: to erase it again goes on with
	// that, also where nothing is left to remove, but to overwrite.
	CutShort int64
}

// EraseOrigin counts the events of a subject by where they came from. The same subject at two of them may be two persons.
type EraseOrigin struct {
	Source string `json:"source"`
	Tenant string `json:"tenant,omitempty"`
	Events int64  `json:"events"`
}
