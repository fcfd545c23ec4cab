//go:build linux

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestServiceManager is the service manager of a host: it hears when the host is ready, reloads, lives and stops.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "notify") // short: a socket's path must fit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	// hear reads messages until one begins with the given words, and returns it.
	hear := func(begins string) string {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for message := make([]byte, 4096); ; {
			n, err := socket.Read(message)
			if err != nil {
				t.Fatalf("waiting for %s: %v", begins, err)
			}
			if said := string(message[:n]); strings.HasPrefix(said, begins) {
				return said
			}
		}
	}

	h := programs.NewHost(t, harness.Options{
		Config: harness.YouforceToFile, Env: []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "s"), "WATCHDOG_USEC=100000"},
	})
	h.Start()
	if said := hear("READY=1"); !strings.Contains(said, "STATUS=1 sources, 1 sinks, 1 routes") {
		t.Errorf("heard %q", said)
	}
	for range 3 {
		hear("WATCHDOG=1")
	}
	h.Configure("nonsense {}")
	if _, _, err := h.Run("reload"); err == nil {
		t.Error("nonsense was loaded")
	}
	if said := hear("RELOADING=1"); !strings.Contains(said, "MONOTONIC_USEC=") {
		t.Errorf("heard %q", said)
	}
	if said := hear("READY=1"); !strings.Contains(said, "the newest reload failed") {
		t.Errorf("heard %q", said)
	}
	hear("WATCHDOG=1")
	h.Terminate()
	hear("STOPPING=1")
	if err := h.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
}
