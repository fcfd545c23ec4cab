// Package cloudevents writes deliveries as CloudEvents 1.0, for sinks that hand events on: in the JSON format
// (application/cloudevents+json) and as the attributes and header values of the HTTP binding's binary mode.
//
// Besides the attributes of sdk.Envelope an event has the extensions deliveryid, the delivery's id, and sequence, the
// order in which its source's requests were accepted, as a text that sorts. Attributes that are empty are left out. The
// data is the provider's, token by token; changes have no place in a CloudEvent.
package cloudevents

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/sdk"
)

// Media types of the HTTP binding. Receivers compare that of a batch as a whole, so it has no charset.
const (
	ContentType      = "application/cloudevents+json; charset=utf-8"
	BatchContentType = "application/cloudevents-batch+json"
)

const (
	specVersion     = "1.0"
	dataContentType = "application/json"
)

// Attribute is a named attribute or extension.
type Attribute struct {
	Name, Value string
}

// Attributes are those of a delivery's event, without empty ones and without datacontenttype, which is always
// application/json.
func Attributes[M any](d *sdk.Delivery[M]) []Attribute {
	e := &d.Event
	all := []Attribute{
		{"specversion", specVersion}, {"id", e.ID}, {"source", e.Source}, {"type", e.Type}, {"subject", e.Subject},
		{"time", e.Time}, {"partitionkey", e.PartitionKey}, {"provider", e.Provider}, {"operation", e.Operation},
		{"tenant", e.Tenant}, {"deliveryid", d.ID}, {"sequence", ""},
	}
	if d.Sequence > 0 {
		var digits [19]byte
		all[len(all)-1].Value = string(appendSequence(digits[:0], d.Sequence))
	}
	n := 0
	for _, a := range all {
		if a.Value != "" {
			all[n] = a
			n++
		}
	}
	return all[:n]
}

// Append appends a delivery's event in the JSON format, on one line. data is the event's data, mostly d.Data: a valid
// JSON text, or nothing for null.
func Append[M any](b []byte, d *sdk.Delivery[M], data []byte) []byte {
	e := &d.Event
	b = append(b, `{"specversion":"`+specVersion+`"`...)
	b = appendAttribute(b, `,"id":`, e.ID)
	b = appendAttribute(b, `,"source":`, e.Source)
	b = appendAttribute(b, `,"type":`, e.Type)
	b = appendAttribute(b, `,"subject":`, e.Subject)
	b = appendAttribute(b, `,"time":`, e.Time)
	b = append(b, `,"datacontenttype":"`+dataContentType+`"`...)
	b = appendAttribute(b, `,"partitionkey":`, e.PartitionKey)
	b = appendAttribute(b, `,"provider":`, e.Provider)
	b = appendAttribute(b, `,"operation":`, e.Operation)
	b = appendAttribute(b, `,"tenant":`, e.Tenant)
	b = appendAttribute(b, `,"deliveryid":`, d.ID)
	if d.Sequence > 0 {
		b = append(b, `,"sequence":"`...)
		b = appendSequence(b, d.Sequence)
		b = append(b, '"')
	}
	b = append(b, `,"data":`...)
	if len(data) == 0 {
		b = append(b, "null"...)
	} else {
		b = AppendJSON(b, data)
	}
	return append(b, '}')
}

// appendSequence appends the value of the registered extension, a text that sorts: every positive 64-bit number in 19
// digits.
func appendSequence(b []byte, sequence int64) []byte {
	var digits [20]byte
	n := strconv.AppendInt(digits[:0], sequence, 10)
	b = append(b, "0000000000000000000"[len(n):]...)
	return append(b, n...)
}

// appendAttribute appends a member, name with its punctuation, unless the text is empty.
func appendAttribute(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return AppendString(append(b, name...), text)
}

// AppendString appends a text as a JSON string. Bytes that are no UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(b, s[done:i]...)
				b = append(b, "\uFFFD"...)
				done = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			b = append(b, s[done:i]...)
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, '\\', c)
			}
			done = i + 1
		}
		i++
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}

// AppendJSON appends a valid JSON text on one line: if it has line breaks, all white space between its tokens is left
// out. Tokens stay as they are. Of a text that is not valid JSON a line break within a string remains.
func AppendJSON(b, text []byte) []byte {
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return append(b, text...)
	}
	for i := 0; i < len(text); {
		switch text[i] {
		case ' ', '\n', '\r', '\t':
			i++
		case '"':
			end := stringEnd(text, i)
			b = append(b, text[i:end]...)
			i = end
		default:
			start := i
			for i < len(text) && text[i] > ' ' && text[i] != '"' {
				i++
			}
			if i == start { // a control character: no JSON, but not ours to loop on
				i++
			}
			b = append(b, text[start:i]...)
		}
	}
	return b
}

// stringEnd returns the index after the string that starts at i.
func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// HeaderValue is an attribute's value as a header of the binary mode has it: space, double quote, percent sign and all
// that is not printable ASCII are percent-encoded, byte by byte. Bytes that are no UTF-8 become U+FFFD first, since
// receivers decode to UTF-8.
func HeaderValue(s string) string {
	encode := 0
	for i := range len(s) {
		if mustEncode(s[i]) {
			encode++
		}
	}
	if encode == 0 {
		return s
	}
	if !utf8.ValidString(s) {
		s = strings.Map(func(r rune) rune { return r }, s)
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s) + 2*encode)
	for i := range len(s) {
		if c := s[i]; mustEncode(c) {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func mustEncode(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }
