// Package example holds plugins for the tests of package plugintest: good ones, and the same with one fault.
package example

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// Config is the sink's configuration.
type Config struct {
	Address string            `json:"address"`
	Token   sdk.Secret        `json:"token"`
	Size    int               `json:"size" default:"10"`
	Wait    time.Duration     `json:"wait" default:"1ms"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Message is the sink's message.
type Message struct {
	Text   string                     `json:"text"`
	Fields map[string]json.RawMessage `json:"fields,omitempty"`
}

type sink struct {
	cfg   Config
	fault string
	stop  chan struct{}
}

// Sink makes the sink. fault is empty, "secret", "stdout", "leak", "hang", "down" or "open".
func Sink(fault string) *sdk.SinkFactory {
	return sdk.NewSink(sdk.SinkInfo{Name: "example"}, func(_ context.Context, cfg Config) (sdk.Sink[Message], error) {
		if fault == "open" {
			return nil, fmt.Errorf("cannot log in with %s", cfg.Token.Reveal())
		}
		s := &sink{cfg: cfg, fault: fault, stop: make(chan struct{})}
		go func() { <-s.stop }()
		return s, nil
	})
}

func (s *sink) Deliver(ctx context.Context, d *sdk.Delivery[Message]) error {
	slog.DebugContext(ctx, "delivering", "token", s.cfg.Token)
	switch s.fault {
	case "secret":
		return errors.New("refused " + s.cfg.Token.Reveal())
	case "stdout":
		fmt.Fprintln(os.NewFile(1, "stdout"), "hello")
		slog.InfoContext(ctx, "using "+s.cfg.Token.Reveal())
	case "hang":
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second {
			time.Sleep(3 * time.Second)
		}
	}
	if s.cfg.Address == "down" {
		if s.fault == "down" {
			return sdk.Reject(errors.New("nobody there"))
		}
		return errors.New("nobody there")
	}
	select {
	case <-time.After(s.cfg.Wait):
		d.SetReference(d.ID)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sink) Close() error {
	if s.fault != "leak" {
		close(s.stop)
	}
	return nil
}

type decoder struct {
	fault string
	count atomic.Int64
}

// Decoder makes the decoder. fault is empty, "panic", "impure", "writes", "type" or "data".
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
	p := sdk.Provider{Name: "example", Events: []sdk.EventType{{
		Type: "example.thing.created", Data: data,
		Samples: []sdk.Sample{
			{Body: json.RawMessage(
				`{"action":"thing.created","at":"2026-01-02T03:04:05Z","data":{"id":1,"name":null,"kind":"a"}}`)},
			{Name: "with name", Body: json.RawMessage(
				`{"action": "thing.created", "data": {"id":2, "name":"x", "kind":"b"}}`)},
		},
	}}}
	return sdk.NewDecoder(p, func(context.Context, struct{}) (sdk.Decoder, error) { return &decoder{fault: fault}, nil })
}

func (d *decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	var body struct {
		Action *string         `json:"action"`
		At     string          `json:"at"`
		Data   json.RawMessage `json:"data"`
	}
	if d.fault == "writes" && len(r.Body) > 0 {
		r.Body[0] = ' '
	}
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return nil, errors.New("the body is not an object")
	}
	if body.Action == nil && d.fault != "panic" {
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
	case "type":
		e.Type = strings.TrimPrefix(e.Type, "example.")
	case "data":
		e.Data = json.RawMessage(`{"id":1.5,"kind":"c","extra":1}`)
	}
	return []sdk.Event{e}, nil
}
