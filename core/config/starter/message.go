package starter

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/sdk"
)

// field is a value of an event's data that a sample has and all types of the route may have.
type field struct {
	name string
	path string // event.data.x.y
	kind sdk.Kind
	sure bool // it is there and not null, by the schemas
}

// identifier is a name that can follow a full stop.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// fieldsOf lists the texts, numbers and booleans of a sample's data, those of outer objects first.
func fieldsOf(data json.RawMessage, schemas []*sdk.Schema) []field {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return nil
	}
	type level struct {
		path    string
		value   any
		schemas []*sdk.Schema
		sure    bool
	}
	var list []field
	for queue := []level{{"event.data", value, schemas, true}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		object, ok := at.value.(map[string]any)
		if !ok {
			continue
		}
		for _, name := range names(object, at.schemas) {
			below, sure := step(at.schemas, name)
			if below == nil || !identifier.MatchString(name) {
				continue
			}
			next := level{at.path + "." + name, object[name], below, at.sure && sure}
			f := field{name: name, path: next.path, sure: next.sure}
			switch object[name].(type) {
			case string:
				f.kind = sdk.KindString
			case json.Number:
				f.kind = sdk.KindNumber
			case bool:
				f.kind = sdk.KindBool
			case map[string]any:
				queue = append(queue, next)
				continue
			default:
				continue
			}
			list = append(list, f)
		}
	}
	return list
}

