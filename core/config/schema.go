package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/sdk"
)

// decoder turns the plugin's part of a block into JSON by the plugin's schema: attributes in the schema's order, map
// keys sorted, numbers exact, defaults filled in, durations in nanoseconds, paths absolute.
type decoder struct {
	l      *loader
	top    *block
	what   string // `sink "audit"`
	out    bytes.Buffer
	failed bool
	needed bool // nothing can be left out
	unset  bool // something is left out, because a variable or file is not there
}

// pluginConfig decodes what b's owner did not ask for. It asks b for all names of the schema, so that b.finish reports
// the rest. Not ok: diagnostics say why, or the configuration may be incomplete, and is.
func (l *loader) pluginConfig(b *block, schema *sdk.Schema, needed bool) (config []byte, ok bool) {
	d := &decoder{l: l, top: b, what: b.what, needed: needed}
	d.body(b, schema, nil, false)
	if d.failed || d.unset {
		return nil, false
	}
	return d.out.Bytes(), true
}

// pluginNames asks b for the names of a schema without evaluating anything, for blocks that stay out.
func pluginNames(b *block, schema *sdk.Schema) {
	for i := range schema.Attributes {
		a := &schema.Attributes[i]
		b.attr(a.Name)
		if a.Schema.Kind == sdk.KindObject {
			if n := b.block(a.Name); n != nil {
				n.plugin = true
				pluginNames(n, &a.Schema)
				n.finish()
			}
		}
	}
}

// body decodes an object that is written as a block.
func (d *decoder) body(b *block, schema *sdk.Schema, path []string, sensitive bool) {
	d.out.WriteByte('{')
	first := true
	for i := range schema.Attributes {
		name, s := schema.Attributes[i].Name, &schema.Attributes[i].Schema
		sensitive := sensitive || s.Sensitive
		at := append(slices.Clone(path), name)
		attr := b.attr(name)
		var nested *block
		if s.Kind == sdk.KindObject {
			if nested = b.block(name); nested != nil && attr != nil {
				d.error(nested.at, fmt.Sprintf("%q of %s is written twice", name, b.what), "Write an attribute or a block.")
				continue
			}
		}
		switch {
		case nested != nil:
			nested.plugin = true
			d.member(&first, name)
			d.body(nested, s, at, sensitive)
			nested.finish()
		case attr == nil && !s.Optional && misspelt(b.body, schema, name):
			d.failed = true // finish says so
		case attr == nil:
			d.absent(&first, name, s, b.at, at)
		default:
			v, unset, ok := d.l.evalUnset(attr.Expr)
			if !ok {
				if len(unset) > 0 && d.needed {
					d.l.needs(attr.Expr.Range(), unset)
				}
				d.unset = d.unset || len(unset) > 0
				d.failed = d.failed || len(unset) == 0
				continue
			}
			d.attribute(&first, name, v, s, place{attr.Expr, nil, at}, sensitive)
		}
	}
	d.out.WriteByte('}')
}

// misspelt reports whether an attribute that is not there stands in the block under a similar name.
func misspelt(body *hclsyntax.Body, schema *sdk.Schema, name string) bool {
	for given := range body.Attributes {
		if schema.Attribute(given) == nil && nearest(given, []string{name}) != "" {
			return true
		}
	}
	return false
}

// place is where a value stands: an expression, and the path of the value in it; full is the path from the block on.
type place struct {
	expr       hclsyntax.Expression
	path, full []string
}

func (p place) in(step string) place {
	return place{p.expr, append(slices.Clone(p.path), step), append(slices.Clone(p.full), step)}
}

func (p place) at() hcl.Range { return rangeInExpr(p.expr, p.path) }

// attribute writes a member of an object, or nothing for a null that means "left out".
func (d *decoder) attribute(first *bool, name string, v cty.Value, s *sdk.Schema, p place, sensitive bool) {
	if v.IsNull() && !s.Nullable {
		if len(s.Default) == 0 && !s.Optional {
			d.error(p.at(), d.name(p)+" is null", d.l.because(v))
			return
		}
		d.absent(first, name, s, p.at(), p.full)
		return
	}
	d.member(first, name)
	d.value(v, s, p, sensitive)
}

