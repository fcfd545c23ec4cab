package main

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/sdk"
)

// appendLine appends a delivery's line without its end: the record that the route asked for, or the event as
// CloudEvents 1.0 JSON. All tokens stay as they are.
func appendLine(b []byte, d *sdk.Delivery[Message]) []byte {
	if r := d.Message.Record; len(r) > 0 && string(r) != "null" {
		return appendJSON(b, r)
	}
	e := &d.Event
	b = append(b, `{"specversion":"1.0"`...)
	b = appendAttribute(b, `,"id":`, e.ID)
	b = appendAttribute(b, `,"source":`, e.Source)
	b = appendAttribute(b, `,"type":`, e.Type)
	b = appendAttribute(b, `,"subject":`, e.Subject)
	b = appendAttribute(b, `,"time":`, e.Time)
	b = append(b, `,"datacontenttype":"application/json"`...)
	b = appendAttribute(b, `,"partitionkey":`, e.PartitionKey)
	b = appendAttribute(b, `,"provider":`, e.Provider)
	b = appendAttribute(b, `,"operation":`, e.Operation)
	b = appendAttribute(b, `,"tenant":`, e.Tenant)
	b = appendAttribute(b, `,"deliveryid":`, d.ID)
	if d.Sequence > 0 {
		// The registered extension is a text that sorts: every 64-bit number in 19 digits.
		b = append(b, `,"sequence":"`...)
		var digits [20]byte
		n := strconv.AppendInt(digits[:0], d.Sequence, 10)
		b = append(b, "0000000000000000000"[len(n):]...)
		b = append(b, n...)
		b = append(b, '"')
	}
	b = append(b, `,"data":`...)
	if len(d.Data) == 0 {
		b = append(b, "null"...)
	} else {
		b = appendJSON(b, d.Data)
	}
	return append(b, '}')
}

// appendAttribute appends a member, name with its punctuation, unless the text is empty.
func appendAttribute(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendString(append(b, name...), text)
}

// appendString appends a JSON string. Bytes that are no UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
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

// appendJSON appends a valid JSON text, on one line: if it has line breaks, all white space between its tokens is
// left out.
func appendJSON(b, text []byte) []byte {
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
