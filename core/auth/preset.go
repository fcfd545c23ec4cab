package auth

import "github.com/grapnelhq/grapnel/sdk"

// Preset returns a scheme by name, as a manifest would declare it: "vwd" (Visma Webhook Dispatcher), "peopleforce",
// "github", "stripe", "standard_webhooks", "standard_webhooks_public", "discord", "basic", "bearer" and "path_token".
func Preset(name string) (sdk.Scheme, bool) {
	body := sdk.Part{Kind: sdk.PartBody}
	dot := sdk.Part{Kind: sdk.PartLiteral, Name: "."}
	timestamp := sdk.Part{Kind: sdk.PartTimestamp}
	s := sdk.Scheme{Name: name}
	switch name {
	case "vwd":
		s.Description = "HMAC-SHA256 of the body in X-VWD-Signature-V1"
		s.HMAC = &sdk.HMAC{Headers: []string{"X-VWD-Signature-V1"}, Encoding: sdk.Base64}
	case "peopleforce":
		s.Description = "HMAC-SHA256 of the body in X-PeopleForce-Signature"
		s.HMAC = &sdk.HMAC{Headers: []string{"X-PeopleForce-Signature"}, Encoding: sdk.Hex, Prefix: "sha256="}
	case "github":
		s.Description = "HMAC-SHA256 of the body in X-Hub-Signature-256"
		s.HMAC = &sdk.HMAC{Headers: []string{"X-Hub-Signature-256"}, Encoding: sdk.Hex, Prefix: "sha256="}
	case "stripe":
		s.Description = "HMAC-SHA256 of timestamp and body in Stripe-Signature"
		s.HMAC = &sdk.HMAC{
			Headers:       []string{"Stripe-Signature"},
			Encoding:      sdk.Hex,
			SignedContent: []sdk.Part{timestamp, dot, body},
			Timestamp:     &sdk.Timestamp{ItemKey: "t"},
			Separator:     ",",
			ItemKey:       "v1",
		}
	case "standard_webhooks":
		s.Description = "Standard Webhooks: HMAC-SHA256 of id, timestamp and body"
		s.HMAC = &sdk.HMAC{
			Headers:       []string{"webhook-signature", "svix-signature"},
			Encoding:      sdk.Base64,
			SignedContent: []sdk.Part{{Kind: sdk.PartHeader, Name: "webhook-id,svix-id"}, dot, timestamp, dot, body},
			KeyFormat:     sdk.KeyWhsec,
			Timestamp:     &sdk.Timestamp{Headers: []string{"webhook-timestamp", "svix-timestamp"}},
			Separator:     " ",
			ItemVersion:   "v1",
		}
	case "standard_webhooks_public":
		s.Description = "Standard Webhooks with a public key: Ed25519 of id, timestamp and body"
		s.Ed25519 = &sdk.Ed25519{
			Headers:       []string{"webhook-signature", "svix-signature"},
			Encoding:      sdk.Base64,
			SignedContent: []sdk.Part{{Kind: sdk.PartHeader, Name: "webhook-id,svix-id"}, dot, timestamp, dot, body},
			Timestamp:     &sdk.Timestamp{Headers: []string{"webhook-timestamp", "svix-timestamp"}},
			Separator:     " ",
			ItemVersion:   "v1a",
		}
	case "discord":
		s.Description = "Ed25519 of timestamp and body in X-Signature-Ed25519"
		s.Ed25519 = &sdk.Ed25519{
			Headers:       []string{"X-Signature-Ed25519"},
			Encoding:      sdk.Hex,
			SignedContent: []sdk.Part{timestamp, body},
			Timestamp:     &sdk.Timestamp{Headers: []string{"X-Signature-Timestamp"}},
		}
	case "basic":
		s.Description = `HTTP basic authentication, "user:password"`
		s.Basic = &sdk.Basic{}
	case "bearer":
		s.Description = "a bearer token in Authorization"
		s.Token = &sdk.Token{Part: sdk.Part{Kind: sdk.PartHeader, Name: authorization}, Prefix: "Bearer "}
	case "path_token":
		s.Description = "a secret path segment below the source's path"
		s.Attribute = "path_token"
		s.Token = &sdk.Token{Part: sdk.Part{Kind: sdk.PartPathToken}}
	default:
		return sdk.Scheme{}, false
	}
	return s, true
}
