package storetest

import (
	"slices"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testClaimRequests(k *kit) {
	var rs []*core.Request
	for i := range 7 {
		r := k.request()
		if i == 3 {
			r.Source = "other"
		}
		k.accept(r)
		rs = append(rs, r)
	}
	k.route(k.decide(rs[0]), &store.Decision{Request: rs[5], Dead: "x"})
	claim := func(source string, after int64, limit int) (seqs []int64) {
		k.Helper()
		got, err := k.s.ClaimRequests(k.Context(), source, after, limit)
		k.check(err)
		for _, r := range got {
			seqs = append(seqs, r.Seq)
			if i := slices.IndexFunc(rs, func(w *core.Request) bool { return w.Seq == r.Seq }); i >= 0 {
				k.equal(r, rs[i])
			}
		}
		return seqs
	}
	k.equal(claim("people", 0, 2), []int64{rs[1].Seq, rs[2].Seq})
	k.equal(claim("people", rs[2].Seq, 10), []int64{rs[4].Seq, rs[6].Seq})
	k.equal(claim("other", 0, 10), []int64{rs[3].Seq})
	k.equal(claim("nobody", 0, 10), []int64(nil))
	k.equal(claim("people", rs[6].Seq, 10), []int64(nil))
}

func testRoute(k *kit) {
	r := k.mustAccept()
	d := k.decide(r, "a/4101", "b")
	d.Notes = []string{"a note"}
	d.Deliveries[1].State, d.Deliveries[1].Reason = core.DeliveryDead, "null in a template"
	d.Deliveries[1].RouteRange, d.Deliveries[1].AttributePath = "config.hcl:1,2", []string{"text"}
	k.route(d)
	got := k.get(r.ID())
	k.equal(got.Request.State, core.RequestRouted)
	k.equal(got.Request.Notes, []string{"a note"})
	k.equal(got.Events, d.Events)
	k.equal(len(got.Deliveries), 2)
	first, second := got.Deliveries[0], got.Deliveries[1]
	want := *d.Deliveries[0]
	want.Event = first.Event
	k.equal(first, &want)
	k.equal(first.Event.ID, d.Events[0].ID)
	k.equal(second.ID, d.Deliveries[1].ID)
	k.equal(second.State, core.DeliveryDead)
	k.equal(second.Reason, "null in a template")
	k.equal(second.RouteRange, "config.hcl:1,2")
	k.equal(second.AttributePath, []string{"text"})
	if second.SettledAt.IsZero() || !second.Due.IsZero() {
		k.Errorf("dead at routing: %+v", second)
	}
	ds := k.claims("a", d.Deliveries[0])
	want = *d.Deliveries[0]
	want.StateRead = true
	k.equal(ds[0], &want)
	k.claims("b")
}

func testRouteStale(k *kit) {
	r, other := k.mustAccept(), k.mustAccept()
	k.route(k.decide(r, "a"))
	stale, fresh := k.decide(r, "a"), k.decide(other, "a")
	stale.Lease = []store.Lease{store.LeaseAlways}
	k.route(stale, fresh)
	if !stale.Stale || fresh.Stale {
		k.Errorf("stale: %t and %t", stale.Stale, fresh.Stale)
	}
	k.claims("a", stale.Deliveries[0], fresh.Deliveries[0]) // and the lease was not taken
	deadOne := &store.Decision{Request: r, Dead: "late"}
	retry := &store.Decision{Request: r, Retry: true, Crashes: 1}
	k.route(deadOne, retry)
	if !deadOne.Stale || !retry.Stale {
		k.Error("a decision about a routed request was not stale")
	}
	k.equal(k.get(r.ID()).Request.State, core.RequestRouted)
}

func testRouteRetry(k *kit) {
	r := k.mustAccept()
	k.route(&store.Decision{Request: r, Retry: true, Crashes: 2, Notes: []string{"it crashed"}})
	got := k.get(r.ID()).Request
	k.equal(got.State, core.RequestReceived)
	k.equal(got.Crashes, 2)
	k.equal(got.Notes, []string{"it crashed"})
}

func testRouteFails(k *kit) {
	good, bad := k.mustAccept(), k.mustAccept()
	d := k.decide(bad, "a", "a")
	d.Deliveries[1].Key = d.Deliveries[0].Key
	d.Lease = []store.Lease{store.LeaseAlways, store.LeaseAlways}
	g := k.decide(good, "a")
	g.Lease = []store.Lease{store.LeaseAlways}
	if err := k.s.Route(k.Context(), []*store.Decision{g, d}); err == nil {
		k.Fatal("two deliveries with one key were stored")
	}
	k.equal(k.get(good.ID()).Request.State, core.RequestReceived)
	k.equal(k.get(bad.ID()).Request.State, core.RequestReceived)
	g.Lease = nil
	k.route(g)
	k.claims("a", g.Deliveries...)
	k.equal(k.backlog("a", later).Left, false)
}
