package sdk

import (
	"encoding/json"
	"strings"
	"time"
)

// Provider is a decoder's manifest: all that the host needs to receive and authenticate one provider's webhooks, and
// the catalogue of its events. The host runs what the manifest declares; the decoder never sees a secret.
type Provider struct {
	Name         string      // first label of a source block and first part of every event type
	Title        string      // "Visma Youforce"
	Schemes      []Scheme    // the first is the default where `auth` is not written; "none" exists always
	Methods      []string    // default POST
	ContentTypes []string    // media types without parameters; default application/json
	Headers      []string    // request headers to keep: "x-vwd-*", "*"; content-type is always kept
	Reply        Reply       // what the provider gets for an accepted request
	Handshake    *Handshake  // nil: none
	Dedupe       []DedupeKey // the first alternative all of whose parts are there wins; default: the body
	Addresses    []string    // published source addresses, IP or CIDR; a source's allow_ips decides
	Events       []EventType // the catalogue
}

// PartKind is the kind of a Part.
type PartKind string

// The kinds of parts.
const (
	PartBody        PartKind = "body"         // the raw bytes
	PartHeader      PartKind = "header"       // Name: header name; alternatives, of which one may be there, split by commas
	PartQuery       PartKind = "query"        // Name: parameter name
	PartJSONPointer PartKind = "json_pointer" // Name: RFC 6901 pointer into the body
	PartLiteral     PartKind = "literal"      // Name: the text itself
	PartTimestamp   PartKind = "timestamp"    // the signature's own timestamp as received
	PartPathToken   PartKind = "path_token"   // the one path segment below the source's path
)

// Part names a piece of a request.
type Part struct {
	Kind     PartKind
	Name     string
	FoldCase bool // PartJSONPointer: member names match in any case
}

// DedupeKey is one way to tell that two requests are the same: the parts together.
type DedupeKey []Part

// Scheme is one way to authenticate a request. Exactly one of HMAC, Token, Basic and Ed25519 is set.
type Scheme struct {
	Name        string // the value of a source's `auth`
	Description string
	Attribute   string // the source's attribute with the credentials, a text or list of texts; default "secrets"
	HMAC        *HMAC
	Token       *Token
	Basic       *Basic
	Ed25519     *Ed25519
	Allow       []AllowList
}

// AllowList admits a request only if Part is among the values of an optional list attribute of the source.
type AllowList struct {
	Attribute   string
	Part        Part
	Description string
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
	Headers       []string // the signature's header; more are aliases, of which exactly one may be there
	Algorithm     Algorithm
	Encoding      Encoding
	Prefix        string // before the encoded value, stripped once, exact: "sha256="
	SignedContent []Part // joined without separator; default: the body
	KeyFormat     KeyFormat
	Timestamp     *Timestamp
	Separator     string // the header holds several items, split by this
	ItemKey       string // items are key=value: the signatures are those with this key
	ItemVersion   string // items are version,value: the signatures are those of this version
}

// Ed25519 describes a public-key signature in a header; the secrets are public keys, base64 after an optional "whpk_".
type Ed25519 struct {
	Headers       []string
	Encoding      Encoding
	SignedContent []Part
	Timestamp     *Timestamp
	Separator     string
	ItemVersion   string
}

// Timestamp bounds replays of a signed request. It is read from a header or from an item of the signature's header.
type Timestamp struct {
	Headers       []string
	ItemKey       string
	Milliseconds  bool
	PastSeconds   int64 // default 300
	FutureSeconds int64 // default 300
}

// Token compares a part of the request with the credentials; the part is cut from what is stored and decoded.
type Token struct {
	Part         Part
	Prefix       string // "Bearer "
	Alternatives []Part // where else it may stand; exactly one place may hold it
}

// Basic is HTTP basic authentication; the credentials are "user:password".
type Basic struct{}

// Reply is what the provider gets for an accepted request. The zero value is 200 without a body.
type Reply struct {
	Status      int
	ContentType string
	Body        []byte
}

// Handshake answers a provider's test of the endpoint by echoing a part of the request.
type Handshake struct {
	Method      string
	When        []Condition // all must hold
	Echo        Part
	ContentType string
}

// Condition holds if Part equals Equals or, where that is empty, is there.
type Condition struct {
	Part   Part
	Equals string
}

// EventType is one entry of the catalogue.
type EventType struct {
	Type        string
	Description string
	Data        Schema
	Samples     []Sample
}

// Sample is a request that decodes to the event type it stands under. The host signs it before it sends it.
type Sample struct {
	Name    string
	Headers []Header
	Body    json.RawMessage // byte-exact
	Vary    []Variation     // what makes a copy another event
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
	Part Part // PartHeader or PartJSONPointer
	Kind VariationKind
}

// Request is the sample as a decoder gets it, for tests.
func (s *Sample) Request() *Request {
	r := &Request{
		ID: "req_sample", Source: "sample", Method: "POST", Body: s.Body,
		ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for _, h := range s.Headers {
		r.Headers = append(r.Headers, Header{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return r
}
