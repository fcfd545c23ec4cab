package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/plugins/sink-slack/internal/fakeslack"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

const (
	testToken = "xoxb-1234567890-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx"
	testHook  = "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
	hookAt    = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
)

func fakeOptions() fakeslack.Options {
	return fakeslack.Options{
		Token: testToken,
		Hooks: map[string]string{hookAt: "C01"},
		Channels: map[string]fakeslack.Channel{
			"C01": {Name: "people"}, "C02": {Name: "payroll"}, "C03": {Name: "old", Archived: true},
			"C04": {Name: "elsewhere", Outside: true},
		},
	}
}

// handlerTransport answers requests from a handler, in the caller's goroutine: there is no network, so time can be
// fake.
type handlerTransport struct{ http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // it is a panic's value
				panic(p)
			}
			err = io.ErrUnexpectedEOF
		}
	}()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	var body []byte
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	in := httptest.NewRequest(r.Method, r.URL.String(), bytes.NewReader(body)).WithContext(r.Context())
	in.Header = r.Header.Clone()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func webhookConfig() Config {
	return Config{Mode: modeWebhook, WebhookURL: sdk.NewSecret(testHook), Spacing: time.Second}
}

func botConfig() Config {
	return Config{Mode: modeBot, Token: sdk.NewSecret(testToken), Channel: "#people", Spacing: time.Second}
}

// harness is a sink in front of a fake, driven as package serve drives it.
type harness struct {
	t    *testing.T
	in   sdk.SinkInstance
	fake *fakeslack.Server
	// state is what the host keeps, by order key.
	state map[string][]byte
	seq   int64
}

// newHarness makes a sink without spacing, unless change says otherwise. h may be nil: the fake.
func newHarness(t *testing.T, cfg Config, o fakeslack.Options, h http.Handler) *harness {
	t.Helper()
	fake := fakeslack.New(o)
	if h == nil {
		h = fake
	}
	return withPacer(t, cfg, fake, h, newPacer())
}

func withPacer(t *testing.T, cfg Config, fake *fakeslack.Server, h http.Handler, paces *pacer) *harness {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	f := sdk.NewSink(sdk.SinkInfo{Name: "slack", State: true}, func(context.Context, struct{}) (sdk.Sink[Message],
		error) {
		return open(cfg, paces, &http.Client{Transport: handlerTransport{h}}), nil
	})
	in, err := f.Open(t.Context(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return &harness{t: t, in: in, fake: fake, state: map[string][]byte{}}
}

func quick(c Config) Config {
	c.Spacing = 0
	return c
}

// deliver delivers a message, JSON, as the next event of an order key.
func (h *harness) deliver(key, message string) sdk.Outcome {
	h.t.Helper()
	h.seq++
	d := &sdk.Delivery[json.RawMessage]{OrderKey: key, Sequence: h.seq, Message: []byte(message)}
	return h.deliverAs(h.t.Context(), d)
}

func (h *harness) deliverAs(ctx context.Context, d *sdk.Delivery[json.RawMessage]) sdk.Outcome {
	h.t.Helper()
	d.ID, d.State = "dlv_1", h.state[d.OrderKey]
	d.Attempt = max(d.Attempt, 1)
	if d.Event.Type == "" {
		d.Event = sdk.Envelope{ID: "evt_1", Source: "urn:grapnel:source:people", Type: "peopleforce.employee.created"}
	}
	o := h.in.DeliverRaw(ctx, []*sdk.Delivery[json.RawMessage]{d})[0]
	if o.StateSet {
		if len(o.State) > sdk.MaxState {
			h.t.Errorf("the state has %d bytes", len(o.State))
		}
		h.state[d.OrderKey] = o.State
	}
	for _, text := range append(o.Notes, o.Reason, o.Reference) {
		if strings.Contains(text, testToken) || strings.Contains(text, hookAt) {
			h.t.Errorf("a secret shows: %s", text)
		}
	}
	return o
}

// must fails unless the delivery was delivered.
func (h *harness) must(key, message string) sdk.Outcome {
	h.t.Helper()
	o := h.deliver(key, message)
	if o.Kind != sdk.Delivered {
		h.t.Fatalf("%s: %s: %s", message, o.Kind, o.Reason)
	}
	return o
}

// last is the message that was posted last.
func (h *harness) last() fakeslack.Message {
	h.t.Helper()
	all := h.fake.Messages()
	if len(all) == 0 {
		h.t.Fatal("nothing was posted")
	}
	return all[len(all)-1]
}

func (h *harness) noProblems() {
	h.t.Helper()
	for _, p := range h.fake.Problems() {
		h.t.Errorf("the fake complains: %s", p)
	}
}

// probe is a sink that returns an error.
func probe(err error) prober { return prober{err} }

type prober struct{ err error }

func (p prober) open(context.Context, struct{}) (sdk.Sink[struct{}], error) { return p, nil }

func (p prober) Deliver(context.Context, *sdk.Delivery[struct{}]) error { return p.err }
