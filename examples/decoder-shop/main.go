// Command grapnel-decoder-shop is a decoder for a made-up provider, whole: a web shop that posts its orders.
package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

// Order is the shop's record; the schema of the events' data comes from it.
type Order struct {
	ID    string `json:"id" doc:"The shop's id of the order."`
	Kind  string `json:"kind" doc:"What happened: created, paid, shipped."`
	Total string `json:"total,omitempty" doc:"The amount, as a decimal number in a text."`
}

var provider = sdk.Provider{
	Name:  "shop",
	Title: "Example Shop",
	Schemes: []sdk.Scheme{{
		Name: "hmac",
		HMAC: &sdk.HMAC{Headers: []string{"X-Shop-Signature"}, Encoding: sdk.Hex, Prefix: "sha256="},
	}},
	Dedupe: []sdk.DedupeKey{{{Kind: sdk.PartJSONPointer, Name: "/id"}, {Kind: sdk.PartJSONPointer, Name: "/kind"}}},
	Events: []sdk.EventType{{
		Type:        "shop.order.created",
		Description: "A customer ordered.",
		Data:        sdk.MustSchema[Order](),
		Samples: []sdk.Sample{{
			Name: "order",
			Body: []byte(`{"id": "o-1001", "kind": "created", "total": "12.50"}`),
			Vary: []sdk.Variation{{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}, Kind: sdk.VaryID}},
		}},
	}},
}

type decoder struct{}

func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	var order Order
	if err := json.Unmarshal(r.Body, &order); err != nil || order.Kind == "" {
		return nil, errors.New("the body is not an order") // can never be decoded: the request ends dead and visible
	}
	return []sdk.Event{{
		Type:         "shop.order." + sdk.TypeWord(order.Kind),
		Subject:      "order/" + order.ID,
		PartitionKey: "order/" + order.ID,
		Operation:    order.Kind,
		Data:         r.Body, // verbatim
	}}, nil
}

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

func main() { serve.Main(sdk.NewDecoder(provider, open)) }
