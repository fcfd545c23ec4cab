package web

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

func historyPages() []page {
	return []page{
		{"GET /requests", "requests", (*call).requests, &place{"Watch", "Requests", "r"}},
		{"GET /requests/found", "requests", (*call).found, nil},
		{"GET /events", "events", (*call).events, &place{"Watch", "Events", "e"}},
		{"GET /deliveries", "deliveries", (*call).deliveries, &place{"Watch", "Deliveries", "d"}},
	}
}

// pageSize is how many rows a list shows at a time.
const pageSize = 50

// form is the filters of a list. Its whole state is in the address.
type form struct {
	Action   string
	Fields   []formField
	More     []formField // less often needed
	MoreOpen bool
	Active   bool // something is filtered
}

// formField is one filter.
type formField struct {
	Name, Label string
	Kind        string // text, select, when, check
	Value       string
	Options     []option // of a select
	Hint        string
	Wide        bool
}

type option struct{ Value, Label string }

// filters reads the values of fields from the address.
func (c *call) filters(fields, more []formField) form {
	f := form{Action: c.r.URL.Path, Fields: fields, More: more}
	q := c.r.URL.Query()
	read := func(fields []formField) (set bool) {
		for i := range fields {
			fields[i].Value = strings.TrimSpace(q.Get(fields[i].Name))
			if fields[i].Kind == "when" { // fields of browsers take no zone
				if t, err := parseTime(fields[i].Value); err == nil && !t.IsZero() {
					fields[i].Value = t.UTC().Format("2006-01-02T15:04:05")
				}
			}
			if fields[i].Kind == "select" && fields[i].Value != "" && !slices.ContainsFunc(fields[i].Options,
				func(o option) bool { return o.Value == fields[i].Value }) {
				fields[i].Options = append(fields[i].Options, option{fields[i].Value, fields[i].Value})
			}
			set = set || fields[i].Value != ""
		}
		return set
	}
	f.Active = read(f.Fields)
	f.MoreOpen = read(f.More)
	f.Active = f.Active || f.MoreOpen
	return f
}

func options(first string, values ...string) []option {
	os := []option{{"", first}}
	for _, v := range values {
		os = append(os, option{v, v})
	}
	return os
}

// The fields that several lists have.
func sourceField(s *admin.Status) formField {
	var names []string
	for _, v := range s.Sources {
		names = append(names, v.Source)
	}
	return formField{Name: "source", Label: "Source", Kind: "select", Options: options("all", names...)}
}

func sinkField(s *admin.Status) formField {
	names := slices.Collect(maps.Keys(s.Stats.Deliveries))
	for _, v := range s.Sinks {
		names = append(names, v.Sink)
	}
	slices.Sort(names)
	return formField{Name: "sink", Label: "Sink", Kind: "select", Options: options("all", slices.Compact(names)...)}
}

func routeField(s *admin.Status) formField {
	var names []string
	for _, v := range s.Routes {
		names = append(names, v.Route)
	}
	return formField{Name: "route", Label: "Route", Kind: "select", Options: options("all", names...)}
}

func stateField(values ...string) formField {
	return formField{Name: "state", Label: "State", Kind: "select", Options: options("any", values...)}
}

func lastField() formField {
	return formField{Name: "last", Label: "Received", Kind: "select", Options: []option{
		{"", "at any time"}, {"15m", "last 15 minutes"}, {"1h", "last hour"}, {"24h", "last 24 hours"},
		{"168h", "last 7 days"},
	}}
}

func typeField() formField {
	return formField{Name: "type", Label: "Event type", Kind: "text", Hint: "shop.order.created, shop.*"}
}

func subjectField() formField {
	return formField{Name: "subject", Label: "Subject", Kind: "text", Hint: "order/1001"}
}

func tenantField() formField { return formField{Name: "tenant", Label: "Tenant", Kind: "text"} }
func requestField() formField {
	return formField{Name: "request", Label: "Request", Kind: "text", Hint: "req_…"}
}
func sinceField() formField { return formField{Name: "since", Label: "From, in UTC", Kind: "when"} }
func untilField() formField { return formField{Name: "until", Label: "Before, in UTC", Kind: "when"} }

// window is the time range that the address asks for. A beginning is stronger than the last while.
func (c *call) window() (since, until time.Time, err error) {
	q := c.r.URL.Query()
	if since, err = parseTime(q.Get("since")); err != nil {
		return since, until, err
	}
	if until, err = parseTime(q.Get("until")); err != nil {
		return since, until, err
	}
	if last := q.Get("last"); last != "" && since.IsZero() {
		d, err := time.ParseDuration(last)
		if err != nil || d <= 0 {
			return since, until, badInput{fmt.Errorf("%q is no duration like 1h", last)}
		}
		since = c.now().Add(-d)
	}
	return since, until, nil
}

// parseTime reads a time of an address or of a browser's field, which has no zone: UTC is meant.
func parseTime(text string) (time.Time, error) {
	if text = strings.TrimSpace(text); text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, badInput{fmt.Errorf("%q is no time like 2026-01-31T08:00:00", text)}
}

// pager leads to the pages of a list.
type pager struct {
	Newest, Older string
	Looked        time.Time // the page came back short: so far it has looked; zero: it is full, or the last one
}

func (c *call) pager(next string) pager {
	var p pager
	if next != "" {
		p.Older, p.Looked = c.with("cursor", next), store.Looked(next)
	}
	if q := c.r.URL.Query(); q.Get("cursor") != "" || q.Get("behind") != "" {
		p.Newest = c.with("cursor", "", "behind", "", "looked", "", "found", "")
	}
	return p
}

