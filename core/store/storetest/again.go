package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// testSettleRenewed settles deliveries that were rendered anew before they were sent.
func testSettleRenewed(k *kit) {
	one, two := k.add("a")[0], k.add("a")[0]
	k.claims("a", one, two)
	s, again := delivered(one), retried(two, later.Add(time.Minute))
	s.Renewed, s.Message, s.ConfigDigest, s.SchemaDigest = true, []byte(`{"text":"new"}`), "c1", "s1"
	again.Renewed, again.Message, again.ConfigDigest, again.SchemaDigest = true, []byte(`{"text":"newer"}`), "c2", "s2"
	k.settle(s, again)
	for d, want := range map[*core.Delivery][]string{
		one: {`{"text":"new"}`, "c1", "s1", "delivered"}, two: {`{"text":"newer"}`, "c2", "s2", "pending"},
	} {
		got := k.delivery(d.ID).Delivery
		k.equal([]string{string(got.Message), got.ConfigDigest, got.SchemaDigest, string(got.State)}, want)
	}

	// A settlement that comes late changes no message either.
	late := dead(one)
	late.Renewed, late.Message = true, []byte(`{"text":"late"}`)
	k.settle(late)
	k.equal(string(k.delivery(one.ID).Delivery.Message), `{"text":"new"}`)
}

// retry retries dead deliveries with the messages that they have, and returns those that it changed.
func (k *kit) retry(ids ...string) []*core.Delivery {
	k.Helper()
	var changed []*core.Delivery
	for _, f := range k.find(ids...) {
		if r := k.redo(f.Delivery, false, nil); r.Done {
			changed = append(changed, k.delivery(f.Delivery.ID).Delivery)
		}
	}
	return changed
}

func (k *kit) find(ids ...string) []store.Selected {
	k.Helper()
	found, err := k.s.FindDeliveries(k.Context(), ids)
	k.check(err)
	return found
}

// redo retries or replays a delivery as it was read. change makes of it what it is to be.
func (k *kit) redo(d *core.Delivery, replay bool, change func(as *core.Delivery)) *store.Redo {
	k.Helper()
	as := *d
	as.State = core.DeliveryPending
	if change != nil {
		change(&as)
	}
	r := &store.Redo{Of: d, As: &as, Replay: replay}
	k.check(k.s.Redo(k.Context(), []*store.Redo{r}))
	return r
}

// selects checks what a selection reads, in pages of each size, and what it counts.
func (k *kit) selects(sel store.Selection, want ...*core.Delivery) []store.Selected {
	k.Helper()
	var all []store.Selected
	for _, limit := range []int{1, 3, 1000} {
		all = nil
		for after := core.DeliveryKey(0); ; {
			page, next, err := k.s.SelectDeliveries(k.Context(), sel, after, limit)
			k.check(err)
			if len(page) > limit {
				k.Fatalf("%d in a page of %d", len(page), limit)
			}
			all = append(all, page...)
			if after = next; next == 0 {
				break
			}
		}
		got := []core.DeliveryKey{}
		for _, s := range all {
			got = append(got, s.Delivery.Key)
			k.equal(s.Request.Seq, s.Delivery.Key.RequestSeq())
		}
		k.equal(got, keys(want...))
	}
	n := 0
	for after := core.DeliveryKey(0); ; {
		some, next, err := k.s.CountDeliveries(k.Context(), sel, after)
		k.check(err)
		n += some
		if after = next; next == 0 {
			break
		}
	}
	k.equal(n, len(want))
	return all
}

// end claims deliveries and settles them.
func (k *kit) end(settle func(*core.Delivery) store.Settlement, ds ...*core.Delivery) {
	k.Helper()
	for _, d := range ds {
		for _, c := range k.claim(d.Sink, time.Now().Add(time.Hour), 1000) {
			if c.Key != d.Key {
				k.check(k.s.Release(k.Context(), []core.DeliveryKey{c.Key}))
			}
		}
		k.settle(settle(d))
	}
}

