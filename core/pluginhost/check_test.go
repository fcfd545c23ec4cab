package pluginhost

import (
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

func validDecoder() *core.PluginInfo {
	return &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "shop", Version: "1.0.0", Config: sdk.Schema{Kind: sdk.KindObject},
		Provider: &sdk.Provider{
			Name: "shop", Methods: []string{"POST"}, ContentTypes: []string{"application/json"},
			Addresses: []string{"192.0.2.1", "2001:db8::/32"},
			Schemes: []sdk.Scheme{{
				Name: "hmac", HMAC: &sdk.HMAC{Headers: []string{"x-sig"}, Encoding: sdk.Hex},
				Allow: []sdk.AllowList{{Attribute: "shops", Part: sdk.Part{Kind: sdk.PartHeader, Name: "x-shop"}}},
			}},
			Dedupe: []sdk.DedupeKey{{{Kind: sdk.PartJSONPointer, Name: "/id"}}},
			Events: []sdk.EventType{{Type: "shop.order.made", Data: sdk.Schema{Kind: sdk.KindObject,
				Attributes: []sdk.Attribute{{Name: "First Name", Schema: sdk.Schema{Kind: sdk.KindString}}}}}},
		},
	}
}

func validSink() *core.PluginInfo {
	return &core.PluginInfo{
		Kind: core.PluginSink, Name: "chat", Version: "devel", MaxBatch: 1,
		Config: sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
			{Name: "url", Schema: sdk.Schema{Kind: sdk.KindString}},
		}},
		Message: sdk.Schema{Kind: sdk.KindObject},
	}
}

