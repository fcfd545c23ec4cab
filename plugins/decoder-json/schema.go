package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// maxDepth is how deep a schema goes; what is deeper may be anything. The host's own limit is 32.
const maxDepth = 24

// maxName is the longest name of a field in a schema.
const maxName = 256

// anything is the schema of what is not known.
func anything() sdk.Schema { return sdk.Schema{Kind: sdk.KindAny, Nullable: true} }

// shapeOf describes what samples show. A field may be missing or null if it is so in one of them, or in one element of a
// list: what else may be missing only a schema can say, and warnings about every field would be of no use.
func shapeOf(samples []json.RawMessage) sdk.Schema {
	var s sdk.Schema
	for _, raw := range samples {
		s = merge(s, shape(rawjson.Value(raw), 0))
	}
	settle(&s)
	s.Optional = false
	return s
}

// unknown is the schema of null, which says nothing.
func unknown() sdk.Schema { return sdk.Schema{Nullable: true} }

// settle makes anything of what stayed unknown.
func settle(s *sdk.Schema) {
	if s.Kind == "" {
		s.Kind, s.Nullable = sdk.KindAny, true
	}
	if s.Element != nil {
		settle(s.Element)
	}
	for i := range s.Attributes {
		settle(&s.Attributes[i].Schema)
	}
}

// shape describes one value.
func shape(v rawjson.Value, depth int) sdk.Schema {
	var s sdk.Schema
	switch v.Kind() {
	case rawjson.String:
		s.Kind = sdk.KindString
	case rawjson.Number:
		s.Kind = sdk.KindNumber
	case rawjson.Bool:
		s.Kind = sdk.KindBool
	case rawjson.Array:
		if depth >= maxDepth {
			return anything()
		}
		var element sdk.Schema
		for w := rawjson.Elements(v); w.Next(); {
			element = merge(element, shape(w.Value, depth+1))
		}
		s.Kind, s.Element = sdk.KindList, &element
	case rawjson.Object:
		if depth >= maxDepth {
			return anything()
		}
		s.Kind = sdk.KindObject
		for w := rawjson.Members(v); w.Next(); {
			name := string(w.Name)
			if name == "" || len(name) > maxName {
				return anything() // not a record but a map
			}
			member := shape(w.Value, depth+1)
			if old := s.Attribute(name); old != nil {
				*old = merge(*old, member)
				continue
			}
			s.Attributes = append(s.Attributes, sdk.Attribute{Name: name, Schema: member})
		}
	default:
		return unknown()
	}
	return s
}

// merge is a schema for what either of two describes.
func merge(a, b sdk.Schema) sdk.Schema {
	optional, nullable := a.Optional || b.Optional, a.Nullable || b.Nullable
	switch {
	case a.Kind == "":
		a = b
	case b.Kind == "":
	case a.Kind != b.Kind:
		a = anything()
	default:
		a = mergeParts(a, b)
	}
	a.Optional, a.Nullable = optional || a.Optional, nullable || a.Nullable
	return a
}

// mergeParts merges what is in two lists or two objects.
func mergeParts(a, b sdk.Schema) sdk.Schema {
	switch a.Kind {
	case sdk.KindList:
		element := merge(*a.Element, *b.Element)
		a.Element = &element
	case sdk.KindObject:
		a.Attributes = slices.Clone(a.Attributes)
		for i := range a.Attributes {
			mine := &a.Attributes[i]
			mine.Schema.Optional = mine.Schema.Optional || b.Attribute(mine.Name) == nil
		}
		for _, x := range b.Attributes {
			if mine := a.Attribute(x.Name); mine != nil {
				*mine = merge(*mine, x.Schema)
			} else {
				x.Schema.Optional = true
				a.Attributes = append(a.Attributes, x)
			}
		}
	}
	return a
}

// jsonSchema is what of JSON Schema is understood; what else it says of a value is passed over.
type jsonSchema struct {
	Ref         string                     `json:"$ref"`
	Type        json.RawMessage            `json:"type"` // a name or a list of names
	Nullable    bool                       `json:"nullable"`
	Description string                     `json:"description"`
	Enum        []json.RawMessage          `json:"enum"`
	Const       json.RawMessage            `json:"const"`
	Properties  members                    `json:"properties"`
	Required    []string                   `json:"required"`
	Additional  json.RawMessage            `json:"additionalProperties"` // a schema or a boolean
	Items       json.RawMessage            `json:"items"`
	Defs        map[string]json.RawMessage `json:"$defs"`
	Definitions map[string]json.RawMessage `json:"definitions"`
}

// members are the members of an object in their order.
type members []member

type member struct {
	name  string
	value json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *members) UnmarshalJSON(b []byte) error {
	w := rawjson.Members(bytes.TrimSpace(b))
	for w.Next() {
		*m = append(*m, member{string(w.Name), json.RawMessage(w.Value)})
	}
	return w.Err()
}

