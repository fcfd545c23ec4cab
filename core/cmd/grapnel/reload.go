package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

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

// changes says in words in what two configurations differ.
func changes(old, next *running) []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	block := func(r *running, kind, name string) string {
		if r.said == nil {
			return ""
		}
		return r.said.Block(kind, name)
	}
	sources := byName(old.cfg.Sources, func(s config.Source) string { return s.Name })
	for _, s := range next.cfg.Sources {
		was, ok := sources[s.Name]
		delete(sources, s.Name)
		switch {
		case !ok:
			say("source %q is new", s.Name)
		case differ(was, s, "Range", "Info"), was.Info.SHA256 != s.Info.SHA256,
			!reflect.DeepEqual(was.Info.Provider, s.Info.Provider):
			say("source %q has changed", s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		say("source %q is gone, its requests wait", name)
	}
	sinks := byName(old.cfg.Sinks, func(s config.Sink) string { return s.Name })
	for _, s := range next.cfg.Sinks {
		was, ok := sinks[s.Name]
		delete(sinks, s.Name)
		switch {
		case !ok:
			say("sink %q is new", s.Name)
		case differ(was, s, "Range", "Info", "Delivery"), was.Info.SHA256 != s.Info.SHA256:
			say("sink %q has changed", s.Name)
		case differ(was.Delivery, s.Delivery, "OrderBy"), block(old, "sink", s.Name) != block(next, "sink", s.Name):
			say("sink %q has other settings of delivery", s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sinks)) {
		say("sink %q is gone, its deliveries wait", name)
	}
	n := len(list)
	ofAlert := func(r config.Route) bool { return r.Alert != "" }
	routes := byName(slices.DeleteFunc(slices.Clone(old.cfg.Routes), ofAlert), func(r config.Route) string { return r.Name })
	for _, r := range slices.DeleteFunc(slices.Clone(next.cfg.Routes), ofAlert) {
		_, ok := routes[r.Name]
		delete(routes, r.Name)
		switch {
		case !ok:
			say("route %q is new", r.Name)
		case block(old, "route", r.Name) != block(next, "route", r.Name):
			say("route %q has changed", r.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		say("route %q is gone", name)
	}
	alerts := byName(old.cfg.Alerts, func(a config.Alert) string { return a.Name })
	for _, a := range next.cfg.Alerts {
		_, ok := alerts[a.Name]
		delete(alerts, a.Name)
		switch {
		case !ok:
			say("alert %q is new", a.Name)
		case block(old, "alert", a.Name) != block(next, "alert", a.Name):
			say("alert %q has changed", a.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(alerts)) {
		say("alert %q is gone", name)
	}
	if old.cfg.Digest != next.cfg.Digest && len(list) == n {
		say("what routes use has changed")
	}
	for _, name := range settings(old.cfg, next.cfg, true) {
		say("%s has changed", name)
	}
	return list
}

func byName[T any](list []T, name func(T) string) map[string]T {
	m := map[string]T{}
	for _, x := range list {
		m[name(x)] = x
	}
	return m
}

// differ reports whether two structs differ in any but the named fields.
func differ[T any](a, b T, but ...string) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if slices.Contains(but, x.Type().Field(i).Name) {
			continue
		}
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			return true
		}
	}
	return false
}

// reloadable are the settings, as the configuration calls them, that a running host can change, but for sources, sinks,
// routes and what belongs to them.
var reloadable = []string{ //nolint:gochecknoglobals // a constant
	"server.tls.cert", "server.tls.key", "server.trusted_proxies", "server.limits.max_body", "server.limits.rate",
	"storage.retention", "storage.state_retention", "storage.min_free",
	"plugins.pins", "plugins.lock_file", "plugins.locked",
	"log.level", "reload.watch",
}

// blocks are the fields of a configuration that are compared block by block, or follow from those.
var blocks = []string{ //nolint:gochecknoglobals // a constant
	"Path", "Dir", "Sources", "Sinks", "Routes", "Alerts", "Builtin", "Disabled", "Retention", "Idle", "Unset", "Set", "Secrets", "Digest",
}

// needRestart lists the settings in which two configurations differ and that a running host cannot change. What is not
// known to be changeable is not.
func needRestart(old, next *config.Config) []string { return settings(old, next, false) }

// settings lists the settings that differ, of those that can change while a host runs, or of those that cannot.
func settings(old, next *config.Config, can bool) []string {
	var names []string
	for _, name := range fieldsThatDiffer("", reflect.ValueOf(*old), reflect.ValueOf(*next)) {
		if slices.Contains(reloadable, name) == can {
			names = append(names, name)
		}
	}
	return names
}

// fieldsThatDiffer lists the fields that differ of two structs, as the configuration calls them.
func fieldsThatDiffer(prefix string, a, b reflect.Value) []string {
	var names []string
	for i := range a.NumField() {
		field := a.Type().Field(i)
		if prefix == "" && slices.Contains(blocks, field.Name) || !field.IsExported() {
			continue
		}
		name, x, y := prefix+snake(field.Name), a.Field(i), b.Field(i)
		if x.Kind() == reflect.Pointer && x.Type().Elem().Kind() == reflect.Struct && !x.IsNil() && !y.IsNil() {
			x, y = x.Elem(), y.Elem()
		}
		switch {
		case x.Kind() == reflect.Struct:
			names = append(names, fieldsThatDiffer(name+".", x, y)...)
		case !equal(x, y):
			names = append(names, name)
		}
	}
	return names
}

// equal compares values; an empty list is as good as none, and where things stand in a file does not matter.
func equal(x, y reflect.Value) bool {
	if (x.Kind() == reflect.Slice || x.Kind() == reflect.Map) && x.Len() == 0 && y.Len() == 0 {
		return true
	}
	if pins, ok := x.Interface().([]config.Pin); ok {
		return slices.EqualFunc(pins, y.Interface().([]config.Pin), func(a, b config.Pin) bool { return !differ(a, b, "Range") })
	}
	if locked, ok := x.Interface().([]config.Locked); ok {
		return slices.EqualFunc(locked, y.Interface().([]config.Locked), func(a, b config.Locked) bool {
			return !differ(a, b, "Range")
		})
	}
	return reflect.DeepEqual(x.Interface(), y.Interface())
}

// snake writes the name of a field as the configuration does: MaxBody, max_body.
func snake(name string) string {
	var b strings.Builder
	upper := func(i int) bool { return i >= 0 && i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	for i := range len(name) {
		if upper(i) && i > 0 && (!upper(i-1) || i+1 < len(name) && !upper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i])
	}
	return strings.ToLower(b.String())
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

func newReload() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the running host load its configuration again",
		Long: `Have the running host load its configuration again: check it, open what is new beside what runs, and go over to it. What
is under way ends as it began, and what is the same goes on as it is. A configuration with mistakes changes nothing: they are
printed, and the host goes on with the one that it has.

The environment of the host is what it was at its start; files that file() names are read again.

Exit codes: 0 the host runs by the files as they are; 1 it does not, and standard error says why.`,
		Args: cobra.NoArgs,
	}
	path, asJSON := configFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		storage, broken := config.GuessStorage(*path)
		client, err := hostOf(c.Context(), filepath.Dir(storage.Path))
		switch {
		case errors.Is(err, admin.ErrNotRunning) && broken: // which may be why it is not found
			_, diags := load(c, *path)
			return showDiagnostics(c, diags)
		case errors.Is(err, admin.ErrNotRunning):
			return fmt.Errorf("no host runs by %s: `grapnel run --config %[1]s` starts one", *path)
		case err != nil:
			return err
		}
		defer client.Close()
		v, err := client.Reload(c.Context())
		if err != nil {
			return err
		}
		p := newPrinter(c, *asJSON)
		if p.json {
			err = p.value(v)
		} else {
			err = p.reload(v)
		}
		if err == nil && !came(&v) {
			err = errShown
		}
		return err
	}
	return c
}

// reload prints what came of a reload, for people.
func (p printer) reload(v admin.Reload) error {
	if v.Text != "" {
		fmt.Fprintln(p.err, strings.TrimSuffix(v.Text, "\n"))
	}
	switch v.Result {
	case admin.ReloadUnchanged:
		_, err := fmt.Fprintln(p.out, "The host runs by this configuration already.")
		return err
	case admin.ReloadApplied:
		fmt.Fprintln(p.out, "The host runs by the configuration as it is now:")
		for _, c := range v.Changes {
			fmt.Fprintf(p.out, "  %s\n", c)
		}
		return nil
	case admin.ReloadRefused:
		_, err := fmt.Fprintln(p.err, "Not reloaded: a restart is needed. The host goes on with the configuration that it has.")
		return err
	}
	_, err := fmt.Fprintln(p.err, "Not reloaded. The host goes on with the configuration that it has.")
	return err
}
