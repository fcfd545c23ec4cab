package pluginhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// A block's configuration, the routes and the endpoints of a running host were made for one version of a plugin. What
// follows finds out whether another version can take its place under them. It is pure.

// fitting is what a block needs to live in another version of its plugin.
type fitting struct {
	config   []byte
	fill     []byte               // for instance.fill
	attrs    []sdk.AttributeError // what does not fit in the configuration
	problems []string             // what does not fit otherwise
	notes    []string             // what fits, and is not in force before a restart
}

// refitted is the configuration of a block, made for one version, as another one takes it.
func refitted(made, other *core.PluginInfo, config []byte) fitting {
	var c refit
	config = c.config(&made.Config, &other.Config, config)
	return fitting{config: config, attrs: c.attrs, notes: changedDefaults("", &made.Config, &other.Config)}
}

// compare compares what routes and endpoint of a block were made for with what another version says of itself. uses says
// whether a route sets an attribute of the message. With lax, a change of what events look like is a note.
func (f *fitting) compare(made, other *core.PluginInfo, uses func(attribute string) bool, lax bool) {
	if made.Kind == core.PluginSink {
		if other.WantState && !made.WantState {
			f.problems = append(f.problems,
				"it keeps state per order key, which the version that the host started with did not")
		}
		f.message(&made.Message, &other.Message, uses)
		return
	}
	f.problems = append(f.problems, manifestChanges(made.Provider, other.Provider)...)
	if events := eventChanges(made.Provider.Events, other.Provider.Events); lax {
		f.notes = append(f.notes, events...)
	} else {
		f.problems = append(f.problems, events...)
	}
}

// refit makes a configuration of one schema fit another one.
type refit struct {
	attrs   []sdk.AttributeError
	changed bool
}

func (c *refit) config(old, other *sdk.Schema, config []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		c.fail(nil, "The configuration is no JSON", err.Error())
		return config
	}
	v = c.value(nil, old, other, v)
	if !c.changed || len(c.attrs) > 0 {
		return config
	}
	b, err := json.Marshal(v)
	if err != nil {
		c.fail(nil, "The configuration cannot be written", err.Error())
		return config
	}
	return b
}

func (c *refit) fail(path []string, summary, detail string) {
	if len(c.attrs) < maxAttributeErrors {
		c.attrs = append(c.attrs, sdk.AttributeError{Path: slices.Clone(path), Summary: summary, Detail: detail})
	}
}

// value checks a value against the other schema and returns it with what the other schema has to add. old may be nil.
func (c *refit) value(path []string, old, other *sdk.Schema, v any) any {
	if v == nil {
		if !other.Nullable && !other.Optional {
			c.fail(path, "The new version does not take null here", "")
		}
		return v
	}
	if other.Format == sdk.FormatPath && old != nil && old.Format != sdk.FormatPath {
		c.fail(path, "The new version takes a path here", "It is made absolute when the host starts, so restart it.")
		return v
	}
	ok := true
	switch x := v.(type) {
	case string:
		ok = other.Kind == sdk.KindAny || other.Kind == sdk.KindString
		if ok && len(other.Enum) > 0 && !slices.Contains(other.Enum, x) {
			c.fail(path, "The new version does not take this value", "It takes "+strings.Join(other.Enum, ", ")+".")
		}
	case bool:
		ok = other.Kind == sdk.KindAny || other.Kind == sdk.KindBool
	case json.Number:
		_, err := strconv.ParseInt(x.String(), 10, 64)
		ok = other.Kind == sdk.KindAny || other.Kind == sdk.KindNumber ||
			err == nil && (other.Kind == sdk.KindInteger || other.Kind == sdk.KindDuration)
		// A duration is a number of nanoseconds: the same number means something else in a number's place.
		if old != nil && old.Kind != sdk.KindAny && (old.Kind == sdk.KindDuration) != (other.Kind == sdk.KindDuration) {
			ok = false
		}
	case []any:
		if ok = other.Kind == sdk.KindAny || other.Kind == sdk.KindList; ok && other.Element != nil {
			for k := range x {
				x[k] = c.value(append(path, strconv.Itoa(k)), element(old), other.Element, x[k])
			}
		}
	case map[string]any:
		switch other.Kind {
		case sdk.KindAny:
		case sdk.KindMap:
			for _, name := range slices.Sorted(maps.Keys(x)) {
				x[name] = c.value(append(path, name), element(old), other.Element, x[name])
			}
		case sdk.KindObject:
			c.object(path, old, other, x)
		default:
			ok = false
		}
	}
	if !ok {
		c.fail(path, fmt.Sprintf("The new version takes %s here", article(other.Kind)), "")
	}
	return v
}

