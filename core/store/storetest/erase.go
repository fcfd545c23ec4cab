package storetest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// about routes a new request with one event about a subject, and one delivery for each of the sinks, "sink" or
// "sink/order key".
func (k *kit) about(subject string, sinks ...string) *store.Decision {
	k.Helper()
	d := k.decide(k.mustAccept(), sinks...)
	d.Events[0].Subject, d.Events[0].PartitionKey = subject, subject
	k.route(d)
	return d
}

// erase erases, and checks that a preview had said what it would take.
func (k *kit) erase(e store.Erasure) store.Receipt {
	k.Helper()
	p, err := k.s.PreviewErase(k.Context(), e)
	k.check(err)
	r, err := k.s.Erase(k.Context(), e, nil)
	k.check(err)
	k.equal(r.Removed, p.Removed)
	sent := slices.Clone(p.Sent)
	for i := range sent {
		sent[i].Reference = ""
	}
	bySink := cmpopts.SortSlices(func(a, b store.SentDelivery) bool { return a.ID < b.ID })
	if d := cmp.Diff(sent, r.Sent, bySink, cmpopts.EquateEmpty()); d != "" {
		k.Errorf("sent (-preview +receipt):\n%s", d)
	}
	k.equal(r.Unread, p.Unread)
	if r.DoneAt.IsZero() || r.BegunAt.IsZero() || r.BegunAt.After(r.DoneAt) {
		k.Errorf("from %s to %s", r.BegunAt, r.DoneAt)
	}
	return r
}

func (k *kit) noDelivery(ds ...*core.Delivery) {
	k.Helper()
	for _, d := range ds {
		if _, err := k.s.GetDelivery(k.Context(), d.ID); !errors.Is(err, store.ErrNotFound) {
			k.Errorf("delivery %s: %v", d.ID, err)
		}
	}
}

func testErase(k *kit) {
	k.stop()
	k.o.DedupeWindow = 10 * 365 * 24 * time.Hour
	k.start()
	// One of each state, each with another person's beside it.
	var mine, others []*store.Decision
	for _, subject := range []string{"employee/1", "employee/2"} {
		for _, sinks := range [][]string{{"done"}, {"dead", "dead"}, {"tried"}, {"waits"}, {}, {"skipped"}} {
			d := k.about(subject, sinks...)
			if subject == "employee/1" {
				mine = append(mine, d)
			} else {
				others = append(others, d)
			}
		}
	}
	for _, sink := range []string{"done", "dead", "tried", "skipped"} {
		for _, d := range k.claim(sink, later, 10) {
			switch sink {
			case "done":
				k.settle(delivered(d))
			case "dead":
				k.settle(dead(d))
			case "tried":
				k.settle(retried(d, later.Add(time.Hour)))
			case "skipped":
				k.settle(store.Settlement{Key: d.Key, State: core.DeliverySkipped, Reason: "old"})
			}
		}
	}
	before, err := k.s.Stats(k.Context())
	k.check(err)
	r := k.erase(store.Erasure{Subject: "employee/1"})
	sum := sha256.Sum256([]byte("employee/1"))
	k.equal(r.Subject, hex.EncodeToString(sum[:]))
	k.equal(r.Removed, store.Removed{Requests: 6, Events: 6, Deliveries: 6, Attempts: 3})
	var states []string
	for _, s := range r.Sent {
		states = append(states, s.Sink+" "+s.State)
	}
	slices.Sort(states)
	k.equal(states, []string{"dead tried", "dead tried", "done delivered", "tried tried"})

	after, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(after.Requests[core.RequestRouted], before.Requests[core.RequestRouted]-6)
	k.equal(after.Unrouted, map[string]int64{"peopleforce.employee.updated": 1})
	k.equal(after.Deliveries, map[string]map[core.DeliveryState]int64{
		"done": {core.DeliveryDelivered: 1}, "dead": {core.DeliveryDead: 2}, "tried": {core.DeliveryPending: 1},
		"waits": {core.DeliveryPending: 1}, "skipped": {core.DeliverySkipped: 1},
	})
	for _, d := range mine {
		k.equal(k.has(d.Request), []bool{false})
		k.noDelivery(d.Deliveries...)
	}
	for _, d := range others {
		k.equal(k.has(d.Request), []bool{true})
		for _, dl := range d.Deliveries {
			k.delivery(dl.ID)
		}
	}
	ds, _, err := k.s.ListDeliveries(k.Context(), store.DeliveryFilter{Subject: "employee/1"})
	k.check(err)
	k.equal(len(ds), 0)
	k.claims("waits", others[3].Deliveries...)

	// A provider that repeats a webhook does not bring the person back; a new one about them is a new one.
	for _, d := range mine {
		again := *d.Request
		k.equal(k.accept(&again), store.Duplicate)
	}
	again := k.about("employee/1", "waits")
	k.claims("waits", again.Deliveries...)
	r = k.erase(store.Erasure{Subject: "employee/1"})
	k.equal(r.Removed.Requests, int64(1))
	r = k.erase(store.Erasure{Subject: "employee/1"})
	k.equal(r.Removed, store.Removed{})
	// Nothing of it comes up with the next start.
	k.stop()
	k.start()
	k.claims("waits", others[3].Deliveries...)
	k.claims("tried")
}

