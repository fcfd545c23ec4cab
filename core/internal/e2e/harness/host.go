//go:build unix

package harness

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

// Secrets of the sources that the helpers of this package sign for. Every host has them in its environment.
const (
	YouforceSecret    = "e2e youforce secret 7d41"    // YOUFORCE_SECRET
	PeopleForceSecret = "e2e peopleforce secret 90be" // PEOPLEFORCE_SECRET
	AccuLynxToken     = "e2e-acculynx-token-53fa"     // ACCULYNX_TOKEN
)

// YouforceToFile is a configuration: the source "hr", and every event as a CloudEvent in out/events.jsonl.
const YouforceToFile = YouforceSource + `
sink "file" "out" {
  dir = "out"
}
route "all" {
  to "file" "out" {}
}
`

// YouforceSource is the source that Youforce and Load post to.
const YouforceSource = `
source "youforce" "hr" {
  secrets = [env("YOUFORCE_SECRET")]
}
`

// Patience is how long a start or a stop may take.
const Patience = 30 * time.Second

// Options describe a host.
type Options struct {
	Config string   // sources, sinks, routes; server, storage, plugins and log are the harness's
	Server string   // more attributes of the server block
	Level  string   // of the log; default "info"
	Env    []string // more of its environment, NAME=value
	Wrap   []string // a command that runs the host, such as strace with its arguments
}

// Host is a host on a folder and a port of its own. Its methods are for one goroutine, if they do not say otherwise.
type Host struct {
	Dir     string // short: a socket's path must fit. The configuration is in it; relative paths start here.
	Address string // host:port, the same after a restart
	URL     string
	Control *admin.Client // of the running host; may be used from any goroutine

	t        testing.TB
	programs *Programs
	options  Options
	env      []string
	log      *os.File
	cmd      *exec.Cmd // nil: not running
	exited   chan struct{}
	exitErr  error
}

// NewHost prepares a host; Start starts it.
func (p *Programs) NewHost(t testing.TB, o Options) *Host {
	t.Helper()
	p.Build(t)
	// Not t.TempDir, whose path is too long for sockets in it.
	dir, err := os.MkdirTemp("/tmp", "gr-")
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.hosts = append(p.hosts, dir)
	p.mu.Unlock()
	h := &Host{Dir: dir, Address: p.FreeAddress(t), t: t, programs: p, options: o}
	h.URL = "http://" + h.Address
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if h.log, err = os.Create(filepath.Join(dir, "host.log")); err != nil {
		t.Fatal(err)
	}
	h.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "XDG_CACHE_HOME=" + filepath.Join(p.dir, "cache"),
		"TMPDIR=" + filepath.Join(dir, "run"),
		"YOUFORCE_SECRET=" + YouforceSecret, "PEOPLEFORCE_SECRET=" + PeopleForceSecret, "ACCULYNX_TOKEN=" + AccuLynxToken,
	}, o.Env...)
	h.Configure(o.Config)
	socket, err := admin.SocketPath(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	h.Control = admin.NewClient(socket)
	t.Cleanup(h.cleanup)
	return h
}

// Configure writes the configuration anew, for the next start or reload.
func (h *Host) Configure(config string) {
	h.t.Helper()
	if err := os.WriteFile(h.Path("config.hcl"), []byte(h.Configuration(config)), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// Configuration is what Configure writes.
func (h *Host) Configuration(config string) string {
	h.t.Helper()
	level := h.options.Level
	if level == "" {
		level = "info"
	}
	return fmt.Sprintf(`
server {
  listen = %q
  %s
}
storage "sqlite" {
  path     = "data/grapnel.db"
  min_free = "1MiB"
}
plugins {
  dir = %q
}
log {
  level = %q
}
%s`, h.Address, h.options.Server, h.programs.PluginDir(h.t), level, config)
}

func (h *Host) cleanup() {
	h.t.Helper()
	h.Kill()
	h.Control.Close()
	for _, p := range processesBelow(h.Dir) {
		p.Kill()
	}
	_ = h.log.Close()
	if h.t.Failed() {
		const most = 16 << 10
		text := h.Log()
		if len(text) > most {
			text = "…" + text[len(text)-most:]
		}
		h.t.Logf("the host's log:\n%s", text)
	}
	// A plugin that was killed just now may still be making a file.
	for range 20 {
		if err := os.RemoveAll(h.Dir); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.t.Errorf("cannot remove %s", h.Dir)
}

// Path is a path in the host's folder.
func (h *Host) Path(name string) string { return filepath.Join(h.Dir, filepath.FromSlash(name)) }

// Launch starts the process and does not wait until it is ready.
func (h *Host) Launch() {
	h.t.Helper()
	if h.cmd != nil {
		h.t.Fatal("the host runs already")
	}
	args := slices.Concat(h.options.Wrap, []string{h.programs.Grapnel(h.t), "run", "--config", h.Path("config.hcl")})
	h.cmd = exec.Command(args[0], args[1:]...)
	h.cmd.Dir, h.cmd.Env, h.cmd.Stdout, h.cmd.Stderr = h.Dir, h.env, h.log, h.log
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		h.exitErr = cmd.Wait()
		close(exited)
	}(h.cmd, h.exited)
}

// Start starts the host and waits until it answers on its control socket and all its plugins are ready.
func (h *Host) Start() {
	h.t.Helper()
	h.Launch()
	h.WaitReady()
}

// WaitReady waits until a launched host answers and all its plugins are ready.
func (h *Host) WaitReady() {
	h.t.Helper()
	h.Eventually(Patience, "the host is ready", func() bool {
		select {
		case <-h.exited:
			h.t.Fatalf("the host stopped at its start: %v", h.exitErr)
		default:
		}
		s, err := h.Control.Status(h.t.Context())
		if err != nil || !s.Running {
			return false
		}
		return !slices.ContainsFunc(s.Plugins, func(p admin.Plugin) bool { return p.State != "ready" })
	})
	if len(h.RunFolders()) == 0 {
		h.t.Fatal("the host has its run folder elsewhere: nobody can see what it leaves")
	}
}

// PID is the process id of the running host; 0: it does not run. With Wrap it is the wrapping command's.
func (h *Host) PID() int {
	if h.cmd == nil {
		return 0
	}
	return h.cmd.Process.Pid
}

// Kill kills the host with SIGKILL and reaps it. Its plugins are not touched. It does nothing when no host runs.
func (h *Host) Kill() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Kill() // it may have ended by itself
	<-h.exited
	h.cmd = nil
}

// Terminate sends SIGTERM. Wait waits for the end.
func (h *Host) Terminate() {
	h.t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatalf("SIGTERM: %v", err)
	}
}

