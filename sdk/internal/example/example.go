// Package example holds plugins for the tests of packages conform and plugintest: good ones, and the same with one
// fault.
package example

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Config is the sink's configuration.
type Config struct {
	URL    string            `json:"url"`
	Token  sdk.Secret        `json:"token"`
	Size   int               `json:"size" default:"10"`
	Wait   time.Duration     `json:"wait" default:"1ms"`
	Mode   string            `json:"mode" enum:"soft|hard" default:"soft"`
	Labels map[string]string `json:"labels,omitempty"`
	Login  *Login            `json:"login,omitempty"`
}

// Login is a part of Config.
type Login struct {
	User string `json:"user"`
}

// Message is the sink's message.
type Message struct {
	Text   string                     `json:"text"`
	Fields map[string]json.RawMessage `json:"fields,omitempty"`
	Lines  []Line                     `json:"lines,omitempty"`
}

// Line is a part of Message.
type Line struct {
	N int64 `json:"n"`
}

// stdout is the real one, which package serve hides. It is kept: a file that is collected closes its descriptor.
var stdout = os.NewFile(1, "stdout")

// Main runs the program of a kind, "sink" or "decoder", with a fault or none.
func Main(kind, fault string) {
	switch fault {
	case "noisy":
		fmt.Fprintln(stdout, "hello, I am starting")
	case "mute":
		time.Sleep(time.Hour)
	case "orphan": // a plugin in the way of go-plugin's own documentation
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		os.Stdout = stdout
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: wire.Handshake(),
			Plugins:         wire.ServerSet(serve.New(Sink(""), "1.0.0").Register),
			GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
				return grpc.NewServer(append(o, wire.ServerOptions()...)...)
			},
		})
		return
	case "small": // with gRPC's own limit of 4 MiB
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		os.Stdout = stdout
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: wire.Handshake(),
			Plugins:         wire.ServerSet(serve.New(Sink(""), "1.0.0").Register),
			GRPCServer:      plugin.DefaultGRPCServer,
		})
		return
	}
	if kind == "sink" {
		serve.Main(Sink(fault))
	} else {
		serve.Main(Decoder(fault))
	}
	if fault == "stays" {
		time.Sleep(time.Hour)
	}
}

type sink struct {
	cfg    Config
	fault  string
	stop   chan struct{}
	client *http.Client
	shared *shared
}

// shared is what the fault "shared" has instead of instances.
type shared struct {
	mu  sync.Mutex
	url string
}

// Sink makes the sink: it posts to the URL. It has a batch, and keeps state. fault is empty or one of those below.
func Sink(fault string) *sdk.SinkFactory {
	common := &shared{}
	info := sdk.SinkInfo{Name: "example", MaxBatch: 5, State: true, Data: true}
	f := sdk.NewBatchSink(info, func(ctx context.Context, cfg Config) (sdk.BatchSink[Message], error) {
		switch fault {
		case "open":
			return nil, fmt.Errorf("cannot log in with %s", cfg.Token.Reveal())
		case "hang":
			time.Sleep(time.Hour)
		case "mortal":
			signal.Reset(syscall.SIGTERM)
		}
		common.mu.Lock()
		common.url = cfg.URL
		common.mu.Unlock()
		s := &sink{cfg: cfg, fault: fault, stop: make(chan struct{}),
			client: &http.Client{Transport: &http.Transport{}}, shared: common}
		go func() { <-s.stop }()
		return s, nil
	})
	switch fault {
	case "schema":
		f.Message.Attributes[0].Name = "body"
	case "lies":
		open := f.Open
		f.Open = func(ctx context.Context, config []byte) (sdk.SinkInstance, error) {
			i, err := open(ctx, config)
			return liar{i}, err
		}
	}
	return f
}

// liar answers for another delivery.
type liar struct{ sdk.SinkInstance }

func (l liar) DeliverRaw(ctx context.Context, ds []*sdk.Delivery[json.RawMessage]) []sdk.Outcome {
	out := l.SinkInstance.DeliverRaw(ctx, ds)
	out[0].DeliveryID = "dlv_other"
	return out
}

func (s *sink) DeliverBatch(ctx context.Context, ds []*sdk.Delivery[Message]) []error {
	errs := make([]error, len(ds))
	for i, d := range ds {
		errs[i] = s.deliver(ctx, d)
	}
	return errs
}

