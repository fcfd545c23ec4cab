package pluginhost

import (
	"strings"

	"github.com/grapnelhq/grapnel/core"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// spans checks what the plugin measured of an item. Nobody asked for it where the item's trace is not sampled; what is no
// span is left out.
func (p *process) spans(traceparent string, in []*pluginv1.Span) []core.Span {
	if !strings.HasSuffix(traceparent, "-01") {
		return nil
	}
	in = in[:min(len(in), wire.MaxSpans)]
	out := make([]core.Span, 0, len(in))
	for _, m := range in {
		s, ok := wire.SpanFromProto(m)
		if !ok {
			continue
		}
		if s.Name = clip(clean(p.redact.text(s.Name)), wire.MaxSpanName); s.Name == "" {
			continue
		}
		out = append(out, core.Span{
			Plugin: "grapnel-" + string(p.info.Kind) + "-" + p.info.Name, Version: p.info.Version, Span: s,
		})
	}
	return out
}
