package expr

import (
	"encoding/json"
	"math/bits"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// Checker finds what is wrong with compiled expressions by the types of the events that they meet: a field that no such
// event has, a comparison that is never true, a null where none may be. It evaluates nothing of an event, and nothing of
// it is left at run time.
//
// Every expression is looked at once per shape: the event types of one provider whose data has one schema. Within a
// shape, what a condition says about event.type narrows the set of types, and what it says about nulls holds where the
// condition does. Findings are gathered over all shapes and routes, so that each place is reported once, with the event
// types that it concerns.
//
// A Checker is made when everything has been compiled, and used by one goroutine. Its work is bounded: of a configuration
// that would take too long it leaves the rest unchecked.
type Checker struct {
	set     *Set
	rec     *Record
	event   core.Event
	request core.Request
	shapes  []*shape
	listed  map[string]bool // the event types that a catalogue lists

	// of the route and shape at hand
	sh       *shape
	route    *checkedTypes
	scopes   int // of variables, to tell those of one name apart
	tolerant int // inside try and can: failing is no finding
	lenient  int // inside try, can and present: a field that only some of the types have is no finding
	failures int // that were tolerated
	choices  int // operators around of which one operand decides
	budget   int // steps that are left for the route
	spent    int // by routes before

	byType   map[hclsyntax.Expression]bool      // whether an expression depends on the event's type and source alone
	masks    map[maskKey]mask                   // of such expressions
	conds    map[hclsyntax.Expression]boolFunc  // of such expressions
	returns  map[returnKey]returned             // of functions
	found    map[findingKey]*finding            // in no order
	refs     map[hclsyntax.Expression]*sighting // of references
	verdicts map[hclsyntax.Expression]*verdict  // of comparisons
	meant    map[*brokenNode]string             // references that lack their "data"
}

// KnownType is an event type that a source is known to send.
type KnownType struct {
	Source   string
	Provider string
	Type     string      // empty: whatever the provider sends that its catalogue lacks
	Data     *sdk.Schema // nil: untyped
	Samples  []sdk.Sample
}

// CheckedRoute is what Route looks at.
type CheckedRoute struct {
	// Takes reports whether the route can get events of a type from a source. The empty type stands for all types that no
	// catalogue lists.
	Takes    func(source, eventType string) bool
	When     *Condition // nil: always
	Messages []*Message
	OrderBy  []*Text
}

// maxChecks and maxRouteChecks bound the nodes that a Checker looks at, in all and for one route. A thousand routes that take
// dozens of types need some hundred thousand.
const (
	maxChecks      = 20_000_000
	maxRouteChecks = 2_000_000
)

// NewChecker makes a Checker of expressions of the Set for events of the types.
func NewChecker(s *Set, types []KnownType) *Checker {
	c := &Checker{
		set:      s,
		rec:      s.NewRecord(),
		listed:   map[string]bool{},
		byType:   map[hclsyntax.Expression]bool{},
		masks:    map[maskKey]mask{},
		conds:    map[hclsyntax.Expression]boolFunc{},
		returns:  map[returnKey]returned{},
		found:    map[findingKey]*finding{},
		refs:     map[hclsyntax.Expression]*sighting{},
		verdicts: map[hclsyntax.Expression]*verdict{},
		meant:    map[*brokenNode]string{},
	}
	type kin struct{ provider, schema string }
	open := map[kin]*shape{}
	digests := map[*sdk.Schema]string{}
	for _, t := range types {
		c.listed[t.Type] = t.Type != ""
		k := kin{t.Provider, ""}
		if t.Type == "" {
			k.schema = "open"
		} else if t.Data != nil {
			if _, ok := digests[t.Data]; !ok {
				text, _ := json.Marshal(t.Data) // texts and numbers; a default that is no JSON makes a shape of its own
				digests[t.Data] = string(text)
			}
			k.schema = digests[t.Data]
		}
		sh := open[k]
		if sh == nil || len(sh.atoms) == bits.UintSize {
			sh = &shape{provider: t.Provider, open: t.Type == "", data: t.Data, known: map[string]bool{}}
			open[k] = sh
			c.shapes = append(c.shapes, sh)
		}
		sh.atoms = append(sh.atoms, atom{t.Source, t.Type, t.Samples})
	}
	for _, t := range types {
		for _, sh := range c.shapes {
			if sh.open && sh.provider == t.Provider {
				sh.known[t.Type] = true
			}
		}
	}
	return c
}

// shape is the event types of one provider whose data has one schema.
type shape struct {
	provider string
	open     bool            // all types that the provider's catalogue lacks
	known    map[string]bool // of an open shape: what it is not
	data     *sdk.Schema     // nil: untyped
	atoms    []atom          // at most as many as a mask has bits
	paths    map[int32]walk  // what is at a path into data, by the path's number
	records  [][]any         // the samples' records by atom, located when first asked for
}

// atom is an event type of a source.
type atom struct {
	source, typ string
	samples     []sdk.Sample
}

// mask is a set of atoms of one shape.
type mask uint

func (sh *shape) all() mask { return ^mask(0) >> (bits.UintSize - len(sh.atoms)) }

// each calls f with the atoms of a set.
func (sh *shape) each(m mask, f func(i int, a *atom)) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros(uint(m))
		f(i, &sh.atoms[i])
	}
}

