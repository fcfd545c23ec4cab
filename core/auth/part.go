package auth

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/grapnelhq/grapnel/core/formscan"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

// Input is a request as the schemes see it.
type Input struct {
	Header    http.Header // names in canonical form, as net/http gives them
	RawQuery  string
	PathToken string // the one path segment below the source's path, unescaped; empty if there is none
	Body      []byte // as received

	// Form says that Body is application/x-www-form-urlencoded: the first step of a JSON pointer names a field, and
	// those below it lead into the field's text, which is JSON then.
	Form bool

	// Checked says that Body passed jsonscan.Check or, for a form, formscan.Check, so that JSON pointers may be followed.
	// Without it a part that is a JSON pointer has to check the body first, each time.
	Checked bool

	// Timestamp is the signature's timestamp as received. Verify and Sign set it.
	Timestamp string
}

// Part is a compiled sdk.Part.
type Part struct {
	kind    sdk.PartKind
	names   []string // canonical header names, of which exactly one may be there
	name    string   // query parameter or JSON pointer
	literal []byte
	fold    bool

	field, below string // a JSON pointer's first step, unescaped, and the rest of it
}

// NewPart compiles a part. The name of a header part may hold alternatives separated by commas: exactly one of these
// headers must be there.
func NewPart(p sdk.Part) (Part, error) {
	c := Part{kind: p.Kind, name: p.Name, fold: p.FoldCase}
	if p.FoldCase && p.Kind != sdk.PartJSONPointer {
		return Part{}, fmt.Errorf("part %q: fold_case is for JSON pointers only", p.Kind)
	}
	switch p.Kind {
	case sdk.PartBody, sdk.PartTimestamp, sdk.PartPathToken:
		if p.Name != "" {
			return Part{}, fmt.Errorf("part %q has no name, got %q", p.Kind, p.Name)
		}
	case sdk.PartHeader:
		names, err := headerNames(strings.Split(p.Name, ","))
		if err != nil {
			return Part{}, err
		}
		c.names = names
	case sdk.PartQuery:
		if p.Name == "" {
			return Part{}, errors.New("a query part needs a name")
		}
	case sdk.PartJSONPointer:
		if p.Name != "" && p.Name[0] != '/' {
			return Part{}, fmt.Errorf("JSON pointer %q does not start with /", p.Name)
		}
		c.field, c.below = splitPointer(p.Name)
	case sdk.PartLiteral:
		if p.Name == "" {
			return Part{}, errors.New("a literal part needs a text")
		}
		c.literal = []byte(p.Name)
	default:
		return Part{}, fmt.Errorf("unknown kind of part %q", p.Kind)
	}
	return c, nil
}

// Value returns the part of a request, and whether it is there. An empty value counts as absent, so that two requests
// with an empty id are not the same; only an empty body is there. A header or parameter that stands more than once is
// absent: nobody could say which one is meant. A JSON pointer gives the text of a string and the token of anything
// else; null is absent. In a form it gives a field's text, or a value within it; a field that stands more than once is
// absent. The result may share memory with the input.
func (p *Part) Value(in *Input) (value []byte, ok bool) {
	switch p.kind {
	case sdk.PartBody:
		return in.Body, true
	case sdk.PartLiteral:
		return p.literal, true
	case sdk.PartJSONPointer:
		return p.lookup(in)
	case sdk.PartHeader, sdk.PartQuery, sdk.PartTimestamp, sdk.PartPathToken:
		s := p.text(in)
		return []byte(s), s != ""
	}
	return nil, false
}

// text is Value for the kinds whose value is a string of the request already.
func (p *Part) text(in *Input) string {
	switch p.kind {
	case sdk.PartHeader:
		s, n := headerValue(in.Header, p.names)
		if n == 1 {
			return s
		}
	case sdk.PartQuery:
		s, n := queryValue(in.RawQuery, p.name)
		if n == 1 {
			return s
		}
	case sdk.PartTimestamp:
		return in.Timestamp
	case sdk.PartPathToken:
		return in.PathToken
	}
	return ""
}

