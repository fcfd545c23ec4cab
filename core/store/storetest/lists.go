package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testLists(k *kit) {
	var rs []*core.Request
	for i := range 10 {
		r := k.request()
		if i%2 == 1 {
			r.Source = "other"
		}
		k.accept(r)
		rs = append(rs, r)
	}
	refused := &store.Decision{Request: rs[2], Dead: "x"}
	k.route(k.decide(rs[0], "a"), k.decide(rs[1]), refused, &store.Decision{Request: rs[3]})
	two := k.decide(rs[4], "a") // one of two events has a delivery
	e := two.Events[0]
	e.Index, e.ID = 1, core.EventID(rs[4].Dedupe, 0, 1)
	two.Events = append(two.Events, e)
	k.route(two)
	list := func(f store.RequestFilter) (seqs []int64) {
		k.Helper()
		got, next, err := k.s.ListRequests(k.Context(), f)
		k.check(err)
		if next != "" {
			k.Errorf("unexpected next page %q", next)
		}
		for _, r := range got {
			seqs = append(seqs, r.Seq)
			if r.Body != nil {
				k.Error("a list holds bodies")
			}
		}
		return seqs
	}
	seqs := func(is ...int) (s []int64) {
		for _, i := range is {
			s = append(s, rs[i].Seq)
		}
		return s
	}
	k.equal(list(store.RequestFilter{}), seqs(9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
	k.equal(list(store.RequestFilter{Source: "other"}), seqs(9, 7, 5, 3, 1))
	k.equal(list(store.RequestFilter{State: core.RequestRouted}), seqs(4, 3, 1, 0))
	k.equal(list(store.RequestFilter{State: core.RequestDead}), seqs(2))
	k.equal(list(store.RequestFilter{State: core.RequestReceived, Source: "people"}), seqs(8, 6))
	k.equal(list(store.RequestFilter{Unrouted: true}), seqs(4, 1))
	k.equal(list(store.RequestFilter{Since: rs[3].ReceivedAt, Until: rs[6].ReceivedAt}), seqs(5, 4, 3))
	k.equal(list(store.RequestFilter{Since: rs[9].ReceivedAt.Add(time.Microsecond)}), []int64(nil))
	k.equal(list(store.RequestFilter{Until: rs[0].ReceivedAt}), []int64(nil))

	var all []int64
	cursor := ""
	for pages := 0; ; pages++ {
		got, next, err := k.s.ListRequests(k.Context(), store.RequestFilter{Limit: 4, Cursor: cursor})
		k.check(err)
		for _, r := range got {
			all = append(all, r.Seq)
		}
		if cursor = next; next == "" {
			k.equal(pages, 2)
			break
		}
	}
	k.equal(all, seqs(9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
	got, next, err := k.s.ListRequests(k.Context(), store.RequestFilter{Limit: 10})
	k.check(err)
	k.equal(len(got), 10)
	k.equal(next, "")
	if _, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{Cursor: "'; --"}); err == nil {
		k.Error("a foreign cursor was taken")
	}
}

func testListDeliveries(k *kit) {
	var ds []*core.Delivery
	var rs []*core.Request
	for i := range 8 {
		r := k.request()
		if i >= 4 {
			r.Source = "other"
		}
		k.accept(r)
		d := k.decide(r, "a", "b/x")
		d.Events[0].Subject = fmt.Sprintf("employee/%d", i%3)
		d.Events[0].Tenant = fmt.Sprintf("t%d", i%2)
		if i == 7 {
			d.Events[0].Type = "peopleforce.employee.deleted"
		}
		k.route(d)
		rs = append(rs, r)
		ds = append(ds, d.Deliveries...)
	}
	k.equal(keys(k.claim("a", later, 3)...), keys(ds[0], ds[2], ds[4]))
	k.settle(delivered(ds[0]), dead(ds[2]))
	list := func(f store.DeliveryFilter) []core.DeliveryKey {
		k.Helper()
		all := []core.DeliveryKey{}
		for {
			f.Limit = 3
			got, next, err := k.s.ListDeliveries(k.Context(), f)
			k.check(err)
			for _, d := range got {
				if d.Event == nil || d.Event.Data != nil {
					k.Error("a listed delivery has no event, or has data")
				}
			}
			all = append(all, keys(got...)...)
			if f.Cursor = next; next == "" {
				return all
			}
		}
	}
	pick := func(is ...int) []core.DeliveryKey {
		ks := []core.DeliveryKey{}
		for _, i := range is {
			ks = append(ks, ds[i].Key)
		}
		return ks
	}
	k.equal(list(store.DeliveryFilter{}), pick(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
	k.equal(list(store.DeliveryFilter{Sink: "a"}), pick(14, 12, 10, 8, 6, 4, 2, 0))
	k.equal(list(store.DeliveryFilter{Route: "route_1", Source: "other"}), pick(15, 13, 11, 9))
	k.equal(list(store.DeliveryFilter{Subject: "employee/1"}), pick(15, 14, 9, 8, 3, 2))
	k.equal(list(store.DeliveryFilter{Subject: "employee/1", Sink: "b", Tenant: "t1"}), pick(15, 3))
	k.equal(list(store.DeliveryFilter{Type: "peopleforce.employee.deleted"}), pick(15, 14))
	k.equal(list(store.DeliveryFilter{Tenant: "t0", Sink: "a"}), pick(12, 8, 4, 0))
	k.equal(list(store.DeliveryFilter{RequestID: rs[2].ID()}), pick(5, 4))
	k.equal(list(store.DeliveryFilter{RequestID: "req_no"}), pick())
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDelivered}), pick(0))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDead}), pick(2))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDead, Subject: "employee/1"}), pick(2))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryDead, Sink: "b"}), pick())
	k.equal(list(store.DeliveryFilter{State: core.DeliveryPending}), pick(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 1))
	k.equal(list(store.DeliveryFilter{State: core.DeliveryPending, Subject: "employee/0", Sink: "b"}), pick(13, 7, 1))
	k.equal(list(store.DeliveryFilter{Since: rs[2].ReceivedAt, Until: rs[4].ReceivedAt}), pick(7, 6, 5, 4))
	k.equal(list(store.DeliveryFilter{Since: rs[2].ReceivedAt, Subject: "employee/2"}), pick(11, 10, 5, 4))
	got, _, err := k.s.ListDeliveries(k.Context(), store.DeliveryFilter{RequestID: rs[2].ID(), Sink: "a", State: core.DeliveryPending})
	k.check(err)
	k.equal(got[0].State, core.DeliveryPending) // leased
	k.equal(got[0].Event.Subject, "employee/2")
}

