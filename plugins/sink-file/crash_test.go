//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// TestCrashAtEveryStep ends everything at every single operation on the disk, in turn: as a kill does, and as power
// cuts do, after which nothing or anything of what was not synced is there. Then it starts anew and looks: every line
// that was reported is there, each file is whole, and nothing is left over from what was going on.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	total := 0
	synctest.Test(t, func(t *testing.T) {
		d, reported := crash(t, memoryDir(t), 0)
		total = d.steps
		if len(reported) != 8 {
			t.Fatalf("reported without a crash: %q", reported)
		}
	})
	if total < 50 {
		t.Fatalf("only %d operations", total)
	}
	t.Logf("%d operations", total)
	for _, c := range []struct {
		name    string
		survive func(change int, r *rand.Rand) bool // of what was not synced, in a folder or a file; nil: all does
	}{
		{"kill", nil},
		{"power cut", func(int, *rand.Rand) bool { return false }},
		{"power cut with remains", func(_ int, r *rand.Rand) bool { return r.IntN(2) == 0 }},
		{"power cut out of order", func(change int, _ *rand.Rand) bool { return change > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for step := 1; step <= total; step++ {
				top := memoryDir(t)
				dir := top
				synctest.Test(t, func(t *testing.T) {
					d, reported := crash(t, dir, step)
					if c.survive != nil {
						if verb, _, _ := strings.Cut(d.diedAt(), " "); verb == "write" || verb == "settime" {
							return // all that may be left here may be left before the sync that follows
						}
						r := rand.New(rand.NewPCG(uint64(step), 1))
						dir = filepath.Join(dir, "after the cut")
						d.disk.(*volatileDisk).restore(t, dir, func(change int) bool { return c.survive(change, r) })
					}
					what := fmt.Sprintf("step %d, %s", step, d.diedAt())
					checkCrash(t, what, dir, reported)
				})
				if t.Failed() {
					return
				}
				os.RemoveAll(top) // at once: there are many
			}
		})
	}
}

// memoryDir is a folder in memory where there is such a thing: many small files, and no disk is needed.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "sink-file-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var errDead = errors.New("dead")

// deadDisk stops working at an operation and is silent from then on.
type deadDisk struct {
	*faultyDisk
	steps int
	last  string // the operation it was
}

// diedAt is the operation, or empty.
func (d *deadDisk) diedAt() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// crash delivers for a while on a disk that stops at an operation, and returns what was reported until then.
func crash(t *testing.T, dir string, step int) (d *deadDisk, reported []string) {
	d = &deadDisk{faultyDisk: &faultyDisk{}}
	d.fail = func(op string) (int, error) {
		switch verb, _, _ := strings.Cut(op, " "); {
		case d.last != "":
			return 0, errDead
		case verb == "open" || verb == "close" || verb == "mkdir":
			// A folder in which nothing has been done since is no other one than at the next step.
			return 0, nil
		}
		if d.steps++; d.steps == step {
			d.last = op
			return 5, errDead // a write is torn
		}
		return 0, nil
	}
	s := openRotating(t, dir, rotateInCrash, func(real disk) disk {
		d.disk = newVolatileDisk(t, noSync{timeDisk{real}}, dir)
		return d
	})
	send := func(ids ...string) {
		var ds []*sdk.Delivery[Message]
		for _, id := range ids {
			id, path, _ := strings.Cut(id, " ")
			ds = append(ds, delivery(id, path, "{}"))
		}
		for i, err := range s.DeliverBatch(context.Background(), ds) {
			if err == nil && d.diedAt() == "" {
				reported = append(reported, ds[i].ID)
			}
		}
	}
	for _, do := range []func(){
		func() { send("1 a", "2 x/y", "3 a") },
		func() { send("4 a") }, // seals it
		func() { synctest.Wait() },
		func() { send("5 a", "6 x/y") },
		func() { time.Sleep(2 * time.Minute); synctest.Wait() }, // seals all
		func() { send("7 a", "8 x/y") },
		func() { time.Sleep(2 * time.Minute); synctest.Wait() },
	} {
		if d.diedAt() == "" {
			do()
		}
	}
	s.Close()
	return d, reported
}

func rotateInCrash(s *settings) {
	s.rotate, s.compress = rotation{size: 10, idle: time.Minute}, endGzip
}

// checkCrash starts anew on what a crash has left and checks what is there then.
func checkCrash(t *testing.T, what, dir string, reported []string) {
	t.Helper()
	s := openRotating(t, dir, rotateInCrash, func(d disk) disk { return noSync{timeDisk{d}} })
	defer s.Close()
	time.Sleep(time.Hour)
	synctest.Wait()
	count := map[string]int{}
	for _, name := range tree(t, dir) {
		sealed, ok := parseSealed(name)
		if !ok {
			// A file that was begun and whose beginning was not reported may stay as it is.
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range reported {
				if bytes.Contains(b, []byte(`"deliveryid":"`+id+`"`)) {
					t.Errorf("%s: %s, which was reported, is not sealed in %s", what, id, name)
				}
			}
			if strings.HasSuffix(name, tempEnd) {
				t.Errorf("%s: left over: %s", what, name)
			}
			continue
		}
		if sealed.end != endGzip {
			t.Errorf("%s: not compressed: %s", what, name)
		}
		for id := range strings.FieldsSeq(idsIn(t, name, unpack(t, dir, name))) {
			count[id]++
		}
	}
	for _, id := range reported {
		if count[id] == 0 {
			t.Errorf("%s: %s was reported and is missing in %q", what, id, tree(t, dir))
		}
	}
	for id, n := range count {
		if n > 1 {
			t.Errorf("%s: %s is there %d times in %q", what, id, n, tree(t, dir))
		}
	}
	// All goes on.
	for _, path := range []string{"a", "x/y"} {
		if err := s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{delivery("next", path, "{}")})[0]; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	for _, name := range tree(t, dir) {
		if filepath.Ext(name) != endGzip {
			t.Errorf("%s: in the end, there is %s", what, name)
		}
		unpack(t, dir, name)
	}
}