// names lists an object's members in the order of a schema, then the others.
func names(object map[string]any, schemas []*sdk.Schema) []string {
	var list []string
	if len(schemas) > 0 {
		for _, a := range schemas[0].Attributes {
			if _, ok := object[a.Name]; ok {
				list = append(list, a.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// step goes to a member in all schemas. nil: one of them has none.
func step(schemas []*sdk.Schema, name string) (below []*sdk.Schema, sure bool) {
	sure = true
	for _, s := range schemas {
		if s.Kind != sdk.KindObject {
			if s.Kind != sdk.KindAny && s.Kind != "" {
				return nil, false
			}
			below, sure = append(below, &sdk.Schema{Kind: sdk.KindAny}), false
			continue
		}
		a := s.Attribute(name)
		if a == nil {
			return nil, false
		}
		sure = sure && !a.Optional && !a.Nullable && a.Kind != sdk.KindAny
		below = append(below, a)
	}
	return below, sure
}

// Event is what is known about the events of a route.
type Event struct {
	Types []*sdk.EventType // that the route takes; may be empty
	Data  json.RawMessage  // of the first type's first sample; empty: not known

	Several bool // that sample makes other events, too
}

// message makes attributes of a message.
type message struct {
	provider string
	fields   []field
}

func newMessage(provider string, e Event) *message {
	var schemas []*sdk.Schema
	for _, t := range e.Types {
		schemas = append(schemas, &t.Data)
	}
	return &message{provider, fieldsOf(e.Data, schemas)}
}

// to writes the attributes that a sink requires, and one that a sink which requires none has something to say with.
func (m *message) to(w *writer, sink *core.PluginInfo) {
	hints := known["sink-"+sink.Name].message
	var set []*node
	for i := range sink.Message.Attributes {
		a := &sink.Message.Attributes[i]
		text := m.complete(hints[a.Name])
		if text == "" && !a.Schema.Optional && !a.Schema.Nullable {
			text = m.value(a.Name, &a.Schema)
		}
		if text != "" {
			set = append(set, &node{name: a.Name, schema: &a.Schema, text: text})
		}
	}
	if len(set) == 0 && !sink.WantData {
		if a := speaking(&sink.Message); a != nil {
			set = append(set, &node{name: a.Name, schema: &a.Schema, text: m.text()})
		}
	}
	if len(set) == 0 {
		w.comment("Nothing is required: the event is sent as it is.")
	}
	w.nodes(set)
	w.optional(&sink.Message, set)
}

// complete replaces what a hint leaves open.
func (m *message) complete(hint string) string {
	hint = strings.ReplaceAll(hint, "ID", m.key())
	if strings.Contains(hint, "FIELDS") {
		hint = strings.ReplaceAll(hint, "FIELDS", m.object())
	}
	return hint
}

// speaking is the attribute that says something to people.
func speaking(s *sdk.Schema) *sdk.Attribute {
	text := func(a *sdk.Attribute) bool {
		return a.Schema.Kind == sdk.KindString && len(a.Schema.Enum) == 0 && len(a.Schema.Default) == 0
	}
	for _, name := range []string{"text", "message", "body", "content", "title", "subject"} {
		for i := range s.Attributes {
			if a := &s.Attributes[i]; a.Name == name && text(a) {
				return a
			}
		}
	}
	for i := range s.Attributes {
		if a := &s.Attributes[i]; text(a) {
			return a
		}
	}
	return nil
}

// value makes a value of a kind for an attribute of a message.
func (m *message) value(name string, s *sdk.Schema) string {
	same := slices.IndexFunc(m.fields, func(f field) bool { return strings.EqualFold(f.name, name) })
	switch s.Kind {
	case sdk.KindString:
		switch {
		case len(s.Enum) > 0:
			return config.Quote(s.Enum[0])
		case same >= 0:
			return `"${` + m.fields[same].text() + `}"`
		case strings.HasSuffix(name, "id") || strings.Contains(name, "key"):
			return m.key()
		case strings.Contains(name, "title") || strings.Contains(name, "subject") || strings.Contains(name, "type"):
			return "event.type"
		}
		return m.text()
	case sdk.KindNumber, sdk.KindInteger:
		return "1"
	case sdk.KindBool:
		return "true"
	case sdk.KindDuration:
		return `"1m"`
	case sdk.KindList:
		if s.Element != nil && s.Element.Kind != sdk.KindAny {
			return "[" + m.value(name, s.Element) + "]"
		}
		return "[event.data]"
	case sdk.KindMap:
		if s.Element != nil && s.Element.Kind != sdk.KindAny {
			return "{ id = " + m.value("id", s.Element) + " }"
		}
		return m.object()
	case sdk.KindObject:
		var b strings.Builder
		b.WriteString("{\n")
		for i := range s.Attributes {
			if a := &s.Attributes[i]; !a.Schema.Optional && !a.Schema.Nullable {
				b.WriteString(a.Name + " = " + m.value(a.Name, &a.Schema) + "\n")
			}
		}
		return b.String() + "}"
	}
	return "event.data"
}

// text is a text about the event for people.
func (m *message) text() string {
	parts := []string{"${event.type}:"}
	for _, f := range m.telling(2, false) {
		parts = append(parts, "${"+f.text()+"}")
	}
	if len(parts) == 1 {
		parts = append(parts, `${coalesce(event.subject, "?")}`)
	}
	return `"` + strings.Join(parts, " ") + `"`
}

// text is an expression that is never null.
func (f *field) text() string {
	switch {
	case f.sure:
		return f.path
	case f.kind == sdk.KindString:
		return "coalesce(" + f.path + `, "?")`
	}
	return "coalesce(" + f.path + ", 0)"
}

// words of names, the most telling first.
func words() []string {
	return []string{"first", "last", "full", "name", "title", "customer", "status", "state", "number", "mail", "type"}
}

// telling are the texts that say most about what the event is about, by their names; or, where no name promises that and
// vague is true, the first there are.
func (m *message) telling(n int, vague bool) []field {
	last := len(words())
	rank := func(f field) int {
		i := slices.IndexFunc(words(), func(word string) bool { return strings.Contains(strings.ToLower(f.name), word) })
		if i < 0 {
			return last
		}
		return i
	}
	var list []field
	for _, f := range m.fields {
		name := strings.ToLower(f.name)
		odd := strings.Contains(name, "link") || strings.Contains(name, "url")
		if f.kind == sdk.KindString && !odd && !isID(name) {
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b field) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.depth(), b.depth()))
	})
	if len(list) > 0 && (rank(list[0]) < last || !vague) {
		list = slices.DeleteFunc(list, func(f field) bool { return rank(f) == last })
	}
	return list[:min(n, len(list))]
}

func (f *field) depth() int { return strings.Count(f.path, ".") }

// isID reports whether a name, in lower case, is that of an id: id, job_id, personId.
func isID(name string) bool { return strings.HasSuffix(name, "id") && !strings.HasSuffix(name, "paid") }

// key is a text that tells what the event is about from everything else.
func (m *message) key() string {
	var ids []field
	for _, f := range m.fields {
		if name := strings.ToLower(f.name); isID(name) && f.kind != sdk.KindBool {
			ids = append(ids, f)
		}
	}
	slices.SortStableFunc(ids, func(a, b field) int {
		return cmp.Or(cmp.Compare(a.depth(), b.depth()), cmp.Compare(len(a.name), len(b.name)))
	})
	if len(ids) == 0 {
		return `"` + m.provider + `:${coalesce(event.subject, event.id)}"`
	}
	if ids[0].sure {
		return `"` + m.provider + ":${" + ids[0].path + `}"`
	}
	return `"` + m.provider + ":${coalesce(" + ids[0].path + `, event.subject, event.id)}"`
}

// object is an object of some fields.
func (m *message) object() string {
	list := m.telling(3, true)
	if len(list) == 0 {
		return "{ type = event.type, subject = event.subject }"
	}
	var b strings.Builder
	b.WriteString("{\n")
	for _, f := range list {
		b.WriteString(f.name + " = " + f.path + "\n")
	}
	return b.String() + "}"
}
