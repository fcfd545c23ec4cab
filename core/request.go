package core

import (
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// BuiltinSource is the name of the source that the host itself sends events from, and the first part of their types. No
// source block can have it, and only routes that name it take its events.
const BuiltinSource = "grapnel"

// RequestState is the state of a stored request.
type RequestState string

// The states of a request; see the package comment for the transitions.
const (
	RequestReceived RequestState = "received" // accepted, to be decoded and routed
	RequestRouted   RequestState = "routed"   // its events and deliveries are stored
	RequestDead     RequestState = "dead"     // the decoder refuses it for good
)

// Request is an accepted webhook. The fields down to Body are set by the ingress and never change.
type Request struct {
	Seq        int64     // accept sequence, given by the store: grows with every accepted request
	Dedupe     DedupeKey // what makes two requests the same
	Repeat     int       // how often the same key was accepted before, outside the dedupe window
	Source     string    // the source block's name
	Tenant     string    // the source block's tenant
	ReceivedAt time.Time
	RemoteAddr string // the client's address behind trusted proxies
	Method     string
	Query      string       // raw query, without credentials
	Headers    []sdk.Header // those that the decoder's manifest keeps, names in lower case, without credentials
	Body       []byte       // byte-exact
	Trace      Trace

	State   RequestState
	Reason  string   // why it is dead
	Notes   []string // what the decoder remarked
	Crashes int      // how often a decoder process died on it in quarantine
	Claims  int      // how often a host started on it after an unclean stop

	CallTrace string // traceparent of the call to the decoder that is under way; not stored

	Reopened bool // it was dead and is received again; set on requests given to the store's OnAccepted
}

// ID is the request's public id, derived from its dedupe key.
func (r *Request) ID() string { return RequestID(r.Dedupe, r.Repeat) }

// Rejection is a request that was not stored: it failed authentication, limits or syntax. It holds no body.
type Rejection struct {
	ID         int64
	At         time.Time
	Source     string // empty when no source has the path
	Status     int    // the HTTP status that was answered
	Cause      string // a fixed word: "bad_signature", "too_large" …
	Detail     string // for the operator; no secrets, no payload
	RemoteAddr string
	Method     string
	Path       string // without credentials
}