func (c *refit) object(path []string, old, other *sdk.Schema, x map[string]any) {
	for i := range other.Attributes {
		a := &other.Attributes[i]
		at := append(path, a.Name)
		was := attribute(old, a.Name)
		v, there := x[a.Name]
		switch s := &a.Schema; {
		case there:
			x[a.Name] = c.value(at, was, s, v)
		case len(s.Default) > 0 && s.Format == sdk.FormatPath:
			c.fail(at, "The new version has a path here, with a default",
				"It is made absolute when the host starts, so restart it.")
		case len(s.Default) > 0:
			x[a.Name] = s.Default
			c.changed = true
		case !s.Optional:
			c.fail(at, "The new version requires this attribute", s.Description)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x)) {
		if other.Attribute(name) != nil {
			continue
		}
		// A default that the host filled in is nobody's wish.
		if was := attribute(old, name); was != nil && isDefault(was, x[name]) {
			delete(x, name)
			c.changed = true
			continue
		}
		c.fail(append(path, name), "The new version has no such attribute", "")
	}
}

// attribute is an attribute of an object schema, or nil.
func attribute(s *sdk.Schema, name string) *sdk.Schema {
	if s == nil || s.Kind != sdk.KindObject {
		return nil
	}
	return s.Attribute(name)
}

func isDefault(s *sdk.Schema, v any) bool {
	if v == nil {
		return true
	}
	b, err := json.Marshal(v)
	return err == nil && len(s.Default) > 0 && sameJSON(b, s.Default)
}

func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func article(k sdk.Kind) string {
	switch k {
	case sdk.KindAny:
		return "any value"
	case sdk.KindInteger, sdk.KindObject:
		return "an " + string(k)
	}
	return "a " + string(k)
}

// changedDefaults lists attributes whose default is another one: what the host has filled in already stays.
func changedDefaults(path string, old, other *sdk.Schema) []string {
	var notes []string
	for i := range other.Attributes {
		a := &other.Attributes[i]
		was := attribute(old, a.Name)
		if was == nil {
			continue
		}
		if len(was.Default) > 0 && a.Schema.Optional && !sameJSON(was.Default, a.Schema.Default) {
			notes = append(notes, fmt.Sprintf("the default of %q changes with a restart", path+a.Name))
		}
		notes = append(notes, changedDefaults(path+a.Name+".", was, &a.Schema)...)
	}
	return notes
}

// message compares the messages that routes were compiled for with those that another version takes.
func (f *fitting) message(old, other *sdk.Schema, uses func(attribute string) bool) {
	for i := range old.Attributes {
		a := &old.Attributes[i]
		// Only what routes set, and what the host fills in, is ever in a message.
		if len(a.Schema.Default) == 0 && a.Schema.Optional && !uses(a.Name) {
			continue
		}
		now := other.Attribute(a.Name)
		if now == nil {
			f.problems = append(f.problems,
				fmt.Sprintf("messages have no %q any more, which routes set or the host fills in", a.Name))
			continue
		}
		f.problems = append(f.problems, narrowed(dotted("message", a.Name), &a.Schema, now)...)
	}
	for i := range other.Attributes {
		a := &other.Attributes[i]
		was := old.Attribute(a.Name)
		set := was != nil && (len(was.Default) > 0 || !was.Optional || uses(a.Name))
		switch {
		case set: // compared above
		case !a.Schema.Optional:
			f.problems = append(f.problems, fmt.Sprintf("messages must have %q, which no route sets", a.Name))
		case len(a.Schema.Default) > 0:
			name, _ := json.Marshal(a.Name)
			f.fill = slices.Concat(f.fill, []byte(","), name, []byte(":"), a.Schema.Default)
		}
	}
	f.notes = append(f.notes, changedDefaults("message.", old, other)...)
}

func dotted(path, name string) string { return path + "." + name }

