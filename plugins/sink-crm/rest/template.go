package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	stduritemplate "github.com/std-uritemplate/std-uritemplate/go/v2"

	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// Placeholders stand for what a step is about: {key}, {fields.email}, {id}. There are three places for them, and
// nothing is computed in any:
//
//   - a path is a URI template (RFC 6570), whose expansions are percent-encoded;
//   - a text (header, query value) has placeholders in their simplest form, and {{ and }} for braces;
//   - a body is JSON in which every text but the names of members is such a text, and one that is nothing but a
//     placeholder becomes the value itself: a number, an object, null.

// part of a template: a text or, if ref is not empty, a placeholder.
type part struct {
	text string // in a body: JSON
	ref  ref
	// whole: the placeholder stands alone in a text of a body, where its value goes as JSON.
	whole bool
	path  []string // in a body: where it stands
}

// template is a text or a body.
type template struct {
	parts []part
	// careful: values become parts of a text in a language of the far end's, such as a filter.
	careful bool
}

// ref is the name in a placeholder and the members behind it.
type ref []string

func (r ref) String() string { return strings.Join(r, ".") }

// parseText reads a text with placeholders.
func parseText(s string) (template, error) {
	var t template
	var text strings.Builder
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			i = len(s)
		}
		text.WriteString(s[:i])
		s = s[i:]
		switch {
		case s == "":
		case strings.HasPrefix(s, "{{") || strings.HasPrefix(s, "}}"):
			text.WriteByte(s[0])
			s = s[2:]
		case s[0] == '}':
			return template{}, errors.New(`a "}" without its "{"; a brace that means itself is written twice`)
		default:
			name, rest, closed := strings.Cut(s[1:], "}")
			if !closed {
				return template{}, errors.New(`a "{" without its "}"; a brace that means itself is written twice`)
			}
			r, err := parseRef(name)
			if err != nil {
				return template{}, err
			}
			if text.Len() > 0 {
				t.parts = append(t.parts, part{text: text.String()})
				text.Reset()
			}
			t.parts = append(t.parts, part{ref: r})
			s = rest
		}
	}
	if text.Len() > 0 {
		t.parts = append(t.parts, part{text: text.String()})
	}
	t.careful = len(t.parts) > 1
	return t, nil
}

// parseRef reads what stands between braces.
func parseRef(name string) (ref, error) {
	r := ref(strings.Split(name, "."))
	for _, step := range r {
		if step == "" || strings.ContainsFunc(step, func(c rune) bool { return !isNameRune(c) }) {
			return nil, fmt.Errorf("{%s} is no placeholder; a brace that means itself is written twice", name)
		}
	}
	return r, nil
}

func isNameRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// bodyError is a mistake in a text of a body: path leads to it.
type bodyError struct {
	path []string
	err  error
}

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// parseBody reads a body. What is not in a text, numbers above all, stays as it is written.
func parseBody(body json.RawMessage) (template, error) {
	if !json.Valid(body) {
		return template{}, errors.New("not JSON")
	}
	var t template
	if err := t.body(rawjson.Root(body), nil); err != nil {
		return template{}, err
	}
	return t, nil
}

// literal adds JSON that stays as it is.
func (t *template) literal(s string) {
	if n := len(t.parts); n > 0 && t.parts[n-1].ref == nil {
		t.parts[n-1].text += s
		return
	}
	t.parts = append(t.parts, part{text: s})
}

// body adds a value. It goes as deep as the configuration does, which JSON bounds.
func (t *template) body(v rawjson.Value, path []string) error {
	switch v.Kind() {
	case rawjson.Object:
		t.literal("{")
		for w := rawjson.Members(v); w.Next(); {
			name := string(w.Name)
			at := append(slices.Clip(path), name)
			if strings.ContainsAny(name, "{}") {
				return &bodyError{at, errors.New("the name of a member cannot have placeholders")}
			}
			if w.Index > 0 {
				t.literal(",")
			}
			t.literal(quote(name) + ":")
			if err := t.body(w.Value, at); err != nil {
				return err
			}
		}
		t.literal("}")
	case rawjson.Array:
		t.literal("[")
		for w := rawjson.Elements(v); w.Next(); {
			if w.Index > 0 {
				t.literal(",")
			}
			if err := t.body(w.Value, append(slices.Clip(path), fmt.Sprint(w.Index))); err != nil {
				return err
			}
		}
		t.literal("]")
	case rawjson.String:
		s, _ := v.Text()
		text, err := parseText(s)
		if err != nil {
			return &bodyError{path, err}
		}
		if len(text.parts) == 1 && text.parts[0].ref != nil {
			t.parts = append(t.parts, part{ref: text.parts[0].ref, whole: true, path: path})
			return nil
		}
		t.literal(`"`)
		for _, p := range text.parts {
			if p.ref == nil {
				q := quote(p.text)
				t.literal(q[1 : len(q)-1])
				continue
			}
			t.careful = true
			t.parts = append(t.parts, part{ref: p.ref, path: path})
		}
		t.literal(`"`)
	default:
		t.literal(string(v))
	}
	return nil
}

// quote is a text as JSON.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""` // a text can always be marshalled
	}
	return string(b)
}