func TestCheckInfo(t *testing.T) {
	if err := checkInfo(validDecoder()); err != nil {
		t.Fatal(err)
	}
	if err := checkInfo(validSink()); err != nil {
		t.Fatal(err)
	}
	attribute := func(name string, s sdk.Schema) func(*core.PluginInfo) {
		return func(i *core.PluginInfo) {
			i.Config.Attributes = append(i.Config.Attributes, sdk.Attribute{Name: name, Schema: s})
		}
	}
	text := sdk.Schema{Kind: sdk.KindString}
	for _, test := range []struct {
		name   string
		info   *core.PluginInfo
		change func(*core.PluginInfo)
		want   string
	}{
		{"version", validSink(), func(i *core.PluginInfo) { i.Version = "v1" }, `version "v1"`},
		{"reserved", validSink(), attribute("allow_ips", text), "config.allow_ips: the name belongs to the host"},
		{"delivery", validSink(), attribute("delivery", text), "config.delivery: the name belongs to the host"},
		{"name", validSink(), attribute("Name", text), `"Name" is not an attribute name`},
		{"twice", validSink(), attribute("url", text), `attribute "url" twice`},
		{"kind", validSink(), attribute("x", sdk.Schema{Kind: "blob"}), `config.x: unknown kind "blob"`},
		{"element", validSink(), attribute("x", sdk.Schema{Kind: sdk.KindMap}), "without a schema of its elements"},
		{"default", validSink(), attribute("x", sdk.Schema{Kind: sdk.KindString, Default: []byte(`"`), Optional: true}), "not JSON"},
		{"required default", validSink(), attribute("x", sdk.Schema{Kind: sdk.KindString, Default: []byte(`""`)}), "required"},
		{"enum", validSink(), attribute("x", sdk.Schema{Kind: sdk.KindBool, Enum: []string{"a"}}), "for strings"},
		{"escape", validSink(), attribute("x", sdk.Schema{Kind: sdk.KindString, Escape: "latex"}), "unknown escape"},
		{"escape of a number", validSink(), attribute("x", sdk.Schema{Kind: sdk.KindInteger, Escape: sdk.EscapeHTML}),
			"an escape is for strings and any value, not for a integer"},
		{"message", validSink(), func(i *core.PluginInfo) { i.Message = text }, "message: the schema is of kind"},
		{"batch", validSink(), func(i *core.PluginInfo) { i.MaxBatch = -1 }, "max_batch is -1"},
		{"provider", validDecoder(), func(i *core.PluginInfo) { i.Provider.Name = "store" }, "must be the same"},
		{"manifest", validDecoder(), func(i *core.PluginInfo) { i.Provider = nil }, "without a manifest"},
		{"handshake", validDecoder(), func(i *core.PluginInfo) {
			i.Provider.Handshake = &sdk.Handshake{Echo: sdk.Part{Kind: sdk.PartQuery, Name: "challenge"}}
		}, ""},
		{"handshake echo", validDecoder(), func(i *core.PluginInfo) { i.Provider.Handshake = &sdk.Handshake{} },
			"handshake: echo: unknown kind of part"},
		{"handshake always", validDecoder(), func(i *core.PluginInfo) {
			i.Provider.Handshake = &sdk.Handshake{Method: "POST", Echo: sdk.Part{Kind: sdk.PartQuery, Name: "challenge"}}
		}, "handshake: without a condition every request would be one"},
		{"unsigned query", validDecoder(), func(i *core.PluginInfo) { i.Provider.Methods = []string{"POST", "GET"} },
			"methods has GET, whose content is the query, and no part of it is signed"},
		{"reply body", validDecoder(), func(i *core.PluginInfo) { i.Provider.Reply = sdk.Reply{Status: 204, Body: []byte("x")} },
			"status 204 has no body"},
		{"reply type", validDecoder(), func(i *core.PluginInfo) { i.Provider.Reply.ContentType = "text/plain\r\nx: y" },
			"no content type"},
		{"reply size", validDecoder(), func(i *core.PluginInfo) { i.Provider.Reply.Body = make([]byte, 65<<10) }, "at most 65536"},
		{"basic", validDecoder(), func(i *core.PluginInfo) {
			i.Provider.Schemes[0].HMAC, i.Provider.Schemes[0].Basic = nil, &sdk.Basic{}
		}, ""},
		{"ed25519", validDecoder(), func(i *core.PluginInfo) {
			i.Provider.Schemes[0].HMAC, i.Provider.Schemes[0].Ed25519 = nil, &sdk.Ed25519{Headers: []string{"x"}}
		}, "ed25519: encoding is missing"},
		{"no scheme kind", validDecoder(), func(i *core.PluginInfo) { i.Provider.Schemes[0].HMAC = nil }, "must be set, got 0"},
		{"token in body", validDecoder(), func(i *core.PluginInfo) {
			i.Provider.Schemes[0].HMAC, i.Provider.Schemes[0].Token = nil, &sdk.Token{Part: sdk.Part{Kind: sdk.PartBody}}
		}, "cannot hold a token"},
		{"scheme none", validDecoder(), func(i *core.PluginInfo) { i.Provider.Schemes[0].Name = "none" }, "belongs to the host"},
		{"scheme attribute", validDecoder(), func(i *core.PluginInfo) { i.Provider.Schemes[0].Attribute = "path" }, `"path" belongs`},
		{"scheme secrets", validDecoder(), func(i *core.PluginInfo) { i.Provider.Schemes[0].Attribute = "secrets" }, ""},
		{"allow list", validDecoder(), func(i *core.PluginInfo) { i.Provider.Schemes[0].Allow[0].Attribute = "tenant" }, `"tenant" belongs`},
		{"signature header", validDecoder(), func(i *core.PluginInfo) { i.Provider.Schemes[0].HMAC.Headers = nil }, "headers is empty"},
		{"part", validDecoder(), func(i *core.PluginInfo) { i.Provider.Dedupe[0][0].Kind = "cookie" }, `unknown kind of part "cookie"`},
		{"pointer", validDecoder(), func(i *core.PluginInfo) { i.Provider.Dedupe[0][0].Name = "id" }, `JSON pointer "id" does not start with /`},
		{"method", validDecoder(), func(i *core.PluginInfo) { i.Provider.Methods = []string{"post"} }, "no HTTP method"},
		{"content type", validDecoder(), func(i *core.PluginInfo) { i.Provider.ContentTypes = []string{"a/b; c=d"} }, "no media type"},
		{"address", validDecoder(), func(i *core.PluginInfo) { i.Provider.Addresses = []string{"10.0.0"} }, "neither an IP"},
		{"reply", validDecoder(), func(i *core.PluginInfo) { i.Provider.Reply.Status = 404 }, "status 404"},
		{"event prefix", validDecoder(), func(i *core.PluginInfo) { i.Provider.Events[0].Type = "store.x" }, "does not begin with"},
		{"event type", validDecoder(), func(i *core.PluginInfo) { i.Provider.Events[0].Type = "shop.Order" }, "is not made of parts"},
		{"event data", validDecoder(), func(i *core.PluginInfo) { i.Provider.Events[0].Data.Kind = "" }, "unknown kind"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change(test.info)
			err := checkInfo(test.info)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestCheckType(t *testing.T) {
	for typ, ok := range map[string]bool{
		"shop.order.made": true, "shop.a_1": true, "shop": false, "shop.": false, "shop..a": false, ".shop.a": false,
		"shopping.a": false, "shop.a\x00": false, "shop.ä": false, "": false, "shop." + strings.Repeat("a", 200): false,
	} {
		if got := checkType(typ, "shop") == ""; got != ok {
			t.Errorf("checkType(%q) = %q", typ, checkType(typ, "shop"))
		}
	}
}

func TestRFC3339(t *testing.T) {
	for s, ok := range map[string]bool{
		"2026-01-02T03:04:05Z": true, "2026-01-02T03:04:05.1Z": true, "2026-01-02T03:04:05.123456789+01:00": true,
		"2026-01-02T03:04:05.1234567890Z": false, "2026-01-02T03:04:05": false, "2026-01-02 03:04:05Z": false,
		"2026-01-02T3:04:05Z": false, "2026-01-02t03:04:05z": false, "2026-13-02T03:04:05Z": false, "2026-01-02T03:04:05,1Z": false,
		"": false, "yesterday": false,
	} {
		if got := isRFC3339(s); got != ok {
			t.Errorf("isRFC3339(%q) = %v", s, got)
		}
	}
}
