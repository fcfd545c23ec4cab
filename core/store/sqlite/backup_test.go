//go:build unix

package sqlite

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// A backup while others write has all that was accepted before, and is a database that a host goes on with.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Path: filepath.Join(dir, "data", "grapnel.db")})
	stop := make(chan struct{})
	var n, accepted atomic.Int64
	var writing sync.WaitGroup
	for range 4 {
		writing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := sampleRequest(uint64(n.Add(1)))
				if a, err := s.Accept(context.Background(), r); err != nil || a != store.Accepted {
					t.Error(a, err)
					return
				}
				if err := s.Route(context.Background(), []*store.Decision{oneDelivery(r, "crm", "k")}); err != nil {
					t.Error(err)
					return
				}
				accepted.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); accepted.Load() < 700 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	before := accepted.Load()
	path := filepath.Join(dir, "backup.db")
	stages := map[string]int{}
	b, err := s.Backup(t.Context(), store.BackupOrder{Path: path}, func(p store.BackupProgress) {
		stages[p.Stage]++
		if p.Done > p.Total {
			t.Errorf("%+v", p)
		}
	})
	after := n.Load()
	close(stop)
	writing.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if b.Requests < before || b.Requests > after || !b.Checked || b.Path != path || b.At.IsZero() || b.Newest.IsZero() {
		t.Errorf("%d requests before, %d after, backup %+v", before, after, b)
	}
	if stages[store.BackupCopying] == 0 || stages[store.BackupChecking] != 1 {
		t.Errorf("it told of %v", stages)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != b.Bytes {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	wantNames(t, dir, "backup.db", "data")
	again, err := CheckBackup(t.Context(), path)
	if b.At = (time.Time{}); err != nil || again != b {
		t.Errorf("checked again: %+v, %v, want %+v", again, err, b)
	}
	wantNames(t, dir, "backup.db", "data")

	// Never in the place of anything.
	if _, err := s.Backup(t.Context(), store.BackupOrder{Path: path}, nil); !errors.Is(err, store.ErrBackupThere) {
		t.Errorf("over a backup: %v", err)
	}
	if _, err := s.Backup(t.Context(), store.BackupOrder{Path: filepath.Join(dir, "none", "x.db")}, nil); err == nil {
		t.Error("a backup in a folder that is not there")
	}
	closeStore(t, s)
	if _, err := s.Backup(t.Context(), store.BackupOrder{Path: path + "2"}, nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("of a closed store: %v", err)
	}

	restored := filepath.Join(dir, "other", "grapnel.db")
	if err := os.Mkdir(filepath.Dir(restored), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, restored); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s = open(t, Options{Path: restored, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	if text := log.String(); strings.Contains(text, "without closing") {
		t.Errorf("a backup says that a host was killed: %s", text)
	}
	ds := allPages(t, func(cursor string) ([]*core.Delivery, string, error) {
		return s.ListDeliveries(t.Context(), store.DeliveryFilter{State: core.DeliveryPending, Cursor: cursor, Limit: 1000})
	})
	// A request may have been accepted, and not routed yet.
	if missing := b.Requests - int64(len(ds)); missing < 0 || missing > 4 {
		t.Errorf("%d deliveries wait, of %d requests", len(ds), b.Requests)
	}
	if a, err := s.Accept(t.Context(), sampleRequest(1)); err != nil || a != store.Duplicate {
		t.Errorf("what is in the backup is %s, %v", a, err)
	}
	if claimed, _, err := s.ClaimDeliveries(t.Context(), "crm", time.Now().Add(time.Hour), 10, false); err != nil || len(claimed) == 0 {
		t.Errorf("claimed %d, %v", len(claimed), err)
	}
	closeStore(t, s)
	verify(t, restored)
}

// What stops a backup leaves nothing of it.
func TestBackupStopped(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Path: filepath.Join(dir, "data", "grapnel.db")})
	for n := range uint64(300) {
		r := sampleRequest(n)
		r.Body = append(r.Body, make([]byte, 10_000)...)
		if _, err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "backup.db")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Backup(ctx, store.BackupOrder{Path: path}, func(store.BackupProgress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	wantNames(t, dir, "data")

	s.opts.MinFree = 1 << 62
	if _, err := s.Backup(t.Context(), store.BackupOrder{Path: path}, nil); !errors.Is(err, store.ErrBackupRoom) {
		t.Errorf("without room: %v", err)
	}
	s.opts.MinFree = 0
	wantNames(t, dir, "data")

	closed := make(chan error, 1)
	var once sync.Once
	_, err = s.Backup(t.Context(), store.BackupOrder{Path: path}, func(store.BackupProgress) {
		once.Do(func() {
			if _, err := s.Backup(t.Context(), store.BackupOrder{Path: path + "2"}, nil); !errors.Is(err, store.ErrBackupBusy) {
				t.Errorf("two at once: %v", err)
			}
			go func() { closed <- s.Close() }()
			<-s.live.Done()
		})
	})
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("the store closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wantNames(t, dir, "data")
}

func TestCheckBackup(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data", "grapnel.db")
	s := open(t, Options{Path: data})
	for n := range uint64(200) {
		if _, err := s.Accept(t.Context(), sampleRequest(n)); err != nil {
			t.Fatal(err)
		}
	}
	good := filepath.Join(dir, "good ?#%.db") // a path is no URL
	if _, err := s.Backup(t.Context(), store.BackupOrder{Path: good, NoCheck: true}, nil); err != nil {
		t.Fatal(err)
	}
	// The database of a host is none: the newest is beside it.
	if _, err := CheckBackup(t.Context(), data); !errors.Is(err, store.ErrNoBackup) {
		t.Errorf("the database of a host: %v", err)
	}
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	_, err := CheckBackup(t.Context(), link)
	if !errors.Is(err, store.ErrNoBackup) || !strings.Contains(err.Error(), "-wal") {
		t.Errorf("a link to the database of a host: %v", err)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := CheckBackup(t.Context(), good); err != nil || b.Requests != 200 {
		t.Errorf("%+v, %v", b, err)
	}
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte(strings.Repeat("no database\n", 1000)), "short": whole[:len(whole)/2],
		"hole": slices.Concat(whole[:20*pageSize], make([]byte, 8*pageSize), whole[28*pageSize:]),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := CheckBackup(t.Context(), path); !errors.Is(err, store.ErrNoBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := CheckBackup(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("there is %q, want %q", got, want)
	}
}
