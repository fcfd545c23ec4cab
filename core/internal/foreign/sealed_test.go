//go:build foreign && linux

package foreign

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestSealedFilesRead has gzip, zstd and jq read what the file sink has sealed and compressed, while the host was
// killed twice and someone moved the file away that was written to.
func TestSealedFilesRead(t *testing.T) {
	need(t, "jq")
	for _, c := range []struct {
		compress, end string
		test, cat     []string
	}{
		{"gzip", ".gz", []string{"gzip", "-t"}, []string{"zcat"}},
		{"zstd", ".zst", []string{"zstd", "-q", "-t"}, []string{"zstd", "-q", "-d", "-c"}},
	} {
		t.Run(c.compress, func(t *testing.T) {
			need(t, c.test[0])
			need(t, c.cat[0])
			h := programs.NewHost(t, harness.Options{Config: harness.YouforceSource + fmt.Sprintf(`
sink "file" "out" {
  dir = "out"
  rotate {
    max_size = "64KiB"
    max_age  = "1h"
    idle     = "1s"
  }
  compress = %q
  retain {
    max_files = 1000
  }
}
route "all" {
  to "file" "out" {
    path = "by-type/${event.type}.jsonl"
  }
}
`, c.compress)})
			h.Start()
			dir := h.Path("out/by-type")
			moved := h.Path("out/moved.1")
			events := 0
			send := func() {
				h.MustPost(harness.Youforce("hr", fmt.Sprint("sealed-", events%20), events))
				events++
			}
			for range 200 {
				send()
			}
			h.Kill()
			h.Start()
			// As logrotate does. Between two events the file may have been sealed just now.
			h.Eventually(10*time.Second, "a file is written to", func() bool {
				send()
				return os.Rename(filepath.Join(dir, "youforce.employment.updated.jsonl"), moved) == nil
			})
			for range 200 {
				send()
			}
			h.Kill()
			h.Start()
			for range 200 {
				send()
			}
			h.WaitSettled(20 * time.Second)
			var files []string
			h.Eventually(20*time.Second, "all files are sealed and compressed", func() bool {
				all, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				files = nil
				for _, f := range all {
					if filepath.Ext(f.Name()) != c.end {
						return false
					}
					files = append(files, filepath.Join(dir, f.Name()))
				}
				return true
			})
			h.Stop()
			output(t, nil, append(c.test, files...)...)
			lines := output(t, nil, append(c.cat, files...)...)
			b, err := os.ReadFile(moved)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, b...)
			// A delivery whose outcome was lost with the host comes again, with the same id.
			const filter = `[(map(.deliveryid) | unique | length), (map(.data.number) | unique | length)]`
			got := strings.TrimSpace(string(output(t, lines, "jq", "-s", "-c", filter)))
			if want := fmt.Sprintf("[%d,%d]", events, events); got != want {
				t.Errorf("jq counts deliveries and events as %s, want %s", got, want)
			}
			if len(files) < 4 {
				t.Errorf("only %d files: %q", len(files), files)
			}
			t.Logf("%d files, %d bytes of lines", len(files), len(lines))
		})
	}
}

// output runs a command and returns what it prints.
func output(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	var errOut bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, errOut.String())
	}
	return out
}
