package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fill sets every field of a struct to something of its own.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case f.Type() == reflect.TypeFor[time.Time]():
			f.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 6000+i, time.UTC)))
		case f.Kind() == reflect.String:
			f.SetString(name + " & ü=%?")
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.Kind() == reflect.Int:
			f.SetInt(int64(100 + i))
		default:
			t.Fatalf("fill does not know the kind of field %s", name)
		}
	}
}

func roundTrip[F any](t *testing.T, fields func(*F) []field) {
	t.Helper()
	var full, empty, got F
	if q := format(fields(&empty)); q != "" {
		t.Errorf("an empty %T travels as %q", empty, q)
	}
	fill(t, reflect.ValueOf(&full).Elem())
	q, err := url.ParseQuery(format(fields(&full)))
	if err != nil {
		t.Fatal(err)
	}
	if err := parse(q, fields(&got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, got); diff != "" {
		t.Errorf("a %T does not travel whole (-sent +received):\n%s", full, diff)
	}
}

func TestFiltersTravelWhole(t *testing.T) {
	roundTrip(t, requestFields)
	roundTrip(t, eventFields)
	roundTrip(t, deliveryFields)
	roundTrip(t, rejectionFields)
}

// served is a control API on a socket and the same operations without one.
type served struct {
	client *Client
	direct *Direct
	http   *http.Client
	told   *[]string // what the engine was
}

// serve stores three requests, one of each state, with deliveries of each state, and three rejections.
func serve(t *testing.T, dataDir string) served {
	t.Helper()
	ctx := t.Context()
	st, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(dataDir, "grapnel.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	var decisions []*store.Decision
	for i, source := range []string{"people", "people", "hr"} {
		r := &core.Request{
			Dedupe: core.NewDedupeKey(source, []byte{byte(i)}), Source: source, Tenant: "t",
			ReceivedAt: at.Add(time.Duration(i) * time.Hour), RemoteAddr: "192.0.2.1", Method: "POST", Query: "a=b",
			Headers: []sdk.Header{{Name: "content-type", Value: "application/json"}},
			Body:    fmt.Appendf(nil, `{"n":%d.0}`, i),
		}
		if i == 1 {
			r.Body = []byte{0xff, 0xfe}
		}
		if _, err := st.Accept(ctx, r); err != nil {
			t.Fatal(err)
		}
		d := &store.Decision{Request: r}
		switch i {
		case 0:
			for e, sinks := range [][]string{{"good", "bad"}, nil} {
				ev := core.Event{
					Envelope: sdk.Envelope{
						ID: core.EventID(r.Dedupe, r.Repeat, e), Source: "urn:grapnel:source:people", Type: fmt.Sprintf("x.made_%d", e),
						Subject: "thing/1", Time: "2026-03-04T05:06:07Z", Provider: "x", Tenant: "t",
					},
					RequestSeq: r.Seq, Index: e, Data: []byte(`{"v":1.10}`), DataOffset: -1,
				}
				d.Events = append(d.Events, ev)
				for n, sink := range sinks {
					dl := &core.Delivery{
						Key: core.NewDeliveryKey(r.Seq, e, n), ID: core.DeliveryID(ev.ID, "route", sink, 0), Route: "route", Sink: sink,
						Message: []byte(`{"text":"<b>"}`), State: core.DeliveryPending, Due: at,
					}
					if sink == "bad" {
						dl.State, dl.Reason, dl.RouteRange = core.DeliveryDead, "no", "config.hcl:1,2"
					}
					d.Deliveries = append(d.Deliveries, dl)
				}
			}
			d.Lease = make([]store.Lease, len(d.Deliveries))
		case 1:
			d.Dead = "never"
		case 2:
			continue
		}
		decisions = append(decisions, d)
	}
	if err := st.Route(ctx, decisions); err != nil {
		t.Fatal(err)
	}
	for i, cause := range []string{"bad_signature", "bad_json", "bad_json"} {
		st.RecordRejection(core.Rejection{
			At: at.Add(time.Duration(i) * time.Minute), Source: "people", Status: 400 + i, Cause: cause, Detail: "detail",
			RemoteAddr: "192.0.2.2", Method: "POST", Path: "/hooks/people",
		})
	}
	// They are written behind; from here on nothing is.
	if _, _, err := st.ListRejections(ctx, store.RejectionFilter{}); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	direct := &Direct{
		Store: st, Engine: recorder{&told}, Renderer: func(context.Context) (Renderer, error) { return stub{}, nil },
		Describe: func(s *Status) { s.Running = true; s.Sinks = []SinkStatus{{Sink: "good"}} },
	}
	srv := &http.Server{Handler: Handler(direct), ReadHeaderTimeout: time.Minute}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	path, err := SocketPath(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(path)
	t.Cleanup(func() {
		client.Close()
		if err := errors.Join(srv.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return served{client, direct, client.http, &told}
}

// same checks that the socket gives what the store gives.
func same[T any](t *testing.T, what string, overSocket T, err error, direct T, directErr error) T {
	t.Helper()
	if err != nil || directErr != nil {
		t.Fatalf("%s: %v over the socket, %v directly", what, err, directErr)
	}
	a, err := json.Marshal(overSocket)
	b, err2 := json.Marshal(direct)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(b), string(a)); diff != "" {
		t.Errorf("%s (-direct +over the socket):\n%s", what, diff)
	}
	return overSocket
}

func TestClientSeesWhatTheStoreHolds(t *testing.T) {
	s := serve(t, t.TempDir())
	c, d, ctx := s.client, s.direct, t.Context()

	status, err := c.Status(ctx)
	want, err2 := d.Status(ctx)
	status = same(t, "status", status, err, want, err2)
	if !status.Running || status.Stats.Requests[core.RequestDead] != 1 || status.Stats.Unrouted["x.made_1"] != 1 {
		t.Errorf("status: %+v", status)
	}

	day := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	for _, f := range []struct {
		filter store.RequestFilter
		want   int
	}{
		{store.RequestFilter{}, 3}, {store.RequestFilter{Source: "people"}, 2},
		{store.RequestFilter{State: core.RequestDead}, 1},
		{store.RequestFilter{Unrouted: true}, 1}, {store.RequestFilter{Subject: "thing/1", Type: "x.*"}, 1}, {store.RequestFilter{Limit: 2}, 2},
		{store.RequestFilter{Since: day.Add(6 * time.Hour), Until: day.Add(7 * time.Hour)}, 1},
	} {
		got, err := c.Requests(ctx, f.filter)
		direct, err2 := d.Requests(ctx, f.filter)
		if got = same(t, "requests", got, err, direct, err2); len(got.Items) != f.want {
			t.Errorf("requests %+v: %d, want %d", f.filter, len(got.Items), f.want)
		}
		if f.filter.Limit == 2 {
			rest, err := c.Requests(ctx, store.RequestFilter{Cursor: got.Next})
			if err != nil || len(rest.Items) != 1 || rest.Next != "" {
				t.Errorf("the second page: %+v, %v", rest, err)
			}
		}
		for _, r := range got.Items {
			one, err := c.Request(ctx, r.ID)
			direct, err2 := d.Request(ctx, r.ID)
			one = same(t, "request", one, err, direct, err2)
			switch {
			case r.Seq == 1 && (one.Body != `{"n":0.0}` || len(one.Events) != 2 || len(one.Deliveries) != 2 ||
				string(one.Events[0].Data) != `{"v":1.10}`):
				t.Errorf("request 1: %+v", one)
			case r.Seq == 2 && (one.Body != "" || string(one.BodyBase64) != "\xff\xfe"):
				t.Errorf("a body that is no text: %+v", one)
			}
		}
	}

	for _, f := range []struct {
		filter store.DeliveryFilter
		want   int
	}{
		{store.DeliveryFilter{}, 2}, {store.DeliveryFilter{Sink: "bad"}, 1},
		{store.DeliveryFilter{State: core.DeliveryPending}, 1},
		{store.DeliveryFilter{Type: "x.made_0", Subject: "thing/1", Tenant: "t", Route: "route", Source: "people"}, 2},
		{store.DeliveryFilter{Type: "x.made_1"}, 0},
	} {
		got, err := c.Deliveries(ctx, f.filter)
		direct, err2 := d.Deliveries(ctx, f.filter)
		if got = same(t, "deliveries", got, err, direct, err2); len(got.Items) != f.want {
			t.Errorf("deliveries %+v: %d, want %d", f.filter, len(got.Items), f.want)
		}
		for _, dl := range got.Items {
			one, err := c.Delivery(ctx, dl.ID)
			direct, err2 := d.Delivery(ctx, dl.ID)
			if one = same(t, "delivery", one, err, direct, err2); string(one.Message) != `{"text":"<b>"}` || one.Event == nil {
				t.Errorf("delivery: %+v", one)
			}
		}
	}

	for _, f := range []struct {
		filter store.EventFilter
		want   int
	}{
		{store.EventFilter{}, 2}, {store.EventFilter{Unrouted: true, Type: "x.*"}, 1},
		{store.EventFilter{Source: "hr"}, 0}, {store.EventFilter{Subject: "thing/1", Tenant: "t", Limit: 1}, 1},
	} {
		got, err := c.Events(ctx, f.filter)
		direct, err2 := d.Events(ctx, f.filter)
		if got = same(t, "events", got, err, direct, err2); len(got.Items) != f.want {
			t.Errorf("events %+v: %d, want %d", f.filter, len(got.Items), f.want)
		}
		for _, e := range got.Items {
			one, err := c.Event(ctx, e.ID)
			direct, err2 := d.Event(ctx, e.ID)
			one = same(t, "event", one, err, direct, err2)
			if len(one.Deliveries) != e.Deliveries || string(one.Data) != `{"v":1.10}` || one.RequestID != e.RequestID ||
				!one.ReceivedAt.Equal(e.ReceivedAt) {
				t.Errorf("event: %+v, in the list %+v", one, e)
			}
		}
	}

	for _, f := range []struct {
		filter store.RejectionFilter
		want   int
	}{
		{store.RejectionFilter{}, 3}, {store.RejectionFilter{Cause: "bad_json"}, 2},
		{store.RejectionFilter{Source: "hr"}, 0},
	} {
		var got Page[Rejection]
		for start := time.Now(); ; time.Sleep(10 * time.Millisecond) { // they are written behind
			var err error
			if got, err = c.Rejections(ctx, f.filter); err != nil {
				t.Fatal(err)
			}
			if len(got.Items) == f.want || time.Since(start) > 10*time.Second {
				break
			}
		}
		direct, err := d.Rejections(ctx, f.filter)
		if got = same(t, "rejections", got, nil, direct, err); len(got.Items) != f.want {
			t.Errorf("rejections %+v: %d, want %d", f.filter, len(got.Items), f.want)
		}
		for _, r := range got.Items {
			one, err := c.Rejection(ctx, r.ID)
			direct, err2 := d.Rejection(ctx, r.ID)
			same(t, "rejection", one, err, direct, err2)
		}
	}
}

func TestClientRetries(t *testing.T) {
	s := serve(t, t.TempDir())
	ctx := t.Context()
	dead, err := s.client.Requests(ctx, store.RequestFilter{State: core.RequestDead})
	if err != nil || len(dead.Items) != 1 {
		t.Fatalf("%+v, %v", dead, err)
	}
	id := dead.Items[0].ID
	for _, want := range []int{1, 0} { // the second time it is not dead any more
		got, err := s.client.RetryRequests(ctx,
			RequestOrder{IDs: []string{id, "req_00000000000000000000000000000000", "nonsense", id}}, nil)
		if err != nil || got.Selected != 3 || got.Seen != 3 || got.Done != want || got.Refused != 3-want {
			t.Errorf("retried %+v, %v; want %d", got, err, want)
		}
	}
	all, err := s.client.Deliveries(ctx, store.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, d := range all.Items {
		ids = append(ids, d.ID)
	}
	got, err := s.client.RetryDeliveries(ctx, DeliveryOrder{IDs: ids}, nil)
	if err != nil || got.Done != 1 || got.Refused != 1 {
		t.Errorf("retried %+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"wake bad"}, *s.told); diff != "" {
		t.Errorf("woken sinks: %s", diff)
	}
	for what, err := range map[string]error{
		"deliveries": second(s.client.RetryDeliveries(ctx, DeliveryOrder{}, nil)),
		"replays":    second(s.client.ReplayDeliveries(ctx, DeliveryOrder{DryRun: true}, nil)),
		"requests":   second(s.client.RetryRequests(ctx, RequestOrder{}, nil)),
	} {
		if err == nil || !strings.Contains(err.Error(), "name what is meant") {
			t.Errorf("a retry of all %s by omission: %v", what, err)
		}
	}
}

func second(_ Tally, err error) error { return err }

func TestWhatIsNotThere(t *testing.T) {
	s := serve(t, t.TempDir())
	ctx := t.Context()
	_, err1 := s.client.Request(ctx, "req_00000000000000000000000000000000")
	_, err2 := s.client.Request(ctx, "../status")
	_, err3 := s.client.Delivery(ctx, "dlv_x?y")
	_, err4 := s.client.Rejection(ctx, 4711)
	_, err5 := s.client.Event(ctx, "evt_00000000000000000000000000000000_0")
	_, err6 := s.client.Event(ctx, "evt_x")
	for i, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%d: %v", i, err)
		}
	}
	_, err := s.client.Requests(ctx, store.RequestFilter{Cursor: "x"})
	if err == nil || !strings.Contains(err.Error(), `"x" is not a cursor`) {
		t.Errorf("a cursor of nothing: %v", err)
	}
}

func TestBadCalls(t *testing.T) {
	s := serve(t, t.TempDir())
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "requests?sauce=x", "", 400, `unknown parameter "sauce"`},
		{"GET", "requests?limit=ten", "", 400, `parameter "limit"`},
		{"GET", "requests?since=yesterday", "", 400, `parameter "since"`},
		{"GET", "requests?unrouted=maybe", "", 400, `parameter "unrouted"`},
		{"GET", "requests?cursor=x", "", 400, "cursor"},
		{"GET", "deliveries?until=1", "", 400, `parameter "until"`},
		{"GET", "deliveries?unrouted=true", "", 400, `unknown parameter "unrouted"`},
		{"GET", "rejections?state=dead", "", 400, `unknown parameter "state"`},
		{"GET", "rejections/first", "", 400, `"first" is not a rejection's number`},
		{"GET", "rejections/99999999999999999999", "", 400, "not a rejection's number"},
		{"POST", "requests/retry", "", 400, "name what is meant"},
		{"POST", "deliveries/replay", "", 400, "name what is meant"},
		{"POST", "deliveries/replay?limit=3", "", 400, `unknown parameter "limit"`},
		{"POST", "deliveries/retry?force=true", "", 400, `unknown parameter "force"`},
		{"POST", "requests/retry", `{"ids": "x"}`, 400, "the body is not"},
		{"POST", "requests/retry", `{"id": ["x"]}`, 400, "the body is not"},
		{"POST", "deliveries/retry", `{"ids": [` + strings.Repeat(`"x",`, maxCommand/4) + `"x"]}`, 400, "too large"},
		{"GET", "requests/req_x", "", 404, "not found"},
		{"DELETE", "requests/req_x", "", 405, ""},
		{"GET", "nothing", "", 404, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://grapnel/v1/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, resp.StatusCode, body, c.status)
		}
		if c.says == "" {
			continue
		}
		var f failure
		if err := json.Unmarshal(body, &f); err != nil || !strings.Contains(f.Error, c.says) {
			t.Errorf("%s %s says %s, want …%s…", c.method, c.path, body, c.says)
		}
	}
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	path, err := SocketPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(path)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a socket: %v", err)
	}
	// The socket of a host that was killed is still there.
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("at a socket that nobody listens on: %v", err)
	}
	if l, err = Listen(dir); err != nil {
		t.Fatalf("the next host: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is open to others: %v, %v", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLongDataFolder(t *testing.T) {
	t.Setenv("TMPDIR", shortTemp(t))
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path, err := SocketPath(dir)
	if err != nil || len(path) > maxSocketPath {
		t.Fatalf("%s (%d bytes), %v", path, len(path), err)
	}
	if other, err := SocketPath(dir + "2"); err != nil || other == path {
		t.Errorf("two folders share %s, %v", path, err)
	}
	s := serve(t, dir)
	if st, err := s.client.Status(t.Context()); err != nil || !st.Running {
		t.Errorf("%+v, %v", st, err)
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder is open to others: %v, %v", info.Mode(), err)
	}
}

// In the temporary folder somebody else can make the socket's folder first.
func TestForeignFolder(t *testing.T) {
	t.Setenv("TMPDIR", shortTemp(t))
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "data")
	path, err := SocketPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(dir); err == nil {
		_ = l.Close()
		t.Error("it listens in a folder that everybody can write to")
	}
}

// shortTemp is a temporary folder with a path that leaves room for a socket's.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "admin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// recorder is an Engine that notes what it is told.
type recorder struct{ told *[]string }

func (r recorder) note(text string)       { *r.told = append(*r.told, text) }
func (r recorder) Wake(sink string)       { r.note("wake " + sink) }
func (r recorder) Pause(sink, why string) { r.note("pause " + sink + ": " + why) }
func (r recorder) Resume(sink string) bool {
	r.note("resume " + sink)
	return sink == "failing"
}

func TestSinks(t *testing.T) {
	s := serve(t, t.TempDir())
	for name, c := range map[string]Control{"client": s.client, "direct": s.direct} {
		*s.told = nil
		ctx := t.Context()
		if err := c.PauseSink(ctx, "good", "new token"); err != nil {
			t.Error(name, err)
		}
		if kept, err := s.direct.Store.Sinks(ctx); err != nil || kept["good"].PauseReason != "new token" || kept["good"].PausedAt.IsZero() {
			t.Errorf("%s: %+v, %v", name, kept, err)
		}
		for _, paused := range []bool{true, false} {
			if changed, err := c.ResumeSink(ctx, "good"); err != nil || changed != paused {
				t.Error(name, changed, err)
			}
		}
		if kept, err := s.direct.Store.Sinks(ctx); err != nil || !kept["good"].PausedAt.IsZero() {
			t.Errorf("%s: %+v, %v", name, kept, err)
		}
		err := c.PauseSink(ctx, "god", "")
		if !errors.Is(err, store.ErrNotFound) || err.Error() != `there is no sink "god", only bad, good` {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]string{"pause good: new token", "resume good", "resume good"}, *s.told); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	dead, err := s.client.Deliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryDead, Limit: 1})
	if err != nil || len(dead.Items) != 1 {
		t.Fatal(dead, err)
	}
	*s.told = nil
	skipped, err := s.client.SkipDeliveries(t.Context(), []string{dead.Items[0].ID, "dlv_none"}, "given up")
	if err != nil || len(skipped.Items) != 1 || skipped.Items[0].State != "skipped" || skipped.Items[0].Reason != "given up" {
		t.Errorf("%+v, %v", skipped, err)
	}
	if diff := cmp.Diff([]string{"wake " + dead.Items[0].Sink}, *s.told); diff != "" {
		t.Error(diff)
	}
}

func TestSearch(t *testing.T) {
	s := serve(t, t.TempDir())
	since := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		Control
	}{{"client", s.client}, {"direct", s.direct}} {
		search := func(o SearchOrder) (sources []string, p SearchProgress) {
			t.Helper()
			p, err := c.SearchRequests(t.Context(), o, func(r SearchReport) {
				if r.Item != nil {
					sources = append(sources, r.Item.Source)
				}
			})
			if err != nil {
				t.Fatal(c.name, err)
			}
			return sources, p
		}
		got, p := search(SearchOrder{Text: `"N":`, Filter: store.RequestFilter{Since: since}})
		if diff := cmp.Diff([]string{"hr", "people"}, got); diff != "" || p.Looked != 3 || p.Found != 2 || p.Next != "" || p.Share != 1 {
			t.Errorf("%s: %s, %+v", c.name, diff, p)
		}
		got, p = search(SearchOrder{Text: `"N":`, Filter: store.RequestFilter{Since: since, Limit: 1}})
		if len(got) != 1 || p.Next == "" || p.LookedTo == nil {
			t.Errorf("%s: the first page has %v, %+v", c.name, got, p)
		}
		got, p = search(SearchOrder{Text: `"N":`, Filter: store.RequestFilter{Since: since, Limit: 1, Cursor: p.Next}})
		if len(got) != 1 || got[0] != "people" {
			t.Errorf("%s: the second page has %v, %+v", c.name, got, p)
		}
		if got, p = search(SearchOrder{Text: `"N":`}); len(got) > 0 || p.Looked != 0 { // the last day
			t.Errorf("%s: without a time it found %v, %+v", c.name, got, p)
		}
		if _, err := c.SearchRequests(t.Context(), SearchOrder{}, nil); err == nil {
			t.Errorf("%s: a search for nothing", c.name)
		}
		if _, err := c.SearchRequests(t.Context(), SearchOrder{Text: "x", Filter: store.RequestFilter{Cursor: "x"}}, nil); err == nil {
			t.Errorf("%s: a foreign cursor was taken", c.name)
		}
	}
}
