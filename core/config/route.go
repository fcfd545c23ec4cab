package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
	"github.com/grapnelhq/grapnel/sdk"
)

// compile compiles everything that is evaluated per event. Sources and sinks are loaded by now, so that it is known
// which locals are secret.
func (l *loader) compile(routes, alerts []*hclsyntax.Block) {
	l.values = l.routeLocals()
	l.cfg.Set = expr.NewSet(map[string]cty.Value{"local": cty.ObjectVal(l.values)}, nil)
	sources := maps.Clone(l.diags.files)
	for _, hb := range alerts {
		sources[alertRoute(hb.Labels[0])] = []byte(alertCondition(hb.Labels[0]))
	}
	l.cfg.Set.SetSources(sources)
	for _, name := range slices.Sorted(maps.Keys(l.sinks)) {
		s := l.sinks[name]
		if s.disabled {
			continue
		}
		text := l.orderBy(s.orderBy)
		if s.index < len(l.cfg.Sinks) {
			l.cfg.Sinks[s.index].Delivery.OrderBy = text
		}
		if s.orderBy != nil {
			s.ordered = text
		}
	}
	l.named = map[string]bool{}
	seen := map[string]hcl.Range{}
	for _, hb := range routes {
		l.route(hb, seen)
	}
	l.alerts(alerts)
	l.checkTypes()
	l.judgeMessages()
}

// orderBy compiles an order_by; without one the partition key is the order, and null is none.
func (l *loader) orderBy(e hclsyntax.Expression) *expr.Text {
	if e == nil {
		def, _ := hclsyntax.ParseExpression([]byte("event.partitionkey"), "order_by", hcl.InitialPos)
		text, diags := l.cfg.Set.Text(def)
		l.foreign(diags, nil)
		return text
	}
	if lit, ok := e.(*hclsyntax.LiteralValueExpr); ok && lit.Val.IsNull() {
		return nil
	}
	if !l.routeExpression(e, "order_by") {
		return nil
	}
	text, diags := l.cfg.Set.Text(e)
	l.compiled(diags, e.Range())
	if t, ok := e.(*hclsyntax.TemplateExpr); ok && t.IsStringLiteral() {
		if quoted, _ := t.Value(nil); strings.HasPrefix(quoted.AsString(), "event.") {
			l.warn(e.Range(), "\"order_by\" is the same for all deliveries: they go out one after the other",
				fmt.Sprintf("To order by what %s is, write it without the quotation marks.", quoted.AsString()))
		}
	}
	return text
}

// routeExpression reports what package expr could not explain: names and functions that exist at load only, and
// locals. What that package then says about the same places is dropped by compiled. Not ok: the parser could not read
// the expression.
func (l *loader) routeExpression(e hclsyntax.Expression, where string) bool {
	for _, call := range callsOf(e, "env", "file", "sensitive") {
		detail := fmt.Sprintf("It is evaluated when the configuration is loaded. If the value is no secret, write "+
			"locals { x = %s(…) } and name local.x here.", call.Name)
		if call.Name == "sensitive" {
			detail = "Messages and keys are stored and shown: a secret belongs in its sink's block."
		}
		l.error(call.Range(), fmt.Sprintf("%s() cannot be called in %s", call.Name, where), detail)
		if call.Name == "sensitive" {
			l.veilValue(call)
		}
		l.explained = append(l.explained, call.Range())
	}
	for _, t := range e.Variables() {
		name, named := localName(t)
		if !named {
			continue
		}
		loc := l.locals[name]
		if loc != nil && loc.ok {
			if !loc.value.IsWhollyKnown() {
				l.needs(t.SourceRange(), l.unsetIn(loc.value))
				l.explained = append(l.explained, t.SourceRange())
			}
			continue
		}
		if loc == nil && !l.partial {
			l.error(t.SourceRange(), fmt.Sprintf("There is no local %q", name), suggest(name, l.localNames()))
		}
		l.explained = append(l.explained, t.SourceRange()) // here, where the local stands, or by a syntax error
	}
	return !l.partial || readable(e)
}

