package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// decoder makes one event per request; its data is the body.
type decoder struct {
	mu     sync.Mutex
	decode func(r *core.Request) core.Decoded // nil: the plain one
	err    error                              // of every call while set
}

func plain(r *core.Request) core.Decoded {
	return core.Decoded{Events: []core.Event{{
		Envelope: sdk.Envelope{
			ID: core.EventID(r.Dedupe, r.Repeat, 0), Source: "urn:grapnel:source:" + r.Source, Type: "test.thing.changed",
			Time: r.ReceivedAt.Format(time.RFC3339Nano), PartitionKey: r.Query,
		},
		RequestSeq: r.Seq, Data: r.Body,
	}}}
}

func (d *decoder) Decode(_ context.Context, rs []*core.Request) ([]core.Decoded, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	out := make([]core.Decoded, len(rs))
	for i, r := range rs {
		if d.decode != nil {
			out[i] = d.decode(r)
		} else {
			out[i] = plain(r)
		}
	}
	return out, nil
}

func (d *decoder) WaitReady(ctx context.Context) error { return ctx.Err() }

func (d *decoder) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// router sends every event to the given sinks; the order key is the request's query. It cannot render unrendered.
type router struct{ sinks []string }

const unrendered = "unrendered"

func (r router) Route(dst []*core.Delivery, req *core.Request, ev *core.Event) ([]*core.Delivery, error) {
	for i, sink := range r.sinks {
		d := &core.Delivery{
			Key: core.NewDeliveryKey(req.Seq, ev.Index, i), ID: core.DeliveryID(ev.ID, "all", sink, 0), Route: "all", Sink: sink,
			OrderKey: ev.PartitionKey, Message: []byte("{}"), State: core.DeliveryPending, Due: req.ReceivedAt, Event: ev,
		}
		if string(ev.Data) == unrendered {
			d.State, d.Message, d.Reason = core.DeliveryDead, nil, "an expression failed"
		}
		dst = append(dst, d)
	}
	return dst, nil
}

// sink records what it is given.
type sink struct {
	mu       sync.Mutex
	deliver  func(d *core.Delivery) core.Outcome // nil: delivered
	took     time.Duration
	err      error
	got      []string // the data of delivered ones, in order
	ids      map[string]int
	inFlight map[string]bool // by order key
	overlap  bool            // two of one key at the same time
}

func (s *sink) Deliver(ctx context.Context, ds []*core.Delivery) ([]core.Outcome, error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	for _, d := range ds {
		if d.OrderKey != "" && s.inFlight[d.OrderKey] {
			s.overlap = true
		}
		s.inFlight[d.OrderKey] = true
	}
	s.mu.Unlock()
	time.Sleep(s.took)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]core.Outcome, len(ds))
	for i, d := range ds {
		delete(s.inFlight, d.OrderKey)
		out[i] = core.Outcome{Kind: sdk.Delivered}
		if s.deliver != nil {
			out[i] = s.deliver(d)
		}
		if out[i].Kind == sdk.Delivered {
			s.got = append(s.got, string(d.Event.Data))
			s.ids[d.ID]++
		}
	}
	return out, nil
}

func (s *sink) WaitReady(ctx context.Context) error { return ctx.Err() }

func (s *sink) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func newSink() *sink { return &sink{ids: map[string]int{}, inFlight: map[string]bool{}} }

// host is a store and an engine on it, as cmd/grapnel wires them.
type host struct {
	t      *testing.T
	store  *sqlite.Store
	engine *engine.Engine
	stop   context.CancelFunc
	done   chan struct{}
	log    logged
}

// logged keeps the messages of a log.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// count is how often a text is in the log.
func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func start(t *testing.T, dir string, dec engine.Decoder, sinks map[string]*sink, tune func(*engine.Sink)) *host {
	t.Helper()
	h := &host{t: t, done: make(chan struct{})}
	var err error
	h.store, err = sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(dir, "grapnel.db"), Logger: hclog.NewNullLogger(), DedupeWindow: 24 * time.Hour,
		OnAccepted: func(rs []*core.Request) { h.engine.Accepted(rs) },
		OnErased:   func(sink string, keys []core.DeliveryKey) { h.engine.Erased(sink, keys) },
	})
	if err != nil {
		t.Fatal(err)
	}
	opt := engine.Options{Store: h.store, Logger: hclog.New(&hclog.LoggerOptions{Output: &h.log})}
	var r router
	for name, s := range sinks {
		es := engine.Sink{Name: name, Plugin: s, Concurrency: 2, Batch: 16}
		if tune != nil {
			tune(&es)
		}
		opt.Sinks = append(opt.Sinks, es)
		r.sinks = append(r.sinks, name)
	}
	slices.Sort(r.sinks)
	opt.Sources = []engine.Source{{Name: "src", Decoder: dec, Router: r}}
	h.engine = engine.New(opt)
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() {
		defer close(h.done)
		if err := h.engine.Run(ctx, time.Second); err != nil {
			t.Error(err)
		}
	}()
	return h
}