// narrowed lists why a value that the old schema allows may not be one of the other's: for what the host gives a plugin.
func narrowed(path string, old, other *sdk.Schema) []string {
	var problems []string
	add := func(format string, args ...any) {
		problems = append(problems, path+" "+fmt.Sprintf(format, args...))
	}
	if old.Nullable && !other.Nullable {
		add("may not be null any more")
	}
	if old.Optional && len(old.Default) == 0 {
		switch {
		case !other.Optional:
			add("may not be left out any more")
		case len(other.Default) > 0:
			add("has a default, which routes do not fill in before a restart")
		}
	}
	if old.Escape != other.Escape {
		add("is escaped in another way, which routes were compiled with")
	}
	if other.Kind == sdk.KindAny {
		return problems
	}
	if old.Kind != other.Kind && (old.Kind != sdk.KindInteger || other.Kind != sdk.KindNumber) {
		add("was %s and is %s", article(old.Kind), article(other.Kind))
		return problems
	}
	if len(other.Enum) > 0 {
		for _, e := range old.Enum {
			if !slices.Contains(other.Enum, e) {
				add("may not be %q any more", e)
			}
		}
		if len(old.Enum) == 0 {
			add("may only be one of %s now", strings.Join(other.Enum, ", "))
		}
	}
	if old.Element != nil && other.Element != nil {
		problems = append(problems, narrowed(path+"[*]", old.Element, other.Element)...)
	}
	for i := range old.Attributes {
		a := &old.Attributes[i]
		if now := other.Attribute(a.Name); now != nil {
			problems = append(problems, narrowed(dotted(path, a.Name), &a.Schema, now)...)
		} else {
			problems = append(problems, dotted(path, a.Name)+" is not taken any more")
		}
	}
	for i := range other.Attributes {
		a := &other.Attributes[i]
		switch {
		case old.Attribute(a.Name) != nil:
		case !a.Schema.Optional:
			problems = append(problems, dotted(path, a.Name)+" is required now")
		case len(a.Schema.Default) > 0:
			problems = append(problems, dotted(path, a.Name)+" has a default, which routes do not fill in before a restart")
		}
	}
	return problems
}

// manifestChanges lists what endpoints were made from that is different now. Texts for people, published addresses and
// the catalogue do not matter to an endpoint.
func manifestChanges(old, other *sdk.Provider) []string {
	var problems []string
	for _, part := range []struct {
		what string
		a, b any
	}{
		{"provider", old.Name, other.Name},
		{"schemes", schemes(old), schemes(other)},
		{"default scheme", old.ChooseScheme, other.ChooseScheme},
		{"methods", old.Methods, other.Methods},
		{"content types", old.ContentTypes, other.ContentTypes},
		{"headers to keep", old.Headers, other.Headers},
		{"reply", old.Reply, other.Reply},
		{"handshake", old.Handshake, other.Handshake},
		{"dedupe key", old.Dedupe, other.Dedupe},
	} {
		if !reflect.DeepEqual(part.a, part.b) {
			problems = append(problems, "its manifest has other "+part.what)
		}
	}
	return problems
}

// schemes are a manifest's schemes without the texts for people.
func schemes(p *sdk.Provider) []sdk.Scheme {
	list := slices.Clone(p.Schemes)
	for i := range list {
		list[i].Description = ""
		list[i].Allow = slices.Clone(list[i].Allow)
		for k := range list[i].Allow {
			list[i].Allow[k].Description = ""
		}
	}
	return list
}

// eventChanges lists what routes may rely on and that other events do not promise any more.
func eventChanges(old, other []sdk.EventType) []string {
	var problems []string
	for i := range old {
		at := slices.IndexFunc(other, func(e sdk.EventType) bool { return e.Type == old[i].Type })
		if at < 0 {
			problems = append(problems, fmt.Sprintf("its catalogue has no event %s any more", old[i].Type))
			continue
		}
		problems = append(problems, widened("data of "+old[i].Type, &old[i].Data, &other[at].Data)...)
	}
	return problems
}

// widened lists why a value of the other schema may not be one that the old schema promises: for what a plugin gives the
// host. What is new in an object disturbs nobody.
func widened(path string, old, other *sdk.Schema) []string {
	var problems []string
	add := func(format string, args ...any) {
		problems = append(problems, path+" "+fmt.Sprintf(format, args...))
	}
	if other.Nullable && !old.Nullable {
		add("may be null now")
	}
	if other.Optional && !old.Optional {
		add("may be missing now")
	}
	if old.Kind == sdk.KindAny {
		return problems
	}
	if old.Kind != other.Kind && (old.Kind != sdk.KindNumber || other.Kind != sdk.KindInteger) {
		add("was %s and is %s", article(old.Kind), article(other.Kind))
		return problems
	}
	if len(old.Enum) > 0 {
		if len(other.Enum) == 0 {
			add("may be any text now")
		}
		for _, e := range other.Enum {
			if !slices.Contains(old.Enum, e) {
				add("may be %q now", e)
			}
		}
	}
	if old.Element != nil && other.Element != nil {
		problems = append(problems, widened(path+"[*]", old.Element, other.Element)...)
	}
	for i := range old.Attributes {
		a := &old.Attributes[i]
		if now := other.Attribute(a.Name); now != nil {
			problems = append(problems, widened(dotted(path, a.Name), &a.Schema, now)...)
		} else {
			problems = append(problems, dotted(path, a.Name)+" is gone")
		}
	}
	return problems
}
