package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/alert"
	"github.com/grapnelhq/grapnel/sdk"
)

// Alert is an enabled alert block.
type Alert struct {
	alert.Rule
	// Route is the name of the route in Config.Routes that takes the alert's events to its `to` blocks; empty: it has none.
	Route string
	Range Range
}

// alertRoute is the name of an alert's route. No route block can have it.
func alertRoute(name string) string { return "alert." + name }

// alertCondition is the condition of an alert's route.
func alertCondition(name string) string { return fmt.Sprintf("event.data.alert == %q", name) }

// conditions are the attributes of which an alert block has one.
var conditions = []alert.Condition{
	alert.SinkParked, alert.DeadLetters, alert.OldestWaiting, alert.PluginFailed, alert.SourceSilent, alert.RejectedSignatures,
}

// builtin adds the source that alerts come from, unless there are none. Routes take its events only if they name it.
func (l *loader) builtin(sources, alerts []*hclsyntax.Block) {
	for _, hb := range sources {
		if hb.Labels[1] == core.BuiltinSource {
			l.error(hb.LabelRanges[1], fmt.Sprintf("No source can be named %q", core.BuiltinSource),
				"It is the host's own name, and what alerts come from.")
			return
		}
	}
	if len(alerts) == 0 {
		return
	}
	manifest, err := alert.Manifest()
	if err != nil {
		l.error(blockHeader(alerts[0]), "Alerts are out of order", sentence(err.Error()))
		return
	}
	info := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: core.BuiltinSource, Config: sdk.Schema{Kind: sdk.KindObject}, Provider: manifest,
	}
	l.sources[core.BuiltinSource] = &sourceBlock{plugin: core.BuiltinSource, info: info, builtin: true}
	l.cfg.Builtin = &Source{Name: core.BuiltinSource, Plugin: core.BuiltinSource, Info: info, Auth: noAuth, Path: builtinPath}
}

// builtinPath is no path of a URL that a block can have: samples of alerts have it for those who only look.
const builtinPath = "/:" + core.BuiltinSource

// alertBlock is an alert block that was read, for what is to be said when all routes are known.
type alertBlock struct {
	rule  alert.Rule
	at    hcl.Range
	sinks []string // of its `to` blocks
}

func (l *loader) alerts(blocks []*hclsyntax.Block) {
	if l.cfg.Builtin == nil {
		return
	}
	seen := map[string]hcl.Range{}
	var all []alertBlock
	for _, hb := range blocks {
		if a, ok := l.alert(hb, seen); ok {
			all = append(all, a)
		}
	}
	if l.partial || l.errors() > 0 {
		return // sinks may be missing
	}
	for i := range all {
		l.wayOut(&all[i])
	}
}