func skipped(d *core.Delivery) store.Settlement {
	return store.Settlement{
		Key: d.Key, State: core.DeliverySkipped, Charge: true, Reason: "stale",
		Attempt: &core.Attempt{Number: 1, At: later, Outcome: sdk.Skipped, Reason: "stale"},
	}
}

func testSelect(k *kit) {
	// Nine requests with a delivery to each of two sinks; every third is about another type, subject, tenant and source.
	var a, b []*core.Delivery
	for i := range 9 {
		r := k.request()
		if i%3 == 1 {
			r.Source = "hr"
		}
		k.accept(r)
		d := k.decide(r, "a", "b")
		if i%3 == 2 {
			e := &d.Events[0]
			e.Type, e.Subject, e.Tenant = "peopleforce.leave.created", "employee/7", "other"
		}
		k.route(d)
		a, b = append(a, d.Deliveries[0]), append(b, d.Deliveries[1])
	}
	k.end(dead, a...)
	k.end(delivered, b[:6]...)
	k.end(skipped, b[6])

	dead := func(f store.DeliveryFilter) store.Selection { return store.Selection{DeliveryFilter: f} }
	k.selects(dead(store.DeliveryFilter{}), a...)
	k.selects(dead(store.DeliveryFilter{State: core.DeliveryDead}), a...)
	k.selects(dead(store.DeliveryFilter{State: core.DeliveryDelivered})) // is nothing to retry
	k.selects(dead(store.DeliveryFilter{Sink: "b"}))
	k.selects(dead(store.DeliveryFilter{Sink: "a"}), a...)
	k.selects(dead(store.DeliveryFilter{Route: "route_0"}), a...)
	k.selects(dead(store.DeliveryFilter{Route: "route_1"}))
	k.selects(dead(store.DeliveryFilter{Source: "hr"}), a[1], a[4], a[7])
	k.selects(dead(store.DeliveryFilter{Type: "peopleforce.leave.created"}), a[2], a[5], a[8])
	k.selects(dead(store.DeliveryFilter{Type: "*.leave.*"}), a[2], a[5], a[8])
	k.selects(dead(store.DeliveryFilter{Type: "peopleforce.*"}), a...)
	k.selects(dead(store.DeliveryFilter{Type: "people*.[u]pdated"}))
	k.selects(dead(store.DeliveryFilter{Type: "PeopleForce.*"}))
	k.selects(dead(store.DeliveryFilter{Type: "peopleforce*.employe?.updated"}))
	k.selects(dead(store.DeliveryFilter{Subject: "employee/7"}), a[2], a[5], a[8])
	k.selects(dead(store.DeliveryFilter{Tenant: "other", Since: a[3].ReceivedAt}), a[5], a[8])
	k.selects(dead(store.DeliveryFilter{Since: a[2].ReceivedAt, Until: a[5].ReceivedAt}), a[2], a[3], a[4])
	k.selects(dead(store.DeliveryFilter{Since: a[8].ReceivedAt.Add(time.Second)}))
	r := k.find(a[4].ID)[0].Request
	k.selects(dead(store.DeliveryFilter{RequestID: r.ID()}), a[4])
	k.selects(dead(store.DeliveryFilter{RequestID: core.RequestID(key("unknown"), 0)}))

	again := func(f store.DeliveryFilter) store.Selection { return store.Selection{DeliveryFilter: f, Replay: true} }
	k.selects(again(store.DeliveryFilter{}), a...)
	k.selects(again(store.DeliveryFilter{State: core.DeliveryDelivered}), b[:6]...)
	k.selects(again(store.DeliveryFilter{State: core.DeliveryDelivered, Subject: "employee/7"}), b[2], b[5])
	k.selects(again(store.DeliveryFilter{State: core.DeliveryDelivered, Type: "*.leave.*", Tenant: "other"}), b[2], b[5])
	k.selects(again(store.DeliveryFilter{State: core.DeliverySkipped}), b[6])
	k.selects(again(store.DeliveryFilter{State: core.DeliveryPending}))

	// What is read has all that rendering needs.
	got := k.selects(dead(store.DeliveryFilter{Subject: "employee/7", Until: a[3].ReceivedAt}), a[2])[0]
	k.equal(string(got.Delivery.Event.Data), fmt.Sprintf(`{"id":%d}`, 4103))
	k.equal(string(got.Delivery.Event.Changes), `{"a":{"new":1}}`)
	k.equal(got.Request.Headers, k.request().Headers)
	k.equal(got.Request.ReceivedAt, a[2].ReceivedAt)
	alone, err := k.s.RequestOf(k.Context(), a[2].Key)
	k.check(err)
	k.equal(alone, got.Request)
	if _, err := k.s.RequestOf(k.Context(), core.NewDeliveryKey(1000, 0, 0)); !errors.Is(err, store.ErrNotFound) {
		k.Errorf("the request of no delivery: %v", err)
	}
	if f := k.find("dlv_x", b[8].ID, core.DeliveryID(core.EventID(key("none"), 0, 0), "r", "s", 0), a[0].ID); len(f) != 2 ||
		f[0].Delivery.ID != b[8].ID || f[0].Delivery.State != core.DeliveryPending || f[1].Delivery.ID != a[0].ID {
		k.Errorf("found %v", f)
	}
}

