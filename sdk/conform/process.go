package conform

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Command is how a plugin's program is started.
type Command struct {
	// Path is the program. It is copied to a private folder, as the host does, and the copy runs: what lies beside it is
	// not there. With Args nothing is copied.
	Path string
	// Args are its arguments. The host gives none; they are for a program that is still in the works, such as "node
	// plugin.js". One that names a file is made absolute, since the program runs in a folder of its own.
	Args []string
}

const (
	startTime   = 20 * time.Second // until a plugin is connected
	maxSocket   = 104 - 1 - 50     // of the private folder's path, so that a socket in it has a name that the system takes
	killedGrace = 5 * time.Second  // until the pipes of a killed process are closed
)

// Process is a plugin that runs as the host runs it: with the host's environment and none other, in a group and a
// folder of its own, over go-plugin's connection with certificates on both sides.
type Process struct {
	Client *Client

	plugin *goplugin.Client
	run    *processRunner
	dir    string
	conn   *grpc.ClientConn

	stdout *output // what came after the handshake
	stderr *output
}

// startOptions are what a check may change about a start.
type startOptions struct {
	hostPID int    // 0: this process
	parent  bool   // a process in between, which can be killed in the host's place
	zone    string // TZ; empty: that of this process
}

// Start starts a program. The caller stops it.
func Start(ctx context.Context, cmd Command) (*Process, error) {
	return start(ctx, cmd, startOptions{})
}

func start(ctx context.Context, cmd Command, o startOptions) (*Process, error) {
	dir, err := privateDir()
	if err != nil {
		return nil, err
	}
	p := &Process{dir: dir, stdout: &output{}, stderr: &output{}}
	argv, err := cmd.install(dir)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	if o.hostPID == 0 {
		o.hostPID = os.Getpid()
	}
	work := filepath.Join(dir, "w")
	if err := os.Mkdir(work, 0o700); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	env := append([]string{"TMPDIR=" + work, wire.EnvHostPID + "=" + strconv.Itoa(o.hostPID)}, passedOn()...)
	if o.zone != "" {
		env = append(env, "TZ="+o.zone) // the last one counts
	}
	p.run = &processRunner{
		argv: argv, dir: work, parent: o.parent, stdout: p.stdout, stderr: p.stderr, exited: make(chan struct{}),
	}
	p.plugin = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{wire.Protocol: wire.ClientSet()},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			p.run.env = append(env, cmd.Env...)
			return p.run, nil
		},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     startTime,
		Stderr:           io.Discard,
		SyncStdout:       p.stderr, // what go-plugin's own server makes of prints
		SyncStderr:       p.stderr,
		Logger:           hclog.NewNullLogger(),
		GRPCDialOptions:  wire.DialOptions(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: work},
	})
	if err := p.connect(ctx); err != nil {
		p.Stop()
		return nil, p.run.explain(err)
	}
	return p, nil
}

// connect waits until the plugin serves.
func (p *Process) connect(ctx context.Context) error {
	connected := make(chan error, 1)
	var connecting sync.WaitGroup
	defer connecting.Wait() // it ends when the process does
	connecting.Go(func() {
		c, err := p.plugin.Client()
		if err == nil {
			g, ok := c.(*goplugin.GRPCClient)
			if !ok {
				err = fmt.Errorf("it speaks %T instead of gRPC", c)
			} else {
				p.conn = g.Conn
			}
		}
		connected <- err
	})
	timer := time.NewTimer(startTime)
	defer timer.Stop()
	var err error
	select {
	case err = <-connected:
	case <-timer.C:
		err = fmt.Errorf("it was not ready within %s", startTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		_ = p.run.Kill(ctx)
	}
	if err != nil {
		return err
	}
	p.Client = NewClient(p.conn)
	p.Client.proc = p
	return nil
}

// Stop kills the process and all that it started, and removes its folder.
func (p *Process) Stop() {
	_ = p.run.Kill(context.Background())
	if p.run.cmd != nil && p.run.cmd.Process != nil {
		<-p.run.exited
	}
	p.plugin.Kill()
	_ = os.RemoveAll(p.dir)
}

// Ended is closed when the process is gone and its output was read.
func (p *Process) Ended() <-chan struct{} { return p.run.exited }

// ended waits a moment for the end of the process and reports whether it came.
func (p *Process) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.run.exited:
		return true
	case <-timer.C:
		return false
	}
}

