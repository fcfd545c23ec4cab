//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

// openRotating opens a sink with settings that a configuration may be too strict for. It is closed at the end of the
// test. wrap may be nil.
func openRotating(t testing.TB, dir string, change func(*settings), wrap func(disk) disk) *sink {
	t.Helper()
	cfg := config(dir)
	set, err := cfg.settings()
	if err != nil {
		t.Fatal(err)
	}
	change(&set)
	s, err := openSettings(t.Context(), dir, set, hostName(), wrap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// bySize seals a file with every batch that follows.
func bySize(end string) func(*settings) {
	return func(s *settings) { s.rotate.size, s.compress = 10, end }
}

// tree lists the files below a folder, without the sink's own, in order of their names.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); err == nil && !d.IsDir() && name != lockName && name != ledgerName {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// written are the ids in all files that were written as path, in order of the files' names.
func written(t testing.TB, dir, path string) string {
	t.Helper()
	var all []string
	for _, name := range tree(t, dir) {
		if s, ok := parseSealed(name); name == path || ok && s.dir+s.stem+s.ext == path {
			all = append(all, strings.Fields(idsIn(t, name, unpack(t, dir, name)))...)
		}
	}
	return strings.Join(all, " ")
}

// unpack reads a file of whatever compression.
func unpack(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if end := filepath.Ext(name); end == endGzip || end == endZstd {
		r, err := newDecoder(bytes.NewReader(b), end)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer r.Close()
		if b, err = io.ReadAll(r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return b
}

// shape is what a folder holds with every stamp as #.
func shape(t testing.TB, dir string) string {
	t.Helper()
	var all []string
	for _, name := range tree(t, dir) {
		if s, ok := parseSealed(name); ok {
			name = s.dir + s.stem + "-#" + s.ext + s.end
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func TestRotationConfig(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"all", `{"dir":"x","rotate":{"max_size":"128MiB","max_age":3600000000000,"idle":300000000000},
			"compress":"zstd","retain":{"max_files":10,"max_age":86400000000000}}`, ""},
		{"one", `{"dir":"x","rotate":{"max_size":"64KiB"}}`, ""},
		{"null", `{"dir":"x","rotate":null,"retain":null,"compress":"none"}`, ""},
		{"nothing", `{"dir":"x","rotate":{}}`, "rotate: seals no file ever"},
		{"size", `{"dir":"x","rotate":{"max_size":"large"}}`, "rotate.max_size: not a usable size"},
		{"small", `{"dir":"x","rotate":{"max_size":"1kB"}}`, "rotate.max_size: not a usable size"},
		{"times", `{"dir":"x","rotate":{"max_age":-1,"idle":999999999}}`,
			"rotate.max_age: not a second or more\nrotate.idle: not a second or more"},
		{"compress", `{"dir":"x","rotate":{"idle":1000000000},"compress":"lz4"}`,
			`compress: must be one of ["none" "gzip" "zstd"]`},
		{"alone", `{"dir":"x","compress":"gzip","retain":{"max_files":1}}`,
			"compress: needs a rotate block\nretain: needs a rotate block"},
		{"retain", `{"dir":"x","rotate":{"idle":1000000000},"retain":{"max_files":-1,"max_age":1}}`,
			"retain.max_age: not a second or more\nretain.max_files: less than 0"},
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

func TestRotationTimes(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse(time.DateTime, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const hour, day, week = time.Hour, 24 * time.Hour, 7 * 24 * time.Hour
	for _, c := range []struct {
		name      string
		r         rotation
		last, now string
		want      bool
		deadline  string
	}{
		{"same hour", rotation{age: hour}, "2026-01-15 10:00:00", "2026-01-15 10:59:59", false, "2026-01-15 11:00:00"},
		{"next hour", rotation{age: hour}, "2026-01-15 10:59:59", "2026-01-15 11:00:00", true, "2026-01-15 11:00:00"},
		{"midnight", rotation{age: day}, "2026-01-15 10:00:00", "2026-01-16 00:00:00", true, "2026-01-16 00:00:00"},
		{"weeks begin on Monday", rotation{age: week}, "2026-01-18 23:00:00", "2026-01-19 00:00:00", true,
			"2026-01-19 00:00:00"},
		{"clock set back", rotation{age: hour}, "2026-01-15 10:00:00", "2026-01-15 09:59:59", true, "2026-01-15 11:00:00"},
		{"idle", rotation{idle: hour}, "2026-01-15 10:30:00", "2026-01-15 11:30:00", true, "2026-01-15 11:30:00"},
		{"not idle", rotation{idle: hour}, "2026-01-15 10:30:00", "2026-01-15 11:29:59", false, "2026-01-15 11:30:00"},
		{"both", rotation{age: hour, idle: 10 * time.Minute}, "2026-01-15 10:30:00", "2026-01-15 10:35:00", false,
			"2026-01-15 10:40:00"},
		{"both, the clock first", rotation{age: hour, idle: 10 * time.Minute}, "2026-01-15 10:55:00", "2026-01-15 11:00:00",
			true, "2026-01-15 11:00:00"},
	} {
		if got := c.r.before(1, 1, at(c.last), at(c.now)); got != c.want {
			t.Errorf("%s: got %t", c.name, got)
		}
		if got := c.r.deadline(at(c.last)); !got.Equal(at(c.deadline)) {
			t.Errorf("%s: deadline %v, want %s", c.name, got, c.deadline)
		}
	}
	r := rotation{size: 100}
	now := time.Now()
	for _, c := range []struct {
		n    int
		size int64
		want bool
	}{{40, 60, false}, {41, 60, true}, {1, 100, true}} {
		if got := r.before(c.n, c.size, now, now); got != c.want {
			t.Errorf("%d after %d: got %t", c.n, c.size, got)
		}
	}
}

func TestSizeRotation(t *testing.T) {
	dir := t.TempDir()
	line := int64(len(appendLine(nil, delivery("0", "", "{}"))) + 1)
	s := openRotating(t, dir, func(s *settings) { s.rotate.size = 3 * line }, nil)
	ref := func(i int) string { return fmt.Sprint(i % 10) } // as long as the others
	var want []string
	for i := range 10 {
		deliver(t, s, delivery(ref(i), "", "{}"))
		want = append(want, ref(i))
	}
	// A batch larger than the maximum stays together.
	deliver(t, s, delivery("a", "", "{}"), delivery("b", "x/y", "{}"), delivery("c", "", "{}"), delivery("d", "", "{}"),
		delivery("e", "", "{}"))
	deliver(t, s, delivery("f", "", "{}"))
	want = append(want, "a", "c", "d", "e", "f")
	const sealed = "events-#.jsonl "
	if got, want := shape(t, dir), strings.Repeat(sealed, 5)+"events.jsonl x/y"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := written(t, dir, defaultPath); got != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
	var sizes []int64
	for _, name := range tree(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o640 {
			t.Errorf("%s has mode %o", name, info.Mode())
		}
		sizes = append(sizes, info.Size()/line)
	}
	if diff := cmp.Diff([]int64{3, 3, 3, 1, 4, 1, 1}, sizes); diff != "" {
		t.Errorf("lines per file (-want +got):\n%s", diff)
	}
}

// What counts is the order: a sealed file is synced, renamed, its name synced, and only then there is a new file of
// the old name.
func TestSealingOrder(t *testing.T) {
	s, d := openFaultyRotating(t, t.TempDir(), bySize(""))
	deliver(t, s, delivery("1", "a/b", "{}"))
	d.take()
	deliver(t, s, delivery("2", "a/b", "{}"))
	want := []string{
		"sync a/b", "rename a/b", "close a/b", "syncdir a",
		"open a/b", "mkdir a", "open a/b", "syncdir a", "syncdir .", "write a/b", "sync a/b",
	}
	if diff := cmp.Diff(want, d.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func openFaultyRotating(t testing.TB, dir string, change func(*settings)) (*sink, *faultyDisk) {
	d := &faultyDisk{}
	s := openRotating(t, dir, change, func(real disk) disk { d.disk = real; return d })
	return s, d
}

// TestTimedRotation goes through a day on fake time. What it has in place of the clock of the file system is a disk
// that sets the times of the files.
func TestTimedRotation(t *testing.T) {
	type step struct {
		at   time.Duration // since midnight
		path string        // to which something is delivered then
		want string        // the files after that
	}
	for _, c := range []struct {
		name  string
		set   rotation
		open  int // files at the same time
		steps []step
	}{
		{"age", rotation{age: time.Hour}, 64, []step{
			{10 * time.Minute, "a", "a"},
			{50 * time.Minute, "a", "a"},
			{time.Hour - time.Millisecond, "", "a"},
			{time.Hour + time.Second, "", "a-#"}, // nothing has to be written for it
			{90 * time.Minute, "a", "a a-#"},
			{3 * time.Hour, "b/c", "a-# a-# b/c"},
			{5 * time.Hour, "", "a-# a-# b/c-#"},
		}},
		{"idle", rotation{idle: 5 * time.Minute}, 64, []step{
			{0, "a", "a"},
			{4 * time.Minute, "a", "a"},
			{8 * time.Minute, "b", "a b"},
			{9*time.Minute + time.Second, "", "a-# b"},
			{14 * time.Minute, "a", "a a-# b-#"},
			{30 * time.Minute, "", "a-# a-# b-#"},
		}},
		{"not open", rotation{age: 24 * time.Hour, idle: 12 * time.Hour}, 1, []step{
			{time.Hour, "a", "a"},
			{2 * time.Hour, "b", "a b"},
			{3 * time.Hour, "c", "a b c"},
			{14*time.Hour + time.Second, "", "a-# b-# c"},
			{14*time.Hour + 2*time.Second, "a", "a a-# b-# c"},
			{25 * time.Hour, "", "a-# a-# b-# c-#"},
		}},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restart=%t", c.name, restart), func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					start := time.Now() // midnight
					open := func() *sink {
						return openRotating(t, dir, func(s *settings) { s.rotate, s.maxOpen = c.set, c.open }, setTimes)
					}
					s := open()
					for i, step := range c.steps {
						if restart { // after the last one at the latest, the file is gone from memory
							if err := s.Close(); err != nil {
								t.Fatal(err)
							}
							s = open()
						}
						time.Sleep(time.Until(start.Add(step.at)))
						synctest.Wait()
						if step.path != "" {
							deliver(t, s, delivery(fmt.Sprint(i), step.path, "{}"))
						}
						if got := shape(t, dir); got != step.want {
							t.Errorf("after %v: %q, want %q", step.at, got, step.want)
						}
					}
					for _, name := range tree(t, dir) {
						s, ok := parseSealed(name)
						last := func(step step) bool { return step.at == s.stamp.Sub(start) && step.path == s.dir+s.stem }
						if ok && !slices.ContainsFunc(c.steps, last) {
							t.Errorf("%s is not named after its last line", name)
						}
					}
				})
			})
		}
	}
}

// setTimes gives files the time that the test has.
func setTimes(d disk) disk { return timeDisk{d} }

type timeDisk struct{ disk }

func (d timeDisk) open(name string, flag int, mode fs.FileMode) (file, error) {
	f, err := d.disk.open(name, flag, mode)
	if err != nil {
		return nil, err
	}
	return timeFile{f, d, name}, nil
}

type timeFile struct {
	file
	disk disk
	name string
}

func (f timeFile) Write(b []byte) (int, error) {
	n, err := f.file.Write(b)
	if f.disk.setTime(f.name, time.Now()) != nil {
		panic(f.name)
	}
	return n, err
}

// TestNamesAfterClockJumps: the sealed files of a path sort in the order in which they were written whatever the clock
// says, and none has the name of another one.
func TestNamesAfterClockJumps(t *testing.T) {
	dir := t.TempDir()
	ahead := sealedAs(defaultPath, time.Now().Add(24*365*time.Hour)) // the clock was wrong for a while
	for name, text := range map[string]string{
		ahead.compressed(endZstd): "", sealedAs("events.json", ahead.stamp.Add(time.Hour)).String(): "",
		sealedAs("event.jsonl", ahead.stamp.Add(time.Hour)).String(): "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := []byte(`{"deliveryid":"0"}` + "\n")
	if err := os.WriteFile(filepath.Join(dir, defaultPath), line, 0o600); err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(24 * 1000 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, defaultPath), future, future); err != nil {
		t.Fatal(err)
	}
	for i, n := 1, 0; n < 3; n++ {
		s := openRotating(t, dir, bySize(""), nil)
		for range 3 {
			deliver(t, s, delivery(fmt.Sprint(i), "", "{}"))
			i++
		}
		s.Close()
	}
	if err := os.Remove(filepath.Join(dir, ahead.compressed(endZstd))); err != nil {
		t.Fatal(err)
	}
	if got, want := written(t, dir, defaultPath), "0 1 2 3 4 5 6 7 8 9"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for i := range 9 {
		next := sealedAs(defaultPath, ahead.stamp.Add(time.Duration(i+1)*stampStep))
		if _, err := os.Stat(filepath.Join(dir, next.String())); err != nil {
			t.Error(err)
		}
	}
}

// TestNameTaken has someone else take the name that comes next, while its order is known already.
func TestNameTaken(t *testing.T) {
	dir := t.TempDir()
	s := openRotating(t, dir, bySize(""), nil)
	deliver(t, s, delivery("1", "", "{}"))
	deliver(t, s, delivery("2", "", "{}"))
	of := s.folder.files[defaultPath]
	if of.stamp.IsZero() {
		t.Fatal("the successor of a sealed file does not know its time")
	}
	of.used = of.stamp // so the next name is one step on
	taken := sealedAs(defaultPath, of.stamp.Add(stampStep)).compressed(endGzip)
	if err := os.WriteFile(filepath.Join(dir, taken), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, delivery("3", "", "{}"))
	if b, err := os.ReadFile(filepath.Join(dir, taken)); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.Remove(filepath.Join(dir, taken)); err != nil {
		t.Fatal(err)
	}
	if got := written(t, dir, defaultPath); got != "1 2 3" || len(tree(t, dir)) != 3 {
		t.Errorf("%q in %q", got, tree(t, dir))
	}
}

// TestOthersFiles: rotation by time seals what the sink has written, and nothing else that is in the folder.
func TestOthersFiles(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		change := func(s *settings) { s.rotate = rotation{idle: time.Minute, size: 1} }
		s := openRotating(t, dir, change, setTimes)
		put := func(name, text string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put("notes.jsonl", "{}\n")
		put("target", `{"deliveryid":"0"}`+"\n")
		if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		for i, path := range []string{"moved", "removed", "cut", "folder", "link", "link", "kept"} {
			deliver(t, s, delivery(fmt.Sprint(i), path, "{}"))
		}
		for _, err := range []error{
			os.Rename(filepath.Join(dir, "moved"), filepath.Join(dir, "moved.1")),
			os.Remove(filepath.Join(dir, "removed")),
			os.Truncate(filepath.Join(dir, "cut"), 0),
			os.Remove(filepath.Join(dir, "folder")),
			os.MkdirAll(filepath.Join(dir, "folder", "x"), 0o700),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got, want := shape(t, dir), "cut kept-# link moved.1 notes.jsonl target"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := ids(t, dir, "target"); got != "0 4 5" {
			t.Errorf("the file behind the link has %q", got)
		}
		// What is written after that is sealed again.
		for _, path := range []string{"moved", "removed", "cut"} {
			deliver(t, s, delivery("x", path, "{}"))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got, want := shape(t, dir), "cut-# kept-# link moved-# moved.1 notes.jsonl removed-# target"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := remembered(s); got != 0 {
			t.Errorf("%d files are remembered", got)
		}
	})
}

// remembered is how many files wait to be sealed.
func remembered(s *sink) int {
	s.folder.busy <- struct{}{}
	defer func() { <-s.folder.busy }()
	return len(s.folder.active)
}

// TestExternalRotation has logrotate work on files that the sink rotates as well.
func TestExternalRotation(t *testing.T) {
	dir := t.TempDir()
	s := openRotating(t, dir, func(s *settings) { s.rotate = rotation{size: 600, idle: time.Hour} }, nil)
	file := filepath.Join(dir, defaultPath)
	var want []string
	for i := range 12 {
		id := string(rune('a' + i))
		deliver(t, s, delivery(id, "", "{}"))
		want = append(want, id)
		if i%4 == 0 {
			if err := os.Rename(file, fmt.Sprint(file, ".", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for _, name := range tree(t, dir) {
		got = append(got, strings.Fields(ids(t, dir, name))...)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := shape(t, dir); strings.Count(got, "#") < 3 {
		t.Errorf("got %q", got)
	}
}

func TestTornTailIsSealedWhole(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		change := func(s *settings) { s.rotate = rotation{idle: time.Minute} }
		s := openRotating(t, dir, change, setTimes)
		deliver(t, s, delivery("1", "a", "{}"), delivery("2", "b", "{}"), delivery("2", "b", "{}"))
		s.Close()
		for name, text := range map[string]string{"a": `{"deliveryid":"x","da`, "b": `{"deliveryid":"3"}`} {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(text); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		openRotating(t, dir, change, setTimes)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := shape(t, dir); got != "a-# b-#" {
			t.Errorf("got %q", got)
		}
		if got := written(t, dir, "a") + "|" + written(t, dir, "b"); got != "1|2 2 3" {
			t.Errorf("got %q", got)
		}
	})
}

// TestLedger is what is left of the files to seal when processes come and go.
func TestLedger(t *testing.T) {
	dir := t.TempDir()
	ledger := filepath.Join(dir, ledgerName)
	synctest.Test(t, func(t *testing.T) {
		change := func(s *settings) { s.rotate = rotation{age: 24 * time.Hour} }
		one := openRotating(t, dir, change, setTimes)
		two := openRotating(t, dir, change, setTimes)
		deliver(t, one, delivery("1", "one", "{}"))
		deliver(t, two, delivery("2", "two", "{}"))
		one.Close() // has what is written to "one" in memory only
		two.Close()
		f, err := os.OpenFile(ledger, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		// A torn line, foreign ones, files that are gone, and one that was never written to.
		fmt.Fprintf(f, "\"gone\"\n\"../two\"\n%s\n\"three\"\n{}\n\n\"tw", strings.Repeat("x", 100_000))
		f.Close()
		if err := os.WriteFile(filepath.Join(dir, "three"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		three := openRotating(t, dir, change, setTimes)
		synctest.Wait()
		deliver(t, three, delivery("3", "four/\"é", "{}"))
		b, err := os.ReadFile(ledger)
		if err != nil {
			t.Fatal(err)
		}
		lines := slices.Compact(slices.Sorted(strings.Lines(string(b))))
		want := []string{"\n", "\"four/\\\"é\"\n", "\"one\"\n", "\"three\"\n", "\"two\"\n"}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("ledger (-want +got):\n%s", diff)
		}
		// Another process's additions are noticed.
		four := openRotating(t, dir, change, setTimes)
		deliver(t, four, delivery("4", "five", "{}"))
		four.Close()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if got, want := shape(t, dir), "five-# four/\"é-# one-# three two-#"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	info, err := os.Stat(ledger)
	if err != nil || info.Mode().Perm() != ledgerMode {
		t.Errorf("%v, %v", info, err)
	}
}

// TestLedgerLosesNothing: a file that was away while the ledger was written anew is listed again.
func TestLedgerLosesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		change := func(s *settings) { s.rotate = rotation{age: 24 * time.Hour} }
		one := openRotating(t, dir, change, setTimes)
		deliver(t, one, delivery("1", "a", "{}"))
		if err := os.Remove(filepath.Join(dir, "a")); err != nil {
			t.Fatal(err)
		}
		openRotating(t, dir, change, setTimes).Close()
		synctest.Wait()
		two := openRotating(t, dir, change, setTimes)
		synctest.Wait() // a is not listed any more
		deliver(t, one, delivery("2", "a", "{}"))
		time.Sleep(2 * lookEvery)
		deliver(t, one, delivery("3", "b", "{}")) // what was noticed is written with it
		synctest.Wait()
		b, err := os.ReadFile(filepath.Join(dir, ledgerName))
		if err != nil || !strings.Contains(string(b), `"a"`) {
			t.Errorf("the ledger is %q, %v", b, err)
		}
		two.Close()
		one.Close()
	})
}

// TestLedgerStaysSmall: a path that comes and goes is not listed once for every time.
func TestLedgerStaysSmall(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openRotating(t, dir, func(s *settings) { s.rotate, s.keepFiles = rotation{idle: time.Second}, 1 },
			func(d disk) disk { return noSync{timeDisk{d}} })
		path := strings.Repeat("x", 190)
		for range 400 {
			deliver(t, s, delivery("1", path+"/"+path+"/"+path, "{}"))
			time.Sleep(2 * time.Second)
		}
	})
	info, err := os.Stat(filepath.Join(dir, ledgerName))
	if err != nil || info.Size() > 2*ledgerRewrite {
		t.Errorf("%v, %v", info.Size(), err)
	}
}

// TestUselessLedger: a ledger that cannot be written or read costs no delivery.
func TestUselessLedger(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"folder", func(p string) error { return os.Mkdir(p, 0o700) }},
		{"pipe", func(p string) error { return syscall.Mkfifo(p, 0o600) }},
		{"link", func(p string) error { return os.Symlink("/etc/passwd", p) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.make(filepath.Join(dir, ledgerName)); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				s := openRotating(t, dir, func(s *settings) { s.rotate = rotation{idle: time.Minute} }, setTimes)
				synctest.Wait()
				deliver(t, s, delivery("1", "", "{}"))
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if got := written(t, dir, defaultPath); got != "1" || !strings.Contains(shape(t, dir), "#") {
					t.Errorf("%q in %q", got, shape(t, dir))
				}
			})
		})
	}
}

// TestTooManyFiles: only so many files are remembered; the others are sealed as well.
func TestTooManyFiles(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openRotating(t, dir, func(s *settings) { s.rotate = rotation{idle: time.Minute} }, setTimes)
		s.folder.busy <- struct{}{}
		s.folder.maxActive = 4
		<-s.folder.busy
		for i := range 11 {
			deliver(t, s, delivery(fmt.Sprint(i), fmt.Sprint("f", i), "{}"))
		}
		if got := remembered(s); got != 4 {
			t.Errorf("%d files are remembered", got)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := strings.Count(shape(t, dir), "#"); got != 11 {
			t.Errorf("got %q", shape(t, dir))
		}
	})
}

func TestCompression(t *testing.T) {
	for _, end := range []string{endGzip, endZstd} {
		t.Run(end, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := openRotating(t, dir, func(s *settings) {
					s.rotate.size, s.compress, s.fileMode = 10, end, 0o600
				}, setTimes)
				text, _ := json.Marshal(strings.Repeat("all work and no play ", 40_000))
				for i := range 4 {
					time.Sleep(time.Hour)
					deliver(t, s, delivery(fmt.Sprint(i), "a/b.jsonl", string(text)))
					synctest.Wait()
				}
				one := "a/b-#.jsonl" + end + " "
				if got, want := shape(t, dir), one+one+one+"a/b.jsonl"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if got := written(t, dir, "a/b.jsonl"); got != "0 1 2 3" {
					t.Errorf("got %q", got)
				}
				for _, name := range tree(t, dir)[:3] {
					info, err := os.Stat(filepath.Join(dir, name))
					if err != nil {
						t.Fatal(err)
					}
					s, _ := parseSealed(name)
					if info.Mode().Perm() != 0o600 || info.Size() > 80_000 || !info.ModTime().Equal(s.stamp) {
						t.Errorf("%s: %v %d bytes %v", name, info.Mode(), info.Size(), info.ModTime())
					}
				}
			})
		})
	}
}

// TestCompressionOrder: the compressed file is whole and has its name before the other one goes.
func TestCompressionOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := openFaultyRotating(t, t.TempDir(), bySize(endZstd))
		deliver(t, s, delivery("1", "a/b", "{}"))
		d.set(func(op string) (int, error) { // nothing after the sealing
			if op == "open a/b" {
				return 0, syscall.EIO
			}
			return 0, nil
		})
		d.take()
		if kind(s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{delivery("2", "a/b", "{}")})[0]) != sdk.Retried {
			t.Error("delivered")
		}
		synctest.Wait()
		var got []string
		for _, op := range d.take() {
			if op == "open a/b" { // of the next active file, while the sealed one is being compressed
				continue
			}
			verb, name, _ := strings.Cut(op, " ")
			if s, ok := parseSealed(name); ok {
				name = "sealed" + s.end
			} else if _, ok := parseTemp(name); ok {
				name = "temp"
			}
			got = append(got, verb+" "+name)
		}
		want := []string{
			"sync a/b", "rename a/b", "close a/b", "syncdir a",
			"open sealed", "remove temp", "open temp", "write temp", "settime temp", "sync temp", "close temp", "rename temp",
			"syncdir a", "remove sealed", "close sealed",
		}
		// It may look for the sealed file once more, which is gone.
		if diff := cmp.Diff(want, got[:min(len(got), len(want))]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestLeftovers: what processes that ended at a bad moment have left is finished or cleaned up by the next start.
func TestLeftovers(t *testing.T) {
	at := time.Date(2026, 1, 15, 10, 20, 30, 0, time.UTC)
	name := func(end string) string { return sealedAs("a/b.jsonl", at).compressed(end) }
	temp := func(end string) string {
		s := sealedAs("a/b.jsonl", at)
		s.end = end
		return s.temp()
	}
	lines := []byte(`{"deliveryid":"1"}` + "\n" + `{"deliveryid":"2"}` + "\n")
	packed := func(end string) []byte {
		var b bytes.Buffer
		w, err := newEncoder(&b, end)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(lines); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gz, zst := packed(endGzip), packed(endZstd)
	for _, c := range []struct {
		name     string
		compress string
		files    map[string][]byte
		want     string
	}{
		{"sealed only", endGzip, map[string][]byte{name(""): lines}, "a/b-#.jsonl.gz"},
		{"sealed only", endZstd, map[string][]byte{name(""): lines}, "a/b-#.jsonl.zst"},
		{"sealed only", "", map[string][]byte{name(""): lines}, "a/b-#.jsonl"},
		{"compressing", endGzip, map[string][]byte{name(""): lines, temp(endGzip): gz[:10]}, "a/b-#.jsonl.gz"},
		{"compressed", endZstd, map[string][]byte{name(""): lines, temp(endZstd): zst}, "a/b-#.jsonl.zst"},
		{"compressing otherwise", endGzip, map[string][]byte{name(""): lines, temp(endZstd): zst[:10]}, "a/b-#.jsonl.gz"},
		{"compressing no more", "", map[string][]byte{name(""): lines, temp(endZstd): zst[:10]}, "a/b-#.jsonl"},
		{"renamed", endGzip, map[string][]byte{name(""): lines, name(endGzip): gz}, "a/b-#.jsonl.gz"},
		{"renamed", endZstd, map[string][]byte{name(""): lines, name(endZstd): zst}, "a/b-#.jsonl.zst"},
		{"renamed, then another compression", endZstd, map[string][]byte{name(""): lines, name(endGzip): gz}, "a/b-#.jsonl.gz"},
		{"renamed, then none", "", map[string][]byte{name(""): lines, name(endGzip): gz}, "a/b-#.jsonl.gz"},
		{"temp alone", endGzip, map[string][]byte{temp(endGzip): gz[:10]}, ""},
		// Nothing that this sink leaves: then both stay.
		{"torn", endGzip, map[string][]byte{name(""): lines, name(endGzip): gz[:len(gz)-1]}, "a/b-#.jsonl a/b-#.jsonl.gz"},
		{"torn", endZstd, map[string][]byte{name(""): lines, name(endZstd): zst[:len(zst)-1]}, "a/b-#.jsonl a/b-#.jsonl.zst"},
		{"empty", endGzip, map[string][]byte{name(""): lines, name(endGzip): nil}, "a/b-#.jsonl a/b-#.jsonl.gz"},
		{"shorter", endZstd, map[string][]byte{name(""): append(lines, lines...), name(endZstd): zst},
			"a/b-#.jsonl a/b-#.jsonl.zst"},
		{"longer", endZstd, map[string][]byte{name(""): lines[:5], name(endZstd): zst}, "a/b-#.jsonl a/b-#.jsonl.zst"},
		{"not ours", endZstd, map[string][]byte{"a/b-2026.jsonl": lines, "a/b.jsonl.1": lines, "a/.x.tmp": lines},
			"a/.x.tmp a/b-2026.jsonl a/b.jsonl.1"},
	} {
		t.Run(c.name+c.compress, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "a"), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, b := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				openRotating(t, dir, bySize(c.compress), nil)
				synctest.Wait()
				if got := shape(t, dir); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
			if strings.Count(c.want, "#") == 1 {
				if got := written(t, dir, "a/b.jsonl"); got != "1 2" {
					t.Errorf("lines %q", got)
				}
			}
		})
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, name := range []string{"a", "b", "x/y/a", "old/1/z", "old/z", "kept/z"} {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
				t.Fatal(err)
			}
			days := 10
			if strings.HasSuffix(name, "z") {
				days = 1
			}
			for day := range days {
				s := sealedAs(name+".jsonl", now.Add(-time.Duration(day)*24*time.Hour))
				if days == 1 {
					s.stamp = now.Add(-1000 * time.Hour)
				}
				line := fmt.Appendf(nil, `{"deliveryid":"%d"}`+"\n", day)
				if err := os.WriteFile(filepath.Join(dir, s.String()), line, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, name := range []string{"kept/other", "a.jsonl.1", "b-2020.jsonl"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := openRotating(t, dir, func(s *settings) {
			s.rotate.size, s.compress, s.keepFiles, s.keepAge = 10, endGzip, 5, 3*24*time.Hour+time.Hour
		}, nil)
		synctest.Wait()
		want := map[string]string{"a.jsonl": "3 2 1 0", "b.jsonl": "3 2 1 0", "x/y/a.jsonl": "3 2 1 0", "kept/z.jsonl": "",
			"old/z.jsonl": "", "old/1/z.jsonl": ""}
		check := func() {
			t.Helper()
			for path, want := range want {
				if got := written(t, dir, path); got != want {
					t.Errorf("%s: got %q, want %q", path, got, want)
				}
			}
		}
		check()
		for name, want := range map[string]bool{"old": false, "kept/other": true, "a.jsonl.1": true, "b-2020.jsonl": true} {
			if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		for i := range 4 { // beside the one that is written to
			deliver(t, s, delivery(fmt.Sprint("n", i), "a.jsonl", "{}"))
			synctest.Wait()
		}
		want["a.jsonl"] = "1 0 n0 n1 n2 n3"
		check()
		// Age alone needs no new file.
		time.Sleep(26 * time.Hour)
		synctest.Wait()
		want["b.jsonl"], want["x/y/a.jsonl"] = "1 0", "1 0"
		check()
	})
}

// TestSealingFails: a file that cannot be renamed grows on, is tried again after a while, and costs no delivery.
func TestSealingFails(t *testing.T) {
	for _, compress := range []string{"", endGzip} {
		t.Run("compress="+compress, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, d := openFaultyRotating(t, dir, func(s *settings) {
					s.rotate, s.compress = rotation{size: 10, idle: time.Hour}, compress
				})
				attempts := func() (n int) {
					for _, op := range d.take() {
						if op == "rename events.jsonl" {
							n++
						}
					}
					return n
				}
				d.set(func(op string) (int, error) {
					if op == "rename events.jsonl" {
						return 0, &os.LinkError{Op: "rename", Err: syscall.EACCES}
					}
					return 0, nil
				})
				for i := range 5 {
					deliver(t, s, delivery(fmt.Sprint(i), "", "{}"))
				}
				time.Sleep(sealRetry)
				synctest.Wait()
				deliver(t, s, delivery("5", "", "{}"))
				synctest.Wait()
				if got, n := shape(t, dir), attempts(); got != defaultPath || n != 2 {
					t.Errorf("%q after %d attempts", got, n)
				}
				time.Sleep(2 * time.Hour) // the attempts go on, without a line
				synctest.Wait()
				if n := attempts(); n < 30 || n > 70 {
					t.Errorf("%d attempts", n)
				}
				d.set(nil)
				time.Sleep(sealRetry + time.Second)
				synctest.Wait()
				if got, want := shape(t, dir), "events-#.jsonl"+compress; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if got := written(t, dir, defaultPath); got != "0 1 2 3 4 5" {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

// TestRotationFaults: whatever fails around sealing, what was reported is there, and once only if the host repeats
// only what failed.
func TestRotationFaults(t *testing.T) {
	for _, op := range []string{"sync a", "syncdir .", "open a", "write a", "rename a", "write .active", "open .active"} {
		for _, err := range []error{syscall.ENOSPC, syscall.EIO} {
			t.Run(fmt.Sprint(op, " ", err), func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					s, d := openFaultyRotating(t, dir, func(s *settings) {
						s.rotate, s.compress = rotation{size: 10, idle: time.Hour}, endGzip
					})
					deliver(t, s, delivery("0", "a", "{}"))
					synctest.Wait()
					for n := range 3 { // which of the operations of that name fails
						at := 0
						d.set(func(got string) (int, error) {
							if got == op {
								if at++; at == n+1 {
									return 5, err
								}
							}
							return 0, nil
						})
						id := fmt.Sprint(n + 1)
						if s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{delivery(id, "a", "{}")})[0] != nil {
							deliver(t, s, delivery(id, "a", "{}"))
						}
						synctest.Wait()
					}
					d.set(nil)
					time.Sleep(2 * time.Hour)
					synctest.Wait()
				})
				if got := written(t, dir, "a"); got != "0 1 2 3" {
					t.Errorf("got %q in %q", got, tree(t, dir))
				}
				if got := shape(t, dir); strings.Trim(strings.ReplaceAll(got, "a-#.gz", ""), " ") != "" {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}

// TestDiskFullWhileCompressing: the sealed file stays as it is until there is room.
func TestDiskFullWhileCompressing(t *testing.T) {
	for _, op := range []string{"open", "write", "settime", "sync", "rename"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, d := openFaultyRotating(t, dir, bySize(endZstd))
				d.set(func(got string) (int, error) {
					verb, name, _ := strings.Cut(got, " ")
					if _, ok := parseTemp(name); ok && verb == op {
						return 3, syscall.ENOSPC
					}
					return 0, nil
				})
				deliver(t, s, delivery("1", "", "{}"))
				deliver(t, s, delivery("2", "", "{}"))
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if got := shape(t, dir); got != "events-#.jsonl events.jsonl" {
					t.Errorf("got %q", got)
				}
				d.set(nil)
				time.Sleep(packRetry + time.Second)
				synctest.Wait()
				if got := shape(t, dir); got != "events-#.jsonl.zst events.jsonl" {
					t.Errorf("got %q", got)
				}
			})
			if got := written(t, dir, defaultPath); got != "1 2" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestRotationPaths(t *testing.T) {
	dir := t.TempDir()
	s := openRotating(t, dir, bySize(endGzip), nil)
	plain := openRotating(t, t.TempDir(), func(*settings) {}, nil)
	name := sealedAs("events.jsonl", time.Now())
	for _, c := range []struct {
		path         string
		rotating, no bool // accepted
	}{
		{"a.jsonl", true, true}, {"a.jsonl.gz", false, true}, {"x/a.zst", false, true}, {"a.GZ", true, true},
		{name.String(), false, false}, {"x/" + name.compressed(endGzip), false, false},
		{name.compressed(endZstd), false, false}, {name.temp(), true, true}, {".x/" + name.compressed(endGzip), false, false},
		{".active", false, false}, {".Active/x", false, false}, {".active.tmp", false, false}, {"x/.active", true, true},
	} {
		for _, s := range []struct {
			s    *sink
			want bool
		}{{s, c.rotating}, {plain, c.no}} {
			err := s.s.DeliverBatch(t.Context(), []*sdk.Delivery[Message]{delivery("1", c.path, "{}")})[0]
			if (err == nil) != s.want || err != nil && kind(err) != sdk.Rejected {
				t.Errorf("%q: %v", c.path, err)
			}
		}
	}
}

// TestOpenFilesAreBoundedWhileRotating: sealing and compressing many files keeps no more open than there may be.
func TestOpenFilesAreBoundedWhileRotating(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var s *sink
		most := 0
		d := &faultyDisk{}
		s = openRotating(t, dir, func(s *settings) {
			s.rotate, s.maxOpen, s.compress = rotation{size: 10, idle: time.Minute}, 3, endGzip
		}, func(real disk) disk { d.disk = real; return d })
		d.set(func(op string) (int, error) {
			if strings.HasPrefix(op, "write f") || strings.HasPrefix(op, "rename f") {
				most = max(most, len(s.folder.files))
			}
			return 0, nil
		})
		for range 3 {
			var ds []*sdk.Delivery[Message]
			for i := range 20 {
				ds = append(ds, delivery(fmt.Sprint(i), fmt.Sprint("f", i), "{}"))
			}
			deliver(t, s, ds...)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if most > 3 {
			t.Errorf("%d files were open", most)
		}
	})
	if got := strings.Count(shape(t, dir), "-#.gz"); got != 60 || len(tree(t, dir)) != 60 {
		t.Errorf("%d files are compressed: %q", got, tree(t, dir))
	}
}

// TestFolderMoved: rotation goes on in the new folder and leaves the old one alone.
func TestFolderMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	synctest.Test(t, func(t *testing.T) {
		change := func(s *settings) { s.rotate, s.compress = rotation{idle: time.Minute}, endGzip }
		s := openRotating(t, dir, change, setTimes)
		deliver(t, s, delivery("1", "a", "{}"))
		if err := os.Rename(dir, dir+".old"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		left := sealedAs("b", time.Now())
		if err := os.WriteFile(filepath.Join(dir, left.String()), []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		deliver(t, s, delivery("2", "a", "{}"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
	})
	if got := shape(t, dir+".old") + "|" + shape(t, dir); got != "a|a-#.gz b-#.gz" {
		t.Errorf("got %q", got)
	}
}

// TestTwoInstancesRotate has two blocks write to the same files of one folder, with rotation in both.
func TestTwoInstancesRotate(t *testing.T) {
	dir := t.TempDir()
	change := func(s *settings) {
		s.rotate, s.compress, s.maxOpen = rotation{size: 2000, age: time.Second, idle: time.Second}, endZstd, 2
	}
	var wg sync.WaitGroup
	sinks := []*sink{openRotating(t, dir, change, nil), openRotating(t, dir, change, nil)}
	for worker := range 4 {
		wg.Go(func() {
			for batch := range 10 {
				var ds []*sdk.Delivery[Message]
				for i := range 12 {
					ds = append(ds, delivery(fmt.Sprintf("%d-%d-%d", worker, batch, i), fmt.Sprintf("f%d", i%3), `{"a":1}`))
				}
				for _, err := range sinks[worker%2].DeliverBatch(context.Background(), ds) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	waitPacked(t, dir, "f0", "f1", "f2")
	for _, s := range sinks {
		s.Close() // so that nothing is sealed while it is read
	}
	checkOnce(t, dir, 480, "f0", "f1", "f2")
}

// waitPacked waits until all sealed files are compressed and nothing is left over, but for what is written to.
func waitPacked(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := []string{}
		for _, name := range tree(t, dir) {
			if s, ok := parseSealed(name); (!ok || s.end == "") && !slices.Contains(paths, name) {
				left = append(left, name)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %q", left)
		}
	}
}

// checkOnce checks that each of n lines is there once, and that lines of one writer are in order.
func checkOnce(t *testing.T, dir string, n int, paths ...string) {
	t.Helper()
	seen := map[string]int{}
	for _, path := range paths {
		for id := range strings.SplitSeq(written(t, dir, path), " ") {
			seen[id]++
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if len(seen) != n {
		t.Errorf("%d lines, want %d", len(seen), n)
	}
}

// TestProcessesRotate has processes of one host rotate the same file while others die over it, in the middle of
// sealing and compressing.
func TestProcessesRotate(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	reported := map[string]bool{}
	var readers sync.WaitGroup
	start := func(role string) *exec.Cmd {
		cmd, in := startChild(t, "rotate-"+role, dir)
		readers.Go(func() { read(t, in, &mu, reported) })
		return cmd
	}
	steady := start("a")
	for round := range 6 {
		cmd := start(fmt.Sprint(round))
		time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
		_ = cmd.Process.Kill()
	}
	_ = steady.Process.Kill()
	readers.Wait()
	checkKilled(t, dir, reported)
}

// TestKillWhileRotating kills a process that seals and compresses all the time, again and again.
func TestKillWhileRotating(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	reported := map[string]bool{}
	for round := range 12 {
		cmd, in := startChild(t, fmt.Sprint("rotate-", round), dir)
		time.AfterFunc(time.Duration(10+rand.IntN(90))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		read(t, in, &mu, reported)
		_ = cmd.Wait()
	}
	checkKilled(t, dir, reported)
}

// read notes what a child reports until it dies.
func read(t *testing.T, in *bufio.Scanner, mu *sync.Mutex, reported map[string]bool) {
	for in.Scan() {
		id := in.Text()
		if strings.HasPrefix(id, "error:") {
			t.Error(id)
		}
		mu.Lock()
		reported[id] = true
		mu.Unlock()
	}
}

// checkKilled starts once more and then looks for what was reported.
func checkKilled(t *testing.T, dir string, reported map[string]bool) {
	t.Helper()
	s := openRotating(t, dir, rotateInChild, nil)
	deliver(t, s, delivery("last", "", "{}"))
	reported["last"] = true
	waitPacked(t, dir, defaultPath)
	s.Close() // so that nothing is sealed while it is read
	count := map[string]int{}
	for id := range strings.SplitSeq(written(t, dir, defaultPath), " ") {
		count[id]++
	}
	sealed := strings.Count(shape(t, dir), "#")
	missing := 0
	for id := range reported {
		if count[id] == 0 {
			missing++
		} else if count[id] > 1 {
			t.Errorf("%s is there %d times", id, count[id])
		}
	}
	t.Logf("%d lines were reported, in %d sealed files", len(reported), sealed)
	if missing > 0 || sealed < 10 {
		t.Errorf("%d reported lines are missing, %d files are sealed", missing, sealed)
	}
}

// rotateInChild seals a file with nearly every batch.
func rotateInChild(s *settings) {
	s.rotate, s.compress = rotation{size: 100_000, age: time.Second, idle: time.Second}, endGzip
}
