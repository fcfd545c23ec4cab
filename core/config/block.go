package config

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// block is one block of the host's, or the host's part of one. Its methods take what they are asked for; finish
// reports what nobody asked for. A method that finds a mistake reports it and leaves its target alone; null counts as
// left out.
type block struct {
	l      *loader
	body   *hclsyntax.Body
	what   string    // `sink "audit"`, for messages
	at     hcl.Range // of the header
	attrs  []string  // known attributes
	blocks []string  // known blocks
	plugin bool      // values may be secrets that nobody declared yet: show none
	needed []string  // attributes that decoding or routing cannot do without, where they are written
}

func (l *loader) block(b *hclsyntax.Block, what string) *block {
	return &block{l: l, body: b.Body, what: what, at: blockHeader(b)}
}

// attr asks for an attribute.
func (b *block) attr(name string) *hclsyntax.Attribute {
	b.attrs = append(b.attrs, name)
	return b.body.Attributes[name]
}

// block asks for a nested block that may be there once.
func (b *block) block(name string) *block {
	b.blocks = append(b.blocks, name)
	var first *hclsyntax.Block
	for _, n := range b.body.Blocks {
		switch {
		case n.Type != name:
		case len(n.Labels) > 0:
			b.l.error(blockHeader(n), fmt.Sprintf("A %s block has no label", name), "")
		case first != nil:
			b.l.error(blockHeader(n), fmt.Sprintf("A second %s block in %s", name, b.what),
				"The first is at "+rangeOf(first.TypeRange).place()+".")
		default:
			first = n
		}
	}
	if first == nil {
		return nil
	}
	return b.l.block(first, name+" of "+b.what)
}

// finish reports the attributes and blocks that nobody asked for.
func (b *block) finish() {
	for _, a := range inOrder(b.body.Attributes) {
		if slices.Contains(b.attrs, a.Name) {
			continue
		}
		detail := b.meant(a.Name)
		if slices.Contains(b.blocks, a.Name) {
			detail = fmt.Sprintf("%q is a block: write %s { … } without the equals sign.", a.Name, a.Name)
		}
		b.l.error(a.NameRange, fmt.Sprintf("There is no attribute %q in %s", a.Name, b.what), detail)
		if b.plugin {
			b.l.veil(false)
		}
	}
	for _, n := range b.body.Blocks {
		if slices.Contains(b.blocks, n.Type) {
			continue
		}
		detail := b.meant(n.Type)
		if slices.Contains(b.attrs, n.Type) {
			detail = fmt.Sprintf("%q is an attribute: write %s = … instead.", n.Type, n.Type)
		}
		b.l.error(blockHeader(n), fmt.Sprintf("There is no block %q in %s", n.Type, b.what), detail)
		if b.plugin {
			b.l.veil(false)
		}
	}
}

// meant suggests a name, or lists them all if there are few.
func (b *block) meant(name string) string {
	names := append(slices.Clone(b.attrs), b.blocks...)
	slices.Sort(names)
	names = slices.Compact(names)
	if s := suggest(name, names); s != "" {
		return s
	}
	if n := len(names); n == 0 {
		return "Nothing can be written there."
	}
	return "There are " + strings.Join(names, ", ") + "."
}

// value evaluates an attribute. Not ok: it is left out, null, or wrong and reported.
func (b *block) value(name string) (v cty.Value, at hcl.Range, ok bool) {
	a := b.attr(name)
	if a == nil {
		return v, at, false
	}
	at = a.Expr.Range()
	eval := b.l.eval
	if slices.Contains(b.needed, name) {
		eval = b.l.evalNeeded
	}
	if v, ok = eval(a.Expr); !ok {
		return v, at, false
	}
	v, _ = v.UnmarkDeep()
	return v, at, !v.IsNull()
}

func (b *block) wrong(name string, at hcl.Range, want string) {
	b.l.error(at, fmt.Sprintf("%q of %s must be %s", name, b.what, want), "")
}

// text takes a string that is not empty.
func (b *block) text(name string, to *string) bool {
	v, at, ok := b.value(name)
	if !ok {
		return false
	}
	s, ok := asText(v)
	switch {
	case !ok:
		b.wrong(name, at, "a text: put it in quotes")
		return false
	case s == "":
		b.wrong(name, at, "a text that is not empty")
		return false
	}
	*to = s
	return true
}

// path takes a path and makes it absolute.
func (b *block) path(name string, to *string) {
	if b.text(name, to) {
		*to = b.l.abs(*to)
	}
}

// choice takes one of several words.
func (b *block) choice(name string, to *string, words ...string) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	s, ok := asText(v)
	if !ok || !slices.Contains(words, s) {
		b.wrong(name, at, "one of "+join(words, "or"))
		if d := &b.l.diags.list[len(b.l.diags.list)-1]; ok {
			d.Detail = suggest(s, words)
		}
		return
	}
	*to = s
}

func (b *block) bool(name string, to *bool) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	x, ok := asBool(v)
	if !ok {
		b.wrong(name, at, "true or false")
		return
	}
	*to = x
}

// integer takes a whole number from min to max.
func (b *block) integer(name string, to *int, min, max int) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	n, ok := asInteger(v)
	if !ok || n < int64(min) || n > int64(max) {
		b.wrong(name, at, fmt.Sprintf("a whole number from %d to %d", min, max))
		return
	}
	*to = int(n)
}

