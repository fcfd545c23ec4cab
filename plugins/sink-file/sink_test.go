//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestConfig(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"least", `{"dir":"/tmp/x"}`, ""},
		{"full", `{"dir":"/tmp/x","file_mode":"0600","dir_mode":"755","max_open_files":1}`, ""},
		{"no dir", `{}`, "dir: is required"},
		{"empty dir", `{"dir":""}`, "dir: not the name of a folder"},
		{"zero byte", `{"dir":"a\u0000b"}`, "dir: not the name of a folder"},
		{"mode", `{"dir":"x","file_mode":"rw-r--r--"}`, "file_mode: not a usable mode"},
		{"mode too large", `{"dir":"x","file_mode":"7777"}`, "file_mode: not a usable mode"},
		{"mode without write", `{"dir":"x","file_mode":"0440"}`, "file_mode: not a usable mode"},
		{"folder mode without search", `{"dir":"x","dir_mode":"0640"}`, "dir_mode: not a usable mode"},
		{"none open", `{"dir":"x","max_open_files":0}`, "max_open_files: not between 1 and 4096"},
		{"all at once", `{"dir":"","file_mode":"9","max_open_files":5000}`,
			"dir: not the name of a folder\nfile_mode: not a usable mode\nmax_open_files: not between 1 and 4096"},
	} {
		got := ""
		if err := factory().Validate([]byte(c.config)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestOpenMakesFolders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	cfg := config(dir)
	cfg.FileMode, cfg.DirMode = "0600", "0700"
	s := openSink(t, cfg, nil)
	deliver(t, s, delivery("1", "c/d/e.jsonl", "1"))
	for name, want := range map[string]fs.FileMode{"": 0o700, "c": 0o700, "c/d": 0o700, "c/d/e.jsonl": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v; want mode %o", name, info.Mode(), err, want)
		}
	}
	if _, err := open(t.Context(), config(filepath.Join(dir, "c/d/e.jsonl")), hostName(), nil); err == nil {
		t.Error("a file was taken for a folder")
	} else if _, ok := errors.AsType[*sdk.AttributeError](err); !ok {
		t.Errorf("not an attribute error: %v", err)
	}
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	s := openSink(t, config(dir), nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink(outside, filepath.Join(dir, "out")))
	must(os.Symlink("../../../../../../etc/passwd", filepath.Join(dir, "up")))
	must(os.Symlink(filepath.Join(outside, "new.jsonl"), filepath.Join(dir, "absolute")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	must(os.WriteFile(filepath.Join(dir, "plain"), []byte("{}\n"), 0o600))
	must(os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	must(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))

	long := strings.Repeat("x", 200)
	good := []string{
		"a.jsonl", "a/b/c.jsonl", "dt=2026-01-15/é 1.jsonl", ".hidden", "..a/b..", long + "/" + long, "x/.lock", ".lock2",
	}
	bad := []string{
		"/etc/passwd", "//x", "../x", "a/../b", "a/..", "..", ".", "./a", "a/.", "a//b", "a/", "/", "a\x00b", "a\nb", "\x7f",
		long + "x", strings.Repeat("a/", 600) + "a", "\xff", ".lock", ".LOCK", ".lock/x", `..\x`, `a\b`, "C:x",
		"out/x", "up", "absolute", "loop", "loop/x", "plain/x", "folder", "pipe", ".lock/",
	}
	for _, p := range good {
		if err := s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{delivery("1", p, "{}")})[0]; err != nil {
			t.Errorf("%q: %v", p, err)
		} else if got := ids(t, dir, p); got != "1" {
			t.Errorf("%q has %q", p, got)
		}
	}
	// All in one batch, with a good one among them: none of them takes others along.
	ds := []*sdk.Delivery[Message]{delivery("2", "a.jsonl", "{}")}
	for _, p := range bad {
		ds = append(ds, delivery("x", p, "{}"))
	}
	for i, err := range s.DeliverBatch(t.Context(), ds) {
		if got := kind(err); i > 0 && got != sdk.Rejected {
			t.Errorf("%q: %s, %v", ds[i].Message.Path, got, err)
		} else if i == 0 && err != nil {
			t.Errorf("the good one: %v", err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("something was written outside: %v", entries)
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"events.jsonl", "a/b", "../x", "/x", "a//b", "a\x00", ".lock", "é/\u202e"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if checkPath(p) != nil {
			return
		}
		if !filepath.IsLocal(p) || filepath.Clean(p) != p || strings.ContainsAny(p, "\x00\n\\") {
			t.Errorf("%q passed", p)
		}
	})
}

func TestTornLine(t *testing.T) {
	whole := `{"deliveryid":"0"}` + "\n"
	long := strings.Repeat(" ", 200_000)
	for _, c := range []struct{ name, before, want, note string }{
		{"empty", "", "1", ""},
		{"whole", whole, "0 1", ""},
		{"torn", whole + `{"deliveryid":"x","da`, "0 1", "cut 21 bytes"},
		{"torn first", `{"deliv`, "1", "cut 7 bytes"},
		{"torn long", whole + `{"x":"` + long, "0 1", "cut 200006 bytes"},
		{"zeros after a power cut", whole + strings.Repeat("\x00", 5000), "0 1", "cut 5000 bytes"},
		{"whole but for its end", whole + `{"deliveryid":"9"}`, "0 9 1", "ended the file's last line"},
		{"long but for its end", whole + `{"deliveryid":"9","x":"` + long + `"}`, "0 9 1", "ended the file's last line"},
		{"a number may be torn", whole + "12", "0 1", "cut 2 bytes"},
		{"lines around a block's edge", whole + "{" + strings.Repeat(" ", 65535), "0 1", "cut 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, defaultPath)
			if err := os.WriteFile(file, []byte(c.before), 0o600); err != nil {
				t.Fatal(err)
			}
			s := openSink(t, config(dir), nil)
			outcome := deliverRaw(t, s, delivery("1", "", "{}"))
			if got := ids(t, file); got != c.want {
				t.Errorf("file has %q, want %q", got, c.want)
			}
			if got := strings.Join(outcome.Notes, "\n"); !strings.Contains(got, c.note) || (got == "") != (c.note == "") {
				t.Errorf("note %q, want %q", got, c.note)
			}
		})
	}
}

// TestForeignEnd keeps a last line that this sink cannot have written.
func TestForeignEnd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, defaultPath)
	if err := os.WriteFile(file, []byte("name;age\nAda;36"), 0o600); err != nil {
		t.Fatal(err)
	}
	deliver(t, openSink(t, config(dir), nil), delivery("1", "", "{}"))
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(got), "name;age\nAda;36\n{") {
		t.Errorf("the file is %q", got)
	}
}

