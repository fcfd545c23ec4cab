package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the host",
		Long: `Run the host until it gets SIGINT or SIGTERM. It then refuses new webhooks, lets what is under way end, and stops;
what waits is in the store and goes on with the next start.

The files of server { tls {} } are read again when they change, and at once on SIGHUP.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	profile := c.Flags().String("cpuprofile", "", "write a CPU profile to this `file`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := loadConfig(c, *path)
		if err != nil {
			return err
		}
		if *profile != "" {
			f, err := os.Create(*profile)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
			defer pprof.StopCPUProfile()
		}
		h := &host{cfg: cfg, log: newLogger(os.Stderr, cfg.Log), hangup: make(chan os.Signal, 1)}
		if !onTerminal() {
			signal.Notify(h.hangup, syscall.SIGHUP) // to the end: it must not kill a host that starts or stops
		}
		return h.run(c.Context())
	}
	return c
}

// host is one running host: what run starts it also stops, in the opposite order.
type host struct {
	cfg     *config.Config
	log     hclog.Logger
	store   *sqlite.Store
	plugins *pluginhost.Host
	table   *route.Table
	engine  *engine.Engine
	ingress *ingress.Server
	short   atomic.Bool // of disk: nothing is accepted
	hangup  chan os.Signal
}

// run returns when ctx has ended and everything has stopped, or when something could not be started.
func (h *host) run(ctx context.Context) (err error) {
	h.tellWhatStaysOut()
	if h.cfg.Plugins.LockFile == "" {
		h.log.Info("there is no lock file: whatever program the plugins' folder holds is run", "dir", h.cfg.Plugins.Dir,
			"to_write_one", "grapnel plugin lock")
	}
	st := h.cfg.Storage
	if err := os.MkdirAll(filepath.Dir(st.Path), 0o700); err != nil {
		return err
	}
	if err := h.openStore(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.store.Close()) }()

	h.plugins, err = newPluginHost(h.cfg.Plugins, h.cfg.Secrets, h.log)
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.Background(), h.cfg.Server.ShutdownTimeout)
		defer cancel()
		err = errors.Join(err, h.plugins.Close(stop))
	}()
	if err := h.wire(ctx); err != nil {
		return err
	}
	return h.serve(ctx)
}

// commandsEnd is how long a host waits at its start for a command that reads the store without one, such as status.
const commandsEnd = 10 * time.Second

// openStore opens the store, which may have to wait for a command that has it for a moment, but not for another host.
func (h *host) openStore(ctx context.Context) (err error) {
	st := h.cfg.Storage
	for began := time.Now(); ; {
		h.store, err = sqlite.Open(ctx, sqlite.Options{
			Path: st.Path, DedupeWindow: st.DedupeWindow, Logger: h.log.Named("store"),
			// Nothing is accepted or erased before there is an engine.
			OnAccepted: func(rs []*core.Request) { h.engine.Accepted(rs) },
			OnErased:   func(sink string, keys []core.DeliveryKey) { h.engine.Erased(sink, keys) },
		})
		if !errors.Is(err, store.ErrLocked) || time.Since(began) > commandsEnd || admin.Running(filepath.Dir(st.Path)) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// tellWhatStaysOut logs what the configuration switches off.
func (h *host) tellWhatStaysOut() {
	for _, d := range h.cfg.Disabled {
		h.log.Info("disabled, stays out", "block", d.Kind, "name", d.Name)
	}
	for _, i := range h.cfg.Idle {
		h.log.Info("a route sends nothing to a disabled sink", "route", i.Route, "sink", i.Sink)
	}
}

// wire opens the plugins and makes engine and ingress.
func (h *host) wire(ctx context.Context) error {
	table := routeTable(h.cfg)
	h.table = table
	opt := engine.Options{
		Store: h.store, Logger: h.log.Named("engine"),
		Sinks: make([]engine.Sink, len(h.cfg.Sinks)), Sources: make([]engine.Source, len(h.cfg.Sources)),
	}
	endpoints := make([]ingress.Endpoint, len(h.cfg.Sources))

	states, err := h.sinkStates(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(h.cfg.Sinks)+len(h.cfg.Sources))
	var opening sync.WaitGroup
	for i, s := range h.cfg.Sinks {
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
				Locate: func(route string, path []string) string { return table.Locate(route, s.Name, path) },
			}
		})
	}
	for i, s := range h.cfg.Sources {
		opening.Go(func() {
			plugin, err := h.plugins.OpenDecoder(ctx, s.Name, s.Plugin, s.Config,
				pluginhost.DecoderOptions{
					Isolated: s.Isolated, Wait: true, Provider: s.Info.Provider.Name, Manifest: s.Info.Provider,
				})
			if err == nil {
				endpoints[i], err = endpoint(s, h.cfg.Server.Limits.Rate)
			}
			if err != nil {
				errs[len(h.cfg.Sinks)+i] = fmt.Errorf("%s: source %q: %w", s.Range, s.Name, err)
				return
			}
			if why := plugin.Reason(); why != "" {
				h.log.Error("a source's decoder cannot be opened yet, its requests wait", "source", s.Name, "at", s.Range.String(),
					"reason", why)
			}
			opt.Sources[i] = engine.Source{Name: s.Name, Decoder: plugin, Router: table.Router(s.Name)}
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	h.engine = engine.New(opt)

	srv := h.cfg.Server
	icfg := ingress.Config{
		Listen: srv.Listen, TrustedProxies: srv.TrustedProxies, Endpoints: endpoints,
		Limits: ingress.Limits{
			MaxBody: srv.Limits.MaxBody, MaxHeader: srv.Limits.MaxHeader, ReadHeaderTimeout: srv.Limits.HeaderTimeout,
			BodyTimeout: srv.Limits.ReadTimeout, IdleTimeout: srv.Limits.IdleTimeout, MaxConns: srv.Limits.Connections,
		},
		Acceptor: h.store, Rejections: h.store, Admit: h.admit, Logger: h.log.Named("ingress"),
	}
	if srv.TLS != nil {
		icfg.CertFile, icfg.KeyFile = srv.TLS.Cert, srv.TLS.Key
	}
	h.ingress, err = ingress.New(icfg)
	return err
}

// sinkStates reads what is kept about the sinks. A sink that is not to hold order keys any more lets them go.
func (h *host) sinkStates(ctx context.Context) (map[string]store.SinkState, error) {
	for _, s := range h.cfg.Sinks {
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
				Sink: to.Sink, Message: to.Message, OrderBy: sinks[to.Sink].Delivery.OrderBy,
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

// admit is the ingress's question whether anything can be accepted now.
func (h *host) admit() string {
	if h.short.Load() {
		return ingress.CauseDiskShort
	}
	return ""
}

// serve runs everything until ctx ends or a listener fails.
func (h *host) serve(ctx context.Context) (err error) {
	address, err := h.ingress.Listen()
	if err != nil {
		return err
	}
	socket, err := admin.Listen(filepath.Dir(h.cfg.Storage.Path))
	if err != nil {
		return errors.Join(err, h.ingress.Shutdown(ctx))
	}
	// Work outlives ctx until the ingress is quiet: what it accepts last is still on its way.
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	control := &http.Server{
		Handler: admin.Handler(&admin.Direct{
			Store: h.store, Engine: h.engine, Describe: h.describe, Upgrader: upgrader{h},
			Renderer: func(context.Context) (admin.Renderer, error) { return h.table.Renderer(), nil },
		}),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return working }, // no command outlives it
	}
	failed := make(chan error, 2)
	var running sync.WaitGroup
	running.Go(func() {
		if err := control.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("control API: %w", err)
		}
	})
	running.Go(func() {
		if err := h.ingress.Serve(); err != nil {
			failed <- err
		}
	})
	running.Go(func() { err = errors.Join(err, h.engine.Run(working, h.cfg.Server.ShutdownTimeout)) })
	running.Go(func() { h.watchDisk(working) })
	running.Go(func() { h.purge(working) })
	running.Go(func() { h.ingress.WatchCertificate(working) })
	running.Go(func() { h.reloadOnHangup(working) })
	h.log.Info("the host is ready", "listen", address.String(), "version", version,
		"sources", len(h.cfg.Sources), "sinks", len(h.cfg.Sinks), "routes", len(h.cfg.Routes))

	var cause error
	select {
	case <-ctx.Done():
		h.log.Info("the host stops", "reason", context.Cause(ctx))
	case cause = <-failed:
	}
	stop, cancel := context.WithTimeout(context.Background(), h.cfg.Server.ShutdownTimeout)
	defer cancel()
	cause = errors.Join(cause, h.ingress.Shutdown(stop))
	stopWork()
	cause = errors.Join(cause, control.Shutdown(stop))
	running.Wait()
	return errors.Join(cause, err)
}

// reloadOnHangup reads the certificate again when it is asked to.
func (h *host) reloadOnHangup(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.hangup:
			if err := h.ingress.ReloadCertificate(); err != nil {
				h.log.Error("cannot read the certificate again, the one in use stays", "error", err)
			} else {
				h.log.Info("read the certificate again", "reason", "SIGHUP")
			}
		}
	}
}

// describe completes the status with what only a running host knows.
func (h *host) describe(s *admin.Status) {
	s.Running, s.Version = true, version
	in := h.ingress.Stats()
	for _, name := range slices.Sorted(maps.Keys(in.Sources)) {
		c := in.Sources[name]
		s.Sources = append(s.Sources, admin.SourceStatus{
			Source: name, Accepted: c.Accepted, Duplicates: c.Duplicates, Reopened: c.Reopened, Rejected: c.Rejected,
			Secrets: c.Secrets,
		})
	}
	for _, d := range h.engine.Status() {
		s.Sinks = append(s.Sinks, admin.SinkStatus{
			Sink: d.Sink, State: string(d.State), Reason: d.Reason, Until: d.Until, InMemory: d.InMemory, InFlight: d.InFlight,
			Behind: d.Behind,
		})
	}
	for _, p := range h.plugins.Status() {
		v := admin.Plugin{
			Plugin: string(p.Kind) + "-" + p.Plugin, Version: p.Version, State: string(p.State), PID: p.PID,
			Restarts: p.Restarts, RSSBytes: p.RSS, Upgrade: p.Upgrade,
		}
		if p.LastCrash.Reason != "" {
			v.LastCrash = p.LastCrash.Reason
		}
		for _, i := range p.Instances {
			v.Instances = append(v.Instances, i.Block)
		}
		s.Plugins = append(s.Plugins, v)
	}
}

const (
	diskEvery  = time.Second
	firstPurge = time.Minute // after the start
	purgeEvery = 10 * time.Minute
)

// watchDisk looks how much room there is, now and then.
func (h *host) watchDisk(ctx context.Context) {
	disk := time.NewTicker(diskEvery)
	defer disk.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-disk.C:
			h.checkDisk()
		}
	}
}

// purge deletes what is past its retention, now and then.
func (h *host) purge(ctx context.Context) {
	timer := time.NewTimer(firstPurge)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if n, err := h.store.Purge(ctx, retention(h.cfg, time.Now())); err != nil && ctx.Err() == nil {
			h.log.Error("cannot delete old requests", "error", err)
		} else if n > 0 {
			h.log.Info("old requests were deleted", "requests", n)
		}
		timer.Reset(purgeEvery)
	}
}

// retention turns the spans of a configuration into times.
func retention(cfg *config.Config, now time.Time) store.Retention {
	r := store.Retention{
		Before: now.Add(-cfg.Storage.Retention), BeforeOf: map[string]time.Time{},
		StateBefore: now.Add(-cfg.Storage.StateRetention),
	}
	for source, span := range cfg.Retention {
		r.BeforeOf[source] = now.Add(-span)
	}
	return r
}

// checkDisk stops accepting when the disk is short, and dispatching before outcomes could no longer be stored.
func (h *host) checkDisk() {
	free, err := freeBytes(filepath.Dir(h.cfg.Storage.Path))
	if err != nil {
		h.log.Error("cannot see how much disk is free", "error", err)
		return
	}
	short := free < h.cfg.Storage.MinFree
	if was := h.short.Swap(short); was != short {
		if short {
			h.log.Error("the disk is short, webhooks are refused", "free_bytes", free, "min_free_bytes", h.cfg.Storage.MinFree)
		} else {
			h.log.Info("the disk has room again", "free_bytes", free)
		}
	}
	h.engine.Hold(free < h.cfg.Storage.MinFree/4)
}
