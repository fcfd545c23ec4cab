//go:build foreign && linux

package foreign

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestSyncedBeforeAnswer proves from the system calls of the host that no 2xx is written to a connection before the
// request is on disk: the request was read; then bytes of it were written to the write-ahead log; then an fsync of
// the log began, and returned 0; then the answer was written. It holds for requests one at a time, for many at once
// that share commits, and for duplicates that arrive while the first one is being committed.
func TestSyncedBeforeAnswer(t *testing.T) {
	need(t, "strace")
	for _, c := range []struct {
		name          string
		conns, each   int
		copies        int  // of each event, from as many connections
		sharedCommits bool // some fsync is expected to answer several requests
	}{
		{name: "one at a time", conns: 1, each: 100, copies: 1},
		{name: "64 connections", conns: 64, each: 10, copies: 1, sharedCommits: true},
		{name: "duplicates", conns: 4, each: 20, copies: 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			trace := dir + "/trace"
			h := programs.NewHost(t, harness.Options{
				Config: harness.YouforceToFile,
				// -D: the host stays the test's child. -s: more than a page. Every call that can send bytes to a
				// socket or a file is traced.
				Wrap: []string{
					"strace", "-D", "-f", "--seccomp-bpf", "-qq", "-yy", "-s", "9000", "-o", trace, "-e", "signal=none", "-e",
					"trace=read,readv,recvfrom,recvmsg,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,sendfile," +
						"splice,copy_file_range,fsync,fdatasync,io_uring_setup,io_uring_enter",
				},
			})
			h.Start()
			post(t, h, c.conns, c.each, c.copies)
			h.Stop()
			tr := readTrace(t, trace, h.Address)
			checkTrace(t, tr, c.conns*c.each, c.copies, c.sharedCommits)
		})
	}
}

// marker is what makes an event's bytes known in a trace. None is the beginning of another one.
func marker(conn, n int) string { return fmt.Sprintf("mark-%d-%d-", conn, n) }

var markers = regexp.MustCompile(`mark-\d+-\d+-`)

// post has every connection post its events one after the other, each in a number of copies at the same time.
func post(t *testing.T, h *harness.Host, conns, each, copies int) {
	t.Helper()
	var posting sync.WaitGroup
	for i := range conns {
		posting.Go(func() {
			for n := range each {
				var same sync.WaitGroup
				for range copies {
					same.Go(func() {
						if a, err := h.Post(harness.Youforce("hr", marker(i, n), n)); err != nil || a.Status != 200 {
							t.Errorf("POST: %+v %v", a, err)
						}
					})
				}
				same.Wait()
			}
		})
	}
	posting.Wait()
}

// call is a system call of the host. begin and end are places in the order in which the tracer saw things happen;
// nothing that the host does because a call returned comes before its end.
type call struct {
	begin, end int
	name       string
	file       string // what strace says of the first argument: a path or a connection
	text       string // the whole call
	ok         bool   // it returned 0 or more
}

var (
	callLine    = regexp.MustCompile(`^(\d+) +([a-z0-9_]+)\((.*)$`)
	resumedLine = regexp.MustCompile(`^(\d+) +<\.\.\. ([a-z0-9_]+) resumed>(.*)$`)
	fileOf      = regexp.MustCompile(`^\d+<(.*?)> *[,)]`)
	failed      = regexp.MustCompile(`= (-1|\?)( |$)`)
)

// trace is what checkTrace looks at.
type trace struct {
	reads   []call // of connections of the webhook listener
	answers []call // likewise, writes
	writes  []call // of the log
	syncs   []call // of the log
}

