package main

import (
	"path"
	"strings"
	"time"
)

// stampLayout is the time in a sealed file's name: of its last line, in UTC. Such names sort as the times do.
const stampLayout = "20060102T150405.000Z"

// stampStep is what two sealed files of one path differ by at least.
const stampStep = time.Millisecond

// The ends that compressed files have in addition.
const (
	endGzip = ".gz"
	endZstd = ".zst"
)

// sealed is the name of a sealed file in its parts: events-20260115T102030.417Z.jsonl.gz was written as events.jsonl.
type sealed struct {
	dir   string // with a / at its end, or empty
	stem  string // events
	stamp time.Time
	ext   string // .jsonl, or empty
	end   string // .gz, .zst, or empty
}

func (s sealed) String() string {
	return s.dir + s.stem + "-" + s.stamp.UTC().Format(stampLayout) + s.ext + s.end
}

// compressed is the name that it has when it is compressed.
func (s sealed) compressed(end string) string {
	s.end = end
	return s.String()
}

// temp is the name of a file on its way to being s. No message's path is such a name.
func (s sealed) temp() string {
	dir, base := path.Split(s.String())
	return dir + "." + base + tempEnd
}

const tempEnd = ".tmp"

// sealedAs is the name of a file that was written as name and whose last line was written at a time.
func sealedAs(name string, last time.Time) sealed {
	s := sealed{stamp: last.UTC().Truncate(stampStep)}
	s.dir, s.stem = path.Split(name)
	s.stem, s.ext = splitExt(s.stem)
	return s
}

// splitExt cuts the last part off that begins with a dot, but leaves something before it.
func splitExt(base string) (stem, ext string) {
	if i := strings.LastIndexByte(base, '.'); i > 0 {
		return base[:i], base[i:]
	}
	return base, ""
}

// parseSealed takes apart what sealed.String made, and nothing else.
func parseSealed(name string) (s sealed, ok bool) {
	base := ""
	s.dir, base = path.Split(name)
	for _, end := range []string{endGzip, endZstd} {
		if rest, ok := strings.CutSuffix(base, end); ok {
			base, s.end = rest, end
			break
		}
	}
	if s.stem, s.stamp, ok = cutStamp(base); !ok {
		base, s.ext = splitExt(base)
		if s.stem, s.stamp, ok = cutStamp(base); !ok {
			return s, false
		}
	}
	// a.b-… is none: it would have been a-….b
	stem, ext := splitExt(s.stem + s.ext)
	return s, stem == s.stem && ext == s.ext
}

// cutStamp cuts a stamp and the - before it off a name's end.
func cutStamp(base string) (stem string, at time.Time, ok bool) {
	i := len(base) - len(stampLayout)
	if i < 2 || base[i-1] != '-' {
		return "", at, false
	}
	at, err := time.Parse(stampLayout, base[i:])
	// Parse is not strict about every digit.
	if err != nil || at.Format(stampLayout) != base[i:] {
		return "", at, false
	}
	return base[:i-1], at, true
}

// parseTemp takes apart what sealed.temp made, and nothing else.
func parseTemp(name string) (s sealed, ok bool) {
	dir, base := path.Split(name)
	base, dot := strings.CutPrefix(base, ".")
	base, end := strings.CutSuffix(base, tempEnd)
	if !dot || !end {
		return s, false
	}
	s, ok = parseSealed(dir + base)
	return s, ok && s.end != ""
}
