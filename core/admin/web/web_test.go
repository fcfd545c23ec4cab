package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the time of all tests.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// control is a Control on a real store, of which a test changes what it wants.
type control struct {
	admin.Control
	status func(*admin.Status)
	rates  *admin.Rates
	search func(admin.SearchOrder, func(admin.SearchReport)) (admin.SearchProgress, error)
	err    error
}

func (c *control) Status(ctx context.Context) (admin.Status, error) {
	if c.err != nil {
		return admin.Status{}, c.err
	}
	s, err := c.Control.Status(ctx)
	if c.status != nil {
		c.status(&s)
	}
	return s, err
}

// SearchRequests implements admin.Control.
func (c *control) SearchRequests(
	ctx context.Context, o admin.SearchOrder, report func(admin.SearchReport),
) (admin.SearchProgress, error) {
	if c.search != nil {
		return c.search(o, report)
	}
	return c.Control.SearchRequests(ctx, o, report)
}

// fixture is a site on a store.
type fixture struct {
	*Site
	control *control
	store   store.Store
}

// direct is the Control below.
func (f *fixture) direct() *admin.Direct { return f.control.Control.(*admin.Direct) }

// newFixture makes a site on an empty store.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "grapnel.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &control{Control: &admin.Direct{Store: st, Describe: func(s *admin.Status) { s.Running = true }}}
	site, err := New(Options{Control: c, Version: "1.2.3", Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{site, c, st}
}

// received is a request to store.
type received struct {
	source, tenant string
	at             time.Time
	body           string
	headers        []sdk.Header
	dead           string // the reason of the decoder
	waits          bool   // it is not routed yet
	events         []madeEvent
}

type madeEvent struct {
	kind, subject, data, changes string
	deliveries                   []madeDelivery
}

type madeDelivery struct {
	route, sink, message, key string
	attempts                  []core.Attempt // the last one decides; none: it waits
	state                     core.DeliveryState
	reason                    string
}

// add stores requests as a host would, and returns their ids.
func (f *fixture) add(t *testing.T, rs ...received) (ids []string) {
	t.Helper()
	ctx := t.Context()
	for i, in := range rs {
		if in.at.IsZero() {
			in.at = noon.Add(-time.Hour).Add(time.Duration(i) * time.Minute)
		}
		r := &core.Request{
			Dedupe: core.NewDedupeKey(in.source, []byte(in.body), fmt.Append(nil, in.at, i)), Source: in.source, Tenant: in.tenant,
			ReceivedAt: in.at, RemoteAddr: "192.0.2.1", Method: "POST", Headers: in.headers, Body: []byte(in.body),
		}
		if _, err := f.store.Accept(ctx, r); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID())
		if in.waits {
			continue
		}
		d := &store.Decision{Request: r, Dead: in.dead}
		var settled []store.Settlement
		for e, ev := range in.events {
			made := core.Event{
				Envelope: sdk.Envelope{
					ID: core.EventID(r.Dedupe, r.Repeat, e), Source: "urn:grapnel:source:" + in.source, Type: ev.kind,
					Subject: ev.subject, Time: in.at.Format(time.RFC3339), Provider: "x", Tenant: in.tenant,
				},
				RequestSeq: r.Seq, Index: e, Data: []byte(ev.data), DataOffset: -1,
			}
			if ev.changes != "" {
				made.Changes = []byte(ev.changes)
			}
			d.Events = append(d.Events, made)
			for n, dl := range ev.deliveries {
				key := core.NewDeliveryKey(r.Seq, e, n)
				state := core.DeliveryPending
				if dl.state == core.DeliveryDead && len(dl.attempts) == 0 {
					state = dl.state
				}
				d.Deliveries = append(d.Deliveries, &core.Delivery{
					Key: key, ID: core.DeliveryID(made.ID, dl.route, dl.sink, 0), Route: dl.route, Sink: dl.sink, OrderKey: dl.key,
					Message: []byte(dl.message), State: state, Reason: dl.reason, Due: in.at, Event: &made,
				})
				lease := store.NoLease
				if len(dl.attempts) > 0 {
					lease = store.LeaseAlways
				}
				d.Lease = append(d.Lease, lease)
				for a := range dl.attempts {
					s := store.Settlement{Key: key, State: core.DeliveryPending, Due: in.at, Attempt: &dl.attempts[a], Charge: true,
						Reason: dl.attempts[a].Reason}
					if a == len(dl.attempts)-1 && dl.state != "" {
						s.State, s.Reason = dl.state, dl.reason
					}
					settled = append(settled, s)
				}
			}
		}
		if err := f.store.Route(ctx, []*store.Decision{d}); err != nil {
			t.Fatal(err)
		}
		for i, s := range settled {
			if i > 0 && settled[i-1].Key == s.Key { // it was given back
				if _, _, err := f.store.ClaimDeliveries(ctx, in.events[0].deliveries[0].sink, noon, 10, false); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.store.Settle(ctx, []store.Settlement{s}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return ids
}

func TestFrame(t *testing.T) {
	f := newFixture(t)
	d := get(t, f, "/")
	if d.status != http.StatusOK || d.text("h1") != "Overview" || d.text("title") != "Overview · Grapnel" {
		t.Errorf("status %d, %s, %s", d.status, d.text("h1"), d.text("title"))
	}
	if diff := cmp.Diff([]string{"Overview"}, d.texts("nav.places a[aria-current]")); diff != "" {
		t.Errorf("the current place: %s", diff)
	}
	if first := d.all("body a")[0]; attr(first, "href") != "#main" || attr(d.one("main"), "id") != "main" {
		t.Error("the first link does not skip to the content")
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": policy, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := d.header.Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if !strings.Contains(d.text("footer"), "Grapnel 1.2.3") {
		t.Errorf("footer: %s", d.text("footer"))
	}
}

func TestEveryPlaceIsThere(t *testing.T) {
	f := newFixture(t)
	keys := map[string]bool{}
	for _, n := range get(t, f, "/").all("nav.places a") {
		if d := get(t, f, attr(n, "href")); d.status != http.StatusOK || d.text("main h1") == "" {
			t.Errorf("%s: %d", attr(n, "href"), d.status)
		}
		if k := attr(n, "data-key"); k != "" && keys[k] {
			t.Errorf("key %s twice", k)
		} else {
			keys[k] = true
		}
	}
}

func TestAssets(t *testing.T) {
	f := newFixture(t)
	page := get(t, f, "/")
	for _, path := range []string{
		attr(page.one("link[rel=stylesheet]"), "href"), attr(page.one("link[rel=icon]"), "href"), attr(page.one("script"), "src"),
	} {
		d := get(t, f, path)
		if d.status != http.StatusOK || len(d.body) == 0 || !strings.Contains(d.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %v", path, d.status, d.header)
		}
	}
	for _, path := range []string{"/assets/app.css", "/assets/app.000000000000.css", "/assets/..%2fapp.css", "/assets/"} {
		if d := get(t, f, path); d.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, d.status)
		}
	}
}

func TestTheme(t *testing.T) {
	f := newFixture(t)
	for value, want := range map[string]string{"dark": "dark", "light": "light", "dark<script>": "", "": ""} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: "theme", Value: value})
		if got := attr(answer(t, f, r).one("html"), "data-theme"); got != want {
			t.Errorf("cookie %q: theme %q", value, got)
		}
	}
}