// values gives placeholders their meaning, as JSON. An error is an outcome.
type values func(r ref) (rawjson.Value, error)

// text expands a text.
func (t template) text(v values, escape map[string]string) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.ref == nil {
			b.WriteString(p.text)
			continue
		}
		s, err := v.text(p.ref)
		if err == nil && t.careful {
			s, err = embed(p.ref, s, escape)
		}
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// json expands a body.
func (t template) json(v values, escape map[string]string) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range t.parts {
		switch {
		case p.ref == nil:
			b.WriteString(p.text)
		case p.whole:
			value, err := v(p.ref)
			if err != nil {
				return nil, err
			}
			b.Write(value)
		default:
			s, err := v.text(p.ref)
			if err == nil && t.careful {
				s, err = embed(p.ref, s, escape)
			}
			if err != nil {
				return nil, err
			}
			q := quote(s)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.Bytes(), nil
}

// text is a value as text: that of a string, or the spelling of a number or of true or false.
func (v values) text(r ref) (string, error) {
	value, err := v(r)
	if err != nil {
		return "", err
	}
	switch value.Kind() {
	case rawjson.String:
		s, ok := value.Text()
		if !ok {
			return "", reject(r, "{%s} is not a text", r)
		}
		return s, nil
	case rawjson.Number, rawjson.Bool:
		return string(value), nil
	}
	return "", reject(r, "{%s} is %v, and stands where a text is needed", r, value.Kind())
}

// embed makes a value fit for the middle of a text. A text with placeholders in it is often a filter or a query, in
// which a quotation mark would end what the author meant to be a value, and start what the sender wants.
func embed(r ref, s string, escape map[string]string) (string, error) {
	var b strings.Builder
	for _, c := range s {
		with, ok := escape[string(c)]
		switch {
		case ok:
			b.WriteString(with)
		case strings.ContainsRune("'\"`\\", c) || unicode.IsControl(c):
			return "", reject(r, "{%s} holds %q, which does not go into a text unless the step's escape says how", r, c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String(), nil
}

// path is a URI template with what its variables mean.
type path struct {
	template string
	refs     map[string]ref  // by variable
	plain    map[string]bool // variables that are not percent-encoded: {+name}
	careful  bool            // there are quotation marks around variables, maybe
}

func parsePath(s string) (path, error) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return path{}, errors.New(`a path starts with "/"; it is added to base_url`)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }):
		return path{}, errors.New("a path has no blanks and no fragment")
	}
	p := path{template: s, refs: map[string]ref{}, plain: map[string]bool{}, careful: strings.ContainsAny(s, "'\"") || strings.Contains(s, "%2")}
	trial := stduritemplate.Substitutions{}
	for rest := s; ; {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			break
		}
		var list string
		if list, rest, found = strings.Cut(after, "}"); !found {
			return path{}, errors.New(`a "{" without its "}"`)
		}
		plain := strings.HasPrefix(list, "+")
		list = strings.TrimLeft(list, "+./;?&") // the operator; a second one makes no name
		for name := range strings.SplitSeq(list, ",") {
			name, _, _ = strings.Cut(strings.TrimSuffix(name, "*"), ":")
			r, err := parseRef(name)
			if err != nil {
				return path{}, err
			}
			p.refs[name], trial[name] = r, "x"
			p.plain[name] = p.plain[name] || plain
		}
	}
	switch out, err := stduritemplate.Expand(s, trial); {
	case err != nil:
		return path{}, fmt.Errorf("no URI template (RFC 6570): %w", err)
	case climbs(out):
		return path{}, errors.New(`a path has no parts "." and ".."`)
	}
	return p, nil
}

// climbs reports whether a path has a part . or .., as far as any server may read it: some undo escapes before they look
// for parts, take \ for a separator too, and cut a parameter (;) off.
func climbs(address string) bool {
	escaped, _, _ := strings.Cut(address, "?")
	text, err := url.PathUnescape(escaped)
	if err != nil {
		text = escaped // join refuses it
	}
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '/' || r == '\\' || r == ';' }) {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// expand makes the address, below base_url.
func (p path) expand(v values, escape map[string]string) (string, error) {
	vars := stduritemplate.Substitutions{}
	for name, r := range p.refs {
		s, err := v.text(r)
		if err == nil && p.careful {
			s, err = embed(r, s, escape)
		}
		if err != nil {
			return "", err
		}
		// Servers take these for steps up, or cut them off: the path would be another one.
		if s == "" || s == "." || s == ".." {
			return "", reject(r, "{%s} is %q, which cannot be a part of a path", r, s)
		}
		if p.plain[name] && strings.ContainsAny(s, "?#") {
			return "", reject(r, "{%s} holds a ? or a #, which would end the path", r)
		}
		vars[name] = s
	}
	out, err := stduritemplate.Expand(p.template, vars)
	switch {
	case err != nil:
		return "", reject(nil, "no path can be made of this message: %w", err)
	case climbs(out):
		return "", reject(p.only(), "the path would have a part . or ..")
	}
	return out, nil
}

// only is what the path's placeholder means, if there is just one.
func (p path) only() ref {
	if len(p.refs) == 1 {
		for _, r := range p.refs {
			return r
		}
	}
	return nil
}