// A subject is exact, in subjects and partition keys, bare or behind the tenant; sources and tenants can be told apart.
func testEraseWho(k *kit) {
	for _, c := range []struct {
		source, tenant, subject, key string
		by                           string // which of the erasures below takes it
	}{
		{"people", "", "employee/1", "employee/1", "subject"},
		{"people", "", "leave_request/7", "employee/1", "subject"},
		{"people", "acme", "salary/7", "acme/employee/1", "tenant"},
		{"hr", "", "employee/1", "", "source"},
		{"hr", "acme", "employee/1", "elsewhere", "source"},
		{"people", "acme", "", "employee/1", "tenant"},
		{"people", "acme", "employee/11", "employee/11", ""},
		{"people", "", "employee/1 ", "Employee/1", ""},
		{"people", "", "1", "acme/employee/1", ""},
		{"people", "other", "7", "acme/employee/1", ""},
		{"people", "", "", "", ""},
	} {
		r := k.request()
		r.Source, r.Tenant = c.source, ""
		k.equal(k.accept(r), store.Accepted)
		d := k.decide(r)
		e := &d.Events[0]
		e.Subject, e.PartitionKey, e.Tenant, e.Type = c.subject, c.key, c.tenant, "by."+c.by
		k.route(d)
	}
	left := func() map[string]int {
		kinds := map[string]int{}
		rs, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{})
		k.check(err)
		for _, r := range rs {
			for _, e := range k.get(r.ID()).Events {
				kinds[e.Type]++
			}
		}
		return kinds
	}
	k.erase(store.Erasure{Subject: "employee/1", Source: "nowhere"})
	k.erase(store.Erasure{Subject: "employee/1", Tenant: "nowhere"})
	p, err := k.s.PreviewErase(k.Context(), store.Erasure{Subject: "employee/1"})
	k.check(err)
	k.equal(p.Origins, []store.EraseOrigin{
		{Source: "hr", Events: 1}, {Source: "hr", Tenant: "acme", Events: 1}, {Source: "people", Events: 2},
		{Source: "people", Tenant: "acme", Events: 2},
	})
	k.equal(k.erase(store.Erasure{Subject: "employee/1", Source: "hr"}).Removed.Requests, int64(2))
	k.equal(left(), map[string]int{"by.": 5, "by.subject": 2, "by.tenant": 2})
	k.equal(k.erase(store.Erasure{Subject: "employee/1", Tenant: "acme"}).Removed.Requests, int64(2))
	k.equal(left(), map[string]int{"by.": 5, "by.subject": 2})
	k.equal(k.erase(store.Erasure{Subject: "employee/1"}).Removed.Requests, int64(2))
	k.equal(left(), map[string]int{"by.": 5})

	p, err = k.s.PreviewErase(k.Context(), store.Erasure{Subject: "Employee/1"})
	k.check(err)
	k.equal(p.Similar, []string(nil)) // it is the partition key of one
	p, err = k.s.PreviewErase(k.Context(), store.Erasure{Subject: "employee/1"})
	k.check(err)
	k.equal(p.Similar, []string{"1", "Employee/1", "acme/employee/1", "employee/1 "})
	p, err = k.s.PreviewErase(k.Context(), store.Erasure{Subject: "11"})
	k.check(err)
	k.equal(p.Similar, []string{"employee/11"})
	for _, e := range []store.Erasure{{}, {Source: "hr"}, {Subject: "x", Requests: []string{"req_x"}}} {
		if _, err := k.s.PreviewErase(k.Context(), e); err == nil {
			k.Errorf("a preview of %+v", e)
		}
		if _, err := k.s.Erase(k.Context(), e, nil); err == nil {
			k.Errorf("an erasure of %+v", e)
		}
	}
}