// testSelectByMark shows that a retry or replay does not come upon what happens while it runs, least of all on its own.
func testSelectByMark(k *kit) {
	before := []*core.Delivery{k.add("a")[0], k.add("a")[0]}
	k.end(dead, before...)
	mark, err := k.s.Mark(k.Context())
	k.check(err)
	time.Sleep(time.Millisecond) // times are in microseconds
	after := k.add("a")[0]
	k.end(dead, after)
	sel := store.Selection{Replay: true, By: mark}
	k.selects(sel, before...)
	first := k.redo(k.find(before[0].ID)[0].Delivery, true, nil)
	k.selects(sel, before[1])
	k.end(dead, k.delivery(first.ReplayID).Delivery) // the replay fails as well
	k.selects(sel, before[1])
	k.redo(k.find(before[1].ID)[0].Delivery, false, nil)
	k.selects(sel)
	k.end(dead, before[1]) // dead again, and no longer one of those that were
	k.selects(sel)
	k.selects(store.Selection{}, k.delivery(first.ReplayID).Delivery, before[1], after)

	// What a clock settled that was ahead is not of what happens meanwhile.
	ahead := k.decide(k.mustAccept(), "a")
	ahead.Deliveries[0].State, ahead.Deliveries[0].SettledAt = core.DeliveryDead, time.Now().Add(time.Hour)
	k.route(ahead)
	k.selects(sel, ahead.Deliveries...)
}

