package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/grapnelhq/grapnel/core/expr"
)

// origin marks a value that came from outside: "the environment variable X" or "the file y". Marks follow a value
// through operators, templates and functions, so a null can be blamed on its variable, and a local that holds a
// credential can be told from one that does not.
type origin string

func variable(name string) origin { return origin("environment variable " + name) }

// unset is the error of env() without a default.
type unset struct{ name string }

func (e *unset) Error() string { return fmt.Sprintf("the environment variable %s is not set", e.name) }

// local is one attribute of a locals block.
type local struct {
	attr  *hclsyntax.Attribute
	state int // 0 untouched, 1 under way, 2 done
	value cty.Value
	ok    bool
}

// evalLocals evaluates all locals, used or not: a mistake in one is a mistake.
func (l *loader) evalLocals(blocks []*hclsyntax.Block) {
	l.declareLocals(blocks)
	for _, name := range l.localNames() {
		l.evalLocal(name, nil)
	}
}

// declareLocals finds the locals. They are evaluated when they are needed, so they may name each other in any order.
func (l *loader) declareLocals(blocks []*hclsyntax.Block) {
	for _, b := range blocks {
		for _, nested := range b.Body.Blocks {
			l.error(blockHeader(nested), "A locals block holds attributes only",
				fmt.Sprintf("Write %s = { … }.", nested.Type))
		}
		for _, a := range inOrder(b.Body.Attributes) {
			if earlier, ok := l.locals[a.Name]; ok {
				l.error(a.NameRange, fmt.Sprintf("The local %q is already defined", a.Name),
					"It is defined at "+rangeOf(earlier.attr.NameRange).place()+".")
				continue
			}
			l.locals[a.Name] = &local{attr: a}
		}
	}
}

func (l *loader) localNames() []string { return slices.Sorted(maps.Keys(l.locals)) }

// evalLocal evaluates one local after those that it names. path holds the locals that wait for it.
func (l *loader) evalLocal(name string, path []string) {
	loc := l.locals[name]
	switch loc.state {
	case 1:
		from := slices.Index(path, name)
		circle := append(slices.Clone(path[from:]), name)
		for i, c := range circle {
			circle[i] = "local." + c
		}
		l.error(loc.attr.SrcRange, "Locals that need each other", strings.Join(circle, " → ")+".")
		return
	case 2:
		return
	}
	loc.state = 1
	l.evalNamed(loc.attr.Expr, append(path, name))
	loc.state = 2
	loc.value, loc.ok = l.evalNow(loc.attr.Expr)
}

// evalNamed evaluates the locals that an expression names.
func (l *loader) evalNamed(e hclsyntax.Expression, path []string) {
	for _, t := range e.Variables() {
		if name, ok := localName(t); ok && l.locals[name] != nil {
			l.evalLocal(name, path)
		}
	}
}

// localName is the x of local.x.
func localName(t hcl.Traversal) (string, bool) {
	if t.RootName() != "local" || len(t) < 2 {
		return "", false
	}
	if step, ok := t[1].(hcl.TraverseAttr); ok {
		return step.Name, true
	}
	return "", false
}

// eval evaluates an expression at load. Not ok: a diagnostic says why, here or at the local that it names; or what it
// needs is not set, and the configuration may be incomplete.
func (l *loader) eval(e hclsyntax.Expression) (cty.Value, bool) {
	v, _, ok := l.evalUnset(e)
	return v, ok
}

// evalUnset is eval. With Options.Incomplete, unset are the variables and files without which there is no value.
func (l *loader) evalUnset(e hclsyntax.Expression) (v cty.Value, unset []string, ok bool) {
	l.evalNamed(e, nil)
	if v, ok = l.evalNow(e); !ok || v.IsWhollyKnown() {
		return v, nil, ok
	}
	unset = l.unsetIn(v)
	for _, o := range unset {
		if !slices.Contains(l.cfg.Unset, o) {
			l.cfg.Unset = append(l.cfg.Unset, o)
			slices.Sort(l.cfg.Unset)
		}
	}
	return cty.DynamicVal, unset, false
}