// Of a request with events of several, one person's go with the body, and the others' stay whole.
func testEraseShared(k *kit) {
	r := k.request()
	const people = 30
	data := func(i int) string { return fmt.Sprintf(`{"id":%d,"name":"N%d"}`, i, i) }
	var parts []string
	for i := range people {
		parts = append(parts, data(i))
	}
	r.Body = []byte("[" + strings.Join(parts, ", ") + "]")
	k.equal(k.accept(r), store.Accepted)
	d := &store.Decision{Request: r, Notes: []string{"a remark with N3"}}
	for i := range people {
		offset := strings.Index(string(r.Body), data(i))
		e := core.Event{
			RequestSeq: r.Seq, Index: i, Data: r.Body[offset : offset+len(data(i))], DataOffset: offset,
			Envelope: sdk.Envelope{
				ID: core.EventID(r.Dedupe, r.Repeat, i), Source: "urn:grapnel:source:people", Type: "t",
				Subject: fmt.Sprintf("employee/%d", i%10),
			},
		}
		if i%10 == 4 { // of an event whose data is its own already
			e.Data, e.DataOffset = []byte(`{"own":true}`), -1
		}
		if i == 25 {
			e.Data, e.DataOffset = nil, -1
		}
		d.Events = append(d.Events, e)
		if i%2 == 1 {
			d.Deliveries = append(d.Deliveries, &core.Delivery{
				Key: core.NewDeliveryKey(r.Seq, i, 0), ID: core.DeliveryID(e.ID, "r", "a", 0), Route: "r", Sink: "a",
				OrderKey: "one", Message: fmt.Appendf(nil, `{"n":%d}`, i), State: core.DeliveryPending, Due: at, Event: &e,
			})
		}
	}
	k.route(d)
	k.equal(k.erase(store.Erasure{Subject: "employee/3"}).Removed, store.Removed{Shared: 1, Events: 3, Deliveries: 3})
	k.equal(k.erase(store.Erasure{Subject: "employee/2"}).Removed, store.Removed{Shared: 1, Events: 3})
	got := k.get(r.ID())
	k.equal([]int{len(got.Request.Body), len(got.Request.Headers), len(got.Request.Notes)}, []int{0, 0, 1})
	if !strings.Contains(got.Request.Notes[0], "erased") {
		k.Errorf("note %q", got.Request.Notes[0])
	}
	n := 0
	for _, e := range got.Events {
		if e.Index%10 == 2 || e.Index%10 == 3 {
			k.Errorf("event %d is there", e.Index)
		}
		want := data(e.Index)
		switch {
		case e.Index%10 == 4:
			want = `{"own":true}`
		case e.Index == 25:
			want = ""
		}
		if n++; string(e.Data) != want {
			k.Errorf("event %d: %s", e.Index, e.Data)
		}
	}
	k.equal(n, people-6)
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Unrouted, map[string]int64{"t": 12})
	k.equal(st.Requests, map[core.RequestState]int64{core.RequestRouted: 1})
	k.equal(st.Deliveries, map[string]map[core.DeliveryState]int64{"a": {core.DeliveryPending: 12}})
	rs, _, err := k.s.ListRequests(k.Context(), store.RequestFilter{Unrouted: true})
	k.check(err)
	k.equal(len(rs), 1)

	// The others' deliveries go on, in order, with their data.
	for i := 1; i < people; i += 2 {
		if i%10 == 3 {
			continue
		}
		ds := k.claim("a", ever, 10)
		k.equal(len(ds), 1)
		want := data(i)
		if i == 25 {
			want = ""
		}
		k.equal([]string{string(ds[0].Message), string(ds[0].Event.Data)}, []string{fmt.Sprintf(`{"n":%d}`, i), want})
		k.settle(delivered(ds[0]))
	}
	// With the last of them the request goes.
	for i := range 10 {
		k.erase(store.Erasure{Subject: fmt.Sprintf("employee/%d", i)})
	}
	k.equal(k.has(r), []bool{false})
}