// readable reports whether the parser could read all of an expression; where it could not, it leaves an unknown value.
func readable(e hclsyntax.Expression) bool {
	ok := true
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		if lit, isLit := n.(*hclsyntax.LiteralValueExpr); isLit && !lit.Val.IsKnown() {
			ok = false
		}
		return nil
	})
	return ok
}

// compiled takes over what package expr says.
func (l *loader) compiled(diags hcl.Diagnostics, fallback hcl.Range) {
	l.foreign(slices.DeleteFunc(slices.Clone(diags), func(d *hcl.Diagnostic) bool {
		return d.Subject != nil && slices.ContainsFunc(l.explained, func(r hcl.Range) bool {
			return r.Filename == d.Subject.Filename && r.Start.Byte <= d.Subject.Start.Byte && d.Subject.End.Byte <= r.End.Byte
		})
	}), &fallback)
}

func (l *loader) route(hb *hclsyntax.Block, seen map[string]hcl.Range) {
	what, _ := l.names(hb, seen)
	r := Route{Name: hb.Labels[0], Range: rangeOf(blockHeader(hb))}
	b := l.block(hb, what)
	enabled := b.enabled()
	mistakes := l.errors()
	meant, clear := b.from(&r)
	before := l.errors()
	b.on(&r)
	clear = clear && l.errors() == before
	var t typedRoute
	if a := b.attr("when"); a != nil && l.routeExpression(a.Expr, "when") {
		when, diags := l.cfg.Set.Condition(a.Expr)
		l.compiled(diags, a.Expr.Range())
		r.When, t.when = when, a.Expr
	}
	t.sound = l.errors() == mistakes && (b.body.Attributes["when"] == nil || r.When != nil)
	b.blocks = append(b.blocks, "to")
	targets := map[string]hcl.Range{}
	n := 0
	for _, block := range hb.Body.Blocks {
		if block.Type != "to" {
			continue
		}
		n++
		name, m := l.to(block, &r, what, targets)
		if l.named[name] = l.named[name] || name != ""; m != nil {
			t.messages, t.sinks = append(t.messages, m), append(t.sinks, name)
		}
	}
	if n == 0 && !l.partial {
		l.error(b.at, fmt.Sprintf("\"to\" is missing in %s", what), `Add a block such as to "file" "audit" {}.`)
	}
	b.finish()
	t.route = r
	if t.route.Sources = meant; clear {
		l.typed = append(l.typed, t)
	}
	if !enabled {
		l.cfg.Disabled = append(l.cfg.Disabled, Disabled{"route", "", r.Name, r.Range})
		l.cfg.Idle = slices.DeleteFunc(l.cfg.Idle, func(i Idle) bool { return i.Route == r.Name })
		return
	}
	l.cfg.Routes = append(l.cfg.Routes, r)
}

// from takes the sources of a route: source.<plugin>.<name>, one or a list. meant are those, with what is suggested in
// place of misspelt ones; not clear: there are others.
func (b *block) from(r *Route) (meant []string, clear bool) {
	a := b.attr("from")
	if a == nil {
		return nil, true
	}
	items := []hclsyntax.Expression{a.Expr}
	if tuple, ok := a.Expr.(*hclsyntax.TupleConsExpr); ok {
		items = tuple.Exprs
	}
	if len(items) == 0 {
		b.l.error(a.Expr.Range(), fmt.Sprintf("\"from\" of %s is empty", b.what),
			"Leave it out to take events of every source.")
	}
	r.Sources = []string{}
	clear = len(items) > 0
	for _, e := range items {
		name, ok := b.sourceName(e, "Write source.<plugin>.<name>, or a list of such names.")
		switch {
		case !ok && name == "":
			clear = false
		case !ok:
			meant = append(meant, name)
		case slices.Contains(r.Sources, name):
			b.l.warn(e.Range(), fmt.Sprintf("The source %q is named twice", name), "")
		default:
			r.Sources = append(r.Sources, name)
		}
	}
	return slices.Concat(r.Sources, meant), clear
}

