package expr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/sdk"
)

// nullness is whether a value can be null.
type nullness uint8

const (
	unsure     nullness = iota // of untyped data: no finding comes of it
	neverNull                  // as far as its type says
	maybeNull                  // its type says so
	alwaysNull                 //
)

// typed is what is known of the value of an expression, for the events of one shape.
type typed struct {
	schema *sdk.Schema // nil: anything. Optional and Nullable in it do not count, null does
	null   nullness
	lit    cty.Value            // what it is, if it is constant; else NilVal
	ref    hclsyntax.Expression // the reference that it is, or nil
}

var (
	aText    = &sdk.Schema{Kind: sdk.KindString}
	aNumber  = &sdk.Schema{Kind: sdk.KindNumber}
	aBool    = &sdk.Schema{Kind: sdk.KindBool}
	anyValue = &sdk.Schema{Kind: sdk.KindAny}
	someList = &sdk.Schema{Kind: sdk.KindList, Element: anyValue}
	someMap  = &sdk.Schema{Kind: sdk.KindMap, Element: anyValue}
	noList   = &sdk.Schema{Kind: sdk.KindList} // an empty one
)

func isAny(s *sdk.Schema) bool { return s == nil || s.Kind == sdk.KindAny || s.Kind == "" }

// class is a kind of values that are never equal to those of another one; empty: it could be any.
func class(s *sdk.Schema) string {
	if isAny(s) {
		return ""
	}
	switch s.Kind {
	case sdk.KindString:
		return "text"
	case sdk.KindBool:
		return "bool"
	case sdk.KindNumber, sdk.KindInteger, sdk.KindDuration:
		return "number"
	case sdk.KindObject, sdk.KindMap:
		return "object"
	}
	return "list"
}

// noun names values of a schema for people.
func noun(s *sdk.Schema) string {
	if isAny(s) {
		return "any value"
	}
	switch s.Kind {
	case sdk.KindString:
		return "a text"
	case sdk.KindBool:
		return "true or false"
	case sdk.KindInteger:
		return "a whole number"
	case sdk.KindNumber, sdk.KindDuration:
		return "a number"
	case sdk.KindList:
		return "a list"
	}
	return "an object"
}

// coercion is whether values of a schema become values of another kind.
type coercion uint8

const (
	converts coercion = iota // or it is not known
	byText                   // depends on what the text says
	fails
)

func convertible(from *sdk.Schema, to sdk.Kind) coercion {
	have := class(from)
	if have == "" {
		return converts
	}
	switch to {
	case sdk.KindString:
		if have == "object" || have == "list" {
			return fails
		}
	case sdk.KindNumber, sdk.KindInteger, sdk.KindDuration:
		switch have {
		case "text":
			return byText
		case "number":
			return converts
		}
		return fails
	case sdk.KindBool:
		switch have {
		case "text":
			return byText
		case "bool":
			return converts
		}
		return fails
	case sdk.KindObject, sdk.KindMap:
		if have != "object" {
			return fails
		}
	case sdk.KindList:
		if have != "list" {
			return fails
		}
	}
	return converts
}

// readable reports whether a text converts to a kind.
func readable(text string, to sdk.Kind) bool {
	switch to {
	case sdk.KindBool:
		return text == "true" || text == "false" || text == "1" || text == "0"
	case sdk.KindDuration:
		_, err := sdk.ParseDuration(text)
		return err == nil
	}
	_, err := cty.ParseNumberVal(text)
	return err == nil
}

// schemaOf is the schema of a type, as far as it matters.
func schemaOf(ty cty.Type) *sdk.Schema {
	switch {
	case ty == cty.String:
		return aText
	case ty == cty.Number:
		return aNumber
	case ty == cty.Bool:
		return aBool
	case ty.IsListType() || ty.IsSetType():
		if el := schemaOf(ty.ElementType()); el != nil {
			return &sdk.Schema{Kind: sdk.KindList, Element: el}
		}
		return someList
	case ty.IsTupleType():
		if ty.Length() == 0 {
			return noList
		}
		all := typed{schema: schemaOf(ty.TupleElementType(0)), null: neverNull}
		for _, el := range ty.TupleElementTypes()[1:] {
			all = either(all, typed{schema: schemaOf(el), null: neverNull})
		}
		return listOf(all)
	case ty.IsMapType(), ty.IsObjectType():
		return someMap
	}
	return nil
}

// either is what a value is that is one of two.
func either(a, b typed) typed {
	out := typed{schema: a.schema, null: either2(a.null, b.null)}
	switch {
	case a.null == alwaysNull && isAny(a.schema):
		out.schema = b.schema
	case b.null == alwaysNull && isAny(b.schema):
	case a.schema == b.schema:
	case class(a.schema) == "" || class(a.schema) != class(b.schema):
		out.schema = nil
	case class(a.schema) == "text":
		out.schema = aText
	case class(a.schema) == "number":
		out.schema = aNumber
	case class(a.schema) == "object":
		out.schema = someMap
	case a.schema.Element == nil:
		out.schema = b.schema
	case b.schema.Element != nil: // lists
		out.schema = listOf(either(element(a.schema), element(b.schema)))
	}
	return out
}

func either2(a, b nullness) nullness {
	switch {
	case a == b:
		return a
	case a == unsure && b == neverNull, b == unsure && a == neverNull:
		return unsure
	}
	return maybeNull
}

// doubt is what decides whether a step of a reference leads to null.
type doubt uint8

const (
	mayLack doubt = 1 << iota // it may be absent
	mayNull
	untypedStep // untyped
)

