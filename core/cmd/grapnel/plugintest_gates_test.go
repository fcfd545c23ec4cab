//go:build unix

package main

import (
	"context"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/sdk"
)

// thing is a provider whose manifest is good.
func thing(change func(*sdk.Provider)) *sdk.Provider {
	id := sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}
	sample := func(body string) sdk.Sample {
		return sdk.Sample{Body: []byte(body), Vary: []sdk.Variation{{Part: id, Kind: sdk.VaryID}}}
	}
	p := &sdk.Provider{
		Name: "thing", Title: "Thing", Dedupe: []sdk.DedupeKey{{id}},
		Events: []sdk.EventType{
			{Type: "thing.made", Samples: []sdk.Sample{sample(`{"id": "a1"}`)}},
			{Type: "thing.gone", Samples: []sdk.Sample{sample(`{"id": "a2"}`)}},
		},
	}
	for _, name := range sdk.Presets() {
		scheme, _ := sdk.Preset(name)
		p.Schemes = append(p.Schemes, scheme)
	}
	if change != nil {
		change(p)
	}
	return p
}

// TestGateChecks has a manifest with every scheme there is, and some with a fault.
func TestGateChecks(t *testing.T) {
	query := func(name string) sdk.Part { return sdk.Part{Kind: sdk.PartQuery, Name: name} }
	signedHeader := sdk.Scheme{Name: "odd", HMAC: &sdk.HMAC{
		Headers: []string{"X-Sig"}, Encoding: sdk.Hex, Timestamp: &sdk.Timestamp{Headers: []string{"X-Time"}},
		SignedContent: []sdk.Part{{Kind: sdk.PartHeader, Name: "X-Time"}, {Kind: sdk.PartHeader, Name: "X-Id"},
			{Kind: sdk.PartBody}},
	}}
	for name, c := range map[string]struct {
		change func(*sdk.Provider)
		want   []string // each in a finding
	}{
		"good": {},
		"good handshakes": {change: func(p *sdk.Provider) {
			p.Handshake = &sdk.Handshake{
				Method: "POST", When: []sdk.Condition{{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/event"},
					Equals: "url_check"}},
				Echo: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/payload/plain"}, Member: "plain",
				Proof: &sdk.Proof{Member: "encrypted", Encoding: sdk.Hex},
			}
			p.Schemes = p.Schemes[:1]
		}},
		"a key that is none": {func(p *sdk.Provider) {
			p.Dedupe = []sdk.DedupeKey{{{Kind: sdk.PartHeader,
				Name: "Content-Type"}}}
		}, []string{
			"the samples thing.made and thing.gone have the same dedupe key, but the dedupe key is the same for a " +
				"repeat, and for nothing else",
			"a copy of the sample thing.made with other values has the same dedupe key",
		}},
		"a key that changes": {func(p *sdk.Provider) {
			stripe, _ := sdk.Preset("standard_webhooks")
			p.Schemes = []sdk.Scheme{stripe}
			p.Dedupe = []sdk.DedupeKey{{{Kind: sdk.PartHeader, Name: "webhook-timestamp"}}}
			for i := range p.Events {
				p.Events[i].Samples[0].Headers = []sdk.Header{{Name: "Svix-Id", Value: "m1"}}
			}
		}, []string{"the sample thing.made has another dedupe key a minute later"}},
		"a header that is not kept": {func(p *sdk.Provider) {
			s := &p.Events[0].Samples[0]
			s.Headers = []sdk.Header{{Name: "X-Event", Value: "made"}}
		}, []string{"the sample thing.made has the header X-Event, which the host does not keep, but"}},
		"a body that is not JSON": {func(p *sdk.Provider) { p.Events[0].Samples[0].Body = []byte(`{"id": 1`) }, []string{
			"the host refuses the sample thing.made with 400",
		}},
		"another content type": {func(p *sdk.Provider) {
			p.Events[0].Samples[0].Headers = []sdk.Header{{Name: "Content-Type", Value: "text/xml"}}
		}, []string{"the host refuses the sample thing.made with 415"}},
		"a handshake that eats webhooks": {func(p *sdk.Provider) {
			p.Handshake = &sdk.Handshake{
				Method: "POST", When: []sdk.Condition{{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}}},
				Echo: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"},
			}
		}, []string{"the sample thing.made is taken for a handshake, but"}},
		"a handshake that cannot be": {func(p *sdk.Provider) {
			p.Handshake = &sdk.Handshake{Echo: query("a"), When: []sdk.Condition{
				{Part: query("b"), Equals: "1"}, {Part: query("b"), Equals: "2"},
			}}
		}, []string{"a request that meets the handshake's conditions is not answered"}},
		"a variation of nothing": {func(p *sdk.Provider) { p.Events[0].Samples[0].Vary[0].Part.Name = "/no" }, []string{
			"the sample thing.made cannot be copied",
		}},
		"a signature that is not signed": {func(p *sdk.Provider) {
			p.Schemes = []sdk.Scheme{{Name: "odd", HMAC: &sdk.HMAC{
				Headers: []string{"X-Sig"}, Encoding: sdk.Hex, SignedContent: []sdk.Part{{Kind: sdk.PartQuery, Name: "q"},
					{Kind: sdk.PartBody}},
			}}}
		}, []string{"the sample thing.made cannot be signed"}},
		"a signed header that no sample has": {func(p *sdk.Provider) { p.Schemes = []sdk.Scheme{signedHeader} }, []string{
			"samples: the sample thing.made cannot be signed (the sample of thing.made lacks the header X-Id that the scheme " +
				"signs: add it to the sample (Go: Sample.Headers; decoder json: sample = { headers = { \"X-Id\" = \"…\" } }))",
			"auth odd: the sample thing.made cannot be signed (the sample of thing.made lacks the header X-Id",
		}},
		"a signed header beside presets": {func(p *sdk.Provider) { p.Schemes = append(p.Schemes, signedHeader) }, []string{
			"auth odd: the sample thing.made cannot be signed (the sample of thing.made lacks the header X-Id",
		}},
		"a signed header that all samples have": {change: func(p *sdk.Provider) {
			p.Schemes = []sdk.Scheme{signedHeader}
			for i := range p.Events {
				p.Events[i].Samples[0].Headers = []sdk.Header{{Name: "x-id", Value: "1"}}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var found []string
			for _, check := range gateChecks(thing(c.change)) {
				for _, f := range check.Run(context.Background()) {
					found = append(found, check.Name+": "+f.String())
				}
			}
			all := strings.Join(found, "\n")
			if len(c.want) == 0 && all != "" {
				t.Error(all)
			}
			for _, want := range c.want {
				if !strings.Contains(all, want) {
					t.Errorf("no finding %q in\n%s", want, all)
				}
			}
		})
	}
}

// TestGatesOfPlugins takes the samples of all decoders of the repository through the gates.
func TestGatesOfPlugins(t *testing.T) {
	dir := programs.PluginDir(t)
	host, err := pluginhost.New(pluginhost.Options{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close(t.Context())
	found, err := pluginhost.Discover(dir)
	if err != nil {
		t.Fatal(err)
	}
	decoders := 0
	for _, b := range found {
		info, err := host.Describe(t.Context(), b.Kind, b.Name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Provider == nil {
			continue
		}
		decoders++
		for _, check := range gateChecks(info.Provider) {
			for _, f := range check.Run(t.Context()) {
				t.Errorf("%s: %s: %s", b.Name, check.Name, f)
			}
		}
	}
	if decoders < 3 {
		t.Errorf("only %d decoders", decoders)
	}
}

// TestPluginTestOfModule has the folder of a Go module with the options beside go.mod.
func TestPluginTestOfModule(t *testing.T) {
	var out strings.Builder
	root := newRoot()
	root.SetOut(&out)
	root.SetArgs([]string{"plugin", "test", "../../../examples/sink-chat"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"ok    module: go test", "ok    module: go build", "ok    program: slow",
		"ok    host: describe", "checks passed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
