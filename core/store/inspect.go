package store

import "time"

// Inspection is what a database says of itself to somebody who only looks.
type Inspection struct {
	Schema, Known int64    // version of the schema; the newest that this program knows
	Foreign       bool     // it is no database of Grapnel's: nothing else is known
	Damage        []string // what the check of its pages found; empty: nothing
	Running       bool     // a host has it open, or stopped without closing it
	Suspect       bool     // a host stopped uncleanly, and some of what it had then is still there

	// Of the schemas that are known:
	Oldest, Newest time.Time // receipt of the oldest and of the newest request; zero: there is none
	LastDay        int64     // requests received in the 24 hours before the inspection, about
	Requests       int64     // that are stored
	DeadRequests   int64
	Dead           map[string]int64  // deliveries, by sink
	Paused         map[string]string // reasons, by sink
	Late           map[string]Late   // by source, of the same 24 hours
}

// Late counts requests that were rejected for their timestamps.
type Late struct{ TooOld, TooNew int64 }
