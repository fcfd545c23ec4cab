//go:build unix

package harness

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

// Readme runs the commands of a README as a reader does: those of its ```sh blocks, one block after the other in the
// README's folder, in one shell as far as variables and the folder go. A command that starts a host, the last of its block,
// goes on running until the README ends; the next block waits until the host is ready, and before every other one all that
// the host has is settled. A ```text block below is what its commands print, in which … stands for any text. A ```hcl block
// after the words "Add to `file`:" is added to that file in its turn.
//
// They run in a copy of the repository, made by Programs.Copy, so nothing of the workspace can help.
type Readme struct {
	Path    string            // from the repository's root
	Env     []string          // more of the environment
	Replace map[string]string // in commands: addresses of far ends, which are the test's
}

// Run runs the commands in a copy, and fails the test where one fails or prints something else. READMEs of one copy run one
// after the other: they build plugins into the same folder.
func (r Readme) Run(t testing.TB, p *Programs, copied string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(copied, r.Path))
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, dir: filepath.Join(copied, filepath.Dir(r.Path))}
	state := filepath.Join(copied, "run", strings.ReplaceAll(r.Path, "/", "-")+".state")
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "XDG_CACHE_HOME=" + filepath.Join(p.dir, "cache"),
		"TMPDIR=" + filepath.Join(copied, "run"), "LISTEN=" + p.FreeAddress(t), "TZ=UTC", "GOWORK=off", "STATE=" + state,
	}, r.Env...)
	// Where Go finds what it has compiled, although home or its settings may be elsewhere.
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOTOOLCHAIN", "GOSUMDB", "GOPATH"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		s.env = append(s.env, name+"="+strings.TrimSpace(string(out)))
	}
	blocks := commandBlocks(string(text))
	if len(blocks) == 0 {
		t.Fatalf("%s has no commands", r.Path)
	}
	for _, b := range blocks {
		for old, with := range r.Replace {
			b.commands = strings.ReplaceAll(b.commands, old, with)
		}
		if i := startsHost.FindStringIndex(b.commands); i != nil && i[0] > 0 {
			s.run(block{line: b.line, commands: b.commands[:i[0]], want: b.want})
			b.commands = b.commands[i[0]:]
		}
		s.run(b)
	}
	s.stop()
}

// block is a block of commands, and what they print.
type block struct {
	line     int
	commands string
	want     string // empty: anything
}

var addsTo = regexp.MustCompile("Add to\\s`([a-z.]+)`:\\s$")

// commandBlocks finds the commands of a README, and makes commands of the blocks that are to be added to a file.
func commandBlocks(text string) []block {
	const end = "END OF THE BLOCK"
	read := 0 // bytes
	var blocks []block
	var into *string
	after := false  // a block of commands has just ended
	adding := false // within a block that is added to a file
	for i, line := range strings.SplitAfter(text, "\n") {
		var to []string
		if line == "```hcl\n" {
			to = addsTo.FindStringSubmatch(strings.TrimSuffix(text[:read], "\n"))
		}
		read += len(line)
		switch trimmed := strings.TrimSpace(line); {
		case into != nil && trimmed == "```":
			if adding {
				*into += end + "\n"
			}
			into, adding = nil, false
		case into != nil:
			*into += line
		case trimmed == "```sh":
			blocks = append(blocks, block{line: i + 2})
			into, after = &blocks[len(blocks)-1].commands, true
		case to != nil:
			blocks = append(blocks, block{line: i + 2, commands: "cat >>" + to[1] + " <<'" + end + "'\n"})
			into, after, adding = &blocks[len(blocks)-1].commands, false, true
		case trimmed == "```text" && after:
			into, after = &blocks[len(blocks)-1].want, false
		case strings.HasPrefix(trimmed, "```"):
			into, after = new(string), false
		case trimmed != "":
			after = false
		}
	}
	return blocks
}

// shell runs blocks.
type shell struct {
	t   testing.TB
	dir string
	env []string

	host   *exec.Cmd // nil: none runs
	exited chan struct{}
	log    *logBuffer
}

// command is a shell that begins where the last block has left off.
func (s *shell) command(ctx context.Context, commands, end string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-e", "-c", `if [ -f "$STATE" ]; then . "$STATE"; fi`+"\n"+commands+end)
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

var startsHost = regexp.MustCompile(`(?m)^\S*\bgrapnel run\b`)

func (s *shell) run(b block) {
	s.t.Helper()
	if startsHost.MatchString(b.commands) {
		s.start(b)
		return
	}
	if s.host != nil {
		s.settle()
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*Patience) // some of them compile
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := s.command(ctx, b.commands, "\n"+`{ export -p; printf 'cd "%s"\n' "$PWD"; } >"$STATE"`)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("line %d: %v\n%s\n%s%s", b.line, err, b.commands, out.String(), errOut.String())
	}
	if strings.Contains(errOut.String(), "warning:") {
		s.t.Errorf("line %d: %s\nwarns:\n%s", b.line, b.commands, errOut.String())
	}
	if b.want != "" && !matches(b.want, out.String()) {
		s.t.Errorf("line %d: the commands\n%sprint\n%s\nthe README says\n%s", b.line, b.commands, out.String(), b.want)
	}
}

