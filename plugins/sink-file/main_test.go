//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("SINK_FILE_CHILD"); role != "" {
		child(role, os.Getenv("SINK_FILE_DIR"))
		return
	}
	goleak.VerifyTestMain(m)
}

func config(dir string) Config {
	return Config{Dir: dir, FileMode: "0640", DirMode: "0750", MaxOpenFiles: 64}
}

// openSink opens a sink that is closed at the end of the test. wrap may be nil.
func openSink(t testing.TB, cfg Config, wrap func(disk) disk) *sink {
	t.Helper()
	s, err := open(t.Context(), cfg, hostName(), wrap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func delivery(id, path, data string) *sdk.Delivery[Message] {
	return &sdk.Delivery[Message]{
		ID:       id,
		Sequence: 42,
		Event: sdk.Envelope{
			ID: "event-" + id, Source: "urn:grapnel:source:hr", Type: "test.thing.created", Time: "2026-01-15T10:00:00Z",
		},
		Message: Message{Path: path},
		Data:    json.RawMessage(data),
	}
}

// deliver hands deliveries over and fails the test if one is not delivered.
func deliver(t testing.TB, s *sink, ds ...*sdk.Delivery[Message]) {
	t.Helper()
	for i, err := range s.DeliverBatch(context.Background(), ds) {
		if err != nil {
			t.Fatalf("delivery %s: %v", ds[i].ID, err)
		}
	}
}

// readLines is what an independent reader makes of a file: one JSON text per line, each with its end.
func readLines(t testing.TB, path string) []map[string]any {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return linesIn(t, path, b)
}

func linesIn(t testing.TB, name string, b []byte) []map[string]any {
	t.Helper()
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Fatalf("%s: the last line has no end", name)
	}
	var lines []map[string]any
	in := bufio.NewScanner(bytes.NewReader(b))
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var m map[string]any
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			t.Fatalf("%s line %d: %v", name, len(lines)+1, err)
		}
		lines = append(lines, m)
	}
	if in.Err() != nil {
		t.Fatal(in.Err())
	}
	return lines
}

// ids are the delivery ids in a file, in order.
func ids(t testing.TB, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return idsIn(t, name, b)
}

func idsIn(t testing.TB, name string, b []byte) string {
	t.Helper()
	var all []string
	for _, m := range linesIn(t, name, b) {
		all = append(all, fmt.Sprint(m["deliveryid"]))
	}
	return strings.Join(all, " ")
}

// kind tells what the host makes of an error.
func kind(err error) sdk.OutcomeKind {
	f := sdk.NewSink(sdk.SinkInfo{Name: "probe"}, func(context.Context, struct{}) (sdk.Sink[struct{}], error) {
		return probe{err}, nil
	})
	in, err := f.Open(context.Background(), []byte("{}"))
	if err != nil {
		panic(err)
	}
	ds := []*sdk.Delivery[json.RawMessage]{{ID: "1", Message: []byte("{}")}}
	return in.DeliverRaw(context.Background(), ds)[0].Kind
}

type probe struct{ err error }

func (p probe) Deliver(context.Context, *sdk.Delivery[struct{}]) error { return p.err }

// faultyDisk is a disk that records what is done to it and fails on demand.
type faultyDisk struct {
	disk
	mu  sync.Mutex
	log []string
	// fail is asked before each operation: "write a", "sync a", "syncdir .", "truncate a", "open a", "mkdir a",
	// "rename a", "remove a", "settime a". For a write, n is how many bytes get through before the error.
	fail func(op string) (n int, err error)
}

// set replaces fail while the disk may be in use.
func (d *faultyDisk) set(fail func(op string) (int, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

func (d *faultyDisk) do(op string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, op)
	if d.fail == nil {
		return 0, nil
	}
	return d.fail(op)
}

func (d *faultyDisk) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.log
	d.log = nil
	return log
}

func (d *faultyDisk) open(name string, flag int, mode fs.FileMode) (file, error) {
	if _, err := d.do("open " + name); err != nil {
		return nil, err
	}
	f, err := d.disk.open(name, flag, mode)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file: f, disk: d, name: name}, nil
}

func (d *faultyDisk) mkdirAll(name string, mode fs.FileMode) error {
	if _, err := d.do("mkdir " + name); err != nil {
		return err
	}
	return d.disk.mkdirAll(name, mode)
}

func (d *faultyDisk) rename(from, to string) error {
	if _, err := d.do("rename " + from); err != nil {
		return err
	}
	return d.disk.rename(from, to)
}

func (d *faultyDisk) remove(name string) error {
	if _, err := d.do("remove " + name); err != nil {
		return err
	}
	return d.disk.remove(name)
}

func (d *faultyDisk) setTime(name string, t time.Time) error {
	if _, err := d.do("settime " + name); err != nil {
		return err
	}
	return d.disk.setTime(name, t)
}

func (d *faultyDisk) syncDir(name string) error {
	if _, err := d.do("syncdir " + name); err != nil {
		return err
	}
	return d.disk.syncDir(name)
}

type faultyFile struct {
	file
	disk *faultyDisk
	name string
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if n, err := f.disk.do("write " + f.name); err != nil {
		n, _ = f.file.Write(b[:n])
		return n, err
	}
	return f.file.Write(b)
}

func (f *faultyFile) Sync() error {
	if _, err := f.disk.do("sync " + f.name); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if _, err := f.disk.do("truncate " + f.name); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faultyFile) Close() error {
	f.disk.do("close " + f.name)
	return f.file.Close()
}

// openFaulty opens a sink on a disk that the test can make fail.
func openFaulty(t *testing.T, cfg Config) (*sink, *faultyDisk) {
	d := &faultyDisk{}
	s := openSink(t, cfg, func(real disk) disk { d.disk = real; return d })
	return s, d
}
