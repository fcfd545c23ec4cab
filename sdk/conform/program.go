package conform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	// goneTime is how long a plugin may live on without its host.
	goneTime = 5 * time.Second
	// shutdownTime is how long it may take to end when it is asked to.
	shutdownTime = 5 * time.Second
)

// Program checks a program: it starts it as the host does, runs a Suite on it, and then what concerns the process.
// earlier is what a Run gave, or nil. It returns the manifest of a decoder that describes itself.
func Program(ctx context.Context, cmd Command, opts Options, earlier Results, run Runner) *sdk.Provider {
	s := &programSuite{cmd: cmd}
	run(Check{Name: "start", Run: s.start(ctx)})
	if s.proc == nil {
		return nil
	}
	defer func() { s.proc.Stop() }()
	s.suite = newSuite(s.proc.Client, opts)
	defer s.suite.close()
	if s.suite.run(ctx, earlier, run) {
		if s.suite.desc.Provider != nil && !s.suite.broken["samples"] {
			run(Check{Name: "second process", Run: s.second})
		}
		run(Check{Name: "health", Run: s.health})
		run(Check{Name: "signals", Run: s.signals})
		run(Check{Name: "shutdown", Run: s.shutdown})
	}
	run(Check{Name: "output", Run: s.output})
	if canOrphan {
		run(Check{Name: "host killed", Run: s.hostKilled})
		run(Check{Name: "host gone", Run: s.hostGone})
	}
	if s.suite.desc == nil {
		return nil
	}
	return s.suite.desc.Provider
}

// programSuite has the checks of a process.
type programSuite struct {
	cmd   Command
	proc  *Process
	suite *Suite
}

func (s *programSuite) lost() bool {
	select {
	case <-s.proc.Ended():
		return true
	default:
		return false
	}
}

func (s *programSuite) start(ctx context.Context) func(context.Context) []Finding {
	return func(context.Context) []Finding {
		f := &findings{}
		var err error
		if s.proc, err = Start(ctx, s.cmd); err != nil {
			startFailed(f, err)
		}
		return f.done()
	}
}

func startFailed(f *findings, err error) {
	var printed *printedError
	if errors.As(err, &printed) {
		f.add("only the handshake line may stand there before it serves", "print to standard error",
			"it starts with %q on standard output", clip(printed.line, 120))
		return
	}
	f.add(fmt.Sprintf("it writes the handshake to standard output and serves within %s", startTime),
		"compare docs/plugin-protocol.md, section Start; all that it needs is in the program, for the environment is empty",
		"it does not start as a plugin (%s)", clip(err.Error(), 1500))
}

// second: a process of another day in another time zone gives the same events.
func (s *programSuite) second(ctx context.Context) []Finding {
	f := s.suite.findings()
	p, err := start(ctx, s.cmd, startOptions{zone: "Pacific/Kiritimati"})
	if err != nil {
		startFailed(f, err)
		return f.done()
	}
	defer p.Stop()
	again := *s.suite
	again.client = p.Client
	return again.samples(ctx)
}

// health: go-plugin's health service answers.
func (s *programSuite) health(ctx context.Context) []Finding {
	f := s.suite.findings()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	const do = "serve grpc.health.v1.Health with the service \"plugin\""
	r, err := grpc_health_v1.NewHealthClient(s.proc.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "plugin"})
	const contract = "the health service answers SERVING for the service \"plugin\" within 5 s, always"
	if err != nil {
		f.add(contract, do, "the health call fails (%s)", clip(err.Error(), 200))
	} else if r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		f.add(contract, do, "the health call answers %s", r.GetStatus())
	}
	return f.done()
}