// deliverRaw delivers through the sdk, for what only the host sees.
func deliverRaw(t *testing.T, s *sink, d *sdk.Delivery[Message]) sdk.Outcome {
	t.Helper()
	f := sdk.NewBatchSink(sdk.SinkInfo{Name: "file"}, func(context.Context, struct{}) (sdk.BatchSink[Message], error) {
		return s, nil
	})
	in, err := f.Open(t.Context(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	message, err := json.Marshal(d.Message)
	if err != nil {
		t.Fatal(err)
	}
	raw := &sdk.Delivery[json.RawMessage]{ID: d.ID, Event: d.Event, Message: message, Data: d.Data}
	return in.DeliverRaw(t.Context(), []*sdk.Delivery[json.RawMessage]{raw})[0]
}

func TestReference(t *testing.T) {
	s := openSink(t, config(t.TempDir()), nil)
	if o := deliverRaw(t, s, delivery("1", "a/b.jsonl", "{}")); o.Kind != sdk.Delivered || o.Reference != "a/b.jsonl" {
		t.Errorf("got %+v", o)
	}
	if o := deliverRaw(t, s, delivery("1", "../b", "{}")); o.Kind != sdk.Rejected || o.AttributePath[0] != "path" {
		t.Errorf("got %+v", o)
	}
}

// What counts is the order: the lines of a file in one write, the sync of the file and of the names that lead to
// it, and only then the return.
func TestSyncBeforeReturn(t *testing.T) {
	s, d := openFaulty(t, config(t.TempDir()))
	step := func(name string, want []string, ds ...*sdk.Delivery[Message]) {
		t.Helper()
		deliver(t, s, ds...)
		if diff := cmp.Diff(want, d.take()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	step("first", []string{
		"open events.jsonl", "open events.jsonl", "syncdir .", "write events.jsonl", "sync events.jsonl",
	}, delivery("1", "", "{}"), delivery("2", "", "{}"), delivery("3", "", "{}"))
	step("again", []string{"write events.jsonl", "sync events.jsonl"}, delivery("4", "", "{}"))
	step("folders", []string{
		"open a/b/c", "mkdir a/b", "open a/b/c", "syncdir a/b", "syncdir a", "syncdir .", "write a/b/c", "sync a/b/c",
	}, delivery("5", "a/b/c", "{}"))

	deliver(t, s, delivery("6", "", "{}"), delivery("7", "a/b/c", "{}"), delivery("8", "", "{}"))
	log := d.take()
	if !slices.Equal(log[:2], []string{"write events.jsonl", "write a/b/c"}) {
		t.Errorf("two files: %q", log)
	}
	slices.Sort(log[2:]) // they are synced side by side
	if !slices.Equal(log[2:], []string{"sync a/b/c", "sync events.jsonl"}) {
		t.Errorf("two files: %q", log)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		op      string
		written int
		err     error
		want    sdk.OutcomeKind
	}{
		{"full disk, torn", "write bad", 30, syscall.ENOSPC, sdk.Retried},
		{"full disk at a line's end", "write bad", -1, syscall.ENOSPC, sdk.Retried},
		{"quota", "write bad", 0, syscall.EDQUOT, sdk.Retried},
		{"broken disk", "sync bad", 0, syscall.EIO, sdk.Retried},
		{"read-only now", "sync bad", 0, syscall.EROFS, sdk.Retried},
		{"no permission", "open bad", 0, &fs.PathError{Op: "open", Path: "bad", Err: syscall.EACCES}, sdk.Suspended},
		{"too many files", "open bad", 0, &fs.PathError{Op: "open", Path: "bad", Err: syscall.EMFILE}, sdk.Retried},
		{"folder not synced", "syncdir .", 0, syscall.EIO, sdk.Retried},
		{"not to be called invalid", "sync bad", 0, &fs.PathError{Op: "sync", Path: "bad", Err: syscall.EINVAL}, sdk.Retried},
	} {
		for _, stuck := range []bool{false, true} { // the repair at once fails as well
			for _, fresh := range []bool{false, true} { // the file is not open yet
				t.Run(fmt.Sprintf("%s/stuck=%t/fresh=%t", c.name, stuck, fresh), func(t *testing.T) {
					if !fresh && !strings.HasPrefix(c.op, "write") && !strings.HasPrefix(c.op, "sync ") {
						return // happens at opening only
					}
					dir := t.TempDir()
					s, d := openFaulty(t, config(dir))
					deliver(t, s, delivery("0", "good", "{}"))
					want := ""
					if !fresh {
						deliver(t, s, delivery("0", "bad", "{}"))
						want = "0 "
					}
					two := []*sdk.Delivery[Message]{delivery("1", "bad", "{}"), delivery("2", "bad", "{}")}
					n := c.written
					if n < 0 {
						n = len(appendLine(nil, two[0])) + 1
					}
					d.fail = func(op string) (int, error) {
						if op == c.op {
							return n, c.err
						}
						if stuck && op == "truncate bad" {
							return 0, syscall.EIO
						}
						return 0, nil
					}
					errs := s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{two[0], delivery("3", "good", "{}"), two[1]})
					if errs[1] != nil {
						t.Errorf("the good file: %v", errs[1])
					}
					for _, err := range []error{errs[0], errs[2]} {
						if !errors.Is(err, c.err) || kind(err) != c.want {
							t.Errorf("got %v (%s), want %s", err, kind(err), c.want)
						}
					}
					d.fail = nil
					deliver(t, s, two[1], two[0])
					if got := ids(t, dir, "bad"); got != want+"2 1" {
						t.Errorf("bad has %q, want %q", got, want+"2 1")
					}
					if got := ids(t, dir, "good"); got != "0 3" {
						t.Errorf("good has %q", got)
					}
				})
			}
		}
	}
}

// Two paths can lead to one file. What was reported of one must survive a failure of the other.
func TestTwoPathsOneFile(t *testing.T) {
	dir := t.TempDir()
	s, d := openFaulty(t, config(dir))
	deliver(t, s, delivery("1", "a", "{}"))
	if err := os.Symlink("a", filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, delivery("2", "b", "{}"), delivery("3", "a", "{}"))
	d.fail = func(op string) (int, error) {
		if op == "sync a" {
			return 0, syscall.EIO
		}
		return 0, nil
	}
	ds := []*sdk.Delivery[Message]{delivery("4", "b", "{}"), delivery("5", "a", "{}")}
	for i, err := range s.DeliverBatch(t.Context(), ds) {
		if kind(err) != sdk.Retried {
			t.Errorf("%d: %v", i, err)
		}
	}
	d.fail = nil
	deliver(t, s, delivery("4", "b", "{}"), delivery("5", "a", "{}"))
	if got := ids(t, dir, "a"); got != "1 2 3 4 5" {
		t.Errorf("a has %q", got)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	s := openSink(t, config(dir), nil)
	file := filepath.Join(dir, defaultPath)
	deliver(t, s, delivery("1", "", "{}"))
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, delivery("2", "", "{}"))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, delivery("3", "", "{}"))
	if err := os.Truncate(file, 0); err != nil { // copytruncate
		t.Fatal(err)
	}
	deliver(t, s, delivery("4", "", "{}"))
	if err := os.Truncate(file, 10); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, delivery("5", "", "{}"))
	if got := ids(t, file+".1"); got != "1" {
		t.Errorf("old file has %q", got)
	}
	if got := ids(t, file); got != "5" {
		t.Errorf("file has %q", got)
	}
}

func TestFolderGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	s := openSink(t, config(dir), nil)
	deliver(t, s, delivery("1", "", "{}"))
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{delivery("2", "", "{}")})[0]
		if kind(err) != sdk.Suspended || !errors.Is(err, errFolderGone) {
			t.Fatalf("got %v", err)
		}
		if err := s.Check(t.Context()); !errors.Is(err, errFolderGone) {
			t.Errorf("check: %v", err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, delivery("3", "", "{}"))
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if got := ids(t, dir+".old", defaultPath) + "|" + ids(t, dir, defaultPath); got != "1|3" {
		t.Errorf("got %q", got)
	}
	// Replaced at once, so that no call saw it missing.
	if err := os.Rename(dir, dir+".older"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, delivery("4", "", "{}"))
	if got := ids(t, dir, defaultPath); got != "4" {
		t.Errorf("got %q", got)
	}
}

func TestOpenFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	cfg := config(dir)
	cfg.MaxOpenFiles = 3
	s, d := openFaulty(t, cfg)
	open, most := 0, 0
	d.fail = func(op string) (int, error) {
		switch {
		case strings.HasPrefix(op, "close"):
			open--
		case strings.HasPrefix(op, "write"):
			open = max(open, len(s.folder.files))
			most = max(most, len(s.folder.files))
		}
		return 0, nil
	}
	var ds []*sdk.Delivery[Message]
	for i := range 20 {
		ds = append(ds, delivery(fmt.Sprint(i), fmt.Sprintf("f%d", i%10), "{}"))
	}
	deliver(t, s, ds...)
	deliver(t, s, ds...)
	for i := range 10 {
		if got, want := ids(t, dir, fmt.Sprintf("f%d", i)), fmt.Sprintf("%d %d %d %d", i, i+10, i, i+10); got != want {
			t.Errorf("f%d has %q, want %q", i, got, want)
		}
	}
	if most > 3 || len(s.folder.files) > 3 {
		t.Errorf("%d files were open", most)
	}
	// The one used last stays.
	d.fail = nil
	deliver(t, s, delivery("a", "x", "1"))
	deliver(t, s, delivery("a", "y", "1"))
	deliver(t, s, delivery("a", "x", "1"))
	deliver(t, s, delivery("a", "z", "1"), delivery("a", "w", "1"))
	if s.folder.files["x"] == nil {
		t.Error("x was closed, which was used last")
	}
}

