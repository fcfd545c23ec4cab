//go:build unix

package e2e

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestSinkRefusesItsConfiguration has a sink whose file is not there: the host runs without it, and it works once the
// file is there.
func TestSinkRefusesItsConfiguration(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	t.Cleanup(server.Close)
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + `
sink "file" "out" {
  dir = "out"
}
sink "http" "partner" {
  url           = "` + server.URL + `"
  allow_private = true
  tls {
    ca = "ca.pem"
  }
}
route "all" {
  to "file" "out" {}
  to "http" "partner" {}
}
`})
	h.Start()
	h.MustPost(harness.Youforce("hr", "k", 1))
	h.Eventually(harness.Patience, "the file sink has its delivery", func() bool {
		return h.Count("out", core.DeliveryDelivered) == 1
	})
	for _, s := range h.Status().Sinks {
		if s.Sink == "partner" && (s.State != "down" || !strings.Contains(s.Reason, "ca.pem: no such file")) {
			t.Errorf("%s: %s", s.State, s.Reason)
		}
	}
	if n := h.Count("partner", core.DeliveryPending); n != 1 {
		t.Errorf("%d deliveries wait", n)
	}
	put(t, h, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	h.WaitSettled(harness.Patience)
	if got.Load() != 1 {
		t.Errorf("%d deliveries reached the endpoint", got.Load())
	}
	h.Stop()
}

// TestStartAmongCommands starts hosts while commands look at the data folder all the time.
func TestStartAmongCommands(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
	h.Start()
	h.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	for range 2 {
		watching.Go(func() {
			for ctx.Err() == nil {
				// Whether it finds the host, the store or neither for a moment is all the same here.
				_ = exec.Command(programs.Grapnel(t), "status", "--config", h.Path("config.hcl")).Run()
			}
		})
	}
	for range 3 {
		h.Start()
		h.Stop()
	}
	h.Start()
	cancel()
	watching.Wait()
	h.Stop()
}
