package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

// parts is a Control of a host's parts, whose answers a test decides.
type parts struct {
	admin.Control
	config  admin.Config
	reloads []admin.Reload
	alerts  []admin.Alert
	tested  string
}

func (p *parts) Config(context.Context) (admin.Config, error) { return p.config, nil }

func (p *parts) Reloads(context.Context) (admin.Page[admin.Reload], error) {
	return admin.Page[admin.Reload]{Items: p.reloads}, nil
}

func (p *parts) Reload(context.Context) (admin.Reload, error) {
	r := admin.Reload{At: noon, Trigger: "command", Result: admin.ReloadApplied, Changes: []string{`route "<new>" is new`}}
	p.reloads = append([]admin.Reload{r}, p.reloads...)
	return r, nil
}

func (p *parts) Alerts(context.Context) (admin.Page[admin.Alert], error) {
	return admin.Page[admin.Alert]{Items: p.alerts}, nil
}

func (p *parts) TestAlert(_ context.Context, name string) (admin.AlertTest, error) {
	p.tested = name
	return admin.AlertTest{RequestID: "req_1"}, nil
}

func TestSinks(t *testing.T) {
	f := newFixture(t)
	f.add(t, received{source: "people", body: "1", events: []madeEvent{{kind: "x.a", subject: "s/1", data: "1", deliveries: []madeDelivery{
		{route: "r", sink: "crm", message: "{}"}, {route: "r", sink: "old", message: "{}"},
	}}}})
	f.control.status = func(s *admin.Status) {
		s.Sinks = []admin.SinkStatus{
			{Sink: "crm", State: "paused", Reason: "<b>lunch</b>", OldestAt: new(noon.Add(-time.Hour))}, {Sink: "mail", State: "failing", Until: noon.Add(time.Minute)},
			{Sink: "audit", State: "working"},
		}
	}
	rows := get(t, f, "/sinks").texts("main tbody tr")
	for i, want := range []string{
		"crm ! paused <b>lunch</b> 1 1 h ago 0 0 0 Resume", "mail ! failing next try in 1 min 0 0 0 0 Resume",
		"audit ✓ working 0 0 0 0 Pause…", "old – not configured 1 0 0 0",
	} {
		if rows[i] != want {
			t.Errorf("row %d: %q, want %q", i, rows[i], want)
		}
	}
	d := get(t, f, "/sinks/crm")
	if !strings.Contains(d.text("#live"), "s/1") || len(d.all("form[action=/sinks/crm/resume]")) != 1 ||
		len(d.all("form[action=/sinks/crm/pause]")) != 1 {
		t.Errorf("a sink: %s", d.text("main"))
	}
	if d := get(t, f, "/sinks/old"); len(d.all("form[action=/sinks/old/pause]")) != 0 {
		t.Error("what is not configured can be paused")
	}
	if d := get(t, f, "/sinks/nobody"); d.status != http.StatusNotFound {
		t.Errorf("a sink that is not there: %d", d.status)
	}
	if d := post(t, f, "/sinks/crm/pause", url.Values{"reason": {"their office moves"}}); d.header.Get("Location") != "/sinks/crm" {
		t.Errorf("pause: %d %s", d.status, d.body)
	}
	kept, err := f.store.Sinks(t.Context())
	if err != nil || kept["crm"].PauseReason != "their office moves" {
		t.Errorf("%+v, %v", kept["crm"], err)
	}
	if d := post(t, f, "/sinks/crm/resume", nil); d.header.Get("Location") != "/sinks/crm" {
		t.Errorf("resume: %d %s", d.status, d.body)
	}
	if kept, err = f.store.Sinks(t.Context()); err != nil || !kept["crm"].PausedAt.IsZero() {
		t.Errorf("%+v, %v", kept["crm"], err)
	}
	if d := post(t, f, "/sinks/nobody/pause", nil); d.status != http.StatusNotFound {
		t.Errorf("pause what is not there: %d", d.status)
	}
}

func TestPlugins(t *testing.T) {
	f := newFixture(t)
	f.control.status = func(s *admin.Status) {
		s.Plugins = []admin.Plugin{{
			Plugin: "sink-crm", Version: "1.2.0", State: "backoff", PID: 4711, Restarts: 3, RSSBytes: 5 << 20, CPUSeconds: 61,
			SHA256: strings.Repeat("ab", 32), Path: "/opt/<x>", LastCrash: "panic: <script>", LastCrashAt: new(noon.Add(-time.Minute)),
			Blocks: []admin.PluginBlock{{Block: "crm", Reason: "no token"}},
		}}
	}
	for _, path := range []string{"/plugins", "/plugins/live"} {
		text := get(t, f, path).text("#live")
		for _, want := range []string{
			"sink-crm ! backoff", "1.2.0", "4711", "5.0 MiB", "1 min", "/opt/<x>", strings.Repeat("ab", 32), "panic: <script>",
			"1 min ago", "crm not ready: no token",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q: %s", path, want, text)
			}
		}
	}
}