func TestIdleClose(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := open(t.Context(), config(dir), hostName(), nil)
		if err != nil {
			t.Fatal(err)
		}
		open := func() int {
			synctest.Wait()
			s.folder.busy <- struct{}{}
			defer func() { <-s.folder.busy }()
			return len(s.folder.files)
		}
		deliver(t, s, delivery("1", "a", "{}"), delivery("1", "b", "{}"))
		time.Sleep(idleClose / 2)
		deliver(t, s, delivery("2", "b", "{}"))
		time.Sleep(idleClose / 2)
		if got := open(); got != 1 {
			t.Errorf("%d files open, want 1", got)
		}
		time.Sleep(idleClose)
		if got := open(); got != 0 {
			t.Errorf("%d files open, want 0", got)
		}
		deliver(t, s, delivery("3", "b", "{}"))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * idleClose)
	})
	if got := ids(t, dir, "b"); got != "1 2 3" {
		t.Errorf("b has %q", got)
	}
}

// Two blocks, or the old and the new instance during a reload, have one folder.
func TestSharedFolder(t *testing.T) {
	dir := t.TempDir()
	f := factory()
	var sinks []sdk.SinkInstance
	for _, name := range []string{dir, dir + "/."} {
		in, err := f.Open(t.Context(), fmt.Appendf(nil, `{"dir":%q}`, name))
		if err != nil {
			t.Fatal(err)
		}
		sinks = append(sinks, in)
	}
	one, two := sinks[0].Sink().(*sink), sinks[1].Sink().(*sink)
	deliver(t, one, delivery("1", "", "{}"))
	deliver(t, two, delivery("2", "", "{}"))
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	deliver(t, two, delivery("3", "", "{}"))
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	if got := ids(t, dir, defaultPath); got != "1 2 3" {
		t.Errorf("file has %q", got)
	}
	openSink(t, config(dir), nil) // the lock is free again
}

