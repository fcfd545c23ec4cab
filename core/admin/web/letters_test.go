package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

// renderer gives every delivery a message, but for those of the route "gone".
type renderer struct{}

func (renderer) Render(d *core.Delivery, _ *core.Request) {
	if d.Route == "gone" {
		d.State, d.Reason, d.RouteRange = core.DeliveryDead, `the configuration has no route "gone"`, "config.hcl:3,1"
		return
	}
	d.Message = []byte(`{"name":"new <b>"}`)
}

// newLetters is a site with two dead letters that can be rendered and one that cannot.
func newLetters(t *testing.T) (*fixture, []admin.Delivery) {
	t.Helper()
	f := newFixture(t)
	t.Cleanup(f.Close)
	f.control.Control = &admin.Direct{
		Store: f.store, Describe: func(s *admin.Status) { s.Running = true },
		Renderer: func(context.Context) (admin.Renderer, error) { return renderer{}, nil },
	}
	dead := func(route string) []madeDelivery {
		return []madeDelivery{{route: route, sink: "crm", message: `{"name":"old"}`, state: core.DeliveryDead, reason: "<i>no</i>"}}
	}
	f.add(t,
		received{source: "people", body: "1", events: []madeEvent{{kind: "x.a", subject: "s/1", data: "1", deliveries: dead("r")}}},
		received{source: "people", body: "2", events: []madeEvent{{kind: "x.a", subject: "s/2", data: "1", deliveries: dead("r")}}},
		received{source: "people", body: "3", events: []madeEvent{{kind: "x.b", subject: "s/3", data: "1", deliveries: dead("gone")}}},
	)
	return f, f.letters(t)
}

func (f *fixture) letters(t *testing.T) []admin.Delivery {
	t.Helper()
	p, err := f.control.Deliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryDead})
	if err != nil {
		t.Fatal(err)
	}
	return p.Items
}

func TestLetters(t *testing.T) {
	f, dead := newLetters(t)
	d := get(t, f, "/dead")
	if got := len(d.all("main tbody tr")); got != 3 || !strings.Contains(d.text("main tbody"), "<i>no</i>") {
		t.Errorf("%d dead letters: %s", got, d.text("main"))
	}
	for path, want := range map[string]int{
		"/dead?subject=s/2": 1, "/dead?type=x.*": 3, "/dead?route=gone&sink=crm": 1, "/dead?source=hr": 0,
		"/dead?since=2026-03-04+11:01": 2, "/dead?until=2026-03-04T11:01:00Z": 1, "/dead?since=30m": 0,
	} {
		if got := len(get(t, f, path).all("main tbody tr")); got != want {
			t.Errorf("%s: %d dead letters, want %d", path, got, want)
		}
	}
	for _, path := range []string{"/dead?since=yesterday", "/dead?state=pending", "/again?do=eat&sink=crm", "/again?do=retry&until=x"} {
		if d := get(t, f, path); d.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, d.status)
		}
	}
	// What the two forms ask for: the filter, and what is chosen.
	if form := d.one("form[action=/again]"); attr(form, "method") != "" {
		t.Error("a preview is posted")
	}
	if boxes := d.all("main tbody input[type=checkbox]"); len(boxes) != 3 || attr(boxes[0], "value") != dead[0].ID {
		t.Errorf("%d boxes", len(boxes))
	}
}

func TestManyLetters(t *testing.T) {
	f := newFixture(t)
	var many []madeEvent
	for range lettersPerPage + 1 {
		many = append(many, madeEvent{kind: "x.a", data: "1", deliveries: []madeDelivery{
			{route: "r", sink: "crm", message: "{}", state: core.DeliveryDead, reason: "no"},
		}}, madeEvent{kind: "x.b", data: "1"})
	}
	f.add(t, received{source: "people", body: "1", events: many})
	for range lettersPerPage + 1 {
		f.store.RecordRejection(core.Rejection{At: noon, Status: 404, Cause: "unknown_path", Method: "GET", Path: "/"})
	}
	for _, path := range []string{"/dead", "/unrouted", "/rejections"} {
		d := get(t, f, path)
		if n := len(d.all("main tbody tr")); n != lettersPerPage {
			t.Fatalf("%s: %d rows", path, n)
		}
		d = get(t, f, attr(d.one("a[rel=next]"), "href"))
		if n := len(d.all("main tbody tr")); n != 1 || attr(d.one(".pager a"), "href") != path {
			t.Errorf("%s: %d rows on the second page", path, n)
		}
	}
}

