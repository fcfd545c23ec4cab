//go:build unix

package sqlite

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// BenchmarkMillion asks for the first pages of lists over a million requests, and for how they go on: each answer is to
// come within 300 ms. GRAPNEL_MILLION_DIR names the folder of the database, which the first run makes (3 GB, minutes)
// and others find; without it there is no benchmark. GRAPNEL_MILLION says how many requests there are.
//
//	GRAPNEL_MILLION_DIR=/var/tmp/million go test ./core/store/sqlite -run '^$' -bench Million -benchtime 1x
func BenchmarkMillion(b *testing.B) {
	dir := os.Getenv("GRAPNEL_MILLION_DIR")
	if dir == "" {
		return
	}
	total := 1_000_000
	if v := os.Getenv("GRAPNEL_MILLION"); v != "" {
		if _, err := fmt.Sscan(v, &total); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(dir, "grapnel.db")
	if _, err := os.Stat(path); err != nil {
		seed(b, path, total)
	}
	began := time.Now()
	s, err := Open(b.Context(), Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.Logf("opened within %v", time.Since(began))
	stats, err := s.Stats(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d requests, %d MB, %v", stats.Requests[core.RequestRouted], stats.SizeBytes>>20, stats.Deliveries)
	at := func(share float64) time.Time { return seedTime(int(share*float64(total)), total) }
	m := &million{b, s}

	m.requests(store.RequestFilter{})
	for _, source := range []string{"people", "lynx", "gone", "absent"} {
		m.requests(store.RequestFilter{Source: source})
		m.requests(store.RequestFilter{Source: source, State: core.RequestRouted})
		m.requests(store.RequestFilter{Source: source, State: core.RequestDead})
		m.requests(store.RequestFilter{Source: source, State: core.RequestReceived})
		m.requests(store.RequestFilter{Source: source, Unrouted: true})
		m.requests(store.RequestFilter{Source: source, Since: at(.2), Until: at(.8)})
	}
	m.requests(store.RequestFilter{State: core.RequestRouted})
	m.requests(store.RequestFilter{State: core.RequestDead})
	m.requests(store.RequestFilter{State: core.RequestReceived})
	m.requests(store.RequestFilter{Unrouted: true})
	m.requests(store.RequestFilter{Unrouted: true, State: core.RequestDead})
	m.requests(store.RequestFilter{Since: at(.5), Until: at(.5001)})
	m.requests(store.RequestFilter{Until: at(.0001)})
	m.requests(store.RequestFilter{Since: at(2)})

	for _, f := range []store.EventFilter{
		{}, {Source: "lynx"}, {Source: "gone"}, {Source: "absent"}, {Type: "people.employee.updated"},
		{Type: "people.employee.rare"}, {Type: "absent"}, {Type: "people.*"}, {Type: "*.rare"}, {Type: "gone.*"},
		{Type: "absent.*"}, {Subject: "employee/77"}, {Subject: "gone/1"}, {Subject: "absent"}, {Tenant: "acme"},
		{Tenant: "gone"}, {Tenant: "absent"}, {Source: "people", Tenant: "gone"}, {Unrouted: true},
		{Unrouted: true, Source: "gone"}, {Unrouted: true, Source: "absent"}, {Unrouted: true, Type: "people.employee.rare"},
		{Unrouted: true, Type: "people.*"}, {Unrouted: true, Subject: "absent"}, {Since: at(.5), Until: at(.6), Type: "absent"},
		{Since: at(.5), Until: at(.6), Type: "*.rare"}, {Type: "lynx.job.changed", Tenant: "acme"},
	} {
		m.events(f)
	}

	for _, state := range []core.DeliveryState{
		"", core.DeliveryPending, core.DeliveryDelivered, core.DeliverySkipped, core.DeliveryDead,
	} {
		for _, f := range []store.DeliveryFilter{
			{}, {Source: "lynx"}, {Source: "gone"}, {Source: "absent"}, {Type: "people.employee.updated"},
			{Type: "people.employee.rare"}, {Type: "absent"}, {Type: "*.rare"}, {Type: "gone.*"}, {Subject: "employee/77"},
			{Subject: "gone/1"}, {Subject: "absent"}, {Tenant: "acme"}, {Tenant: "gone"}, {Route: "hires"}, {Route: "gone"},
			{Route: "absent"}, {Sink: "crm"}, {Sink: "slack"}, {Sink: "gone"}, {Sink: "absent"}, {Sink: "slack", Route: "everything"},
			{Sink: "crm", Source: "lynx"}, {Sink: "slack", Type: "people.employee.rare"}, {Since: at(.2), Until: at(.9), Sink: "gone"},
			{Since: at(.3), Until: at(.31)}, {Until: at(.0005), Sink: "crm"}, {Since: at(2)},
		} {
			f.State = state
			m.deliveries(f)
		}
	}
	for _, f := range []store.RejectionFilter{{}, {Source: "people"}, {Source: "absent"}, {Cause: "bad_signature"}, {Cause: "absent"}} {
		m.rejections(f)
	}
	for text, f := range map[string]store.RequestFilter{
		"absent": {}, "Ada": {Since: at(.99)}, `"id":77777,`: {}, "absent of the source": {Source: "gone"},
	} {
		m.page("search "+text, func(cursor string) (int, string, error) {
			f.Cursor = cursor
			rs, _, next, err := s.SearchRequests(context.Background(), f, store.NewText(text))
			return len(rs), next, err
		})
	}
	m.page("stats", func(string) (int, string, error) {
		_, err := s.Stats(context.Background())
		return 0, "", err
	})
}

// slowest is how long an answer may take.
const slowest = 300 * time.Millisecond

type million struct {
	*testing.B
	s *Store
}

func (m *million) requests(f store.RequestFilter) {
	m.page(fmt.Sprintf("requests %+v", f), func(cursor string) (int, string, error) {
		f.Cursor = cursor
		rs, next, err := m.s.ListRequests(context.Background(), f)
		return len(rs), next, err
	})
}

func (m *million) events(f store.EventFilter) {
	m.page(fmt.Sprintf("events %+v", f), func(cursor string) (int, string, error) {
		f.Cursor = cursor
		es, next, err := m.s.ListEvents(context.Background(), f)
		return len(es), next, err
	})
}

func (m *million) deliveries(f store.DeliveryFilter) {
	m.page(fmt.Sprintf("deliveries %+v", f), func(cursor string) (int, string, error) {
		f.Cursor = cursor
		ds, next, err := m.s.ListDeliveries(context.Background(), f)
		return len(ds), next, err
	})
}

func (m *million) rejections(f store.RejectionFilter) {
	m.page(fmt.Sprintf("rejections %+v", f), func(cursor string) (int, string, error) {
		f.Cursor = cursor
		rs, next, err := m.s.ListRejections(context.Background(), f)
		return len(rs), next, err
	})
}

// page reads some pages of a list and tells how long the first one took, the slowest, and how many there were until one
// was full or the list ended.
func (m *million) page(name string, read func(cursor string) (int, string, error)) {
	name = strings.NewReplacer("Source: ", " ", "0001-01-01 00:00:00 +0000 UTC", "-", " +0000 UTC", "").Replace(name)
	const pages = 5
	var first, worst, found time.Duration
	rows, cursor, empty := 0, "", 0
	for i := 0; i < pages || rows == 0 && i < 1000; i++ {
		began := time.Now()
		n, next, err := read(cursor)
		took := time.Since(began)
		if err != nil {
			m.Fatal(name, err)
		}
		if i == 0 {
			first = took
		}
		if rows == 0 {
			found += took
		}
		if n == 0 && next != "" {
			empty++
		}
		worst, rows = max(worst, took), rows+n
		if cursor = next; next == "" {
			break
		}
	}
	verdict := ""
	if worst > slowest {
		verdict = "  SLOW"
		m.Fail()
	}
	fmt.Printf("first %6.1f ms  worst %6.1f ms  found after %7.1f ms  %3d empty  %4d rows  %s%s\n",
		first.Seconds()*1e3, worst.Seconds()*1e3, found.Seconds()*1e3, empty, rows, name, verdict)
}

// seedTime is when the i-th request of a seeded database is received: they come evenly over 30 days, up to today.
func seedTime(i, total int) time.Time {
	end := time.Now().Truncate(24 * time.Hour)
	return end.Add(-30 * 24 * time.Hour / time.Duration(total) * time.Duration(total-i))
}

// seed makes a database through the store's own operations, many to a transaction.
func seed(b testing.TB, path string, total int) {
	s, err := Open(b.Context(), Options{Path: path, DedupeWindow: 100 * 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	const group = 256
	for i := 0; i < total; i += group {
		err := s.do(b.Context(), &op{weight: groupWeight, apply: func(w *writer) error {
			for n := i; n < min(i+group, total); n++ {
				if err := seedOne(w, n, total); err != nil {
					return err
				}
			}
			return nil
		}})
		for range 4 { // between groups dedupe keys move into their table
			if err == nil {
				err = s.do(b.Context(), &op{apply: func(*writer) error { return nil }})
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range keptRejections + purgeRejections/2 {
		s.RecordRejection(core.Rejection{
			At: seedTime(total-keptRejections+i, total), Source: "people", Status: 401, Cause: "bad_signature",
			RemoteAddr: "203.0.113.7", Method: "POST", Path: "/hooks/people",
		})
		if i%heldRejections == 0 {
			if err := s.flushRejections(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// TestShortPages reads lists with no time at all, so that each page ends as soon as it can, and with all the time they
// want: they are the same, and what a look at each row finds.
func TestShortPages(t *testing.T) {
	const total = 5000 // two stretches
	path := filepath.Join(t.TempDir(), "grapnel.db")
	seed(t, path, total)
	hasty := open(t, Options{Path: path, listTime: time.Nanosecond})
	all := allPages(t, func(cursor string) ([]*core.Delivery, string, error) {
		return hasty.ListDeliveries(t.Context(), store.DeliveryFilter{Cursor: cursor, Limit: 1000})
	})
	is := func(want, got string) bool { return want == "" || want == got }
	for _, f := range []store.DeliveryFilter{
		{Sink: "slack"}, {Sink: "gone"}, {Route: "hires", State: core.DeliveryDead}, {State: core.DeliverySkipped},
		{State: core.DeliveryPending}, {State: core.DeliveryPending, Sink: "slack"}, {Subject: "employee/29190"}, {Tenant: "globex"},
		{Type: "gone.*"}, {Type: "*.rare", State: core.DeliveryDelivered}, {Type: "hr.employee.created", Sink: "crm"},
		{Source: "lynx"}, {Source: "people", State: core.DeliveryDead}, {Since: seedTime(3000, total), Until: seedTime(3100, total)},
	} {
		source := func(d *core.Delivery) string { return strings.TrimPrefix(d.Event.Source, sourceURN) }
		var want []core.DeliveryKey
		for _, d := range all {
			kind, err := filepath.Match(f.Type, d.Event.Type)
			if is(f.Sink, d.Sink) && is(f.Route, d.Route) && is(string(f.State), string(d.State)) && is(f.Subject, d.Event.Subject) &&
				is(f.Tenant, d.Event.Tenant) && (f.Type == "" || kind && err == nil) && is(f.Source, source(d)) &&
				!d.ReceivedAt.Before(f.Since) && (f.Until.IsZero() || d.ReceivedAt.Before(f.Until)) {
				want = append(want, d.Key)
			}
		}
		for _, limit := range []int{150} {
			var got []core.DeliveryKey
			for _, d := range allPages(t, func(cursor string) ([]*core.Delivery, string, error) {
				f.Cursor, f.Limit = cursor, limit
				return hasty.ListDeliveries(t.Context(), f)
			}) {
				got = append(got, d.Key)
			}
			if !slices.Equal(got, want) || len(got) == 0 {
				t.Errorf("%+v: %d deliveries, want %d", f, len(got), len(want))
			}
		}
	}
	events := func(f store.EventFilter) (n int) {
		seen := map[string]bool{}
		for _, e := range allPages(t, func(cursor string) ([]store.ListedEvent, string, error) {
			f.Cursor, f.Limit = cursor, 97
			return hasty.ListEvents(t.Context(), f)
		}) {
			if seen[e.Event.ID] {
				t.Errorf("%+v: event %s is listed twice", f, e.Event.ID)
			}
			seen[e.Event.ID] = true
		}
		return len(seen)
	}
	requests := func(f store.RequestFilter) (n int) {
		return len(allPages(t, func(cursor string) ([]*core.Request, string, error) {
			f.Cursor, f.Limit = cursor, 97
			return hasty.ListRequests(t.Context(), f)
		}))
	}
	for name, ask := range map[string]func() int{
		"SELECT count(*) FROM events": func() int { return events(store.EventFilter{}) },
		"SELECT count(*) FROM events AS e WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE key >> 12 = e.key)": func() int {
			return events(store.EventFilter{Unrouted: true})
		},
		"SELECT count(*) FROM events WHERE type LIKE 'lynx.%'": func() int { return events(store.EventFilter{Type: "lynx.*"}) },
		"SELECT count(*) FROM requests WHERE source = 'gone'":  func() int { return requests(store.RequestFilter{Source: "gone"}) },
		"SELECT count(*) FROM requests WHERE tenant = 'globex' AND state = 'routed'": func() int {
			return requests(store.RequestFilter{Tenant: "globex", State: core.RequestRouted})
		},
		"SELECT count(*) FROM requests WHERE state = 'received'": func() int {
			return requests(store.RequestFilter{State: core.RequestReceived})
		},
		"SELECT count(*) FROM requests WHERE state = 'dead'": func() int {
			return requests(store.RequestFilter{State: core.RequestDead})
		},
		"SELECT count(DISTINCT key >> 12) FROM events WHERE subject = 'gone/0'": func() int {
			return requests(store.RequestFilter{Subject: "gone/0"})
		},
	} {
		want := 0
		if err := hasty.read(t.Context(), func(c *conn) error {
			st, err := c.stmt(name)
			if err != nil {
				return err
			}
			_, err = st.row(func() { want = st.ColumnInt(0) })
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got := ask(); got != want || want == 0 {
			t.Errorf("%s: %d, listed %d", name, want, got)
		}
	}
	looked := 0
	found := allPages(t, func(cursor string) ([]*core.Request, string, error) {
		rs, n, next, err := hasty.SearchRequests(t.Context(), store.RequestFilter{Cursor: cursor, Since: seedTime(total-200, total)},
			store.NewText(`"ID":49`))
		looked += n
		return rs, next, err
	})
	if len(found) != 100 || looked != 200 {
		t.Errorf("a search found %d in %d requests", len(found), looked)
	}
	closeStore(t, hasty)
	verify(t, path)
}

// allPages reads a list to its end. Of pages that come back short it checks that they say how far they looked.
func allPages[T any](t *testing.T, read func(cursor string) ([]T, string, error)) (all []T) {
	t.Helper()
	before := time.Time{}
	for cursor := ""; ; {
		page, next, err := read(cursor)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		looked := store.Looked(next)
		if len(page) == 0 && looked.IsZero() || !before.IsZero() && looked.After(before) {
			t.Fatalf("a page of %d: it looked to %v, after %v", len(page), looked, before)
		}
		if cursor = next; !looked.IsZero() {
			before = looked
		}
	}
}

func seedOne(w *writer, n, total int) error {
	at, old := seedTime(n, total), n < total/500
	body := fmt.Appendf(nil, `{"id":%d,"action":"employee_updated","data":{"attributes":{"first_name":"Ada","about":%q}}}`,
		n, strings.Repeat("text ", 60+n%80))
	r := &core.Request{
		Source: "people", Tenant: "acme", ReceivedAt: at, RemoteAddr: "203.0.113.7", Method: "POST", Body: body,
		Headers: []sdk.Header{{Name: "content-type", Value: "application/json"}, {Name: "x-event", Value: "updated"}},
	}
	kind, subject := []string{"created", "updated", "deleted", "promoted"}[n%4], fmt.Sprintf("employee/%d", n*7919%50_000)
	switch {
	case old && n%10 == 0:
		r.Source, r.Tenant, subject = "gone", "gone", fmt.Sprintf("gone/%d", n%100)
	case n%3 == 1:
		r.Source = "hr"
	case n%20 == 3:
		r.Source, r.Tenant = "lynx", "globex"
	}
	if n%(total/10) == 17 {
		kind = "rare"
	}
	r.Dedupe = core.NewDedupeKey(r.Source, binary.BigEndian.AppendUint64(nil, uint64(n)))
	if err := w.insert(r, 0); err != nil {
		return err
	}
	switch {
	case n >= total-300: // to be decoded
		return nil
	case n%2000 == 5:
		return w.route(&store.Decision{Request: r, Dead: "the decoder refuses it: no such field"}, at.UnixMicro())
	}
	d := &store.Decision{Request: r}
	events := 1
	if n%50 == 9 {
		events = 8
	}
	for i := range events {
		e := core.Event{
			RequestSeq: r.Seq, Index: i, Data: body, DataOffset: 0,
			Envelope: sdk.Envelope{
				ID: core.EventID(r.Dedupe, 0, i), Source: sourceURN + r.Source, Type: r.Source + ".employee." + kind,
				Subject: subject, Time: at.Format(time.RFC3339), Provider: r.Source, PartitionKey: subject, Operation: kind,
				Tenant: r.Tenant,
			},
		}
		if n%30 == 8 {
			d.Events = append(d.Events, e)
			continue
		}
		sinks := []string{"audit"}
		switch {
		case n%10 == 2:
			sinks = append(sinks, "slack")
		case n%2 == 0:
			sinks = append(sinks, "crm")
		}
		if r.Source == "gone" {
			sinks = append(sinks, "gone")
		}
		for j, sink := range sinks {
			dl := &core.Delivery{
				Key: core.NewDeliveryKey(r.Seq, i, j), Route: "everything", Sink: sink, State: core.DeliveryDelivered,
				OrderKey: subject, SettledAt: at.Add(time.Second), Message: fmt.Appendf(nil, `{"text":%q}`, strings.Repeat("m", 250)),
				ConfigDigest: strings.Repeat("c", 64), SchemaDigest: strings.Repeat("s", 64), Event: &e, Attempts: 1,
			}
			if sink == "crm" || sink == "gone" {
				if dl.Route = "hires"; sink == "gone" {
					dl.Route = "gone"
				}
			}
			switch {
			case sink == "crm" && n > total-total/200, sink == "slack" && n > total/2 && n < total*9/10 && n%100 == 52:
				dl.State = core.DeliveryPending
			case n%500 == 6:
				dl.State, dl.Reason = core.DeliveryDead, "404 not found"
			case old && n%100 == 7:
				dl.State, dl.Reason = core.DeliverySkipped, "stale"
			}
			d.Deliveries = append(d.Deliveries, dl)
		}
		d.Events = append(d.Events, e)
	}
	return w.route(d, at.UnixMicro())
}