func TestConcurrentBatches(t *testing.T) {
	dir := t.TempDir()
	cfg := config(dir)
	cfg.MaxOpenFiles = 2
	s := openSink(t, cfg, nil)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for batch := range 10 {
				var ds []*sdk.Delivery[Message]
				for i := range 20 {
					ds = append(ds, delivery(fmt.Sprintf("%d-%d-%d", worker, batch, i), fmt.Sprintf("f%d", i%5), `{"a":1}`))
				}
				for _, err := range s.DeliverBatch(context.Background(), ds) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for i := range 5 {
		for id := range strings.SplitSeq(ids(t, dir, fmt.Sprintf("f%d", i)), " ") {
			seen[id]++
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if len(seen) != 800 {
		t.Errorf("%d lines, want 800", len(seen))
	}
}

func TestDeadline(t *testing.T) {
	dir := t.TempDir()
	s := openSink(t, config(dir), nil)
	s.folder.busy <- struct{}{} // a write that hangs
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.DeliverBatch(ctx, []*sdk.Delivery[Message]{delivery("1", "", "{}")})[0]; kind(err) != sdk.Retried {
		t.Errorf("got %v", err)
	}
	<-s.folder.busy
	if err := s.DeliverBatch(ctx, []*sdk.Delivery[Message]{delivery("2", "", "{}")})[0]; kind(err) != sdk.Retried {
		t.Errorf("got %v", err)
	}
	deliver(t, s, delivery("3", "", "{}"))
	if got := ids(t, dir, defaultPath); got != "3" {
		t.Errorf("file has %q", got)
	}
}

// child is a process of its own on a folder: "hold" opens it and waits, any other role writes until it is killed and
// prints the ids of what was delivered, with "rotate-" at its beginning to files that are sealed soon.
func child(role, dir string) {
	cfg := config(dir)
	set, err := cfg.settings()
	size := 20_000
	if strings.HasPrefix(role, "rotate-") {
		rotateInChild(&set)
		size = 300
	}
	var s *sink
	if err == nil {
		s, err = openSettings(context.Background(), dir, set, hostName(), nil)
	}
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println("open")
	if role == "hold" {
		io.Copy(io.Discard, os.Stdin)
		return
	}
	text, _ := json.Marshal(strings.Repeat("x", size))
	for n := 0; ; {
		var ds []*sdk.Delivery[Message]
		for range 200 {
			ds = append(ds, delivery(fmt.Sprintf("%s-%d", role, n), "", string(text)))
			n++
		}
		var out strings.Builder
		for i, err := range s.DeliverBatch(context.Background(), ds) {
			if err != nil {
				fmt.Fprintln(&out, "error:", err)
			} else {
				fmt.Fprintln(&out, ds[i].ID)
			}
		}
		os.Stdout.WriteString(out.String())
	}
}

func startChild(t *testing.T, role, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "SINK_FILE_CHILD="+role, "SINK_FILE_DIR="+dir)
	if _, err := cmd.StdinPipe(); err != nil { // open until Wait
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	in := bufio.NewScanner(out)
	if !in.Scan() || in.Text() != "open" {
		t.Fatalf("child says %q", in.Text())
	}
	return cmd, in
}

func TestLock(t *testing.T) {
	t.Parallel() // it waits most of the time
	dir := t.TempDir()
	cmd, _ := startChild(t, "hold", dir)
	_, err := open(t.Context(), config(dir), hostName(), nil)
	machine, _ := os.Hostname()
	want := fmt.Sprintf("dir: the sink's folder is in use by another host: process %d on %s", os.Getpid(), machine)
	if err == nil || err.Error() != want {
		t.Fatalf("got %v, want %q", err, want)
	}
	second, _ := startChild(t, "hold", dir) // another process of the same host is let in
	// A killed process leaves no lock behind; one that is about to end is waited for.
	_ = cmd.Process.Kill()
	if _, err := open(t.Context(), config(dir), hostName(), nil); err == nil {
		t.Error("the lock went with the first of two processes")
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = second.Process.Kill() })
	s := openSink(t, config(dir), nil)
	deliver(t, s, delivery("1", "", "{}"))
}

// TestProcessesOfOneHost has two processes write to one file while others die over it: after a crash, the host looks
// for what caused it in a second process.
func TestProcessesOfOneHost(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	reported := map[string]bool{}
	var readers sync.WaitGroup
	start := func(role string) *exec.Cmd {
		cmd, in := startChild(t, role, dir)
		readers.Go(func() {
			for in.Scan() {
				mu.Lock()
				reported[in.Text()] = true
				mu.Unlock()
			}
		})
		return cmd
	}
	steady := []*exec.Cmd{start("a"), start("b")}
	for round := range 4 {
		cmd := start(fmt.Sprint(round))
		time.Sleep(time.Duration(20+rand.IntN(80)) * time.Millisecond)
		_ = cmd.Process.Kill()
	}
	for _, cmd := range steady {
		_ = cmd.Process.Kill()
	}
	readers.Wait()
	s := openSink(t, config(dir), nil)
	deliver(t, s, delivery("last", "", "{}"))
	count := map[string]int{}
	for _, m := range readLines(t, filepath.Join(dir, defaultPath)) {
		count[m["deliveryid"].(string)]++
	}
	for id := range reported {
		if count[id] != 1 {
			t.Errorf("%s is there %d times", id, count[id])
		}
	}
	if len(reported) < 400 {
		t.Errorf("only %d lines", len(reported))
	}
}

// TestKill kills a process that writes, again and again: what it reported is there, and the file has whole lines
// only as soon as the next process has written.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	reported := map[string]bool{}
	for round := range 8 {
		cmd, in := startChild(t, fmt.Sprint(round), dir)
		time.AfterFunc(time.Duration(20+rand.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for in.Scan() {
			if id := in.Text(); strings.HasPrefix(id, "error:") {
				t.Fatal(id)
			} else {
				reported[id] = true
			}
		}
		_ = cmd.Wait()
	}
	s := openSink(t, config(dir), nil)
	deliver(t, s, delivery("last", "", "{}"))
	reported["last"] = true
	for _, m := range readLines(t, filepath.Join(dir, defaultPath)) {
		delete(reported, m["deliveryid"].(string))
	}
	if len(reported) > 0 {
		t.Errorf("%d reported lines are missing", len(reported))
	}
}

// BenchmarkDeliverBatch measures the cost per event without that of the disk, in batches of 256.
func BenchmarkDeliverBatch(b *testing.B) {
	line := `{"id":4101,"attributes":{"first_name":"Ann","salary":1234.50},"x":"` + strings.Repeat("y", 700) + `"}`
	indented := "{\n" + strings.Repeat("  \"some_attribute\": \"some value\",\n", 23) + "  \"x\": null\n}"
	for _, c := range []struct {
		name   string
		data   string
		change func(*settings)
	}{
		{"one line", line, func(*settings) {}},
		{"indented", indented, func(*settings) {}},
		{"rotating", line, func(s *settings) {
			s.rotate, s.keepFiles = rotation{64 << 20, time.Hour, 5 * time.Minute}, 2
		}},
		{"rotating, compressing", line, func(s *settings) {
			s.rotate, s.keepFiles, s.compress = rotation{64 << 20, time.Hour, 5 * time.Minute}, 2, endZstd
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := openRotating(b, b.TempDir(), c.change, func(d disk) disk { return noSync{d} })
			var ds []*sdk.Delivery[Message]
			for _, d := range goldenDeliveries()[:1] {
				for range 256 {
					ds = append(ds, &sdk.Delivery[Message]{ID: d.ID, Sequence: 1234567, Event: d.Event, Data: json.RawMessage(c.data)})
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				deliver(b, s, ds...)
				if of := s.folder.files[defaultPath]; !s.folder.set.rotate.on() && of.size > 64<<20 {
					of.size = 0
					_ = of.file.Truncate(0)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ds)), "ns/event")
		})
	}
}

type noSync struct{ disk }

func (d noSync) open(name string, flag int, mode fs.FileMode) (file, error) {
	f, err := d.disk.open(name, flag, mode)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

func (noSync) syncDir(string) error { return nil }

type noSyncFile struct{ file }

func (noSyncFile) Sync() error { return nil }
