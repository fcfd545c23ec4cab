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
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
      number   = event.data.number
      person   = event.data.personCode
      company  = event.data.company
      contract = event.data.contractTypeName
      hours    = event.data.workingAmount.amountOfWork
      summary  = "${event.data.jobProfileName} at ${event.data.company}"
    }
  }
}
`

func startTarget(ctx context.Context, variant, dir, profile string) (*target, error) {
	t := &target{variant: variant, dir: dir, path: "/hooks/hr", sent: map[string]int64{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t.address = l.Addr().String()
	l.Close()
	if variant == "bare" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		t.cmd = exec.Command(self, "-bare", t.address)
	} else if err := t.prepareHost(profile); err != nil {
		return nil, err
	}
	t.cmd.Stderr = os.Stderr
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	return t, t.waitReady(ctx)
}

func (t *target) prepareHost(profile string) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	config := fmt.Sprintf(hostConfig, t.address, filepath.Join(root, "bin", "plugins"))
	if t.routes() > 0 {
		config += routeConfig + silentRoutes(t.routes()-1)
		t.tail = &tail{path: filepath.Join(t.dir, "out", "events.jsonl"), seen: map[string]line{}}
	}
	path := filepath.Join(t.dir, "config.hcl")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	args := []string{"run", "--config", path}
	if profile != "" {
		args = append(args, "--cpuprofile", filepath.Join(profile, t.variant+".pprof"))
	}
	t.cmd = exec.Command(filepath.Join(root, "bin", "grapnel"), args...)
	t.cmd.Env = append(os.Environ(), "BENCH_SECRET="+benchSecret)
	socket, err := admin.SocketPath(filepath.Join(t.dir, "data"))
	if err != nil {
		return err
	}
	t.control = admin.NewClient(socket)
	return nil
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
			if err != nil || len(page.Items) == 0 {
				return err
			}
		default:
			if err := t.tail.read(); err != nil {
				return err
			}
			if int64(len(t.tail.seen)) >= t.total {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errStopped
		case <-time.After(2 * time.Millisecond):
		}
	}
	return fmt.Errorf("of %d events %d arrived", t.total, len(t.tail.seen))
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
	for id, at := range l.sent {
		if seen, ok := t.tail.seen[id]; ok {
			l.sunk = append(l.sunk, seen.at.Sub(at))
		}
	}
	return l, nil
}

// tail reads the sink's file as it grows.
type tail struct {
	path  string
	f     *os.File
	r     *bufio.Reader
	part  []byte
	seen  map[string]line // by "key/number"
	order []string        // the same, repeats included, in order of the file
}

type line struct {
	at    time.Time
	times int
}

func (t *tail) read() error {
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
		// Cheap on purpose: this runs beside the host. verify looks whether the lines are JSON.
		_, subject, _ := bytes.Cut(t.part, []byte(`"subject":"employment/`))
		subject, _, _ = bytes.Cut(subject, []byte(`"`))
		_, number, _ := bytes.Cut(t.part, []byte(`"number":`))
		number, _, _ = bytes.Cut(number, []byte(`,`))
		id := string(subject) + "/" + string(number)
		t.part = t.part[:0]
		l := t.seen[id]
		if l.times++; l.times == 1 {
			l.at = time.Now()
		}
		t.seen[id] = l
		t.order = append(t.order, id)
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
	if err := checkLines(t.tail.path); err != nil {
		return err
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
