package sdk

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SchemaOf derives a schema from a Go type, by its exported fields and their tags:
//
//	json:"name,omitempty"  the attribute's name; omitempty or omitzero makes it optional; "-" leaves the field out
//	doc:"text"             its description
//	default:"text"         its value when left out: "10s", "true", "5", for lists, maps and objects JSON
//	enum:"a|b"             the values that a text, or every text in a list or map, may have
//	format:"path"          what a text in a configuration is: a file or folder, which the host makes absolute
//	escape:"slack_mrkdwn"  how the host escapes the ${…} parts of a template in it: html, url or slack_mrkdwn. In any
//	                       value, it is every text from the event, however deep inside
//
// A pointer is optional and may be null. Embedded structs are flattened. Secret, and lists and maps of it, are
// sensitive. time.Duration is a duration, json.RawMessage and any are any JSON value (null included), types that
// unmarshal text are strings. Recursive types, channels, functions, arrays and []byte are errors.
func SchemaOf[T any]() (Schema, error) {
	n, err := derive(reflect.TypeFor[T](), usePlain)
	if err != nil {
		return Schema{}, err
	}
	return n.schema, nil
}

// MustSchema is SchemaOf for the catalogue of a decoder. It panics where SchemaOf fails: the type is part of the program.
func MustSchema[T any]() Schema {
	s, err := SchemaOf[T]()
	if err != nil {
		panic(fmt.Sprintf("sdk: %v", err))
	}
	return s
}

// use says what a schema is for, which decides the names that are allowed.
type use int

const (
	usePlain use = iota // event data: any name
	useConfig
	useMessage
)

// reservedNames are the host's own attributes and blocks in source and sink blocks.
var reservedNames = []string{"enabled", "isolated", "auth", "path", "tenant", "allow_ips", "secrets", "delivery"}

// mustDescribe derives a configuration's or message's node. It panics: the mistake is in the author's program text.
func mustDescribe[T any](u use) *node {
	t := reflect.TypeFor[T]()
	n, err := derive(t, u)
	if err == nil && n.op != opStruct {
		err = fmt.Errorf("%v is not a struct", t)
	}
	if err != nil {
		panic(fmt.Sprintf("sdk: %s %v: %v", []string{"data", "configuration", "message"}[u], t, err))
	}
	return n
}

// mustName panics unless name can be a plugin's.
func mustName(name string) {
	if !validName(name) {
		panic(fmt.Sprintf("sdk: the plugin name %q does not match [a-z][a-z0-9_]*", name))
	}
}

// op is how a node decodes.
type op int

const (
	opText op = iota // encoding.TextUnmarshaler
	opString
	opBool
	opInt
	opUint
	opFloat
	opNumber // json.Number
	opDuration
	opRaw     // json.RawMessage
	opAny     // interface{}
	opCustom  // json.Unmarshaler
	opPointer // elem
	opStruct  // fields
	opMap     // elem
	opList    // elem
)

// node is a Go type with the schema that describes it and what it takes to decode JSON into it.
type node struct {
	schema Schema
	op     op
	typ    reflect.Type
	elem   *node
	fields []field
}

