package sample

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/core/formscan"
	"github.com/grapnelhq/grapnel/core/jsonscan"
)

// Pointer turns a place in a JSON text into an RFC 6901 pointer. People write it with full stops, as in
// "data.items[0].name" or "data.items.0.name", or as a pointer: then it begins with a slash.
func Pointer(path string) (string, error) {
	switch {
	case path == "":
		return "", fmt.Errorf("the path is empty")
	case path[0] == '/':
		return path, nil
	}
	var b strings.Builder
	for _, step := range strings.Split(path, ".") {
		name, indexes, indexed := strings.Cut(step, "[")
		if name == "" {
			return "", fmt.Errorf("a step of the path %q is empty; a name with a full stop needs a JSON pointer, such as "+
				`"/data/a.b"`, path)
		}
		b.WriteString("/" + escapeStep(name))
		if !indexed {
			continue
		}
		if !strings.HasSuffix(indexes, "]") {
			return "", fmt.Errorf("a bracket of the path %q is not closed", path)
		}
		for _, n := range strings.Split(strings.TrimSuffix(indexes, "]"), "][") {
			if !isDigits(n) {
				return "", fmt.Errorf("%q in the path %q is no index", n, path)
			}
			b.WriteString("/" + n)
		}
	}
	return b.String(), nil
}