// schemaReader reads a JSON Schema.
type schemaReader struct{ defs map[string]json.RawMessage }

// schemaOf reads a JSON Schema as far as the host's schemas go: type, properties, required, items, enum, const,
// additionalProperties, description, and $ref within the text. What combines schemas (oneOf and its like) is any value.
func schemaOf(text []byte) (sdk.Schema, error) {
	if !json.Valid(text) {
		return sdk.Schema{}, errors.New("is no JSON")
	}
	var root jsonSchema
	if err := json.Unmarshal(text, &root); err != nil {
		return sdk.Schema{}, fmt.Errorf("is no JSON Schema that is understood: %w", err)
	}
	r := schemaReader{map[string]json.RawMessage{}}
	for name, raw := range root.Defs {
		r.defs["#/$defs/"+name] = raw
	}
	for name, raw := range root.Definitions {
		r.defs["#/definitions/"+name] = raw
	}
	s, err := r.read(text, "", 0)
	s.Optional = false
	return s, err
}

func (r *schemaReader) read(raw json.RawMessage, at string, depth int) (sdk.Schema, error) {
	var in jsonSchema
	fail := func(format string, args ...any) (sdk.Schema, error) {
		where := at
		if where == "" {
			where = "the schema"
		}
		return sdk.Schema{}, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...))
	}
	if depth > maxDepth {
		return anything(), nil // a type that holds itself
	}
	if string(raw) == "true" || string(raw) == "false" {
		return anything(), nil
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return fail("is not understood: %v", err)
	}
	if in.Ref != "" {
		target, ok := r.defs[in.Ref]
		if !ok {
			return fail("$ref %q is not in $defs or definitions", in.Ref)
		}
		return r.read(target, at, depth+1)
	}
	types, err := in.types()
	if err != nil {
		return fail("%v", err)
	}
	s := sdk.Schema{Kind: sdk.KindAny, Description: in.Description, Nullable: in.Nullable}
	types = slices.DeleteFunc(types, func(t string) bool {
		s.Nullable = s.Nullable || t == "null"
		return t == "null"
	})
	kind := ""
	switch {
	case len(types) == 1:
		kind = types[0]
	case len(types) == 0 && in.Properties != nil:
		kind = "object"
	case len(types) == 0 && in.enum() != nil:
		kind = "string"
	}
	switch kind {
	case "string":
		s.Kind, s.Enum = sdk.KindString, in.enum()
		s.Nullable = s.Nullable || slices.ContainsFunc(in.Enum, func(v json.RawMessage) bool { return string(v) == "null" })
	case "number":
		s.Kind = sdk.KindNumber
	case "integer":
		s.Kind = sdk.KindInteger
	case "boolean":
		s.Kind = sdk.KindBool
	case "array":
		element := anything()
		if len(in.Items) > 0 && in.Items[0] == '{' {
			if element, err = r.read(in.Items, at+"/items", depth+1); err != nil {
				return s, err
			}
		}
		s.Kind, s.Element = sdk.KindList, &element
	case "object":
		return r.object(&in, s, at, depth)
	case "":
		s.Nullable = true
	default:
		return fail("unknown type %q", kind)
	}
	return s, nil
}

func (r *schemaReader) object(in *jsonSchema, s sdk.Schema, at string, depth int) (sdk.Schema, error) {
	if len(in.Properties) == 0 {
		element := anything()
		if len(in.Additional) > 0 && in.Additional[0] == '{' {
			var err error
			if element, err = r.read(in.Additional, at+"/additionalProperties", depth+1); err != nil {
				return s, err
			}
		}
		s.Kind, s.Element = sdk.KindMap, &element
		return s, nil
	}
	s.Kind = sdk.KindObject
	for _, m := range in.Properties {
		where := at + "/" + m.name
		if m.name == "" || len(m.name) > maxName || s.Attribute(m.name) != nil {
			return s, fmt.Errorf("%s: the name is empty, too long or there twice", where)
		}
		field, err := r.read(m.value, where, depth+1)
		if err != nil {
			return s, err
		}
		field.Optional = !slices.Contains(in.Required, m.name)
		s.Attributes = append(s.Attributes, sdk.Attribute{Name: m.name, Schema: field})
	}
	return s, nil
}

func (in *jsonSchema) types() ([]string, error) {
	if len(in.Type) == 0 {
		return nil, nil
	}
	var one string
	if json.Unmarshal(in.Type, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	if err := json.Unmarshal(in.Type, &list); err != nil {
		return nil, errors.New("type is neither a name nor a list of names")
	}
	return list, nil
}

// enum lists the texts that a text may be; nil: any, or not texts alone.
func (in *jsonSchema) enum() []string {
	values := in.Enum
	if len(in.Const) > 0 {
		values = []json.RawMessage{in.Const}
	}
	var texts []string
	for _, raw := range values {
		if string(raw) == "null" {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return nil
		}
		texts = append(texts, text)
	}
	return texts
}
