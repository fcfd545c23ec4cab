package pluginhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

const (
	// pipeGrace is how long the output of a process that has ended is still read: what it wrote is there already, but a
	// process that it left behind could hold the pipe open for ever.
	pipeGrace = time.Second
	// graceTime is how long a process has to end by itself when it is asked to.
	graceTime = 3 * time.Second
	// maxHandshake is how much of the first line on stdout is read.
	maxHandshake = 8 << 10
)

// launcher holds what all launches of a host have in common.
type launcher struct {
	dir          string // the run folder
	env          []string
	messageLimit int
	memoryLimit  int64
	start        time.Duration
	health       time.Duration
}

// child is one plugin process that was launched and is connected. It serves until exited is closed.
type child struct {
	plugin  pluginv1.PluginClient
	decoder pluginv1.DecoderClient
	sink    pluginv1.SinkClient
	health  grpc_health_v1.HealthClient

	pid      int
	started  time.Time
	exited   <-chan struct{} // closed when the process is gone and its output is read
	kill     func()          // ends the process and its group at once; does not wait
	shutdown func()          // asks the process to end and frees the connection; waits for the end
	words    func() string   // what is known about the end of the process; after exited
	timeout  time.Duration   // of a health call

	stopping  atomic.Bool   // the host ends it: its end is no crash
	crash     int           // the number of the crash that it ended with; 0: the host ended it
	counted   chan struct{} // closed by the supervisor after the end, when crash is valid
	abandoned atomic.Int64
	probing   atomic.Bool // a health call is under way

	calls gate // into the process

	mu  sync.Mutex
	why string // why the host killed it
}

// stop ends the process: it asks, and kills when that takes too long or ctx is done. It returns when the process is
// gone.
func (c *child) stop(ctx context.Context) {
	c.stopping.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.shutdown() // Without a deadline of its own: killing the process is what ends it.
	}()
	timer := time.NewTimer(graceTime)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	c.kill()
	<-done
}

// die kills a process that misbehaves. Its end counts as a crash.
func (c *child) die(why string) {
	c.mu.Lock()
	if c.why == "" {
		c.why = why
	}
	c.mu.Unlock()
	c.kill()
}

// report tells how the process ended: why, its panic, its last lines.
func (c *child) report() string {
	c.mu.Lock()
	why := c.why
	c.mu.Unlock()
	words := c.words()
	if why != "" {
		return why + "; " + words
	}
	return words
}

// ping reports whether the process answers its health call in time.
func (c *child) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := c.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName})
	if err != nil {
		return err
	}
	if r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("it says that it is %s", r.GetStatus())
	}
	return nil
}

// probe asks for health in the background, one call at a time, and kills the process if two in a row are not answered.
func (c *child) probe() {
	if !c.probing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer c.probing.Store(false)
		var err error
		for range 2 {
			if err = c.ping(context.Background()); err == nil {
				return
			}
			select {
			case <-c.exited:
				return
			default:
			}
		}
		c.die("killed because it did not answer its health call: " + err.Error())
	}()
}

