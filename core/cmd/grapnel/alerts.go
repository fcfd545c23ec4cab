package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/alert"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	alertState = "alerts"        // its name in the store
	alertSave  = 5 * time.Minute // how often what was learned is saved, if nothing else happens
	alertTrack = 200             // how many messages of alerts are followed that are not delivered
	learnSpan  = 28 * 24 * time.Hour
	learnMost  = 10 * time.Second // for reading what a source has sent before
)

// alerting runs the alerts of a host. The rules are those of the configuration as it is at each moment.
type alerting struct {
	h   *host
	log hclog.Logger

	// Of the goroutine of run:
	eval  *alert.Evaluator
	cfg   *config.Config // whose rules eval has
	saved time.Time

	shown atomic.Pointer[shownAlerts] // as of the last step; nil: there was none

	mu   sync.Mutex
	sent []string // requests of alerts whose deliveries are not all delivered, oldest first
}

// shownAlerts is where all alerts of a configuration stand. Who asks never waits for the disk.
type shownAlerts struct {
	cfg    *config.Config
	things []alert.Status
}

// keptAlerts is what the store keeps.
type keptAlerts struct {
	Evaluator json.RawMessage `json:"evaluator"`
	Sent      []string        `json:"sent,omitempty"`
}

func newAlerting(h *host) *alerting { return &alerting{h: h, log: h.log.Named("alerts")} }

// run evaluates until ctx ends, and saves where it stands.
func (a *alerting) run(ctx context.Context) {
	a.open(ctx)
	for ctx.Err() == nil {
		every := a.step(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
	if len(a.h.config().Alerts) > 0 {
		a.save(context.WithoutCancel(ctx))
	}
}

// open goes on from where the last host stood.
func (a *alerting) open(ctx context.Context) {
	var kept keptAlerts
	b, err := a.h.store.LoadState(ctx, alertState)
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &kept)
	}
	now := time.Now()
	eval, stale := alert.New(kept.Evaluator, now)
	if err = errors.Join(err, stale); err != nil && ctx.Err() == nil {
		a.log.Error("cannot read the state of alerts, they start anew", "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.eval, a.sent, a.saved = eval, append(kept.Sent, a.sent...), now
}

// learn reads what sources have sent before there were alerts on their silence.
func (a *alerting) learn(ctx context.Context, cfg *config.Config) {
	if !slices.ContainsFunc(cfg.Alerts, func(r config.Alert) bool { return r.Condition == alert.SourceSilent && r.Span == 0 }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, learnMost)
	defer cancel()
	for _, s := range cfg.Sources {
		if a.eval.Knows(s.Name) {
			continue
		}
		f := store.RequestFilter{Source: s.Name, Since: time.Now().Add(-learnSpan), Limit: 1000}
		var received []time.Time
		for more := true; more && ctx.Err() == nil; {
			rs, next, err := a.h.store.ListRequests(ctx, f)
			if err != nil {
				break
			}
			for _, r := range rs {
				received = append(received, r.ReceivedAt)
			}
			f.Cursor, more = next, next != ""
		}
		slices.Reverse(received)
		slices.SortStableFunc(received, time.Time.Compare) // a clock may have gone back
		a.eval.Learn(s.Name, received)
	}
}

// step evaluates once and sends what is to be said. It returns when the next step is due.
func (a *alerting) step(ctx context.Context) time.Duration {
	cfg := a.h.config()
	rules := make([]alert.Rule, len(cfg.Alerts))
	for i := range cfg.Alerts {
		rules[i] = cfg.Alerts[i].Rule
	}
	if a.cfg != cfg {
		a.cfg = cfg
		a.learn(ctx, cfg)
		a.eval.SetRules(rules)
	}
	defer func() { a.shown.Store(&shownAlerts{cfg, a.eval.Statuses()}) }()
	if len(rules) == 0 {
		return alert.Every(nil)
	}
	s, err := a.snapshot(ctx, cfg)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Error("cannot see what alerts are about", "error", err)
		}
		return alert.Every(rules)
	}
	a.eval.Evaluate(s)
	if (a.eval.Dirty() || s.At.Sub(a.saved) >= alertSave) && !a.save(ctx) {
		return alert.Every(rules) // nothing is sent that a restart would not know of
	}
	a.send(ctx)
	return alert.Every(rules)
}