type field struct {
	name  string
	index []int
	node  *node
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	rawType             = reflect.TypeFor[json.RawMessage]()
	numberType          = reflect.TypeFor[json.Number]()
	secretType          = reflect.TypeFor[Secret]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

func derive(t reflect.Type, u use) (*node, error) {
	d := &deriver{use: u}
	return d.node(t)
}

// deriver walks a type.
type deriver struct {
	use     use
	parents []reflect.Type // the structs that the walk is inside of
	depth   int            // how many of them are objects, not embedded
}

func (d *deriver) node(t reflect.Type) (*node, error) {
	n := &node{typ: t}
	kind := func(o op, k Kind) (*node, error) {
		n.op, n.schema.Kind = o, k
		return n, nil
	}
	switch t {
	case durationType:
		return kind(opDuration, KindDuration)
	case rawType:
		n.schema.Nullable = true
		return kind(opRaw, KindAny)
	case numberType:
		return kind(opNumber, KindNumber)
	case secretType:
		n.schema.Sensitive = true
		return kind(opText, KindString)
	}
	// Asked before json.Unmarshaler because text says more in a schema: time.Time has both.
	if t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(textUnmarshalerType) {
		return kind(opText, KindString)
	}
	if t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(jsonUnmarshalerType) {
		n.schema.Nullable = true
		return kind(opCustom, KindAny)
	}
	switch t.Kind() {
	case reflect.String:
		return kind(opString, KindString)
	case reflect.Bool:
		return kind(opBool, KindBool)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return kind(opInt, KindInteger)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return kind(opUint, KindInteger)
	case reflect.Float32, reflect.Float64:
		return kind(opFloat, KindNumber)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return nil, fmt.Errorf("interface %v has no schema; use any or json.RawMessage", t)
		}
		n.schema.Nullable = true
		return kind(opAny, KindAny)
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Pointer {
			return nil, fmt.Errorf("pointer to pointer %v has no schema", t)
		}
		elem, err := d.node(t.Elem())
		if err != nil {
			return nil, err
		}
		n.op, n.elem, n.schema = opPointer, elem, elem.schema
		n.schema.Nullable = true
		return n, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return nil, errors.New("[]byte has no schema; use string or json.RawMessage")
		}
		return d.container(n, opList, KindList)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return nil, fmt.Errorf("%v has no schema: keys must be strings", t)
		}
		return d.container(n, opMap, KindMap)
	case reflect.Struct:
		if slices.Contains(d.parents, t) {
			return nil, fmt.Errorf("%v is recursive, which a schema cannot be", t)
		}
		d.parents = append(d.parents, t)
		d.depth++
		err := d.structFields(n, t, nil)
		d.depth--
		d.parents = d.parents[:len(d.parents)-1]
		if err != nil {
			return nil, err
		}
		return kind(opStruct, KindObject)
	}
	return nil, fmt.Errorf("%v has no schema", t)
}

func (d *deriver) container(n *node, o op, k Kind) (*node, error) {
	elem, err := d.node(n.typ.Elem())
	if err != nil {
		return nil, err
	}
	n.op, n.elem = o, elem
	n.schema.Kind, n.schema.Element = k, &elem.schema
	n.schema.Sensitive = elem.schema.Sensitive
	return n, nil
}

// structFields adds the fields of t, which is n's type or is embedded in it at index prefix.
func (d *deriver) structFields(n *node, t reflect.Type, prefix []int) error {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" && options == "" {
			continue
		}
		index := append(slices.Clone(prefix), i)
		if f.Anonymous && tag == "" {
			if f.Type.Kind() != reflect.Struct {
				return fmt.Errorf("embedded %v is not a struct; give it a json name", f.Type)
			}
			if slices.Contains(d.parents, f.Type) {
				return fmt.Errorf("%v is recursive, which a schema cannot be", f.Type)
			}
			d.parents = append(d.parents, f.Type)
			err := d.structFields(n, f.Type, index)
			d.parents = d.parents[:len(d.parents)-1]
			if err != nil {
				return err
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		name := tag
		if name == "" {
			name = f.Name
		}
		fail := func(err error) error { return fmt.Errorf("field %s: %w", f.Name, err) }
		if err := d.checkName(n, name, tag == ""); err != nil {
			return fail(err)
		}
		fn, err := d.node(f.Type)
		if err != nil {
			return fail(err)
		}
		fn.schema.Description = f.Tag.Get("doc")
		for o := range strings.SplitSeq(options, ",") {
			switch o {
			case "":
			case "omitempty", "omitzero":
				fn.schema.Optional = true
			default:
				return fail(fmt.Errorf("json option %q has no meaning here", o))
			}
		}
		fn.schema.Optional = fn.schema.Optional || fn.op == opPointer
		if err := fn.tagged(f.Tag); err != nil {
			return fail(err)
		}
		n.fields = append(n.fields, field{name: name, index: index, node: fn})
		n.schema.Attributes = append(n.schema.Attributes, Attribute{Name: name, Schema: fn.schema})
	}
	return nil
}

