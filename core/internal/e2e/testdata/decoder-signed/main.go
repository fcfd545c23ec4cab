// Signed is a decoder whose manifest declares the schemes that the shipped decoders do not use.
package main

import (
	"context"
	"encoding/json"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

type decoder struct{}

// Decode takes any body: what is no JSON becomes a text.
func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	data := r.Body
	if !json.Valid(data) {
		var err error
		if data, err = json.Marshal(string(data)); err != nil {
			return nil, err
		}
	}
	return []sdk.Event{{Type: "signed.received", Subject: "request", PartitionKey: "request", Data: data}}, nil
}

func open(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil }

func main() {
	body, dot := sdk.Part{Kind: sdk.PartBody}, sdk.Part{Kind: sdk.PartLiteral, Name: "."}
	timestamp := sdk.Part{Kind: sdk.PartTimestamp}
	provider := sdk.Provider{
		Name: "signed", Title: "Signed", ContentTypes: []string{"application/json", "text/plain", "application/x-www-form-urlencoded"},
		Schemes: []sdk.Scheme{
			{Name: "github", HMAC: &sdk.HMAC{Headers: []string{"X-Hub-Signature-256"}, Encoding: sdk.Hex, Prefix: "sha256="}},
			{Name: "stripe", HMAC: &sdk.HMAC{
				Headers: []string{"Stripe-Signature"}, Encoding: sdk.Hex, SignedContent: []sdk.Part{timestamp, dot, body},
				Timestamp: &sdk.Timestamp{ItemKey: "t"}, Separator: ",", ItemKey: "v1",
			}},
			{Name: "standard_webhooks", HMAC: &sdk.HMAC{
				Headers: []string{"webhook-signature", "svix-signature"}, Encoding: sdk.Base64, KeyFormat: sdk.KeyWhsec,
				SignedContent: []sdk.Part{{Kind: sdk.PartHeader, Name: "webhook-id,svix-id"}, dot, timestamp, dot, body},
				Timestamp:     &sdk.Timestamp{Headers: []string{"webhook-timestamp", "svix-timestamp"}},
				Separator:     " ", ItemVersion: "v1",
			}},
			{Name: "bearer", Token: &sdk.Token{Part: sdk.Part{Kind: sdk.PartHeader, Name: "Authorization"}, Prefix: "Bearer "}},
			{Name: "query", Token: &sdk.Token{Part: sdk.Part{Kind: sdk.PartQuery, Name: "key"}}},
			{Name: "public", Attribute: "public_keys", Ed25519: &sdk.Ed25519{
				Headers: []string{"X-Signature-Ed25519"}, Encoding: sdk.Hex, SignedContent: []sdk.Part{timestamp, body},
				Timestamp: &sdk.Timestamp{Headers: []string{"X-Signature-Timestamp"}},
			}},
		},
		Handshake: &sdk.Handshake{
			Method: "POST", Echo: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/payload/plainToken"}, Member: "plainToken",
			When: []sdk.Condition{{
				Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/event"}, Equals: "endpoint.url_validation",
			}},
			Proof: &sdk.Proof{Member: "encryptedToken", Encoding: sdk.Hex},
		},
		Headers: []string{"*"}, // all but the credentials
		Events: []sdk.EventType{{
			Type: "signed.received", Description: "A request came.", Data: sdk.Schema{Kind: sdk.KindAny, Nullable: true},
		}},
	}
	serve.Main(sdk.NewDecoder(provider, open))
}
