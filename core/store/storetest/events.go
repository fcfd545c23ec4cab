package storetest

import (
	"fmt"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testListEvents(k *kit) {
	// Seven requests of two events each, but the last, which has none; the second events have no delivery, and those of
	// every third request are about another type, subject, tenant and source.
	var all []string
	var rs []*core.Request
	for i := range 7 {
		r := k.request()
		if i%3 == 1 {
			r.Source = "hr"
		}
		k.accept(r)
		d := k.decide(r, "a", "b")
		second := d.Events[0]
		second.Index, second.ID = 1, core.EventID(r.Dedupe, 0, 1)
		d.Events = append(d.Events, second)
		if i%3 == 1 {
			for n := range d.Events {
				e := &d.Events[n]
				e.Type, e.Subject, e.Tenant = "peopleforce.leave.created", "employee/7", "other"
			}
		}
		if i == 6 {
			d.Events, d.Deliveries = nil, nil
		}
		k.route(d)
		for _, e := range d.Events {
			all = append(all, e.ID)
		}
		rs = append(rs, r)
	}
	k.mustAccept() // not decoded

	for name, c := range map[string]struct {
		f    store.EventFilter
		want []int // of all, in any order
	}{
		"all":             {store.EventFilter{}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
		"unrouted":        {store.EventFilter{Unrouted: true}, []int{1, 3, 5, 7, 9, 11}},
		"source":          {store.EventFilter{Source: "hr"}, []int{2, 3, 8, 9}},
		"type":            {store.EventFilter{Type: "peopleforce.leave.created"}, []int{2, 3, 8, 9}},
		"pattern":         {store.EventFilter{Type: "*.leave.*", Unrouted: true}, []int{3, 9}},
		"subject":         {store.EventFilter{Subject: "employee/7", Tenant: "other"}, []int{2, 3, 8, 9}},
		"nobody":          {store.EventFilter{Subject: "employee/8"}, nil},
		"request":         {store.EventFilter{RequestID: rs[1].ID()}, []int{2, 3}},
		"unknown request": {store.EventFilter{RequestID: core.RequestID(key("unknown"), 0)}, nil},
		"request, type":   {store.EventFilter{RequestID: rs[1].ID(), Type: "peopleforce.employee.updated"}, nil},
		"times":           {store.EventFilter{Since: rs[2].ReceivedAt, Until: rs[4].ReceivedAt}, []int{4, 5, 6, 7}},
		"type and times": {
			store.EventFilter{Type: "peopleforce.leave.created", Since: rs[2].ReceivedAt, Until: rs[5].ReceivedAt}, []int{8, 9},
		},
	} {
		var want []string
		for i := len(c.want) - 1; i >= 0; i-- {
			deliveries := 2 - c.want[i]%2*2
			want = append(want, fmt.Sprint(all[c.want[i]], " ", deliveries, " ", rs[c.want[i]/2].ReceivedAt))
		}
		for _, limit := range []int{1, 2, 0} {
			var got []string
			for f := c.f; ; {
				f.Limit = limit
				es, next, err := k.s.ListEvents(k.Context(), f)
				k.check(err)
				for _, e := range es {
					got = append(got, fmt.Sprint(e.Event.ID, " ", e.Deliveries, " ", e.ReceivedAt))
				}
				if f.Cursor = next; next == "" {
					break
				}
				if len(es) != limit {
					k.Fatalf("%s: %d in a page of %d", name, len(es), limit)
				}
			}
			k.Log(name)
			k.equal(got, want)
		}
	}
}
