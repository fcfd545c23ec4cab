package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/store"
)

// running is what the host runs by. A reload puts another one in its place: who needs two things that fit together takes
// both from one.
type running struct {
	cfg     *config.Config
	said    *config.Diagnostics // by the load; nil: not known
	table   *route.Table
	sinks   map[string]*pluginhost.Sink
	sources map[string]*pluginhost.Decoder
}

func newRunning(cfg *config.Config, said *config.Diagnostics) *running {
	return &running{
		cfg: cfg, said: said, table: routeTable(cfg),
		sinks: map[string]*pluginhost.Sink{}, sources: map[string]*pluginhost.Decoder{},
	}
}

// wire opens the plugins and makes engine and ingress.
func (h *host) wire(ctx context.Context) error {
	next := h.current.Load()
	b := &build{host: h, next: next}
	if err := errors.Join(b.open(ctx)...); err != nil {
		return err
	}
	states, err := h.sinkStates(ctx, next.cfg.Sinks)
	if err != nil {
		return err
	}
	h.engine = engine.New(engine.Options{
		Store: h.tail.Store(h.store), Logger: h.log.Named("engine"), Sinks: b.engineSinks(states), Sources: b.engineSources(),
	})
	srv := next.cfg.Server
	icfg := ingress.Config{
		Listen: srv.Listen, TrustedProxies: srv.TrustedProxies, Endpoints: b.endpoints,
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

// build opens what a configuration needs: all of it at the start, and beside what runs, what that does not have, for a
// reload.
type build struct {
	*host
	old, next *running // old: nil at the start
	endpoints []ingress.Endpoint

	mu     sync.Mutex
	opened []*pluginhost.Handle // by this build
	late   []string             // what cannot be opened yet, in words
}

// blockError is why a block cannot be opened.
type blockError struct {
	kind core.PluginKind
	name string
	at   config.Range
	err  error
}

// Error implements error.
func (e *blockError) Error() string {
	what := "sink"
	if e.kind == core.PluginDecoder {
		what = "source"
	}
	return fmt.Sprintf("%s: %s %q: %v", e.at, what, e.name, e.err)
}

// Unwrap implements errors.Unwrap.
func (e *blockError) Unwrap() error { return e.err }

// open fills next. At the start, a block that its plugin refuses waits; in a reload it is a mistake.
func (b *build) open(ctx context.Context) []error {
	cfg := b.next.cfg
	errs := make([]error, len(cfg.Sinks)+len(cfg.Sources))
	sinks, sources := make([]*pluginhost.Sink, len(cfg.Sinks)), make([]*pluginhost.Decoder, len(cfg.Sources))
	b.endpoints = make([]ingress.Endpoint, len(cfg.Sources))
	var opening sync.WaitGroup
	for i, s := range cfg.Sinks {
		opening.Go(func() {
			var err error
			if sinks[i], err = b.sink(ctx, s); err != nil {
				errs[i] = &blockError{core.PluginSink, s.Name, s.Range, err}
			}
		})
	}
	for i, s := range cfg.Sources {
		opening.Go(func() {
			var err error
			if sources[i], err = b.source(ctx, s); err == nil {
				b.endpoints[i], err = endpoint(s, cfg.Server.Limits.Rate)
				b.endpoints[i].Observer = b.metrics.Source(s.Name)
			}
			if err != nil {
				errs[len(cfg.Sinks)+i] = &blockError{core.PluginDecoder, s.Name, s.Range, err}
			}
		})
	}
	opening.Wait()
	for i, s := range cfg.Sinks {
		b.next.sinks[s.Name] = sinks[i]
	}
	for i, s := range cfg.Sources {
		b.next.sources[s.Name] = sources[i]
	}
	return errs
}

// sink returns the sink of a block: the one that runs if nothing of it has changed that its plugin sees.
func (b *build) sink(ctx context.Context, s config.Sink) (*pluginhost.Sink, error) {
	if b.old != nil {
		for _, was := range b.old.cfg.Sinks {
			plugin := b.old.sinks[s.Name]
			if was.Name == s.Name && was.Plugin == s.Plugin && string(was.Config) == string(s.Config) &&
				was.Isolated == s.Isolated && isChosen(&plugin.Handle, was.Info, s.Info) {
				return plugin, nil
			}
		}
		if err := b.choose(ctx, core.PluginSink, s.Plugin, s.Info); err != nil {
			return nil, err
		}
	}
	plugin, err := b.plugins.OpenSink(ctx, s.Name, s.Plugin, s.Config,
		pluginhost.SinkOptions{Isolated: s.Isolated, Wait: b.old == nil})
	if err != nil {
		return nil, err
	}
	b.note(&plugin.Handle, fmt.Sprintf("sink %q cannot be opened yet", s.Name))
	if why := plugin.Reason(); why != "" {
		b.log.Error("a sink cannot be opened yet, its deliveries wait", "sink", s.Name, "at", s.Range.String(), "reason", why)
	}
	return plugin, nil
}

// source is sink for a source's decoder.
func (b *build) source(ctx context.Context, s config.Source) (*pluginhost.Decoder, error) {
	if b.old != nil {
		for _, was := range b.old.cfg.Sources {
			plugin := b.old.sources[s.Name]
			if was.Name == s.Name && was.Plugin == s.Plugin && string(was.Config) == string(s.Config) &&
				was.Isolated == s.Isolated && reflect.DeepEqual(was.Info.Provider, s.Info.Provider) &&
				isChosen(&plugin.Handle, was.Info, s.Info) {
				return plugin, nil
			}
		}
		if err := b.choose(ctx, core.PluginDecoder, s.Plugin, s.Info); err != nil {
			return nil, err
		}
	}
	plugin, err := b.plugins.OpenDecoder(ctx, s.Name, s.Plugin, s.Config, pluginhost.DecoderOptions{
		Isolated: s.Isolated, Wait: b.old == nil, Provider: s.Info.Provider.Name, Manifest: s.Info.Provider,
	})
	if err != nil {
		return nil, err
	}
	b.note(&plugin.Handle, fmt.Sprintf("the decoder of source %q cannot be opened yet", s.Name))
	if why := plugin.Reason(); why != "" {
		b.log.Error("a source's decoder cannot be opened yet, its requests wait", "source", s.Name, "at", s.Range.String(),
			"reason", why)
	}
	return plugin, nil
}

// note remembers what was opened.
func (b *build) note(hd *pluginhost.Handle, late string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened = append(b.opened, hd)
	if why := hd.Reason(); why != "" {
		b.late = append(b.late, late+": "+why)
	}
}

// isChosen reports whether a block runs in the program that its configuration chooses. Where the configuration chooses what
// it chose before, an upgrade since then stands.
func isChosen(hd *pluginhost.Handle, was, now *core.PluginInfo) bool {
	return was.SHA256 == now.SHA256 || hd.Program().SHA256 == now.SHA256 && hd.Made().SHA256 == now.SHA256
}

// choose has the plugin host open the program that the configuration was checked with.
func (b *build) choose(ctx context.Context, kind core.PluginKind, name string, want *core.PluginInfo) error {
	info, err := b.plugins.Describe(ctx, kind, name)
	if err == nil && info.SHA256 != want.SHA256 {
		err = fmt.Errorf("the program %s was replaced while the configuration was loaded", info.Path)
	}
	return err
}

// abandon closes what was opened.
func (b *build) abandon() {
	closeAll(b.opened)
}

// closeAll closes blocks that nobody calls any more, or not for long.
func closeAll(handles []*pluginhost.Handle) {
	var closing sync.WaitGroup
	for _, hd := range handles {
		closing.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), closePatience)
			defer cancel()
			_ = hd.Close(ctx) // what its calls come to is theirs
		})
	}
	closing.Wait()
}

