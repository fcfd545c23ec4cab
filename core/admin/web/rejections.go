package web

import (
	"cmp"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

func rejectionPages() []page {
	return []page{
		{pattern: "GET /rejections", template: "rejections", serve: (*call).rejections, nav: &place{"Act", "Rejected", "j"}},
	}
}

// tally is how many there are of a name.
type tally struct {
	Name    string
	N       int64
	Href    string
	Current bool
}

// tallies are the counts of names, the most first; address says where each leads.
func tallies(counts map[string]int64, current string, address func(name string) string) []tally {
	var all []tally
	for name, n := range counts {
		if n > 0 || name == current {
			all = append(all, tally{name, n, address(name), name == current})
		}
	}
	slices.SortFunc(all, func(a, b tally) int { return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Name, b.Name)) })
	return all
}

// rejections is the data of the page.
type rejections struct {
	Filter  store.RejectionFilter
	Causes  []tally
	Sources []string
	Items   []rejection
	Pager   pager
}

// rejection is one with what its cause means.
type rejection struct {
	admin.Rejection
	Means string
}

func (c *call) rejections() error {
	q := c.r.URL.Query()
	s, err := c.control.Status(c)
	if err != nil {
		return err
	}
	f := store.RejectionFilter{
		Source: strings.TrimSpace(q.Get("source")), Cause: strings.TrimSpace(q.Get("cause")), Cursor: q.Get("cursor"), Limit: 50,
	}
	p, err := c.control.Rejections(c, f)
	if err != nil {
		return err
	}
	data := rejections{
		Filter: f,
		Causes: tallies(s.Stats.Rejections, f.Cause, func(cause string) string { return c.with("cause", cause, "cursor", "") }),
	}
	for _, r := range p.Items {
		data.Items = append(data.Items, rejection{r, means[r.Cause]})
	}
	for _, v := range s.Sources {
		data.Sources = append(data.Sources, v.Source)
	}
	data.Pager = c.pager(p.Next)
	return c.page("Rejected requests", data)
}

// means says what causes mean, in few words; docs/operations.md has all of it.
var means = map[string]string{
	"bad_signature":         "the signature fits no secret of the source",
	"missing_signature":     "it is not signed",
	"doubled_signature":     "it is signed twice",
	"malformed_signature":   "what should be the signature is none",
	"missing_signed_part":   "something that the signature covers is missing",
	"ambiguous_signed_part": "something that the signature covers is there twice",
	"missing_timestamp":     "it has no signed time",
	"malformed_timestamp":   "its signed time is none",
	"timestamp_too_old":     "its signed time is too long ago",
	"timestamp_too_new":     "its signed time is ahead: compare the clocks",
	"missing_token":         "it has no token",
	"doubled_token":         "it has several tokens",
	"bad_token":             "its token is no token of the source",
	"value_not_allowed":     "authentic, but not in an allow list of the source",
	"address_not_allowed":   "the address is not in allow_ips",
	"unknown_path":          "no source has the path",
	"method_not_allowed":    "mostly anything but POST",
	"body_timeout":          "the body came too slowly",
	"header_timeout":        "the header came too slowly",
	"client_gone":           "the sender hung up before the end",
	"too_large":             "the body is over max_body",
	"header_too_large":      "over limits.max_header",
	"content_type":          "another type than the decoder's",
	"content_encoding":      "compressed",
	"bad_json":              "no JSON, or JSON over the limits",
	"bad_form":              "no form, or a form over the limits",
	"bad_handshake":         "what it wants echoed is not fit for that",
	"rate_limited":          "over limits.rate",
	"internal":              "a mistake in the host; the log has its stack",
	"disk_short":            "the disk is nearly full",
	"disk_full":             "the disk is full",
	"store_failed":          "the database cannot be written",
	"too_many_connections":  "too many connections",
	"overloaded":            "too many bodies at once",
	"draining":              "the host was stopping",
}