func (d *deriver) checkName(n *node, name string, untagged bool) error {
	if n.schema.Attribute(name) != nil {
		return fmt.Errorf("a second attribute named %q", name)
	}
	if d.use == usePlain {
		return nil
	}
	if !validName(name) {
		if untagged {
			return errors.New(`it needs a json tag with its name in lower case`)
		}
		return fmt.Errorf("the name %q does not match [a-z][a-z0-9_]*", name)
	}
	if d.use == useConfig && d.depth == 1 && slices.Contains(reservedNames, name) {
		return fmt.Errorf("the name %q is reserved: the host has an attribute or block of its own by that name", name)
	}
	return nil
}

// validName reports whether s is a name as plugins, blocks, configurations and messages have them: [a-z][a-z0-9_]*.
func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// tagged applies a field's enum, escape and default tags. Enum and escape go to the strings inside of lists and maps.
func (n *node) tagged(tag reflect.StructTag) error {
	if enum, ok := tag.Lookup("enum"); ok {
		if err := n.eachInnermost(func(s *Schema) { s.Enum = strings.Split(enum, "|") }, KindString); err != nil {
			return fmt.Errorf("enum: %w", err)
		}
	}
	if escape, ok := tag.Lookup("escape"); ok {
		switch e := Escape(escape); e {
		case EscapeHTML, EscapeURL, EscapeSlackMrkdwn:
			if err := n.eachInnermost(func(s *Schema) { s.Escape = e }, KindString, KindAny); err != nil {
				return fmt.Errorf("escape: %w", err)
			}
		default:
			return fmt.Errorf("unknown escape %q", escape)
		}
	}
	if format, ok := tag.Lookup("format"); ok {
		if Format(format) != FormatPath {
			return fmt.Errorf("unknown format %q", format)
		}
		if err := n.eachInnermost(func(s *Schema) { s.Format = FormatPath }, KindString); err != nil {
			return fmt.Errorf("format: %w", err)
		}
	}
	if def, ok := tag.Lookup("default"); ok {
		if err := n.setDefault(def); err != nil {
			return fmt.Errorf("default %q: %w", def, err)
		}
	}
	return nil
}

// eachInnermost changes the schema that n is, or that its elements are, which must be of one of the kinds.
func (n *node) eachInnermost(change func(*Schema), kinds ...Kind) error {
	for m := n; m != nil; m = m.elem {
		if slices.Contains(kinds, m.schema.Kind) {
			change(&m.schema)
		} else if m.elem == nil {
			return errors.New("it is not text")
		}
	}
	return nil
}

func (n *node) setDefault(text string) error {
	if n.schema.Sensitive {
		return errors.New("a secret has no default")
	}
	raw := []byte(text)
	switch n.schema.Kind {
	case KindString:
		b, err := json.Marshal(text)
		if err != nil {
			return err
		}
		raw = b
	case KindDuration:
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		raw = strconv.AppendInt(nil, int64(d), 10)
	}
	if err := n.decode(raw, reflect.New(n.typ).Elem()); err != nil {
		return err
	}
	n.schema.Default, n.schema.Optional = raw, true
	return nil
}

// ParseDuration is time.ParseDuration with days: "3d", "1d12h", "90s".
func ParseDuration(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseFloat(strings.TrimLeft(days, "+-"), 64)
	if err != nil || math.IsNaN(n) || n > math.MaxInt64/float64(24*time.Hour) {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 1h30m or 3d", s)
	}
	d := time.Duration(n * float64(24*time.Hour))
	if rest != "" {
		r, err := time.ParseDuration(rest)
		if err != nil || r < 0 || d+r < d {
			return 0, fmt.Errorf("%q is not a duration such as 90s, 1h30m or 3d", s)
		}
		d += r
	}
	if strings.HasPrefix(days, "-") {
		d = -d
	}
	return d, nil
}
