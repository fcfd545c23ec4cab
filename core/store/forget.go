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