// walk is where a path leads in a schema.
type walk struct {
	schema *sdk.Schema // at its end; nil: anything
	doubts []doubt     // of what each step leads to
	stop   int         // the step that cannot be taken; -1: all can
	at     *sdk.Schema // what that step would start from
}

// hop is a step by name or index.
type hop struct {
	name  string
	index bool // it may be the index of a list
}

// follow takes a path through a schema.
func follow(s *sdk.Schema, path []hop) walk {
	w := walk{schema: s, stop: -1, doubts: make([]doubt, 0, len(path))}
	for i, h := range path {
		f := doubt(0)
		switch {
		case isAny(w.schema):
			f, w.schema = untypedStep, nil
		case w.schema.Kind == sdk.KindObject:
			next := w.schema.Attribute(h.name)
			if next == nil {
				w.stop, w.at, w.schema = i, w.schema, nil
				return w
			}
			if next.Optional {
				f |= mayLack
			}
			if next.Nullable {
				f |= mayNull
			}
			w.schema = next
		case w.schema.Kind == sdk.KindMap, w.schema.Kind == sdk.KindList && h.index:
			f = elementFlag(w.schema.Element) | mayLack
			if isAny(w.schema.Element) {
				f = untypedStep
			}
			w.schema = w.schema.Element
		default:
			w.stop, w.at, w.schema = i, w.schema, nil
			return w
		}
		w.doubts = append(w.doubts, f)
	}
	if isAny(w.schema) {
		if w.schema != nil && w.schema.Kind == sdk.KindAny && len(w.doubts) > 0 && !w.schema.Nullable {
			w.doubts[len(w.doubts)-1] |= untypedStep // any value is null, too
		}
		w.schema = nil
	}
	return w
}

// elementFlag is what of an element's schema decides whether it is null.
func elementFlag(s *sdk.Schema) doubt {
	switch {
	case s != nil && s.Nullable:
		return mayNull
	case isAny(s):
		return untypedStep
	}
	return 0
}

func (f doubt) null() nullness {
	switch {
	case f&(mayLack|mayNull) != 0:
		return maybeNull
	case f&untypedStep != 0:
		return unsure
	}
	return neverNull
}

// element is what the elements of a list or map are.
func element(s *sdk.Schema) typed {
	if isAny(s) || s.Element == nil {
		return typed{} // of an empty list nothing is asked
	}
	return typed{schema: s.Element, null: elementFlag(s.Element).null()}
}

// samples gives the records that an atom's samples hold: of each, the part of the body that fits the schema best. A sample is a
// request, and only its decoder knows where the record is; it is good enough for advice.
func (sh *shape) samples(i int) []any {
	if sh.records == nil {
		sh.records = make([][]any, len(sh.atoms))
	}
	if sh.records[i] != nil {
		return sh.records[i]
	}
	records := []any{}
	for _, s := range sh.atoms[i].samples {
		dec := json.NewDecoder(bytes.NewReader(s.Body))
		dec.UseNumber()
		var body any
		if dec.Decode(&body) != nil {
			continue
		}
		if best, score := bestRecord(body, sh.data, sampleDepth); score > 0 {
			records = append(records, best)
		}
	}
	sh.records[i] = records
	return records
}

// sampleDepth is how deep in a body a record is looked for.
const sampleDepth = 3

// bestRecord is the object in a value that has most of the attributes of a schema.
func bestRecord(v any, s *sdk.Schema, depth int) (best any, score int) {
	if depth == 0 || s == nil {
		return nil, 0
	}
	switch v := v.(type) {
	case []any:
		if len(v) > 0 {
			return bestRecord(v[0], s, depth)
		}
	case map[string]any:
		for i := range s.Attributes {
			if _, ok := v[s.Attributes[i].Name]; ok {
				score++
			} else if !s.Attributes[i].Schema.Optional {
				score -= len(s.Attributes)
			}
		}
		best = v
		for _, name := range sortedKeys(v) {
			if inner, n := bestRecord(v[name], s, depth-1); n > score {
				best, score = inner, n
			}
		}
	}
	return best, score
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// sampled is the value at a path of a record; nil where there is none.
func sampled(record any, path []hop) any {
	for _, h := range path {
		switch v := record.(type) {
		case map[string]any:
			record = v[h.name]
		case []any:
			i, err := strconv.Atoi(h.name)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			record = v[i]
		default:
			return nil
		}
	}
	return record
}

// maxShown bounds a sample's value in advice, in characters.
const maxShown = 40

// show writes a sample's value for people; empty: it is not worth showing.
func show(v any) string {
	var text string
	switch v := v.(type) {
	case string:
		text = strconv.Quote(v)
	case json.Number:
		text = v.String()
	case bool:
		text = strconv.FormatBool(v)
	case map[string]any:
		names := sortedKeys(v)
		if len(names) > 5 {
			names = append(names[:5], "…")
		}
		return "{ " + strings.Join(names, ", ") + " }"
	}
	if r := []rune(text); len(r) > maxShown {
		return string(r[:maxShown-1]) + "…"
	}
	return text
}

// sampleAt is the first value that is not null at a path in the samples of a set of atoms.
func (sh *shape) sampleAt(live mask, path []hop) (value any) {
	sh.each(live, func(i int, _ *atom) {
		for _, r := range sh.samples(i) {
			if value == nil {
				value = sampled(r, path)
			}
		}
	})
	return value
}

// describe names a field's type with the value that a sample has.
func describe(s *sdk.Schema, sample any) string {
	text := noun(s)
	if s != nil && len(s.Enum) > 0 {
		text = "one of " + quoteList(s.Enum)
	}
	if s != nil && s.Nullable {
		text += " or null"
	}
	if shown := show(sample); shown != "" {
		text += fmt.Sprintf(", in a sample %s", shown)
	}
	return text
}