// evalNeeded is eval for what decoding and routing need.
func (l *loader) evalNeeded(e hclsyntax.Expression) (cty.Value, bool) {
	v, unset, ok := l.evalUnset(e)
	if len(unset) > 0 {
		l.needs(e.Range(), unset)
	}
	return v, ok
}

// needs reports what is not set and cannot be left out.
func (l *loader) needs(at hcl.Range, unset []string) {
	name, isVariable := strings.CutPrefix(unset[0], string(variable("")))
	if isVariable && l.testing {
		l.error(at, fmt.Sprintf("The environment variable %s is not set", name), "Tests do not see the environment. "+
			"Set it in an env block of a file of tests, or pass it on with --env "+name+".")
		return
	}
	if !isVariable {
		l.error(at, sentence2("the "+unset[0]+" cannot be read"), "Decoding or routing needs it.")
		return
	}
	l.error(at, fmt.Sprintf("The environment variable %s is not set", name),
		fmt.Sprintf("Decoding or routing needs it. Set it, or give a value for its absence: env(%q, null).", name))
}

// unsetIn lists the variables and files of an unknown value that are not there.
func (l *loader) unsetIn(v cty.Value) []string {
	_, marks := v.UnmarkDeep()
	return slices.DeleteFunc(origins(marks), func(o string) bool { return !l.unset[o] })
}

// evalNow is eval for an expression whose locals are evaluated.
func (l *loader) evalNow(e hclsyntax.Expression) (v cty.Value, ok bool) {
	if !l.namesKnown(e) {
		return cty.DynamicVal, false
	}
	values := map[string]cty.Value{}
	for _, t := range e.Variables() {
		name, _ := localName(t) // namesKnown has seen it
		if !l.locals[name].ok {
			return cty.DynamicVal, false // said there
		}
		values[name] = l.locals[name].value
	}
	defer func() {
		// A bug in a function of somebody else must not take down a host that reloads its configuration.
		if r := recover(); r != nil {
			l.error(e.Range(), "The expression cannot be evaluated", l.hush(sentence(fmt.Sprint(r))))
			v, ok = cty.DynamicVal, false
		}
	}()
	v, diags := e.Value(&hcl.EvalContext{
		Variables: map[string]cty.Value{"local": cty.ObjectVal(values)},
		Functions: l.functions,
	})
	if diags.HasErrors() {
		l.evalErrors(diags, e)
		return cty.DynamicVal, false
	}
	if !v.IsWhollyKnown() {
		if l.partial {
			return cty.DynamicVal, false // what the parser puts where it cannot read on
		}
		if len(l.unsetIn(v)) > 0 {
			l.declared(v)
			return v, true
		}
		l.error(e.Range(), "The value is not known when the configuration is loaded", "")
		return cty.DynamicVal, false
	}
	l.declared(v)
	return v, true
}

// declared remembers what sensitive() was called on.
func (l *loader) declared(v cty.Value) {
	bare, places := v.UnmarkDeepWithPaths()
	for _, p := range places {
		if _, ok := p.Marks[expr.Sensitive]; !ok {
			continue
		}
		part, err := p.Path.Apply(bare)
		if err != nil {
			part = bare // a path into a set leads nowhere: all of it, then
		}
		_ = cty.Walk(part, func(_ cty.Path, x cty.Value) (bool, error) {
			if s, ok := asText(x); ok {
				l.secret(s)
			}
			return true, nil
		})
	}
}

// namesKnown reports the names in an expression that do not exist at load.
func (l *loader) namesKnown(e hclsyntax.Expression) bool {
	ok := true
	bad := func(at hcl.Range, summary, detail string) {
		l.error(at, summary, detail)
		ok = false
	}
	for _, t := range e.Variables() {
		at := t.SourceRange()
		switch root := t.RootName(); root {
		case "local":
			name, named := localName(t)
			switch {
			case !named:
				bad(at, "The name of a local is missing", "Write local.<name>.")
			case l.locals[name] == nil && !l.partial:
				bad(at, fmt.Sprintf("There is no local %q", name), suggest(name, l.localNames()))
			case l.locals[name] == nil:
				ok = false
			}
		case "event", "request":
			bad(at, fmt.Sprintf("%q is not known when the configuration is loaded", root),
				"Only when, to and order_by see the event and its request. Write the expression there.")
		case "source", "sink":
			bad(at, fmt.Sprintf("%q cannot be named here", root), "Sources are named in a route's from, sinks by to blocks.")
		default:
			bad(at, fmt.Sprintf("There is nothing named %q", root),
				"Names start with local. A text needs quotes: "+strconv.Quote(dotted(t))+".")
		}
	}
	return ok
}