func (d *decoder) member(first *bool, name string) {
	if !*first {
		d.out.WriteByte(',')
	}
	*first = false
	d.text(name)
	d.out.WriteByte(':')
}

// absent writes the default of an attribute that is left out, or null where null is no value of its own.
func (d *decoder) absent(first *bool, name string, s *sdk.Schema, at hcl.Range, path []string) {
	switch {
	case len(s.Default) > 0:
		d.member(first, name)
		d.out.Write(d.defaultOf(s))
	case s.Optional:
	case !d.l.partial:
		detail := s.Description
		if detail != "" {
			detail = fmt.Sprintf("%s: %s", path[len(path)-1], sentence(detail))
		}
		d.error(at, fmt.Sprintf("%q is missing in %s", strings.Join(path, "."), d.what), detail)
	default:
		d.failed = true
	}
}

// defaultOf is a schema's default; a path in it is made absolute as if it were written.
func (d *decoder) defaultOf(s *sdk.Schema) []byte {
	var text string
	if s.Format == sdk.FormatPath && json.Unmarshal(s.Default, &text) == nil {
		if b, err := json.Marshal(d.l.abs(text)); err == nil {
			return b
		}
	}
	return s.Default
}

// value writes a value of a schema.
func (d *decoder) value(v cty.Value, s *sdk.Schema, p place, sensitive bool) {
	v, marks := v.Unmark()
	for m := range marks {
		if _, ok := m.(origin); !ok {
			sensitive = true // sensitive()
		}
	}
	sensitive = sensitive || s.Sensitive
	if sensitive {
		d.l.hide(p.at())
		for m := range marks {
			if o, ok := m.(origin); ok {
				d.l.taint[string(o)] = true
			}
		}
	}
	if v.IsNull() {
		if !s.Nullable && s.Kind != sdk.KindAny {
			d.error(p.at(), fmt.Sprintf("%s is null", d.name(p)), d.l.because(v.WithMarks(marks)))
			return
		}
		d.out.WriteString("null")
		return
	}
	wrong := func(want, detail string) {
		d.error(p.at(), fmt.Sprintf("%s must be %s", d.name(p), want), detail)
		if sensitive {
			d.l.veilValue(p.expr)
		}
	}
	switch s.Kind {
	case sdk.KindString:
		text, ok := asText(v)
		if !ok {
			wrong("a text", "Put it in quotes.")
			return
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
			detail := "Use " + list(s.Enum) + "."
			if len(s.Enum) > 1 {
				detail = "Use one of " + join(s.Enum, "or") + "."
			}
			if guess := nearest(text, s.Enum); guess != "" && len(marks) == 0 {
				detail = fmt.Sprintf("Did you mean %q? ", guess) + detail
			}
			wrong("one of the allowed values", detail)
			return
		}
		if s.Format == sdk.FormatPath {
			text = d.l.abs(text)
		}
		d.keep(text, sensitive)
		d.text(text)
	case sdk.KindBool:
		x, ok := asBool(v)
		if !ok {
			wrong("true or false", "")
			return
		}
		d.out.WriteString(strconv.FormatBool(x))
	case sdk.KindInteger:
		n, ok := asInteger(v)
		if !ok {
			wrong("a whole number", "")
			return
		}
		text := strconv.FormatInt(n, 10)
		d.keep(text, sensitive)
		d.out.WriteString(text)
	case sdk.KindNumber:
		f, ok := asNumber(v)
		if !ok {
			wrong("a number", "")
			return
		}
		text := formatNumber(f)
		d.keep(text, sensitive)
		d.out.WriteString(text)
	case sdk.KindDuration:
		t, err := asDuration(v)
		if err != nil {
			wrong(`a duration such as "30s", "1h30m" or "3d"`, sentence(err.Error()))
			return
		}
		d.out.WriteString(strconv.FormatInt(int64(t), 10))
	case sdk.KindObject:
		d.object(v, s, p, sensitive, wrong)
	case sdk.KindMap:
		if t := v.Type(); !t.IsObjectType() && !t.IsMapType() {
			wrong("a map: { key = … }", "")
			return
		}
		d.mapping(v, s.Element, p, sensitive)
	case sdk.KindList:
		if !isList(v) {
			wrong("a list: [ … ]", "")
			return
		}
		d.list(v, s.Element, p, sensitive)
	default:
		d.any(v, p, sensitive)
	}
}