// LastWords describes the end of the process, after Ended: its status and what it wrote last.
func (p *Process) LastWords() string { return p.run.lastWords() }

// Pid is the plugin's process.
func (p *Process) Pid() int { return p.run.pid }

// passedOn is what the host passes on of its own environment.
func passedOn() (env []string) {
	for _, name := range []string{"TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// privateDir is a temporary folder with a name that is short enough for sockets.
func privateDir() (string, error) {
	base, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", err
	}
	if runtime.GOOS != "windows" && len(base)+20 > maxSocket {
		base = "/tmp"
	}
	return os.MkdirTemp(base, "gpt")
}

// install returns the command line to run.
func (c Command) install(dir string) ([]string, error) {
	path, err := exec.LookPath(c.Path)
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	if len(c.Args) > 0 {
		argv := append([]string{path}, c.Args...)
		for i, arg := range c.Args {
			if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
				if argv[i+1], err = filepath.Abs(arg); err != nil {
					return nil, err
				}
			}
		}
		return argv, nil
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	defer in.Close()
	copied := filepath.Join(dir, filepath.Base(path))
	out, err := os.OpenFile(copied, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return nil, err
	}
	return []string{copied}, nil
}

// output collects what a process writes, the first megabytes of it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	const most = 64 << 20
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.b.Len() < most {
		o.b.Write(p)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// tail is the last lines, without a final newline.
func (o *output) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(o.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// processRunner runs a program for go-plugin, which calls Start once and the rest from several goroutines.
type processRunner struct {
	argv           []string
	dir            string
	env            []string
	parent         bool
	stdout, stderr *output

	cmd       *exec.Cmd // the plugin, or its parent
	pid       int       // the plugin
	handshake *io.PipeReader
	silence   *io.PipeReader         // what go-plugin reads for stderr
	first     atomic.Pointer[string] // line on stdout
	exited    chan struct{}
	status    error // after exited

	mu      sync.Mutex
	running bool
	killed  bool
}

// Start implements runner.Runner.
func (r *processRunner) Start(context.Context) error {
	argv := r.argv
	if r.parent {
		// It says on its third file which process the plugin is, and is the host for it.
		script := wire.EnvHostPID + `=$$ "$@" 3>&- & echo $! >&3; wait`
		argv = slices.Concat([]string{"/bin/sh", "-c", script, "sh"}, argv)
	}
	r.cmd = exec.Command(argv[0], argv[1:]...)
	r.cmd.Env, r.cmd.Dir = r.env, r.dir
	ownGroup(r.cmd)
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outR.Close(), outW.Close())
	}
	pidR, pidW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outR.Close(), outW.Close(), errR.Close(), errW.Close())
	}
	r.cmd.Stdout, r.cmd.Stderr = outW, errW
	if r.parent {
		r.cmd.ExtraFiles = []*os.File{pidW}
	}
	err = startCommand(r.cmd)
	_, _, _ = outW.Close(), errW.Close(), pidW.Close() // the process has its own
	if err != nil {
		_, _, _ = outR.Close(), errR.Close(), pidR.Close()
		return fmt.Errorf("start: %w", err)
	}
	r.mu.Lock()
	r.running = true
	if r.killed {
		killGroup(r.cmd.Process)
	}
	r.mu.Unlock()
	r.pid = r.cmd.Process.Pid
	if r.parent {
		if line, err := bufio.NewReader(pidR).ReadString('\n'); err == nil {
			r.pid, _ = strconv.Atoi(strings.TrimSpace(line)) // a shell wrote it
		}
	}
	_ = pidR.Close()

	handshake, toPlugin := io.Pipe()
	silence, stderrEnd := io.Pipe()
	r.handshake, r.silence = handshake, silence
	var readers sync.WaitGroup
	readers.Go(func() { r.readStdout(outR, toPlugin) })
	readers.Go(func() {
		_, _ = io.Copy(r.stderr, errR)
		_ = stderrEnd.Close()
	})
	go func() {
		status := r.cmd.Wait()
		if !r.parent { // else the plugin is to be seen ending by itself
			r.mu.Lock()
			r.running = false
			killGroup(r.cmd.Process) // what it has started is of no use without it
			r.mu.Unlock()
			deadline := time.Now().Add(killedGrace)
			_, _ = outR.SetReadDeadline(deadline), errR.SetReadDeadline(deadline)
		}
		readers.Wait()
		_, _ = outR.Close(), errR.Close()
		r.mu.Lock()
		r.running = false
		r.mu.Unlock()
		r.status = status
		close(r.exited)
	}()
	return nil
}

