package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// A template is a text with places of a request in braces: "order/{/order/id}". A place is
//
//	/order/id        a JSON pointer into the element, where the request is a list of events, else into the body
//	body/order/id    one into the body
//	body             the bytes of the body
//	header.X-Topic   a header
//	query.topic      a parameter of the query
//	timestamp        the signature's own
//	path_token       the path segment below the source's path
//
// and several with | between them are alternatives: the first that is there counts. A brace is written twice.
type template []piece

// piece is a literal text or, where it has places, one of these.
type piece struct {
	literal string
	places  []place
}

type place struct {
	kind    sdk.PartKind
	name    string  // as in sdk.Part
	pointer pointer // of PartJSONPointer
	element bool    // the pointer leads into the element, not the body
}

// pointer is a JSON pointer's steps.
type pointer []string

func parseTemplate(text string) (template, error) {
	var t template
	var literal strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			literal.WriteByte(c)
			i++
		case c == '}':
			return nil, errors.New("a closing brace stands alone; the sign itself is written }}")
		case c == '{':
			n := strings.IndexByte(text[i:], '}')
			if n < 0 {
				return nil, errors.New("a brace is not closed; the sign itself is written {{")
			}
			p, err := parsePlaces(text[i+1 : i+n])
			if err != nil {
				return nil, err
			}
			if literal.Len() > 0 {
				t = append(t, piece{literal: literal.String()})
				literal.Reset()
			}
			t = append(t, piece{places: p})
			i += n
		default:
			literal.WriteByte(c)
		}
	}
	if literal.Len() > 0 {
		t = append(t, piece{literal: literal.String()})
	}
	return t, nil
}