// alert takes an alert block. Not ok: it is disabled.
func (l *loader) alert(hb *hclsyntax.Block, seen map[string]hcl.Range) (alertBlock, bool) {
	what, _ := l.names(hb, seen)
	name := hb.Labels[0]
	a := Alert{
		Rule:  alert.Rule{Name: name, Clear: time.Minute, Grace: time.Minute},
		Range: rangeOf(blockHeader(hb)),
	}
	b := l.block(hb, what)
	enabled := b.enabled()
	b.condition(&a.Rule)
	b.duration("for", &a.For, 0, maxDuration)
	b.duration("clear", &a.Clear, 0, maxDuration)
	b.duration("grace", &a.Grace, 0, maxDuration)
	b.duration("repeat", &a.Repeat, time.Second, maxDuration)

	r := Route{Name: alertRoute(name), Sources: []string{core.BuiltinSource}, Alert: name, Range: a.Range}
	t := typedRoute{sound: true}
	e, diags := hclsyntax.ParseExpression([]byte(alertCondition(name)), alertRoute(name), hcl.InitialPos)
	if !diags.HasErrors() && namePattern.MatchString(name) {
		r.When, diags = l.cfg.Set.Condition(e)
		t.when = e
	}
	l.foreign(diags, nil)
	b.blocks = append(b.blocks, "to")
	targets := map[string]hcl.Range{}
	for _, block := range hb.Body.Blocks {
		if block.Type != "to" {
			continue
		}
		sink, m := l.to(block, &r, what, targets)
		if l.named[sink] = l.named[sink] || sink != ""; m != nil {
			t.messages = append(t.messages, m)
		}
	}
	order := l.orderBy(nil)
	for i := range r.To {
		r.To[i].OrderBy = order
	}
	b.finish()
	if t.route = r; len(t.messages) > 0 {
		l.typed = append(l.typed, t)
	}
	if !enabled {
		l.cfg.Disabled = append(l.cfg.Disabled, Disabled{"alert", "", name, a.Range})
		l.cfg.Idle = slices.DeleteFunc(l.cfg.Idle, func(i Idle) bool { return i.Route == r.Name })
		return alertBlock{}, false
	}
	out := alertBlock{rule: a.Rule, at: b.at}
	if len(r.To) > 0 {
		a.Route = r.Name
		l.cfg.Routes = append(l.cfg.Routes, r)
		for _, to := range r.To {
			out.sinks = append(out.sinks, to.Sink)
		}
	}
	l.cfg.Alerts = append(l.cfg.Alerts, a)
	return out, true
}

// condition takes the one condition of an alert, and what belongs to it.
func (b *block) condition(r *alert.Rule) {
	var names []string
	for _, c := range conditions {
		names = append(names, string(c))
		if b.body.Attributes[string(c)] == nil {
			continue
		}
		if r.Condition != "" {
			b.attr(string(c))
			b.l.error(b.body.Attributes[string(c)].NameRange, fmt.Sprintf("A second condition in %s", b.what),
				fmt.Sprintf("It has %s. Write another alert.", r.Condition))
			continue
		}
		r.Condition = c
	}
	if r.Condition == "" {
		b.attrs = append(b.attrs, names...)
		if !b.l.partial {
			b.l.error(b.at, fmt.Sprintf("There is no condition in %s", b.what), "Write one of "+join(names, "or")+".")
		}
		return
	}
	attr := string(r.Condition)
	switch r.Condition {
	case alert.SinkParked:
		b.duration(attr, &r.Span, 0, maxDuration)
		r.States = alert.ParkedStates()
		if states, ok := b.words("states", alert.ParkedStates()); ok {
			r.States = states
		}
	case alert.OldestWaiting:
		b.duration(attr, &r.Span, time.Millisecond, maxDuration)
	case alert.DeadLetters:
		b.count(attr, &r.Count)
		b.duration("within", &r.Within, time.Second, maxDuration)
	case alert.RejectedSignatures:
		r.Within = 10 * time.Minute
		b.count(attr, &r.Count)
		b.duration("within", &r.Within, time.Second, maxDuration)
	case alert.SourceSilent:
		b.silent(attr, r)
	case alert.PluginFailed:
		on := true
		if b.bool(attr, &on); !on {
			b.wrong(attr, b.body.Attributes[attr].Expr.Range(), "true")
			b.l.diags.list[len(b.l.diags.list)-1].Detail = "To keep the alert out, write enabled = false."
		}
	}
	if b.body.Attributes[attr] != nil {
		b.required(attr)
	}
	b.things(r)
}

func (b *block) count(name string, to *int64) {
	n := int(*to)
	b.integer(name, &n, 0, 1<<40)
	*to = int64(n)
}

// silent takes for how long a source may be silent: "usual" or a duration.
func (b *block) silent(name string, r *alert.Rule) {
	v, at, ok := b.value(name)
	if !ok {
		return
	}
	if text, _ := asText(v); text == "usual" {
		r.AtLeast = 15 * time.Minute
		b.duration("at_least", &r.AtLeast, time.Second, maxDuration)
		return
	}
	d, err := asDuration(v)
	if err != nil || d < time.Millisecond || d > maxDuration {
		b.wrong(name, at, `"usual", or a duration such as "6h"`)
		return
	}
	r.Span = d
}