func TestErrors(t *testing.T) {
	f := newFixture(t)
	d := get(t, f, "/nothing<script>alert(1)</script>")
	if d.status != http.StatusNotFound || !strings.Contains(d.text("main"), "/nothing<script>alert(1)</script>") {
		t.Errorf("%d %s", d.status, d.text("main"))
	}
	f.control.err = errors.New("the disk is <b>gone</b>")
	if d := get(t, f, "/"); d.status != http.StatusInternalServerError || !strings.Contains(d.text("main"), "the disk is <b>gone</b>") {
		t.Errorf("%d %s", d.status, d.text("main"))
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/overview/live", nil)
	r.Header.Set("HX-Request", "true")
	if d := answer(t, f, r); d.status != http.StatusInternalServerError || d.root != nil {
		t.Errorf("a part that fails is a page: %s", d.body)
	}
}

func TestFuncs(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "now", -500 * time.Millisecond: "now", 5 * time.Second: "5 s ago", 90 * time.Second: "1 min ago",
		-90 * time.Minute: "in 1 h 30 min", 47 * time.Hour: "47 h ago", 50 * time.Hour: "2 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%s) = %q, want %q", d, got, want)
		}
	}
	for _, c := range [][2]string{
		{count(1234), "1234"}, {count(int64(-1234567)), "-1\u202f234\u202f567"}, {bytesText(1023), "1023 B"},
		{bytesText(int64(5 << 20)), "5.0 MiB"}, {plural(1, "delivery"), "1 delivery"}, {plural(2, "delivery"), "2 deliveries"},
		{plural(0, "key"), "0 keys"}, {cut(4, "abcdef"), "abc…"}, {cut(4, "ab\xff"), "ab�"}, {rate(0), "0/s"},
		{rate(0.05), "3.0/min"}, {rate(2.34), "2.3/s"}, {millis(0.5), "0.50 ms"}, {millis(61_000), "1 min"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}
