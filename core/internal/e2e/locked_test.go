//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

const youforceToStamped = harness.YouforceSource + `
sink "stamped" "out" {
  file = "out.txt"
}
route "all" {
  to "stamped" "out" {}
}
`

// lockedHost is a host with a plugins' folder of its own, the programs in it, and a lock file. program is the path of the
// sink's.
func lockedHost(t *testing.T) (h *harness.Host, program string) {
	t.Helper()
	h = programs.NewHost(t, harness.Options{Config: youforceToStamped})
	text, err := os.ReadFile(h.Path("config.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	shared := programs.PluginDir(t)
	own := bytes.Replace(text, fmt.Appendf(nil, "dir = %q", shared), []byte(`dir = "plugins"`), 1)
	if bytes.Equal(own, text) {
		t.Fatal("the harness writes the plugins' folder in another way")
	}
	program = h.Path("plugins/grapnel-sink-stamped_v1.2.0")
	plain, err := os.ReadFile(filepath.Join(shared, "grapnel-sink-stamped"))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(h.Path("config.hcl"), own, 0o600), os.Mkdir(h.Path("plugins"), 0o700),
		os.WriteFile(program, append(plain, "\n#stamp {\"version\": \"1.2.0\"}\n"...), 0o700),
		os.Link(filepath.Join(shared, "grapnel-decoder-youforce"), h.Path("plugins/grapnel-decoder-youforce")))
	if err != nil {
		t.Fatal(err)
	}
	h.MustRun("plugin", "lock")
	h.MustRun("plugin", "lock", "--check")
	return h, program
}

// intruder writes a program that leaves the file "ran" when it is started, and returns its path.
func intruder(t *testing.T, h *harness.Host) string {
	t.Helper()
	path := h.Path("intruder")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho >>"+h.Path("ran")+"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// swap puts a program, of which there is another name, in the place of another at once.
func swap(from, to string) error {
	next := to + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.Link(from, next), os.Rename(next, to))
}

func mustSwap(t *testing.T, from, to string) {
	t.Helper()
	if err := swap(from, to); err != nil {
		t.Fatal(err)
	}
}

func mustNotHaveRun(t *testing.T, h *harness.Host) {
	t.Helper()
	if _, err := os.Stat(h.Path("ran")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program ran that was not locked: %v", err)
	}
}

// delivered waits until the stamped sink has written so many lines.
func delivered(t *testing.T, h *harness.Host, n int) {
	t.Helper()
	h.Eventually(harness.Patience, fmt.Sprintf("%d are delivered", n), func() bool {
		text, err := os.ReadFile(h.Path("out.txt"))
		return err == nil && strings.Count(string(text), "1.2.0 ") == n && strings.Count(string(text), "\n") == n
	})
}

// TestLockedProgramOnly replaces the sink's program in a running host, in the plugins' folder and in the host's own, and
// has it die: only the program that was locked runs, or none.
func TestLockedProgramOnly(t *testing.T) {
	t.Parallel()
	h, program := lockedHost(t)
	kept, other := h.Path("kept"), intruder(t, h)
	if err := os.Link(program, kept); err != nil {
		t.Fatal(err)
	}
	copies := func() string {
		found, err := filepath.Glob(h.Path("run/grapnel-run-*/" + filepath.Base(program) + ".*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("copies of the program: %q, %v", found, err)
		}
		return found[0]
	}
	crash := func() (old int) {
		p := h.Plugin("sink-stamped")
		harness.Process{PID: p.PID}.Kill()
		return p.PID
	}
	post := func(n int) { h.MustPost(harness.Youforce("hr", "swap", n)) }

	h.Start()
	post(1)
	delivered(t, h, 1)

	// Replaced in the plugins' folder: the host has its own copy, and does not look there.
	mustSwap(t, other, program)
	old := crash()
	h.Eventually(harness.Patience, "it runs again", func() bool {
		p := h.Plugin("sink-stamped")
		return p.State == "ready" && p.PID != old
	})
	post(2)
	delivered(t, h, 2)

	// Replaced there as well: it does not start, what it should do waits, and the status says why.
	mustSwap(t, other, copies())
	crash()
	h.Eventually(harness.Patience, "it does not run", func() bool {
		p := h.Plugin("sink-stamped")
		return p.PID == 0 && strings.Contains(p.LastCrash, "was changed on disk since it was described")
	})
	post(3)
	h.Stop()
	mustNotHaveRun(t, h)

	// A start is refused, and says what to do.
	_, said, err := h.Run("run")
	if err == nil || !strings.Contains(said, "is not the one that was locked") ||
		!strings.Contains(said, "grapnel plugin install --locked --replace SOURCE") {
		t.Errorf("%v\n%s", err, said)
	}
	if _, said, err = h.Run("plugin", "lock", "--check"); err == nil || !strings.Contains(said, "is not the program that was locked") {
		t.Errorf("%v\n%s", err, said)
	}
	mustNotHaveRun(t, h)

	// The locked program is installed again; then its copy is replaced, which the host mends.
	if err := os.Rename(kept, h.Path("grapnel-sink-stamped_v1.2.0")); err != nil {
		t.Fatal(err)
	}
	h.MustRun("plugin", "install", "--locked", "--replace", h.Path("grapnel-sink-stamped_v1.2.0"), "sink-stamped")
	h.Start()
	delivered(t, h, 3)
	mustSwap(t, other, copies())
	old = crash()
	h.Eventually(harness.Patience, "it runs again", func() bool {
		p := h.Plugin("sink-stamped")
		return p.State == "ready" && p.PID != old
	})
	post(4)
	delivered(t, h, 4)
	h.Stop()
	mustNotHaveRun(t, h)
}

// TestSwappedWhileStarting has the sink's program replaced all the time while hosts start: between a check and a start,
// too. Each of them runs the program that was locked, or none.
func TestSwappedWhileStarting(t *testing.T) {
	t.Parallel()
	h, program := lockedHost(t)
	kept, other := h.Path("kept"), intruder(t, h)
	if err := os.Link(program, kept); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	var swaps int
	var swapErr error
	// The locked program is there most of the time, or no host would come as far as a start.
	stay := []time.Duration{80 * time.Millisecond, 5 * time.Millisecond}
	swapping.Go(func() {
		for ; swapErr == nil; swaps++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(int(stay[swaps%2])))):
			}
			swapErr = swap([]string{other, kept}[swaps%2], program)
		}
	})
	started, refused := 0, 0
	for range 6 {
		h.Launch()
		pid, runs := h.PID(), false
		h.Eventually(harness.Patience, "the host runs, or not", func() bool {
			s, err := h.Control.Status(t.Context())
			runs = err == nil && s.Running
			return runs || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
		})
		if !runs {
			refused++
			h.Kill()
			continue
		}
		started++
		for _, p := range h.Plugins() {
			p.Kill()
		}
		h.Eventually(harness.Patience, "the plugin was started again, or not", func() bool {
			return h.Plugin("sink-stamped").LastCrash != ""
		})
		h.Kill()
	}
	close(stop)
	swapping.Wait()
	if swapErr != nil {
		t.Error(swapErr)
	}
	t.Logf("%d swaps: %d hosts ran, %d were refused", swaps, started, refused)
	mustNotHaveRun(t, h)
}
