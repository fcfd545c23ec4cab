//go:build unix

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSealedNames(t *testing.T) {
	at := time.Date(2026, 1, 15, 11, 20, 30, 417_999_999, time.FixedZone("", 3600))
	for _, c := range []struct{ path, want string }{
		{"events.jsonl", "events-20260115T102030.417Z.jsonl"},
		{"events", "events-20260115T102030.417Z"},
		{"a.b/c/d.e.f", "a.b/c/d.e-20260115T102030.417Z.f"},
		{".hidden", ".hidden-20260115T102030.417Z"},
		{".hidden.jsonl", ".hidden-20260115T102030.417Z.jsonl"},
		{"dt=2026-01-15/zoë 1-.", "dt=2026-01-15/zoë 1--20260115T102030.417Z."},
		{"q.000Z", "q-20260115T102030.417Z.000Z"},
	} {
		s := sealedAs(c.path, at)
		if got := s.String(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.path, got, c.want)
		}
		for _, end := range []string{"", endGzip, endZstd} {
			name := s.compressed(end)
			got, ok := parseSealed(name)
			if !ok || got.dir+got.stem+got.ext != c.path || got.end != end || !got.stamp.Equal(at.Truncate(stampStep)) {
				t.Errorf("%q: %+v, %t", name, got, ok)
			}
			if checkPath(name) == nil {
				t.Errorf("%q can be written to", name)
			}
			if _, ok := parseTemp(got.temp()); ok != (end != "") {
				t.Errorf("%q is left over: %t", got.temp(), ok)
			}
		}
	}
}

func TestNotSealed(t *testing.T) {
	for _, name := range []string{
		"", "events.jsonl", "-20260115T102030.417Z.jsonl", "events-20260115T102030.417Z.a.b", "a.b-20260115T102030.417Z",
		"events-20260115T102030.417.jsonl", "events-20261315T102030.417Z.jsonl", "events-20260115T102030,417Z.jsonl",
		"events-20260115T102030.417Z.jsonl.1", "events.jsonl-20260115.gz", "events-2026-01-15.jsonl",
		"events-20260115T102030.417Z/x.jsonl", "events20260115T102030.417Z.jsonl", "events-20260115T102030.417Z.jsonl.bz2",
	} {
		if s, ok := parseSealed(name); ok {
			t.Errorf("%q is taken for a sealed file: %+v", name, s)
		}
	}
	for _, name := range []string{
		"x.tmp", ".x.tmp", ".events-20260115T102030.417Z.jsonl.tmp", "events-20260115T102030.417Z.jsonl.gz.tmp",
		".events-20260115T102030.417Z.jsonl.gz", ".active.tmp",
	} {
		if s, ok := parseTemp(name); ok {
			t.Errorf("%q is taken for a leftover: %+v", name, s)
		}
	}
}

// TestNamesSort: a listing has the sealed files in order of time, compressed or not, and the file that is written to
// after them.
func TestNamesSort(t *testing.T) {
	at := time.Date(2026, 1, 15, 10, 59, 59, 999_000_000, time.UTC)
	var want []string
	const day = 24 * time.Hour
	for i, step := range []time.Duration{0, stampStep, time.Second, time.Minute, time.Hour, day, 400 * day} {
		at = at.Add(step)
		s := sealedAs("events.jsonl", at)
		want = append(want, s.compressed([]string{"", endGzip, endZstd}[i%3]))
	}
	want = append(want, "events.jsonl")
	if got := slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzSealedNames(f *testing.F) {
	for _, p := range []string{
		"events.jsonl", "a/b", ".a", "a.", "a-20260115T102030.417Z.jsonl", "é/x-.gz", "q.000Z", "..", "a..b",
	} {
		f.Add(p, int64(1768472430417))
	}
	f.Fuzz(func(t *testing.T, p string, ms int64) {
		if s, ok := parseSealed(p); ok && s.String() != p {
			t.Errorf("%q is read as %q", p, s)
		}
		if s, ok := parseTemp(p); ok && s.temp() != p {
			t.Errorf("%q is read as %q", p, s.temp())
		}
		at := time.UnixMilli(ms)
		if y := at.UTC().Year(); checkPath(p) != nil || y < 1 || y > 9999 {
			return
		}
		s := sealedAs(p, at)
		for _, end := range []string{"", endGzip, endZstd} {
			name := s.compressed(end)
			if end == "" && (strings.HasSuffix(p, endGzip) || strings.HasSuffix(p, endZstd)) {
				continue // not written to by a sink that rotates
			}
			got, ok := parseSealed(name)
			if !ok || got.dir+got.stem+got.ext != p || !got.stamp.Equal(at) || got.end != end {
				t.Errorf("%q at %v: %q is read as %+v, %t", p, at, name, got, ok)
			}
			if len(filepath.Base(got.temp())) > 255 || filepath.Dir(name) != filepath.Dir(p) {
				t.Errorf("%q becomes %q", p, got.temp())
			}
		}
	})
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64 // -1: refused
	}{
		{"4096", 4096}, {"128MiB", 128 << 20}, {"1.5GB", 1_500_000_000}, {"64 KiB", 64 << 10}, {"10B", 10}, {"1TiB", 1 << 40},
		{"", -1}, {"MiB", -1}, {"1mib", -1}, {"-1MiB", -1}, {"1e3", -1}, {"1.2.3", -1}, {"99999999TiB", -1}, {"0x10", -1},
	} {
		got, err := parseSize(c.text)
		if err != nil {
			got = -1
		}
		if got != c.want {
			t.Errorf("%q: got %d (%v), want %d", c.text, got, err, c.want)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, p := range []string{`"events.jsonl"`, `"a/b`, `"../x"`, `"\u0000"`, `null`, `{}`, `"a" "b"`, "", `".lock"`} {
		f.Add([]byte(p))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		name, ok := parseEntry(line)
		if !ok {
			return
		}
		if checkPath(name) != nil {
			t.Errorf("%q passed", name)
		}
		b := appendEntry(nil, name)
		if again, ok := parseEntry(b); !ok || again != name || len(b) > maxEntry {
			t.Errorf("%q is written as %q and read as %q", name, b, again)
		}
	})
}
