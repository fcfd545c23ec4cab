package expr

import (
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/sdk"
)

// problem is why a value does not fit a schema.
type problem struct {
	path []string // below the attribute, outermost first; names of the schema and indexes only
	text string   // "needs …, but this is …"
}

func misfit(s *sdk.Schema, is string) *problem {
	return &problem{text: "needs " + wants(s) + ", but this is " + is}
}

func (p *problem) in(step string) *problem {
	p.path = append([]string{step}, p.path...)
	return p
}

func (p *problem) at(rng hcl.Range, path []string) *Error {
	e := errorAt(rng, "Wrong value", "The attribute %s.", p.text)
	e.Path = append(slices.Clip(path), p.path...)
	return e
}

// appendScalar appends a value of the fast path; ok is false if it takes appendCty to convert or refuse it.
func appendScalar(dst []byte, v *value, s *sdk.Schema) (out []byte, ok bool) {
	switch s.Kind {
	case sdk.KindString:
		if v.kind > kindString {
			return dst, false
		}
		if len(s.Enum) > 0 && (v.kind != kindString || !slices.Contains(s.Enum, string(v.s))) {
			return dst, false
		}
	case sdk.KindAny:
	case sdk.KindNumber:
		if v.kind != kindNumber {
			return dst, false
		}
	case sdk.KindInteger:
		if v.kind != kindNumber {
			return dst, false
		}
		if _, whole := v.integer(); !whole {
			return dst, false
		}
	case sdk.KindBool:
		if v.kind != kindBool {
			return dst, false
		}
	default:
		return dst, false
	}
	switch v.kind {
	case kindString:
		return appendQuoted(dst, v.s), true
	case kindBool, kindNumber:
		if s.Kind == sdk.KindString {
			dst = append(v.appendText(append(dst, '"')), '"')
			return dst, true
		}
		return v.appendText(dst), true
	}
	return dst, false
}

// appendToken appends a JSON token that is not null for a schema: untouched if the schema takes it as it is,
// converted like a computed value otherwise.
func appendToken(dst, tok []byte, s *sdk.Schema) ([]byte, *problem) {
	switch s.Kind {
	case sdk.KindAny:
		return appendAnyToken(dst, tok, s.Escape), nil
	case sdk.KindString:
		if tok[0] == '"' {
			return appendStringToken(dst, tok, s)
		}
	case sdk.KindNumber:
		if tok[0] == '-' || tok[0]-'0' <= 9 {
			return append(dst, tok...), nil
		}
	case sdk.KindInteger:
		if isInt64(tok) {
			return append(dst, tok...), nil
		}
	case sdk.KindBool:
		if tok[0] == 't' || tok[0] == 'f' {
			return append(dst, tok...), nil
		}
	case sdk.KindObject:
		if tok[0] == '{' {
			return appendObjectToken(dst, tok, s)
		}
	case sdk.KindMap, sdk.KindList:
		if s.Kind == sdk.KindMap && tok[0] == '{' || s.Kind == sdk.KindList && tok[0] == '[' {
			return appendMembersToken(dst, tok, s)
		}
	}
	if tok[0] == '{' || tok[0] == '[' {
		return dst, misfit(s, kindOf(tok))
	}
	nodes := 1
	v, ok := valueOf(tok, 1, &nodes)
	if !ok {
		return dst, misfit(s, kindOf(tok))
	}
	return appendCty(dst, v, s, true)
}

// isInt64 reports whether a token is an integer of 64 bits without fraction or exponent.
func isInt64(tok []byte) bool {
	if len(tok) > 20 {
		return false
	}
	if len(tok) <= 18 {
		for i, c := range tok {
			if c-'0' > 9 && (c != '-' || i > 0) {
				return false
			}
		}
		return true
	}
	_, err := strconv.ParseInt(string(tok), 10, 64)
	return err == nil
}

func appendStringToken(dst, tok []byte, s *sdk.Schema) ([]byte, *problem) {
	if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(name string) bool { return jsonscan.KeyIs(tok, name) }) {
		return dst, misfit(s, "another text")
	}
	return appendEscapedToken(dst, tok, s.Escape), nil
}

// appendEscapedToken appends a string token, untouched if there is nothing to escape in its text.
func appendEscapedToken(dst, tok []byte, how sdk.Escape) []byte {
	if how == sdk.EscapeNone {
		return append(dst, tok...)
	}
	text, plain := jsonscan.Plain(tok)
	if !plain {
		text, _ = jsonscan.AppendUnquote(nil, tok)
	}
	if !escapeNeeded(text, how) {
		return append(dst, tok...)
	}
	return appendQuoted(dst, appendEscaped(nil, text, how))
}

