package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// threads is what the host keeps for an order key: the parents of its threads, the one that was used last at the end.
// What does not fit is forgotten, the oldest first; a forgotten thread begins anew.
type threads struct {
	Parents []parent `json:"p"`
}

// parent is the message that a thread hangs on, or that is updated.
type parent struct {
	Key       string `json:"k"` // digest of the thread's key and the channel that the route asked for
	Channel   string `json:"c"` // the ID that Slack gave
	Timestamp string `json:"t"` // its ts, which is its id
	place            // of the event that it shows
}

// place is an event's place in time: by its own time, then, for those of one source, by the order in which that accepted
// them. Where one of two events has no time there is that order only.
type place struct {
	Source   string `json:"s,omitempty"` // digest
	Sequence int64  `json:"q,omitempty"`
	Time     int64  `json:"n,omitempty"` // Unix nanoseconds; 0: it has none
	Event    string `json:"e,omitempty"` // digest of its id
}

// ahead is how far in the future an event's time counts: one with a wrong year must not hold a message for years.
const ahead = 24 * time.Hour

func placeOf(e *sdk.Envelope, sequence int64, now time.Time) place {
	p := place{Source: digest(e.Source)[:8], Sequence: sequence, Event: digest(e.ID)[:8]}
	if at, err := time.Parse(time.RFC3339, e.Time); err == nil {
		if limit := now.Add(ahead); at.After(limit) {
			at = limit
		}
		p.Time = at.UnixNano()
	}
	return p
}

// newerThan reports whether an event at o must not write over what p wrote. A replay of an event that stands at the same
// place as another one is the older of the two: the other was shown after it.
func (p place) newerThan(o place, replay bool) bool {
	switch {
	case p.Time != 0 && o.Time != 0 && p.Time != o.Time:
		return o.Time < p.Time
	case p.Source == o.Source && p.Sequence != o.Sequence:
		return o.Sequence < p.Sequence
	case p.Source != o.Source && (p.Time == 0 || o.Time == 0):
		return false // nothing to compare
	}
	return replay && p.Event != "" && p.Event != o.Event
}

func readThreads(state []byte) threads {
	var t threads
	if len(state) == 0 || json.Unmarshal(state, &t) != nil {
		return threads{} // of a version that this one does not know: threads begin anew
	}
	return t
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (t *threads) find(key string) *parent {
	for i := range t.Parents {
		if t.Parents[i].Key == key {
			return &t.Parents[i]
		}
	}
	return nil
}

// without are the threads but one.
func (t *threads) without(key string) threads {
	var out threads
	for _, p := range t.Parents {
		if p.Key != key {
			out.Parents = append(out.Parents, p)
		}
	}
	return out
}

// with are the threads with a parent that is new or was used.
func (t *threads) with(p parent) threads {
	out := t.without(p.Key)
	out.Parents = append(out.Parents, p)
	return out
}

// state is the threads as the host keeps them; nil: nothing.
func (t threads) state() []byte {
	for len(t.Parents) > 0 {
		if b, err := json.Marshal(t); err == nil && len(b) <= sdk.MaxState {
			return b
		}
		t.Parents = t.Parents[1:]
	}
	return nil
}