// startCommand tries again while a child that another goroutine has just forked still holds the file that was written.
func startCommand(cmd *exec.Cmd) error {
	for try := 0; ; try++ {
		err := cmd.Start()
		if err == nil || try == 20 || !textBusy(err) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
		again := exec.Command(cmd.Path, cmd.Args[1:]...)
		again.Env, again.Dir, again.Stdout, again.Stderr = cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr
		again.ExtraFiles, again.SysProcAttr = cmd.ExtraFiles, cmd.SysProcAttr
		*cmd = *again
	}
}

// readStdout passes the first line on to go-plugin and keeps what comes after it.
func (r *processRunner) readStdout(stdout io.Reader, handshake *io.PipeWriter) {
	defer func() { _ = handshake.Close() }() // go-plugin takes this for the end of the process
	in := bufio.NewReaderSize(stdout, 8<<10)
	line, err := in.ReadSlice('\n')
	first := strings.TrimRight(string(line), "\r\n")
	r.first.Store(&first)
	if len(line) > 0 {
		_, _ = io.WriteString(handshake, first+"\n")
	}
	if err == nil || errors.Is(err, bufio.ErrBufferFull) {
		_, _ = io.Copy(r.stdout, in)
	}
}

// Stdout implements runner.Runner.
func (r *processRunner) Stdout() io.ReadCloser { return r.handshake }

// Stderr implements runner.Runner.
func (r *processRunner) Stderr() io.ReadCloser { return r.silence }

// Wait implements runner.Runner.
func (r *processRunner) Wait(context.Context) error {
	<-r.exited
	return r.status
}

// Kill implements runner.Runner.
func (r *processRunner) Kill(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.running {
		killGroup(r.cmd.Process)
	}
	return nil
}

// ID implements runner.Runner.
func (r *processRunner) ID() string {
	if r.cmd == nil || r.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

// Name implements runner.Runner.
func (r *processRunner) Name() string { return filepath.Base(r.argv[0]) }

// Diagnose implements runner.Runner.
func (r *processRunner) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner.
func (r *processRunner) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin implements runner.Runner.
func (r *processRunner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// explain makes a start's failure understandable. The process has ended.
func (r *processRunner) explain(err error) error {
	if r.cmd == nil || errors.Is(err, context.Canceled) {
		return err
	}
	first := r.first.Load()
	switch text := err.Error(); {
	case first != nil && *first != "" && strings.Count(*first, "|") < 3:
		return &printedError{*first}
	case strings.HasPrefix(text, "Unrecognized remote") || strings.Contains(text, "exited before"):
		return fmt.Errorf("it ended before it was ready: %s", r.lastWords())
	default:
		return fmt.Errorf("%w (%s)", err, r.lastWords())
	}
}

// printedError says that something stands on stdout where the handshake belongs.
type printedError struct{ line string }

func (e *printedError) Error() string {
	return fmt.Sprintf("it wrote %q to standard output", clip(e.line, 120))
}

// lastWords describes the end of the process. It has ended.
func (r *processRunner) lastWords() string {
	words := "exit status 0"
	if r.status != nil {
		words = r.status.Error()
	}
	text := r.stderr.String()
	for _, begin := range []string{"panic: ", "fatal error: "} { // what Go writes first tells most
		if at := strings.LastIndex("\n"+text, "\n"+begin); at >= 0 {
			line, _, _ := strings.Cut(text[at:], "\n")
			return words + "; " + clip(line, 300)
		}
	}
	if tail := r.stderr.tail(5); tail != "" {
		words += "; last lines: " + clip(tail, 1000)
	}
	return words
}
