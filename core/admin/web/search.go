package web

import (
	"cmp"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

func searchPages() []page {
	return []page{{pattern: "GET /search", serve: (*call).search}}
}

// search leads from the field at the top to a page: that of an id, or a list of what has the subject, the type, or the
// text.
func (c *call) search() error {
	q := strings.TrimSpace(c.r.URL.Query().Get("q"))
	if to := pageOf(q); to != "" || q == "" {
		return c.redirect(cmp.Or(to, "/events"))
	}
	for _, by := range []struct {
		name   string
		filter store.EventFilter
	}{{"subject", store.EventFilter{Subject: q, Limit: 1}}, {"type", store.EventFilter{Type: q, Limit: 1}}} {
		p, err := c.control.Events(c, by.filter)
		if err != nil {
			return err
		}
		if len(p.Items) > 0 {
			return c.redirect(address("/events", query(by.name, q)))
		}
	}
	return c.redirect(address("/requests", query("text", q)))
}

// pageOf is the page of what an id names, empty where the text is no id.
func pageOf(id string) string {
	if _, _, err := core.ParseRequestID(id); err == nil {
		return "/requests/" + id
	}
	if _, _, _, err := core.ParseEventID(id); err == nil {
		return "/events/" + id
	}
	if _, _, _, err := core.ParseDeliveryID(id); err == nil {
		return "/deliveries/" + id
	}
	return ""
}
