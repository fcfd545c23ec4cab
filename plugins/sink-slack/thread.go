package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/grapnelhq/grapnel/sdk"
)

// threads is what the host keeps for an order key: the parents of its threads, the one that was used last at the end.
// What does not fit is forgotten, the oldest first; a forgotten thread begins anew.
type threads struct {
	Parents []parent `json:"p"`
}

// parent is the message that a thread hangs on, or that is updated.
type parent struct {
	Key       string `json:"k"`           // digest of the thread's key and the channel that the route asked for
	Channel   string `json:"c"`           // the ID that Slack gave
	Timestamp string `json:"t"`           // its ts, which is its id
	Source    string `json:"s,omitempty"` // digest of the source of what it shows
	Sequence  int64  `json:"q,omitempty"` // and its place among that source's events
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
