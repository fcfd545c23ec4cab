package storetest

import (
	"bytes"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// testReadRequests reads requests back in the order of their acceptance, whole, in pages.
func testReadRequests(k *kit) {
	var rs []*core.Request
	for i := range 7 {
		r := k.request()
		if i%3 == 1 {
			r.Source = "hr"
		}
		k.accept(r)
		switch {
		case i == 2:
			k.route(&store.Decision{Request: r, Dead: "no"})
		case i < 5:
			k.route(k.decide(r, "a"))
		}
		rs = append(rs, r)
	}
	big := k.request()
	big.Body = bytes.Repeat([]byte("x"), 5<<20)
	k.accept(big)
	rs = append(rs, big, k.mustAccept())

	read := func(f store.RequestFilter, limit int) (got []*core.Request, pages int) {
		for after := int64(0); ; {
			page, next, err := k.s.ReadRequests(k.Context(), f, after, limit)
			k.check(err)
			got, pages = append(got, page...), pages+1
			if next == 0 {
				return got, pages
			}
			after = next
		}
	}
	for name, c := range map[string]struct {
		f     store.RequestFilter
		limit int
		want  []int
		pages int
	}{
		"all, cut by bytes": {store.RequestFilter{}, 100, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, 2},
		"pages":             {store.RequestFilter{Until: big.ReceivedAt}, 3, []int{0, 1, 2, 3, 4, 5, 6}, 3},
		"source":            {store.RequestFilter{Source: "hr"}, 100, []int{1, 4}, 1},
		"since":             {store.RequestFilter{Since: rs[3].ReceivedAt, Until: rs[5].ReceivedAt}, 100, []int{3, 4}, 1},
		"dead":              {store.RequestFilter{State: core.RequestDead}, 100, []int{2}, 1},
		"none":              {store.RequestFilter{Source: "nobody"}, 100, nil, 1},
	} {
		got, pages := read(c.f, c.limit)
		if len(got) != len(c.want) || pages != c.pages {
			k.Errorf("%s: %d requests in %d pages, want %d in %d", name, len(got), pages, len(c.want), c.pages)
			continue
		}
		for i, n := range c.want {
			if got[i].ID() != rs[n].ID() || !bytes.Equal(got[i].Body, rs[n].Body) || len(got[i].Headers) != len(rs[n].Headers) {
				k.Errorf("%s: request %d is %s with %d bytes", name, i, got[i].ID(), len(got[i].Body))
			}
		}
	}
}