func testRedoRetry(k *kit) {
	d := k.decide(k.mustAccept(), "a/x", "a/y")
	bare, plain := d.Deliveries[0], d.Deliveries[1]
	bare.State, bare.Message, bare.OrderKey, bare.Reason, bare.RouteRange = core.DeliveryDead, nil, "", "wrong", "config.hcl:3,4"
	k.route(d)
	k.end(dead, plain)

	// One without a message can be retried only with one, and gets its order key with it.
	read := k.find(bare.ID)[0].Delivery
	if r := k.redo(read, false, nil); r.Done || r.Refused == "" {
		k.Errorf("retried without a message: %+v", r)
	}
	k.equal(k.delivery(bare.ID).Delivery.State, core.DeliveryDead)
	mended := func(as *core.Delivery) {
		as.Message, as.ConfigDigest, as.SchemaDigest, as.OrderKey = []byte(`{"text":"mended"}`), "c1", "s1", "z"
	}
	if r := k.redo(read, false, mended); !r.Done {
		k.Errorf("not retried: %+v", r)
	}
	got := k.delivery(bare.ID).Delivery
	k.equal([]string{string(got.Message), got.ConfigDigest, got.SchemaDigest, got.OrderKey, got.Reason, got.RouteRange},
		[]string{`{"text":"mended"}`, "c1", "s1", "z", "", ""})
	k.equal(got.State, core.DeliveryPending)

	// One with a message keeps its order key, and its charges are forgotten.
	read = k.find(plain.ID)[0].Delivery
	asIs := func(as *core.Delivery) { as.AsIs, as.OrderKey = true, "other" }
	if r := k.redo(read, false, asIs); !r.Done {
		k.Errorf("not retried: %+v", r)
	}
	got = k.delivery(plain.ID).Delivery
	k.equal([]any{string(got.Message), got.OrderKey, got.AsIs, got.Attempts}, []any{`{"text":"é"}`, "y", true, 0})
	if r := k.redo(read, false, asIs); r.Done || r.Refused != "it has changed meanwhile" {
		k.Errorf("retried twice: %+v", r)
	}
	k.equal(keys(k.claim("a", time.Now().Add(time.Minute), 10)...), keys(bare, plain))
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Deliveries["a"], map[core.DeliveryState]int64{core.DeliveryPending: 2})

	// What is not dead is not retried.
	k.settle(delivered(plain))
	if r := k.redo(k.find(plain.ID)[0].Delivery, false, nil); r.Done || r.Refused != "it is not dead" {
		k.Errorf("a delivered one was retried: %+v", r)
	}
}

func testRedoNotRendered(k *kit) {
	one, two, done := k.add("a")[0], k.add("a")[0], k.add("a")[0]
	k.end(dead, one, two)
	k.end(delivered, done)
	lost := func(as *core.Delivery) {
		as.State, as.Reason, as.RouteRange = core.DeliveryDead, "no such route", "config.hcl:9,1"
	}
	unwanted := func(as *core.Delivery) { as.State, as.Reason = core.DeliverySkipped, "not any more" }
	for _, replay := range []bool{false, true} {
		before := k.delivery(one.ID).Delivery
		if r := k.redo(before, replay, lost); !r.Done || r.ReplayID != "" {
			k.Errorf("%+v", r)
		}
		got := k.delivery(one.ID).Delivery
		k.equal([]any{got.State, got.Reason, got.RouteRange, got.AttributePath == nil, string(got.Message)},
			[]any{core.DeliveryDead, "no such route", "config.hcl:9,1", true, string(one.Message)})
		k.equal(got.SettledAt, before.SettledAt)
	}
	if r := k.redo(k.delivery(two.ID).Delivery, true, unwanted); !r.Done || r.ReplayID != "" {
		k.Errorf("%+v", r)
	}
	got := k.delivery(two.ID).Delivery
	k.equal([]any{got.State, got.Reason}, []any{core.DeliverySkipped, "not any more; it was dead: no such field"})
	for _, change := range []func(*core.Delivery){lost, unwanted} {
		if r := k.redo(k.delivery(done.ID).Delivery, true, change); r.Done || r.Refused == "" {
			k.Errorf("%+v", r)
		}
	}
	k.equal(k.delivery(done.ID).Delivery.State, core.DeliveryDelivered)
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Deliveries["a"],
		map[core.DeliveryState]int64{core.DeliveryDead: 1, core.DeliverySkipped: 1, core.DeliveryDelivered: 1})
}

