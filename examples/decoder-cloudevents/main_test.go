package main

import (
	"context"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	plugintest.Decoder(t, sdk.NewDecoder(provider(), open), plugintest.Options{Golden: "testdata/golden"})
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ contentType, body, want string }{
		{"application/cloudevents+json", `{"specversion":"0.3","type":"x"}`, "specversion is not 1.0"},
		{"application/cloudevents+json; charset=utf-8", `{"specversion":"1.0","type":"..."}`, "type is missing"},
		{"application/cloudevents+json", `{"specversion":"1.0","type":"x","data_base64":"aGk="}`,
			"data_base64: data that is no JSON cannot be routed"},
		{"application/cloudevents-batch+json", `[{"specversion":"1.0","type":"x"},{}]`, "event 1 of the batch: specversion is not 1.0"},
		{"application/cloudevents-batch+json", `{}`, "not a JSON array"},
		{"application/json", `{"data":{}}`, "type is missing"},
		{"", ``, "type is missing"},
	} {
		r := &sdk.Request{ID: "r", Body: []byte(c.body), Headers: []sdk.Header{{Name: "content-type", Value: c.contentType}}}
		if got := sdk.DecodeAll(context.Background(), decoder{}, []*sdk.Request{r})[0].Refused; got != c.want {
			t.Errorf("%s %s: %q, want %q", c.contentType, c.body, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(structuredSample, "application/cloudevents+json", "")
	f.Add(batchSample, "application/cloudevents-batch+json", "")
	f.Add(dataSample, "application/json", "caf%C3%A9")
	f.Add(standardSample, "application/json", "")
	f.Fuzz(func(t *testing.T, body []byte, contentType, typ string) {
		r := &sdk.Request{ID: "r", Body: body, Headers: []sdk.Header{{Name: "content-type", Value: contentType}}}
		if typ != "" {
			r.Headers = append(r.Headers, sdk.Header{Name: "ce-specversion", Value: "1.0"}, sdk.Header{Name: "ce-type", Value: typ})
		}
		got := sdk.DecodeAll(context.Background(), decoder{}, []*sdk.Request{r})[0]
		for _, e := range got.Events {
			if len(e.Type) > 128 || len(e.Type) <= len("cloudevents.") {
				t.Errorf("type %q", e.Type)
			}
		}
	})
}
