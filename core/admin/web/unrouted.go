package web

import (
	"strings"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

func unroutedPages() []page {
	return []page{
		{pattern: "GET /unrouted", template: "unrouted", serve: (*call).unrouted, nav: &place{"Act", "Unrouted", "u"}},
	}
}

// unrouted is the data of the page.
type unrouted struct {
	Filter store.EventFilter
	Types  []tally
	Items  []admin.ListedEvent
	Pager  pager
}

func (c *call) unrouted() error {
	q := c.r.URL.Query()
	s, err := c.control.Status(c)
	if err != nil {
		return err
	}
	f := store.EventFilter{
		Unrouted: true, Type: strings.TrimSpace(q.Get("type")), Source: strings.TrimSpace(q.Get("source")),
		Subject: strings.TrimSpace(q.Get("subject")), Cursor: q.Get("cursor"), Limit: 50,
	}
	p, err := c.control.Events(c, f)
	if err != nil {
		return err
	}
	data := unrouted{
		Filter: f, Items: p.Items,
		Types: tallies(s.Stats.Unrouted, f.Type, func(kind string) string { return c.with("type", kind, "cursor", "") }),
	}
	data.Pager = c.pager(p.Next)
	return c.page("Unrouted events", data)
}
