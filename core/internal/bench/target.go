package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

// target is a server under test.
type target struct {
	variant string
	dir     string
	address string
	path    string
	args    []string // of the host's command
	cmd     *exec.Cmd
	control *admin.Client // nil for bare
	loads   int
	sent    map[string]int64 // key → events sent
	total   int64
	tail    *tail
}

const hostConfig = `
server {
  listen = %q
}
storage "sqlite" {
  path = "data/grapnel.db"
}
plugins {
  dir = %q
}
log {
  level = "warn"
}
source "youforce" "hr" {
  secrets = [env("BENCH_SECRET")]
}
`

const routeConfig = `
sink "file" "out" {
  dir = "out"
}
route "bench" {
  on   = ["youforce.employment.*"]
  when = event.data.hireDate != null && event.data.workingAmount.unitOfWork == "Hours" && event.operation != "deleted"
  to "file" "out" {
    record = {
      id       = event.id
      subject  = event.subject
      number   = event.raw.number
      person   = event.data.personCode
      company  = event.data.company
      contract = event.data.contractTypeName
      hours    = event.data.workingAmount.amountOfWork
      summary  = "${event.data.jobProfileName} at ${event.data.company}"
    }
  }
}
`

// httpConfig sends CloudEvents to an endpoint of the benchmark itself.
const httpConfig = `
sink "http" "out" {
  url           = %q
  allow_private = true
  delivery {
    concurrency = 64
  }
}
route "bench" {
  on   = ["youforce.employment.*"]
  when = event.data.hireDate != null && event.data.workingAmount.unitOfWork == "Hours" && event.operation != "deleted"
  to "http" "out" {}
}
`

func newTarget(variant, dir string) (*target, error) {
	t := &target{variant: variant, dir: dir, path: "/hooks/hr", sent: map[string]int64{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t.address = l.Addr().String()
	return t, l.Close()
}

func startTarget(ctx context.Context, variant, dir, profile string) (*target, error) {
	t, err := newTarget(variant, dir)
	if err != nil {
		return nil, err
	}
	if variant == "bare" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		t.cmd = exec.Command(self, "-bare", t.address)
	} else if err := t.prepareVariant(profile); err != nil {
		return nil, err
	}
	t.cmd.Stderr = os.Stderr
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	return t, t.waitReady(ctx)
}

// prepareVariant makes the host of a variant.
func (t *target) prepareVariant(profile string) error {
	config := ""
	switch {
	case t.variant == "http":
		t.tail = newTail("")
		url, err := t.tail.listen()
		if err != nil {
			return err
		}
		config = fmt.Sprintf(httpConfig, url)
	case t.routes() > 0:
		t.tail = newTail(t.dir)
		config = routeConfig + silentRoutes(t.routes()-1)
	}
	return t.prepareHost(config, profile)
}

// prepareHost writes a host's configuration.
func (t *target) prepareHost(config, profile string) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	config = fmt.Sprintf(hostConfig, t.address, filepath.Join(root, "bin", "plugins")) + config
	path := filepath.Join(t.dir, "config.hcl")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	t.args = []string{filepath.Join(root, "bin", "grapnel"), "run", "--config", path}
	if profile != "" {
		t.args = append(t.args, "--cpuprofile", filepath.Join(profile, t.variant+".pprof"))
	}
	t.command()
	socket, err := admin.SocketPath(filepath.Join(t.dir, "data"))
	if err != nil {
		return err
	}
	t.control = admin.NewClient(socket)
	return nil
}

// command makes the command that starts the host.
func (t *target) command() {
	t.cmd = exec.Command(t.args[0], t.args[1:]...)
	t.cmd.Env = append(os.Environ(), "BENCH_SECRET="+benchSecret)
}

// routes is the number of routes of a variant: "e2e" has one, "routes1000" a thousand.
func (t *target) routes() int {
	if t.variant == "e2e" {
		return 1
	}
	number, ok := strings.CutPrefix(t.variant, "routes")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return 0
	}
	return n
}