func TestPreview(t *testing.T) {
	f, dead := newLetters(t)
	d := get(t, f, "/again?do=replay&sink=crm&since=2026-03-04+10:00")
	if d.text("h1") != "Replay 3 deliveries?" || !slices.Equal(d.texts(".tally dd"), []string{"2", "1"}) {
		t.Errorf("%s: %q", d.text("h1"), d.texts(".tally dd"))
	}
	if got, want := d.texts("pre.diff .line"), []string{"{", `− "name": "old"`, `+ "name": "new <b>"`, "}"}; !slices.Equal(got[:4], want) {
		t.Errorf("the difference: %q", got)
	}
	if !strings.Contains(d.text(".reasons"), "config.hcl:3:1") {
		t.Errorf("why one cannot be sent: %s", d.text(".reasons"))
	}
	hidden := map[string]string{}
	for _, n := range d.all("form[method=post] input[type=hidden]") {
		hidden[attr(n, "name")] = attr(n, "value")
	}
	want := map[string]string{"do": "replay", "sink": "crm", "state": "dead", "since": "2026-03-04T10:00:00Z"}
	if diff := cmp.Diff(want, hidden); diff != "" {
		t.Errorf("what is posted: %s", diff)
	}
	if diff := cmp.Diff(dead, f.letters(t)); diff != "" {
		t.Errorf("a preview has changed something: %s", diff)
	}
	if d := get(t, f, "/again?do=retry&id="+dead[0].ID+"&id=unknown"); !strings.Contains(d.text(".reasons"), "there is no such delivery") {
		t.Errorf("by id: %s", d.text("main"))
	}
	if d := get(t, f, "/again?do=retry&sink=nobody"); !strings.Contains(d.text("main"), "Nothing fits") || len(d.all("form[method=post]")) > 0 {
		t.Errorf("nothing: %s", d.text("main"))
	}
}

func TestReplayFromThePage(t *testing.T) {
	f, _ := newLetters(t)
	d := post(t, f, "/again", url.Values{"do": {"replay"}, "sink": {"crm"}})
	to := d.header.Get("Location")
	if d.status != http.StatusSeeOther || !strings.HasPrefix(to, "/jobs/") {
		t.Fatalf("%d %s %s", d.status, to, d.body)
	}
	d = get(t, f, to)
	if got := d.texts(".tally dd"); !slices.Equal(got, []string{"2", "1"}) {
		t.Errorf("done and dead: %q", got)
	}
	if got := d.texts("main tbody tr"); len(got) != 4 || !strings.Contains(strings.Join(got, "\n"), "pending") { // one is a reason
		t.Errorf("%q", got)
	}
	if attr(d.one("#live"), "hx-get") != to+"/live" {
		t.Error("the page does not follow what waits")
	}
	if left := f.letters(t); len(left) != 1 || left[0].Route != "gone" {
		t.Errorf("%d dead letters are left", len(left))
	}
	if d := get(t, f, "/dead"); !strings.Contains(d.text("main ul"), "Replay of 3 deliveries") {
		t.Errorf("the page of dead letters does not tell of it: %s", d.text("main"))
	}
	for _, path := range []string{"/jobs/unknown", "/jobs/unknown/live"} {
		if d := get(t, f, path); d.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, d.status)
		}
	}
	if d := post(t, f, "/again", url.Values{"do": {"retry"}, "state": {"pending"}}); d.status != http.StatusBadRequest {
		t.Errorf("a state that waits by itself: %d", d.status)
	}
}

func TestSkip(t *testing.T) {
	f, dead := newLetters(t)
	path := "/deliveries/" + dead[0].ID
	if d := post(t, f, path+"/skip", url.Values{"reason": {"not needed"}}); d.header.Get("Location") != path {
		t.Errorf("%d %s", d.status, d.body)
	}
	if left := f.letters(t); len(left) != 2 {
		t.Errorf("%d dead letters are left", len(left))
	}
	if d := post(t, f, path+"/skip", url.Values{"reason": {"again"}}); d.status != http.StatusBadRequest {
		t.Errorf("the second time: %d", d.status)
	}
}