func TestUnroutedAndRejections(t *testing.T) {
	f := newFixture(t)
	f.add(t, received{source: "people", body: "1", events: []madeEvent{
		{kind: "x.a", subject: "s/1", data: "1"}, {kind: "x.b", subject: "s/2", data: "1"}, {kind: "x.b", subject: "s/3", data: "1"},
	}})
	d := get(t, f, "/unrouted")
	if got := d.texts("a.chip"); !slices.Equal(got, []string{"x.b 2", "x.a 1"}) || len(d.all("main tbody tr")) != 3 {
		t.Errorf("types: %q, %d events", got, len(d.all("main tbody tr")))
	}
	d = get(t, f, attr(d.all("a.chip")[1], "href"))
	if got := d.texts("main tbody tr"); len(got) != 1 || !strings.HasPrefix(got[0], "s/1 x.a people") || len(d.all("a.chip[aria-current]")) != 1 {
		t.Errorf("of one type: %q", got)
	}

	for _, r := range []core.Rejection{
		{At: noon, Source: "people", Status: 401, Cause: "bad_signature", Detail: "<b>no</b>", RemoteAddr: "192.0.2.1", Method: "POST", Path: "/hooks/people"},
		{At: noon, Status: 404, Cause: "unknown_path", RemoteAddr: "192.0.2.2", Method: "GET", Path: "/x<script>"},
	} {
		f.store.RecordRejection(r)
	}
	d = get(t, f, "/rejections?cause=bad_signature")
	if got := d.texts("main tbody tr"); len(got) != 1 || !strings.Contains(got[0], "the signature fits no secret of the source <b>no</b> 192.0.2.1") {
		t.Errorf("%q", got)
	}
	if got := d.texts("a.chip"); !slices.Equal(got, []string{"bad_signature 1", "unknown_path 1"}) {
		t.Errorf("causes: %q", got)
	}
	if got := get(t, f, "/rejections").texts("main tbody tr"); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestConfiguration(t *testing.T) {
	f := newFixture(t)
	if d := get(t, f, "/configuration"); !strings.Contains(d.text("main"), "Only a running host has one.") {
		t.Errorf("without a host: %s", d.text("main"))
	}
	failed := admin.Reload{
		At: noon, Trigger: "SIGHUP", Result: admin.ReloadInvalid, Text: "config.hcl:1:2: error: <b>",
		Diagnostics: []admin.Diagnostic{{Severity: "error", Summary: "There is no <x>", Detail: "Did you mean y?", File: "config.hcl", Line: 1, Column: 2}},
	}
	p := &parts{
		Control: f.control.Control, reloads: []admin.Reload{failed, {At: noon, Trigger: "start", Result: admin.ReloadApplied}},
		config: admin.Config{Failed: &failed, Files: []admin.ConfigFile{{Name: "config.hcl", Text: "a = \"<script>\"\n\nb = 1\n"}}},
	}
	f.control.Control = p
	d := get(t, f, "/configuration")
	if got := d.text(".diagnostics"); got != "✕ error There is no <x> config.hcl:1:2 Did you mean y?" {
		t.Errorf("the diagnostics: %s", got)
	}
	if got := d.texts("pre.source .line"); !slices.Equal(got, []string{`a = "<script>"`, "", "b = 1"}) {
		t.Errorf("the file: %q", got)
	}
	if got := d.texts("main tbody tr"); len(got) != 2 || !strings.Contains(got[0], "SIGHUP ✕ invalid") {
		t.Errorf("the history: %q", got)
	}
	if d := post(t, f, attr(d.one("form[method=post]"), "action"), nil); d.header.Get("Location") != "/configuration" {
		t.Errorf("reload: %d %s", d.status, d.body)
	}
	if got := get(t, f, "/configuration").texts("main tbody tr"); len(got) != 3 || !strings.Contains(got[0], `applied route "<new>" is new`) {
		t.Errorf("the history: %q", got)
	}
}

func TestAlerts(t *testing.T) {
	f := newFixture(t)
	if d := get(t, f, "/alerts"); !strings.Contains(d.text("main"), "Only a running host has alerts.") {
		t.Errorf("without a host: %s", d.text("main"))
	}
	p := &parts{Control: f.control.Control, alerts: []admin.Alert{{
		Name: "letters", Condition: "dead_letters", State: "firing", To: []string{"ops", "mail"}, Things: []admin.AlertThing{
			{Subject: "sink/crm", State: "firing", Value: 12, Threshold: 10, Unit: "count", Text: "12 <b>letters</b>", Since: noon.Add(-time.Hour)},
			{Subject: "source/people", State: "ok", Value: 0, Threshold: 600, Unit: "seconds"},
		},
	}}}
	f.control.Control = p
	for _, path := range []string{"/alerts", "/alerts/live"} {
		d := get(t, f, path)
		if got, want := d.texts("#live tbody tr"), []string{
			"sink/crm ✕ firing 12 <b>letters</b> 12 10 1 h ago", "source/people ✓ ok 0 s 10 min",
		}; !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if d := post(t, f, "/alerts/letters/test", nil); d.header.Get("Location") != "/requests/req_1" || p.tested != "letters" {
		t.Errorf("a test: %d %s of %q", d.status, d.body, p.tested)
	}
}
