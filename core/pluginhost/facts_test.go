//go:build unix

package pluginhost

// Each test here first reproduces something about go-plugin that a host has to mind, with a bare client, and then shows
// that this package minds it. When the first half of one fails after an upgrade, the precaution may be dropped.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// bareConfig is how a host that minds nothing would start a plugin.
func bareConfig(bin string, env ...string) *goplugin.ClientConfig {
	cmd := exec.Command(bin)
	cmd.Env = env
	return &goplugin.ClientConfig{
		HandshakeConfig: wire.Handshake(), Plugins: wire.ClientSet(), Cmd: cmd,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, AutoMTLS: true,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: io.Discard}),
	}
}

func bareClient(t *testing.T, config *goplugin.ClientConfig) (*goplugin.Client, *wire.Client) {
	t.Helper()
	client := goplugin.NewClient(config)
	t.Cleanup(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := protocol.Dispense(wire.PluginName)
	if err != nil {
		t.Fatal(err)
	}
	return client, plugin.(*wire.Client)
}

func bareDeliver(t *testing.T, c *wire.Client, what string) (*pluginv1.Outcome, error) {
	t.Helper()
	d := do(what)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := c.Sink.Deliver(ctx, &pluginv1.DeliverRequest{Deliveries: []*pluginv1.Delivery{{Id: d.ID, Message: d.Message}}})
	if err != nil {
		return nil, err
	}
	return r.GetOutcomes()[0], nil
}

func TestFactEnvironmentLeaks(t *testing.T) {
	t.Setenv("GRAPNEL_TEST_SECRET", "leaked")
	_, bare := bareClient(t, bareConfig(oddBinary))
	if o, err := bareDeliver(t, bare, "env"); err != nil || !strings.Contains(o.GetReason(), "GRAPNEL_TEST_SECRET=leaked") {
		t.Errorf("not reproduced: %v, %v", o, err)
	}
	h := newTestHost(t, env("MINE=1"))
	out := deliver(t, h.sink(t, "a", "", SinkOptions{}), "env")
	names := map[string]bool{}
	for line := range strings.FieldsFuncSeq(out[0].Reason, func(r rune) bool { return r == ' ' }) {
		if name, _, ok := strings.Cut(line, "="); ok {
			names[name] = true
		}
	}
	for _, name := range []string{"GRAPNEL_TEST_SECRET", "PATH", "HOME"} {
		if names[name] {
			t.Errorf("%s reached the plugin: %s", name, out[0].Reason)
		}
	}
	if !names["MINE"] || !names[wire.EnvHostPID] || !names["TMPDIR"] {
		t.Errorf("names %v", names)
	}
}

func TestFactMessagesAreCappedAt4MiB(t *testing.T) {
	t.Parallel()
	big := do("")
	big.Event.Data = bytes.Repeat([]byte(" "), 5<<20)

	small := newTestHost(t, env("ODD_START=small"))
	s := small.sink(t, "a", "", SinkOptions{})
	out, err := s.Deliver(t.Context(), []*core.Delivery{big})
	if err != nil || !strings.Contains(out[0].Reason, "larger than the plugin accepts") {
		t.Errorf("not reproduced: %+v, %v", out, err)
	}
	h := newTestHost(t, nil)
	s = h.sink(t, "a", "", SinkOptions{})
	if out, err = s.Deliver(t.Context(), []*core.Delivery{big}); err != nil || kinds(out) != "delivered" {
		t.Errorf("%s, %v", kinds(out), err)
	}
	// The way back.
	if out := deliver(t, s, "big:"+strconv.Itoa(5<<20)); kinds(out) != "delivered" {
		t.Errorf("%s", kinds(out))
	}
	// A batch that is larger than a message goes in several.
	var batch []*core.Delivery
	for range 20 {
		d := do("")
		d.Event.Data = big.Event.Data
		batch = append(batch, d)
	}
	if out, err = s.Deliver(t.Context(), batch); err != nil || strings.Contains(kinds(out), "retry") {
		t.Errorf("%s, %v", kinds(out), err)
	}
}

func TestFactKillCutsCallsInFlight(t *testing.T) {
	t.Parallel()
	client, bare := bareClient(t, bareConfig(oddBinary))
	failed := make(chan error, 1)
	go func() {
		_, err := bareDeliver(t, bare, "sleep:1s")
		failed <- err
	}()
	time.Sleep(200 * time.Millisecond)
	client.Kill()
	if err := <-failed; status.Code(err) != codes.Unavailable {
		t.Errorf("not reproduced: %v", err)
	}
	// TestCloseDrains shows the rest.
}

// stop halts a process, and returns when it has halted.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, syscall.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("the process did not halt: %v", err)
	}
}

