package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

// What has a host load its configuration again.
const (
	byStart  = "start"
	bySignal = "SIGHUP"
	byFile   = "file"
)

const (
	mostReloads = 100 // that are remembered
	watchEvery  = time.Second
	toldAtOnce  = 20 // mistakes in the log per reload
)

// reloads is what a host remembers of loading its configuration, and who may do so.
type reloads struct {
	turn chan struct{} // holds one token: a reload or an upgrade takes it, one at a time

	// With the turn:
	asked   *pluginhost.Host // runs plugins to be asked about configurations; nil: none yet
	askedBy config.Plugins   // for which it was made

	mu     sync.Mutex
	list   []admin.Reload      // oldest first
	next   int64               // id
	said   *config.Diagnostics // of the newest load, whatever came of it
	drains sync.WaitGroup      // what runs out in the background
}

func newReloads() *reloads {
	r := &reloads{turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

// take waits for the turn; give gives it back.
func (r *reloads) take(ctx context.Context) error {
	select {
	case <-r.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *reloads) give() { r.turn <- struct{}{} }

// add remembers a reload and gives it its number.
func (r *reloads) add(v *admin.Reload, said *config.Diagnostics) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	v.ID = r.next
	r.list = append(r.list, *v)
	if len(r.list) > mostReloads {
		r.list = slices.Delete(r.list, 1, 2) // the start stays
	}
	if said != nil {
		r.said = said
	}
}

// drained notes that nothing of what ran before a reload is under way any more.
func (r *reloads) drained(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		if r.list[i].ID == id {
			r.list[i].Draining = false
		}
	}
}

// came reports whether what runs came of a reload.
func came(v *admin.Reload) bool {
	return v.Result == admin.ReloadApplied || v.Result == admin.ReloadUnchanged
}

// state returns the reload that what runs came of, the newest if it did not come to be, and how many came to be.
func (r *reloads) state() (loaded admin.Reload, failed *admin.Reload, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		v := r.list[i]
		if !came(&v) {
			continue
		}
		loaded.Draining = loaded.Draining || v.Draining
		v.Draining = loaded.Draining
		loaded = v
		if v.Trigger != byStart {
			n++
		}
	}
	if last := len(r.list) - 1; last >= 0 && !came(&r.list[last]) {
		v := r.list[last]
		failed = &v
	}
	return loaded, failed, n
}