// slow is a Control whose retries end when they are told to.
type slow struct {
	admin.Control
	step chan int
}

func (c *slow) RetryDeliveries(ctx context.Context, _ admin.DeliveryOrder, report func(admin.Report)) (t admin.Tally, err error) {
	t.Selected = 10
	for {
		select {
		case n := <-c.step:
			if n < 0 {
				return t, errors.New("the disk is full")
			}
			t.Seen, t.Done = t.Seen+n, t.Done+n
			report(admin.Report{Progress: &t})
			if t.Seen == t.Selected {
				return t, nil
			}
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorks(time.Now)
		c := &slow{step: make(chan int)}
		begin := func() *work { return w.begin(c, order{}) }
		want := func(k *work, word string, seen int) {
			t.Helper()
			synctest.Wait()
			if s := k.state(); s.Word() != word || s.Tally.Seen != seen {
				t.Errorf("it is %s after %d, want %s after %d", s.Word(), s.Tally.Seen, word, seen)
			}
		}
		k := begin()
		c.step <- 4
		want(k, "under way", 4)
		c.step <- 6
		want(k, "done", 10)
		k = begin()
		c.step <- 3
		k.cancel()
		want(k, "stopped", 3)
		k = begin()
		c.step <- 2
		c.step <- -1
		want(k, "failed", 2)
		if s := k.state(); s.Failure != "the disk is full" {
			t.Errorf("failure: %s", s.Failure)
		}
		// What goes on is remembered, however much comes after it.
		first := begin()
		for range 2 * keptWork {
			begin().cancel()
			synctest.Wait()
		}
		if n := len(w.list()); n != keptWork || w.find(first.ID) != first {
			t.Errorf("%d are remembered", n)
		}
		w.close()
		want(first, "stopped", 0)
	})
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		was, now string
		want     []diffLine
	}{
		{"a\nb\nc", "a\nx\nc", []diffLine{{"", "a"}, {"−", "b"}, {"+", "x"}, {"", "c"}}},
		{"a", "a\nb", []diffLine{{"", "a"}, {"+", "b"}}},
		{"a\nb", "b", []diffLine{{"−", "a"}, {"", "b"}}},
		{"1\n2\n3\n4\n5\n6", "1\n2\n3\n4\n5\nx", []diffLine{{"", "…"}, {"", "3"}, {"", "4"}, {"", "5"}, {"−", "6"}, {"+", "x"}}},
	} {
		if d := cmp.Diff(c.want, diff(c.was, c.now)); d != "" {
			t.Errorf("%q to %q: %s", c.was, c.now, d)
		}
	}
	long := strings.Repeat("x\n", 5*mostDiffLines)
	if n := len(diff(long, "y")); n != mostDiffLines+1 {
		t.Errorf("%d lines", n)
	}
}

func FuzzDiff(f *testing.F) {
	f.Add("a\nb", "b\nc")
	f.Add("", "\n\n")
	f.Fuzz(func(t *testing.T, was, now string) {
		lines := diff(was, now)
		gone, came := strings.Split(was, "\n"), strings.Split(now, "\n")
		for _, l := range lines {
			switch {
			case l.Sign == "−" && !slices.Contains(gone, l.Text), l.Sign == "+" && !slices.Contains(came, l.Text):
				t.Errorf("%+v is in neither text", l)
			}
		}
	})
}

func TestWhen(t *testing.T) {
	for text, want := range map[string]time.Time{
		"":                          {},
		"2026-03-04 10:00":          noon.Add(-2 * time.Hour),
		"2026-03-04T10:00":          noon.Add(-2 * time.Hour),
		"2026-03-04T11:00:00+01:00": noon.Add(-2 * time.Hour),
		"2026-03-04":                noon.Add(-12 * time.Hour),
		"90m":                       noon.Add(-90 * time.Minute),
		" 3d ":                      noon.Add(-72 * time.Hour),
	} {
		if got, err := when(text, noon); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"-2h", "x", "9999999999d", "2026-13-01"} {
		if got, err := when(text, noon); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