func readTrace(t *testing.T, path, address string) trace {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []*call
	open := map[string]*call{} // by thread
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 0; lines.Scan(); n++ {
		line := lines.Text()
		if m := resumedLine.FindStringSubmatch(line); m != nil {
			c := open[m[1]]
			if c == nil || c.name != m[2] {
				t.Fatalf("trace line %d resumes nothing: %.200s", n+1, line)
			}
			delete(open, m[1])
			c.end, c.text = n, c.text+m[3]
			continue
		}
		if strings.HasSuffix(line, " ???( <unfinished ...>") || strings.HasSuffix(line, " ???( <detached ...>") {
			// strace could not look at the thread: the process ended, and the call in it with it. An answer that was
			// hidden so would be missed below.
			continue
		}
		m := callLine.FindStringSubmatch(line)
		if m == nil {
			if strings.Contains(line, "+++") {
				continue // the end of a thread
			}
			t.Fatalf("trace line %d is not understood: %.200s", n+1, line)
		}
		c := &call{begin: n, end: n, name: m[2], text: m[3]}
		if rest, ok := strings.CutSuffix(c.text, "<unfinished ...>"); ok {
			c.text, c.end = rest, -1
			open[m[1]] = c
		}
		calls = append(calls, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	var tr trace
	for _, c := range calls {
		if slices.Contains([]string{"io_uring_setup", "io_uring_enter", "sendfile", "splice", "copy_file_range"}, c.name) {
			t.Fatalf("the host calls %s, which this test does not look through", c.name)
		}
		if c.end < 0 {
			continue // never returned
		}
		if m := fileOf.FindStringSubmatch(c.text); m != nil {
			c.file = m[1]
		}
		c.ok = !failed.MatchString(c.text[max(0, len(c.text)-80):])
		connection := strings.HasPrefix(c.file, "TCP:["+address+"-")
		log := strings.HasSuffix(c.file, "/grapnel.db-wal")
		switch {
		case connection && (strings.HasPrefix(c.name, "read") || strings.HasPrefix(c.name, "recv")):
			tr.reads = append(tr.reads, *c)
		case connection:
			tr.answers = append(tr.answers, *c)
		case log && strings.Contains(c.name, "sync"):
			tr.syncs = append(tr.syncs, *c)
		case log && strings.Contains(c.name, "write"):
			tr.writes = append(tr.writes, *c)
		}
	}
	return tr
}

func checkTrace(t *testing.T, tr trace, events, copies int, sharedCommits bool) {
	t.Helper()
	stored := map[string]call{} // by marker, the first write of it to the log
	for _, w := range tr.writes {
		for _, m := range markers.FindAllString(w.text, -1) {
			if _, ok := stored[m]; !ok && w.ok {
				stored[m] = w
			}
		}
	}
	asked := map[string]string{}  // by connection, the marker of the request that was read last
	received := map[string]call{} // by marker, its first read
	at := 0
	answered := 0
	bySync := map[int]map[string]bool{} // by sync, the events that it answered
	for _, a := range tr.answers {
		for ; at < len(tr.reads) && tr.reads[at].begin < a.begin; at++ {
			r := tr.reads[at]
			if m := markers.FindString(r.text); m != "" && r.ok {
				asked[r.file] = m
				if _, ok := received[m]; !ok {
					received[m] = r
				}
			}
		}
		if !strings.Contains(a.text, `"HTTP/1.1 2`) {
			t.Errorf("something else than a 2xx: %.300s", a.text)
			continue
		}
		if n := strings.Count(a.text, "HTTP/1.1 2"); n != 1 {
			t.Errorf("%d answers in one write: %.300s", n, a.text)
		}
		m := asked[a.file]
		if m == "" {
			t.Errorf("an answer without a request: %.300s", a.text)
			continue
		}
		delete(asked, a.file)
		answered++
		w, ok := stored[m]
		if !ok || w.begin < received[m].begin {
			t.Errorf("%s was never written to the log", m)
			continue
		}
		if w.end > a.begin {
			t.Errorf("%s: the answer (trace line %d) is before the write to the log (%d)", m, a.begin+1, w.end+1)
			continue
		}
		synced := false
		for i, s := range tr.syncs {
			if s.ok && s.begin > w.end && s.end < a.begin {
				synced = true
				if bySync[i] == nil {
					bySync[i] = map[string]bool{}
				}
				bySync[i][m] = true
				break
			}
		}
		if !synced {
			t.Errorf("%s: no fsync between the write to the log (trace line %d) and the answer (%d)", m, w.end+1, a.begin+1)
		}
	}
	shared := 0
	for _, of := range bySync {
		shared = max(shared, len(of))
	}
	t.Logf("%d answers to %d events, %d writes and %d syncs of the log, at most %d events per sync",
		answered, events, len(tr.writes), len(tr.syncs), shared)
	if answered != events*copies {
		t.Errorf("%d answers in the trace, want %d", answered, events*copies)
	}
	if sharedCommits && shared < 2 {
		t.Errorf("no fsync answered more than %d events: this run did not show what it should", shared)
	}
}
