package sdk

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"
)

// Provider is a decoder's manifest: all that the host needs to receive and authenticate one provider's webhooks, and
// the catalogue of its events. The host runs what the manifest declares; the decoder never sees a secret.
type Provider struct {
	Name         string      `json:"name"`                    // the plugin's, and the first part of every event type; but see Manifester
	Title        string      `json:"title,omitempty"`         // "Visma Youforce"
	Schemes      []Scheme    `json:"schemes,omitempty"`       // the first is the default; "none" exists always
	Methods      []string    `json:"methods,omitempty"`       // default POST
	ContentTypes []string    `json:"content_types,omitempty"` // media types without parameters; default application/json
	Headers      []string    `json:"headers,omitempty"`       // to keep: "x-vwd-*", "*"; content-type is always kept
	Reply        Reply       `json:"reply,omitzero"`          // what the provider gets for an accepted request
	Handshake    *Handshake  `json:"handshake,omitempty"`     // nil: none
	Dedupe       []DedupeKey `json:"dedupe,omitempty"`        // the first all of whose parts are there wins; default: the body
	Addresses    []string    `json:"addresses,omitempty"`     // published, IP or CIDR; a source's allow_ips decides
	Events       []EventType `json:"events,omitempty"`        // the catalogue

	// ChooseScheme says that none of the schemes is the default: a source has to name one in `auth`.
	ChooseScheme bool `json:"choose_scheme,omitempty"`
}

// Manifester is implemented by the configuration type of a decoder (on the value or the pointer) whose manifest depends on
// the configuration: one that is told how a provider signs, or what its events are. Manifest returns the manifest of an
// instance, in place of the one that NewDecoder is given. Its name may be another than the plugin's; the instance's event
// types begin with it. Manifest is asked about configurations that Validator has found good, and opens and dials nothing.
// AttributeErrors in its error are reported at their file and line.
type Manifester interface {
	Manifest() (Provider, error)
}

// PartKind is the kind of a Part.
type PartKind string

// The kinds of parts.
const (
	PartBody        PartKind = "body"         // the raw bytes
	PartHeader      PartKind = "header"       // Name: header name; alternatives, of which one may be there, split by commas
	PartQuery       PartKind = "query"        // Name: parameter name
	PartJSONPointer PartKind = "json_pointer" // Name: RFC 6901 pointer into the body; in a form its first step names a field
	PartLiteral     PartKind = "literal"      // Name: the text itself
	PartTimestamp   PartKind = "timestamp"    // the signature's own timestamp as received
	PartPathToken   PartKind = "path_token"   // the one path segment below the source's path
)

// Part names a piece of a request.
type Part struct {
	Kind     PartKind `json:"kind"`
	Name     string   `json:"name,omitempty"`
	FoldCase bool     `json:"fold_case,omitempty"` // PartJSONPointer: member names match in any case
}

// DedupeKey is one way to tell that two requests are the same: the parts together.
type DedupeKey []Part

// Scheme is one way to authenticate a request. Exactly one of HMAC, Token, Basic and Ed25519 is set.
type Scheme struct {
	Name        string      `json:"name"` // the value of a source's `auth`
	Description string      `json:"description,omitempty"`
	Attribute   string      `json:"attribute,omitempty"` // of the source, for the credentials; default "secrets"
	HMAC        *HMAC       `json:"hmac,omitempty"`
	Token       *Token      `json:"token,omitempty"`
	Basic       *Basic      `json:"basic,omitempty"`
	Ed25519     *Ed25519    `json:"ed25519,omitempty"`
	Allow       []AllowList `json:"allow,omitempty"`
}

// AllowList admits a request only if Part is among the values of an optional list attribute of the source.
type AllowList struct {
	Attribute   string `json:"attribute,omitempty"`
	Part        Part   `json:"part"`
	Description string `json:"description,omitempty"`
}

// Encoding is how a signature or key is written.
type Encoding string

// The encodings. All are decoded strictly: no white space, no trailing bits, no missing or extra padding.
const (
	Hex       Encoding = "hex"       // either case
	Base64    Encoding = "base64"    // standard alphabet, padded
	Base64URL Encoding = "base64url" // URL alphabet, unpadded
)

// Algorithm is a hash of an HMAC.
type Algorithm string

// The algorithms. The zero value means SHA256.
const (
	SHA256 Algorithm = "sha256"
	SHA384 Algorithm = "sha384"
	SHA512 Algorithm = "sha512"
	SHA1   Algorithm = "sha1"
)

// KeyFormat is how the configured secret becomes the key's bytes.
type KeyFormat string

// The key formats. The zero value means KeyText.
const (
	KeyText   KeyFormat = "text"
	KeyBase64 KeyFormat = "base64"
	KeyHex    KeyFormat = "hex"
	KeyWhsec  KeyFormat = "whsec" // base64 after an optional "whsec_"
)

// HMAC describes a keyed hash in a header.
type HMAC struct {
	Headers       []string   `json:"headers,omitempty"` // more are aliases, of which exactly one may be there
	Algorithm     Algorithm  `json:"algorithm,omitempty"`
	Encoding      Encoding   `json:"encoding,omitempty"`
	Prefix        string     `json:"prefix,omitempty"`         // before the encoded value, stripped once, exact: "sha256="
	SignedContent []Part     `json:"signed_content,omitempty"` // joined without separator; default: the body
	KeyFormat     KeyFormat  `json:"key_format,omitempty"`
	Timestamp     *Timestamp `json:"timestamp,omitempty"`
	Separator     string     `json:"separator,omitempty"`    // the header holds several items, split by this
	ItemKey       string     `json:"item_key,omitempty"`     // items are key=value: the signatures are those with this key
	ItemVersion   string     `json:"item_version,omitempty"` // items are version,value: only this version counts
}

