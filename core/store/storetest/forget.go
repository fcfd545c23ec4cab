package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// purgeAll calls Purge once, and returns how many requests it deleted.
func (k *kit) purgeAll(r store.Retention) int {
	k.Helper()
	n, err := k.s.Purge(k.Context(), r)
	k.check(err)
	return n
}

// has tells which of some requests are still there.
func (k *kit) has(rs ...*core.Request) []bool {
	k.Helper()
	there := make([]bool, len(rs))
	for i, r := range rs {
		_, err := k.s.GetRequest(k.Context(), r.ID())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			k.Fatal(err)
		}
		there[i] = err == nil
	}
	return there
}

// Each source has its own retention, or the one of all.
func testPurgeSources(k *kit) {
	from := func(source string) *core.Request {
		r := k.request()
		r.Source = source
		k.equal(k.accept(r), store.Accepted)
		return r
	}
	var hr, people, gone []*core.Request
	for range 20 {
		hr, people, gone = append(hr, from("hr")), append(people, from("people")), append(gone, from("gone"))
	}
	from("hr") // the newest stays
	route := func(rs ...*core.Request) {
		for _, r := range rs {
			k.route(k.decide(r))
		}
	}
	route(hr...)
	route(people[1:]...)
	route(gone...)
	time0 := func(rs []*core.Request, i int) time.Time { return rs[i].ReceivedAt }
	of := func(before time.Time) map[string]time.Time {
		return map[string]time.Time{"hr": before, "never_used": later}
	}

	k.equal(k.purgeAll(store.Retention{BeforeOf: of(time0(hr, 10))}), 10)
	k.equal(k.has(hr[9], hr[10], people[1], gone[0]), []bool{false, true, true, true})
	k.equal(k.purgeAll(store.Retention{Before: time0(people, 5), BeforeOf: of(time0(hr, 15))}), 4+5+5)
	k.equal(k.has(hr[14], hr[15], people[0], people[4], people[5], gone[4], gone[5]),
		[]bool{false, true, true, false, true, false, true})

	// What was not settled when its time had come goes later; what is kept longer from now on stays.
	route(people[0])
	k.equal(k.purgeAll(store.Retention{Before: time0(people, 2), BeforeOf: of(time0(hr, 16))}), 2)
	k.equal(k.has(people[0], hr[15], hr[16], people[5]), []bool{false, false, true, true})

	// A source that had a retention of its own falls back to the one of all.
	k.equal(k.purgeAll(store.Retention{Before: later}), 4+15+15)
	k.equal(k.purgeAll(store.Retention{Before: later}), 0)
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Requests, map[core.RequestState]int64{core.RequestReceived: 1})
}

// A request with many events goes whole, and what it counted for is counted no longer.
func testPurgeLarge(k *kit) {
	r := k.mustAccept()
	d := k.decide(r)
	one := d.Events[0]
	d.Events = nil
	const events = 50
	for i := range events {
		e := one
		e.Index, e.ID = i, core.EventID(r.Dedupe, r.Repeat, i)
		e.Type = fmt.Sprintf("t.%d", i%3)
		d.Events = append(d.Events, e)
		for n := range i % 4 {
			d.Deliveries = append(d.Deliveries, &core.Delivery{
				Key: core.NewDeliveryKey(r.Seq, i, n), Route: "r", Sink: fmt.Sprintf("s%d", n), Message: []byte(`{}`),
				State: core.DeliveryDead, Reason: "x", Event: &e,
			})
		}
	}
	k.route(d)
	waiting := k.add("s0")[0]
	k.mustAccept()
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Unrouted, map[string]int64{"t.0": 5, "t.1": 4, "t.2": 4})
	k.equal(k.purgeAll(store.Retention{Before: later}), 1)
	k.equal(k.has(r), []bool{false})
	st, err = k.s.Stats(k.Context())
	k.check(err)
	k.equal(len(st.Unrouted), 0)
	k.equal(st.Deliveries, map[string]map[core.DeliveryState]int64{"s0": {core.DeliveryPending: 1}})
	k.claims("s0", waiting)
}

// Keyed state goes when nobody used it for long and nothing of its key waits.
func testPurgeStates(k *kit) {
	settle := func(order string) {
		d := k.add("a/" + order)[0]
		k.claims("a", d)
		s := delivered(d)
		s.StateSet, s.KeyState = true, []byte("state of "+order)
		k.settle(s)
	}
	settle("one")
	settle("two")
	k.add("a/two")
	states := func() []string {
		var out []string
		for _, order := range []string{"one", "two"} {
			state, err := k.s.KeyState(k.Context(), "a", order)
			k.check(err)
			out = append(out, string(state))
		}
		return out
	}
	k.purgeAll(store.Retention{})
	k.purgeAll(store.Retention{StateBefore: time.Now().Add(-time.Hour)})
	k.equal(states(), []string{"state of one", "state of two"})
	k.purgeAll(store.Retention{StateBefore: time.Now().Add(time.Hour)})
	k.equal(states(), []string{"", "state of two"})
}