// dotted writes a traversal as far as it is made of names.
func dotted(t hcl.Traversal) string {
	text := t.RootName()
	for _, step := range t[1:] {
		a, ok := step.(hcl.TraverseAttr)
		if !ok {
			break
		}
		text += "." + a.Name
	}
	return text
}

// evalErrors words the errors of our own functions, and takes over the others.
func (l *loader) evalErrors(diags hcl.Diagnostics, e hclsyntax.Expression) {
	from := len(l.diags.list)
	defer func() {
		if len(callsOf(e, "sensitive")) == 0 {
			return
		}
		for i := from; i < len(l.diags.list); i++ {
			l.diags.list[i].veiled, l.diags.list[i].veilSubject = true, true
		}
	}()
	for _, d := range diags {
		extra, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d)
		if !ok || extra.FunctionCallError() == nil {
			l.foreign(hcl.Diagnostics{d}, e.Range().Ptr())
			continue
		}
		err := extra.FunctionCallError()
		at := e.Range()
		if d.Context != nil {
			at = *d.Context
		}
		if u, ok := errors.AsType[*unset](err); ok {
			l.error(at, sentence2(u.Error()),
				fmt.Sprintf(`Set it, or give a value for its absence: env(%q, null).`, u.name))
			continue
		}
		text := err.Error()
		if arg, ok := errors.AsType[function.ArgError](err); ok {
			text = arg.Error()
		}
		l.error(at, "The call of "+extra.CalledFunctionName()+" fails", sentence(l.hush(text)))
	}
}

// sentence2 is a sentence without a full stop, as summaries are.
func sentence2(text string) string { return strings.TrimSuffix(sentence(text), ".") }

// functionTable are the functions of expressions, and the ones that exist at load only.
func (l *loader) functionTable() map[string]function.Function {
	fs := maps.Clone(expr.Functions())
	fs["env"] = function.New(&function.Spec{
		Description: "the value of an environment variable, or the second argument where it is not set or empty",
		Params:      []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{
			Name: "default", Type: cty.DynamicPseudoType, AllowNull: true, AllowMarked: true, AllowDynamicType: true,
		},
		Type: func(args []cty.Value) (cty.Type, error) { // the result may be the default's type: known at load
			v, err := l.getenv(args)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return l.getenv(args) },
	})
	fs["file"] = function.New(&function.Spec{
		Description: "the text of a file",
		Params:      []function.Parameter{{Name: "path", Type: cty.String}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path := args[0].AsString()
			b, err := readFile(l.abs(path))
			l.diags.reads[l.abs(path)] = stampOf(b, err)
			if err != nil && l.opt.Incomplete {
				return l.standIn(origin("file " + path)), nil
			}
			if err != nil {
				return cty.UnknownVal(cty.String), fmt.Errorf("%q cannot be read: %s", path, ioMessage(err))
			}
			if !utf8.Valid(b) {
				return cty.UnknownVal(cty.String), fmt.Errorf("%q is not a UTF-8 text", path)
			}
			l.outside(string(b))
			return cty.StringVal(string(b)).Mark(origin("file " + path)), nil
		},
	})
	fs["sensitive"] = sensitive()
	return fs
}

// sensitive is the function that marks a value as secret.
func sensitive() function.Function {
	return function.New(&function.Spec{
		Description: "the value, marked as a secret",
		Params: []function.Parameter{{
			Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowMarked: true, AllowDynamicType: true,
		}},
		Type: func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return args[0].Mark(expr.Sensitive), nil },
	})
}

