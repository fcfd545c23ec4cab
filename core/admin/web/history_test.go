package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

// story stores a few requests of different fates, and returns their ids.
func story(t *testing.T, f *fixture) []string {
	t.Helper()
	return f.add(t,
		received{source: "people", body: `{"n":1}`, at: noon.Add(-3 * time.Hour),
			headers: []sdkHeader{{Name: "x-b", Value: "2"}, {Name: "x-a", Value: "1"}},
			events: []madeEvent{
				{kind: "hr.person.updated", subject: "person/1", data: `{"name":"Ada","age":37.0}`,
					changes: `{"name":{"old":"Eda","new":"Ada"}}`, deliveries: []madeDelivery{
						{route: "all", sink: "audit", message: `{"path":"x"}`, state: core.DeliveryDelivered, attempts: []core.Attempt{
							{Number: 1, At: noon.Add(-2 * time.Hour), Took: 1500 * time.Millisecond, Outcome: "retry", Reason: "busy (503)"},
							{Number: 2, At: noon.Add(-time.Hour), Took: 20 * time.Millisecond, Outcome: "delivered"},
						}},
						{route: "crm", sink: "crm", message: `{}`},
					}},
				{kind: "hr.person.seen", subject: "person/2", data: `{}`},
			}},
		received{source: "shop", body: `{"n":2}`, dead: "it is no order", at: noon.Add(-2 * time.Hour)},
		received{source: "shop", body: `{"n":3}`, waits: true, at: noon.Add(-time.Minute)},
	)
}

func TestLists(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/requests", "/events", "/deliveries"} {
		if d := get(t, f, path); !strings.Contains(d.text("main"), "Nothing has come in yet") {
			t.Errorf("%s of an empty host: %s", path, d.text("main"))
		}
	}
	story(t, f)
	for _, c := range []struct {
		path string
		want []string // the first cells after the time, per row
	}{
		{"/requests", []string{"◷ received shop", "✕ dead shop", "✓ routed people"}},
		{"/requests?source=shop&state=dead", []string{"✕ dead shop"}},
		{"/requests?last=1h", []string{"◷ received shop"}},
		{"/requests?since=2026-03-04T09:30&until=2026-03-04T11:00:00", []string{"✕ dead shop"}},
		{"/requests?unrouted=true", []string{"✓ routed people"}},
		{"/requests?type=hr.person.*", []string{"✓ routed people"}},
		{"/events", []string{"hr.person.seen person/2", "hr.person.updated person/1"}},
		{"/events?subject=person/1", []string{"hr.person.updated person/1"}},
		{"/events?unrouted=true&type=hr.*", []string{"hr.person.seen person/2"}},
		{"/deliveries", []string{"◷ pending hr.person.updated person/1", "✓ delivered hr.person.updated person/1"}},
		{"/deliveries?sink=audit", []string{"✓ delivered hr.person.updated person/1"}},
		{"/deliveries?state=dead", nil},
	} {
		d := get(t, f, c.path)
		var got []string
		for _, row := range d.all("tbody tr") {
			cells := doc{t: t, root: row}.all("td")
			got = append(got, text(cells[1])+" "+text(cells[2]))
		}
		if d.status != http.StatusOK || !slices.Equal(got, c.want) {
			t.Errorf("%s: %d, %q", c.path, d.status, got)
		}
		if c.want == nil && !strings.Contains(d.text("main"), "Nothing matches") {
			t.Errorf("%s: %s", c.path, d.text("main"))
		}
	}
	for _, path := range []string{"/requests?since=yesterday", "/events?last=-1h", "/deliveries?cursor=x"} {
		if d := get(t, f, path); d.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, d.status)
		}
	}
}