func (k *kit) purge(before time.Time) int {
	k.Helper()
	n, err := k.s.Purge(k.Context(), store.Retention{Before: before})
	k.check(err)
	return n
}

func testPurge(k *kit) {
	k.stop()
	k.o.DedupeWindow = time.Minute // long over for all of these
	k.start()
	var settled, waiting []*core.Delivery
	for range 8 {
		settled = append(settled, k.add("a", "a2")...)
	}
	for _, d := range settled {
		k.claim(d.Sink, later, 10)
	}
	for i, d := range settled {
		s := delivered(d)
		if i%3 == 0 {
			s = dead(d)
		}
		k.settle(s)
	}
	waiting = k.add("b")
	unrouted := k.decide(k.mustAccept())
	k.route(unrouted)
	k.route(&store.Decision{Request: k.mustAccept(), Dead: "x"})
	received := k.mustAccept()
	leased := k.decide(k.mustAccept(), "c")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	young := k.add()
	_ = young
	last := k.mustAccept() // keeps sequences growing
	limit := at.Add(time.Duration(k.n-1) * time.Second)
	k.equal(k.purge(limit), 10)
	k.equal(k.purge(limit), 0)
	rs, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{})
	k.check(err)
	k.equal(len(rs), 5)
	k.delivery(waiting[0].ID)
	k.get(received.ID())
	if _, err := k.s.GetDelivery(k.Context(), settled[0].ID); !errors.Is(err, store.ErrNotFound) {
		k.Errorf("a purged delivery: %v", err)
	}
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Requests, map[core.RequestState]int64{core.RequestReceived: 2, core.RequestRouted: 3})
	k.equal(st.Deliveries, map[string]map[core.DeliveryState]int64{
		"b": {core.DeliveryPending: 1}, "c": {core.DeliveryPending: 1},
	})
	k.equal(st.Unrouted, map[string]int64{"peopleforce.employee.updated": 1})
	// Everything settles and goes, but sequences still grow.
	k.claims("b", waiting...)
	k.settle(delivered(waiting[0]), delivered(leased.Deliveries[0]))
	k.route(k.decide(received), k.decide(last))
	k.purge(later)
	k.stop()
	k.start()
	if r := k.mustAccept(); r.Seq <= last.Seq {
		k.Errorf("seq %d came again after %d", r.Seq, last.Seq)
	}
}

// Retention may be shorter than the dedupe window: the request goes, what it was the same as stays known.
func testPurgeMemory(k *kit) {
	k.stop()
	k.o.DedupeWindow = 24 * time.Hour
	k.start()
	now := time.Now().UTC().Truncate(time.Microsecond)
	fresh := func(age time.Duration) *core.Request {
		r := k.request()
		r.ReceivedAt = now.Add(-age)
		k.equal(k.accept(r), store.Accepted)
		return r
	}
	gone, known, deadOne := fresh(30*time.Hour), fresh(20*time.Hour), fresh(19*time.Hour)
	k.route(k.decide(gone), k.decide(known), &store.Decision{Request: deadOne, Dead: "x"})
	fresh(0)
	k.equal(k.purge(now.Add(-time.Hour)), 3)
	for _, r := range []*core.Request{gone, known, deadOne} {
		if _, err := k.s.GetRequest(k.Context(), r.ID()); !errors.Is(err, store.ErrNotFound) {
			k.Errorf("a purged request: %v", err)
		}
	}
	rs, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{})
	k.check(err)
	k.equal(len(rs), 1)
	again := func(r *core.Request) (*core.Request, store.Acceptance) {
		c := *r
		c.ReceivedAt = now
		return &c, k.accept(&c)
	}
	_, a := again(known)
	k.equal(a, store.Duplicate)
	r, a := again(deadOne) // there is nothing left to open again
	k.equal(a, store.Accepted)
	k.equal(r.Repeat, 1)
	k.equal(k.get(r.ID()).Request.Body, deadOne.Body)
	r, a = again(gone)
	k.equal(a, store.Accepted)
	k.equal(r.Repeat, 0)
	got, err := k.s.RetryRequests(k.Context(), []string{deadOne.ID()})
	k.check(err)
	k.equal(len(got), 0)
}
