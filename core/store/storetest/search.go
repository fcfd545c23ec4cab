package storetest

import (
	"context"
	"errors"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func testSearchRequests(k *kit) {
	var rs []*core.Request
	for i, body := range []string{
		`{"name":"Ada"}`, `{"name":"ADA"}`, `{"name":"Grace"}`, `text={"id":1} `, `{"name":"\u0041da"}`, "\xffada\xff", ``, `[" ada "]`,
	} {
		r := k.request()
		r.Body = []byte(body)
		if i == 1 {
			r.Source = "other"
		}
		k.accept(r)
		rs = append(rs, r)
	}
	form := k.decide(rs[3]) // a body that is no JSON, whose event is
	form.Events[0].Data, form.Events[0].DataOffset = []byte(`{"name":"ada"}`), -1
	k.route(form)
	find := func(text string, f store.RequestFilter, limit int) (seqs []int64, looked int) {
		k.Helper()
		for {
			f.Limit = limit
			found, n, next, err := k.s.SearchRequests(k.Context(), f, store.NewText(text))
			k.check(err)
			for _, r := range found {
				seqs = append(seqs, r.Seq)
				if r.Body != nil || len(r.Headers) == 0 {
					k.Error("what a search finds has a body, or no headers")
				}
			}
			if looked += n; next == "" {
				return seqs, looked
			}
			if store.Looked(next).IsZero() {
				k.Errorf("%q does not tell how far the search has come", next)
			}
			f.Cursor = next
		}
	}
	seqs := func(is ...int) (s []int64) {
		for _, i := range is {
			s = append(s, rs[i].Seq)
		}
		return s
	}
	for _, limit := range []int{1, 2, 1000} {
		got, looked := find("aDa", store.RequestFilter{}, limit)
		k.equal(got, seqs(7, 5, 4, 3, 1, 0))
		k.equal(looked, 8)
	}
	got, _ := find("ada", store.RequestFilter{Source: "other"}, 5)
	k.equal(got, seqs(1))
	got, _ = find("ada", store.RequestFilter{State: core.RequestRouted}, 5)
	k.equal(got, seqs(3))
	got, looked := find("ada", store.RequestFilter{Since: rs[2].ReceivedAt, Until: rs[5].ReceivedAt}, 5)
	k.equal(got, seqs(4, 3))
	k.equal(looked, 3)
	got, _ = find("nobody", store.RequestFilter{}, 5)
	k.equal(got, []int64(nil))
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	if _, _, _, err := k.s.SearchRequests(ctx, store.RequestFilter{}, store.NewText("ada")); !errors.Is(err, context.Canceled) {
		k.Errorf("a search for nobody: %v", err)
	}
}

// Requests are found by their events, and by tenant also where they have none.
func testListByEvents(k *kit) {
	var rs []*core.Request
	for i := range 6 {
		r := k.request()
		if i == 5 {
			r.Tenant = "globex"
		}
		k.accept(r)
		rs = append(rs, r)
	}
	for i, subject := range []string{"employee/1", "employee/2", "employee/1"} {
		d := k.decide(rs[i], "a")
		d.Events[0].Subject = subject
		if i == 2 {
			d.Events[0].Type = "other.thing"
		}
		k.route(d)
	}
	k.route(&store.Decision{Request: rs[5], Dead: "x"})
	list := func(f store.RequestFilter) (seqs []int64) {
		k.Helper()
		for {
			f.Limit = 2
			got, next, err := k.s.ListRequests(k.Context(), f)
			k.check(err)
			for _, r := range got {
				seqs = append(seqs, r.Seq)
			}
			if f.Cursor = next; next == "" {
				break
			}
		}
		read, _, err := k.s.ReadRequests(k.Context(), f, 0, 1000)
		k.check(err)
		k.equal(len(read), len(seqs))
		return seqs
	}
	k.equal(list(store.RequestFilter{Subject: "employee/1"}), []int64{rs[2].Seq, rs[0].Seq})
	k.equal(list(store.RequestFilter{Type: "other.*"}), []int64{rs[2].Seq})
	k.equal(list(store.RequestFilter{Type: "other.thing", Subject: "employee/2"}), []int64(nil))
	k.equal(list(store.RequestFilter{Tenant: "globex"}), []int64{rs[5].Seq})
	k.equal(list(store.RequestFilter{Tenant: "globex", State: core.RequestDead}), []int64{rs[5].Seq})
	dead, _, err := k.s.SelectRequests(k.Context(), store.RequestFilter{Tenant: "globex"}, 0, 10)
	k.check(err)
	k.equal(len(dead), 1)
	dead, _, err = k.s.SelectRequests(k.Context(), store.RequestFilter{Tenant: "acme"}, 0, 10)
	k.check(err)
	k.equal(len(dead), 0)
}