func escapeStep(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

func unescapeStep(step string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(step) }

// Set returns a copy of a body with another value, as JSON, at a pointer; everything else stays byte for byte. A member
// that is not there is added, with the objects that it needs; an element is added at the end of a list. In a form the
// first step names a field, whose text is JSON if there are more steps. The body must be JSON, or a form.
func Set(body []byte, form bool, pointer string, value []byte) ([]byte, error) {
	return edit(body, form, pointer, value)
}

// Remove returns a copy of a body without what is at a pointer; see Set.
func Remove(body []byte, form bool, pointer string) ([]byte, error) {
	return edit(body, form, pointer, nil)
}

// maxSteps bounds what a pointer may nest.
const maxSteps = 100

// edit sets a value, or removes it if value is nil.
func edit(body []byte, form bool, pointer string, value []byte) ([]byte, error) {
	if !utf8.ValidString(pointer) || pointer != "" && pointer[0] != '/' {
		return nil, fmt.Errorf("%q is no JSON pointer", pointer)
	}
	if n := strings.Count(pointer, "/"); n > maxSteps {
		return nil, fmt.Errorf("a JSON pointer of %d steps; at most %d are possible", n, maxSteps)
	}
	if form {
		return editField(body, pointer, value)
	}
	if err := jsonscan.Check(body, jsonscan.DefaultLimits()); err != nil {
		return nil, fmt.Errorf("the body is no JSON, so nothing can be changed in it: %w", err)
	}
	if value == nil {
		return remove(body, pointer)
	}
	return set(body, pointer, value)
}

// parent splits a pointer before its last step.
func parent(pointer string) (above, step string) {
	i := strings.LastIndexByte(pointer, '/')
	return pointer[:i], unescapeStep(pointer[i+1:])
}

func set(body []byte, pointer string, value []byte) ([]byte, error) {
	if raw, ok := jsonscan.Lookup(body, pointer, false); ok {
		return splice(body, raw, string(value)), nil
	}
	above, step := parent(pointer)
	raw, ok := jsonscan.Lookup(body, above, false)
	name, err := json.Marshal(step)
	if err != nil {
		return nil, err
	}
	member := append(append(name, ':'), value...)
	switch {
	case !ok, string(raw) == "null":
		return set(body, above, append(append([]byte("{"), member...), '}'))
	case raw[0] == '{':
		return insert(body, raw, member), nil
	case raw[0] == '[' && (step == "-" || step == fmt.Sprint(count(raw))):
		return insert(body, raw, value), nil
	case raw[0] == '[':
		return nil, fmt.Errorf("%s is a list of %d, so %q is no place in it", shown(above), count(raw), step)
	}
	return nil, fmt.Errorf("%s is neither an object nor a list, so nothing can be set in it", shown(above))
}

func remove(body []byte, pointer string) ([]byte, error) {
	raw, ok := jsonscan.Lookup(body, pointer, false)
	if !ok {
		return nil, fmt.Errorf("there is nothing at %s to remove%s", shown(pointer), there(body, pointer))
	}
	if pointer == "" {
		return nil, fmt.Errorf("the whole body cannot be removed")
	}
	above, _ := parent(pointer)
	list, _ := jsonscan.Lookup(body, above, false)
	// With the comma before it, or else the one after it.
	from, to := 0, 0
	last := 1 // after what is before the member
	for m := jsonscan.Open(list); m.Next(); {
		end := cap(list) - cap(m.Value) + len(m.Value)
		if cap(m.Value) == cap(raw) {
			from, to = last, end
			if last == 1 { // the first: take what follows up to the next member
				to = jsonscan.Space(list, to)
				if to < len(list) && list[to] == ',' {
					to++
				}
			}
			break
		}
		last = end
	}
	at := cap(body) - cap(list)
	out := append([]byte{}, body[:at+from]...)
	return append(out, body[at+to:]...), nil
}

// insert returns a copy of b with something more at the end of the object or list raw, which is a slice of b.
func insert(b, raw, more []byte) []byte {
	end := cap(b) - cap(raw) + len(raw) - 1
	out := append([]byte{}, bytes.TrimRight(b[:end], " \t\r\n")...)
	if m := jsonscan.Open(raw); m.Next() {
		out = append(out, ',')
	}
	out = append(out, more...)
	return append(out, b[end:]...)
}

func count(raw []byte) (n int) {
	for m := jsonscan.Open(raw); m.Next(); {
		n++
	}
	return n
}

// shown is a pointer as people read it.
func shown(pointer string) string {
	if pointer == "" {
		return "the body"
	}
	return pointer
}

// maxThere is how many names there lists.
const maxThere = 20

// there lists what is where a pointer leads nowhere.
func there(body []byte, pointer string) string {
	for pointer != "" {
		pointer, _ = parent(pointer)
		raw, ok := jsonscan.Lookup(body, pointer, false)
		if !ok {
			continue
		}
		var names []string
		for m := jsonscan.Open(raw); m.Next() && m.Key != nil; {
			name, _ := jsonscan.Unquote(m.Key)
			if names = append(names, name); len(names) > maxThere {
				names[maxThere] = "…"
				break
			}
		}
		if len(names) > 0 {
			return fmt.Sprintf("; in %s there are %s", shown(pointer), strings.Join(names, ", "))
		}
		return ""
	}
	return ""
}

// editField edits a form.
func editField(form []byte, pointer string, value []byte) ([]byte, error) {
	step, below, nested := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	name := unescapeStep(step)
	raw, n := formscan.Lookup(form, name, false)
	switch {
	case pointer == "":
		return nil, fmt.Errorf("the body is a form: name a field of it")
	case n > 1:
		return nil, fmt.Errorf("%d fields of the form are named %q", n, name)
	case n == 0 && (value == nil || nested):
		return nil, fmt.Errorf("the form has no field %q", name)
	case nested:
		text, err := edit(formscan.Unescape(raw), false, "/"+below, value)
		if err != nil {
			return nil, fmt.Errorf("in the field %q: %w", name, err)
		}
		return splice(form, raw, url.QueryEscape(string(text))), nil
	case value == nil:
		from := bytes.LastIndexByte(form[:cap(form)-cap(raw)], '&') + 1
		rest := bytes.TrimPrefix(form[cap(form)-cap(raw)+len(raw):], []byte("&"))
		out := append(append([]byte{}, form[:from]...), rest...)
		return bytes.TrimSuffix(out, []byte("&")), nil
	}
	text := string(value)
	if s, ok := jsonscan.Unquote(value); ok {
		text = s
	}
	if n == 1 {
		return splice(form, raw, url.QueryEscape(text)), nil
	}
	out := append([]byte{}, form...)
	if len(out) > 0 {
		out = append(out, '&')
	}
	return append(out, url.QueryEscape(name)+"="+url.QueryEscape(text)...), nil
}