// silentRoutes makes routes that match no event: one half listens to other types, the other says no.
func silentRoutes(n int) string {
	var b strings.Builder
	for i := range n {
		on, when := `"youforce.employment.*"`, fmt.Sprintf(`event.data.company == "nobody %d"`, i)
		if i%2 == 0 {
			on, when = fmt.Sprintf(`"youforce.other%d.*"`, i), "true"
		}
		fmt.Fprintf(&b, "route \"silent_%d\" {\n  on = [%s]\n  when = %s\n  to \"file\" \"out\" {}\n}\n", i, on, when)
	}
	return b.String()
}

func (t *target) waitReady(ctx context.Context) error {
	for range 300 {
		if c, err := net.Dial("tcp", t.address); err == nil {
			c.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("it does not start")
}

func (t *target) stop() {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	_ = t.cmd.Wait()
}

// count adds what a load sent.
func (t *target) count(l *load) {
	for _, c := range l.clients {
		for k := range keysPerConn {
			if c.counts[k] > 0 {
				t.sent[c.key(k)] = c.counts[k]
			}
		}
	}
	t.total += l.events
}

func (t *target) name() string {
	t.loads++
	return fmt.Sprintf("%s-%d", t.variant, t.loads)
}

func (t *target) closedLoop(ctx context.Context, conns int, d time.Duration) (result, error) {
	before, err := usage(t.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	stats, err := t.stats(ctx)
	if err != nil {
		return result{}, err
	}
	started := time.Now()
	l, err := runLoad(ctx, t.address, t.path, t.name(), conns, 0, d)
	if err != nil {
		return result{}, err
	}
	t.count(l)
	if err := t.settle(ctx); err != nil {
		return result{}, err
	}
	took := l.took
	if t.tail != nil {
		took = time.Since(started)
	}
	after, err := usage(t.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	r := result{
		perSecond: float64(l.events) / took.Seconds(), answered: float64(l.events) / l.took.Seconds(),
		p50: quantile(l.answered, 0.5), p99: quantile(l.answered, 0.99),
		cpu: map[string]time.Duration{}, rss: map[string]int64{},
	}
	for name, u := range after {
		if cpu := (u.cpu - before[name].cpu) / time.Duration(max(l.events, 1)); cpu > 0 {
			r.cpu[name] = cpu
		}
		r.rss[name] = u.rss
	}
	if now, err := t.stats(ctx); err != nil {
		return result{}, err
	} else if syncs := now.Syncs - stats.Syncs; syncs > 0 {
		r.perSync = float64(now.Accepted-stats.Accepted) / float64(syncs)
	}
	return r, nil
}

func (t *target) stats(ctx context.Context) (store.Stats, error) {
	if t.control == nil {
		return store.Stats{}, nil
	}
	s, err := t.control.Status(ctx)
	return s.Stats, err
}

// settle waits until everything that was sent has arrived: at the sink, or at least decoded.
func (t *target) settle(ctx context.Context) error {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		switch {
		case t.control == nil:
			return nil
		case t.tail == nil:
			page, err := t.control.Requests(ctx, store.RequestFilter{State: "received", Limit: 1})
			if err != nil || len(page.Items) == 0 && page.Next == "" {
				return err
			}
		default:
			if err := t.tail.read(); err != nil {
				return err
			}
			if int64(t.tail.count()) >= t.total {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errStopped
		case <-time.After(2 * time.Millisecond):
		}
	}
	return fmt.Errorf("of %d events %d arrived", t.total, t.tail.count())
}

func (t *target) openLoop(ctx context.Context, conns, rate int, d time.Duration) (*load, error) {
	done := make(chan struct{})
	watched := make(chan error, 1)
	go func() {
		for {
			if err := t.tail.read(); err != nil {
				watched <- err
				return
			}
			select {
			case <-done:
				watched <- nil
				return
			case <-time.After(500 * time.Microsecond):
			}
		}
	}()
	l, err := runLoad(ctx, t.address, t.path, t.name(), conns, rate, d)
	time.Sleep(200 * time.Millisecond)
	close(done)
	if err := errors.Join(err, <-watched); err != nil {
		return nil, err
	}
	t.count(l)
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	t.tail.mu.Lock()
	defer t.tail.mu.Unlock()
	for id, at := range l.sent {
		if seen, ok := t.tail.seen[id]; ok {
			l.sunk = append(l.sunk, seen.at.Sub(at))
		}
	}
	return l, nil
}

// tail takes what the sink writes: from its file as it grows, or from its requests as they come.
type tail struct {
	path string // of the file; empty: requests
	f    *os.File
	r    *bufio.Reader
	part []byte
	srv  *http.Server

	mu    sync.Mutex
	seen  map[string]line // by "key/number"
	order []string        // the same, repeats included, in the order in which they came
}

type line struct {
	at    time.Time
	times int
}

// newTail reads the file of a host's file sink; without a folder, it is fed by listen.
func newTail(dir string) *tail {
	t := &tail{seen: map[string]line{}}
	if dir != "" {
		t.path = filepath.Join(dir, "out", "events.jsonl")
	}
	return t
}

// listen takes requests until the process ends, and returns where.
func (t *tail) listen() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	t.srv = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		t.add(b)
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = t.srv.Serve(l) }()
	return "http://" + l.Addr().String() + "/", nil
}

func (t *tail) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.seen)
}

