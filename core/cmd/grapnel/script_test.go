//go:build unix

package main

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// programs are the built plugins.
var programs harness.Programs

type tests struct{ *testing.M }

func (t tests) Run() int { return programs.Main(t.M) }

func TestMain(m *testing.M) { testscript.Main(tests{m}, map[string]func(){"grapnel": main}) }

// TestScripts runs the command line as people do. Beside testscript's own commands there are "ready", which waits until the
// host of data/ answers and all that it holds is settled, "up", which waits until it answers, and "gone", which waits until
// it has stopped; "serve DIR" serves a folder at $MIRROR.
func TestScripts(t *testing.T) {
	cache := t.TempDir() // of plugin descriptions
	plugins := programs.PluginDir(t)
	repository, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer l.Close()
			env.Setenv("LISTEN", l.Addr().String())
			env.Setenv("PLUGINS", plugins)
			env.Setenv("REPOSITORY", repository)
			env.Setenv("XDG_CACHE_HOME", cache)
			env.Setenv("HOME", cache)
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": func(ts *testscript.TestScript, _ bool, _ []string) { await(ts, true, true) },
			"up":    func(ts *testscript.TestScript, _ bool, _ []string) { await(ts, true, false) },
			"serve": serve,
			"gone":  func(ts *testscript.TestScript, _ bool, _ []string) { await(ts, false, true) },
		},
	})
}

// await waits until the host of the script's data folder runs or not, and what it holds is settled.
func await(ts *testscript.TestScript, running, settled bool) {
	socket, err := admin.SocketPath(filepath.Join(ts.Getenv("WORK"), "data"))
	ts.Check(err)
	client := admin.NewClient(socket)
	defer client.Close()
	for start := time.Now(); time.Since(start) < harness.Patience; time.Sleep(10 * time.Millisecond) {
		s, err := client.Status(context.Background())
		if (err == nil) != running {
			continue
		}
		waiting := s.Stats.Requests["received"]
		for _, states := range s.Stats.Deliveries {
			waiting += states["pending"]
		}
		if waiting == 0 || !settled {
			return
		}
	}
	ts.Fatalf("the host is not as it should be within %s", harness.Patience)
}

// serve serves a folder of the script's at $MIRROR, over HTTPS where a process can be told which certificates to trust.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	if runtime.GOOS != "linux" {
		s := httptest.NewServer(files)
		ts.Defer(s.Close)
		ts.Setenv("MIRROR", s.URL)
		return
	}
	s := httptest.NewTLSServer(files)
	ts.Defer(s.Close)
	ca := ts.MkAbs("ca.pem")
	ts.Check(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	ts.Setenv("SSL_CERT_FILE", ca)
	ts.Setenv("MIRROR", s.URL)
}