// Wait waits until the host has ended, and returns how: nil is exit status 0.
func (h *Host) Wait(within time.Duration) error {
	h.t.Helper()
	select {
	case <-h.exited:
		h.cmd = nil
		return h.exitErr
	case <-time.After(within):
		h.t.Fatalf("the host did not end within %s", within)
		return nil
	}
}

// Stop ends the host gracefully; it fails if that takes too long or the exit status is not 0.
func (h *Host) Stop() {
	h.t.Helper()
	h.Terminate()
	if err := h.Wait(Patience); err != nil {
		h.t.Fatalf("the host stopped with %v", err)
	}
}

// Restart is a kill and a start.
func (h *Host) Restart() {
	h.t.Helper()
	h.Kill()
	h.Start()
}

// Log is what the host, its earlier runs included, has logged so far.
func (h *Host) Log() string {
	b, err := os.ReadFile(h.Path("host.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Run runs a command of the command line on this host's configuration, whether the host runs or not.
func (h *Host) Run(args ...string) (stdout, stderr string, err error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, h.programs.Grapnel(h.t), append(args, "--config", h.Path("config.hcl"))...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = h.Dir, h.env, &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// MustRun is Run that fails the test unless the exit status is 0.
func (h *Host) MustRun(args ...string) string {
	h.t.Helper()
	out, errOut, err := h.Run(args...)
	if err != nil {
		h.t.Fatalf("grapnel %s: %v\n%s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

// Plugins lists the plugin processes that were started by this host or by one that was killed before on the same
// folder, quarantine processes included.
func (h *Host) Plugins() []Process { return processesBelow(h.Path("run")) }

// RunFolders lists the folders of sockets and copied plugins, of this host and of those that left theirs.
func (h *Host) RunFolders() []string {
	h.t.Helper()
	found, err := filepath.Glob(h.Path("run/grapnel-run-*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return found
}

// Plugin is the status of a plugin's process, such as "sink-file"; it fails when there is none.
func (h *Host) Plugin(name string) admin.Plugin {
	h.t.Helper()
	for _, p := range h.Status().Plugins {
		if p.Plugin == name {
			return p
		}
	}
	h.t.Fatalf("the host has no plugin %s", name)
	return admin.Plugin{}
}

// Status is the running host's status.
func (h *Host) Status() admin.Status {
	h.t.Helper()
	s, err := h.Control.Status(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// Settled reports whether no request waits for its decoder and no delivery for its sink.
func (h *Host) Settled() bool {
	h.t.Helper()
	s := h.Status()
	waiting := s.Stats.Requests[core.RequestReceived]
	for _, states := range s.Stats.Deliveries {
		waiting += states[core.DeliveryPending]
	}
	return waiting == 0
}

// WaitSettled waits until it is settled.
func (h *Host) WaitSettled(within time.Duration) {
	h.t.Helper()
	h.Eventually(within, "everything is settled", h.Settled)
}

// Count is how many deliveries of a sink are in a state.
func (h *Host) Count(sink string, state core.DeliveryState) int64 {
	h.t.Helper()
	return h.Status().Stats.Deliveries[sink][state]
}

// Eventually waits until something is so.
func (h *Host) Eventually(within time.Duration, what string, so func() bool) {
	h.t.Helper()
	for start := time.Now(); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > within {
			h.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// FreeAddress finds a port below those that the system gives to connections: a client that tries to reach a host that
// is down must never be given the host's own port.
func (p *Programs) FreeAddress(t testing.TB) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ports == nil {
		p.ports = map[int]bool{}
	}
	for range 1000 {
		port := 20000 + rand.IntN(10000)
		if p.ports[port] {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		p.ports[port] = true
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no free port")
	return ""
}