// words takes a list of some of several words.
func (b *block) words(name string, words []string) ([]string, bool) {
	texts, ok := b.texts(name)
	if !ok {
		return nil, false
	}
	for i, text := range texts {
		if !slices.Contains(words, text) {
			b.l.error(b.item(name, i), fmt.Sprintf("An item of %q of %s must be one of %s", name, b.what, join(words, "or")),
				suggest(text, words))
			ok = false
		}
	}
	if len(texts) == 0 {
		b.l.error(b.body.Attributes[name].Expr.Range(), fmt.Sprintf("%q of %s is empty", name, b.what),
			"Leave it out to take all.")
		ok = false
	}
	return texts, ok
}

// things takes the names of what the alert watches.
func (b *block) things(r *alert.Rule) {
	name, known := "sinks", slices.Sorted(maps.Keys(b.l.sinks))
	switch r.Condition.Kind() {
	case alert.KindSource:
		name, known = "sources", nil
		for _, s := range slices.Sorted(maps.Keys(b.l.sources)) {
			if !b.l.sources[s].builtin {
				known = append(known, s)
			}
		}
	case alert.KindPlugin:
		name, known = "plugins", b.l.pluginNames()
	}
	if b.l.partial {
		b.attr(name)
		return
	}
	if texts, ok := b.words(name, known); ok {
		r.Things = texts
	}
}

// pluginNames lists the plugins of the configuration's blocks, as "sink-file".
func (l *loader) pluginNames() []string {
	var all []string
	for _, s := range l.sinks {
		all = append(all, "sink-"+s.plugin)
	}
	for _, s := range l.sources {
		if !s.builtin {
			all = append(all, "decoder-"+s.plugin)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// wayOut warns about an alert that goes nowhere, and about one whose only way out is what it is about.
func (l *loader) wayOut(a *alertBlock) {
	sinks := slices.Clone(a.sinks)
	for _, r := range l.cfg.Routes {
		if r.Alert != "" || !slices.Contains(r.Sources, core.BuiltinSource) {
			continue
		}
		if r.On == nil || slices.ContainsFunc(r.On, func(p string) bool { return matches(p, alert.TypeFired) }) {
			for _, to := range r.To {
				sinks = append(sinks, to.Sink)
			}
		}
	}
	what := fmt.Sprintf("alert %q", a.rule.Name)
	if len(sinks) == 0 {
		l.warn(a.at, fmt.Sprintf("The %s goes to no sink", what),
			`It is shown by grapnel alerts. Add a block such as to "slack" "ops" { text = event.data.text }, or a route with `+
				"from = [source.grapnel].")
		return
	}
	var alone []string
	switch a.rule.Condition.Kind() {
	case alert.KindSink:
		slices.Sort(sinks)
		if only := slices.Compact(sinks); len(only) == 1 && (a.rule.Things == nil || slices.Contains(a.rule.Things, only[0])) {
			alone = []string{fmt.Sprintf("the sink %q", only[0])}
		}
	case alert.KindPlugin:
		var plugins []string
		for _, s := range sinks {
			plugins = append(plugins, "sink-"+l.sinks[s].plugin)
		}
		slices.Sort(plugins)
		if only := slices.Compact(plugins); len(only) == 1 && (a.rule.Things == nil || slices.Contains(a.rule.Things, only[0])) {
			alone = []string{fmt.Sprintf("the plugin %q", only[0])}
		}
	}
	if len(alone) > 0 {
		l.warn(a.at, fmt.Sprintf("The %s can reach nobody when it is about %s", what, strings.Join(alone, ", ")),
			"What it has to say then would go that way. Add a to block for another sink, of another plugin.")
	}
}
