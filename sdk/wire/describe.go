package wire

import (
	"fmt"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// Description is what a plugin says about itself. Exactly one of Sink and Provider is set.
type Description struct {
	Name         string
	Version      string // semantic version without v, or "devel"
	Description  string
	Config       sdk.Schema
	Capabilities []string
	Sink         *sdk.SinkInfo // its Name and Description repeat those above
	Message      sdk.Schema    // of a sink
	Provider     *sdk.Provider
}

// DescriptionToProto converts a description; see ProviderToProto and SchemaToProto for the error.
func DescriptionToProto(d *Description) (*pluginv1.DescribeResponse, error) {
	var p problems
	out := &pluginv1.DescribeResponse{
		Name:         text(d.Name),
		Version:      text(d.Version),
		Description:  text(d.Description),
		Config:       p.schemaToProto("configuration", &d.Config),
		Capabilities: texts(d.Capabilities),
	}
	if d.Sink != nil {
		out.Kind = pluginv1.PluginKind_PLUGIN_KIND_SINK
		out.Sink = &pluginv1.SinkInfo{
			Message:    p.schemaToProto("message", &d.Message),
			MaxBatch:   int32(d.Sink.MaxBatch),
			WantsData:  d.Sink.Data,
			WantsState: d.Sink.State,
		}
	}
	if d.Provider != nil {
		out.Kind = pluginv1.PluginKind_PLUGIN_KIND_DECODER
		provider, err := ProviderToProto(d.Provider)
		if err != nil {
			p = append(p, err)
		}
		out.Provider = provider
	}
	if (d.Sink == nil) == (d.Provider == nil) {
		p.addf("a plugin is either a sink or a decoder")
	}
	return out, p.err()
}

// DescriptionFromProto converts a description. The error says what this version does not understand of it.
func DescriptionFromProto(in *pluginv1.DescribeResponse) (*Description, error) {
	var p problems
	out := &Description{
		Name:         in.GetName(),
		Version:      in.GetVersion(),
		Description:  in.GetDescription(),
		Config:       p.schemaFromProto("configuration", in.GetConfig(), 0),
		Capabilities: in.GetCapabilities(),
	}
	switch in.GetKind() {
	case pluginv1.PluginKind_PLUGIN_KIND_SINK:
		out.Message = p.schemaFromProto("message", in.GetSink().GetMessage(), 0)
		out.Sink = &sdk.SinkInfo{
			Name:        in.GetName(),
			Description: in.GetDescription(),
			MaxBatch:    int(in.GetSink().GetMaxBatch()),
			Data:        in.GetSink().GetWantsData(),
			State:       in.GetSink().GetWantsState(),
		}
	case pluginv1.PluginKind_PLUGIN_KIND_DECODER:
		provider, err := ProviderFromProto(in.GetProvider())
		if err != nil {
			p = append(p, fmt.Errorf("manifest: %w", err))
		}
		out.Provider = provider
	default:
		p.addf("unknown kind of plugin %d", in.GetKind())
	}
	return out, p.err()
}
