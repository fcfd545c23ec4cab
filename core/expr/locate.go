package expr

import (
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Locate returns where the attribute that a path names is written, as file:line,column-column; "" if it is not.
func (m *Message) Locate(path []string) string {
	if rng, ok := m.Range(path); ok {
		return rng.String()
	}
	return ""
}

// Range returns where the attribute that a path names is written. It goes into constructors of objects and lists as far
// as they are written out: where a member is computed it is the place of what computes it.
func (m *Message) Range(path []string) (hcl.Range, bool) {
	if len(path) == 0 {
		return hcl.Range{}, false
	}
	rng, ok := m.ranges[path[0]]
	if !ok {
		return hcl.Range{}, false
	}
	if i := slices.IndexFunc(m.args, func(a arg) bool { return a.name == path[0] }); i >= 0 {
		e := m.args[i].expr
		for _, name := range path[1:] {
			var at hcl.Range
			if e, at = memberOf(e, name); e == nil {
				break
			}
			rng = at
		}
	}
	return rng, true
}

// memberOf finds a member or an element of what an expression makes, and where it is written; nil: that is not to be
// seen.
func memberOf(e hclsyntax.Expression, name string) (hclsyntax.Expression, hcl.Range) {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return memberOf(e.Expression, name)
	case *hclsyntax.FunctionCallExpr:
		if e.Name == "raw" && len(e.Args) == 1 {
			return memberOf(e.Args[0], name)
		}
	case *objectNode:
		for _, item := range slices.Backward(e.Items) { // of equal keys the last wins
			if key, ok := staticKey(item.KeyExpr); ok && cty.NormalizeString(key) == cty.NormalizeString(name) {
				return item.ValueExpr, hcl.RangeBetween(item.KeyExpr.Range(), item.ValueExpr.Range())
			}
		}
	case *hclsyntax.TupleConsExpr:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(e.Exprs) {
			return e.Exprs[i], e.Exprs[i].Range()
		}
	}
	return nil, hcl.Range{}
}
