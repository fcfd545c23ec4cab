package core

import (
	"encoding/json"

	"github.com/grapnelhq/grapnel/sdk"
)

// Event is what a decoder made of a request, with the envelope completed by the host.
type Event struct {
	sdk.Envelope
	RequestSeq int64
	Index      int    // position among the events of its request
	Data       []byte // JSON, the provider's tokens untouched; nil: null. Often a slice of Request.Body
	DataOffset int    // where Data starts in Request.Body; -1: it is no slice of it
	Changes    []byte // JSON object: field → {"old": …, "new": …}; nil: none
}

// Decoded is the result of decoding one request: its events, or the reason why it can never be decoded.
type Decoded struct {
	Events  []Event
	Refused string // not empty: dead for good
	Crashed bool   // Refused says how the decoder process died on this request alone; it counts, it is not final
	Notes   []string
	Spans   []Span // what the plugin measured, where the request's CallTrace is sampled
}

// MaxEvents is the most events per request and MaxDeliveries the most deliveries per event; ids have room for no more.
const (
	MaxEvents     = 1 << 12
	MaxDeliveries = 1 << 12
)

// Change is one member of Event.Changes.
type Change struct {
	Old json.RawMessage `json:"old,omitempty"`
	New json.RawMessage `json:"new,omitempty"`
}
