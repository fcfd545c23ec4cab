package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/store"
)

// wire opens the plugins and makes engine and ingress.
func (h *host) wire(ctx context.Context) error {
	cfg, table := h.config(), h.table()
	opt := engine.Options{
		Store: h.tail.Store(h.store), Logger: h.log.Named("engine"),
		Sinks: make([]engine.Sink, len(cfg.Sinks)), Sources: make([]engine.Source, len(cfg.Sources)),
	}
	endpoints := make([]ingress.Endpoint, len(cfg.Sources))

	states, err := h.sinkStates(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(cfg.Sinks)+len(cfg.Sources))
	var opening sync.WaitGroup
	for i, s := range cfg.Sinks {
		opening.Go(func() {
			plugin, err := h.plugins.OpenSink(ctx, s.Name, s.Plugin, s.Config,
				pluginhost.SinkOptions{Isolated: s.Isolated, Wait: true})
			if err != nil {
				errs[i] = fmt.Errorf("%s: sink %q: %w", s.Range, s.Name, err)
				return
			}
			if why := plugin.Reason(); why != "" {
				h.log.Error("a sink cannot be opened yet, its deliveries wait", "sink", s.Name, "at", s.Range.String(), "reason", why)
			}
			opt.Sinks[i] = engine.Sink{
				Name: s.Name, Plugin: plugin,
				Concurrency: s.Delivery.Concurrency, Batch: s.Delivery.Batch, Timeout: s.Delivery.Timeout,
				Retry: engine.RetryPolicy{
					MaxAttempts: s.Delivery.Retry.MaxAttempts, MaxAge: s.Delivery.Retry.MaxAge,
					Min: s.Delivery.Retry.Min, Max: s.Delivery.Retry.Max,
				},
				Rate: s.Delivery.Rate, HoldDead: s.Delivery.HoldDead,
				Breaker: engine.BreakerPolicy{
					Failures: cmp.Or(s.Delivery.Breaker.Failures, -1), Min: s.Delivery.Breaker.Min, Max: s.Delivery.Breaker.Max,
				},
				WantsState: s.Info.WantState, State: states[s.Name], Renew: renew(h.store, table.Renderer()),
				Locate:   func(route string, path []string) string { return table.Locate(route, s.Name, path) },
				Observer: h.metrics.Sink(s.Name), Tracer: h.engineTracer(),
			}
		})
	}
	for i, s := range cfg.Sources {
		opening.Go(func() {
			plugin, err := h.plugins.OpenDecoder(ctx, s.Name, s.Plugin, s.Config,
				pluginhost.DecoderOptions{
					Isolated: s.Isolated, Wait: true, Provider: s.Info.Provider.Name, Manifest: s.Info.Provider,
				})
			if err == nil {
				endpoints[i], err = endpoint(s, cfg.Server.Limits.Rate)
			}
			if err != nil {
				errs[len(cfg.Sinks)+i] = fmt.Errorf("%s: source %q: %w", s.Range, s.Name, err)
				return
			}
			if why := plugin.Reason(); why != "" {
				h.log.Error("a source's decoder cannot be opened yet, its requests wait", "source", s.Name, "at", s.Range.String(),
					"reason", why)
			}
			opt.Sources[i] = engine.Source{
				Name: s.Name, Decoder: plugin, Router: table.Router(s.Name), Observer: h.metrics.Source(s.Name),
				Tracer: h.engineTracer(),
			}
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	opt.Sources = append(opt.Sources, h.builtinSource())
	h.engine = engine.New(opt)

	srv := cfg.Server
	icfg := ingress.Config{
		Listen: srv.Listen, TrustedProxies: srv.TrustedProxies, Endpoints: endpoints,
		Limits: ingress.Limits{
			MaxBody: srv.Limits.MaxBody, MaxHeader: srv.Limits.MaxHeader, ReadHeaderTimeout: srv.Limits.HeaderTimeout,
			BodyTimeout: srv.Limits.ReadTimeout, IdleTimeout: srv.Limits.IdleTimeout, MaxConns: srv.Limits.Connections,
		},
		Acceptor: h.store, Rejections: h.tail.Store(h.store), Admit: h.admit, Logger: h.log.Named("ingress"),
	}
	if h.tracing != nil {
		icfg.Tracer = h.tracing
	}
	if srv.TLS != nil {
		icfg.CertFile, icfg.KeyFile = srv.TLS.Cert, srv.TLS.Key
	}
	h.ingress, err = ingress.New(icfg)
	return err
}

// sinkStates reads what is kept about the sinks. A sink that is not to hold order keys any more lets them go.
func (h *host) sinkStates(ctx context.Context) (map[string]store.SinkState, error) {
	for _, s := range h.config().Sinks {
		if !s.Delivery.HoldDead {
			if err := h.store.ReleaseHeld(ctx, s.Name); err != nil {
				return nil, err
			}
		}
	}
	return h.store.Sinks(ctx)
}

// routes hands a configuration's routes to the table, each message with the order of its sink.
func routes(cfg *config.Config) []route.Route {
	sinks := map[string]config.Sink{}
	for _, s := range cfg.Sinks {
		sinks[s.Name] = s
	}
	all := make([]route.Route, len(cfg.Routes))
	for i, r := range cfg.Routes {
		all[i] = route.Route{Name: r.Name, Sources: r.Sources, On: r.On, When: r.When, Range: r.Range.String()}
		for _, to := range r.To {
			all[i].To = append(all[i].To, route.To{
				Sink: to.Sink, Message: to.Message, OrderBy: cmp.Or(to.OrderBy, sinks[to.Sink].Delivery.OrderBy),
				SchemaDigest: to.SchemaDigest, Range: to.Range.String(),
			})
		}
	}
	return all
}

// endpoint makes a source's endpoint out of its block and its decoder's manifest.
func endpoint(s config.Source, rate float64) (ingress.Endpoint, error) {
	p := s.Info.Provider
	e := ingress.Endpoint{
		Source: s.Name, Tenant: s.Tenant, Path: s.Path, Methods: p.Methods, ContentTypes: p.ContentTypes, AllowIPs: s.AllowIPs,
		KeepHeaders: p.Headers, Dedupe: p.Dedupe, Reply: p.Reply, MaxBody: s.MaxBody,
		Rate: rate, Schemes: p.Schemes,
	}
	var err error
	if p.Handshake != nil {
		if e.Handshake, err = auth.NewHandshake(*p.Handshake, p.Methods, s.Scheme, s.Secrets); err != nil {
			return e, err
		}
	}
	if s.Scheme == nil {
		e.Unsigned = true
		return e, nil
	}
	e.Verifier, err = auth.New(*s.Scheme, s.Secrets, s.Allow)
	return e, err
}