var anything = &sdk.Schema{Kind: sdk.KindAny}

// any writes a value as it is.
func (d *decoder) any(v cty.Value, p place, sensitive bool) {
	switch t := v.Type(); {
	case t == cty.String:
		d.keep(v.AsString(), sensitive)
		d.text(v.AsString())
	case t == cty.Bool:
		d.out.WriteString(strconv.FormatBool(v.True()))
	case t == cty.Number:
		if f := v.AsBigFloat(); !f.IsInf() {
			d.keep(formatNumber(f), sensitive)
			d.out.WriteString(formatNumber(f))
			return
		}
		d.error(p.at(), fmt.Sprintf("%s is no finite number", d.name(p)), "")
	case isList(v):
		d.list(v, anything, p, sensitive)
	case t.IsObjectType() || t.IsMapType():
		d.mapping(v, anything, p, sensitive)
	default:
		d.error(p.at(), fmt.Sprintf("%s cannot be given to a plugin", d.name(p)), "")
	}
}

func (d *decoder) list(v cty.Value, element *sdk.Schema, p place, sensitive bool) {
	if element == nil {
		element = anything
	}
	d.out.WriteByte('[')
	for i, x := range elements(v) {
		if i > 0 {
			d.out.WriteByte(',')
		}
		d.value(x, element, p.in(strconv.Itoa(i)), sensitive)
	}
	d.out.WriteByte(']')
}

func (d *decoder) mapping(v cty.Value, element *sdk.Schema, p place, sensitive bool) {
	if element == nil {
		element = anything
	}
	values := v.AsValueMap()
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	d.out.WriteByte('{')
	first := true
	for _, k := range keys {
		d.member(&first, k)
		d.value(values[k], element, p.in(k), sensitive)
	}
	d.out.WriteByte('}')
}

// object writes an object that is written as a value.
func (d *decoder) object(v cty.Value, s *sdk.Schema, p place, sensitive bool, wrong func(want, detail string)) {
	if t := v.Type(); !t.IsObjectType() && !t.IsMapType() {
		wrong("an object: { … }", "")
		return
	}
	values := v.AsValueMap()
	names := make([]string, len(s.Attributes))
	d.out.WriteByte('{')
	first := true
	for i := range s.Attributes {
		name, as := s.Attributes[i].Name, &s.Attributes[i].Schema
		names[i] = name
		at := p.in(name)
		if x, ok := values[name]; ok {
			d.attribute(&first, name, x, as, at, sensitive || as.Sensitive)
		} else {
			d.absent(&first, name, as, p.at(), at.full)
		}
	}
	d.out.WriteByte('}')
	var unknown []string
	for k := range values {
		if !slices.Contains(names, k) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		detail := suggest(k, names)
		if detail == "" {
			detail = "There are " + strings.Join(names, ", ") + "."
		}
		key := keyRange(p, k)
		d.error(key, fmt.Sprintf("There is no attribute %q in %s", k, d.name(p)), detail)
		d.l.veil(false)
	}
}

// name names a place: `"retry.max" of sink "crm"`.
func (d *decoder) name(p place) string {
	return fmt.Sprintf("%q of %s", strings.Join(p.full, "."), d.what)
}

func (d *decoder) error(at hcl.Range, summary, detail string) {
	d.failed = true
	d.l.error(at, summary, detail)
}

// keep remembers a secret.
func (d *decoder) keep(text string, sensitive bool) {
	if sensitive {
		d.l.secret(text)
	}
}

// text writes a JSON string.
func (d *decoder) text(s string) {
	enc := json.NewEncoder(&d.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)               // a string cannot fail
	d.out.Truncate(d.out.Len() - 1) // Encode ends with a newline
}

