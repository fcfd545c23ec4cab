package starter

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/sdk"
)

func attribute(name string, s sdk.Schema) sdk.Attribute { return sdk.Attribute{Name: name, Schema: s} }

func object(attributes ...sdk.Attribute) sdk.Schema {
	return sdk.Schema{Kind: sdk.KindObject, Attributes: attributes}
}

// odd is a sink that asks for everything, in words that a comment has to survive.
func odd() *core.PluginInfo {
	text := sdk.Schema{Kind: sdk.KindString}
	return &core.PluginInfo{
		Kind: core.PluginSink, Name: "odd", MaxBatch: 1,
		Config: object(
			attribute("url", sdk.Schema{Kind: sdk.KindString, Description: "First\nsecond\u2028third ${x} \"*/"}),
			attribute("size", sdk.Schema{Kind: sdk.KindInteger}),
			attribute("mode", sdk.Schema{Kind: sdk.KindString, Enum: []string{"${a}", "b"}}),
			attribute("login", object(
				attribute("user", text),
				attribute("password", sdk.Schema{Kind: sdk.KindString, Sensitive: true, Optional: true}),
			)),
			attribute("dir", sdk.Schema{Kind: sdk.KindString, Format: sdk.FormatPath}),
			attribute("keys", sdk.Schema{Kind: sdk.KindList, Element: &text}),
			attribute("map", sdk.Schema{Kind: sdk.KindMap, Element: &text}),
			attribute("token", sdk.Schema{Kind: sdk.KindString, Optional: true, Description: strings.Repeat("long ", 60)}),
		),
		Message: object(
			attribute("title", text), attribute("body", text), attribute("job_id", text), attribute("firstName", text),
			attribute("level", sdk.Schema{Kind: sdk.KindInteger}), attribute("loud", sdk.Schema{Kind: sdk.KindBool}),
			attribute("wait", sdk.Schema{Kind: sdk.KindDuration}), attribute("any", sdk.Schema{Kind: sdk.KindAny}),
			attribute("tags", sdk.Schema{Kind: sdk.KindList, Element: &text}),
			attribute("values", sdk.Schema{Kind: sdk.KindMap, Element: &sdk.Schema{Kind: sdk.KindAny}}),
			attribute("nested", object(attribute("text", text))),
		),
	}
}

func draft() *Draft {
	data := object(
		attribute("id", sdk.Schema{Kind: sdk.KindInteger}),
		attribute("firstName", sdk.Schema{Kind: sdk.KindString, Optional: true}),
		attribute("a name", sdk.Schema{Kind: sdk.KindString}),
		attribute("list", sdk.Schema{Kind: sdk.KindList, Element: &sdk.Schema{Kind: sdk.KindAny}}),
	)
	source := &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "odd", Config: object(),
		Provider: &sdk.Provider{
			Name:    "odd",
			Schemes: []sdk.Scheme{{Name: "bearer", Token: &sdk.Token{Part: sdk.Part{Kind: sdk.PartHeader, Name: "x"}}}},
			Events:  []sdk.EventType{{Type: "odd.one", Data: data}},
		},
	}
	sink := odd()
	d := &Draft{
		Plugins: "bin/plug\"ins${x}", Source: NewBlock(source, "in"), Sink: NewBlock(sink, "out"), SinkInfo: sink,
		On: []string{"odd.one"},
		Event: Event{
			Types: []*sdk.EventType{&source.Provider.Events[0]},
			Data:  json.RawMessage(`{"id": 7, "firstName": "Ada", "a name": "x", "list": ["y"], "unknown": "z"}`),
		},
	}
	d.Separate()
	return d
}

// TestOdd writes a configuration out of schemas that use everything there is.
func TestOdd(t *testing.T) {
	d := draft()
	if !d.Sink.Add([]string{"token"}) || !d.Sink.Add([]string{"login", "password"}) {
		t.Error("attributes that were asked for are not added")
	}
	for _, path := range [][]string{nil, {"token"}, {"nothing"}, {"url", "x"}, {"login", "nothing"}} {
		if d.Sink.Add(path) {
			t.Errorf("added %q", path)
		}
	}
	text := string(d.HCL())
	for _, want := range []string{
		`dir = "bin/plug\"ins$${x}"`,
		`secrets = [env("ODD_TOKEN")]`,
		`# First second third ${x} "*/`,
		`url = env("SINK_ODD_URL")`,
		`mode = "$${a}"`,
		`password = env("SINK_ODD_LOGIN_PASSWORD")`,
		`dir = "data/out"`,
		`keys = [env("SINK_ODD_KEYS")]`,
		`on   = ["odd.one"]`,
		"title = event.type\n",
		`"${event.type}: ${coalesce(event.data.firstName, "?")}"`,
		`job_id = "odd:${event.data.id}"`,
		`firstName = "${coalesce(event.data.firstName, "?")}"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	for _, not := range []string{"unknown", "a name", "event.data.list"} {
		if strings.Contains(text, not) {
			t.Errorf("there is %s in\n%s", not, text)
		}
	}
	if out, diags := config.Format("config.hcl", []byte(text)); diags.HasErrors() || string(out) != text {
		t.Errorf("it is not laid out, %v:\n%s", diags.Err(), text)
	}
	for line := range strings.Lines(text) {
		if len([]rune(line)) > 121 {
			t.Errorf("a long line: %s", line)
		}
	}
	var names []string
	for _, v := range d.Variables() {
		if slices.Contains(names, v.Name) {
			t.Errorf("two variables %s", v.Name)
		}
		if v.StandIn() == "" {
			t.Errorf("nothing stands in for %s", v.Name)
		}
		names = append(names, v.Name)
	}
	if len(names) != 7 {
		t.Errorf("variables %q", names)
	}
}

// TestAsks tells values of the environment from others.
func TestAsks(t *testing.T) {
	d := draft()
	for path, want := range map[string]bool{"url": true, "keys.0": true, "login.user": true, "login": false, "dir": false, "": false} {
		var steps []string
		if path != "" {
			steps = strings.Split(path, ".")
		}
		if got := d.Sink.Asks(steps); got != want {
			t.Errorf("Asks(%q) = %t", path, got)
		}
	}
}

// TestWithoutSample writes routes for events of which little is known.
func TestWithoutSample(t *testing.T) {
	d := draft()
	d.Event.Data = nil
	text := string(d.HCL())
	if strings.Contains(text, "event.data.") || !strings.Contains(text, `"odd:${coalesce(event.subject, event.id)}"`) {
		t.Errorf("fields that no sample has:\n%s", text)
	}
	if d.Test() != nil {
		t.Error("a test without a sample")
	}
	d.On, d.Event.Types = nil, nil
	if text := string(d.HCL()); strings.Contains(text, "\n  on ") {
		t.Errorf("event types of no catalogue:\n%s", text)
	}
}