func (p *Part) lookup(in *Input) (value []byte, ok bool) {
	if in.Form {
		return p.lookupField(in)
	}
	if !in.Checked && jsonscan.Check(in.Body, jsonscan.DefaultLimits()) != nil {
		return nil, false
	}
	return lookupJSON(in.Body, p.name, p.fold)
}

func (p *Part) lookupField(in *Input) (value []byte, ok bool) {
	if !in.Checked && formscan.Check(in.Body, formscan.DefaultLimits()) != nil {
		return nil, false
	}
	raw, n := formscan.Lookup(in.Body, p.field, p.fold)
	if n != 1 || p.name == "" {
		return nil, false
	}
	text := formscan.Unescape(raw)
	if p.below == "" {
		return text, len(text) > 0
	}
	if jsonscan.Check(text, jsonscan.DefaultLimits()) != nil {
		return nil, false
	}
	return lookupJSON(text, p.below, p.fold)
}

func lookupJSON(text []byte, pointer string, fold bool) (value []byte, ok bool) {
	raw, ok := jsonscan.Lookup(text, pointer, fold)
	if !ok || string(raw) == "null" {
		return nil, false
	}
	if len(raw) > 0 && raw[0] == '"' {
		raw, ok = jsonscan.AppendUnquote(nil, raw)
	}
	return raw, ok && len(raw) > 0
}

// splitPointer cuts the first step off a JSON pointer and unescapes it.
func splitPointer(pointer string) (step, rest string) {
	step = strings.TrimPrefix(pointer, "/")
	if i := strings.IndexByte(step, '/'); i >= 0 {
		step, rest = step[:i], step[i:]
	}
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(step), rest
}

// IsBody reports whether the part is the body.
func (p *Part) IsBody() bool { return p.kind == sdk.PartBody }

// IsJSONPointer reports whether the part is found by parsing the body.
func (p *Part) IsJSONPointer() bool { return p.kind == sdk.PartJSONPointer }

// variable reports whether the sender chooses the part's bytes and their length, the body aside.
func (p *Part) variable() bool {
	switch p.kind {
	case sdk.PartHeader, sdk.PartQuery, sdk.PartJSONPointer, sdk.PartPathToken:
		return true
	}
	return false
}

// headerNames checks header names and makes them canonical.
func headerNames(names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, n := range names {
		n = strings.TrimSpace(n)
		if !httpguts.ValidHeaderFieldName(n) {
			return nil, fmt.Errorf("%q is not a header name", n)
		}
		out = append(out, textproto.CanonicalMIMEHeaderKey(n))
	}
	return out, nil
}

// headerValue finds the one value under any of the names; n is how many there are in all.
func headerValue(h http.Header, names []string) (value string, n int) {
	for _, name := range names {
		if vs := h[name]; len(vs) > 0 {
			value = vs[0]
			n += len(vs)
		}
	}
	return value, n
}

// queryValue finds the first value of a parameter in a raw query; n is how many there are.
func queryValue(raw, name string) (value string, n int) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		k, v, _ := strings.Cut(pair, "=")
		if unescape(k) != name {
			continue
		}
		if n++; n == 1 {
			value = unescape(v)
		}
	}
	return value, n
}

// CutQuery returns a raw query without the named parameters, otherwise untouched.
func CutQuery(raw string, names []string) string {
	var b strings.Builder
	for rest := raw; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		k, _, _ := strings.Cut(pair, "=")
		k = unescape(k)
		cut := false
		for _, n := range names {
			cut = cut || k == n
		}
		if cut {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pair)
	}
	return b.String()
}

// unescape decodes one side of a query pair; what is not well formed stands for itself.
func unescape(s string) string {
	if t, err := url.QueryUnescape(s); err == nil {
		return t
	}
	return s
}