func (h *host) close() {
	h.t.Helper()
	h.stop()
	<-h.done
	if err := h.store.Close(); err != nil {
		h.t.Error(err)
	}
}

// accept posts a request with a key and a body.
func (h *host) accept(key, body string) {
	h.t.Helper()
	r := &core.Request{
		Dedupe: core.NewDedupeKey("src", []byte(key), []byte(body)), Source: "src", ReceivedAt: time.Now(), Method: "POST",
		Query: key, Body: []byte(body),
	}
	if a, err := h.store.Accept(h.t.Context(), r); err != nil || a != store.Accepted {
		h.t.Errorf("accept: %v %v", a, err)
	}
}

// acceptAll posts perKey rounds of one request per key; the requests of a round share commits.
func (h *host) acceptAll(keys, perKey int) {
	h.t.Helper()
	for n := range perKey {
		var round sync.WaitGroup
		for k := range keys {
			round.Go(func() { h.accept(strconv.Itoa(k), fmt.Sprintf("[%d,%d]", k, n)) })
		}
		round.Wait()
	}
}

// until waits on fake time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 200_000 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// checkOrder fails unless, repeats removed, the numbers after each key grow by one.
func checkOrder(t *testing.T, got []string, keys, perKey int) {
	t.Helper()
	next := map[int]int{}
	for _, g := range got {
		var key, n int
		if _, err := fmt.Sscanf(g, "[%d,%d]", &key, &n); err != nil {
			t.Fatal(err)
		}
		switch {
		case n < next[key]: // a repeat
		case n == next[key]:
			next[key]++
		default:
			t.Fatalf("key %d: %d came when %d was next", key, n, next[key])
		}
	}
	for key := range keys {
		if next[key] != perKey {
			t.Errorf("key %d: %d of %d came", key, next[key], perKey)
		}
	}
}

func TestOrderUnderFailure(t *testing.T) {
	const keys, perKey = 20, 40
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		s.took = 3 * time.Millisecond
		s.deliver = func(d *core.Delivery) core.Outcome {
			switch p := rand.Float64(); {
			case p < 0.2:
				return core.Outcome{Kind: sdk.Retried, Reason: "busy"}
			case p < 0.25 && d.Crashes == 0: // the third would be its end
				return core.Outcome{Kind: core.Crashed, Reason: "boom"}
			default:
				return core.Outcome{Kind: sdk.Delivered}
			}
		}
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": s}, nil)
		defer h.close()
		for n := range perKey {
			for k := range keys {
				h.accept(strconv.Itoa(k), fmt.Sprintf("[%d,%d]", k, n))
			}
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		}
		until(t, "all delivered", func() bool { return s.count() >= keys*perKey })
		checkOrder(t, s.got, keys, perKey)
		if s.overlap {
			t.Error("two deliveries of one key were in flight together")
		}
		for id, n := range s.ids {
			if n != 1 {
				t.Errorf("%s was delivered %d times", id, n)
			}
		}
	})
}

// TestDeadSinkBesideALiveOne parks what a dead sink cannot take, far beyond its window, and lets it flow afterwards.
func TestDeadSinkBesideALiveOne(t *testing.T) {
	const keys, perKey = 100, 120
	synctest.Test(t, func(t *testing.T) {
		live, dead := newSink(), newSink()
		dead.err = errors.New("the process is down")
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"live": live, "dead": dead}, nil)
		defer h.close()
		h.acceptAll(keys, perKey)
		until(t, "the live sink has all", func() bool { return live.count() == keys*perKey })
		checkOrder(t, live.got, keys, perKey)
		for _, st := range h.engine.Status() {
			if st.InMemory > 4096 {
				t.Errorf("%s holds %d deliveries in memory", st.Sink, st.InMemory)
			}
		}
		dead.set(func() { dead.err = nil })
		until(t, "the dead sink has all", func() bool { return dead.count() == keys*perKey })
		checkOrder(t, dead.got, keys, perKey)
	})
}

func TestSuspendedSinkWaitsAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		calls := 0
		s.deliver = func(d *core.Delivery) core.Outcome {
			calls++
			if time.Since(start2000).Hours() < 1 {
				return core.Outcome{Kind: sdk.Suspended, Reason: "token revoked"}
			}
			if d.Attempts != 0 {
				t.Errorf("%s was charged %d attempts while suspended", d.ID, d.Attempts)
			}
			return core.Outcome{Kind: sdk.Delivered}
		}
		h := start(t, t.TempDir(), &decoder{}, map[string]*sink{"a": s}, nil)
		defer h.close()
		for n := range 50 {
			h.accept("k", fmt.Sprintf("[0,%d]", n))
			h.accept("", strconv.Itoa(n))
		}
		time.Sleep(30 * time.Minute)
		if st := h.engine.Status()[0]; st.State != engine.Suspended || st.Reason != "token revoked" {
			t.Errorf("status is %+v", st)
		}
		if calls > 60 {
			t.Errorf("%d calls to a suspended sink in half an hour", calls)
		}
		until(t, "all delivered", func() bool { return s.count() == 100 })
	})
}

