package sdk

// Presets are the names that Preset knows, in the order in which documentation lists them.
func Presets() []string {
	return []string{
		"vwd", "peopleforce", "github", "stripe", "standard_webhooks", "standard_webhooks_public", "discord", "basic", "bearer",
		"path_token",
	}
}

// Preset returns the scheme of a usual provider by name, for a manifest; see Presets.
func Preset(name string) (Scheme, bool) {
	body := Part{Kind: PartBody}
	dot := Part{Kind: PartLiteral, Name: "."}
	timestamp := Part{Kind: PartTimestamp}
	s := Scheme{Name: name}
	switch name {
	case "vwd":
		s.Description = "HMAC-SHA256 of the body in X-VWD-Signature-V1"
		s.HMAC = &HMAC{Headers: []string{"X-VWD-Signature-V1"}, Encoding: Base64}
	case "peopleforce":
		s.Description = "HMAC-SHA256 of the body in X-PeopleForce-Signature"
		s.HMAC = &HMAC{Headers: []string{"X-PeopleForce-Signature"}, Encoding: Hex, Prefix: "sha256="}
	case "github":
		s.Description = "HMAC-SHA256 of the body in X-Hub-Signature-256"
		s.HMAC = &HMAC{Headers: []string{"X-Hub-Signature-256"}, Encoding: Hex, Prefix: "sha256="}
	case "stripe":
		s.Description = "HMAC-SHA256 of timestamp and body in Stripe-Signature"
		s.HMAC = &HMAC{
			Headers:       []string{"Stripe-Signature"},
			Encoding:      Hex,
			SignedContent: []Part{timestamp, dot, body},
			Timestamp:     &Timestamp{ItemKey: "t"},
			Separator:     ",",
			ItemKey:       "v1",
		}
	case "standard_webhooks":
		s.Description = "Standard Webhooks: HMAC-SHA256 of id, timestamp and body"
		s.HMAC = &HMAC{
			Headers:       []string{"webhook-signature", "svix-signature"},
			Encoding:      Base64,
			SignedContent: []Part{{Kind: PartHeader, Name: "webhook-id,svix-id"}, dot, timestamp, dot, body},
			KeyFormat:     KeyWhsec,
			Timestamp:     &Timestamp{Headers: []string{"webhook-timestamp", "svix-timestamp"}},
			Separator:     " ",
			ItemVersion:   "v1",
		}
	case "standard_webhooks_public":
		s.Description = "Standard Webhooks with a public key: Ed25519 of id, timestamp and body"
		s.Ed25519 = &Ed25519{
			Headers:       []string{"webhook-signature", "svix-signature"},
			Encoding:      Base64,
			SignedContent: []Part{{Kind: PartHeader, Name: "webhook-id,svix-id"}, dot, timestamp, dot, body},
			Timestamp:     &Timestamp{Headers: []string{"webhook-timestamp", "svix-timestamp"}},
			Separator:     " ",
			ItemVersion:   "v1a",
		}
	case "discord":
		s.Description = "Ed25519 of timestamp and body in X-Signature-Ed25519"
		s.Ed25519 = &Ed25519{
			Headers:       []string{"X-Signature-Ed25519"},
			Encoding:      Hex,
			SignedContent: []Part{timestamp, body},
			Timestamp:     &Timestamp{Headers: []string{"X-Signature-Timestamp"}},
		}
	case "basic":
		s.Description = `HTTP basic authentication, "user:password"`
		s.Basic = &Basic{}
	case "bearer":
		s.Description = "a bearer token in Authorization"
		s.Token = &Token{Part: Part{Kind: PartHeader, Name: "Authorization"}, Prefix: "Bearer "}
	case "path_token":
		s.Description = "a secret path segment below the source's path"
		s.Attribute = "path_token"
		s.Token = &Token{Part: Part{Kind: PartPathToken}}
	default:
		return Scheme{}, false
	}
	return s, true
}
