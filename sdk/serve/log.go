package serve

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// levelTrace is below slog's lowest named level.
const levelTrace = slog.LevelDebug - 4

// levels are the words of wire.CallContext.
var levels = map[string]slog.Level{
	wire.LogTrace: levelTrace,
	wire.LogDebug: slog.LevelDebug,
	wire.LogInfo:  slog.LevelInfo,
	wire.LogWarn:  slog.LevelWarn,
	wire.LogError: slog.LevelError,
}

// newLogHandler writes one JSON object per line, at the level that the host asked for in its last call, with the
// attributes of the call that ctx belongs to.
func newLogHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return callHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key != slog.LevelKey || len(groups) > 0 {
				return a
			}
			l, ok := a.Value.Any().(slog.Level)
			switch {
			case !ok:
			case l < slog.LevelDebug:
				a.Value = slog.StringValue(wire.LogTrace)
			default:
				word, _, _ := strings.Cut(strings.ToLower(l.String()), "+")
				a.Value = slog.StringValue(word)
			}
			return a
		},
	})}
}

// callKey is the context key of a call's log attributes.
type callKey struct{}

// withCall gives ctx the attributes of its log lines.
func withCall(ctx context.Context, attrs ...slog.Attr) context.Context {
	return context.WithValue(ctx, callKey{}, attrs)
}

// callHandler adds the attributes of the call to each record.
type callHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h callHandler) Handle(ctx context.Context, r slog.Record) error {
	if attrs, ok := ctx.Value(callKey{}).([]slog.Attr); ok {
		r = r.Clone()
		r.AddAttrs(attrs...)
	}
	if id := traceID(sdk.Trace(ctx)); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

// traceID cuts the trace id out of a traceparent.
func traceID(traceparent string) string {
	const from, to = len("00-"), len("00-") + 32
	if len(traceparent) < to {
		return ""
	}
	return traceparent[from:to]
}

// WithAttrs implements slog.Handler.
func (h callHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return callHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h callHandler) WithGroup(name string) slog.Handler {
	return callHandler{h.Handler.WithGroup(name)}
}
