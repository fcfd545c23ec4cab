//go:build foreign && linux

package foreign

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// server is a program of somebody else's that a test kills and starts again.
type server struct {
	t    testing.TB
	args []string
	addr string
	dir  string
	cmd  *exec.Cmd
	log  *os.File
}

// newServer prepares a server that listens on addr and keeps its files in dir.
func newServer(t testing.TB, dir, addr string, args ...string) *server {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, args: args, addr: addr, dir: dir, log: f}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			b, _ := os.ReadFile(f.Name())
			t.Logf("the log of %s:\n%s", args[0], b[max(0, len(b)-4000):])
		}
		_ = f.Close()
	})
	return s
}

// start starts it and waits until it listens.
func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.addr); err == nil {
			_ = c.Close()
			return
		}
		if time.Since(began) > time.Minute {
			s.t.Fatalf("%s does not listen on %s", s.args[0], s.addr)
		}
	}
}

// kill kills it with SIGKILL, if it runs.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// ask makes a request with a JSON body and decodes a JSON answer. It fails the test unless the status is 2xx.
func ask(t testing.TB, method, url, authorization string, body, answer any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %d %s %v", method, url, resp.StatusCode, text, err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatalf("%s %s: %v\n%s", method, url, err, text)
		}
	}
}

// run runs a command to its end.
func run(t testing.TB, dir string, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// restReadme has the configurations that are tested.
const restReadme = "../../../plugins/sink-crm/rest/README.md"

// quick is a documented configuration with short pauses, and with more in its delivery block.
func quick(t testing.TB, config, more string) string {
	t.Helper()
	const block = "  delivery {\n"
	if strings.Count(config, block) != 1 {
		t.Fatal("the configuration has no delivery block")
	}
	return strings.Replace(config, block, block+fmt.Sprintf(`
    retry {
      min = "100ms"
      max = "2s"
    }
    breaker {
      min = "100ms"
      max = "1s"
    }
    %s
`, more), 1)
}
