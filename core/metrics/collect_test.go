package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

func delivery(received time.Time) *core.Delivery { return &core.Delivery{ReceivedAt: received} }

// full are metrics of a host that has everything.
func full() *Metrics {
	m := New(Options{Version: "1.2.3"})
	m.Read(func(r *Reading) {
		r.Causes, r.Known = []string{"bad_signature"}, []string{"bad_signature", "bad_json", "unknown_path"}
		r.Sources = []SourceReading{{Source: "hr", Accepted: 3, Rejected: map[string]uint64{"bad_json": 2, "odd": 4, "strange": 5}}}
		r.Nowhere = map[string]uint64{"unknown_path": 7}
		r.Stored = store.Stats{
			Requests:   map[core.RequestState]int64{core.RequestRouted: 3},
			Deliveries: map[string]map[core.DeliveryState]int64{"out": {core.DeliveryPending: 2}, "gone": {core.DeliveryDead: 1}},
			Unrouted:   map[string]int64{"a.type.of.the.provider": 1},
		}
		r.Oldest = map[string]time.Time{"out": time.Now().Add(-time.Minute)}
		r.FreeBytes, r.DiskShort = 1<<30, true
		r.Sinks = []SinkReading{{Sink: "out", State: "failing", Breaker: "open"}, {Sink: "odd", State: "novel", Breaker: "?"}}
		self := PluginReading{
			Plugin: "sink-file", Version: "1.0.0", State: "ready", PID: os.Getpid(), Restarts: 1, ResidentBytes: 1 << 20,
			Ready: 1, Blocks: 2,
		}
		r.Plugins = []PluginReading{self, self, {Plugin: "decoder-x", Version: "2", State: "novel", PID: 1 << 30}}
		r.Alerts = []AlertReading{{"late", true}}
		r.Spans = map[string]uint64{"exported": 5, "dropped": 0, "failed": 1}
	})
	source, sink := m.Source("hr"), m.Sink("out")
	source.Accepted(time.Millisecond)
	source.Matched("all", 2)
	sink.Settled(delivery(time.Now().Add(-time.Second)), core.DeliveryDelivered)
	replay := delivery(time.Now().Add(-24 * time.Hour))
	replay.Replay = 1
	sink.Settled(replay, core.DeliveryDead)
	m.Reloaded(false)
	return m
}

// gather reads everything, strictly.
func gather(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collector{m})
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range all {
		byName[f.GetName()] = f
	}
	return byName
}

// TestEveryFamily sees every metric that is described, of a host that has everything.
func TestEveryFamily(t *testing.T) {
	m := full()
	got := gather(t, m)
	for _, f := range m.families.all {
		switch seen := got[f.name]; {
		case seen == nil:
			t.Errorf("%s is never given out", f.name)
		case strings.ToLower(seen.GetType().String()) != f.kind:
			t.Errorf("%s is a %s, not a %s", f.name, seen.GetType(), f.kind)
		}
	}
}

func scrape(t *testing.T, m *Metrics, accept string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	m.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Header().Get("Content-Type") + "\n" + w.Body.String()
}

func TestScrape(t *testing.T) {
	m := full()
	text := scrape(t, m, "text/plain")
	for _, line := range []string{
		`grapnel_requests_total{result="accepted",source="hr"} 3`,
		`grapnel_rejections_total{cause="bad_signature",source="hr"} 0`,
		`grapnel_rejections_total{cause="other",source="hr"} 9`,
		`grapnel_rejections_total{cause="unknown_path",source=""} 7`,
		`grapnel_accept_duration_seconds_bucket{source="hr",le="0.001"} 1`,
		`grapnel_accept_duration_seconds_bucket{source="hr",le="0.0005"} 0`,
		`grapnel_accept_duration_seconds_count{source="hr"} 1`,
		`grapnel_route_events_total{route="all"} 2`,
		`grapnel_end_to_end_duration_seconds_count{sink="out"} 1`,
		`grapnel_settled_total{sink="out",state="dead"} 1`,
		`grapnel_sink_state{sink="out",state="failing"} 1`,
		`grapnel_sink_state{sink="out",state="working"} 0`,
		`grapnel_sink_state{sink="odd",state="other"} 1`,
		`grapnel_stored_deliveries{sink="gone",state="dead"} 1`,
		`grapnel_sink_oldest_age_seconds{sink="gone"} 0`,
		`grapnel_plugin_blocks{isolated="",plugin="sink-file",ready="false",version="1.0.0"} 1`,
		`grapnel_plugin_state{isolated="",plugin="decoder-x",state="other",version="2"} 1`,
		`grapnel_config_last_reload_successful 0`,
		`grapnel_alert_firing{alert="late"} 1`,
		`grapnel_disk_short 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
	if strings.Contains(text, "a.type.of.the.provider") || strings.Contains(text, "strange") {
		t.Error("a word of a provider is in a label")
	}
	if !strings.Contains(text, "\ngo_goroutines ") || !strings.Contains(text, "\nprocess_cpu_seconds_total ") {
		t.Error("Go's or the process's own metrics are missing")
	}
	open := scrape(t, m, "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(open, "application/openmetrics-text; version=1.0.0") || !strings.HasSuffix(open, "# EOF\n") {
		t.Errorf("not OpenMetrics: %.100s", open)
	}
	if p := scrape(t, m, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"); !strings.
		HasPrefix(p, "application/vnd.google.protobuf") {
		t.Errorf("not protobuf, which has native histograms: %.100s", p)
	}
}

// TestNothingRead is a host that has not come far.
func TestNothingRead(t *testing.T) {
	if text := scrape(t, New(Options{}), ""); !strings.Contains(text, "grapnel_config_last_reload_successful 1") {
		t.Error(text)
	}
}

// TestSeriesStay counts a flood of what senders and plugins might make up: no series come of it.
func TestSeriesStay(t *testing.T) {
	m := full()
	lines := func() int { return strings.Count(scrape(t, m, ""), "\ngrapnel_") }
	source, sink := m.Source("hr"), m.Sink("out")
	sink.Attempted("of a later version")
	before := lines()
	for i := range 1000 {
		sink.Attempted(sdk.OutcomeKind("outcome-" + fmt.Sprint(i)))
		sink.Settled(delivery(time.Now()), core.DeliveryState(fmt.Sprint(i)))
		source.Decided(1, 1, false)
	}
	if after := lines(); after != before {
		t.Errorf("%d lines became %d", before, after)
	}
}

// TestNothingAllocates is what makes counting free.
func TestNothingAllocates(t *testing.T) {
	m := New(Options{})
	source, sink, route, st, d := m.Source("hr"), m.Sink("out"), m.Route("all"), m.Store(), delivery(time.Now())
	n := testing.AllocsPerRun(100, func() {
		st.Committed(2, 1, time.Millisecond)
		st.Synced(time.Millisecond)
		source.Accepted(time.Millisecond)
		source.Decoded(1, time.Millisecond)
		source.Routed(time.Millisecond)
		source.Matched("all", 1)
		source.Decided(1, 0, false)
		route.Evaluated(time.Millisecond)
		sink.Called(1, time.Millisecond)
		sink.Attempted("delivered")
		sink.Settled(d, core.DeliveryDelivered)
	})
	if n != 0 {
		t.Errorf("%g allocations", n)
	}
}
