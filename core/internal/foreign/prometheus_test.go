//go:build foreign && linux

package foreign

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

const (
	operations  = "../../../docs/operations/"
	scrapeToken = "e2e-scrape-token-9c3b7f21"
)

// TestAlertRules has promtool check the alert rules, and every one of them fire, and not before it is time.
func TestAlertRules(t *testing.T) {
	need(t, "promtool")
	run(t, ".", nil, "promtool", "check", "rules", operations+"grapnel-rules.yml")
	run(t, ".", nil, "promtool", "test", "rules", "testdata/rules_test.yml")

	names := func(file, pattern string) []string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(b), -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	rules := names(operations+"grapnel-rules.yml", `- alert: (\w+)`)
	fired := names("testdata/rules_test.yml", `alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels`)
	if len(rules) < 10 || !slices.Equal(rules, fired) {
		t.Errorf("the rules are %v, those that fire in a test %v", rules, fired)
	}
}

// prom is a Prometheus server.
type prom struct {
	t testing.TB
	*server
}

// startPrometheus starts a server that scrapes a host's admin listener, by the documented configuration.
func startPrometheus(t *testing.T, target, more string, flags ...string) prom {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(operations + "grapnel-rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	documented := documentedYAML(t)
	config := strings.NewReplacer(
		"grapnel-rules.yml", rules, "/etc/prometheus/grapnel.token", filepath.Join(dir, "token"), "127.0.0.1:8081", target,
	).Replace(documented)
	if !strings.Contains(config, rules) || !strings.Contains(config, target) || !strings.Contains(config, filepath.Join(dir, "token")) {
		t.Fatalf("the documented configuration has another form:\n%s", documented)
	}
	config = "global: { scrape_interval: 1s, evaluation_interval: 1s }\n" + config + more
	for name, text := range map[string]string{"prometheus.yml": config, "token": scrapeToken} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, nil, "promtool", "check", "config", "prometheus.yml")
	address := programs.FreeAddress(t)
	s := newServer(t, dir, address, append([]string{
		"prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", "--web.listen-address=" + address,
	}, flags...)...)
	s.start()
	return prom{t, s}
}

// query asks for the values of an expression now, by their labels.
func (p prom) query(expr string) map[string]float64 {
	p.t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	ask(p.t, http.MethodGet, "http://"+p.addr+"/api/v1/query?query="+url.QueryEscape(expr), "", nil, &answer)
	values := map[string]float64{}
	for _, r := range answer.Data.Result {
		v, err := strconv.ParseFloat(r.Value[1].(string), 64)
		if err != nil {
			p.t.Fatal(err)
		}
		values[fmt.Sprint(r.Metric)] = v
	}
	return values
}

// is waits until an expression has one value, which fits.
func (p prom) is(expr string, fits func(float64) bool) {
	p.t.Helper()
	var got map[string]float64
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(200 * time.Millisecond) {
		got = p.query(expr)
		for _, v := range got {
			if len(got) == 1 && fits(v) {
				return
			}
		}
	}
	p.t.Fatalf("%s is %v", expr, got)
}