// volatileDisk knows what of a folder would survive a power cut: of a file what was synced, of the names in a folder
// those that were there when it was synced.
type volatileDisk struct {
	disk
	t   testing.TB
	dir string // where it is

	mu      sync.Mutex
	last    int
	files   map[uint64]int            // by inode, a number that no other file had before
	synced  map[int][]byte            // by number, contents
	names   map[string]map[string]int // by folder, number by name; a folder's is 0
	changes map[string][]change       // by folder, since it was synced
}

// change is one to the names in a folder.
type change struct {
	from, to string // one of them may be empty
	file     int
}

func newVolatileDisk(t testing.TB, d disk, dir string) *volatileDisk {
	return &volatileDisk{
		disk: d, t: t, dir: dir, files: map[uint64]int{}, synced: map[int][]byte{}, names: map[string]map[string]int{},
		changes: map[string][]change{},
	}
}

// inode is 0 for a folder and for nothing at all.
func (d *volatileDisk) inode(name string) uint64 {
	info, err := d.disk.lstat(name)
	if err != nil || info.IsDir() {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// number is 0 for a folder and for nothing at all.
func (d *volatileDisk) number(name string) int { return d.files[d.inode(name)] }

func (d *volatileDisk) change(from, to string, file int) {
	dir := path.Dir(from + to)
	base := func(name string) string {
		if name == "" {
			return ""
		}
		return path.Base(name)
	}
	if from != "" {
		dir = path.Dir(from)
	}
	d.changes[dir] = append(d.changes[dir], change{base(from), base(to), file})
}

func (d *volatileDisk) open(name string, flag int, mode fs.FileMode) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := d.inode(name) == 0
	f, err := d.disk.open(name, flag, mode)
	if err != nil {
		return nil, err
	}
	if fresh {
		d.last++
		d.files[d.inode(name)] = d.last
		d.change("", name, d.last)
	}
	return &volatileFile{f, d, d.inode(name), d.number(name)}, nil
}

func (d *volatileDisk) mkdirAll(name string, mode fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for dir := name; dir != "."; dir = path.Dir(dir) {
		if _, err := d.disk.lstat(dir); err != nil {
			d.change("", dir, 0)
		}
	}
	return d.disk.mkdirAll(name, mode)
}

func (d *volatileDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change(from, to, d.number(from))
	return d.disk.rename(from, to)
}

func (d *volatileDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change(name, "", 0)
	return d.disk.remove(name)
}

func (d *volatileDisk) syncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.apply(name, func(int) bool { return true })
	return d.disk.syncDir(name)
}

// apply makes changes to the names in a folder last.
func (d *volatileDisk) apply(dir string, survives func(change int) bool) {
	names := d.names[dir]
	if names == nil {
		names = map[string]int{}
		d.names[dir] = names
	}
	for i, c := range d.changes[dir] {
		if !survives(i) {
			continue
		}
		delete(names, c.from)
		if c.to != "" {
			names[c.to] = c.file
		}
	}
	delete(d.changes, dir)
}

// restore writes what is there after a power cut to another folder.
func (d *volatileDisk) restore(t *testing.T, to string, survives func(change int) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	written := map[int][]byte{} // all, synced or not
	err := filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			written[d.files[info.Sys().(*syscall.Stat_t).Ino]], err = os.ReadFile(p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var copyDir func(dir string)
	copyDir = func(dir string) {
		d.apply(dir, survives)
		if err := os.MkdirAll(filepath.Join(to, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		names := d.names[dir]
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for name := range names {
				if !yield(name) {
					return
				}
			}
		}) {
			p := path.Join(dir, name)
			if names[name] == 0 {
				copyDir(p)
				continue
			}
			b := slices.Clone(d.synced[names[name]])
			if more := written[names[name]]; len(more) > len(b) && survives(0) {
				// Of the rest, a part, perhaps without what was in it.
				rest := slices.Clone(more[len(b):])
				if survives(1) {
					rest = rest[:len(rest)/2]
				}
				if survives(2) {
					clear(rest)
				}
				b = append(b, rest...)
			}
			if err := os.WriteFile(filepath.Join(to, p), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	copyDir(".")
}

type volatileFile struct {
	file
	disk   *volatileDisk
	inode  uint64
	number int
}

func (f *volatileFile) Sync() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, info.Size())
	if _, err := f.file.ReadAt(b, 0); err != nil && len(b) > 0 {
		// It is open for writing only.
		if b, err = f.disk.read(f.inode); err != nil {
			return err
		}
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.synced[f.number] = b
	return f.file.Sync()
}

// read finds a file by its inode.
func (d *volatileDisk) read(inode uint64) (b []byte, err error) {
	err = fs.ErrNotExist
	_ = filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, _ error) error {
		if info, e := e.Info(); e == nil && info.Sys().(*syscall.Stat_t).Ino == inode {
			b, err = os.ReadFile(p)
		}
		return nil
	})
	return b, err
}