func testReplay(k *kit) {
	d := k.decide(k.mustAccept(), "a", "b", "a")
	bad, good := d.Deliveries[0], d.Deliveries[1]
	k.route(d)
	k.end(dead, bad)
	k.end(delivered, good)

	renewed := func(as *core.Delivery) {
		as.Message, as.ConfigDigest, as.SchemaDigest, as.Force = []byte(`{"text":"new"}`), "c1", "s1", true
	}
	r := k.redo(k.find(bad.ID)[0].Delivery, true, renewed)
	k.equal([]any{r.Done, r.Refused, r.ReplayID}, []any{true, "", core.DeliveryID(bad.Event.ID, bad.Route, "a", 1)})
	old, again := k.delivery(bad.ID).Delivery, k.delivery(r.ReplayID).Delivery
	k.equal([]any{old.State, old.ReplayedBy, old.Reason, string(old.Message), old.Attempts, old.RouteRange}, []any{
		core.DeliverySkipped, r.ReplayID, "replayed as " + r.ReplayID + "; it was dead: no such field", `{"text":"é"}`, 1,
		"config.hcl:3,4",
	})
	want := *bad
	want.ID, want.Key, want.Replay, want.ReplayOf, want.Force = r.ReplayID, bad.Key+3, 1, bad.ID, true
	want.Message, want.ConfigDigest, want.SchemaDigest = []byte(`{"text":"new"}`), "c1", "s1"
	want.Due, want.StateRead = again.Due, true
	k.equal(again, &want)
	k.equal(len(k.get(d.Request.ID()).Deliveries), 4)

	// It is not replayed again, in whose name ever.
	for _, as := range []*core.Delivery{bad, old} {
		if r := k.redo(as, true, nil); r.Done {
			k.Errorf("replayed twice: %+v", r)
		}
	}

	// What was delivered stays so; a replay can be replayed as well, and counts on.
	r = k.redo(k.find(good.ID)[0].Delivery, true, func(as *core.Delivery) { as.AsIs = true })
	k.equal(r.ReplayID, core.DeliveryID(good.Event.ID, good.Route, "b", 1))
	got := k.delivery(good.ID).Delivery
	k.equal([]any{got.State, got.ReplayedBy, got.Reason}, []any{core.DeliveryDelivered, r.ReplayID, ""})
	again = k.delivery(r.ReplayID).Delivery
	k.equal([]any{again.AsIs, again.Force, string(again.Message), again.ConfigDigest}, []any{true, false, `{"text":"é"}`, "c0"})
	k.end(delivered, again)
	if r := k.redo(got, true, nil); r.Done {
		k.Errorf("a delivered one was replayed twice: %+v", r)
	}
	r = k.redo(k.find(r.ReplayID)[0].Delivery, true, nil)
	k.equal(r.ReplayID, core.DeliveryID(good.Event.ID, good.Route, "b", 2))
	k.equal(k.delivery(r.ReplayID).Delivery.ReplayOf, again.ID)

	// All of it is there after a restart, and due.
	k.stop()
	k.start()
	again = k.delivery(again.ID).Delivery
	k.equal([]any{again.State, again.ReplayOf, again.ReplayedBy}, []any{core.DeliveryDelivered, good.ID, r.ReplayID})
	now := time.Now().Add(time.Minute)
	k.equal(keys(k.claim("b", now, 10)...), keys(k.delivery(r.ReplayID).Delivery))
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Deliveries, map[string]map[core.DeliveryState]int64{
		"a": {core.DeliverySkipped: 1, core.DeliveryPending: 2}, "b": {core.DeliveryDelivered: 2, core.DeliveryPending: 1},
	})
}

// testReplayOrder has replays take the place of their event in the order of their key: before what waits and is later.
func testReplayOrder(k *kit) {
	one, two, three := k.add("a/x")[0], k.add("a/x")[0], k.add("a/x")[0]
	k.end(dead, one)
	k.end(dead, two)
	second := k.redo(k.find(two.ID)[0].Delivery, true, nil)
	first := k.redo(k.find(one.ID)[0].Delivery, true, nil)
	now := time.Now().Add(time.Minute)
	for _, want := range []*core.Delivery{
		k.delivery(first.ReplayID).Delivery, k.delivery(second.ReplayID).Delivery, three,
	} {
		ds := k.claim("a", now, 10)
		k.equal(keys(ds...), keys(want))
		k.settle(delivered(ds[0]))
	}
}

