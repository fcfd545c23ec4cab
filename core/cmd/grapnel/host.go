package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/doctor"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/metrics"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
	"github.com/grapnelhq/grapnel/core/tracing"
)

// host is one running host: what run starts it also stops, in the opposite order.
type host struct {
	current atomic.Pointer[running]
	log     hclog.Logger
	store   *sqlite.Store
	plugins *pluginhost.Host
	engine  *engine.Engine
	ingress *ingress.Server
	admin   *adminListener // nil: none
	tail    *admin.Tail    // of what changes in the store
	short   atomic.Bool    // of disk: nothing is accepted
	hangup  chan os.Signal
	metrics *metrics.Metrics
	tracing *tracing.Tracing // nil: nothing is traced
	alerts  *alerting
	reloads *reloads
	working context.Context // of serve: ends when the host is to stop
	ended   chan struct{}   // closed when the engine has ended
	health  *health
}

func newHost(cfg *config.Config, said *config.Diagnostics, log hclog.Logger) *host {
	h := &host{
		log: log, tail: admin.NewTail(), hangup: make(chan os.Signal, 1), reloads: newReloads(),
		metrics: metrics.New(metrics.Options{Version: version, Logger: log.Named("metrics")}), ended: make(chan struct{}),
	}
	h.metrics.Read(h.read)
	h.current.Store(newRunning(cfg, said))
	h.alerts = newAlerting(h)
	h.health = newHealth(h)
	return h
}

// config is the configuration that runs now.
func (h *host) config() *config.Config { return h.current.Load().cfg }

// table is the routing table that runs now.
func (h *host) table() *route.Table { return h.current.Load().table }

// run returns when ctx has ended and everything has stopped, or when something could not be started.
func (h *host) run(ctx context.Context) (err error) {
	h.tellWhatStaysOut()
	if h.config().Plugins.LockFile == "" {
		h.log.Info("there is no lock file: whatever program the plugins' folder holds is run", "dir", h.config().Plugins.Dir,
			"to_write_one", "grapnel plugin lock")
	}
	st := h.config().Storage
	if err := os.MkdirAll(filepath.Dir(st.Path), 0o700); err != nil {
		return err
	}
	if err := h.openStore(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.store.Close()) }()
	if h.admin, err = h.openAdmin(); err != nil {
		return err
	}
	defer func() { // of a host that could not be started
		stop, cancel := context.WithTimeout(context.Background(), h.config().Server.ShutdownTimeout)
		defer cancel()
		err = errors.Join(err, h.admin.shutdown(stop))
	}()

	h.plugins, err = newPluginHost(h.config().Plugins, h.config().Secrets, h.log)
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.Background(), h.config().Server.ShutdownTimeout)
		defer cancel()
		err = errors.Join(err, h.plugins.Close(stop))
	}()
	stopTracing, err := h.startTracing(ctx)
	if err != nil {
		return err
	}
	defer stopTracing()
	if err := h.wire(ctx); err != nil {
		return err
	}
	return h.serve(ctx)
}

// commandsEnd is how long a host waits at its start for a command that reads the store without one, such as status.
const commandsEnd = 10 * time.Second

// openStore opens the store, which may have to wait for a command that has it for a moment, but not for another host.
func (h *host) openStore(ctx context.Context) (err error) {
	st := h.config().Storage
	for began := time.Now(); ; {
		h.store, err = sqlite.Open(ctx, sqlite.Options{
			Path: st.Path, DedupeWindow: st.DedupeWindow, MinFree: st.MinFree,
			Logger: h.log.Named("store"), Observer: h.metrics.Store(),
			// Nothing is accepted or erased before there is an engine.
			OnAccepted: func(rs []*core.Request) {
				h.tail.Accepted(rs) // first: they are the engine's then
				h.engine.Accepted(rs)
			},
			OnErased: func(sink string, keys []core.DeliveryKey) { h.engine.Erased(sink, keys) },
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
	for _, d := range h.config().Disabled {
		h.log.Info("disabled, stays out", "block", d.Kind, "name", d.Name)
	}
	for _, i := range h.config().Idle {
		h.log.Info("a route sends nothing to a disabled sink", "route", i.Route, "sink", i.Sink)
	}
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
	socket, err := admin.Listen(filepath.Dir(h.config().Storage.Path))
	if err != nil {
		return errors.Join(err, h.ingress.Shutdown(ctx))
	}
	// Work outlives ctx until the ingress is quiet: what it accepts last is still on its way.
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	h.working = working
	direct := &admin.Direct{
		Store: h.tail.Store(h.store), Changes: h.tail, Engine: h.engine, Describe: h.describe, Upgrader: upgrader{h},
		Rater: h.rates, Reloader: reloader{h},
		Alerting: h.alerts,
		Renderer: func(context.Context) (admin.Renderer, error) { return h.table().Renderer(), nil },
	}
	direct.Explainer = &hostExplainer{h, direct}
	if err := h.controlAdmin(working, direct); err != nil {
		return errors.Join(err, socket.Close(), h.ingress.Shutdown(ctx))
	}
	control := &http.Server{
		Handler:           admin.Handler(direct),
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
	running.Go(func() {
		defer close(h.ended)
		err = errors.Join(err, h.engine.Run(working, h.config().Server.ShutdownTimeout))
	})
	running.Go(func() { h.metrics.Run(working) })
	running.Go(func() { h.alerts.run(working) })
	running.Go(func() { h.watchDisk(working) })
	running.Go(func() { h.purge(working) })
	running.Go(func() { h.ingress.WatchCertificate(working) })
	running.Go(func() { h.admin.watchCertificate(working) })
	running.Go(func() { h.reloadOnHangup(working) })
	running.Go(func() { h.watchFiles(working) })
	running.Go(func() { h.feedWatchdog(working) })
	h.log.Info("the host is ready", "listen", address.String(), "version", version,
		"sources", len(h.config().Sources), "sinks", len(h.config().Sinks), "routes", ownRoutes(h.config()))
	h.tellReady()
	h.health.enter(doctor.Running)

	var cause error
	select {
	case <-ctx.Done():
		h.log.Info("the host stops", "reason", context.Cause(ctx))
	case cause = <-failed:
	case cause = <-h.admin.failure():
	}
	h.health.enter(doctor.Stopping)
	h.tellManager(daemon.SdNotifyStopping)
	stop, cancel := context.WithTimeout(context.Background(), h.config().Server.ShutdownTimeout)
	defer cancel()
	cause = errors.Join(cause, h.ingress.Shutdown(stop))
	stopWork()
	cause = errors.Join(cause, endServer(stop, control, lastWords), h.admin.shutdown(stop))
	running.Wait()
	h.reloads.drains.Wait()
	h.stopAsking(stop)
	return errors.Join(cause, err)
}

// lastWords is how long commands that a stop has ended may take to tell so.
const lastWords = 5 * time.Second

// endServer stops a server whose handlers' contexts have ended. Who does not read what is written to it, such as an export
// into a pager, does not hold up the stop: its connection is cut after grace.
func endServer(ctx context.Context, server *http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	return err
}