// checkedTypes is the event types that a route can take.
type checkedTypes struct {
	names  map[string]bool
	takes  func(source, eventType string) bool
	gaveUp bool // not all was looked at: what needs a look at all types is not known
}

// Route checks the expressions of one route. It reports whether the route takes events of any type, and whether its
// condition can be true of one. It says so, too, where it had to give up.
func (c *Checker) Route(r CheckedRoute) (taken, matched bool) {
	c.route = &checkedTypes{names: map[string]bool{}, takes: r.Takes}
	c.budget = min(maxRouteChecks, maxChecks-c.spent)
	before := c.budget
	defer func() { c.spent += before - max(c.budget, 0) }()
	sets := make([]mask, len(c.shapes))
	for i, sh := range c.shapes {
		for k := range sh.atoms {
			if a := &sh.atoms[k]; r.Takes(a.source, a.typ) {
				sets[i] |= 1 << k
				if !sh.open {
					c.route.names[a.typ] = true
				}
			}
		}
	}
	for i, sh := range c.shapes {
		if sets[i] == 0 {
			continue
		}
		c.sh, taken = sh, true
		v := known{live: sets[i]}
		if r.When != nil {
			c.condition(r.When.expr, v)
			v = c.assume(r.When.expr, true, v)
		}
		if v.live == 0 {
			continue
		}
		matched = true
		for _, m := range r.Messages {
			for i := range m.args {
				a := &m.args[i]
				c.argument(a.expr, a.schema, asAttribute, []string{a.name}, v)
			}
		}
		for _, t := range r.OrderBy {
			c.need(t.expr, c.eval(t.expr, v), sdk.KindString, nullFine, "an order key", v)
		}
	}
	return taken, matched || c.route.gaveUp
}

// condition checks an expression that is true or false.
func (c *Checker) condition(e hclsyntax.Expression, v known) {
	c.need(e, c.eval(e, v), sdk.KindBool, nullFails("A condition that is null makes a dead letter."), "a condition", v)
}

// spend counts a step of work; with nothing left, the rest stays unchecked.
func (c *Checker) spend() bool {
	c.budget--
	c.route.gaveUp = c.route.gaveUp || c.budget <= 0
	return c.budget > 0
}

// isRef gives the reference that an expression is, in parentheses or not.
func isRef(e hclsyntax.Expression) (hclsyntax.Expression, bool) {
	for {
		switch x := e.(type) {
		case *hclsyntax.ParenthesesExpr:
			e = x.Expression
			continue
		case *refNode:
			return x, true
		case *travNode:
			return x, x.bare()
		}
		return e, false
	}
}

// maskKey is an expression for the types of one shape; of the types that a catalogue lacks, for one route.
type maskKey struct {
	e     hclsyntax.Expression
	sh    *shape
	route *checkedTypes
}

// typesWhere evaluates an expression that depends on the event's type and source alone: for every atom it is known, by
// hcl itself, whether it is true. Of types that the catalogue lacks only a comparison with a literal is known; then
// both sets can have the atom.
func (c *Checker) typesWhere(e hclsyntax.Expression, want bool) mask {
	key := maskKey{e: e, sh: c.sh}
	if c.sh.open {
		key.route = c.route
		m := c.openTypesWhere(e, want)
		return m
	}
	m, ok := c.masks[key]
	if !ok {
		cond := &Condition{expr: e, fast: c.closure(e)}
		c.sh.each(c.sh.all(), func(i int, a *atom) {
			c.reset(a.source, a.typ)
			if yes, err := cond.Eval(c.rec); err == nil && yes {
				m |= 1 << i
			}
		})
		c.masks[key] = m
	}
	if want {
		return m
	}
	return ^m & c.sh.all()
}

