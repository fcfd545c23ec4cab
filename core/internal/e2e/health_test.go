//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestHealth checks what /healthz and /readyz of a real host say without a token: when all is well, while a source's plugin is
// down, when the disk is short, and while the host stops.
func TestHealth(t *testing.T) {
	t.Parallel()
	address := programs.FreeAddress(t)
	config := harness.YouforceToFile + fmt.Sprintf(`
admin {
  listen = %q
  token  = %q
}
`, address, adminToken)
	h := programs.NewHost(t, harness.Options{Config: config})
	h.Start()
	p := people{t, "http://" + address}
	for _, path := range []string{"/healthz", "/readyz"} {
		h.Eventually(harness.Patience, path+" is well", func() bool {
			status, body := p.ask("GET", path, "", nil)
			return status == 200 && body == "ok\n"
		})
		if status, body := p.ask("HEAD", path, "", nil); status != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, status, body)
		}
		if status, body := p.ask("POST", path, "", nil); status == 200 {
			t.Errorf("POST %s: %d %q", path, status, body)
		}
	}
	alive := func(when string) {
		t.Helper()
		if status, body := p.ask("GET", "/healthz", "", nil); status != 200 {
			t.Errorf("%s: %d %q", when, status, body)
		}
	}

	h.Eventually(harness.Patience, "the host is not ready without the source's plugin", func() bool {
		for _, plugin := range h.Plugins() {
			if plugin.Plugin() == "decoder-youforce" {
				plugin.Kill()
			}
		}
		status, body := p.ask("GET", "/readyz", "", nil)
		return status == 503 && body == "source \"hr\": its plugin is not ready\n"
	})
	alive("without a plugin")
	h.Eventually(time.Minute, "the host is ready again", func() bool {
		status, _ := p.ask("GET", "/readyz", "", nil)
		return status == 200
	})

	// A request that does not end keeps the host from its end.
	conn, err := net.Dial("tcp", h.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	post := harness.Youforce("hr", "slow", 1)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", post.Path, len(post.Body))
	for k, vs := range post.Header {
		head += k + ": " + vs[0] + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"+string(post.Body[:1])); err != nil {
		t.Fatal(err)
	}
	h.MustPost(harness.Youforce("hr", "other", 2)) // by now the other has begun
	h.Terminate()
	h.Eventually(harness.Patience, "the host stops", func() bool {
		status, body := p.ask("GET", "/readyz", "", nil)
		return status == 503 && body == "the host stops\n"
	})
	alive("while it stops")
	if _, err := conn.Write(post.Body[1:]); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	if n, err := conn.Read(answer); err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 2")) {
		t.Errorf("%q, %v", answer[:n], err)
	}
	if err := h.Wait(harness.Patience); err != nil {
		t.Error(err)
	}

	// More than there is on any disk.
	text := strings.Replace(h.Configuration(config), "1MiB", "1024TiB", 1)
	if err := os.WriteFile(h.Path("config.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Start()
	h.Eventually(harness.Patience, "the disk is short", func() bool {
		status, body := p.ask("GET", "/readyz", "", nil)
		return status == 503 && body == "the disk is short\n"
	})
	alive("with a short disk")
	h.Stop()
}
