//go:build unix

package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// The child process of the tests below: it works on a store and says on its output what was promised to it.
const (
	childDir   = "GRAPNEL_TEST_CHILD"
	childLimit = "GRAPNEL_TEST_FILE_SIZE" // bytes that a file may have
)

func child(dir string) {
	var limit uint64
	if _, err := fmt.Sscan(os.Getenv(childLimit), &limit); err == nil {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			panic(err)
		}
	}
	accepted := make(chan *core.Request, 1<<16)
	o := Options{Path: filepath.Join(dir, "grapnel.db"), OnAccepted: func(rs []*core.Request) {
		for _, r := range rs {
			accepted <- r
		}
	}}
	o.indexBatch = 30 // so that keys are moving at most moments
	s, err := Open(context.Background(), o)
	if err != nil {
		panic(err)
	}
	fmt.Println("open")
	start := uint64(time.Now().UnixNano())
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			for i := range uint64(1 << 20) {
				r := sampleRequest(start + g<<32 + i)
				switch _, err := s.Accept(context.Background(), r); {
				case err == nil:
					fmt.Println("accepted", r.ID()) // one write, so that lines are whole
				case limit > 0:
					fmt.Println("refused", r.ID())
					return
				default:
					panic(err)
				}
			}
		})
	}
	keys := make(chan core.DeliveryKey, 1<<16)
	if limit == 0 {
		go batched(accepted, func(rs []*core.Request) {
			var ds []*store.Decision
			for _, r := range rs {
				d := oneDelivery(r, "crm", fmt.Sprint(r.Seq%50))
				if r.Seq%3 == 0 {
					d.Lease[0] = store.NoLease
				}
				ds = append(ds, d)
			}
			if err := s.Route(context.Background(), ds); err != nil {
				panic(err)
			}
			for _, d := range ds {
				if d.Leased[0] {
					keys <- d.Deliveries[0].Key
				}
			}
		})
		go func() {
			for range time.Tick(10 * time.Millisecond) {
				ds, _, err := s.ClaimDeliveries(context.Background(), "crm", time.Now(), 64, false)
				if err != nil {
					panic(err)
				}
				for _, d := range ds {
					keys <- d.Key
				}
			}
		}()
		go batched(keys, func(keys []core.DeliveryKey) {
			var ss []store.Settlement
			for _, k := range keys {
				s := delivered(k)
				if k.RequestSeq()%5 == 0 && rand.N(2) == 0 {
					s.State, s.Due = core.DeliveryPending, time.Now().Add(5*time.Millisecond)
				}
				ss = append(ss, s)
			}
			if err := s.Settle(context.Background(), ss); err != nil {
				panic(err)
			}
		})
	}
	wg.Wait()
	os.Exit(0)
}

// run starts the child and kills it after some time, or waits for its end if that is 0. It returns what it said, by
// word.
func run(t *testing.T, dir string, kill time.Duration, env ...string) map[string][]string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childDir+"="+dir), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string][]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, id, _ := strings.Cut(lines.Text(), " ")
		if word == "open" && kill > 0 {
			time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		}
		said[word] = append(said[word], id)
	}
	err = cmd.Wait()
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) && ended.Exited() || stderr.Len() > 0 {
		t.Fatalf("the child failed: %v\n%s", err, stderr.String())
	}
	return said
}

// What Accept has answered is there, after a SIGKILL at any moment.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "grapnel.db")
	total := 0
	for round := range 12 {
		said := run(t, dir, time.Duration(20+rand.IntN(200))*time.Millisecond)
		total += len(said["accepted"])
		verify(t, path) // as it was left
		s := open(t, Options{Path: path})
		for _, id := range said["accepted"] {
			rd, err := s.GetRequest(t.Context(), id)
			if err != nil {
				t.Errorf("round %d: %v", round, err)
				continue
			}
			if a, err := s.Accept(t.Context(), rd.Request); err != nil || a != store.Duplicate {
				t.Errorf("round %d: %s of a duplicate, %v", round, a, err)
			}
		}
		closeStore(t, s)
		verify(t, path)
	}
	if total == 0 {
		t.Error("nothing was accepted")
	}
	t.Logf("%d requests accepted", total)
}

// A write error while committing is an error to every caller of the group, and what was answered before is there.
func TestWriteError(t *testing.T) {
	dir := t.TempDir()
	said := run(t, dir, 0, childLimit+"=3000000")
	if len(said["accepted"]) == 0 || len(said["refused"]) != 8 {
		t.Errorf("%d accepted, %d refused", len(said["accepted"]), len(said["refused"]))
	}
	path := filepath.Join(dir, "grapnel.db")
	s := open(t, Options{Path: path})
	for _, id := range said["accepted"] {
		if _, err := s.GetRequest(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range said["refused"] {
		if _, err := s.GetRequest(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a refused request: %v", err)
		}
	}
	closeStore(t, s)
	verify(t, path)
}