// duration takes a duration from min to max.
func (b *block) duration(name string, to *time.Duration, min, max time.Duration) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	d, err := asDuration(v)
	if err == nil && (d < min || d > max) {
		err = fmt.Errorf("it goes from %s to %s", FormatDuration(min), FormatDuration(max))
	}
	if err != nil {
		b.wrong(name, at, `a duration such as "30s", "1h30m" or "3d"`)
		b.l.diags.list[len(b.l.diags.list)-1].Detail = sentence(err.Error())
		return
	}
	*to = d
}

// rate takes a number of requests per second, minute or hour, as requests per second.
func (b *block) rate(name string, to *float64) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	r, err := asRate(v)
	if err != nil {
		b.wrong(name, at, `a rate such as "50/s", "600/m" or "5000/h"`)
		return
	}
	*to = r
}

// size takes a number of bytes from min to max.
func (b *block) size(name string, to *int64, min, max int64) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	n, err := asSize(v)
	if err == nil && (n < min || n > max) {
		err = fmt.Errorf("it goes from %s to %s", formatSize(min), formatSize(max))
	}
	if err != nil {
		b.wrong(name, at, `a size such as "1MiB" or "500kB", or a number of bytes`)
		b.l.diags.list[len(b.l.diags.list)-1].Detail = sentence(err.Error())
		return
	}
	*to = n
}

// prefixes takes a list of addresses and CIDR ranges.
func (b *block) prefixes(name string, to *[]netip.Prefix) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	if !isList(v) {
		b.wrong(name, at, "a list of addresses: [\"192.0.2.7\"]")
		return
	}
	out := []netip.Prefix{}
	for i, x := range elements(v) {
		if x.IsNull() {
			continue
		}
		t, _ := asText(x)
		p, err := netip.ParsePrefix(t)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(t); err == nil {
				a = a.WithZone("").Unmap()
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil {
			b.l.error(b.item(name, i), fmt.Sprintf("An item of %q is no IP address or range", name),
				`Write "192.0.2.7", "192.0.2.0/24" or "2001:db8::/32".`)
			continue
		}
		out = append(out, p.Masked())
	}
	*to = out
}

// texts takes a list of texts; nulls in it are dropped.
func (b *block) texts(name string) ([]string, bool) {
	v, at, ok := b.value(name)
	if !ok {
		return nil, false
	}
	if !isList(v) {
		b.wrong(name, at, "a list of texts: [\"…\"]")
		return nil, false
	}
	out := []string{}
	for i, x := range elements(v) {
		if x.IsNull() {
			continue
		}
		s, isText := asText(x)
		if !isText {
			b.l.error(b.item(name, i), fmt.Sprintf("An item of %q is no text", name), "Put it in quotes.")
			ok = false
			continue
		}
		out = append(out, s)
	}
	return out, ok
}

// item is the range of the i-th item of a list attribute.
func (b *block) item(name string, i int) hcl.Range {
	return rangeInExpr(b.body.Attributes[name].Expr, []string{strconv.Itoa(i)})
}

// The conversions below are strict where hcl is lenient: 0123 is no text. Texts become numbers and booleans, because
// environment variables are texts.

func asText(v cty.Value) (string, bool) {
	if v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
		return "", false
	}
	return v.AsString(), true
}

func asBool(v cty.Value) (value, ok bool) {
	if v.IsNull() {
		return false, false
	}
	switch v.Type() {
	case cty.Bool:
		return v.True(), true
	case cty.String:
		s := v.AsString()
		return s == "true", s == "true" || s == "false"
	}
	return false, false
}

func asNumber(v cty.Value) (*big.Float, bool) {
	if v.IsNull() {
		return nil, false
	}
	switch v.Type() {
	case cty.Number:
		f := v.AsBigFloat()
		return f, !f.IsInf()
	case cty.String:
		if s := v.AsString(); len(s) < 1000 {
			if n, err := cty.ParseNumberVal(s); err == nil {
				return n.AsBigFloat(), true
			}
		}
	}
	return nil, false
}

func asInteger(v cty.Value) (int64, bool) {
	f, ok := asNumber(v)
	if !ok || !f.IsInt() {
		return 0, false
	}
	n, exact := f.Int64()
	return n, exact == big.Exact
}

func asDuration(v cty.Value) (time.Duration, error) {
	s, ok := asText(v)
	if !ok {
		return 0, fmt.Errorf("it is a text with a unit")
	}
	return ParseDuration(s)
}

func asRate(v cty.Value) (float64, error) {
	s, ok := asText(v)
	if !ok {
		return 0, fmt.Errorf("it is a text with a unit")
	}
	return parseRate(s)
}

func asSize(v cty.Value) (int64, error) {
	if n, ok := asInteger(v); ok {
		return n, nil
	}
	s, ok := asText(v)
	if !ok {
		return 0, fmt.Errorf("it is a text with a unit or a whole number")
	}
	return ParseSize(s)
}

func isList(v cty.Value) bool {
	t := v.Type()
	return t.IsTupleType() || t.IsListType() || t.IsSetType()
}

// elements lists what is in a list, tuple or set.
func elements(v cty.Value) []cty.Value {
	out := make([]cty.Value, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, x := it.Element()
		out = append(out, x)
	}
	return out
}

// elementsOrOne lists what is in a list, or the value itself.
func elementsOrOne(v cty.Value) []cty.Value {
	if !v.IsNull() && isList(v) {
		return elements(v)
	}
	return []cty.Value{v}
}