// formatNumber writes a number exactly.
func formatNumber(f *big.Float) string {
	if e := f.MantExp(nil); cmp.Compare(e, -400) < 0 || e > 400 {
		return f.Text('g', -1)
	}
	return f.Text('f', -1)
}

// hasText reports whether an expression spells out a text, other than as an argument of env() or file().
func hasText(e hclsyntax.Expression) bool {
	w := &textFinder{}
	_ = hclsyntax.Walk(e, w)
	return w.found
}

type textFinder struct {
	found bool
	calls int // env and file calls around the node
}

func (w *textFinder) Enter(n hclsyntax.Node) hcl.Diagnostics {
	switch n := n.(type) {
	case *hclsyntax.FunctionCallExpr:
		if n.Name == "env" || n.Name == "file" {
			w.calls++
		}
	case *hclsyntax.LiteralValueExpr:
		if n.Val.Type() != cty.Bool && !n.Val.IsNull() {
			w.found = w.found || w.calls == 0
		}
	}
	return nil
}

func (w *textFinder) Exit(n hclsyntax.Node) hcl.Diagnostics {
	if n, ok := n.(*hclsyntax.FunctionCallExpr); ok && (n.Name == "env" || n.Name == "file") {
		w.calls--
	}
	return nil
}

// rangeInExpr finds the part of an expression that gives the value at a path: an object's item, a list's element.
// Where the expression does not spell the path out, it is the nearest expression around it.
func rangeInExpr(e hclsyntax.Expression, path []string) hcl.Range {
	for len(path) > 0 {
		switch x := e.(type) {
		case *hclsyntax.ParenthesesExpr:
			e = x.Expression
			continue
		case *hclsyntax.ObjectConsExpr:
			item := objectItem(x, path[0])
			if item == nil {
				return e.Range()
			}
			e, path = item.ValueExpr, path[1:]
			continue
		case *hclsyntax.TupleConsExpr:
			i, err := strconv.Atoi(path[0])
			if err != nil || i < 0 || i >= len(x.Exprs) {
				return e.Range()
			}
			e, path = x.Exprs[i], path[1:]
			continue
		}
		break
	}
	return e.Range()
}

// objectItem finds an item by its key, if the key is written out.
func objectItem(x *hclsyntax.ObjectConsExpr, key string) *hclsyntax.ObjectConsItem {
	for i := range x.Items {
		k, diags := x.Items[i].KeyExpr.Value(nil)
		if diags.HasErrors() || !k.IsKnown() || k.IsNull() || k.IsMarked() || k.Type() != cty.String {
			continue
		}
		if k.AsString() == key {
			return &x.Items[i]
		}
	}
	return nil
}

// keyRange is the range of the key of an object's item.
func keyRange(p place, key string) hcl.Range {
	e := p.expr
	for i, step := range append(slices.Clone(p.path), key) {
		for {
			paren, ok := e.(*hclsyntax.ParenthesesExpr)
			if !ok {
				break
			}
			e = paren.Expression
		}
		switch x := e.(type) {
		case *hclsyntax.ObjectConsExpr:
			item := objectItem(x, step)
			if item == nil {
				return e.Range()
			}
			if i == len(p.path) {
				return item.KeyExpr.Range()
			}
			e = item.ValueExpr
		case *hclsyntax.TupleConsExpr:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(x.Exprs) {
				return e.Range()
			}
			e = x.Exprs[i]
		default:
			return e.Range()
		}
	}
	return e.Range()
}

// rangeInBody finds the place of an attribute path in a block: the value, or what is nearest around it.
func rangeInBody(body *hclsyntax.Body, header hcl.Range, path []string) hcl.Range {
	for len(path) > 0 {
		if a := body.Attributes[path[0]]; a != nil {
			return rangeInExpr(a.Expr, path[1:])
		}
		i := slices.IndexFunc(body.Blocks, func(b *hclsyntax.Block) bool { return b.Type == path[0] })
		if i < 0 {
			return header
		}
		body, header, path = body.Blocks[i].Body, blockHeader(body.Blocks[i]), path[1:]
	}
	return header
}