func (s *sink) deliver(ctx context.Context, d *sdk.Delivery[Message]) error {
	slog.DebugContext(ctx, "delivering", "token", s.cfg.Token)
	switch s.fault {
	case "secret":
		return errors.New("refused " + s.cfg.Token.Reveal())
	case "log":
		slog.InfoContext(ctx, "using "+s.cfg.Token.Reveal())
	case "stdout":
		fmt.Fprintln(stdout, "hello")
	case "deaf":
		ctx = context.WithoutCancel(ctx)
	case "dies":
		go func() { panic("index out of range") }()
		time.Sleep(time.Minute)
	case "panics":
		panic("index out of range")
	case "wordy":
		d.SetReference(strings.Repeat("x", 1000))
	case "state":
		if len(d.State) > 0 && d.State[0] != '0' {
			panic("unknown state")
		}
	}
	d.SetState([]byte("0"))
	url := s.cfg.URL
	if s.fault == "shared" {
		s.shared.mu.Lock()
		url = s.shared.url
		s.shared.mu.Unlock()
	}
	if s.fault == "hasty" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(d.Message.Text))
	if err != nil {
		return sdk.Reject(err, "text")
	}
	resp, err := s.client.Do(req)
	switch {
	case err != nil && s.fault == "gives up":
		return sdk.Reject(errors.New("nobody there"))
	case err != nil:
		return errors.New("nobody there")
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	switch {
	case resp.StatusCode == http.StatusBadRequest && s.fault != "stubborn":
		return sdk.Reject(errors.New(resp.Status))
	case resp.StatusCode != http.StatusOK:
		return errors.New(resp.Status)
	}
	if s.fault != "wordy" {
		d.SetReference(d.ID)
	}
	return nil
}

func (s *sink) Close() error {
	if s.fault != "leak" {
		close(s.stop)
	}
	s.client.CloseIdleConnections()
	if s.fault == "fails" {
		return errors.New("cannot flush")
	}
	return nil
}

type decoder struct {
	fault string
	count atomic.Int64
}

// Decoder makes the decoder. fault is empty or one of those below.
func Decoder(fault string) *sdk.DecoderFactory {
	type thing struct {
		ID   int64   `json:"id"`
		Name *string `json:"name"`
		Kind string  `json:"kind" enum:"a|b"`
	}
	data, err := sdk.SchemaOf[thing]()
	if err != nil {
		panic(err) // the type above is wrong
	}
	p := sdk.Provider{
		Name:    "example",
		Schemes: []sdk.Scheme{{Name: "hmac", HMAC: &sdk.HMAC{Headers: []string{"X-Signature"}, Encoding: sdk.Hex}}},
		Events: []sdk.EventType{{
			Type: "example.thing.created", Data: data,
			Samples: []sdk.Sample{
				{Body: json.RawMessage(
					`{"action":"thing.created","at":"2026-01-02T03:04:05Z","data":{"id":1,"name":null,"kind":"a"}}`)},
				{Name: "with name", Body: json.RawMessage(
					`{"action": "thing.created", "data": {"id":2, "name":"x", "kind":"b"}}`)},
			},
		}},
	}
	switch fault {
	case "catalogue":
		p.Events = append(p.Events, p.Events[0], sdk.EventType{Type: "Example.Other", Data: data})
	}
	return sdk.NewDecoder(p, func(context.Context, struct{}) (sdk.Decoder, error) { return &decoder{fault: fault}, nil })
}

func (d *decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	var body struct {
		Action *string         `json:"action"`
		At     string          `json:"at"`
		Data   json.RawMessage `json:"data"`
	}
	switch d.fault {
	case "writes":
		if len(r.Body) > 0 {
			r.Body[0] = ' '
		}
	case "slow":
		for i := 0; i+1 < len(r.Body); i++ { // the square of the size
			for k := i; k < len(r.Body) && r.Body[k] == '['; k++ {
				d.count.Add(1)
			}
		}
	}
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return nil, errors.New("the body is not an object")
	}
	if body.Action == nil && d.fault != "panics" {
		return nil, errors.New("no action")
	}
	e := sdk.Event{Type: "example." + sdk.TypeWord(*body.Action), Data: body.Data}
	if *body.Action == "thing.created" {
		e.Type = "example.thing.created"
	}
	if *body.Action == "" {
		e.Type = "example.unknown"
	}
	if _, err := time.Parse(time.RFC3339, body.At); err == nil {
		e.Time = body.At
	}
	switch d.fault {
	case "impure":
		e.Subject = fmt.Sprint(d.count.Add(1))
	case "process":
		e.Subject = fmt.Sprint(os.Getpid())
	case "type":
		e.Type = strings.TrimPrefix(e.Type, "example.")
	case "subject":
		e.Subject = "a\nb"
	case "data":
		e.Data = json.RawMessage(`{"id":1.5,"kind":"c","extra":1}`)
	case "huge":
		e.Data = json.RawMessage(`"` + strings.Repeat("x", wire.MaxMessage) + `"`)
	}
	return []sdk.Event{e}, nil
}
