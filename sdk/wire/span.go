package wire

import (
	"time"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// MaxSpans is how many spans of one item the host takes, and MaxSpanName how much of a name, in bytes.
const (
	MaxSpans    = 32
	MaxSpanName = 64
)

func spansToProto(in []sdk.Span) []*pluginv1.Span {
	if len(in) == 0 {
		return nil
	}
	out := make([]*pluginv1.Span, len(in))
	for i := range in {
		s := &in[i]
		out[i] = &pluginv1.Span{
			Id: s.ID[:], Name: text(s.Name), Start: s.Start.UnixNano(), Duration: int64(s.Took), Failed: s.Failed,
		}
		if s.Parent != ([8]byte{}) {
			out[i].ParentId = s.Parent[:]
		}
	}
	return out
}

// spansFromProto leaves out what is no span.
func spansFromProto(in []*pluginv1.Span) []sdk.Span {
	var out []sdk.Span
	for _, p := range in {
		if s, ok := SpanFromProto(p); ok && len(out) < MaxSpans {
			out = append(out, s)
		}
	}
	return out
}

// SpanFromProto converts a span; not ok: its ids are none, or its duration is negative. The name comes as it is.
func SpanFromProto(p *pluginv1.Span) (s sdk.Span, ok bool) {
	if len(p.GetId()) != len(s.ID) || len(p.GetParentId()) != 0 && len(p.GetParentId()) != len(s.Parent) || p.GetDuration() < 0 {
		return s, false
	}
	copy(s.ID[:], p.GetId())
	copy(s.Parent[:], p.GetParentId())
	s.Name, s.Start, s.Took, s.Failed = p.GetName(), time.Unix(0, p.GetStart()).UTC(), time.Duration(p.GetDuration()), p.GetFailed()
	return s, s.ID != [8]byte{}
}
