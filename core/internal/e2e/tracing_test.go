//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/internal/otlptest"
)

// TestTraces has a webhook's way through both plugin processes, an attempt that fails, a host that is killed and one that
// goes on appear as one trace below the provider's span, and as many traces as webhooks where several come together.
func TestTraces(t *testing.T) {
	t.Parallel()
	to := otlptest.New(t)
	far := harness.NewEndpoint(t)
	var (
		mu      sync.Mutex
		parents []string // that the far end was sent
		works   atomic.Bool
	)
	far.Answer = func(r *http.Request, _ []byte) int {
		mu.Lock()
		defer mu.Unlock()
		parents = append(parents, r.Header.Get("Traceparent"))
		if works.Load() {
			return http.StatusNoContent
		}
		return http.StatusServiceUnavailable
	}
	h := programs.NewHost(t, harness.Options{
		Env: []string{"OTLP_KEY=the key of otlp"},
		Config: harness.YouforceSource + fmt.Sprintf(`
tracing {
  endpoint = %q
  headers  = { X-Key = env("OTLP_KEY") }
}
sink "http" "far" {
  url           = %q
  allow_private = true
  delivery {
    retry {
      min = "10s"
    }
  }
}
route "all" {
  to "http" "far" {}
}
`, to.URL, far.URL),
	})
	h.Start()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	post := harness.Youforce("hr", "k0", 0)
	post.Header.Set("Traceparent", "00-"+trace+"-"+span+"-01")
	h.MustPost(post)
	named := func(spans []otlptest.Span, name string) (found []otlptest.Span) {
		for _, s := range spans {
			if s.Name == name {
				found = append(found, s)
			}
		}
		return found
	}
	h.Eventually(harness.Patience, "the failed attempt is exported", func() bool {
		return len(named(to.Of(trace), "deliver far")) > 0
	})
	h.Kill()
	works.Store(true)
	h.Start()
	const more = 20
	var posting sync.WaitGroup
	for i := range more {
		posting.Go(func() {
			if _, err := h.Post(harness.Youforce("hr", fmt.Sprintf("k%d", i+1), i+1)); err != nil {
				t.Error(err)
			}
		})
	}
	posting.Wait()
	h.WaitSettled(harness.Patience)
	h.Stop()

	const decoder, sink = "grapnel-decoder-youforce:", "grapnel-sink-http:"
	way := []string{
		"accept hr", "accept hr > store", "accept hr > decode hr", "accept hr > decode hr > " + decoder + "decode",
		"accept hr > route", "accept hr > deliver far", "accept hr > deliver far > " + sink + "deliver",
	}
	twice := append(slices.Clone(way), way[5:]...)
	traces := map[string]bool{}
	for _, s := range to.Spans() {
		traces[s.Trace] = true
	}
	if len(traces) != 1+more {
		t.Errorf("%d traces", len(traces))
	}
	sent := map[string]int{}
	mu.Lock()
	for _, p := range parents {
		sent[p]++
	}
	mu.Unlock()
	for id := range traces {
		spans, want := to.Of(id), way
		if id == trace {
			want = twice
			if root := named(spans, "accept hr"); len(root) != 1 || root[0].Parent != span {
				t.Errorf("the acceptance %v", root)
			}
		}
		got := otlptest.Tree(spans)
		slices.Sort(got)
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got); diff != "" {
			t.Errorf("the trace %s -want +got:\n%s", id, diff)
		}
		for _, s := range named(spans, "deliver") {
			if n := sent["00-"+id+"-"+s.ID+"-01"]; n != 1 {
				t.Errorf("%d calls to the far end were below %v", n, s)
			}
		}
	}
	if len(to.Headers()) == 0 || to.Headers()[0].Get("X-Key") != "the key of otlp" {
		t.Error("the exports lack their header")
	}
	log := h.Log()
	if !strings.Contains(log, trace) || strings.Contains(log, "the key of otlp") {
		t.Error("the log has no trace_id, or a secret")
	}
}