func TestFactKillBlocks(t *testing.T) {
	t.Parallel()
	client, _ := bareClient(t, bareConfig(oddBinary))
	pid, err := strconv.Atoi(client.ID())
	if err != nil {
		t.Fatal(err)
	}
	stop(t, pid)
	killed := make(chan struct{})
	go func() {
		client.Kill()
		close(killed)
	}()
	select {
	case <-killed:
		t.Error("not reproduced: Kill has returned")
	case <-time.After(3500 * time.Millisecond): // More than go-plugin's own grace of two seconds.
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	<-killed

	h := newTestHost(t, nil)
	h.sink(t, "a", "", SinkOptions{})
	pid = h.pid(t, core.PluginSink)
	stop(t, pid)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 2*time.Second || alive(pid) {
		t.Errorf("closed after %s, process alive: %v", took, alive(pid))
	}
}

func TestFactClientsAreSingleUse(t *testing.T) {
	t.Parallel()
	client, _ := bareClient(t, bareConfig(oddBinary))
	client.Kill()
	if c, err := client.Client(); err == nil && c.Ping() == nil {
		t.Error("not reproduced: the client has started again")
	}
	// TestCrashWithDeliveriesInFlight shows the rest.
}

func TestFactSecureConfigPassesOnce(t *testing.T) {
	t.Parallel()
	sum, err := pluginfile.Hash(oddBinary)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(sum)
	if err != nil {
		t.Fatal(err)
	}
	secure := &goplugin.SecureConfig{Checksum: raw, Hash: sha256.New()}
	first, err1 := secure.Check(oddBinary)
	second, err2 := secure.Check(oddBinary)
	if !first || second || err1 != nil || err2 != nil {
		t.Errorf("not reproduced: %v %v %v %v", first, second, err1, err2)
	}
	// TestPins shows the rest.
}

func TestFactEarlyOutputBreaksTheStart(t *testing.T) {
	t.Parallel()
	client := goplugin.NewClient(bareConfig(oddBinary, "ODD_START=stdout"))
	defer client.Kill()
	if _, err := client.Client(); err == nil || !strings.Contains(err.Error(), "Unrecognized remote plugin message") {
		t.Errorf("not reproduced: %v", err)
	}
	// TestDescribeRefuses shows the rest.
}

func TestFactStderrLinePanicsTheHost(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PLUGINHOST_TEST_MODE=badline", "PLUGINHOST_TEST_PLUGIN="+oddBinary)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "interface conversion") {
		t.Errorf("not reproduced: %v\n%s", err, out)
	}
	h := newTestHost(t, env("ODD_START=badline"))
	deliver(t, h.sink(t, "a", "", SinkOptions{}), "badline")
	if !strings.Contains(h.logs.String(), `{\"@message\":1}`) {
		t.Error("the line is not in the log")
	}
}

// TestFactHostKilled kills a host: a plugin that minds nothing is left behind, one that package serve runs ends and
// takes its socket with it, and the next host removes the folder.
func TestFactHostKilled(t *testing.T) {
	t.Parallel()
	tmp, dir := shortTempDir(t), t.TempDir()
	for name, bin := range map[string]string{"grapnel-sink-odd": oddBinary, "grapnel-sink-plain": plainBinary} {
		if err := os.Link(bin, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PLUGINHOST_TEST_MODE=host", "PLUGINHOST_TEST_DIR="+dir, "PLUGINHOST_TEST_TMP="+tmp)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var odd, plain int
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if _, scanErr := fmt.Sscan(line, &odd, &plain); err != nil || scanErr != nil {
		t.Fatalf("%q: %v, %v", line, err, scanErr)
	}
	sockets := func() []string {
		files, err := filepath.Glob(filepath.Join(tmp, "*/*/*/plugin*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	if n := len(sockets()); n != 2 || !alive(odd) || !alive(plain) {
		t.Fatalf("%d sockets, processes alive: %v, %v", n, alive(odd), alive(plain))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, 5*time.Second, "the plugin ends and its socket is removed", func() bool { return !alive(plain) && len(sockets()) == 1 })
	if !alive(odd) {
		t.Error("not reproduced: no orphan is left behind")
	}
	killGroup(odd)
	if dirs, err := os.ReadDir(tmp); err != nil || len(dirs) != 1 {
		t.Errorf("before the next start: %v, %v", dirs, err)
	}
	h, err := New(Options{Dir: dir, TempDir: tmp})
	if err != nil {
		t.Fatal(err)
	}
	if dirs, err := os.ReadDir(tmp); err != nil || len(dirs) != 1 || filepath.Join(tmp, dirs[0].Name()) != h.run.path {
		t.Errorf("after it: %v, %v", dirs, err)
	}
	// A host that runs is left alone.
	second, err := New(Options{Dir: dir, TempDir: tmp})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.run.path); err != nil {
		t.Error(err)
	}
	for _, h := range []*Host{h, second} {
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestSocketPathsStayShort shows that a deep temporary folder does not make sockets impossible.
func TestSocketPathsStayShort(t *testing.T) {
	t.Parallel()
	deep := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("unix", filepath.Join(deep, "socket")); err == nil {
		_ = l.Close()
		t.Error("not reproduced: long paths work")
	}
	h, err := New(Options{TempDir: deep})
	if err != nil {
		t.Fatal(err)
	}
	if len(h.run.path) > maxSocketDir {
		t.Errorf("%s is too long", h.run.path)
	}
	if info, err := os.Stat(h.run.path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// reexecuted runs this test program in another role.
func reexecuted(mode string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch mode {
	case "badline":
		config := bareConfig(os.Getenv("PLUGINHOST_TEST_PLUGIN"), "ODD_START=badline")
		if _, err := goplugin.NewClient(config).Client(); err != nil {
			fail(err)
		}
		time.Sleep(time.Second)
	case "host":
		h, err := New(Options{Dir: os.Getenv("PLUGINHOST_TEST_DIR"), TempDir: os.Getenv("PLUGINHOST_TEST_TMP")})
		if err != nil {
			fail(err)
		}
		for _, plugin := range []string{"odd", "plain"} {
			if _, err := h.OpenSink(context.Background(), "a", plugin, nil, SinkOptions{}); err != nil {
				fail(err)
			}
		}
		for _, l := range h.lanes { // Those that described are about to stop.
			l.stop(context.Background())
		}
		status := h.Status()
		fmt.Println(status[0].PID, status[1].PID)
		select {}
	}
}