// signals: what is sent to the whole service does not end a plugin before its host has drained it.
func (s *programSuite) signals(ctx context.Context) []Finding {
	f := s.suite.findings()
	for _, sig := range stopSignals() {
		process, err := os.FindProcess(s.proc.Pid())
		if err == nil {
			err = process.Signal(sig)
		}
		died := err != nil || s.proc.ended(150*time.Millisecond)
		if !died {
			cctx, cancel := context.WithTimeout(ctx, s.suite.opts.Timeout)
			_, err = s.proc.Client.Describe(cctx)
			cancel()
			died = status.Code(err) == codes.Unavailable && s.proc.ended(time.Second)
		}
		const contract = "a signal to the whole service must not stop it before its host has drained it"
		switch {
		case died:
			f.add(contract, "catch and drop SIGTERM, SIGINT and SIGHUP; the host says when it is time", "it dies of %s",
				signalName(sig))
			return f.done()
		case err != nil:
			f.add(contract, "catch and drop SIGTERM, SIGINT and SIGHUP; the host says when it is time",
				"it serves no more after %s (%s)",
				signalName(sig), clip(err.Error(), 200))
			return f.done()
		}
	}
	return f.done()
}

func signalName(sig os.Signal) string {
	switch sig.String() {
	case "terminated":
		return "SIGTERM"
	case "interrupt":
		return "SIGINT"
	case "hangup":
		return "SIGHUP"
	}
	return sig.String()
}

// shutdown: asked to end, it ends. Who has no such call is killed.
func (s *programSuite) shutdown(ctx context.Context) []Finding {
	f := s.suite.findings()
	if s.lost() {
		return nil
	}
	cctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	err := s.proc.conn.Invoke(cctx, "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) == codes.Unimplemented {
		return nil
	}
	limit := min(shutdownTime, s.suite.opts.Timeout)
	if !s.proc.ended(limit) {
		f.add("it is killed 2 s after it was asked to end", "stop serving and exit, whatever still runs",
			"it still runs %s after Shutdown", limit)
	}
	return f.done()
}

// output: standard output belongs to the handshake, and nothing that is written shows a secret. It ends the process.
func (s *programSuite) output(context.Context) []Finding {
	f := s.suite.findings()
	s.proc.Stop()
	if out := s.proc.stdout.String(); out != "" {
		f.add("standard output belongs to the handshake", "print to standard error, or log",
			"it writes %q to standard output", clip(out, 200))
	}
	s.suite.noSecrets(f, "what it prints", s.proc.stdout.String())
	s.suite.noSecrets(f, "its log", s.proc.stderr.String())
	return f.done()
}

const (
	exitsWithHost = "a plugin ends when its host is gone, for it would hold on to what its successor needs"
	watchHost     = "look at the parent process and at GRAPNEL_HOST_PID, some times per second, and exit"
)

// hostKilled kills the plugin's parent, which is its host.
func (s *programSuite) hostKilled(ctx context.Context) []Finding {
	f := s.suite.findings()
	p, err := start(ctx, s.cmd, startOptions{parent: true})
	if err != nil {
		startFailed(f, err)
		return f.done()
	}
	defer p.Stop()
	if err := p.run.cmd.Process.Kill(); err != nil {
		f.add(exitsWithHost, watchHost, "its parent cannot be killed (%v)", err)
		return f.done()
	}
	if limit := min(goneTime, s.suite.opts.Timeout); !p.ended(limit) {
		f.add(exitsWithHost, watchHost, "it still runs %s after its host was killed", limit)
		return f.done()
	}
	var left []string
	_ = filepath.WalkDir(p.run.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSocket != 0 {
			left = append(left, filepath.Base(path))
		}
		return nil
	})
	if len(left) > 0 {
		f.add("it takes its socket with it", "stop the server before the process ends",
			"it leaves its socket %s behind when its host was killed",
			strings.Join(left, " "))
	}
	return f.done()
}

// hostGone starts the plugin with a host that is dead already: it died before the plugin could look at its parent.
func (s *programSuite) hostGone(ctx context.Context) []Finding {
	f := s.suite.findings()
	dead := exec.Command("/bin/sh", "-c", "exit 0")
	if err := dead.Run(); err != nil {
		f.add(exitsWithHost, watchHost, "a host cannot be played (%v)", err)
		return f.done()
	}
	p, err := start(ctx, s.cmd, startOptions{hostPID: dead.Process.Pid})
	if err != nil {
		return nil // it has ended before it was ready
	}
	defer p.Stop()
	if limit := min(goneTime, s.suite.opts.Timeout); !p.ended(limit) {
		f.add(exitsWithHost, watchHost, "it still runs after %s though no process has the id in GRAPNEL_HOST_PID", limit)
	}
	return f.done()
}