// matches compares line by line; … in want stands for any text.
func matches(want, got string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(want)), "…", ".*")
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(strings.TrimSpace(got))
}

// start starts a host and waits until it is ready.
func (s *shell) start(b block) {
	s.t.Helper()
	s.stop()
	cmd := s.command(context.Background(), b.commands, "")
	s.log = &logBuffer{ready: make(chan struct{})}
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.host, s.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait() // it is told to stop
		close(exited)
	}(s.exited)
	s.t.Cleanup(s.stop)
	select {
	case <-s.log.ready:
	case <-s.exited:
		s.t.Fatalf("line %d: the host has stopped\n%s", b.line, s.log)
	case <-time.After(Patience):
		s.t.Fatalf("line %d: the host is not ready\n%s", b.line, s.log)
	}
}

// stop ends the host, and everything that it has started.
func (s *shell) stop() {
	if s.host == nil {
		return
	}
	pid := s.host.Process.Pid
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(Patience):
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-s.exited
		s.t.Errorf("the host does not stop\n%s", s.log)
	}
	s.host = nil
}

// settle waits until the host has nothing to do.
func (s *shell) settle() {
	s.t.Helper()
	socket, err := admin.SocketPath(filepath.Join(s.dir, "data"))
	if err != nil {
		s.t.Fatal(err)
	}
	client := admin.NewClient(socket)
	defer client.Close()
	for began := time.Now(); time.Since(began) < Patience; time.Sleep(10 * time.Millisecond) {
		status, err := client.Status(s.t.Context())
		if err != nil {
			continue
		}
		waiting := status.Stats.Requests[core.RequestReceived]
		for _, states := range status.Stats.Deliveries {
			waiting += states[core.DeliveryPending] + states[core.DeliveryLeased]
		}
		if waiting == 0 {
			return
		}
	}
	s.t.Fatalf("the host is never done\n%s", s.log)
}

// logBuffer keeps a host's log and tells when it is ready.
type logBuffer struct {
	ready chan struct{}

	mu   sync.Mutex
	text []byte
	told bool
}

// Write implements io.Writer.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if !b.told && bytes.Contains(b.text, []byte("the host is ready")) {
		b.told = true
		close(b.ready)
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// Copy copies of the repository what the first README and those of examples need: the folders examples and sdk, the
// workspace, the configuration, and bin with what `make build` makes. The copy is removed when the test ends.
func (p *Programs) Copy(t testing.TB) (dir string) {
	t.Helper()
	p.Build(t)
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err = os.MkdirTemp("/tmp", "gr-") // short, for the paths of sockets
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.hosts = append(p.hosts, dir)
	p.mu.Unlock()
	t.Cleanup(func() {
		for _, left := range processesBelow(dir) {
			t.Errorf("a process is left: %v", left)
			left.Kill()
		}
		_ = os.RemoveAll(dir)
	})
	for _, sub := range []string{"run", "bin/plugins"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, top := range []string{"examples", "sdk"} {
		if err := copyTree(filepath.Join(dir, top), filepath.Join(root, top)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"README.md", "config.hcl", "config.test.hcl", "go.work.sum"} {
		if err := copyFile(filepath.Join(dir, file), filepath.Join(root, file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyWorkspace(dir, root); err != nil {
		t.Fatal(err)
	}
	programs, err := filepath.Glob(filepath.Join(p.dir, "plugins", "grapnel-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range append(programs, filepath.Join(p.dir, "grapnel")) {
		rel, err := filepath.Rel(p.dir, from)
		if err != nil {
			t.Fatal(err)
		}
		if os.Link(from, filepath.Join(dir, "bin", rel)) == nil {
			continue
		}
		if err := copyFile(filepath.Join(dir, "bin", rel), from, 0o755); err != nil { // another file system
			t.Fatal(err)
		}
	}
	return dir
}

// copyWorkspace copies go.work with those of its modules that are in the copy.
func copyWorkspace(to, from string) error {
	text, err := os.ReadFile(filepath.Join(from, "go.work"))
	if err != nil {
		return err
	}
	var kept []byte
	for line := range bytes.Lines(text) {
		module := string(bytes.TrimSpace(line))
		if !strings.HasPrefix(module, ".") || strings.HasPrefix(module, "./examples/") || module == "./sdk" {
			kept = append(kept, line...)
		}
	}
	return os.WriteFile(filepath.Join(to, "go.work"), kept, 0o644)
}

// copyTree copies a folder without what was made in it.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir() && (d.Name() == "data" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return copyFile(target, path, info.Mode().Perm())
	})
}

func copyFile(to, from string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	if _, err := io.Copy(w, in); err != nil {
		_ = out.Close()
		return err
	}
	if err := w.Flush(); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