func (l *loader) getenv(args []cty.Value) (cty.Value, error) {
	if len(args) > 2 {
		return cty.DynamicVal, function.NewArgErrorf(2, "it takes a name and at most one default")
	}
	name := args[0].AsString()
	text, ok := l.opt.Getenv(name)
	switch {
	case ok && text != "":
		l.outside(text)
		return cty.StringVal(text).Mark(variable(name)), nil
	case len(args) == 2 && args[1].IsNull():
		return cty.NullVal(cty.String).WithSameMarks(args[1]).Mark(variable(name)), nil
	case len(args) == 2:
		return args[1].Mark(variable(name)), nil
	case l.opt.Incomplete:
		return l.standIn(variable(name)), nil
	}
	return cty.DynamicVal, &unset{name}
}

// standIn is the value of what is not there. It is unknown, so that no function fails on it, and whatever is made of it is
// unknown, too.
func (l *loader) standIn(o origin) cty.Value {
	l.unset[string(o)] = true
	return cty.UnknownVal(cty.String).Mark(o)
}

// outside remembers a value that messages of foreign code must not show.
func (l *loader) outside(text string) {
	if !slices.Contains(l.env, text) {
		l.env = append(l.env, text)
	}
}

// origins lists the variables and files that a value was made of.
func origins(marks cty.ValueMarks) []string {
	var out []string
	for m := range marks {
		if o, ok := m.(origin); ok {
			out = append(out, string(o))
		}
	}
	slices.Sort(out)
	return out
}

// because says what made a value null: "The environment variable X is not set."
func (l *loader) because(v cty.Value) string {
	_, marks := v.UnmarkDeep()
	var names []string
	for _, o := range origins(marks) {
		name, ok := strings.CutPrefix(o, string(variable("")))
		if text, _ := l.opt.Getenv(name); ok && text == "" {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "The environment variable " + names[0] + " is not set."
	}
	last := len(names) - 1
	return "The environment variables " + strings.Join(names[:last], ", ") + " and " + names[last] + " are not set."
}

// callsOf finds the calls of the named functions in an expression.
func callsOf(e hclsyntax.Expression, names ...string) []*hclsyntax.FunctionCallExpr {
	var found []*hclsyntax.FunctionCallExpr
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok && slices.Contains(names, call.Name) {
			found = append(found, call)
		}
		return nil
	})
	return found
}

// routeLocals are the locals as routes see them: origins are dropped, and what is secret is marked so.
func (l *loader) routeLocals() map[string]cty.Value {
	out := map[string]cty.Value{}
	for name, loc := range l.locals {
		if !loc.ok || !loc.value.IsWhollyKnown() { // routeExpression says so where it is used
			continue
		}
		v, err := cty.TransformWithTransformer(loc.value, &classifier{l})
		if err != nil {
			l.error(loc.attr.SrcRange, "The local cannot be used", sentence(l.hush(err.Error())))
			continue
		}
		out[name] = v
	}
	return out
}

// classifier turns origin marks into the one mark that routes know, where the value is secret: declared so with
// sensitive(), made of a variable or file that also serves as a credential, or holding a known secret. A yes or no is
// not secret by its origin, so `env("X", null) != null` can be used in a condition.
type classifier struct{ l *loader }

func (c *classifier) Enter(_ cty.Path, v cty.Value) (cty.Value, error) { return v, nil }

func (c *classifier) Exit(_ cty.Path, v cty.Value) (cty.Value, error) {
	bare, marks := v.Unmark()
	secret := false
	for m := range marks {
		o, isOrigin := m.(origin)
		secret = secret || !isOrigin || c.l.taint[string(o)] && bare.Type() != cty.Bool
	}
	if !secret && !bare.IsNull() && bare.IsKnown() && bare.Type() == cty.String {
		text := bare.AsString()
		secret = slices.ContainsFunc(c.l.cfg.Secrets, func(s string) bool {
			return len(s) >= minMask && strings.Contains(text, s)
		})
	}
	if secret {
		return bare.Mark(expr.Sensitive), nil
	}
	return bare, nil
}

// localDigest is a text that changes with a local's value. Locals that are secret, or that failed, have none: routes
// cannot use them.
func (l *loader) localDigest(name string) (string, bool) {
	v, ok := l.values[name]
	if !ok || v.ContainsMarked() {
		return "", false
	}
	b, err := ctyjson.Marshal(v, cty.DynamicPseudoType)
	if err != nil {
		return "", false
	}
	return strconv.Quote(string(b)), true
}
