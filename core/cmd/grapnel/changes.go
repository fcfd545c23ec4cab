package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/grapnelhq/grapnel/core/config"
)

// changes says in words in what two configurations differ.
func changes(old, next *running) []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	block := func(r *running, kind, name string) string {
		if r.said == nil {
			return ""
		}
		return r.said.Block(kind, name)
	}
	sources := byName(old.cfg.Sources, func(s config.Source) string { return s.Name })
	for _, s := range next.cfg.Sources {
		was, ok := sources[s.Name]
		delete(sources, s.Name)
		switch {
		case !ok:
			say("source %q is new", s.Name)
		case differ(was, s, "Range", "Info"), was.Info.SHA256 != s.Info.SHA256,
			!reflect.DeepEqual(was.Info.Provider, s.Info.Provider):
			say("source %q has changed", s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		say("source %q is gone, its requests wait", name)
	}
	sinks := byName(old.cfg.Sinks, func(s config.Sink) string { return s.Name })
	for _, s := range next.cfg.Sinks {
		was, ok := sinks[s.Name]
		delete(sinks, s.Name)
		switch {
		case !ok:
			say("sink %q is new", s.Name)
		case differ(was, s, "Range", "Info", "Delivery"), was.Info.SHA256 != s.Info.SHA256:
			say("sink %q has changed", s.Name)
		case differ(was.Delivery, s.Delivery, "OrderBy"), block(old, "sink", s.Name) != block(next, "sink", s.Name):
			say("sink %q has other settings of delivery", s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sinks)) {
		say("sink %q is gone, its deliveries wait", name)
	}
	n := len(list)
	ofAlert := func(r config.Route) bool { return r.Alert != "" }
	routes := byName(slices.DeleteFunc(slices.Clone(old.cfg.Routes), ofAlert), func(r config.Route) string { return r.Name })
	for _, r := range slices.DeleteFunc(slices.Clone(next.cfg.Routes), ofAlert) {
		_, ok := routes[r.Name]
		delete(routes, r.Name)
		switch {
		case !ok:
			say("route %q is new", r.Name)
		case block(old, "route", r.Name) != block(next, "route", r.Name):
			say("route %q has changed", r.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		say("route %q is gone", name)
	}
	alerts := byName(old.cfg.Alerts, func(a config.Alert) string { return a.Name })
	for _, a := range next.cfg.Alerts {
		_, ok := alerts[a.Name]
		delete(alerts, a.Name)
		switch {
		case !ok:
			say("alert %q is new", a.Name)
		case block(old, "alert", a.Name) != block(next, "alert", a.Name):
			say("alert %q has changed", a.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(alerts)) {
		say("alert %q is gone", name)
	}
	if old.cfg.Digest != next.cfg.Digest && len(list) == n {
		say("what routes use has changed")
	}
	for _, name := range settings(old.cfg, next.cfg, true) {
		say("%s has changed", name)
	}
	return list
}

func byName[T any](list []T, name func(T) string) map[string]T {
	m := map[string]T{}
	for _, x := range list {
		m[name(x)] = x
	}
	return m
}

// differ reports whether two structs differ in any but the named fields.
func differ[T any](a, b T, but ...string) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if slices.Contains(but, x.Type().Field(i).Name) {
			continue
		}
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			return true
		}
	}
	return false
}

// reloadable are the settings, as the configuration calls them, that a running host can change, but for sources, sinks,
// routes and what belongs to them.
var reloadable = []string{ //nolint:gochecknoglobals // a constant
	"server.tls.cert", "server.tls.key", "server.trusted_proxies", "server.limits.max_body", "server.limits.rate",
	"storage.retention", "storage.state_retention", "storage.min_free",
	"plugins.pins", "plugins.lock_file", "plugins.locked",
	"log.level", "reload.watch",
}

// blocks are the fields of a configuration that are compared block by block, or follow from those.
var blocks = []string{ //nolint:gochecknoglobals // a constant
	"Path", "Dir", "Sources", "Sinks", "Routes", "Alerts", "Builtin", "Disabled", "Retention", "Idle", "Unset", "Set", "Secrets", "Digest",
}

// needRestart lists the settings in which two configurations differ and that a running host cannot change. What is not
// known to be changeable is not.
func needRestart(old, next *config.Config) []string { return settings(old, next, false) }

// settings lists the settings that differ, of those that can change while a host runs, or of those that cannot.
func settings(old, next *config.Config, can bool) []string {
	var names []string
	for _, name := range fieldsThatDiffer("", reflect.ValueOf(*old), reflect.ValueOf(*next)) {
		if slices.Contains(reloadable, name) == can {
			names = append(names, name)
		}
	}
	return names
}

// fieldsThatDiffer lists the fields that differ of two structs, as the configuration calls them.
func fieldsThatDiffer(prefix string, a, b reflect.Value) []string {
	var names []string
	for i := range a.NumField() {
		field := a.Type().Field(i)
		if prefix == "" && slices.Contains(blocks, field.Name) || !field.IsExported() {
			continue
		}
		name, x, y := prefix+snake(field.Name), a.Field(i), b.Field(i)
		if x.Kind() == reflect.Pointer && x.Type().Elem().Kind() == reflect.Struct && !x.IsNil() && !y.IsNil() {
			x, y = x.Elem(), y.Elem()
		}
		switch {
		case x.Kind() == reflect.Struct:
			names = append(names, fieldsThatDiffer(name+".", x, y)...)
		case !equal(x, y):
			names = append(names, name)
		}
	}
	return names
}

// equal compares values; an empty list is as good as none, and where things stand in a file does not matter.
func equal(x, y reflect.Value) bool {
	if (x.Kind() == reflect.Slice || x.Kind() == reflect.Map) && x.Len() == 0 && y.Len() == 0 {
		return true
	}
	if pins, ok := x.Interface().([]config.Pin); ok {
		return slices.EqualFunc(pins, y.Interface().([]config.Pin), func(a, b config.Pin) bool { return !differ(a, b, "Range") })
	}
	if locked, ok := x.Interface().([]config.Locked); ok {
		return slices.EqualFunc(locked, y.Interface().([]config.Locked), func(a, b config.Locked) bool {
			return !differ(a, b, "Range")
		})
	}
	return reflect.DeepEqual(x.Interface(), y.Interface())
}

// snake writes the name of a field as the configuration does: MaxBody, max_body.
func snake(name string) string {
	var b strings.Builder
	upper := func(i int) bool { return i >= 0 && i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	for i := range len(name) {
		if upper(i) && i > 0 && (!upper(i-1) || i+1 < len(name) && !upper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i])
	}
	return strings.ToLower(b.String())
}
