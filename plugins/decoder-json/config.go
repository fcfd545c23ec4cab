package main

import (
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// Config describes a provider.
type Config struct {
	Provider string `json:"provider" doc:"The provider's name, the first part of its event types: shop."`
	Title    string `json:"title,omitempty" doc:"The name as people write it."`

	Event Event           `json:"event" doc:"How a request becomes events."`
	Types map[string]Type `json:"types,omitempty" doc:"The event types that are known, without the provider's name before them."`

	Dedupe    []string   `json:"dedupe,omitempty" doc:"What makes two requests the same: the first whose places are all there; default: the body."`
	Signature *Signature `json:"signature" doc:"How the provider signs, where no preset fits: auth = \"signature\", the default if it is there."`
	Token     *Token     `json:"token" doc:"Where the provider sends a secret, where no preset fits: auth = \"token\"."`
	Handshake *Handshake `json:"handshake" doc:"The provider's test of the endpoint, which the host answers."`
	Reply     *Reply     `json:"reply" doc:"What the provider gets for a request that was accepted; default: 200 without a body."`

	Headers      []string `json:"headers,omitempty" doc:"More request headers to keep for routes: x-shop-*. Those of the places are kept."`
	Methods      []string `json:"methods,omitempty" enum:"POST|PUT|PATCH" default:"[\"POST\"]" doc:"Methods of the webhooks."`
	ContentTypes []string `json:"content_types,omitempty" default:"[\"application/json\"]" doc:"Media types of the webhooks, all of them JSON."`
}

// Event says how a request becomes events.
type Event struct {
	Items        *string  `json:"items" doc:"Pointer to a list, each element of which is an event. Default: the body is one event."`
	Type         string   `json:"type" doc:"The provider's word for what happened."`
	Ignore       []string `json:"ignore,omitempty" doc:"Words that make no event, such as that of a ping."`
	Subject      string   `json:"subject,omitempty" doc:"What the event is about: order/{/order/id}."`
	PartitionKey string   `json:"partition_key,omitempty" doc:"Whose history stays in order; default: the subject."`
	Operation    string   `json:"operation,omitempty" doc:"created, updated, deleted or the provider's own word; default: the last part of the type, if it is one of the three."`
	Tenant       string   `json:"tenant,omitempty" doc:"The customer at the provider."`
	Time         string   `json:"time,omitempty" doc:"When it happened; default: the time of receipt."`
	TimeFormat   string   `json:"time_format,omitempty" enum:"rfc3339|unix|unix_ms|datetime" default:"rfc3339" doc:"unix: seconds. datetime: 2026-02-14 08:00:00, in UTC."`
	Data         string   `json:"data,omitempty" doc:"Pointer to the event's data; default: all of it."`
	Changes      *Changes `json:"changes" doc:"Where the provider says what has changed."`
}

// Changes says where the changed fields of a record are.
type Changes struct {
	Old  string `json:"old,omitempty" doc:"Pointer to an object with the former values; with each: to the former value in an entry."`
	New  string `json:"new,omitempty" doc:"Pointer to an object with the present values; likewise."`
	Each string `json:"each,omitempty" doc:"Pointer to an object or a list with one entry per changed field."`
	Name string `json:"name,omitempty" doc:"With each, in a list: pointer to the field's name in an entry."`
}

// Type is an event type that is known.
type Type struct {
	Words       []string `json:"words,omitempty" doc:"The provider's words for it; default: the type itself."`
	Description string   `json:"description,omitempty"`
	Operation   string   `json:"operation,omitempty" doc:"Instead of event.operation."`
	Schema      string   `json:"schema,omitempty" doc:"JSON Schema of the data. Default: what the sample shows."`
	Sample      *Sample  `json:"sample" doc:"A request of this type. It is decoded when the configuration is checked, and can be sent."`
}

// Sample is a request.
type Sample struct {
	Body    string            `json:"body" doc:"The JSON, mostly of a file: file(\"order.json\")."`
	Headers map[string]string `json:"headers,omitempty" doc:"Headers that the decoder looks at."`
	Query   string            `json:"query,omitempty" doc:"Of the URL, where it matters."`
}

// Signature is a signature in a header.
type Signature struct {
	Header      string     `json:"header" doc:"The header; aliases, of which one is there, with commas."`
	Algorithm   string     `json:"algorithm,omitempty" enum:"sha256|sha384|sha512|sha1|ed25519" default:"sha256" doc:"An HMAC with this hash, or a signature with a key pair, whose public keys are the secrets."`
	Encoding    string     `json:"encoding,omitempty" enum:"hex|base64|base64url" default:"hex"`
	Prefix      string     `json:"prefix,omitempty" doc:"Before the encoded value: sha256=."`
	Content     string     `json:"content,omitempty" default:"{body}" doc:"What is signed: {timestamp}.{body}."`
	KeyFormat   string     `json:"key_format,omitempty" enum:"text|base64|hex|whsec" default:"text" doc:"How the secret stands for the key's bytes."`
	Timestamp   *Timestamp `json:"timestamp" doc:"The signed time, which bounds how long a request can be sent again."`
	Separator   string     `json:"separator,omitempty" doc:"The header has several items, with this between them."`
	ItemKey     string     `json:"item_key,omitempty" doc:"Items are key=value, and this is the signature's key: v1."`
	ItemVersion string     `json:"item_version,omitempty" doc:"Items are version,value, and this is the version that counts: v1."`
}

// Timestamp is the time that a signature covers.
type Timestamp struct {
	Header    string        `json:"header,omitempty" doc:"The header that has it, or"`
	Item      string        `json:"item,omitempty" doc:"the key of its item in the signature's header: t."`
	Unit      string        `json:"unit,omitempty" enum:"s|ms" default:"s"`
	Tolerance time.Duration `json:"tolerance,omitempty" default:"5m" doc:"How far it may be from now, either way."`
}

// Token is a secret in the request.
type Token struct {
	Place  string   `json:"place" doc:"{header.X-Api-Key}, {query.key} or {path_token}."`
	Also   []string `json:"also,omitempty" doc:"Other places; exactly one has it."`
	Prefix string   `json:"prefix,omitempty" doc:"Before it, in a header."`
}

// Handshake is a test of the endpoint.
type Handshake struct {
	Method        string            `json:"method,omitempty" default:"GET"`
	When          map[string]string `json:"when,omitempty" doc:"Places and the texts that stand there; an empty one: any text. All must hold."`
	Echo          string            `json:"echo" doc:"The place of what is given back: {query.challenge}."`
	Member        string            `json:"member,omitempty" doc:"The answer is a JSON object with the echo under this name; default: the echo itself."`
	Authenticated bool              `json:"authenticated,omitempty" doc:"The test is signed like a webhook."`
	Proof         *Proof            `json:"proof" doc:"A member with the HMAC of the echo, made with the first secret."`
}

// Proof is the HMAC of an echo.
type Proof struct {
	Member    string `json:"member"`
	Algorithm string `json:"algorithm,omitempty" enum:"sha256|sha384|sha512|sha1" default:"sha256"`
	Encoding  string `json:"encoding,omitempty" enum:"hex|base64|base64url" default:"hex"`
	Prefix    string `json:"prefix,omitempty"`
}

// Reply is the answer to a request.
type Reply struct {
	Status      int    `json:"status,omitempty" default:"200" doc:"200 to 299."`
	ContentType string `json:"content_type,omitempty"`
	Body        string `json:"body,omitempty"`
}

// Validate implements sdk.Validator.
func (c *Config) Validate() error {
	_, _, err := compile(c)
	return err
}

// Manifest implements sdk.Manifester.
func (c *Config) Manifest() (sdk.Provider, error) {
	_, p, err := compile(c)
	return p, err
}