// sourceName takes the name of a source that is there. Where it is not, it returns the one that is suggested, if any.
func (b *block) sourceName(e hclsyntax.Expression, form string) (string, bool) {
	plugin, name, ok := sourceRef(e)
	if !ok {
		b.l.error(e.Range(), "This names no source", form)
		return "", false
	}
	src, found := b.l.sources[name]
	switch {
	case found && src.plugin == plugin:
		return name, true
	case b.l.partial, !found && b.l.odd["source"]:
	case found:
		b.l.error(e.Range(), fmt.Sprintf("The source %q is of the plugin %q", name, src.plugin),
			fmt.Sprintf("Write source.%s.%s.", src.plugin, name))
		return name, false
	default:
		detail, guess := "", nearest(name, slices.Sorted(maps.Keys(b.l.sources)))
		if plugin == core.BuiltinSource {
			detail = "It is what alerts come from: there is none without an alert block."
		}
		if guess != "" {
			detail = fmt.Sprintf("Did you mean source.%s.%s?", b.l.sources[guess].plugin, guess)
		}
		b.l.error(e.Range(), fmt.Sprintf("There is no source %q of the plugin %q", name, plugin), detail)
		return guess, false
	}
	return "", false
}

// sourceRef reads source.<plugin>.<name>, or source.grapnel.
func sourceRef(e hclsyntax.Expression) (plugin, name string, ok bool) {
	t, diags := hcl.AbsTraversalForExpr(e)
	if len(t) == 2 && !diags.HasErrors() && t.RootName() == "source" {
		own, _ := t[1].(hcl.TraverseAttr)
		return own.Name, own.Name, own.Name == core.BuiltinSource
	}
	if diags.HasErrors() || len(t) != 3 || t.RootName() != "source" {
		return "", "", false
	}
	p, ok1 := t[1].(hcl.TraverseAttr)
	n, ok2 := t[2].(hcl.TraverseAttr)
	return p.Name, n.Name, ok1 && ok2
}

// on takes the event types of a route: one or a list. Items that are written out are evaluated one by one, so that a
// mistake in one does not hide another.
func (b *block) on(r *Route) {
	a := b.attr("on")
	if a == nil {
		return
	}
	exprs := []hclsyntax.Expression{a.Expr}
	if tuple, ok := a.Expr.(*hclsyntax.TupleConsExpr); ok {
		exprs = tuple.Exprs
	}
	r.On = []string{}
	seen := 0
	for _, e := range exprs {
		v, ok := b.l.evalNeeded(e)
		if !ok {
			seen++
			continue
		}
		v, marks := v.UnmarkDeep()
		if v.IsNull() && e == a.Expr {
			r.On = nil
			return
		}
		if _, secret := marks[expr.Sensitive]; secret {
			b.l.error(e.Range(), fmt.Sprintf("An item of \"on\" of %s is a secret", b.what), "")
			b.l.veilValue(e)
			seen++
			continue
		}
		for _, x := range elementsOrOne(v) {
			seen++
			b.pattern(x, e.Range(), r)
		}
	}
	if seen == 0 {
		b.l.error(a.Expr.Range(), fmt.Sprintf("\"on\" of %s is empty", b.what), "Leave it out to take events of every type.")
	}
}

// pattern takes one event type or pattern.
func (b *block) pattern(v cty.Value, at hcl.Range, r *Route) {
	p, ok := asText(v)
	if !ok {
		b.l.error(at, fmt.Sprintf("An item of \"on\" of %s is no text", b.what),
			`Write event types or patterns: ["peopleforce.employee.created", "*.deleted"].`)
		return
	}
	if why := patternMistake(p); why != "" {
		b.l.error(at, fmt.Sprintf("%q is no event type and no pattern", p), why)
		return
	}
	b.plausible(p, at, r)
	r.On = append(r.On, p)
}

