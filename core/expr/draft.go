package expr

import (
	"slices"
	"sort"
	"strconv"

	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/sdk"
)

// Draft renders a message as far as it does not depend on the event, for its schema. What does has a stand-in of its kind,
// and its path is in varies.
func (m *Message) Draft(schema *sdk.Schema) (message []byte, varies [][]string) {
	d := &drafter{}
	values := map[string]cty.Value{}
	for _, a := range m.args {
		values[a.name], _ = a.known.UnmarkDeep()
	}
	d.members(schema, func(name string) (cty.Value, bool) { v, ok := values[name]; return v, ok }, nil)
	return d.out, d.varies
}

type drafter struct {
	out    []byte
	varies [][]string
}

// members writes an object whose attributes the schema names.
func (d *drafter) members(s *sdk.Schema, value func(name string) (cty.Value, bool), path []string) {
	d.out = append(d.out, '{')
	open := len(d.out)
	for i := range s.Attributes {
		a := &s.Attributes[i]
		v, there := value(a.Name)
		absent := !there || v.IsKnown() && v.IsNull() && !a.Schema.Nullable
		if absent && a.Schema.Optional && a.Schema.Default == nil {
			continue
		}
		d.out = appendKey(appendComma(d.out, open), a.Name)
		if absent && a.Schema.Optional {
			d.out = append(d.out, a.Schema.Default...)
			continue
		}
		if absent {
			v = cty.DynamicVal // said elsewhere
		}
		d.value(v, &a.Schema, append(slices.Clip(path), a.Name))
	}
	d.out = append(d.out, '}')
}

func (d *drafter) value(v cty.Value, s *sdk.Schema, path []string) {
	switch {
	case !v.IsKnown():
		d.standIn(s, path)
		return
	case v.IsNull():
		d.out = append(d.out, "null"...)
		return
	case v.IsWhollyKnown():
		start := len(d.out)
		out, bad := appendCty(d.out, v, s, false)
		if d.out = out; bad != nil {
			d.out = d.out[:start]
			d.standIn(s, path)
		}
		return
	}
	ty := v.Type()
	keyed, listed := ty.IsObjectType() || ty.IsMapType(), ty.IsTupleType() || ty.IsListType()
	element := s.Element
	if s.Kind == sdk.KindAny {
		element = s
	}
	switch {
	case keyed && s.Kind == sdk.KindObject:
		members := v.AsValueMap()
		d.members(s, func(name string) (cty.Value, bool) { x, ok := members[name]; return x, ok }, path)
	case keyed && (s.Kind == sdk.KindMap || s.Kind == sdk.KindAny):
		d.out = append(d.out, '{')
		open := len(d.out)
		members := v.AsValueMap()
		names := make([]string, 0, len(members))
		for name := range members {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			d.out = appendKey(appendComma(d.out, open), name)
			d.value(members[name], element, append(slices.Clip(path), name))
		}
		d.out = append(d.out, '}')
	case listed && (s.Kind == sdk.KindList || s.Kind == sdk.KindAny):
		d.out = append(d.out, '[')
		open := len(d.out)
		for i, x := range v.AsValueSlice() {
			d.out = appendComma(d.out, open)
			d.value(x, element, append(slices.Clip(path), strconv.Itoa(i)))
		}
		d.out = append(d.out, ']')
	default:
		d.standIn(s, path)
	}
}

// standIn writes a value of a schema's kind in place of one that is not known.
func (d *drafter) standIn(s *sdk.Schema, path []string) {
	d.varies = append(d.varies, path)
	switch s.Kind {
	case sdk.KindString:
		text := ""
		if len(s.Enum) > 0 {
			text = s.Enum[0]
		}
		d.out = appendQuoted(d.out, text)
	case sdk.KindNumber, sdk.KindInteger, sdk.KindDuration:
		d.out = append(d.out, '0')
	case sdk.KindBool:
		d.out = append(d.out, "false"...)
	case sdk.KindList:
		d.out = append(d.out, "[]"...)
	case sdk.KindMap:
		d.out = append(d.out, "{}"...)
	case sdk.KindObject:
		inner := &drafter{} // its members vary with it
		inner.members(s, func(string) (cty.Value, bool) { return cty.NilVal, false }, nil)
		d.out = append(d.out, inner.out...)
	default:
		d.out = append(d.out, "null"...)
	}
}
