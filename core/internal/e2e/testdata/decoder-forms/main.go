// Forms is a decoder for a provider that posts forms, or puts what it has to say into a query: with basic authentication,
// a bearer token or an API key, a test of the endpoint and a reply of its own.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

// message is what the provider says, and how.
type message struct {
	ID     string `json:"id"`
	Text   string `json:"text,omitempty"`
	Method string `json:"method"`
	Saw    string `json:"saw"` // of the headers that matter, those that the decoder was given
}

type decoder struct{}

// Decode reads the fields of a form or query, or of the JSON in the field payload.
func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	text := string(r.Body)
	if r.Method == "GET" {
		text = r.Query
	}
	fields, err := url.ParseQuery(text)
	if err != nil {
		return nil, fmt.Errorf("not a form: %w", err)
	}
	m := message{ID: fields.Get("id"), Text: fields.Get("text"), Method: r.Method}
	for _, h := range r.Headers {
		switch h.Name {
		case "authorization", "x-api-key", "content-type":
			m.Saw += h.Name
		}
	}
	if payload := fields.Get("payload"); payload != "" {
		if err := json.Unmarshal([]byte(payload), &m); err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return []sdk.Event{{Type: "forms.message.sent", Subject: "message/" + m.ID, PartitionKey: "message/" + m.ID, Data: data}}, nil
}

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

func main() {
	header := func(name string) sdk.Part { return sdk.Part{Kind: sdk.PartHeader, Name: name} }
	query := func(name string) sdk.Part { return sdk.Part{Kind: sdk.PartQuery, Name: name} }
	pointer := func(name string) sdk.Part { return sdk.Part{Kind: sdk.PartJSONPointer, Name: name} }
	vary := func(p sdk.Part) []sdk.Variation { return []sdk.Variation{{Part: p, Kind: sdk.VaryID}} }
	provider := sdk.Provider{
		Name: "forms", Title: "Forms",
		Methods: []string{"POST", "GET"}, ContentTypes: []string{"application/x-www-form-urlencoded"},
		Schemes: []sdk.Scheme{
			{Name: "basic", Attribute: "accounts", Basic: &sdk.Basic{}},
			{Name: "bearer", Token: &sdk.Token{Part: header("Authorization"), Prefix: "Bearer "}},
			{Name: "key", Attribute: "api_keys", Token: &sdk.Token{
				Part: header("X-Api-Key"), Alternatives: []sdk.Part{query("api_key")},
			}},
		},
		Headers: []string{"*"}, // all but the credentials
		Reply:   sdk.Reply{Status: 202, ContentType: "application/json", Body: []byte(`{"ok":true}`)},
		Handshake: &sdk.Handshake{
			Echo: query("hub.challenge"), When: []sdk.Condition{{Part: query("hub.mode"), Equals: "subscribe"}},
		},
		Dedupe: []sdk.DedupeKey{{pointer("/id")}, {pointer("/payload/id")}, {query("id")}},
		Events: []sdk.EventType{{
			Type: "forms.message.sent", Description: "A message was sent.", Data: sdk.MustSchema[message](),
			Samples: []sdk.Sample{{Name: "form", Body: []byte("id=m-1001&text=hello+%26+goodbye"), Vary: vary(pointer("/id"))}},
		}, {
			Type: "forms.message.payload", Description: "The same as JSON in a field, never seen.", Data: sdk.MustSchema[message](),
			Samples: []sdk.Sample{{
				Name: "payload", Body: []byte("payload=%7B%22id%22%3A%22m-2001%22%7D"), Vary: vary(pointer("/payload/id")),
			}},
		}, {
			Type: "forms.message.query", Description: "The same in a query, never seen.", Data: sdk.MustSchema[message](),
			Samples: []sdk.Sample{{Name: "query", Method: "GET", Query: "id=m-3001&text=a", Vary: vary(query("id"))}},
		}},
	}
	serve.Main(sdk.NewDecoder(provider, open))
}
