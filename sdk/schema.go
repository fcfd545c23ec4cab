package sdk

import "encoding/json"

// Kind is the kind of a schema.
type Kind string

// The kinds of values that configurations, messages and event data are made of.
const (
	KindAny      Kind = "any"      // any JSON value
	KindString   Kind = "string"   //
	KindNumber   Kind = "number"   // any JSON number
	KindInteger  Kind = "integer"  // a JSON number without fraction, within 64 bits signed
	KindBool     Kind = "bool"     //
	KindDuration Kind = "duration" // "1h30m" or "3d" in HCL; a number of nanoseconds in JSON
	KindObject   Kind = "object"   // exactly the named attributes
	KindMap      Kind = "map"      // string keys, every value of one schema
	KindList     Kind = "list"     // every element of one schema
)

// Escape says how the host escapes each ${…} part of a template in an attribute, and in one of KindAny every text that
// comes from the event, but no member's name. The author's own text is left as it is.
type Escape string

// The escapes. EscapeNone is the zero value.
const (
	EscapeNone        Escape = ""
	EscapeHTML        Escape = "html"
	EscapeURL         Escape = "url" // percent-encoding of a path segment or query value
	EscapeSlackMrkdwn Escape = "slack_mrkdwn"
)

// Format says what a text is, beyond being a text.
type Format string

// The formats. FormatNone is the zero value.
const (
	FormatNone Format = ""
	FormatPath Format = "path" // in configurations: a file or folder; the host makes it absolute from the file it stands in
)

// Schema describes a configuration, a message or an event's data. It is one recursive type; SchemaOf derives it from a
// Go struct. A Schema is not changed after it was made and may be read from any number of goroutines.
type Schema struct {
	Kind        Kind        `json:"kind"`
	Description string      `json:"description,omitempty"`
	Attributes  []Attribute `json:"attributes,omitempty"` // KindObject, in order of declaration
	Element     *Schema     `json:"element,omitempty"`    // KindMap, KindList

	Optional  bool            `json:"optional,omitempty"` // as an attribute: may be left out
	Nullable  bool            `json:"nullable,omitempty"`
	Enum      []string        `json:"enum,omitempty"`      // KindString: the allowed values
	Default   json.RawMessage `json:"default,omitempty"`   // as an optional attribute: its value when left out
	Sensitive bool            `json:"sensitive,omitempty"` // never shown, logged or stored in clear
	Escape    Escape          `json:"escape,omitempty"`    // KindString, KindAny
	Format    Format          `json:"format,omitempty"`    // KindString
}

// Attribute is one named member of an object.
type Attribute struct {
	Name   string `json:"name"` // [a-z][a-z0-9_]* in configurations and messages; the provider's spelling in event data
	Schema Schema `json:"schema"`
}

// Attribute returns the named attribute of an object schema, or nil.
func (s *Schema) Attribute(name string) *Schema {
	for i := range s.Attributes {
		if s.Attributes[i].Name == name {
			return &s.Attributes[i].Schema
		}
	}
	return nil
}

// Secret is a text that does not show itself: it prints, logs and marshals as "(sensitive)". A configuration attribute
// of this type is sensitive. Reveal gives the text.
type Secret struct{ text string }

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text} }

const redacted = "(sensitive)"

// Reveal returns the secret text. Call it where the secret is used and nowhere else.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.text == "" }

// String implements fmt.Stringer without revealing the text.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer without revealing the text.
func (s Secret) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler without revealing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText implements encoding.TextUnmarshaler: it takes the text.
func (s *Secret) UnmarshalText(b []byte) error { s.text = string(b); return nil }
