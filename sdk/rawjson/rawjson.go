// Package rawjson finds the parts of a JSON text without decoding it, for decoders: most of a webhook's body passes
// through untouched, and an event's data that is a slice of the body costs nothing.
//
// Everything it returns is a slice of what it was given. It trusts that the text was checked, as the host does with every
// body before it calls a decoder: what lies inside a value that is stepped over is not looked at. On anything else it ends
// with an error or with meaningless slices; it never panics, recurses or takes more than linear time.
//
//	for m := rawjson.Members(r.Body); m.Next(); {
//		switch string(m.Name) {
//		case "id":
//			id = m.Value
//		case "value":
//			data = m.Value
//		}
//	}
//
// Members come in the order of the text. Where a name occurs twice, the loop above keeps the last, as encoding/json does.
package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Value is one JSON value as it was written, without white space around it. nil means that there is none.
type Value []byte

// Kind is the kind of a Value.
type Kind byte

// The kinds of values.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// String returns the kind's name with its article, for error texts: "an array".
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "a boolean"
	case Number:
		return "a number"
	case String:
		return "a string"
	case Array:
		return "an array"
	case Object:
		return "an object"
	}
	return "absent"
}

// Root returns the value that a JSON text holds: the text without white space around it. It does not check the text.
func Root(text []byte) Value {
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && isSpace(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	if len(text) == 0 {
		return nil
	}
	return text
}

// Kind returns the kind of v by its first byte. What cannot start a JSON value is Absent.
func (v Value) Kind() Kind {
	if len(v) == 0 {
		return Absent
	}
	switch c := v[0]; {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == 't' || c == 'f':
		return Bool
	case c == 'n':
		return Null
	case c == '-' || c >= '0' && c <= '9':
		return Number
	}
	return Absent
}

// Given reports whether v is there and not null.
func (v Value) Given() bool {
	k := v.Kind()
	return k != Absent && k != Null
}

// Text returns the text of a string, and false for every other kind. The text is valid UTF-8: what was not is replaced.
func (v Value) Text() (string, bool) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return strings.ToValidUTF8(string(v[1:len(v)-1]), "\uFFFD"), true
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		return "", false
	}
	return s, true
}

// ID returns an identifier: the text of a string that is not empty, or a number as it was written.
func (v Value) ID() (string, bool) {
	if v.Kind() == Number {
		return string(v), true
	}
	s, ok := v.Text()
	return s, ok && s != ""
}

// Get returns the value at the end of a path of member names, or nil where the path leads through something that is not
// there or not an object. Where several members are needed, one loop over Members reads the text only once.
func (v Value) Get(path ...string) Value {
	for _, name := range path {
		var found Value
		for m := Members(v); m.Next(); {
			if string(m.Name) == name {
				found = m.Value
			}
		}
		if found == nil {
			return nil
		}
		v = found
	}
	return v
}

// Follow returns the value that the steps of a JSON pointer (RFC 6901), without their escapes, lead to: each names a
// member of an object, or is the index of an element as the RFC writes it. It is nil where they lead nowhere.
func (v Value) Follow(steps ...string) Value {
	for _, step := range steps {
		switch v.Kind() {
		case Object:
			v = v.Get(step)
		case Array:
			v = v.element(step)
		default:
			return nil
		}
	}
	return v
}

func (v Value) element(index string) Value {
	n, err := strconv.Atoi(index)
	if err != nil || strconv.Itoa(n) != index {
		return nil
	}
	for w := Elements(v); w.Next(); {
		if w.Index == n {
			return w.Value
		}
	}
	return nil
}

// Walk steps through the members of an object or the elements of an array; Members and Elements make one.
type Walk struct {
	Name  []byte // the member's name with its escapes resolved; nil in an array
	Value Value
	Index int // from 0

	text    []byte
	pos     int
	started bool
	done    bool
	object  bool
	err     error
}

// Members walks through the members of the object that text holds.
func Members(text []byte) *Walk { return &Walk{text: text, object: true} }

// Elements walks through the elements of the array that text holds.
func Elements(text []byte) *Walk { return &Walk{text: text} }

// Next steps to the next member or element and reports whether there is one.
func (w *Walk) Next() bool {
	if w.done {
		return false
	}
	opening, closing := byte('['), byte(']')
	if w.object {
		opening, closing = '{', '}'
	}
	w.space()
	switch {
	case !w.started:
		if !w.take(opening) {
			if w.object {
				return w.fail(errNotObject)
			}
			return w.fail(errNotArray)
		}
		w.started = true
		w.space()
		if w.take(closing) {
			return w.end()
		}
	case w.take(closing):
		return w.end()
	case w.take(','):
		w.Index++
		w.space()
	default:
		return w.syntax()
	}
	if w.object && !w.name() {
		return false
	}
	end := skip(w.text, w.pos)
	if end < 0 {
		return w.syntax()
	}
	w.Value = w.text[w.pos:end:end]
	w.pos = end
	return true
}

// Err returns what was wrong with the text, once Next has returned false. It names a place and holds no content.
func (w *Walk) Err() error { return w.err }

var (
	errNotObject = errors.New("not a JSON object")
	errNotArray  = errors.New("not a JSON array")
)

// name reads a member's name and its colon.
func (w *Walk) name() bool {
	if w.pos >= len(w.text) || w.text[w.pos] != '"' {
		return w.syntax()
	}
	end := skipString(w.text, w.pos)
	if end < 0 {
		return w.syntax()
	}
	w.Name = w.text[w.pos+1 : end-1]
	if bytes.IndexByte(w.Name, '\\') >= 0 {
		s, ok := Value(w.text[w.pos:end]).Text()
		if !ok {
			return w.syntax()
		}
		w.Name = []byte(s)
	}
	w.pos = end
	w.space()
	if !w.take(':') {
		return w.syntax()
	}
	w.space()
	return true
}

// end accepts the object or array if nothing follows it.
func (w *Walk) end() bool {
	w.space()
	if w.pos < len(w.text) {
		return w.syntax()
	}
	return w.fail(nil)
}

func (w *Walk) syntax() bool { return w.fail(fmt.Errorf("malformed JSON at byte %d", w.pos)) }

func (w *Walk) fail(err error) bool {
	w.Name, w.Value, w.done, w.err = nil, nil, true, err
	return false
}

func (w *Walk) space() {
	for w.pos < len(w.text) && isSpace(w.text[w.pos]) {
		w.pos++
	}
}

func (w *Walk) take(c byte) bool {
	if w.pos < len(w.text) && w.text[w.pos] == c {
		w.pos++
		return true
	}
	return false
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// skip returns where the value that starts at i ends, or -1. Objects and arrays are stepped over by counting brackets,
// which finds the end of every well-formed one.
func skip(b []byte, i int) int {
	switch Value(b[i:]).Kind() {
	case String:
		return skipString(b, i)
	case Object, Array:
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = skipString(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	case Absent:
		return -1
	}
	for i < len(b) && !isSpace(b[i]) && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

// skipString returns where the string that starts at i ends, or -1.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}