// list is the data of a page with a list.
type list[T any] struct {
	Form   form
	Items  []T
	Pager  pager
	Others []option // the same selection in other lists: address, name
	Empty  bool     // nothing has ever been received
	Search *textSearch
}

// others leads to the other lists, with the filters that they share.
func (c *call) others(shared ...string) []option {
	q := url.Values{}
	for name, values := range c.r.URL.Query() {
		if slices.Contains(shared, name) && values[0] != "" {
			q[name] = values
		}
	}
	var os []option
	for _, name := range []string{"requests", "events", "deliveries"} {
		if path := "/" + name; path != c.r.URL.Path {
			mine := maps.Clone(q)
			if name == "requests" {
				delete(mine, "request")
			}
			os = append(os, option{address(path, mine), name})
		}
	}
	return os
}

func (c *call) requests() error {
	s, err := c.control.Status(c)
	if err != nil {
		return err
	}
	f, err := c.requestFilter()
	if err != nil {
		return err
	}
	var p admin.Page[admin.Request]
	var search *textSearch
	if text := strings.TrimSpace(c.r.URL.Query().Get("text")); text != "" {
		p.Items, search, err = c.searchText(f, text)
	} else {
		p, err = c.control.Requests(c, f)
	}
	if err != nil {
		return err
	}
	return c.page("Requests", list[admin.Request]{
		Form: c.filters([]formField{
			sourceField(&s), typeField(), subjectField(), stateField("received", "routed", "dead"), lastField(),
			{Name: "text", Label: "Text in the body", Kind: "text"},
			{Name: "unrouted", Label: "with an event that no route took", Kind: "check"},
		}, []formField{tenantField(), sinceField(), untilField()}),
		Items: p.Items, Pager: c.pager(p.Next), Search: search,
		Others: c.others("source", "type", "subject", "tenant", "last", "since", "until"),
		Empty:  sum(s.Stats.Requests) == 0,
	})
}

// requestFilter is what the address asks for.
func (c *call) requestFilter() (store.RequestFilter, error) {
	q := c.r.URL.Query()
	text := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	f := store.RequestFilter{
		Source: text("source"), Type: text("type"), Subject: text("subject"), Tenant: text("tenant"),
		State: core.RequestState(text("state")), Unrouted: text("unrouted") == "true", Cursor: text("cursor"),
		Limit: pageSize,
	}
	var err error
	f.Since, f.Until, err = c.window()
	return f, err
}

func (c *call) events() error {
	s, err := c.control.Status(c)
	if err != nil {
		return err
	}
	q := c.r.URL.Query()
	f := store.EventFilter{
		Source: q.Get("source"), Type: strings.TrimSpace(q.Get("type")), Subject: strings.TrimSpace(q.Get("subject")),
		Tenant: strings.TrimSpace(q.Get("tenant")), RequestID: strings.TrimSpace(q.Get("request")),
		Unrouted: q.Get("unrouted") == "true", Cursor: q.Get("cursor"), Limit: pageSize,
	}
	if f.Since, f.Until, err = c.window(); err != nil {
		return err
	}
	p, err := c.control.Events(c, f)
	if err != nil {
		return err
	}
	return c.page("Events", list[admin.ListedEvent]{
		Form: c.filters([]formField{
			sourceField(&s), typeField(), subjectField(), lastField(),
			{Name: "unrouted", Label: "that no route took", Kind: "check"},
		}, []formField{tenantField(), requestField(), sinceField(), untilField()}),
		Items: p.Items, Pager: c.pager(p.Next),
		Others: c.others("source", "type", "subject", "tenant", "request", "last", "since", "until"),
		Empty:  sum(s.Stats.Requests) == 0,
	})
}

func (c *call) deliveries() error {
	s, err := c.control.Status(c)
	if err != nil {
		return err
	}
	f, err := c.deliveryFilter()
	if err != nil {
		return err
	}
	p, err := c.control.Deliveries(c, f)
	if err != nil {
		return err
	}
	return c.page("Deliveries", list[admin.Delivery]{
		Form: c.filters([]formField{
			sourceField(&s), typeField(), subjectField(), sinkField(&s),
			stateField("pending", "delivered", "skipped", "dead"), lastField(),
		}, []formField{routeField(&s), tenantField(), requestField(), sinceField(), untilField()}),
		Items: p.Items, Pager: c.pager(p.Next),
		Others: c.others("source", "type", "subject", "tenant", "request", "last", "since", "until"),
		Empty:  sum(s.Stats.Requests) == 0,
	})
}

// deliveryFilter is what the address asks for.
func (c *call) deliveryFilter() (store.DeliveryFilter, error) {
	q := c.r.URL.Query()
	text := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	f := store.DeliveryFilter{
		Source: text("source"), Type: text("type"), Subject: text("subject"), Tenant: text("tenant"), Route: text("route"),
		Sink: text("sink"), RequestID: text("request"), State: core.DeliveryState(text("state")), Cursor: text("cursor"),
		Limit: pageSize,
	}
	var err error
	f.Since, f.Until, err = c.window()
	return f, err
}

// sourceName is the name of the source block in an event's source.
func sourceName(source string) string {
	return strings.TrimPrefix(source, "urn:grapnel:source:")
}

// short is an id with its digest cut, for tables: what is left tells rows apart, the whole is in the title.
func short(id string) string {
	prefix, rest, ok := strings.Cut(id, "_")
	if !ok || len(rest) < 32 {
		return id
	}
	return prefix + "_" + rest[:8] + "…" + rest[32:]
}