// closePatience is how long a block's last calls may take when it is closed.
const closePatience = 35 * time.Second

// left lists what runs and does not go on.
func (b *build) left() []*pluginhost.Handle {
	var left []*pluginhost.Handle
	for name, s := range b.old.sinks {
		if b.next.sinks[name] != s {
			left = append(left, &s.Handle)
		}
	}
	for name, s := range b.old.sources {
		if b.next.sources[name] != s {
			left = append(left, &s.Handle)
		}
	}
	return left
}

func (b *build) engineSinks(states map[string]store.SinkState) []engine.Sink {
	cfg, table := b.next.cfg, b.next.table
	sinks := make([]engine.Sink, len(cfg.Sinks))
	for i, s := range cfg.Sinks {
		sinks[i] = engine.Sink{
			Name: s.Name, Plugin: b.next.sinks[s.Name],
			Concurrency: s.Delivery.Concurrency, Batch: s.Delivery.Batch, Timeout: s.Delivery.Timeout,
			Retry: engine.RetryPolicy{
				MaxAttempts: s.Delivery.Retry.MaxAttempts, MaxAge: s.Delivery.Retry.MaxAge,
				Min: s.Delivery.Retry.Min, Max: s.Delivery.Retry.Max,
			},
			Rate: s.Delivery.Rate, HoldDead: s.Delivery.HoldDead,
			Breaker: engine.BreakerPolicy{
				Failures: cmp.Or(s.Delivery.Breaker.Failures, -1), Min: s.Delivery.Breaker.Min, Max: s.Delivery.Breaker.Max,
			},
			WantsState: s.Info.WantState, State: states[s.Name], Renew: renew(b.store, table.Renderer()), Digest: cfg.Digest,
			Locate:   func(route string, path []string) string { return table.Locate(route, s.Name, path) },
			Observer: b.metrics.Sink(s.Name), Tracer: b.engineTracer(),
		}
	}
	return sinks
}

func (b *build) engineSources() []engine.Source {
	sources := make([]engine.Source, len(b.next.cfg.Sources), len(b.next.cfg.Sources)+1)
	for i, s := range b.next.cfg.Sources {
		sources[i] = engine.Source{
			Name: s.Name, Decoder: b.next.sources[s.Name], Router: b.next.table.Router(s.Name).Observe(b.routeObserver),
			Observer: b.metrics.Source(s.Name), Tracer: b.engineTracer(),
		}
	}
	return append(sources, b.builtinSource())
}

// sinkStates reads what is kept about the sinks. Those of the given ones that are not to hold order keys let them go.
func (h *host) sinkStates(ctx context.Context, sinks []config.Sink) (map[string]store.SinkState, error) {
	for _, s := range sinks {
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