// patternMistake says why a text cannot be an event type or a pattern of one.
func patternMistake(p string) string {
	switch {
	case p == "":
		return "It is empty."
	case strings.ContainsFunc(p, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return "It holds white space."
	case strings.HasPrefix(p, ".") || strings.HasSuffix(p, ".") || strings.Contains(p, ".."):
		return "A part between dots is empty."
	case strings.ContainsAny(p, "?[]{}()|^$\\+\"',;"):
		return "Only * is special: it stands for any text, dots included."
	}
	return ""
}

// plausible warns about a pattern that none of the route's sources is known to satisfy. Providers send types that their
// catalogue lacks, so it is no error, and silent unless something similar is there or no source has such a provider.
func (b *block) plausible(pattern string, at hcl.Range, r *Route) {
	names := r.Sources
	if len(names) == 0 {
		names = slices.DeleteFunc(slices.Sorted(maps.Keys(b.l.sources)), func(s string) bool { return b.l.sources[s].builtin })
	}
	var types, providers []string
	for _, name := range names {
		s := b.l.sources[name]
		if !s.clear() {
			return
		}
		providers = append(providers, s.info.Provider.Name)
		for _, e := range s.info.Provider.Events {
			types = append(types, e.Type)
		}
	}
	if len(names) == 0 || slices.ContainsFunc(types, func(t string) bool { return matches(pattern, t) }) {
		return
	}
	possible := slices.ContainsFunc(providers, func(p string) bool { return overlaps(pattern, p+".") })
	guess := nearest(pattern, types)
	if guess == "" {
		guess = respelt(pattern, types)
	}
	siblings := slices.DeleteFunc(slices.Clone(types), func(t string) bool { return parent(t) != parent(pattern) })
	switch {
	case len(r.Sources) == 0 && b.l.cfg.Builtin != nil && strings.HasPrefix(pattern, core.BuiltinSource+"."):
		b.l.warn(at, fmt.Sprintf("No source of this route is known to send %q", pattern),
			"Alerts go to routes that name where they come from: from = [source.grapnel].")
	case guess != "":
		b.l.warn(at, fmt.Sprintf("No source of this route is known to send %q", pattern),
			fmt.Sprintf("Did you mean %q?", guess))
	case len(siblings) > 0 && !strings.Contains(pattern, "*"):
		slices.Sort(siblings)
		b.l.warn(at, fmt.Sprintf("No source of this route is known to send %q", pattern),
			"Known are "+list(slices.Compact(siblings))+".")
	case !possible:
		slices.Sort(providers)
		b.l.warn(at, fmt.Sprintf("No source of this route is known to send %q", pattern),
			"Their events start with "+list(slices.Compact(providers))+".")
	}
}

func parent(eventType string) string {
	return eventType[:max(0, strings.LastIndexByte(eventType, '.'))]
}

// respelt is a pattern in which one part is written as known types write it, so that it matches one; empty: there is none.
func respelt(pattern string, types []string) string {
	var known []string
	for _, t := range types {
		known = append(known, strings.Split(t, ".")...)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	parts := strings.Split(pattern, ".")
	for i, part := range parts {
		guess := nearest(part, known)
		if strings.Contains(part, "*") || guess == "" || guess == part {
			continue
		}
		parts[i] = guess
		try := strings.Join(parts, ".")
		if slices.ContainsFunc(types, func(t string) bool { return matches(try, t) }) {
			return try
		}
		parts[i] = part
	}
	return ""
}

// matches reports whether an event type satisfies a pattern, in which * stands for any text.
func matches(pattern, eventType string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == eventType
	}
	if !strings.HasPrefix(eventType, head) {
		return false
	}
	s := eventType[len(head):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}

// overlaps reports whether a pattern can match a text that starts with prefix.
func overlaps(pattern, prefix string) bool {
	head, _, star := strings.Cut(pattern, "*")
	if star && len(head) < len(prefix) {
		return strings.HasPrefix(prefix, head)
	}
	return strings.HasPrefix(head, prefix)
}

// noSink reports a sink that is not there.
func (l *loader) noSink(plugin, name string, at hcl.Range) {
	s, found := l.sinks[name]
	if l.partial || !found && l.odd["sink"] || found && s.info == nil && !s.disabled {
		return // said there
	}
	detail := ""
	if found {
		detail = fmt.Sprintf("The sink %q is of the plugin %q: write to %q %q.", name, s.plugin, s.plugin, name)
	} else if guess := nearest(name, slices.Sorted(maps.Keys(l.sinks))); guess != "" {
		detail = fmt.Sprintf("Did you mean to %q %q?", l.sinks[guess].plugin, guess)
	} else if len(l.sinks) > 0 {
		detail = "The sinks of the configuration: " + list(slices.Sorted(maps.Keys(l.sinks))) + "."
	}
	l.error(at, fmt.Sprintf("There is no sink %q %q", plugin, name), detail)
}

// to takes a `to` block. It returns the name of the sink, and the message for a Checker; nil: there is none to check.
func (l *loader) to(hb *hclsyntax.Block, r *Route, route string, targets map[string]hcl.Range) (
	sink string, m *expr.Message,
) {
	if len(hb.Labels) != 2 {
		l.error(blockHeader(hb), "A to block has two labels", `Write to "plugin" "name" { … }, as in the sink's block.`)
		l.broken = true
		m, _ = l.message(hb, nil)
		return "", m
	}
	plugin, name := hb.Labels[0], hb.Labels[1]
	at := hcl.RangeBetween(hb.LabelRanges[0], hb.LabelRanges[1])
	s, found := l.sinks[name]
	if !found || s.plugin != plugin {
		l.broken = true
		l.noSink(plugin, name, at)
		var schema *sdk.Schema
		if !found { // else it is open which of the two is meant
			schema = l.messageOf(plugin)
		}
		m, _ = l.message(hb, schema)
		return "", m
	}
	if earlier, twice := targets[name]; twice {
		l.error(at, fmt.Sprintf("A second to block for the sink %q in %s", name, route),
			"The first is at "+rangeOf(earlier).place()+". Write a second route.")
	} else {
		targets[name] = at
	}
	var schema *sdk.Schema
	if s.info != nil {
		schema = &s.info.Message
	}
	m, ok := l.message(hb, schema)
	switch {
	case !ok:
	case s.disabled:
		l.cfg.Idle = append(l.cfg.Idle, Idle{r.Name, name, rangeOf(at)})
	default:
		s.sent = append(s.sent, sentMessage{m, at})
		r.To = append(r.To, To{Sink: name, Message: m, SchemaDigest: s.digest, Range: rangeOf(at)})
	}
	return name, m
}

// message compiles what a `to` block sends. Without a schema, only the expressions are looked at. Not ok: the message has
// mistakes, and is for a Checker only.
func (l *loader) message(hb *hclsyntax.Block, schema *sdk.Schema) (m *expr.Message, ok bool) {
	for _, nested := range hb.Body.Blocks {
		l.error(blockHeader(nested), "A to block holds attributes only", fmt.Sprintf("Write %s = { … }.", nested.Type))
	}
	ok = schema != nil
	attrs := map[string]*hcl.Attribute{}
	var open sdk.Schema
	for _, a := range inOrder(hb.Body.Attributes) {
		if !l.routeExpression(a.Expr, "a to block") {
			return nil, false
		}
		attrs[a.Name] = a.AsHCLAttribute()
		open.Attributes = append(open.Attributes, sdk.Attribute{
			Name: a.Name, Schema: sdk.Schema{Kind: sdk.KindAny, Optional: true, Nullable: true},
		})
	}
	if schema == nil {
		open.Kind = sdk.KindObject
		schema = &open
	}
	m, diags := l.cfg.Set.Message(attrs, schema, blockHeader(hb))
	l.compiled(diags, blockHeader(hb))
	return m, ok && !diags.HasErrors()
}

// messageOf is the message schema of a sink plugin that is named where no block has such a sink; nil: it is not known.
func (l *loader) messageOf(plugin string) *sdk.Schema {
	for _, s := range l.sinks {
		if s.plugin == plugin && s.info != nil {
			return &s.info.Message
		}
	}
	ref := pluginRef{core.PluginSink, plugin}
	if l.catalog == nil || l.partial || l.infos[ref] != nil || !namePattern.MatchString(plugin) || l.fits(ref) != nil {
		return nil
	}
	info, err := l.catalog.Describe(l.ctx, ref.kind, plugin)
	l.infos[ref] = &pluginAnswer{info: info, err: err} // all blocks have been described
	if err != nil || info == nil {
		return nil
	}
	return &info.Message
}
