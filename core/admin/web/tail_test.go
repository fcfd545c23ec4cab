package web

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

// event is a server-sent event with the piece of the page that it brings.
type event struct {
	name, id string
	piece    *html.Node
}

// listen reads a stream of the tail until the test ends.
func listen(t *testing.T, f *fixture, path string) <-chan event {
	t.Helper()
	srv := httptest.NewServer(f)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	got := res.Header.Get("Content-Type")
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("%d %s", res.StatusCode, got)
	}
	events, done := make(chan event), make(chan struct{})
	go func() {
		defer close(done)
		var e event
		var data strings.Builder
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				data.WriteString(value + "\n")
			case "":
				if e.name == "" { // a sign of life
					continue
				}
				if e.piece, err = html.Parse(strings.NewReader(data.String())); err != nil {
					t.Error(err)
				}
				select {
				case events <- e:
				case <-ctx.Done():
					return
				}
				e = event{}
				data.Reset()
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = res.Body.Close()
		<-done
		srv.Close()
	})
	return events
}

// await returns the next event, which has to have a name.
func await(t *testing.T, events <-chan event, name string) event {
	t.Helper()
	select {
	case e := <-events:
		if e.name != name {
			t.Fatalf("event %q, want %q", e.name, name)
		}
		return e
	case <-time.After(time.Minute):
		t.Fatalf("no event %q", name)
	}
	return event{}
}

func TestTail(t *testing.T) {
	f := newFixture(t)
	tail := admin.NewTail()
	f.direct().Changes = tail
	f.store = tail.Store(f.store)
	f.add(t, received{source: "people", body: "1", waits: true}, received{source: "shop", body: "2", waits: true})

	d := get(t, f, "/tail?source=people")
	if n := d.all(".tail-row"); len(n) != 1 || !strings.Contains(text(n[0]), "people") {
		t.Errorf("rows at first: %q", d.texts(".tail-row"))
	}
	if got := attr(d.one("[data-tail]"), "data-tail"); got != "/tail/stream?source=people" {
		t.Errorf("stream: %s", got)
	}
	events := listen(t, f, "/tail/stream?source=people")
	if e := await(t, events, "ready"); e.id == "" {
		t.Error("the beginning has no id")
	}
	await(t, events, "before")
	f.store.RecordRejection(core.Rejection{At: noon, Source: "shop", Status: 401, Cause: "bad_signature"})
	f.store.RecordRejection(core.Rejection{
		At: noon, Source: "people", Status: 401, Cause: "bad_signature", Path: "/hooks/<b>",
	})
	e := await(t, events, "rejection")
	got := (doc{t: t, root: e.piece}).text(".tail-head")
	if !strings.Contains(got, "✕ rejected people 401 Unauthorized, bad_signature") || !strings.Contains(got, "/hooks/<b>") {
		t.Errorf("rejection: %s", got)
	}
	ids := f.add(t, received{source: "people", body: "3\n<script>", events: []madeEvent{{
		kind: "x.\n<i>", data: "1", deliveries: []madeDelivery{
			{route: "r", sink: "s", message: "{}", state: core.DeliveryDead, reason: "no"},
		},
	}}})
	e = await(t, events, "request")
	row := doc{t: t, root: e.piece}
	if attr(row.one(".tail-row"), "data-key") != ids[0] || !strings.Contains(row.text(".tail-row"), "✓ routed people") {
		t.Errorf("request: %s", row.text(".tail-row"))
	}
	e = await(t, events, "delivery")
	made := doc{t: t, root: e.piece}
	if attr(made.one("li"), "data-of") != ids[0] || !strings.Contains(made.text("li"), "✕ dead x. <i> r → s no") {
		t.Errorf("delivery: %s", made.text("li"))
	}
}

func TestTailWithoutAHost(t *testing.T) {
	f := newFixture(t)
	f.control.status = func(s *admin.Status) { s.Running = false }
	d := get(t, f, "/tail")
	if !strings.Contains(d.text("main"), "No host runs") || attr(d.one("[data-tail]"), "data-tail") != "" {
		t.Errorf("%s", d.text("main"))
	}
	if d := get(t, f, "/tail/stream"); d.status != http.StatusServiceUnavailable {
		t.Errorf("the stream: %d", d.status)
	}
}

func TestTailLeavesOutWhatNobodyReads(t *testing.T) {
	now := noon
	l := &tailLimit{now: func() time.Time { return now }}
	l.passed()
	for i := range tailPace + 5 {
		if got := l.room(string(rune('a' + i))); got != (i < tailPace) {
			t.Fatalf("request %d: %v", i, got)
		}
	}
	if last := string(rune('a' + tailPace)); !l.left(last) || l.left("a") {
		t.Error("deliveries of what is not there are shown, or others are not")
	}
	if n := l.passed(); n != 0 {
		t.Errorf("%d told of before the second is over", n)
	}
	now = now.Add(time.Second)
	if n := l.passed(); n != 5 || !l.room("new") {
		t.Errorf("%d left out", n)
	}
}