// TestPrometheus has real Prometheus servers scrape a host under load: one as it is, one with native histograms. What they
// say agrees with the host, the dashboard's expressions have answers, and so have the rules.
func TestPrometheus(t *testing.T) {
	need(t, "promtool")
	need(t, "prometheus")
	far := harness.NewEndpoint(t)
	far.Answer = func(_ *http.Request, body []byte) int {
		if strings.Contains(string(body), "employment/dead") {
			return http.StatusUnprocessableEntity
		}
		return http.StatusNoContent
	}
	address := programs.FreeAddress(t)
	host := programs.NewHost(t, harness.Options{Config: fmt.Sprintf(`
admin {
  listen = %q
  token  = %q
}
%s
sink "file" "out" {
  dir = "out"
}
sink "http" "partner" {
  url           = %q
  allow_private = true
}
route "all" {
  to "file" "out" {}
}
route "partner" {
  on   = ["youforce.employment.updated"]
  when = event.subject == "employment/dead" || event.subject == "employment/again"
  to "http" "partner" {}
}
`, address, scrapeToken, harness.YouforceSource, far.URL)})
	host.Start()
	classic := startPrometheus(t, address, "")
	native := startPrometheus(t, address, "", "--enable-feature=native-histograms")

	const events = 3000
	load := host.StartLoad(harness.LoadOptions{Limit: events, Rate: 500})
	for i := range 20 {
		p := harness.Youforce("hr", "forged", i)
		p.Header.Set("X-VWD-Signature-V1", "AAAA")
		if a, err := host.Post(p); err != nil || a.Status != http.StatusUnauthorized {
			t.Fatalf("%+v %v", a, err)
		}
		// Hostile words of a sender, in all the places that it can write to.
		odd := harness.NewPost(fmt.Sprintf("/hooks/%%22%%7Bodd%d%%7D%%0A", i), []byte(`{}`))
		if a, err := host.Post(odd); err != nil || a.Status != http.StatusNotFound {
			t.Fatalf("%+v %v", a, err)
		}
		host.MustPost(harness.SignYouforce("hr", fmt.Sprintf("EMPLOYMENT_ODD%d\"{}", i), fmt.Sprint("odd", i),
			fmt.Appendf(nil, `{"id":"x%d","operation":"Update","tenantId":"\"{%d}","timestamp":"2026-01-15T10:12:35Z"}`, i, i)))
	}
	host.MustPost(harness.Youforce("hr", "dead", 1))
	host.MustPost(harness.Youforce("hr", "again", 1))
	host.MustPost(harness.Youforce("hr", "again", 1))
	load.Wait()
	host.WaitSettled(harness.Patience)

	is := func(n float64) func(float64) bool { return func(v float64) bool { return v == n } }
	above := func(n float64) func(float64) bool { return func(v float64) bool { return v > n } }
	accepted := float64(events + 20 + 2)
	classic.is(`up{job="grapnel"}`, is(1))
	for expr, fits := range map[string]func(float64) bool{
		`grapnel_requests_total{source="hr",result="accepted"}`:                               is(accepted),
		`grapnel_requests_total{source="hr",result="duplicate"}`:                              is(1),
		`grapnel_rejections_total{source="hr",cause="malformed_signature"}`:                   above(0),
		`sum(grapnel_rejections_total{source="hr"})`:                                          is(20),
		`grapnel_rejections_total{source="",cause="unknown_path"}`:                            is(20),
		`grapnel_accept_duration_seconds_count`:                                               is(accepted),
		`sum(grapnel_decisions_total)`:                                                        is(accepted),
		`grapnel_route_events_total{route="all"} >= bool ` + fmt.Sprint(events):               is(1),
		`grapnel_settled_total{sink="partner",state="dead"}`:                                  is(1),
		`grapnel_stored_deliveries{sink="partner",state="dead"}`:                              is(1),
		`grapnel_attempts_total{sink="out",outcome="delivered"}`:                              above(events - 1),
		`grapnel_end_to_end_duration_seconds_count{sink="out"}`:                               above(events - 1),
		`grapnel_sink_state{sink="out",state="working"}`:                                      is(1),
		`grapnel_sink_backlog_deliveries{sink="out"}`:                                         is(0),
		`grapnel_store_commit_requests_sum`:                                                   is(accepted),
		`grapnel_plugin_state{plugin="sink-http",state="ready"}`:                              is(1),
		`grapnel_plugin_cpu_seconds_total{plugin="sink-file"}`:                                above(0),
		`grapnel_plugin_resident_memory_bytes{plugin="sink-file"}`:                            above(1 << 20),
		`grapnel_plugin_open_fds{plugin="sink-file"}`:                                         above(3),
		`grapnel_disk_free_bytes`:                                                             above(1 << 20),
		`histogram_quantile(0.99, sum by (le) (grapnel_store_fsync_duration_seconds_bucket))`: above(0),
		`ALERTS{alertname="GrapnelDeadLetters"}`:                                              is(1),
	} {
		classic.is(expr, fits)
	}
	native.is(`histogram_count(grapnel_accept_duration_seconds)`, is(accepted))
	native.is(`histogram_quantile(0.99, sum(grapnel_store_fsync_duration_seconds)) > bool 0`, is(1))

	checkSeries(t, address)
	checkDashboard(t, classic)
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	ask(t, http.MethodGet, "http://"+classic.addr+"/api/v1/rules", "", nil, &rules)
	for _, g := range rules.Data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("the rule %s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if n := host.Count("partner", core.DeliveryDead); n != 1 {
		t.Errorf("%d dead deliveries", n)
	}
}

// checkSeries has promtool read a scrape, and looks for words of senders in it. Without the token there is none.
func checkSeries(t *testing.T, address string) {
	t.Helper()
	get := func(token string) (status int, text string) {
		req, err := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, text := get("wrong"); status != http.StatusUnauthorized || strings.Contains(text, "grapnel_") {
		t.Errorf("with a wrong token: %d", status)
	}
	status, text := get(scrapeToken)
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(strings.ToLower(line), "odd") || strings.Contains(line, "employment") {
			t.Errorf("a word of a sender: %s", line)
		}
	}
	if n := strings.Count(text, "\n"); n > 1500 {
		t.Errorf("%d lines", n)
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// checkDashboard asks for every expression of the dashboard. Those that compare, or are of what this host has not, may
// have no answer; none may be an error.
func checkDashboard(t *testing.T, p prom) {
	t.Helper()
	b, err := os.ReadFile(operations + "grapnel-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, panel := range d.Panels {
		for _, q := range panel.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$source", ".*", "$sink", ".*").Replace(q.Expr)
			mayBeEmpty := strings.HasSuffix(expr, "> 0") || strings.Contains(expr, "grapnel_alert_firing") ||
				strings.Contains(expr, "grapnel_trace_spans")
			if len(p.query(expr)) == 0 && !mayBeEmpty {
				t.Errorf("the panel %q: no answer to %s", panel.Title, expr)
			}
			asked++
		}
	}
	if asked < 40 {
		t.Errorf("only %d expressions", asked)
	}
}

// documentedYAML is the configuration of Prometheus in the reference.
func documentedYAML(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(operations + "metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(b), "```yaml\n")
	text, _, closed := strings.Cut(after, "```\n")
	if !found || !closed {
		t.Fatal("metrics.md has no configuration")
	}
	return text
}