// start2000 is when a synctest bubble begins.
var start2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestDecoderThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dec, s := &decoder{err: errors.New("down")}, newSink()
		h := start(t, t.TempDir(), dec, map[string]*sink{"a": s}, nil)
		defer h.close()
		const keys, perKey = 50, 100 // more than an inbox holds
		h.acceptAll(keys, perKey)
		time.Sleep(time.Minute)
		dec.fail(nil)
		until(t, "all delivered", func() bool { return s.count() == keys*perKey })
		checkOrder(t, s.got, keys, perKey)
	})
}

func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dec, s := &decoder{}, newSink()
		dec.decode = func(r *core.Request) core.Decoded {
			switch string(r.Body) {
			case `"bad"`:
				return core.Decoded{Refused: "not a thing"}
			case `"poison"`:
				return core.Decoded{Crashed: true, Refused: "panic: nil map"}
			}
			return plain(r)
		}
		s.deliver = func(d *core.Delivery) core.Outcome {
			switch string(d.Event.Data) {
			case `"kills the sink"`:
				return core.Outcome{Kind: core.Crashed, Reason: "signal: segmentation fault"}
			case `"wrong"`:
				return core.Outcome{Kind: sdk.Rejected, Reason: "no such field", AttributePath: []string{"fields", "x"}}
			case `"never works"`:
				return core.Outcome{Kind: sdk.Retried, Reason: "busy"}
			}
			return core.Outcome{Kind: sdk.Delivered, Reference: "42"}
		}
		h := start(t, t.TempDir(), dec, map[string]*sink{"a": s}, func(es *engine.Sink) {
			es.Retry = engine.RetryPolicy{MaxAttempts: 5}
			es.Locate = func(route string, path []string) string { return fmt.Sprint("config.hcl:7,3 ", route, path) }
		})
		defer h.close()
		for _, body := range []string{`"bad"`, `"poison"`, `"kills the sink"`, `"wrong"`, `"never works"`, `"fine"`} {
			h.accept("", body)
		}
		until(t, "all settled", func() bool {
			st, err := h.store.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return st.Requests[core.RequestDead] == 2 && st.Deliveries["a"][core.DeliveryDead] == 3 &&
				st.Deliveries["a"][core.DeliveryDelivered] == 1
		})
		ds, _, err := h.store.ListDeliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryDead})
		if err != nil {
			t.Fatal(err)
		}
		reasons := map[string]string{}
		for _, d := range ds {
			full, err := h.store.GetDelivery(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			reasons[string(full.Delivery.Event.Data)] = fmt.Sprintf("%s|%s|%d", d.Reason, d.RouteRange, len(full.Attempts))
		}
		want := map[string]string{
			`"kills the sink"`: "the sink's process died 3 times on this delivery alone: signal: segmentation fault||3",
			`"wrong"`:          "no such field|config.hcl:7,3 all[fields x]|1",
			`"never works"`:    "given up after 5 attempts: busy||5",
		}
		for data, w := range want {
			if reasons[data] != w {
				t.Errorf("%s: got %q, want %q", data, reasons[data], w)
			}
		}
	})
}

// TestStopAndStart stops the host again and again in the middle of things; nothing may be lost or change its order.
func TestStopAndStart(t *testing.T) {
	const keys, perKey, stops = 10, 60, 6
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newSink()
		s.took = 20 * time.Millisecond
		s.deliver = func(*core.Delivery) core.Outcome {
			if rand.Float64() < 0.1 {
				return core.Outcome{Kind: sdk.Retried, Reason: "busy"}
			}
			return core.Outcome{Kind: sdk.Delivered}
		}
		sent := 0
		for range stops {
			h := start(t, dir, &decoder{}, map[string]*sink{"a": s}, nil)
			for range keys * perKey / stops {
				h.accept(strconv.Itoa(sent%keys), fmt.Sprintf("[%d,%d]", sent%keys, sent/keys))
				sent++
			}
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			h.close()
		}
		h := start(t, dir, &decoder{}, map[string]*sink{"a": s}, nil)
		defer h.close()
		until(t, "nothing is unsettled", func() bool {
			st, err := h.store.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return st.Deliveries["a"][core.DeliveryDelivered] == keys*perKey
		})
		checkOrder(t, s.got, keys, perKey)
	})
}