// testReplayRoom fills an event's keys.
func testReplayRoom(k *kit) {
	d := k.decide(k.mustAccept(), "a")
	one := d.Deliveries[0]
	one.Key = core.NewDeliveryKey(d.Request.Seq, 0, core.MaxDeliveries-2)
	k.route(d)
	k.end(dead, one)
	r := k.redo(k.find(one.ID)[0].Delivery, true, nil)
	k.equal(r.Done, true)
	k.end(dead, k.delivery(r.ReplayID).Delivery)
	last := k.find(r.ReplayID)[0].Delivery
	if r = k.redo(last, true, nil); r.Done || r.Refused == "" {
		k.Errorf("an event has too many deliveries: %+v", r)
	}
	k.equal(k.delivery(last.ID).Delivery, last)
	if r = k.redo(last, false, nil); !r.Done {
		k.Errorf("not retried either: %+v", r)
	}
}

// testReplayHeld passes an order key that a dead one holds on to its replay, and lets it go when there is none.
func testReplayHeld(k *kit) {
	now := time.Now().Add(time.Minute)
	holding := func(d *core.Delivery) store.Settlement {
		s := dead(d)
		s.Hold = true
		return s
	}
	for _, replay := range []bool{true, false} {
		one, two := k.add("a/x")[0], k.add("a/x")[0]
		k.end(holding, one)
		k.equal(len(k.claim("a", now, 10)), 0)
		r := k.redo(k.find(one.ID)[0].Delivery, replay, nil)
		ds := k.claim("a", now, 10)
		if len(ds) != 1 || replay && ds[0].ID != r.ReplayID || !replay && ds[0].ID != one.ID {
			k.Fatalf("replay %t: claimed %v", replay, ds)
		}
		k.equal(len(k.claim("a", now, 10)), 0)
		k.settle(holding(ds[0])) // and again it holds
		k.equal(len(k.claim("a", now, 10)), 0)
		r = k.redo(k.find(ds[0].ID)[0].Delivery, replay, func(as *core.Delivery) {
			as.State, as.Reason = core.DeliverySkipped, "not any more"
		})
		k.equal(r.Done, true)
		k.equal(keys(k.claim("a", now, 10)...), keys(two))
		k.settle(delivered(two))
	}
}

func testSelectRequests(k *kit) {
	var dead []*core.Request
	for i := range 6 {
		r := k.request()
		if i%2 == 1 {
			r.Source = "hr"
		}
		k.accept(r)
		if i == 4 {
			k.route(k.decide(r, "a"))
			continue
		}
		k.route(&store.Decision{Request: r, Dead: "never"})
		dead = append(dead, r)
	}
	k.mustAccept()
	for _, c := range []struct {
		f    store.RequestFilter
		want []*core.Request
	}{
		{store.RequestFilter{}, dead},
		{store.RequestFilter{State: core.RequestDead, Source: "hr"}, []*core.Request{dead[1], dead[3], dead[4]}},
		{store.RequestFilter{Since: dead[1].ReceivedAt, Until: dead[3].ReceivedAt}, dead[1:3]},
		{store.RequestFilter{State: core.RequestRouted}, nil},
		{store.RequestFilter{Source: "nobody"}, nil},
	} {
		for _, limit := range []int{1, 2, 100} {
			var got, want []string
			for after := int64(0); ; {
				page, next, err := k.s.SelectRequests(k.Context(), c.f, after, limit)
				k.check(err)
				if len(page) > limit {
					k.Fatalf("%d in a page of %d", len(page), limit)
				}
				for _, r := range page {
					got = append(got, r.ID()+string(r.State)+r.Reason)
				}
				if after = next; next == 0 {
					break
				}
			}
			for _, r := range c.want {
				want = append(want, r.ID()+"deadnever")
			}
			k.equal(got, want)
		}
	}
}