// launch starts a binary and connects to it. The process is ended again when ctx is done before that.
func (l *launcher) launch(ctx context.Context, path string, log *processLog, own hclog.Logger) (*child, error) {
	private, err := os.MkdirTemp(l.dir, "p")
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	run := &processRunner{path: path, dir: private, log: log, exited: make(chan struct{})}
	env := append([]string{"TMPDIR=" + private}, l.env...)
	if l.memoryLimit > 0 {
		// The Go runtime of a plugin collects harder before the limit is reached; others ignore it.
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(l.memoryLimit*9/10, 10))
	}
	stderr, syncOut, syncErr := log.writer(), log.writer(), log.writer()
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{wire.Protocol: wire.ClientSet()},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			run.env = append(env, cmd.Env...)
			return run, nil
		},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     l.start,
		Stderr:           stderr,
		SyncStdout:       syncOut, // What a plugin prints once it serves: go-plugin sends it over the connection.
		SyncStderr:       syncErr,
		Logger:           own,
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(l.messageLimit), grpc.MaxCallSendMsgSize(l.messageLimit)),
			grpc.WithReadBufferSize(128 << 10), grpc.WithWriteBufferSize(128 << 10),
		},
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: private},
	})
	// The connection is made in the background: neither start nor the first stream has a deadline that can be trusted, but
	// both end when the process does.
	type result struct {
		conn *grpc.ClientConn
		err  error
	}
	connected := make(chan result, 1)
	go func() {
		protocol, err := client.Client()
		if err != nil {
			connected <- result{err: err}
			return
		}
		c, ok := protocol.(*goplugin.GRPCClient)
		if !ok {
			connected <- result{err: fmt.Errorf("it speaks %T instead of gRPC", protocol)}
			return
		}
		connected <- result{conn: c.Conn}
	}()
	timer := time.NewTimer(l.start)
	defer timer.Stop()
	var r result
	select {
	case r = <-connected:
	case <-timer.C:
		r.err = fmt.Errorf("it was not ready within %s", l.start)
		_ = run.Kill(ctx)
		<-connected
	case <-ctx.Done():
		r.err = ctx.Err()
		_ = run.Kill(ctx)
		<-connected
	}
	shutdown := func() {
		client.Kill()
		stderr.flush()
		syncOut.flush()
		syncErr.flush()
		log.close()
		_ = os.RemoveAll(private)
	}
	if r.err != nil {
		_ = run.Kill(ctx)
		shutdown()
		return nil, run.explain(r.err)
	}
	return &child{
		plugin:   pluginv1.NewPluginClient(r.conn),
		decoder:  pluginv1.NewDecoderClient(r.conn),
		sink:     pluginv1.NewSinkClient(r.conn),
		health:   grpc_health_v1.NewHealthClient(r.conn),
		pid:      run.cmd.Process.Pid,
		started:  time.Now(),
		exited:   run.exited,
		counted:  make(chan struct{}),
		kill:     func() { _ = run.Kill(context.Background()) },
		shutdown: shutdown,
		words:    run.lastWords,
		timeout:  l.health,
	}, nil
}

// processRunner runs a plugin's program for go-plugin, which calls Start once and the rest from several goroutines. It
// differs from go-plugin's own runner in what matters here: nothing of the host is inherited, the process leads a
// group of its own, its end is seen even if something that it started holds its pipes, and only the handshake line of
// stdout is taken for one.
type processRunner struct {
	path string
	dir  string
	env  []string
	log  *processLog

	cmd            *exec.Cmd
	stdout, stderr *os.File
	handshake      *io.PipeReader
	first          atomic.Pointer[string] // the first line on stdout
	readers        sync.WaitGroup
	exited         chan struct{} // closed when the process is gone and its output is read
	status         error         // after exited

	mu      sync.Mutex
	killed  bool
	running bool
}

func (r *processRunner) Start(context.Context) (err error) {
	var outW, errW *os.File
	if r.stdout, outW, err = os.Pipe(); err != nil {
		return err
	}
	if r.stderr, errW, err = os.Pipe(); err != nil {
		return errors.Join(err, r.stdout.Close(), outW.Close())
	}
	for try := 0; ; try++ {
		// Args[0] is the plugin's own name: it is what `ps` shows.
		r.cmd = &exec.Cmd{Path: r.path, Args: []string{r.path}, Env: r.env, Dir: r.dir, Stdout: outW, Stderr: errW}
		ownGroup(r.cmd)
		err = r.cmd.Start()
		if errors.Is(err, syscall.ETXTBSY) && try < 10 {
			// A child that another goroutine has just forked still holds the file that this one was copied to.
			time.Sleep(5 * time.Millisecond)
			continue
		}
		break
	}
	closeErr := errors.Join(outW.Close(), errW.Close())
	if err != nil {
		_ = r.stdout.Close()
		_ = r.stderr.Close()
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("start: %w (is the folder for temporary files mounted noexec?)", err)
		}
		return fmt.Errorf("start: %w", err)
	}
	if closeErr != nil {
		r.log.out.Warn("cannot close the plugin's end of a pipe", "error", closeErr)
	}
	preferAsVictim(r.cmd.Process.Pid)
	r.mu.Lock()
	r.running = true
	if r.killed {
		killGroup(r.cmd.Process.Pid)
	}
	r.mu.Unlock()

	pr, pw := io.Pipe()
	r.handshake = pr
	r.readers.Go(func() { r.readStdout(pw) })
	r.readers.Add(1) // standard error, which go-plugin reads: see eofReader
	go r.wait()
	return nil
}

