// Command grapnel-decoder-cloudevents takes events from whoever sends CloudEvents or Standard Webhooks: another Grapnel, for one,
// whose sink "http" does both.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

func main() { serve.Main(sdk.NewDecoder(provider(), open)) }

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

type decoder struct{}

// Decode tells by the content type and the headers how the request holds its events; those of CloudEvents' HTTP binding, or
// the payload that Standard Webhooks recommends.
func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	media, _, _ := strings.Cut(strings.ToLower(r.Header("content-type")), ";")
	body := rawjson.Root(r.Body)
	switch strings.TrimSpace(media) {
	case "application/cloudevents+json":
		e, err := structured(body)
		return []sdk.Event{e}, err
	case "application/cloudevents-batch+json":
		var events []sdk.Event
		list := rawjson.Elements(body)
		for list.Next() {
			e, err := structured(list.Value)
			if err != nil {
				return nil, fmt.Errorf("event %d of the batch: %w", list.Index, err)
			}
			events = append(events, e)
		}
		return events, list.Err()
	}
	if r.Header("ce-specversion") != "" {
		e, err := binary(r)
		return []sdk.Event{e}, err
	}
	e, err := standard(body)
	return []sdk.Event{e}, err
}

// attributes are those of a CloudEvent that an event has a place for; a "partitionkey", "operation" and "tenant" is what
// Grapnel's own sinks add.
type attributes struct{ specversion, typ, subject, time, partitionkey, operation, tenant string }

func (a *attributes) set(name, value string) {
	switch name {
	case "specversion":
		a.specversion = value
	case "type":
		a.typ = value
	case "subject":
		a.subject = value
	case "time":
		a.time = value
	case "partitionkey":
		a.partitionkey = value
	case "operation":
		a.operation = value
	case "tenant":
		a.tenant = value
	}
}

// event makes an event of attributes and data, a slice of the request's body.
func (a *attributes) event(data rawjson.Value) (sdk.Event, error) {
	if a.specversion != "1.0" {
		return sdk.Event{}, errors.New("specversion is not 1.0")
	}
	typ := eventType(a.typ)
	if typ == "" {
		return sdk.Event{}, errors.New("type is missing")
	}
	e := sdk.Event{
		Type: typ, Subject: a.subject, PartitionKey: a.partitionkey, Operation: a.operation, Tenant: a.tenant, Data: json.RawMessage(data),
	}
	if e.PartitionKey == "" {
		e.PartitionKey = e.Subject
	}
	if sdk.ValidTime(a.time) {
		e.Time = a.time
	}
	return e, nil
}

// structured reads an event in the JSON format.
func structured(event rawjson.Value) (sdk.Event, error) {
	var a attributes
	var data rawjson.Value
	m := rawjson.Members(event)
	for m.Next() {
		switch name := string(m.Name); name {
		case "data":
			data = m.Value
		case "data_base64":
			return sdk.Event{}, errors.New("data_base64: data that is no JSON cannot be routed")
		default:
			text, _ := m.Value.Text()
			a.set(name, text)
		}
	}
	if m.Err() != nil {
		return sdk.Event{}, m.Err()
	}
	return a.event(data)
}

// binary reads an event whose attributes are headers.
func binary(r *sdk.Request) (sdk.Event, error) {
	var a attributes
	for _, h := range r.Headers {
		if name, ok := strings.CutPrefix(h.Name, "ce-"); ok {
			value, err := url.PathUnescape(h.Value)
			if err != nil {
				return sdk.Event{}, fmt.Errorf("the header %s is not percent-encoded", h.Name)
			}
			a.set(name, value)
		}
	}
	return a.event(rawjson.Root(r.Body))
}

// standard reads {"type": …, "timestamp": …, "data": …}.
func standard(body rawjson.Value) (sdk.Event, error) {
	a := attributes{specversion: "1.0"}
	a.typ, _ = body.Get("type").Text()
	a.time, _ = body.Get("timestamp").Text()
	return a.event(body.Get("data"))
}

// eventType puts the provider's name before a type, whose parts become words: com.Example.order-made is
// cloudevents.com.example.order_made.
func eventType(text string) string {
	typ := "cloudevents"
	for part := range strings.SplitSeq(text, ".") {
		if word := sdk.TypeWord(part); word != "" && len(typ)+1+len(word) <= 128 { // as long as the host takes
			typ += "." + word
		}
	}
	if typ == "cloudevents" {
		return ""
	}
	return typ
}

var (
	//go:embed testdata/structured.json
	structuredSample []byte
	//go:embed testdata/batch.json
	batchSample []byte
	//go:embed testdata/data.json
	dataSample []byte
	//go:embed testdata/standard.json
	standardSample []byte
)

// provider is the manifest. The first scheme is the default: a signature of id, time and body.
func provider() sdk.Provider {
	p := sdk.Provider{
		Name: "cloudevents", Title: "CloudEvents and Standard Webhooks",
		ContentTypes: []string{"application/json", "application/cloudevents+json", "application/cloudevents-batch+json"},
		Headers:      []string{"ce-*"},
		Dedupe: []sdk.DedupeKey{
			{header("webhook-id,svix-id")}, // the same on every attempt, and signed
			{pointer("/source"), pointer("/id")},
			{header("ce-source"), header("ce-id")},
		},
	}
	for _, name := range []string{"standard_webhooks", "standard_webhooks_public", "bearer", "basic", "path_token"} {
		scheme, _ := sdk.Preset(name)
		p.Schemes = append(p.Schemes, scheme)
	}
	id := sdk.Header{Name: "webhook-id", Value: "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"}
	vary := []sdk.Variation{{Part: header("webhook-id"), Kind: sdk.VaryID}}
	typed := func(media string) []sdk.Header { return []sdk.Header{id, {Name: "Content-Type", Value: media}} }
	p.Events = []sdk.EventType{
		{
			Type: "cloudevents.com.example.order.created", Description: "A sample, in all the ways in which CloudEvents are sent.",
			Data: sdk.Schema{Kind: sdk.KindAny, Nullable: true},
			Samples: []sdk.Sample{
				{Name: "structured", Headers: typed("application/cloudevents+json"), Body: structuredSample, Vary: vary},
				{Name: "batch", Headers: typed("application/cloudevents-batch+json"), Body: batchSample, Vary: vary},
				{Name: "binary", Body: dataSample, Vary: vary, Headers: []sdk.Header{
					id, {Name: "ce-specversion", Value: "1.0"}, {Name: "ce-id", Value: "A234-1234-1234"},
					{Name: "ce-source", Value: "https://example.com/orders"}, {Name: "ce-type", Value: "com.example.order.created"},
					{Name: "ce-subject", Value: "order/Caf%C3%A9"}, {Name: "ce-time", Value: "2026-02-14T08:00:00Z"},
				}},
			},
		},
		{
			Type: "cloudevents.user.created", Description: "A sample of a Standard Webhook.",
			Data:    sdk.Schema{Kind: sdk.KindAny, Nullable: true},
			Samples: []sdk.Sample{{Name: "standard", Headers: []sdk.Header{id}, Body: standardSample, Vary: vary}},
		},
	}
	return p
}

func header(name string) sdk.Part { return sdk.Part{Kind: sdk.PartHeader, Name: name} }

func pointer(name string) sdk.Part { return sdk.Part{Kind: sdk.PartJSONPointer, Name: name} }