func (c *Checker) closure(e hclsyntax.Expression) boolFunc {
	f, ok := c.conds[e]
	if !ok {
		f = c.set.compileBool(e)
		c.conds[e] = f
	}
	return f
}

func (c *Checker) reset(source, typ string) {
	c.event.Type, c.event.Provider, c.event.Source, c.request.Source = typ, c.sh.provider, sourceURN+source, source
	c.rec.Reset(&c.event, &c.request)
}

// sourceURN begins the source of every event.
const sourceURN = "urn:grapnel:source:"

func (c *Checker) openTypesWhere(e hclsyntax.Expression, want bool) mask {
	lit, equal, compares := typeLiteral(e)
	if !compares {
		if c.names(e)&namesType != 0 {
			return c.sh.all()
		}
		var m mask
		cond := &Condition{expr: e, fast: c.closure(e)}
		c.sh.each(c.sh.all(), func(i int, a *atom) {
			c.reset(a.source, c.sh.provider+".")
			if yes, err := cond.Eval(c.rec); err == nil && yes == want {
				m |= 1 << i
			}
		})
		return m
	}
	if equal != want {
		return c.sh.all()
	}
	var m mask
	c.sh.each(c.sh.all(), func(i int, a *atom) {
		if !c.sh.known[lit] && strings.HasPrefix(lit, c.sh.provider+".") && c.route.takes(a.source, lit) {
			m |= 1 << i
		}
	})
	return m
}

// typeLiteral recognizes a comparison of event.type with a literal.
func typeLiteral(e hclsyntax.Expression) (lit string, equal, ok bool) {
	op, isOp := e.(*hclsyntax.BinaryOpExpr)
	if !isOp || op.Op != hclsyntax.OpEqual && op.Op != hclsyntax.OpNotEqual {
		return "", false, false
	}
	for _, sides := range [][2]hclsyntax.Expression{{op.LHS, op.RHS}, {op.RHS, op.LHS}} {
		ref, _ := isRef(sides[0])
		r, isEnvelope := ref.(*refNode)
		text, isText := literalText(sides[1])
		if isEnvelope && isText && r.ref.kind == refEnvelope && r.ref.field == fieldType {
			return text, op.Op == hclsyntax.OpEqual, true
		}
	}
	return "", false, false
}

// What of the event's type and source an expression names.
const (
	namesType = 1 << iota
	namesSource
	namesOther
)

func (c *Checker) names(e hclsyntax.Expression) int {
	w := &nameFinder{}
	if refNames(e, w) {
		return w.names
	}
	return namesOther
}

// dependsOnType reports whether an expression names the event's type or source and nothing else of the event.
func (c *Checker) dependsOnType(e hclsyntax.Expression) bool {
	yes, ok := c.byType[e]
	if !ok {
		n := c.names(e)
		yes = n != 0 && n&namesOther == 0
		c.byType[e] = yes
	}
	return yes
}

type nameFinder struct{ names int }

// refNames walks a rewritten expression of the kinds that conditions on types are made of; it fails on all others.
func refNames(e hclsyntax.Expression, w *nameFinder) bool {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return true
	case *hclsyntax.ParenthesesExpr:
		return refNames(e.Expression, w)
	case *refNode:
		switch {
		case e.ref.kind == refEnvelope && e.ref.field == fieldType:
			w.names |= namesType
		case e.ref.kind == refEnvelope && (e.ref.field == fieldProvider || e.ref.field == fieldSource), e.ref.kind == refSource:
			w.names |= namesSource
		default:
			return false
		}
		return true
	case *hclsyntax.BinaryOpExpr:
		return refNames(e.LHS, w) && refNames(e.RHS, w)
	case *hclsyntax.UnaryOpExpr:
		return refNames(e.Val, w)
	case *hclsyntax.FunctionCallExpr:
		return !slices.ContainsFunc(e.Args, func(a hclsyntax.Expression) bool { return !refNames(a, w) })
	case *hclsyntax.TupleConsExpr:
		return !slices.ContainsFunc(e.Exprs, func(a hclsyntax.Expression) bool { return !refNames(a, w) })
	case *hclsyntax.TemplateExpr:
		return !slices.ContainsFunc(e.Parts, func(a hclsyntax.Expression) bool { return !refNames(a, w) })
	}
	return false
}