// wait sees the end of the process.
func (r *processRunner) wait() {
	status := r.cmd.Wait()
	r.mu.Lock()
	r.running = false
	r.mu.Unlock()
	// What it started is of no use without it.
	killGroup(r.cmd.Process.Pid)
	deadline := time.Now().Add(pipeGrace)
	_ = r.stdout.SetReadDeadline(deadline)
	_ = r.stderr.SetReadDeadline(deadline)
	r.readers.Wait()
	_ = r.stdout.Close()
	_ = r.stderr.Close()
	r.status = status
	close(r.exited)
}

// readStdout passes the first line on to go-plugin, and everything behind it to the log.
func (r *processRunner) readStdout(handshake *io.PipeWriter) {
	in := bufio.NewReaderSize(r.stdout, maxHandshake)
	line, err := in.ReadSlice('\n')
	first := strings.TrimRight(string(line), "\r\n")
	r.first.Store(&first)
	if len(line) > 0 {
		_, _ = io.WriteString(handshake, first+"\n")
	}
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		_ = handshake.Close()
		return
	}
	// The pipe to go-plugin stays open until the end: it takes its end for the end of the process.
	out := r.log.writer()
	_, _ = io.Copy(out, in)
	out.flush()
	_ = handshake.Close()
}

// Stdout implements runner.Runner.
func (r *processRunner) Stdout() io.ReadCloser { return r.handshake }

// Stderr implements runner.Runner.
func (r *processRunner) Stderr() io.ReadCloser { return &eofReader{f: r.stderr, done: r.readers.Done} }

// eofReader tells when its reader has seen the end.
type eofReader struct {
	f    *os.File
	done func()
	once sync.Once
}

func (e *eofReader) Read(p []byte) (int, error) {
	n, err := e.f.Read(p)
	if err != nil {
		e.once.Do(e.done)
		err = io.EOF // A deadline after the process's end is an end as well.
	}
	return n, err
}

func (e *eofReader) Close() error { return nil }

// Wait implements runner.Runner.
func (r *processRunner) Wait(context.Context) error {
	<-r.exited
	return r.status
}

// Kill implements runner.Runner: it kills the whole group. It may be called at any time and any number of times.
func (r *processRunner) Kill(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.running {
		killGroup(r.cmd.Process.Pid)
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
func (r *processRunner) Name() string { return filepath.Base(r.path) }

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
	if r.ID() == "" || errors.Is(err, context.Canceled) { // The system did not start it at all, or we did not want it.
		return err
	}
	first := r.first.Load()
	if first != nil && *first != "" && strings.Count(*first, "|") < 3 {
		return fmt.Errorf("it wrote %q to standard output before it was ready: nothing may print there before serve.Main",
			clip(clean(r.log.redact.text(*first)), 120))
	}
	if strings.Contains(err.Error(), "incompatible API version") {
		return fmt.Errorf("it was built for another version of the plugin protocol: %w", err)
	}
	if text := err.Error(); strings.HasPrefix(text, "Unrecognized remote") || strings.Contains(text, "exited before") {
		return fmt.Errorf("it ended before it was ready: %s", r.lastWords())
	}
	return fmt.Errorf("%w (%s)", err, r.lastWords())
}

// lastWords describes the end of the process. It has ended.
func (r *processRunner) lastWords() string {
	var b strings.Builder
	if r.status != nil {
		b.WriteString(r.status.Error())
	} else {
		b.WriteString("exit status 0")
	}
	tail, head := r.log.lastWords()
	if len(head) > 0 {
		b.WriteString("; " + strings.Join(head, "\n"))
	}
	if n := min(len(tail), 5); n > 0 {
		b.WriteString("; last lines: " + strings.Join(tail[len(tail)-n:], "\n"))
	}
	return clip(b.String(), maxReason)
}