// ever is after all times that a store takes from the clock.
var ever = time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC)

// Deliveries that are with their sinks go, too: whoever has them is told, and what becomes of them is of no account.
func testEraseInFlight(k *kit) {
	mine := k.about("employee/1", "a/k")
	behind := k.about("employee/2", "a/k")
	alone := k.about("employee/1", "a")
	k.claims("a", mine.Deliveries[0], alone.Deliveries[0])

	fresh := k.decide(k.mustAccept(), "a/k2")
	fresh.Events[0].Subject = "employee/1"
	fresh.Lease = []store.Lease{store.LeaseAlways}
	k.route(fresh)
	behindFresh := k.about("employee/2", "a/k2")

	r := k.erase(store.Erasure{Subject: "employee/1"})
	k.equal(r.Removed, store.Removed{Requests: 3, Events: 3, Deliveries: 3})
	var states []string
	for _, s := range r.Sent {
		states = append(states, s.State)
	}
	k.equal(states, []string{store.SentInFlight, store.SentInFlight, store.SentInFlight})
	told := slices.Clone(k.erased["a"])
	slices.Sort(told)
	k.equal(told, keys(mine.Deliveries[0], alone.Deliveries[0], fresh.Deliveries[0]))

	late := delivered(mine.Deliveries[0])
	late.StateSet, late.KeyState = true, []byte("x")
	k.settle(late, retried(fresh.Deliveries[0], later), dead(alone.Deliveries[0]))
	k.check(k.s.Release(k.Context(), keys(mine.Deliveries[0], alone.Deliveries[0], fresh.Deliveries[0])))
	state, err := k.s.KeyState(k.Context(), "a", "k")
	k.check(err)
	k.equal(state, []byte(nil))
	k.noDelivery(mine.Deliveries[0], alone.Deliveries[0], fresh.Deliveries[0])
	// What waited behind them goes on.
	next := keys(k.claim("a", ever, 10)...)
	slices.Sort(next)
	k.equal(next, keys(behind.Deliveries[0], behindFresh.Deliveries[0]))
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Deliveries, map[string]map[core.DeliveryState]int64{"a": {core.DeliveryPending: 2}})
}

