package storetest

import (
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testHostState(k *kit) {
	load := func(name, want string) {
		k.Helper()
		b, err := k.s.LoadState(k.Context(), name)
		k.check(err)
		k.equal(string(b), want)
	}
	load("alerts", "")
	k.check(k.s.SaveState(k.Context(), "alerts", []byte(`{"a":1}`)))
	k.check(k.s.SaveState(k.Context(), "other", []byte{0, 1}))
	k.check(k.s.SaveState(k.Context(), "alerts", []byte(`{"a":2}`)))
	k.crash()
	k.start()
	load("alerts", `{"a":2}`)
	load("other", "\x00\x01")
}

// testOldest follows the oldest waiting delivery of a sink through all that can keep one waiting.
func testOldest(k *kit) {
	oldest := func(except string, want map[string]time.Time) {
		k.Helper()
		got, err := k.s.OldestWaiting(k.Context(), except)
		k.check(err)
		k.equal(got, want)
	}
	oldest("", map[string]time.Time{})
	first := k.add("a/x", "b")
	second := k.add("a/x", "a/y")
	at1, at2 := first[0].ReceivedAt, second[0].ReceivedAt
	oldest("", map[string]time.Time{"a": at1, "b": at1})
	oldest("people", map[string]time.Time{})
	oldest("other", map[string]time.Time{"a": at1, "b": at1})
	k.claims("a", first[0], second[1]) // in the hands of a sink they still wait
	k.claims("b", first[1])
	oldest("", map[string]time.Time{"a": at1, "b": at1})
	k.settle(retried(first[0], time.Now().Add(time.Hour)), delivered(second[1]), delivered(first[1]))
	oldest("", map[string]time.Time{"a": at1}) // due later, with another behind it
	k.crash()
	k.start() // all is due
	k.equal(keys(k.claim("a", time.Now().Add(2*time.Hour), 10)...), keys(first[0]))
	s := dead(first[0])
	s.Hold = true
	k.settle(s)
	oldest("", map[string]time.Time{"a": at2}) // behind a dead one that holds their key

	r := k.mustAccept()
	leased := k.decide(r, "b")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	oldest("", map[string]time.Time{"a": at2, "b": r.ReceivedAt})
	k.settle(delivered(leased.Deliveries[0]))
	oldest("", map[string]time.Time{"a": at2})

	// The own one of a source is passed over, not what waits beside it.
	own := k.request()
	own.Source, own.Dedupe = "grapnel", core.NewDedupeKey("grapnel", own.Body)
	k.accept(own)
	k.route(k.decide(own, "c"))
	next := k.add("c")
	oldest("grapnel", map[string]time.Time{"a": at2, "c": next[0].ReceivedAt})
	oldest("", map[string]time.Time{"a": at2, "c": own.ReceivedAt})
}
