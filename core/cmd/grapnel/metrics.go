package main

import (
	"context"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/metrics"
)

// read tells the metrics where the host stands.
func (h *host) read(r *metrics.Reading) {
	in := h.ingress.Stats()
	for name, c := range in.Sources {
		r.Sources = append(r.Sources, metrics.SourceReading{
			Source: name, Accepted: c.Accepted, Duplicates: c.Duplicates, Reopened: c.Reopened, Handshakes: c.Handshakes,
			Rejected: c.Rejected,
		})
	}
	r.Nowhere = in.Rejected
	var err error
	if r.Stored, err = h.store.Stats(context.Background()); err != nil {
		h.log.Debug("cannot read the store's counts", "error", err)
	}
}

// rates shows the last hour.
func (h *host) rates() admin.Rates {
	m := h.metrics.Rates()
	v := admin.Rates{
		Start: m.Start, StepSeconds: int(metrics.Step.Seconds()), Since: m.Since, Nowhere: m.Nowhere,
		Sources: make([]admin.SourceRates, len(m.Sources)), Routes: make([]admin.RouteRates, len(m.Routes)),
		Sinks: make([]admin.SinkRates, len(m.Sinks)),
	}
	for i, s := range m.Sources {
		v.Sources[i] = admin.SourceRates(s)
	}
	for i, r := range m.Routes {
		v.Routes[i] = admin.RouteRates(r)
	}
	for i, s := range m.Sinks {
		v.Sinks[i] = admin.SinkRates(s)
	}
	return v
}