// save keeps where everything stands, and reports whether it could.
func (a *alerting) save(ctx context.Context) bool {
	a.mu.Lock()
	kept := keptAlerts{Sent: slices.Clone(a.sent)}
	a.mu.Unlock()
	b, err := a.eval.Save()
	if err == nil {
		kept.Evaluator = b
		if b, err = json.Marshal(&kept); err == nil {
			err = a.h.store.SaveState(ctx, alertState, b)
		}
	}
	if err != nil {
		a.log.Error("cannot save the state of alerts", "error", err)
		return false
	}
	a.saved = time.Now()
	return true
}

// send accepts the messages of the outbox as requests of the built-in source, in order.
func (a *alerting) send(ctx context.Context) {
	out := a.eval.Outbox()
	n := 0
	for i := range out {
		id, err := a.accept(ctx, &out[i])
		if err != nil {
			if ctx.Err() == nil {
				a.log.Error("cannot store an alert, it is tried again", "alert", out[i].Alert, "subject", out[i].Subject, "error", err)
			}
			break
		}
		a.track(id)
		n++
		level := hclog.Warn
		if out[i].State == alert.Resolved {
			level = hclog.Info
		}
		a.log.Log(level, "an alert was sent", "alert", out[i].Alert, "state", string(out[i].State), "subject", out[i].Subject,
			"value", out[i].Value, "threshold", out[i].Threshold, "request_id", id)
	}
	if n > 0 {
		a.eval.Sent(n)
		a.save(ctx)
	}
}

// accept stores an event of an alert durably, as a request.
func (a *alerting) accept(ctx context.Context, e *alert.Event) (string, error) {
	e.Link = adminLink(a.h.config().Admin, e)
	r, err := e.Request()
	if err != nil {
		return "", err
	}
	if _, err := a.h.store.Accept(ctx, r); err != nil {
		return "", err
	}
	return r.ID(), nil
}

// adminLink is where the user interface shows what an alert is about; empty: there is none, or it is not known by which name
// people reach it.
func adminLink(a config.Admin, e *alert.Event) string {
	base := url.URL{Scheme: "https"}
	host, _, err := net.SplitHostPort(a.Listen)
	switch ip := net.ParseIP(host); {
	case len(a.Hosts) > 0:
		base.Host = a.Hosts[0]
		if strings.Contains(base.Host, ":") {
			base.Host = "[" + base.Host + "]"
		}
	case err != nil, host == "", ip != nil && ip.IsUnspecified():
		return ""
	default:
		if base.Host = a.Listen; a.TLS == nil {
			base.Scheme = "http"
		}
	}
	name := url.Values{e.Kind: {e.Name}}.Encode()
	switch e.Condition {
	case alert.DeadLetters:
		base.Path, base.RawQuery = "/dead", name
	case alert.RejectedSignatures:
		base.Path, base.RawQuery = "/rejections", name
	case alert.SourceSilent:
		base.Path, base.RawQuery = "/requests", name
	case alert.PluginFailed:
		base.Path = "/plugins"
	default:
		base.Path = "/sinks/" + e.Name
	}
	if e.Test {
		base.Path, base.RawQuery = "/alerts", ""
	}
	return base.String()
}

// track follows a message until it is delivered.
func (a *alerting) track(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(a.sent, id) {
		return
	}
	a.sent = append(a.sent, id)
	if more := len(a.sent) - alertTrack; more > 0 {
		a.sent = slices.Delete(a.sent, 0, more)
	}
}