// What was received before an erasure and is decoded only later is erased then; what comes after it is not.
func testEraseLate(k *kit) {
	k.stop()
	k.o.OnAccepted = nil // nobody decodes, so nobody waits for it
	k.start()
	waiting, deadOne, shared := k.mustAccept(), k.mustAccept(), k.mustAccept()
	k.route(&store.Decision{Request: deadOne, Dead: "x"})
	r := k.erase(store.Erasure{Subject: "employee/4101"})
	k.equal(r.Removed, store.Removed{})
	k.equal(r.Unread, int64(3))
	younger := k.mustAccept()
	k.stop()
	k.start()
	got, err := k.s.RetryRequests(k.Context(), []string{deadOne.ID()})
	k.check(err)
	k.equal(len(got), 1)

	two := k.decide(shared, "a/k", "b")
	other := two.Events[0]
	other.Index, other.Subject, other.PartitionKey = 1, "employee/2", "employee/2"
	other.ID = core.EventID(shared.Dedupe, 0, 1)
	two.Events = append(two.Events, other)
	two.Deliveries[0].Key = core.NewDeliveryKey(shared.Seq, 1, 0)
	two.Deliveries[0].Event = &other
	ds := []*store.Decision{k.decide(waiting, "a/k", "b"), k.decide(deadOne, "a/k"), two, k.decide(younger, "a/k")}
	for _, d := range ds {
		d.Lease = slices.Repeat([]store.Lease{store.LeaseAlways}, len(d.Deliveries))
	}
	k.route(ds...)
	k.equal(ds[0].Leased, []bool{false, false})
	k.equal(ds[2].Leased, []bool{false, false})
	k.equal(ds[3].Leased, []bool{true})
	k.equal(k.has(waiting, deadOne, shared, younger), []bool{false, false, true, true})
	k.claims("b")
	k.claims("a") // the younger one has the key
	k.settle(delivered(ds[3].Deliveries[0]))
	k.equal(keys(k.claim("a", ever, 10)...), keys(two.Deliveries[0]))
	r, err = k.s.GetReceipt(k.Context(), r.ID)
	k.check(err)
	k.equal(r.Removed, store.Removed{Requests: 2, Shared: 1, Events: 3, Deliveries: 4})
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Requests, map[core.RequestState]int64{core.RequestRouted: 2})
	k.equal(len(st.Unrouted), 0)
	k.purgeAll(store.Retention{})
}

// Requests go by id, whatever their states, and whole.
func testEraseRequests(k *kit) {
	k.stop()
	k.o.DedupeWindow = 10 * 365 * 24 * time.Hour
	k.start()
	received, deadOne, routed, other := k.mustAccept(), k.mustAccept(), k.mustAccept(), k.mustAccept()
	d := k.decide(routed, "a/k", "b")
	k.route(&store.Decision{Request: deadOne, Dead: "employee 4101 is unknown"}, d, k.decide(other, "a/k"))
	p, err := k.s.PreviewErase(k.Context(), store.Erasure{Subject: "x/" + string(deadOne.Body[5:6])})
	k.check(err)
	k.equal(p.DeadMentions, []string{deadOne.ID()})
	r := k.erase(store.Erasure{Requests: []string{received.ID(), deadOne.ID(), routed.ID(), "nonsense", deadOne.ID()}})
	k.equal([]string{r.Subject, fmt.Sprint(r.Removed)}, []string{"", fmt.Sprint(store.Removed{Requests: 3, Events: 1, Deliveries: 2})})
	k.equal(k.has(received, deadOne, routed, other), []bool{false, false, false, true})
	k.noDelivery(d.Deliveries...)
	ds, _, err := k.s.ListDeliveries(k.Context(), store.DeliveryFilter{})
	k.check(err)
	k.equal(len(ds), 1)
	late := k.decide(received, "a")
	k.route(late)
	if !late.Stale {
		k.Error("a request was routed after it had been erased")
	}
	for _, again := range []core.Request{*received, *deadOne, *routed} {
		k.equal(k.accept(&again), store.Duplicate)
	}
	got, err := k.s.RetryRequests(k.Context(), []string{deadOne.ID(), received.ID()})
	k.check(err)
	k.equal(len(got), 0)
	st, err := k.s.Stats(k.Context())
	k.check(err)
	k.equal(st.Requests, map[core.RequestState]int64{core.RequestRouted: 1})
	k.stop()
	k.start()
	rs, err := k.s.ClaimRequests(k.Context(), "people", 0, 10)
	k.check(err)
	k.equal(len(rs), 0)
}