// appendAnyToken appends a token of any kind; the texts in it are escaped, the names of members are not.
func appendAnyToken(dst, tok []byte, how sdk.Escape) []byte {
	if how == sdk.EscapeNone {
		return append(dst, tok...)
	}
	for i := 0; i < len(tok); {
		if tok[i] != '"' {
			dst = append(dst, tok[i])
			i++
			continue
		}
		end := jsonscan.StringEnd(tok, i)
		if next := jsonscan.Space(tok, end); next < len(tok) && tok[next] == ':' {
			dst = append(dst, tok[i:end]...)
		} else {
			dst = appendEscapedToken(dst, tok[i:end], how)
		}
		i = end
	}
	return dst
}

func appendObjectToken(dst, tok []byte, s *sdk.Schema) ([]byte, *problem) {
	for m := jsonscan.Open(tok); m.Next(); {
		if !slices.ContainsFunc(s.Attributes, func(a sdk.Attribute) bool { return jsonscan.KeyIs(m.Key, a.Name) }) {
			return dst, &problem{text: "gets an object with a member that is not expected there"}
		}
	}
	dst = append(dst, '{')
	open := len(dst)
	for i := range s.Attributes {
		a := &s.Attributes[i]
		val, ok := jsonscan.Child(tok, a.Name, false)
		start := len(dst)
		dst = appendKey(appendComma(dst, open), a.Name)
		var bad *problem
		switch {
		case ok && val[0] != 'n':
			if dst, bad = appendToken(dst, val, &a.Schema); bad != nil {
				return dst, bad.in(a.Name)
			}
			continue
		}
		if dst, bad = appendMissing(dst, start, !ok, &a.Schema); bad != nil {
			return dst, bad.in(a.Name)
		}
	}
	return append(dst, '}'), nil
}

// appendMissing fills in for a member that is null or, if gone, not there at all. What was appended for it from start
// on is taken back if the member stays out.
func appendMissing(dst []byte, start int, gone bool, s *sdk.Schema) ([]byte, *problem) {
	switch {
	case s.Nullable && (!gone || !s.Optional):
		return append(dst, "null"...), nil
	case !s.Optional:
		return dst, &problem{text: "needs a value, but there is none"}
	case s.Default != nil:
		return append(dst, s.Default...), nil
	}
	return dst[:start], nil
}

func appendMembersToken(dst, tok []byte, s *sdk.Schema) ([]byte, *problem) {
	el := s.Element
	if el.Kind == sdk.KindAny {
		return appendAnyToken(dst, tok, el.Escape), nil
	}
	dst = append(dst, tok[0])
	open := len(dst)
	i := 0
	for m := jsonscan.Open(tok); m.Next(); i++ {
		dst = appendComma(dst, open)
		if m.Key != nil {
			dst = append(append(dst, m.Key...), ':')
		}
		switch {
		case m.Value[0] != 'n':
			var bad *problem
			if dst, bad = appendToken(dst, m.Value, el); bad != nil {
				if m.Key == nil {
					bad = bad.in(strconv.Itoa(i))
				}
				return dst, bad
			}
		case el.Nullable:
			dst = append(dst, "null"...)
		default:
			return dst, &problem{text: "has an element that is null"}
		}
	}
	return append(dst, tok[0]+2), nil // ']' and '}' stand two after their openers
}

// appendCty appends a cty value that is not null for a schema, converted as hcl converts. With escape, texts of a
// schema that asks for escaping are escaped; otherwise that has been done.
func appendCty(dst []byte, v cty.Value, s *sdk.Schema, escape bool) ([]byte, *problem) {
	ty := v.Type()
	switch s.Kind {
	case sdk.KindAny:
		return appendAny(dst, v, s, escape)
	case sdk.KindString:
		text, err := convert.Convert(v, cty.String)
		if err != nil {
			return dst, misfit(s, article(ty.FriendlyName()))
		}
		t := []byte(text.AsString())
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, string(t)) {
			return dst, misfit(s, "another text")
		}
		if escape && escapeNeeded(t, s.Escape) {
			t = appendEscaped(nil, t, s.Escape)
		}
		return appendQuoted(dst, t), nil
	case sdk.KindNumber, sdk.KindInteger:
		n, err := convert.Convert(v, cty.Number)
		if err != nil {
			return dst, misfit(s, article(ty.FriendlyName()))
		}
		f := n.AsBigFloat()
		if s.Kind == sdk.KindInteger {
			if i, acc := f.Int64(); acc == big.Exact {
				return strconv.AppendInt(dst, i, 10), nil
			}
			return dst, misfit(s, "another number")
		}
		return appendBig(dst, f, s)
	case sdk.KindBool:
		b, err := convert.Convert(v, cty.Bool)
		if err != nil {
			return dst, misfit(s, article(ty.FriendlyName()))
		}
		return strconv.AppendBool(dst, b.True()), nil
	case sdk.KindDuration:
		return appendDuration(dst, v, s)
	case sdk.KindList:
		if !ty.IsTupleType() && !ty.IsListType() && !ty.IsSetType() {
			return dst, misfit(s, article(ty.FriendlyName()))
		}
		dst = append(dst, '[')
		open := len(dst)
		for i, it := 0, v.ElementIterator(); it.Next(); i++ {
			_, el := it.Element()
			var bad *problem
			if dst, bad = appendElement(appendComma(dst, open), el, s.Element, escape); bad != nil {
				return dst, bad.in(strconv.Itoa(i))
			}
		}
		return append(dst, ']'), nil
	case sdk.KindMap:
		if !ty.IsObjectType() && !ty.IsMapType() {
			return dst, misfit(s, article(ty.FriendlyName()))
		}
		dst = append(dst, '{')
		open := len(dst)
		for it := v.ElementIterator(); it.Next(); {
			key, el := it.Element()
			dst = appendKey(appendComma(dst, open), key.AsString())
			var bad *problem
			if dst, bad = appendElement(dst, el, s.Element, escape); bad != nil {
				return dst, bad
			}
		}
		return append(dst, '}'), nil
	case sdk.KindObject:
		if !ty.IsObjectType() && !ty.IsMapType() {
			return dst, misfit(s, article(ty.FriendlyName()))
		}
		return appendObject(dst, v, s, escape)
	}
	return dst, &problem{text: "has a schema of an unknown kind"}
}