// ownDead counts dead letters of alerts by sink, and forgets what is delivered. An alert about dead letters that counted
// its own would say so for ever.
func (a *alerting) ownDead(ctx context.Context) (map[string]int64, error) {
	dead := map[string]int64{}
	a.mu.Lock()
	sent := slices.Clone(a.sent)
	a.mu.Unlock()
	done := map[string]bool{}
	for _, id := range sent {
		rd, err := a.h.store.GetRequest(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			done[id] = true
			continue
		}
		if err != nil {
			return nil, err
		}
		open := rd.Request.State == core.RequestReceived
		for _, d := range rd.Deliveries {
			switch d.State {
			case core.DeliveryDelivered, core.DeliverySkipped:
				continue
			case core.DeliveryDead:
				dead[d.Sink]++
			}
			open = true
		}
		done[id] = !open
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent = slices.DeleteFunc(a.sent, func(id string) bool { return done[id] })
	return dead, nil
}

// snapshot is what the host is like now.
func (a *alerting) snapshot(ctx context.Context, cfg *config.Config) (alert.Snapshot, error) {
	s := alert.Snapshot{At: time.Now()}
	stats, err := a.h.store.Stats(ctx)
	if err != nil {
		return s, err
	}
	own, err := a.ownDead(ctx)
	if err != nil {
		return s, err
	}
	var oldest map[string]time.Time
	if slices.ContainsFunc(cfg.Alerts, func(r config.Alert) bool { return r.Condition == alert.OldestWaiting }) {
		if oldest, err = a.h.store.OldestWaiting(ctx, core.BuiltinSource); err != nil {
			return s, err
		}
	}
	for _, d := range a.h.engine.Status() {
		s.Sinks = append(s.Sinks, alert.Sink{
			Name: d.Sink, State: string(d.State), Reason: d.Reason, Oldest: oldest[d.Sink],
			Dead: max(0, stats.Deliveries[d.Sink][core.DeliveryDead]-own[d.Sink]),
		})
	}
	in := a.h.ingress.Stats()
	for i := range cfg.Sources {
		c := in.Sources[cfg.Sources[i].Name]
		src := alert.Source{Name: cfg.Sources[i].Name, Received: c.Accepted + c.Duplicates + c.Reopened}
		for _, cause := range auth.Causes() {
			src.Rejected += c.Rejected[cause]
		}
		s.Sources = append(s.Sources, src)
	}
	s.Plugins = alertPlugins(a.h.plugins.Status())
	slices.SortFunc(s.Sinks, func(x, y alert.Sink) int { return strings.Compare(x.Name, y.Name) })
	return s, nil
}

// alertPlugins puts the processes of each plugin together.
func alertPlugins(all []pluginhost.ProcessStatus) []alert.Plugin {
	var out []alert.Plugin
	for _, p := range all {
		name := string(p.Kind) + "-" + p.Plugin
		i := slices.IndexFunc(out, func(x alert.Plugin) bool { return x.Name == name })
		if i < 0 {
			out = append(out, alert.Plugin{Name: name})
			i = len(out) - 1
		}
		switch x := &out[i]; {
		case p.State == pluginhost.Failed:
			x.State, x.Reason = alert.PluginHasFailed, p.LastCrash.Reason
		case p.State == pluginhost.Ready && x.State == alert.PluginOther:
			x.State = alert.PluginWorks
		}
	}
	return out
}

// Alerts implements admin.Alerting.
func (a *alerting) Alerts() []admin.Alert {
	cfg := a.h.config()
	all := make([]admin.Alert, len(cfg.Alerts))
	for i, r := range cfg.Alerts {
		all[i] = admin.Alert{
			Name: r.Name, Condition: string(r.Condition), At: r.Range.String(), State: string(alert.OK),
			To: sinksOfAlerts(cfg, r.Name), Things: []admin.AlertThing{},
		}
	}
	shown := a.shown.Load()
	if shown == nil || shown.cfg != cfg {
		return all
	}
	for _, s := range shown.things {
		i := slices.IndexFunc(all, func(v admin.Alert) bool { return v.Name == s.Alert })
		all[i].Things = append(all[i].Things, admin.AlertThing{
			Alert: s.Alert, Subject: s.Subject, State: string(s.Phase), Since: s.Since, Value: s.Value, Threshold: s.Threshold,
			Unit: string(s.Unit), Text: s.Text, FiredAt: s.FiredAt, ResolvedAt: s.EndedAt, SentAt: s.SentAt,
			Reminders: s.Reminders,
		})
		if worse(string(s.Phase), all[i].State) {
			all[i].State = string(s.Phase)
		}
	}
	return all
}

func worse(a, b string) bool {
	order := []string{string(alert.OK), string(alert.Learning), string(alert.Pending), string(alert.Clearing), string(alert.Firing)}
	return slices.Index(order, a) > slices.Index(order, b)
}

// sinksOfAlerts lists where an alert goes: by its own `to` blocks, and by routes that take alerts, whatever their condition.
func sinksOfAlerts(cfg *config.Config, name string) []string {
	sinks := []string{}
	for _, r := range cfg.Routes {
		own := r.Alert == name
		if !own && (r.Alert != "" || !slices.Contains(r.Sources, core.BuiltinSource)) {
			continue
		}
		for _, to := range r.To {
			if !slices.Contains(sinks, to.Sink) {
				sinks = append(sinks, to.Sink)
			}
		}
	}
	return sinks
}

// TestAlert implements admin.Alerting.
func (a *alerting) TestAlert(ctx context.Context, name string) (string, error) {
	cfg := a.h.config()
	i := slices.IndexFunc(cfg.Alerts, func(r config.Alert) bool { return r.Name == name })
	if i < 0 {
		var names []string
		for _, r := range cfg.Alerts {
			names = append(names, r.Name)
		}
		return "", fmt.Errorf("there is no alert %q, only %s: %w", name, strings.Join(names, ", "), store.ErrNotFound)
	}
	r, now := cfg.Alerts[i], time.Now().UTC()
	kind := r.Condition.Kind()
	id, err := a.accept(ctx, &alert.Event{
		Alert: name, State: alert.Fired, Text: fmt.Sprintf("This is a test of the alert %s. Nothing is the matter.", name),
		Subject: kind + "/test", Kind: kind, Name: "test", Condition: r.Condition, Unit: alert.Count, Since: now, At: now,
		Number: now.UnixNano(), Test: true,
	})
	if err == nil {
		a.track(id)
	}
	return id, err
}

// builtinSource is the pipeline of the built-in source. It is there without alerts as well: what they said last, before a
// reload, is still to be routed.
func (h *host) builtinSource() engine.Source {
	s := engine.Source{Name: core.BuiltinSource, Decoder: builtinDecoder{}, Router: &builtinRouter{h: h}}
	if h.config().Builtin != nil {
		s.Observer = h.metrics.Source(core.BuiltinSource)
	}
	return s
}

// builtinDecoder decodes the events of the built-in source.
type builtinDecoder struct{}

// Decode implements engine.Decoder.
func (builtinDecoder) Decode(_ context.Context, rs []*core.Request) ([]core.Decoded, error) {
	out := make([]core.Decoded, len(rs))
	for i, r := range rs {
		out[i] = alert.Decode(r)
	}
	return out, nil
}

// WaitReady implements engine.Decoder.
func (builtinDecoder) WaitReady(context.Context) error { return nil }

// builtinRouter routes by the table as it is at each moment.
type builtinRouter struct {
	h      *host
	table  *route.Table
	router *route.Router
}

// Route implements engine.Router.
func (b *builtinRouter) Route(dst []*core.Delivery, r *core.Request, ev *core.Event) ([]*core.Delivery, error) {
	if table := b.h.table(); table != b.table {
		b.table, b.router = table, table.Router(core.BuiltinSource)
	}
	return b.router.Route(dst, r, ev)
}