// Keyed state goes that an erased delivery's key has, and that of a person whose deliveries are gone already.
func testEraseStates(k *kit) {
	remember := func(subject, order string) {
		d := k.about(subject, "a/"+order)
		k.claims("a", d.Deliveries...)
		s := delivered(d.Deliveries[0])
		s.StateSet, s.KeyState = true, []byte("of "+order)
		k.settle(s)
	}
	orders := []string{"of one", "of another tenant", "of two", "of both"}
	remember("employee/1", "of one")
	remember("other/employee/1", "of another tenant")
	remember("employee/2", "of two")
	k.about("employee/3")
	k.purge(later)
	remember("employee/1", "of both")
	remember("employee/2", "of both")
	left := func() (there []string) {
		for _, order := range orders {
			state, err := k.s.KeyState(k.Context(), "a", order)
			k.check(err)
			if state != nil {
				there = append(there, order)
			}
		}
		return there
	}
	k.equal(left(), orders)
	k.equal(k.erase(store.Erasure{Subject: "employee/1", Source: "elsewhere"}).Removed.States, int64(0))
	k.equal(k.erase(store.Erasure{Subject: "employee/1", Tenant: "elsewhere"}).Removed.States, int64(0))
	k.equal(k.erase(store.Erasure{Subject: "employee/1", Source: "people", Tenant: "acme"}).Removed.States, int64(2))
	k.equal(left(), []string{"of another tenant", "of two"})
	k.equal(k.erase(store.Erasure{Subject: "other/employee/1"}).Removed.States, int64(1))
	k.equal(left(), []string{"of two"})

	k.s.RecordRejection(core.Rejection{At: at, Status: 404, Cause: "unknown_path", Path: "/x/employee/1"})
	k.s.RecordRejection(core.Rejection{At: at, Status: 400, Cause: "x", Detail: "about employee/1 or so"})
	k.s.RecordRejection(core.Rejection{At: at, Status: 400, Cause: "x", Detail: "about employee/2"})
	k.equal(k.erase(store.Erasure{Subject: "employee/1"}).Removed.Rejections, int64(2))
	rj, _, err := k.s.ListRejections(k.Context(), store.RejectionFilter{})
	k.check(err)
	k.equal(len(rj), 1)
}

func testReceipts(k *kit) {
	for i := range 5 {
		k.about(fmt.Sprintf("employee/%d", i), "a")
	}
	var all []store.Receipt
	for i := range 5 {
		for _, d := range k.claim("a", later, 1) {
			k.settle(delivered(d))
		}
		var stages []string
		e := store.Erasure{Subject: fmt.Sprintf("employee/%d", i), Source: "people", Tenant: "acme"}
		r, err := k.s.Erase(k.Context(), e, func(p store.EraseProgress) {
			if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
				stages = append(stages, p.Stage)
			}
			if p.Done > p.Total {
				k.Errorf("%+v", p)
			}
		})
		k.check(err)
		k.equal(stages, []string{store.EraseSearching, store.EraseOverwriting})
		k.equal([]string{r.Source, r.Tenant}, []string{"people", "acme"})
		k.equal(len(r.Sent), 1)
		all = append([]store.Receipt{r}, all...)
	}
	k.stop()
	k.start()
	for i, want := range all {
		got, err := k.s.GetReceipt(k.Context(), want.ID)
		k.check(err)
		k.equal(got, want)
		all[i].Sent = nil
	}
	first, next, err := k.s.ListReceipts(k.Context(), "", 3)
	k.check(err)
	k.equal(first, all[:3])
	rest, next, err := k.s.ListReceipts(k.Context(), next, 3)
	k.check(err)
	k.equal(rest, all[3:])
	k.equal(next, "")
	if _, err := k.s.GetReceipt(k.Context(), 4711); !errors.Is(err, store.ErrNotFound) {
		k.Errorf("%v", err)
	}
}