func testRejections(k *kit) {
	for i := range 120 {
		r := core.Rejection{
			At: at.Add(time.Duration(i) * time.Second), Status: 401, Cause: "bad_signature", Detail: fmt.Sprint(i),
			RemoteAddr: "203.0.113.9", Method: "POST", Path: "/hooks/hr",
		}
		if i%4 == 0 {
			r.Source, r.Status, r.Cause = "hr", 413, "too_large"
		}
		k.s.RecordRejection(r)
	}
	rs, next, err := k.s.ListRejections(k.Context(), store.RejectionFilter{})
	k.check(err)
	k.equal(len(rs), 50)
	k.equal(rs[0].Detail, "119")
	rs2, _, err := k.s.ListRejections(k.Context(), store.RejectionFilter{Cursor: next})
	k.check(err)
	k.equal(rs2[0].Detail, "69")
	rs, next, err = k.s.ListRejections(k.Context(), store.RejectionFilter{Source: "hr", Cause: "too_large", Limit: 1000})
	k.check(err)
	k.equal(len(rs), 30)
	k.equal(next, "")
	got, err := k.s.GetRejection(k.Context(), rs[0].ID)
	k.check(err)
	k.equal(got, rs[0])
	want := core.Rejection{
		ID: got.ID, At: at.Add(116 * time.Second), Source: "hr", Status: 413, Cause: "too_large", Detail: "116",
		RemoteAddr: "203.0.113.9", Method: "POST", Path: "/hooks/hr",
	}
	k.equal(got, want)
	if _, err := k.s.GetRejection(k.Context(), 1<<40); !errors.Is(err, store.ErrNotFound) {
		k.Errorf("got %v", err)
	}
	// However many there are: bounded, all counted, the newest kept.
	for i := range 30_000 {
		k.s.RecordRejection(core.Rejection{At: at, Status: 400, Cause: "syntax", Detail: fmt.Sprint(i)})
		if i%200 == 0 {
			_, _, err := k.s.ListRejections(k.Context(), store.RejectionFilter{Limit: 1})
			k.check(err)
		}
	}
	n := 0
	for cursor := ""; ; {
		rs, next, err := k.s.ListRejections(k.Context(), store.RejectionFilter{Limit: 1000, Cursor: cursor})
		k.check(err)
		if cursor == "" {
			k.equal(rs[0].Detail, "29999")
		}
		n += len(rs)
		if cursor = next; next == "" {
			break
		}
	}
	if n > 10_000 || n < 200 {
		k.Errorf("%d are kept", n)
	}
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Rejections, map[string]int64{"syntax": 30_000, "too_large": 30, "bad_signature": 90})
	k.s.RecordRejection(core.Rejection{At: at, Status: 400, Cause: "syntax", Detail: "last"})
	k.stop()
	k.start()
	rs, _, err = k.s.ListRejections(k.Context(), store.RejectionFilter{Limit: 1})
	k.check(err)
	k.equal(rs[0].Detail, "last")
}