// add takes one event. It is cheap on purpose: this runs beside the host. verify looks whether the lines are JSON.
func (t *tail) add(b []byte) {
	_, subject, _ := bytes.Cut(b, []byte(`"subject":"employment/`))
	subject, _, _ = bytes.Cut(subject, []byte(`"`))
	_, number, _ := bytes.Cut(b, []byte(`"number":`))
	number, _, _ = bytes.Cut(number, []byte(`,`))
	id := string(subject) + "/" + string(number)
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.seen[id]
	if l.times++; l.times == 1 {
		l.at = time.Now()
	}
	t.seen[id] = l
	t.order = append(t.order, id)
}

// read takes what the file has gained.
func (t *tail) read() error {
	if t.path == "" {
		return nil
	}
	if t.f == nil {
		f, err := os.Open(t.path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		t.f, t.r = f, bufio.NewReaderSize(f, 1<<20)
	}
	for {
		b, err := t.r.ReadBytes('\n')
		t.part = append(t.part, b...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t.add(t.part)
		t.part = t.part[:0]
	}
}

// checkLines fails unless every line of a file is JSON.
func checkLines(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		if !json.Valid(s.Bytes()) {
			return fmt.Errorf("%s:%d is not JSON", path, n)
		}
	}
	return s.Err()
}

// verify compares the sink's file with what was sent.
func (t *target) verify() error {
	if err := t.tail.read(); err != nil {
		return err
	}
	t.tail.mu.Lock()
	defer t.tail.mu.Unlock()
	lost, doubled, disorder := 0, 0, 0
	for key, n := range t.sent {
		for i := range n {
			switch t.tail.seen[fmt.Sprintf("%s/%d", key, i)].times {
			case 0:
				lost++
			case 1:
			default:
				doubled++
			}
		}
	}
	if t.tail.path != "" {
		if err := checkLines(t.tail.path); err != nil {
			return err
		}
	}
	next := map[string]int64{}
	for _, id := range t.tail.order {
		i := strings.LastIndexByte(id, '/')
		var number int64
		if _, err := fmt.Sscan(id[i+1:], &number); err != nil {
			return err
		}
		switch key := id[:i]; {
		case number == next[key]:
			next[key]++
		case number > next[key]:
			disorder++
		}
	}
	fmt.Printf("\n%s: verified %d events at the sink: %d lost, %d doubled, %d out of order\n", t.variant, t.total, lost, doubled, disorder)
	if lost+doubled+disorder > 0 {
		return errors.New("the sink's file is not what was sent")
	}
	return nil
}
