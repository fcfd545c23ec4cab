//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestPlugin(t *testing.T) {
	dir := t.TempDir()
	plugintest.Sink(t, factory(), plugintest.Options{
		Config:  fmt.Sprintf(`{"dir": %q, "file_mode": "0600", "max_open_files": 2}`, dir),
		Message: `{"path": "a/b.jsonl"}`, RefusedMessage: `{"path": "../b.jsonl"}`,
		Data: `{"id": 4101, "salary": 1.10}`,
	})
	if lines := readLines(t, filepath.Join(dir, "a/b.jsonl")); len(lines) == 0 {
		t.Error("nothing was written")
	}
}

func TestRotatingPlugin(t *testing.T) {
	dir := t.TempDir()
	plugintest.Sink(t, factory(), plugintest.Options{
		Config: fmt.Sprintf(`{
			"dir": %q, "rotate": {"max_size": "64KiB", "max_age": 3600000000000, "idle": 1000000000}, "compress": "gzip",
			"retain": {"max_files": 100, "max_age": 86400000000000}
		}`, dir),
		Data: `{"id": 4101, "salary": 1.10}`,
	})
}

func TestReadme(t *testing.T) { plugintest.Readme(t, factory(), "README.md") }

// TestProgram has the real program write what a batch of mixed deliveries asks for.
func TestProgram(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	in, err := plugintest.Launch(t, plugintest.Build(t, ".")).Open(t.Context(), fmt.Sprintf(`{"dir": %q}`, dir))
	if err != nil {
		t.Fatal(err)
	}
	var ds []*sdk.Delivery[json.RawMessage]
	for i, message := range []string{
		`{}`, `{"path":"../x"}`, `{"record":{"a":[1,2.50]}}`, `{"path":"x.jsonl","record":null}`, `{}`,
	} {
		ds = append(ds, plugintest.Delivery(i, message, "{\n\"n\": 1.10\n}"))
	}
	outcomes, err := in.Deliver(t.Context(), ds...)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		want := sdk.Delivered
		if i == 1 {
			want = sdk.Rejected
		}
		if o.Kind != want {
			t.Errorf("delivery %d: %+v", i, o)
		}
	}
	if err := in.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := in.Close(t.Context()); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, defaultPath))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	const event, record = `"data":{"n":1.10}}`, `{"a":[1,2.50]}`
	if len(lines) != 4 || !strings.HasSuffix(lines[0], event) || lines[1] != record || lines[3] != "" {
		t.Errorf("file has %q", lines)
	}
	if n := len(readLines(t, filepath.Join(dir, "x.jsonl"))); n != 1 {
		t.Errorf("x.jsonl has %d lines", n)
	}
}