func testStats(k *kit) {
	for range 5 {
		k.add("a", "b/x")
	}
	k.add()
	k.route(&store.Decision{Request: k.mustAccept(), Dead: "x"})
	k.mustAccept()
	leased := k.decide(k.mustAccept(), "c")
	leased.Lease = []store.Lease{store.LeaseAlways}
	k.route(leased)
	claimed := k.claim("a", later, 3)
	k.settle(delivered(claimed[0]), dead(claimed[1]))
	want := store.Stats{
		Requests: map[core.RequestState]int64{core.RequestRouted: 7, core.RequestDead: 1, core.RequestReceived: 1},
		Deliveries: map[string]map[core.DeliveryState]int64{
			"a": {core.DeliveryDelivered: 1, core.DeliveryDead: 1, core.DeliveryPending: 3},
			"b": {core.DeliveryPending: 5},
			"c": {core.DeliveryPending: 1},
		},
		Unrouted:   map[string]int64{"peopleforce.employee.updated": 1},
		Held:       map[string]int64{},
		Rejections: map[string]int64{},
	}
	got, err := k.s.Stats(k.Context())
	k.check(err)
	if got.SizeBytes <= 0 || got.Accepted != 9 || got.Commits <= 0 {
		k.Errorf("stats %+v", got)
	}
	got.Commits, got.Syncs, got.Accepted, got.SizeBytes = 0, 0, 0, 0
	k.equal(got, want)
	k.stop()
	k.start()
	want.Deliveries["a"] = map[core.DeliveryState]int64{
		core.DeliveryDelivered: 1, core.DeliveryDead: 1, core.DeliveryPending: 3,
	}
	want.Deliveries["c"] = map[core.DeliveryState]int64{core.DeliveryPending: 1}
	got, err = k.s.Stats(k.Context())
	k.check(err)
	got.Commits, got.Syncs, got.Accepted, got.SizeBytes = 0, 0, 0, 0
	k.equal(got, want)
}

func testNotFound(k *kit) {
	d := k.add("a")[0]
	for _, id := range []string{"", "req_", "nonsense", core.RequestID(key("none"), 0), core.RequestID(key("1"), 1)} {
		if _, err := k.s.GetRequest(k.Context(), id); !errors.Is(err, store.ErrNotFound) {
			k.Errorf("request %q: %v", id, err)
		}
	}
	unknown := core.DeliveryID(d.Event.ID, "no", "a", 0)
	for _, id := range []string{"", "dlv_", d.ID + "0", d.ID[:len(d.ID)-1] + "x", unknown} {
		if _, err := k.s.GetDelivery(k.Context(), id); !errors.Is(err, store.ErrNotFound) {
			k.Errorf("delivery %q: %v", id, err)
		}
	}
}
