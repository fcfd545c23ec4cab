package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
)

// ledger is the file that lists the files which have to be sealed because of the time, for processes that come after
// this one and for those beside it: nothing else tells a file to which nobody writes any more from one that is not
// the sink's at all. A line is a path as a JSON text, or empty. Paths are added before the first line of their file
// is reported, and are left out when the ledger is written anew and the file is gone.
//
// A delivery does not fail because of it. Should it be lost, that costs no line: a file that it lacks is sealed when
// its path is written to again.
type ledger struct {
	info    fs.FileInfo // of the file that was read last; nil: none yet
	at      int64       // up to here
	rewrite int64       // the size from which on it is written anew
	more    bool        // it has files that are not remembered
	unsaved []byte
	failing bool // what was said once
}

const (
	ledgerMode    = 0o600
	ledgerRewrite = 64 << 10
	maxUnsaved    = 1 << 20
	maxEntry      = 16 << 10 // bytes; a path in JSON, whatever is in it
)

// add has a path listed by the next write.
func (l *ledger) add(name string) {
	if len(l.unsaved) > maxUnsaved {
		l.unsaved = nil // it cannot be written, see there
	}
	l.unsaved = appendEntry(l.unsaved, name)
}

func appendEntry(b []byte, name string) []byte {
	text, err := json.Marshal(name)
	if err != nil {
		return b // never for a string
	}
	return append(append(b, text...), '\n')
}

// parseEntry reads a line. What is not a path that the sink could have written to is none: it may be torn.
func parseEntry(line []byte) (name string, ok bool) {
	if json.Unmarshal(line, &name) != nil || checkPath(name) != nil {
		return "", false
	}
	return name, true
}

// write saves what was added, and syncs it: files are begun rarely. What fails is tried again with the next deliveries.
func (l *ledger) write(ctx context.Context, f *folder) {
	if len(l.unsaved) > 0 {
		l.report(ctx, f, l.save(f))
	}
}

// update has the folder remember what others have added.
func (l *ledger) update(ctx context.Context, f *folder) { l.report(ctx, f, l.read(f)) }

func (l *ledger) report(ctx context.Context, f *folder, err error) {
	if err != nil && !l.failing {
		slog.WarnContext(ctx, "cannot note which files are to be sealed", "dir", f.dir, "error", err)
	}
	l.failing = err != nil
}

func (l *ledger) save(f *folder) error {
	_, missing := l.stat(f)
	if missing != nil && !errors.Is(missing, fs.ErrNotExist) {
		return missing
	}
	file, err := f.disk.open(ledgerName, os.O_WRONLY|os.O_APPEND|os.O_CREATE, ledgerMode)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	// The line end first: the last writer may have died or failed within a line.
	n, err := file.Write(slices.Concat([]byte{'\n'}, l.unsaved))
	if err == nil {
		err = file.Sync()
	}
	if err == nil && missing != nil {
		err = f.disk.syncDir(".")
	}
	if err != nil {
		return err
	}
	if l.info != nil && os.SameFile(info, l.info) && info.Size() == l.at {
		l.at += int64(n)
	}
	l.unsaved = l.unsaved[:0]
	return nil
}

func (l *ledger) stat(f *folder) (fs.FileInfo, error) {
	info, err := f.disk.lstat(ledgerName)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", ledgerName)
	}
	return info, err
}

func (l *ledger) read(f *folder) error {
	info, err := l.stat(f)
	if errors.Is(err, fs.ErrNotExist) {
		l.info = nil
		return nil
	}
	if err != nil {
		return err
	}
	if l.more && len(f.active) <= f.maxActive/2 {
		l.info, l.more = nil, false
	}
	switch {
	case l.info == nil, !os.SameFile(info, l.info), info.Size() < l.at:
		l.at, l.rewrite = 0, ledgerRewrite
	case info.Size() == l.at && l.at <= l.rewrite:
		return nil
	}
	anew := l.info == nil || info.Size() > l.rewrite
	if anew {
		l.at = 0
	}
	all := l.at == 0
	kept, err := l.entries(f, info.Size())
	if err != nil {
		return err
	}
	l.info, l.at = info, info.Size()
	if all {
		l.missing(f, kept)
	}
	if !anew {
		return nil
	}
	return l.replace(f, kept)
}

// missing adds what is remembered and not listed: the ledger was written anew while the file was away.
func (l *ledger) missing(f *folder, listed map[string]struct{}) {
	for name := range f.active {
		if _, ok := listed[name]; ok {
			continue
		}
		if _, err := f.disk.lstat(name); errors.Is(err, fs.ErrNotExist) {
			delete(f.active, name)
		} else {
			l.add(name)
		}
	}
}

// entries remembers the files that are listed from l.at on, and returns them without those that are gone.
func (l *ledger) entries(f *folder, end int64) (kept map[string]struct{}, err error) {
	file, err := f.disk.open(ledgerName, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	kept = make(map[string]struct{})
	r := bufio.NewReaderSize(io.NewSectionReader(file, l.at, end-l.at), maxEntry)
	for whole := true; ; {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return kept, nil // without its end it is torn
		case errors.Is(err, bufio.ErrBufferFull):
			whole = false
			continue
		case err != nil:
			return nil, err
		}
		name, ok := parseEntry(line)
		if !ok || !whole {
			whole = true
			continue
		}
		if _, ok := kept[name]; ok {
			continue
		}
		info, err := f.disk.lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		kept[name] = struct{}{}
		if _, known := f.active[name]; !known && info.Size() > 0 {
			f.remember(name, f.lastLine(name, info))
		}
	}
}

// replace writes the ledger anew.
func (l *ledger) replace(f *folder, names map[string]struct{}) error {
	var b []byte
	for name := range names {
		b = appendEntry(b, name)
	}
	const temp = ledgerName + tempEnd
	if err := f.disk.remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := f.disk.open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, ledgerMode)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(b); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := f.disk.rename(temp, ledgerName); err != nil {
		return err
	}
	l.info, l.at, l.rewrite = info, info.Size(), max(ledgerRewrite, 4*info.Size())
	return f.disk.syncDir(".")
}
