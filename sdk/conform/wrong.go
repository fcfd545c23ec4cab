package conform

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

// wrong is a changed copy of a good object that a schema refuses.
type wrong struct {
	object string
	path   []string // what is to be blamed
	what   string
}

// unknownName is a name that no plugin declares.
const unknownName = "no_such_attribute_9"

// wrongs lists changed copies of a good object: at every depth an unknown attribute, and each attribute missing, of
// another type, null or outside its enum where the schema does not allow it.
func wrongs(schema *sdk.Schema, object string) []wrong {
	var value any
	dec := json.NewDecoder(strings.NewReader(object))
	dec.UseNumber()
	if dec.Decode(&value) != nil {
		return nil
	}
	w := wrongMaker{root: value}
	w.visit(schema, value, nil)
	return w.list
}

type wrongMaker struct {
	root any
	list []wrong
}

// maxWrongs is enough: more would only take longer.
const maxWrongs = 150

func (w *wrongMaker) add(path []string, value any, remove bool, what string) {
	if len(w.list) == maxWrongs {
		return
	}
	text, err := json.Marshal(replaced(w.root, path, value, remove))
	if err != nil {
		return
	}
	w.list = append(w.list, wrong{string(text), slices.Clone(path), strings.Join(path, ".") + " " + what})
}

func (w *wrongMaker) visit(s *sdk.Schema, value any, path []string) {
	switch s.Kind {
	case sdk.KindObject:
		object, ok := value.(map[string]any)
		if !ok {
			return
		}
		w.add(append(slices.Clone(path), unknownName), json.Number("1"), false,
			"is an attribute that the schema does not name")
		for i := range s.Attributes {
			a := &s.Attributes[i]
			at := append(slices.Clone(path), a.Name)
			v, there := object[a.Name]
			if !a.Schema.Optional {
				w.add(at, nil, true, "is missing")
				if !a.Schema.Nullable && a.Schema.Kind != sdk.KindAny {
					w.add(at, nil, false, "is null")
				}
			}
			w.types(&a.Schema, v, there, at)
			if there {
				w.visit(&a.Schema, v, at)
			}
		}
	case sdk.KindMap:
		object, _ := value.(map[string]any)
		for _, name := range sortedKeys(object) {
			w.element(s.Element, object[name], append(slices.Clone(path), name))
		}
	case sdk.KindList:
		list, _ := value.([]any)
		for i, v := range list {
			w.element(s.Element, v, append(slices.Clone(path), strconv.Itoa(i)))
		}
	}
}

func (w *wrongMaker) element(s *sdk.Schema, v any, path []string) {
	if s != nil {
		w.types(s, v, true, path)
		w.visit(s, v, path)
	}
}

// types puts values of other types into the place of one.
func (w *wrongMaker) types(s *sdk.Schema, v any, there bool, path []string) {
	switch s.Kind {
	case sdk.KindAny:
		return
	case sdk.KindObject, sdk.KindMap:
		w.add(path, []any{}, false, "is a list instead of an object")
		return
	case sdk.KindList:
		w.add(path, "x", false, "is a text instead of a list")
	case sdk.KindString:
		w.add(path, json.Number("1"), false, "is a number instead of a text")
		if s.Enum != nil {
			w.add(path, "no such choice 9", false, fmt.Sprintf("is none of %q", s.Enum))
		}
	case sdk.KindInteger, sdk.KindDuration:
		w.add(path, json.Number("1.5"), false, "has a fraction")
		w.add(path, "x", false, "is a text instead of a number")
	default:
		w.add(path, "x", false, "is a text instead of a "+string(s.Kind))
	}
	if there && v != nil { // the value itself in the wrong place: an error must not repeat it
		v = map[string]any{"text": v}
	} else {
		v = map[string]any{}
	}
	w.add(path, v, false, "is an object instead of a "+string(s.Kind))
}

// replaced is a copy of a JSON value with another value at a path, or none.
func replaced(root any, path []string, value any, remove bool) any {
	if len(path) == 0 {
		return value
	}
	switch x := root.(type) {
	case map[string]any:
		out := make(map[string]any, len(x)+1)
		for name, v := range x {
			out[name] = v
		}
		if len(path) == 1 && remove {
			delete(out, path[0])
		} else {
			out[path[0]] = replaced(x[path[0]], path[1:], value, remove)
		}
		return out
	case []any:
		out := slices.Clone(x)
		if i, err := strconv.Atoi(path[0]); err == nil && i < len(out) {
			out[i] = replaced(x[i], path[1:], value, remove)
		}
		return out
	}
	return value
}

// blames reports whether an error names an attribute, or one in it or around it.
func blames(err error, path []string) bool {
	for _, e := range sdk.AttributeErrors(err) {
		if samePath(e.Path, path) {
			return true
		}
	}
	return false
}

// samePath: one may go on where the other ends, but for the root, which says nothing.
func samePath(got, want []string) bool {
	if len(got) == 0 {
		return false
	}
	n := min(len(got), len(want))
	return slices.Equal(got[:n], want[:n]) && len(got) >= min(len(want), 1)
}

// example is the least value that a schema takes.
func example(s *sdk.Schema) json.RawMessage {
	switch s.Kind {
	case sdk.KindString:
		if len(s.Enum) > 0 {
			text, err := json.Marshal(s.Enum[0])
			if err == nil {
				return text
			}
		}
		return json.RawMessage(`"x"`)
	case sdk.KindNumber, sdk.KindInteger, sdk.KindDuration:
		return json.RawMessage("1")
	case sdk.KindBool:
		return json.RawMessage("true")
	case sdk.KindList:
		return json.RawMessage("[]")
	case sdk.KindObject:
		var members []string
		for i := range s.Attributes {
			if a := &s.Attributes[i]; !a.Schema.Optional {
				members = append(members, strconv.Quote(a.Name)+":"+string(example(&a.Schema)))
			}
		}
		return json.RawMessage("{" + strings.Join(members, ",") + "}")
	}
	return json.RawMessage("{}")
}

// checkGiven checks a configuration or message against its schema, in the way of the host: null is also what is left
// out.
func checkGiven(s *sdk.Schema, text string) error {
	err := CheckData(s, []byte(text))
	var list []string
	for _, e := range sdk.AttributeErrors(err) {
		if e.Summary == isNull {
			continue
		}
		list = append(list, e.Error())
	}
	if len(list) == 0 {
		return nil
	}
	return &sdk.AttributeError{Summary: strings.Join(list, "; ")}
}

// required lists the attributes of an object that may not be left out.
func required(s *sdk.Schema) (names []string) {
	for i := range s.Attributes {
		if a := &s.Attributes[i]; !a.Schema.Optional {
			names = append(names, a.Name)
		}
	}
	return names
}