func parsePlaces(text string) ([]place, error) {
	var all []place
	for alternative := range strings.SplitSeq(text, "|") {
		p, err := parsePlace(alternative)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func parsePlace(text string) (place, error) {
	kind, name, dotted := strings.Cut(text, ".")
	switch {
	case strings.HasPrefix(text, "/"):
		p, err := parsePointer(text)
		return place{kind: sdk.PartJSONPointer, name: text, pointer: p, element: true}, err
	case strings.HasPrefix(text, "body/"):
		text = strings.TrimPrefix(text, "body")
		p, err := parsePointer(text)
		return place{kind: sdk.PartJSONPointer, name: text, pointer: p}, err
	case text == "body":
		return place{kind: sdk.PartBody}, nil
	case text == "timestamp":
		return place{kind: sdk.PartTimestamp}, nil
	case text == "path_token":
		return place{kind: sdk.PartPathToken}, nil
	case dotted && kind == "header":
		for n := range strings.SplitSeq(name, ",") {
			if !isHeaderName(strings.TrimSpace(n)) {
				return place{}, fmt.Errorf("{%s}: %q is no header name", text, n)
			}
		}
		return place{kind: sdk.PartHeader, name: name}, nil
	case dotted && kind == "query" && name != "":
		return place{kind: sdk.PartQuery, name: name}, nil
	}
	return place{}, &noPlaceError{text: text}
}

// noPlaceError is about braces without a place in them.
type noPlaceError struct {
	text string
	more string // places that can stand there besides those that can stand anywhere, a comma behind each
}

func (e *noPlaceError) Error() string {
	return fmt.Sprintf("{%s} is no place: write %s{/a/json/pointer}, {body/a/json/pointer}, {header.Name} or {query.name}",
		e.text, e.more)
}

func isHeaderName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

// parsePointer reads a JSON pointer (RFC 6901). The empty one is all of the text.
func parsePointer(text string) (pointer, error) {
	if text == "" {
		return nil, nil
	}
	if bare, ok := strings.CutPrefix(text, "{/"); ok && strings.HasSuffix(bare, "}") && !strings.ContainsAny(bare, "{|") {
		return nil, fmt.Errorf("%q is no JSON pointer: write it without braces: %q", text, "/"+strings.TrimSuffix(bare, "}"))
	}
	if text[0] != '/' {
		return nil, fmt.Errorf("%q is no JSON pointer: it starts with a slash", text)
	}
	steps := strings.Split(text[1:], "/")
	for i, s := range steps {
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(s), "~") {
			return nil, fmt.Errorf("%q is no JSON pointer: a ~ is written ~0, a / in a name ~1", text)
		}
		steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
	}
	return steps, nil
}

// in returns the value that a pointer leads to, or nil.
func (p pointer) in(v rawjson.Value) rawjson.Value { return v.Follow(p...) }

// source is what places are looked up in.
type source struct {
	request *sdk.Request
	body    rawjson.Value
	element rawjson.Value
}

// text returns the text of a place, and whether it is there. Null, an empty text and what is no text, number or boolean
// count as not there.
func (p *place) text(s *source) (string, bool) {
	switch p.kind {
	case sdk.PartHeader:
		for n := range strings.SplitSeq(p.name, ",") {
			if v := s.request.Header(strings.TrimSpace(n)); v != "" {
				return v, true
			}
		}
	case sdk.PartQuery:
		values, _ := url.ParseQuery(s.request.Query) // what cannot be read is not there
		v := values.Get(p.name)
		return v, v != ""
	case sdk.PartJSONPointer:
		v := s.body
		if p.element {
			v = s.element
		}
		v = p.pointer.in(v)
		switch v.Kind() {
		case rawjson.String:
			text, ok := v.Text()
			return text, ok && text != ""
		case rawjson.Number, rawjson.Bool:
			return string(v), true
		}
	}
	return "", false
}

// text fills a template in. Where a place has nothing, missing names it.
func (t template) text(s *source) (text, missing string) {
	if len(t) == 1 && t[0].places == nil {
		return t[0].literal, ""
	}
	var b strings.Builder
	for i := range t {
		if t[i].places == nil {
			b.WriteString(t[i].literal)
			continue
		}
		found := false
		for k := range t[i].places {
			text, ok := t[i].places[k].text(s)
			if ok {
				b.WriteString(text)
				found = true
				break
			}
		}
		if !found {
			return "", t[i].String()
		}
	}
	return b.String(), ""
}

// String is the piece as it is written.
func (p *piece) String() string {
	if p.places == nil {
		return p.literal
	}
	names := make([]string, len(p.places))
	for i := range p.places {
		names[i] = p.places[i].String()
	}
	return "{" + strings.Join(names, "|") + "}"
}

func (p *place) String() string {
	switch p.kind {
	case sdk.PartHeader:
		return "header." + p.name
	case sdk.PartQuery:
		return "query." + p.name
	case sdk.PartJSONPointer:
		if !p.element {
			return "body" + p.name
		}
		return p.name
	}
	return string(p.kind)
}

// parts is a template for the host, which looks places up in the whole request.
func (t template) parts() ([]sdk.Part, error) {
	var parts []sdk.Part
	for i := range t {
		switch p := t[i].places; {
		case p == nil:
			parts = append(parts, sdk.Part{Kind: sdk.PartLiteral, Name: t[i].literal})
		case len(p) > 1:
			return nil, fmt.Errorf("%s: alternatives cannot stand here", &t[i])
		default:
			parts = append(parts, sdk.Part{Kind: p[0].kind, Name: p[0].name})
		}
	}
	return parts, nil
}

// ofEvents says what is wrong with a template for events.
func (t template) ofEvents() error {
	for i := range t {
		for k := range t[i].places {
			switch p := &t[i].places[k]; p.kind {
			case sdk.PartHeader, sdk.PartQuery, sdk.PartJSONPointer:
			default:
				return fmt.Errorf("{%s} is for what the host does with a request; an event has none", p)
			}
		}
	}
	return nil
}

// headers lists the headers that a template names.
func (t template) headers() []string {
	var names []string
	for i := range t {
		for k := range t[i].places {
			if p := &t[i].places[k]; p.kind == sdk.PartHeader {
				for n := range strings.SplitSeq(p.name, ",") {
					names = append(names, strings.TrimSpace(n))
				}
			}
		}
	}
	return names
}