// Ed25519 describes a public-key signature in a header; the secrets are public keys, base64 after an optional "whpk_".
type Ed25519 struct {
	Headers       []string   `json:"headers,omitempty"`
	Encoding      Encoding   `json:"encoding,omitempty"`
	SignedContent []Part     `json:"signed_content,omitempty"`
	Timestamp     *Timestamp `json:"timestamp,omitempty"`
	Separator     string     `json:"separator,omitempty"`
	ItemVersion   string     `json:"item_version,omitempty"`
}

// Timestamp bounds replays of a signed request. It is read from a header or from an item of the signature's header.
type Timestamp struct {
	Headers       []string `json:"headers,omitempty"`
	ItemKey       string   `json:"item_key,omitempty"`
	Milliseconds  bool     `json:"milliseconds,omitempty"`
	PastSeconds   int64    `json:"past_seconds,omitempty"`   // default 300
	FutureSeconds int64    `json:"future_seconds,omitempty"` // default 300
}

// Token compares a part of the request with the credentials; the part is cut from what is stored and decoded.
type Token struct {
	Part         Part   `json:"part"`
	Prefix       string `json:"prefix,omitempty"`       // "Bearer "
	Alternatives []Part `json:"alternatives,omitempty"` // where else it may stand; exactly one place may hold it
}

// Basic is HTTP basic authentication; the credentials are "user:password".
type Basic struct{}

// Reply is what the provider gets for an accepted request. The zero value is 200 without a body.
type Reply struct {
	Status      int    `json:"status,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Body        []byte `json:"body,omitempty"`
}

// Handshake answers a provider's test of the endpoint by echoing a part of the request. Nothing is stored, and the
// decoder is not asked.
type Handshake struct {
	Method        string      `json:"method,omitempty"` // default GET
	When          []Condition `json:"when,omitempty"`   // all must hold
	Echo          Part        `json:"echo"`             // PartHeader, PartQuery, PartJSONPointer or PartLiteral
	ContentType   string      `json:"content_type,omitempty"`
	Authenticated bool        `json:"authenticated,omitempty"` // the request has to pass the source's scheme first
	Member        string      `json:"member,omitempty"`        // the answer is a JSON object with the echo under this name
	Proof         *Proof      `json:"proof,omitempty"`
}

// Proof shows that the host knows the secret: the HMAC of the handshake's echo with the source's first secret, as a
// member of the answer's JSON object.
type Proof struct {
	Member    string    `json:"member"`
	Algorithm Algorithm `json:"algorithm,omitempty"`
	Encoding  Encoding  `json:"encoding,omitempty"`
	Prefix    string    `json:"prefix,omitempty"` // before the encoded value
}

// Condition holds if Part equals Equals or, where that is empty, is there.
type Condition struct {
	Part   Part   `json:"part"`
	Equals string `json:"equals,omitempty"`
}

// EventType is one entry of the catalogue.
type EventType struct {
	Type        string   `json:"type"`
	Description string   `json:"description,omitempty"`
	Data        Schema   `json:"data"`
	Samples     []Sample `json:"samples,omitempty"`
}

// Sample is a request that decodes to the event type it stands under. The host signs it before it sends it.
type Sample struct {
	Name    string          `json:"name"`
	Method  string          `json:"method,omitempty"`  // default POST
	Query   string          `json:"query,omitempty"`   // raw, without credentials
	Headers []Header        `json:"headers,omitempty"` // content-type, where it is not the manifest's first; what a scheme signs
	Body    json.RawMessage `json:"body,omitempty"`    // byte-exact; any bytes
	Vary    []Variation     `json:"vary,omitempty"`    // what makes a copy another event
}

// MarshalJSON implements json.Marshaler, for who shows a manifest: a body that is no JSON becomes a text.
func (s Sample) MarshalJSON() ([]byte, error) {
	type bare Sample
	shown := bare(s)
	if len(s.Body) > 0 && !json.Valid(s.Body) {
		text, err := json.Marshal(string(s.Body))
		if err != nil {
			return nil, err
		}
		shown.Body = text
	}
	return json.Marshal(shown)
}

// VariationKind is the kind of a Variation.
type VariationKind string

// The kinds of variations.
const (
	VaryID   VariationKind = "id"   // a fresh value of the same look: UUID, digits or text
	VaryTime VariationKind = "time" // the current time in the same layout
)

// Variation says how to make a copy of a sample a different event.
type Variation struct {
	Part Part          `json:"part"` // PartHeader, PartQuery or PartJSONPointer
	Kind VariationKind `json:"kind"`
}

// Request is the sample as a decoder gets it, for tests.
func (s *Sample) Request() *Request {
	r := &Request{
		ID: "req_sample", Source: "sample", Method: cmp.Or(s.Method, "POST"), Query: s.Query, Body: s.Body,
		ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for _, h := range s.Headers {
		r.Headers = append(r.Headers, Header{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return r
}