func TestFiltersStayInTheAddress(t *testing.T) {
	f := newFixture(t)
	story(t, f)
	d := get(t, f, "/deliveries?source=people&type=hr.*&state=pending&sink=gone&since=2026-03-04T01:02:03Z")
	for name, want := range map[string]string{"source": "people", "state": "pending", "sink": "gone"} {
		if got := attr(d.one("select[name="+name+"] option[selected]"), "value"); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := attr(d.one("input[name=type]"), "value"); got != "hr.*" {
		t.Errorf("type: %q", got)
	}
	if got := attr(d.one("details[open] input[name=since]"), "value"); got != "2026-03-04T01:02:03" {
		t.Errorf("since: %q", got)
	}
	var others []string
	for _, n := range d.all(".others a") {
		others = append(others, attr(n, "href"))
	}
	want := []string{
		"/requests?since=2026-03-04T01%3A02%3A03Z&source=people&type=hr.%2A",
		"/events?since=2026-03-04T01%3A02%3A03Z&source=people&type=hr.%2A",
	}
	if diff := cmp.Diff(want, others); diff != "" {
		t.Errorf("the same selection elsewhere: %s", diff)
	}
}

func TestPages(t *testing.T) {
	f := newFixture(t)
	rs := make([]received, pageSize+3)
	for i := range rs {
		rs[i] = received{source: "a", body: strings.Repeat("x", i), waits: true}
	}
	f.add(t, rs...)
	d := get(t, f, "/requests?source=a")
	if n := len(d.all("tbody tr")); n != pageSize {
		t.Fatalf("%d rows", n)
	}
	older := d.one("a[rel=next]")
	d = get(t, f, attr(older, "href"))
	if n := len(d.all("tbody tr")); n != 3 || len(d.all("a[rel=next]")) != 0 {
		t.Errorf("%d rows on the second page", n)
	}
	if back := attr(d.one(".pager a"), "href"); back != "/requests?source=a" {
		t.Errorf("back: %s", back)
	}
}

func TestSearchLeads(t *testing.T) {
	f := newFixture(t)
	ids := story(t, f)
	r, err := f.control.Request(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	for q, want := range map[string]string{
		ids[0]: "/requests/" + ids[0], r.Events[0].ID: "/events/" + r.Events[0].ID,
		" " + r.Deliveries[0].ID + " ": "/deliveries/" + r.Deliveries[0].ID, "person/1": "/events?subject=person%2F1",
		"hr.person.*": "/events?type=hr.person.%2A", "": "/events",
		"Ada & co": "/requests?text=Ada+%26+co",
	} {
		d := get(t, f, address("/search", query("q", q)))
		if got := d.header.Get("Location"); d.status != http.StatusSeeOther || got != want {
			t.Errorf("%q leads to %q, want %q", q, got, want)
		}
	}
}

func TestTextInBodies(t *testing.T) {
	f := newFixture(t)
	rs := []received{{source: "shop", body: "needle"}, {source: "shop", body: "hay"}, {source: "people", body: "a needle, too"}}
	for i := range rs {
		rs[i].waits, rs[i].at = true, noon.Add(time.Duration(i-3)*time.Hour)
	}
	ids := f.add(t, rs...)
	d := get(t, f, "/requests?text=needle&since=2026-01-01")
	var got []string
	for _, n := range d.all("tbody .idlink") {
		got = append(got, attr(n, "title"))
	}
	if diff := cmp.Diff([]string{ids[2], ids[0]}, got); diff != "" {
		t.Errorf("found: %s", diff)
	}
	if got := d.text(".search-state"); !strings.Contains(got, "3 bodies, 2 hits.") {
		t.Errorf("the end of the search: %s", got)
	}
	if got := attr(d.one("input[name=text]"), "value"); got != "needle" {
		t.Errorf("text: %q", got)
	}
	if n := len(get(t, f, "/requests?text=needle&source=shop&since=2026-01-01").all("tbody .idlink")); n != 1 {
		t.Errorf("%d of the shop", n)
	}
	if got := get(t, f, "/requests?text=nowhere&since=2026-01-01").text(".search-state"); !strings.Contains(got, "0 hits") {
		t.Errorf("nothing: %s", got)
	}
	// A search that takes long comes in parts, which go on where the one before ended.
	f.control.search = func(o admin.SearchOrder, report func(admin.SearchReport)) (admin.SearchProgress, error) {
		at := noon.Add(-time.Hour)
		report(admin.SearchReport{Item: &admin.Request{ID: ids[1], ReceivedAt: at}})
		next := "17@" + strconv.FormatInt(at.UnixMicro(), 10)
		return admin.SearchProgress{Looked: 10, Found: 1, LookedTo: &at, Next: next}, nil
	}
	d = get(t, f, "/requests?text=needle")
	next := attr(d.one("tr.search"), "hx-get")
	if !strings.HasPrefix(next, "/requests/found?cursor=17%40") || attr(d.one("progress"), "value") != "4" {
		t.Errorf("it goes on at %s, %s %%", next, attr(d.one("progress"), "value"))
	}
	if d = get(t, f, next); !strings.Contains(d.body, "20 bodies, 2 hits") || strings.Contains(d.body, "<html") {
		t.Errorf("the next part: %s", d.body)
	}
}
