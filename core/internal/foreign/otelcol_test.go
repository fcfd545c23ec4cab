//go:build foreign && linux

package foreign

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/internal/otlptest"
)

// TestCollector has the OpenTelemetry Collector get one connected trace of a webhook through both plugin processes.
func TestCollector(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "otelcol")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir, build.Env = "otelcol", append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	addr, received := programs.FreeAddress(t), filepath.Join(dir, "spans.txt")
	config := fmt.Sprintf(`
receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
exporters: {debug: {verbosity: detailed, use_internal_logger: false, output_paths: [%q]}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
`, addr, received)
	if err := os.WriteFile(filepath.Join(dir, "collector.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	newServer(t, dir, addr, program, "--config", "collector.yaml").start()

	far := harness.NewEndpoint(t)
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + fmt.Sprintf(`
tracing {
  endpoint = "http://%s"
}
sink "http" "far" {
  url           = %q
  allow_private = true
}
route "all" {
  to "http" "far" {}
}
`, addr, far.URL)})
	h.Start()
	h.MustPost(harness.Youforce("hr", "k", 1))
	h.WaitSettled(harness.Patience)
	h.Stop()
	want := []string{
		"accept hr", "accept hr > decode hr", "accept hr > decode hr > grapnel-decoder-youforce:decode",
		"accept hr > deliver far", "accept hr > deliver far > grapnel-sink-http:deliver", "accept hr > route", "accept hr > store",
	}
	var spans []otlptest.Span
	h.Eventually(harness.Patience, "the collector has all spans", func() bool {
		text, err := os.ReadFile(received)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		spans = collected(string(text))
		return len(spans) >= len(want)
	})
	got := otlptest.Tree(spans)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, s := range spans {
		if s.Trace != spans[0].Trace {
			t.Errorf("another trace: %v", s)
		}
		if sent := far.Requests()[0].Header.Get("Traceparent"); s.Name == "deliver" && sent != "00-"+s.Trace+"-"+s.ID+"-01" {
			t.Errorf("the far end was sent %s by %v", sent, s)
		}
	}
}

var spanLine = regexp.MustCompile(`^ *(?:-> )?(service\.name|Trace ID|Parent ID|ID|Name) *: *(.*?)$`)

// collected reads what the collector's debug exporter writes, one value in a line.
func collected(text string) []otlptest.Span {
	var spans []otlptest.Span
	service := ""
	for line := range strings.Lines(text) {
		m := spanLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		switch last := len(spans) - 1; m[1] {
		case "service.name":
			service = strings.TrimSuffix(strings.TrimPrefix(m[2], "Str("), ")")
		case "Trace ID":
			spans = append(spans, otlptest.Span{Service: service, Trace: m[2]})
		case "Parent ID":
			spans[last].Parent = m[2]
		case "ID":
			spans[last].ID = m[2]
		case "Name":
			spans[last].Name = m[2]
		}
	}
	return spans
}
