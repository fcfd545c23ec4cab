package main

import (
	"context"
	"time"

	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/tracing"
)

// lastSpans is how long the host's end may wait for the export of what is left of traces.
const lastSpans = 5 * time.Second

// startTracing begins to trace, if the configuration says so. stop exports what is left, within lastSpans.
func (h *host) startTracing(ctx context.Context) (stop func(), err error) {
	c := h.config().Tracing
	switch {
	case c == nil:
		return func() {}, nil
	case tracing.Disabled():
		h.log.Info("the environment switches tracing off", "variables", "OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER")
		return func() {}, nil
	}
	h.tracing, err = tracing.New(ctx, tracing.Options{
		Endpoint: c.Endpoint, Headers: c.Headers, Sample: c.Sample, Version: version, Logger: h.log.Named("tracing"),
	})
	if err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
		defer cancel()
		h.tracing.Close(ctx)
		s := h.tracing.Stats()
		h.log.Debug("tracing ends", "exported", s.Exported, "dropped", s.Dropped, "failed", s.Failed)
	}, nil
}

// engineTracer is the tracing for the engine; nil: nothing is traced.
func (h *host) engineTracer() engine.Tracer {
	if h.tracing == nil {
		return nil
	}
	return h.tracing
}