// started remembers the load of the start.
func (h *host) started(at time.Time, took time.Duration) {
	now := h.current.Load()
	v := admin.Reload{
		At: at, TookMS: milliseconds(took), Trigger: byStart, Result: admin.ReloadApplied, Digest: now.cfg.Digest,
	}
	h.reloads.add(&v, now.said)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reloader is the control API's way to reloads.
type reloader struct{ *host }

var _ admin.Reloader = reloader{}

// Reload implements admin.Reloader. It loads the configuration as it is now, and has the host run by it, or leaves all as
// it is. One reload or upgrade goes on at a time; others wait for it, until ctx ends. A reload that has begun does not end
// with its caller, only with the host.
func (h reloader) Reload(ctx context.Context, trigger string) (admin.Reload, error) {
	if err := h.reloads.take(ctx); err != nil {
		return admin.Reload{}, fmt.Errorf("another reload or a plugin's upgrade goes on: %w", err)
	}
	defer h.reloads.give()
	h.tellManager(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	defer h.tellReady()
	return h.reload(h.working, trigger)
}

// Reloads implements admin.Reloader.
func (h reloader) Reloads() []admin.Reload {
	h.reloads.mu.Lock()
	defer h.reloads.mu.Unlock()
	list := slices.Clone(h.reloads.list)
	slices.Reverse(list)
	return list
}

// Config implements admin.Reloader.
func (h reloader) Config() admin.Config {
	now := h.current.Load()
	v := admin.Config{Path: now.cfg.Path, Watched: now.cfg.Reload.Watch, Files: []admin.ConfigFile{}}
	v.Loaded, v.Failed, _ = h.reloads.state()
	if now.said != nil {
		v.Diagnostics = viewDiagnostics(now.said)
		for _, f := range now.said.Files() {
			v.Files = append(v.Files, admin.ConfigFile(f))
		}
	}
	return v
}

// configStatus is what the status says of the configuration.
func (h *host) configStatus() *admin.ConfigStatus {
	loaded, failed, n := h.reloads.state()
	if failed != nil {
		failed.Diagnostics, failed.Text = nil, ""
	}
	return &admin.ConfigStatus{
		LoadedAt: loaded.At, Trigger: loaded.Trigger, Digest: h.config().Digest, Reloads: n, Draining: loaded.Draining,
		Failed: failed,
	}
}

func viewDiagnostics(d *config.Diagnostics) []admin.Diagnostic {
	var list []admin.Diagnostic
	for _, x := range d.All() {
		list = append(list, admin.Diagnostic{
			Severity: string(x.Severity), Summary: x.Summary, Detail: x.Detail, File: x.Range.File, Line: x.Range.Line,
			Column: x.Range.Column,
		})
	}
	return list
}

// reload is Reload with the turn.
func (h *host) reload(ctx context.Context, trigger string) (admin.Reload, error) {
	v := admin.Reload{At: time.Now(), Trigger: trigger}
	cfg, said := h.load(ctx)
	if cfg == nil && ctx.Err() != nil { // plugins were not asked to the end: that is no mistake in the files
		return v, fmt.Errorf("the host stops: %w", context.Cause(ctx))
	}
	var drained <-chan struct{}
	switch {
	case cfg == nil:
		v.Result = admin.ReloadInvalid
	case h.refuses(cfg, said):
		v.Result = admin.ReloadRefused
	default:
		next := newRunning(cfg, said)
		v.Digest = cfg.Digest
		var err error
		if drained, err = h.change(ctx, next, &v); err != nil {
			v.Result, v.Changes = admin.ReloadFailed, nil
			h.blame(said, err)
		}
	}
	v.TookMS = milliseconds(time.Since(v.At))
	v.Diagnostics = viewDiagnostics(said)
	if err := said.Err(); err != nil && !came(&v) {
		v.Error = err.Error()
	}
	var text strings.Builder
	if err := said.Write(&text, false, 100); err == nil {
		v.Text = text.String()
	}
	v.Draining = drained != nil
	h.reloads.add(&v, said)
	h.metrics.Reloaded(came(&v))
	h.tellReload(&v)
	if drained != nil {
		h.reloads.drains.Go(func() {
			<-drained
			h.reloads.drained(v.ID)
		})
	}
	return v, nil
}

// load loads the configuration as it is now. The plugins that are asked run apart from those that work.
func (h *host) load(ctx context.Context) (*config.Config, *config.Diagnostics) {
	r := h.reloads
	return config.Load(ctx, h.config().Path, config.Options{
		Plugins: func(p config.Plugins) (config.Catalog, error) {
			if r.asked == nil || !reflect.DeepEqual(r.askedBy, p) {
				h.stopAsking(ctx)
				asked, err := newPluginHost(p, nil, hclog.NewNullLogger())
				if err != nil {
					return nil, err
				}
				r.asked, r.askedBy = asked, p
			}
			return catalog{r.asked, p.Dir}, nil
		},
		CheckAuth: checkAuth,
		CheckTLS: func(cert, key string) (string, error) {
			return ingress.CheckCertificate(cert, key, time.Now())
		},
	})
}

// stopAsking ends the plugins that were asked.
func (h *host) stopAsking(ctx context.Context) {
	if h.reloads.asked != nil {
		_ = h.reloads.asked.Close(ctx) // they hold nothing
		h.reloads.asked = nil
	}
}

// refuses adds to said what the configuration changes that a running host cannot change, and reports whether it does.
func (h *host) refuses(cfg *config.Config, said *config.Diagnostics) bool {
	fixed := needRestart(h.config(), cfg)
	for _, setting := range fixed {
		said.NeedsRestart(setting)
	}
	return len(fixed) > 0
}

// blame adds to said why a configuration without mistakes did not come to be.
func (h *host) blame(said *config.Diagnostics, err error) {
	var told bool
	for _, e := range allErrors(err) {
		var block *blockError
		if errors.As(e, &block) {
			said.Refuse(block.kind, block.name, block.err)
			told = true
		}
	}
	if !told || said.Err() == nil {
		said.Fail(config.Range{File: h.config().Path}, "The configuration cannot be put in force", err.Error())
	}
}

// allErrors takes joined errors apart.
func allErrors(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// change has the host run by another configuration. After an error it runs as before. drained is closed when all that
// began before has ended.
func (h *host) change(ctx context.Context, next *running, v *admin.Reload) (drained <-chan struct{}, err error) {
	old := h.current.Load()
	v.Changes = changes(old, next)
	v.Result = admin.ReloadApplied
	if len(v.Changes) == 0 {
		v.Result = admin.ReloadUnchanged
	}

	// Beside what runs.
	dev, pins := choices(next.cfg.Plugins, h.log)
	h.plugins.Choose(dev, pins, next.cfg.Secrets)
	b := &build{host: h, old: old, next: next}
	err = errors.Join(b.open(ctx)...)
	if err == nil {
		v.Changes = append(v.Changes, b.late...)
		drained, err = h.swap(ctx, b)
	}
	if err != nil {
		b.abandon()
		dev, pins := choices(old.cfg.Plugins, hclog.NewNullLogger())
		h.plugins.Choose(dev, pins, nil)
		return nil, err
	}
	return drained, nil
}

// swap puts what was built in the place of what runs.
func (h *host) swap(ctx context.Context, b *build) (<-chan struct{}, error) {
	old, next := b.old, b.next
	var added, freed []config.Sink // sinks that are new; sinks whose order keys wait no more after a dead letter
	held := map[string]bool{}
	for _, s := range old.cfg.Sinks {
		held[s.Name] = s.Delivery.HoldDead
	}
	for _, s := range next.cfg.Sinks {
		switch was, ok := held[s.Name]; {
		case !ok:
			added = append(added, s)
		case was && !s.Delivery.HoldDead:
			freed = append(freed, s)
		}
	}
	states, err := h.sinkStates(ctx, added)
	if err != nil {
		return nil, err
	}
	set := ingress.Settings{
		Endpoints: b.endpoints, TrustedProxies: next.cfg.Server.TrustedProxies, MaxBody: next.cfg.Server.Limits.MaxBody,
	}
	prepared, err := h.ingress.Prepare(set)
	if err != nil {
		return nil, err
	}
	if tls := next.cfg.Server.TLS; tls != nil && *tls != *old.cfg.Server.TLS {
		if err := h.ingress.MoveCertificate(tls.Cert, tls.Key); err != nil {
			return nil, err
		}
	}
	// Nothing fails from here on but a host that stops. Pipelines first: what comes in at a new endpoint finds its own.
	quiet, err := h.engine.Apply(b.engineSources(), b.engineSinks(states))
	if err != nil {
		return nil, err
	}
	h.ingress.Use(prepared)
	h.current.Store(next)
	if next.cfg.Log.Level != old.cfg.Log.Level {
		level := hclog.LevelFromString(next.cfg.Log.Level)
		h.log.SetLevel(level)
		h.plugins.SetLogLevel(level)
	}
	h.free(ctx, freed)
	h.pauseAdded(ctx, added)

	left, done := b.left(), make(chan struct{})
	h.reloads.drains.Go(func() {
		defer close(done)
		select {
		case <-quiet:
		case <-h.ended:
		}
		closeAll(left)
		h.free(context.WithoutCancel(ctx), freed) // what held keys until its last call ended
	})
	return done, nil
}

// free lets order keys go on that dead letters held.
func (h *host) free(ctx context.Context, sinks []config.Sink) {
	for _, s := range sinks {
		if err := h.store.ReleaseHeld(ctx, s.Name); err != nil {
			h.log.Error("cannot let order keys go on that dead letters hold", "sink", s.Name, "error", err)
		}
		h.engine.Wake(s.Name)
	}
}

// pauseAdded has new sinks do what an operator wished while they were made.
func (h *host) pauseAdded(ctx context.Context, sinks []config.Sink) {
	if len(sinks) == 0 {
		return
	}
	states, err := h.store.Sinks(ctx)
	if err != nil {
		h.log.Error("cannot read whether sinks are paused", "error", err)
		return
	}
	for _, s := range sinks {
		if st := states[s.Name]; !st.PausedAt.IsZero() {
			h.engine.Pause(s.Name, st.PauseReason)
		}
	}
}

// tellReload logs what came of a reload.
func (h *host) tellReload(v *admin.Reload) {
	if came(v) {
		h.log.Info("the configuration was loaded again", "reason", v.Trigger, "result", v.Result, "changes", len(v.Changes),
			"digest", v.Digest)
		for _, c := range v.Changes {
			h.log.Info("changed by the reload", "change", c)
		}
		return
	}
	n := 0
	for _, d := range v.Diagnostics {
		if d.Severity != string(config.Error) {
			continue
		}
		if n++; n <= toldAtOnce {
			at := config.Range{File: d.File, Line: d.Line, Column: d.Column}
			h.log.Error("a mistake in the configuration", "mistake", d.Summary, "at", at.String())
		}
	}
	h.log.Error("the configuration cannot be loaded again, what runs goes on as it is", "reason", v.Trigger,
		"result", v.Result, "mistakes", n)
}

// reloadOnHangup reads certificates and the configuration again when it is asked to.
func (h *host) reloadOnHangup(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.hangup:
			if err := errors.Join(h.ingress.ReloadCertificate(), h.admin.reloadCertificate()); err != nil {
				h.log.Error("cannot read the certificate again, the one in use stays", "error", err)
			} else {
				h.log.Info("read the certificate again", "reason", "SIGHUP")
			}
			_, _ = reloader{h}.Reload(ctx, bySignal) // it is told there; an error: the host stops
		}
	}
}

// watchFiles loads the configuration again when what it was made of has changed and stays the same for a moment, where the
// configuration that runs asks for it. It looks at contents: whatever an editor or Kubernetes does to put them there, with
// renames and links, comes to that.
func (h *host) watchFiles(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last config.Stamps // at the look before; nil: as loaded
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !h.config().Reload.Watch {
			last = nil
			continue
		}
		h.reloads.mu.Lock()
		said := h.reloads.said
		h.reloads.mu.Unlock()
		now := said.Now()
		switch {
		case maps.Equal(now, said.Loaded()):
			last = nil
		case last != nil && maps.Equal(now, last):
			last = nil
			_, _ = reloader{h}.Reload(ctx, byFile) // likewise
		default:
			last = now
		}
	}
}
