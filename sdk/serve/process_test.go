//go:build unix

package serve

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Each test shows first what happens to a plugin that go-plugin serves as it is, then that Main does better.

func TestMessagesBeyondFourMiB(t *testing.T) {
	big := echoMessage{Text: strings.Repeat("x", 5<<20)}
	_, bare, _ := launch(t, roleBare)
	if _, err := deliver(t.Context(), bare, "", big); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a bare plugin answers 5 MiB with %v", err)
	}
	_, served, _ := launch(t, roleServed)
	if o, err := deliver(t.Context(), served, "", big); err != nil || o.Reason != "" {
		t.Errorf("got %v, %v", o, err)
	}
	big.Text = strings.Repeat("x", wire.MaxMessage)
	if _, err := deliver(t.Context(), served, "", big); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message beyond the limit: %v", err)
	}
}

func TestSignalsDoNotStopAPlugin(t *testing.T) {
	c, _, _ := launch(t, roleBare)
	signalPlugin(t, c, syscall.SIGTERM)
	for deadline := time.Now().Add(5 * time.Second); !c.Exited(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a bare plugin survives SIGTERM; this test has lost its point")
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
		c, w, _ := launch(t, roleServed)
		for range 3 {
			signalPlugin(t, c, sig)
			time.Sleep(20 * time.Millisecond)
		}
		if _, err := deliver(t.Context(), w, "", echoMessage{}); err != nil {
			t.Errorf("after %v: %v", sig, err)
		}
	}
}

func signalPlugin(t *testing.T, c *plugin.Client, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(c.ReattachConfig().Pid, sig); err != nil {
		t.Fatal(err)
	}
}

func TestPrintsDoNotBreakTheHandshake(t *testing.T) {
	stderr := &buffer{}
	c := plugin.NewClient(clientConfig(roleBareNoisy, stderr))
	if _, err := c.Start(); err == nil || !strings.Contains(err.Error(), "noise before Serve") {
		t.Errorf("a bare plugin that prints first: %v", err)
	}
	c.Kill()

	_, w, stderr := launch(t, roleNoisy)
	stderr.waitFor(t, "noise before Main")
	if _, err := deliver(t.Context(), w, "", echoMessage{Do: "print", Text: "later"}); err != nil {
		t.Fatal(err)
	}
	stderr.waitFor(t, "\nlater\nstderr later\n")
}

// More prints than a pipe holds do not block the plugin, though nobody asked go-plugin for them.
func TestManyPrints(t *testing.T) {
	_, w, stderr := launch(t, roleServed)
	line := strings.Repeat("y", 100<<10)
	for range 10 {
		if _, err := deliver(t.Context(), w, "", echoMessage{Do: "print", Text: line}); err != nil {
			t.Fatal(err)
		}
	}
	stderr.waitFor(t, line+"\nstderr "+line+"\n")
}

func TestOrphansExitAndRemoveTheirSocket(t *testing.T) {
	pid, _ := killHostOf(t, roleBare)
	time.Sleep(time.Second)
	if !alive(pid) {
		t.Error("a bare plugin exits with its host; this test has lost its point")
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)

	killed := time.Now()
	pid, socket := killHostOf(t, roleServed)
	for alive(pid) {
		if time.Since(killed) > 5*time.Second {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the plugin outlives its host")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("socket %s: %v", socket, err)
	}
}

// killHostOf has a host launch a plugin, kills the host and returns the plugin's process and socket.
func killHostOf(t *testing.T, role string) (pid int, socket string) {
	t.Helper()
	host := exec.Command(os.Args[0])
	host.Env = []string{roleVar + "=" + roleHost, roleHostOf + "=" + role, "TMPDIR=" + os.TempDir()}
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &pid, &socket); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if !alive(pid) {
		t.Fatal("the plugin is not there")
	}
	if _, err := os.Stat(socket); err != nil {
		t.Fatal(err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait() // says that it was killed
	return pid, socket
}

// alive reports whether a process runs; one that has ended but that nobody has waited for does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return os.IsNotExist(err) && syscall.Kill(pid, 0) == nil // no /proc here
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// A plugin whose host died before it could look at its parent sees it by the id that the host gave it.
func TestHostPID(t *testing.T) {
	dead := exec.Command(os.Args[0], "-test.run=^$")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(wire.EnvHostPID, fmt.Sprint(dead.Process.Pid))
	select {
	case <-hostGone():
	case <-time.After(5 * time.Second):
		t.Error("a dead host is not noticed")
	}
}

func TestLog(t *testing.T) {
	_, w, stderr := launch(t, roleServed)
	for _, level := range []string{wire.LogInfo, wire.LogTrace, wire.LogError} {
		if _, err := deliver(t.Context(), w, level, echoMessage{Do: "log"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := deliver(t.Context(), w, wire.LogInfo, echoMessage{Do: "panic"}); err != nil {
		t.Fatal(err)
	}
	stderr.waitFor(t, "sink panicked")
	var got []string
	for line := range strings.Lines(stderr.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if m["sink"] != "block" || m["delivery_id"] != "dlv_1" {
			t.Errorf("the line does not say where it belongs: %s", line)
		}
		if _, ok := m["time"].(string); !ok {
			t.Errorf("no time: %s", line)
		}
		got = append(got, fmt.Sprint(m["level"], " ", m["msg"]))
	}
	want := "info info line, debug debug line, info info line, trace trace line, error sink panicked"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestRunByHand(t *testing.T) {
	for _, test := range []struct {
		arg    string
		status int
		want   string
	}{
		{"", 1, `is the Grapnel sink plugin "echo", version `},
		{"--version", 0, "sink echo "},
	} {
		cmd := exec.Command(os.Args[0], test.arg)
		cmd.Env = []string{roleVar + "=" + roleServed}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != test.status {
			t.Errorf("%q: %v", test.arg, err)
		}
		if !strings.Contains(string(out), test.want) || strings.Contains(string(out), "noise") {
			t.Errorf("%q prints %s", test.arg, out)
		}
	}
}