func appendElement(dst []byte, v cty.Value, s *sdk.Schema, escape bool) ([]byte, *problem) {
	switch {
	case !v.IsNull():
		return appendCty(dst, v, s, escape)
	case s.Nullable || s.Kind == sdk.KindAny:
		return append(dst, "null"...), nil
	}
	return dst, &problem{text: "has an element that is null"}
}

func appendObject(dst []byte, v cty.Value, s *sdk.Schema, escape bool) ([]byte, *problem) {
	members := v.AsValueMap()
	for name := range members {
		if s.Attribute(name) == nil {
			return dst, &problem{text: "gets an object with a member that is not expected there"}
		}
	}
	dst = append(dst, '{')
	open := len(dst)
	for i := range s.Attributes {
		a := &s.Attributes[i]
		el, ok := members[a.Name]
		start := len(dst)
		dst = appendKey(appendComma(dst, open), a.Name)
		var bad *problem
		if ok && !el.IsNull() {
			dst, bad = appendCty(dst, el, &a.Schema, escape)
		} else {
			dst, bad = appendMissing(dst, start, !ok, &a.Schema)
		}
		if bad != nil {
			return dst, bad.in(a.Name)
		}
	}
	return append(dst, '}'), nil
}

// appendAny appends a cty value as JSON; see appendCty for escape.
func appendAny(dst []byte, v cty.Value, s *sdk.Schema, escape bool) ([]byte, *problem) {
	ty := v.Type()
	switch {
	case v.IsNull():
		return append(dst, "null"...), nil
	case ty == cty.String:
		text := []byte(v.AsString())
		if escape && escapeNeeded(text, s.Escape) {
			text = appendEscaped(nil, text, s.Escape)
		}
		return appendQuoted(dst, text), nil
	case ty == cty.Bool:
		return strconv.AppendBool(dst, v.True()), nil
	case ty == cty.Number:
		return appendBig(dst, v.AsBigFloat(), s)
	case ty.IsTupleType(), ty.IsListType(), ty.IsSetType():
		dst = append(dst, '[')
		open := len(dst)
		for it := v.ElementIterator(); it.Next(); {
			_, el := it.Element()
			var bad *problem
			if dst, bad = appendAny(appendComma(dst, open), el, s, escape); bad != nil {
				return dst, bad
			}
		}
		return append(dst, ']'), nil
	case ty.IsObjectType(), ty.IsMapType():
		dst = append(dst, '{')
		open := len(dst)
		for it := v.ElementIterator(); it.Next(); {
			key, el := it.Element()
			var bad *problem
			if dst, bad = appendAny(appendKey(appendComma(dst, open), key.AsString()), el, s, escape); bad != nil {
				return dst, bad
			}
		}
		return append(dst, '}'), nil
	}
	return dst, misfit(s, article(ty.FriendlyName()))
}

func appendBig(dst []byte, f *big.Float, s *sdk.Schema) ([]byte, *problem) {
	if f.IsInf() {
		return dst, misfit(s, "infinite")
	}
	return f.Append(dst, 'f', -1), nil
}

// appendDuration appends a duration as nanoseconds. A text is parsed, a number is nanoseconds.
func appendDuration(dst []byte, v cty.Value, s *sdk.Schema) ([]byte, *problem) {
	switch v.Type() {
	case cty.Number:
		if i, acc := v.AsBigFloat().Int64(); acc == big.Exact {
			return strconv.AppendInt(dst, i, 10), nil
		}
		return dst, misfit(s, "another number")
	case cty.String:
		d, err := sdk.ParseDuration(v.AsString())
		if err != nil {
			return dst, misfit(s, "another text")
		}
		return strconv.AppendInt(dst, int64(d/time.Nanosecond), 10), nil
	}
	return dst, misfit(s, article(v.Type().FriendlyName()))
}
