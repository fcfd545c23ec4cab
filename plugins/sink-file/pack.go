package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	walkAgain  = 2 * time.Minute // after the first walk: another process may have ended since then
	walkEvery  = time.Hour
	packRetry  = time.Minute // after a failure, or where another process is at work
	maxQueued  = 4096        // sealed files; if there are more, they are looked for
	packChunk  = 256 << 10   // bytes that are compressed in one go
	zstdWindow = 1 << 20     // bytes that are looked back at, which is memory
)

// packer looks after a folder's sealed files: it compresses and removes them, and finishes what earlier processes have
// begun. It works beside batches and takes no turn with them. Several processes may have one each: who has a sealed
// file locked compresses it.
//
// A compressed file comes into being under another name and gets its own when it is whole and synced; only then,
// and with its name synced as well, the file that it was made of is removed. So at any moment one of the two is whole.
type packer struct {
	folder *folder
	wake   chan struct{}

	mu     sync.Mutex
	queue  []sealed
	around bool // look through the whole folder
}

func newPacker(f *folder) *packer { return &packer{folder: f, wake: make(chan struct{}, 1)} }

// add hands over a file that was just sealed.
func (p *packer) add(s sealed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == maxQueued {
		p.queue, p.around = nil, true
	}
	if !p.around {
		p.queue = append(p.queue, s)
	}
	p.poke()
}

// lookAround has the whole folder looked through.
func (p *packer) lookAround() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.around = true
	p.poke()
}

func (p *packer) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *packer) take() (queue []sealed, around bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue, around = p.queue, p.around
	p.queue, p.around = nil, false
	return queue, around
}

// run works until ctx ends. What it has begun then is left for the next start.
func (p *packer) run(ctx context.Context) {
	again := time.NewTimer(walkAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-again.C:
			p.lookAround()
			if set := &p.folder.set; set.compress != "" || set.keepFiles > 0 || set.keepAge > 0 {
				again.Reset(walkEvery)
			}
			continue
		}
		if !p.work(ctx) {
			again.Reset(packRetry)
		}
	}
}

// errBusy: another process compresses the file.
var errBusy = errors.New("in work elsewhere")

// work does all that there is to do now. It returns false if something is left.
func (p *packer) work(ctx context.Context) (done bool) {
	d := p.disk()
	if d == nil {
		return true // the folder is gone; when it is back, it is looked through
	}
	j := &job{packer: p, disk: d, done: true}
	queue, around := p.take()
	if around {
		j.walk(ctx)
	} else {
		j.sealed(ctx, queue)
	}
	return j.done || ctx.Err() != nil
}

// disk is the folder as it is now. When the folder has moved away, what is done with it fails.
func (p *packer) disk() disk {
	f := p.folder
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	return f.disk
}

// job is one round of a packer.
type job struct {
	*packer
	disk disk
	done bool // nothing is left to be tried again
	said bool // that something failed; what fails for one file often fails for many
	full bool // the disk is
}

// failed notes that something is to be tried again.
func (j *job) failed(ctx context.Context, what string, err error) {
	j.done = false
	if !j.said && !errors.Is(err, errBusy) && ctx.Err() == nil {
		j.said = true
		slog.WarnContext(ctx, what, "dir", j.folder.dir, "error", err)
	}
}

// sealed does what is to be done after files were sealed.
func (j *job) sealed(ctx context.Context, queue []sealed) {
	set := &j.folder.set
	if set.keepFiles > 0 { // what goes by its age can wait for the next walk
		dirs := map[string]bool{}
		for _, s := range queue {
			dirs[s.dir] = true
		}
		for dir := range dirs {
			j.retain(ctx, dir, j.contents(ctx, dir).sealed)
		}
	}
	for _, s := range queue {
		if set.compress != "" {
			j.compress(ctx, s)
		}
	}
}

// walk looks through the folder for all that is to be done, without following links.
func (j *job) walk(ctx context.Context) {
	dirs := []string{""}
	for len(dirs) > 0 && ctx.Err() == nil {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		c := j.contents(ctx, dir)
		for _, sub := range c.dirs {
			dirs = append(dirs, dir+sub+"/")
		}
		j.retain(ctx, dir, c.sealed)
		for _, s := range c.temps {
			if err := j.clean(s); err != nil {
				j.failed(ctx, "cannot remove what is left of compressing a file", err)
			}
		}
		for i, s := range c.sealed {
			twice := i+1 < len(c.sealed) && c.sealed[i+1].compressed("") == s.String()
			if s.end == "" && (j.folder.set.compress != "" || twice) {
				j.compress(ctx, s)
			}
		}
	}
}

// contents is what a packer is interested in of a folder's contents.
type contents struct {
	dirs   []string
	temps  []sealed
	sealed []sealed // by path and time, uncompressed ones before compressed ones
}

func (j *job) contents(ctx context.Context, dir string) (c contents) {
	err := j.disk.list(path.Clean(dir), func(e fs.DirEntry) {
		if e.IsDir() {
			c.dirs = append(c.dirs, e.Name())
		} else if s, ok := parseSealed(dir + e.Name()); ok && e.Type().IsRegular() {
			c.sealed = append(c.sealed, s)
		} else if s, ok := parseTemp(dir + e.Name()); ok && e.Type().IsRegular() {
			c.temps = append(c.temps, s)
		}
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.failed(ctx, "cannot look for sealed files", err)
	}
	slices.SortFunc(c.sealed, func(a, b sealed) int {
		return cmp.Or(
			cmp.Compare(a.stem, b.stem), cmp.Compare(a.ext, b.ext), a.stamp.Compare(b.stamp), cmp.Compare(a.end, b.end))
	})
	return c
}

// retain removes the sealed files that are not to be kept.
func (j *job) retain(ctx context.Context, dir string, files []sealed) {
	set := &j.folder.set
	if set.keepFiles == 0 && set.keepAge == 0 {
		return
	}
	now := time.Now()
	removed := 0
	kept := 0 // of the path that the walk from the newest to the oldest is at
	for i, s := range slices.Backward(files) {
		if i+1 == len(files) || files[i+1].stem != s.stem || files[i+1].ext != s.ext {
			kept = 0
		} else if files[i+1].stamp.Equal(s.stamp) {
			kept-- // compressed just now
		}
		kept++
		if (set.keepFiles == 0 || kept <= set.keepFiles) && (set.keepAge == 0 || now.Sub(s.stamp) <= set.keepAge) {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err := j.disk.remove(s.String()); err == nil {
			removed++
		} else if !errors.Is(err, fs.ErrNotExist) {
			j.failed(ctx, "cannot remove a sealed file", err)
		}
	}
	if removed == 0 {
		return
	}
	slog.DebugContext(ctx, "removed sealed files", "dir", j.folder.dir, "count", removed)
	if removed == len(files) && dir != "" {
		j.removeEmpty(ctx, dir)
	}
}

// removeEmpty removes a folder and those around it that are empty as well. It takes a turn with batches, which make
// folders.
func (j *job) removeEmpty(ctx context.Context, dir string) {
	if j.folder.enter(ctx) != nil {
		return
	}
	defer j.folder.leave()
	for dir = path.Clean(dir); dir != "." && j.disk.remove(dir) == nil; {
		dir = path.Dir(dir)
	}
}

// clean removes what a process that ended has left of compressing a file.
func (j *job) clean(s sealed) error {
	src, err := j.disk.open(s.compressed(""), os.O_RDONLY, 0)
	if err == nil {
		defer src.Close()
		if ok, err := src.tryLock(); err != nil {
			return err
		} else if !ok {
			return errBusy
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := j.disk.remove(s.temp()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// compress compresses a sealed file, or removes it if it is there compressed already.
func (j *job) compress(ctx context.Context, s sealed) {
	if ctx.Err() != nil || j.full {
		return
	}
	if err := j.tryCompress(ctx, s); err != nil {
		j.failed(ctx, "cannot compress a sealed file", err)
		j.full = errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	}
}

func (j *job) tryCompress(ctx context.Context, s sealed) error {
	src, err := j.disk.open(s.String(), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer src.Close() // and unlock
	if ok, err := src.tryLock(); err != nil {
		return err
	} else if !ok {
		return errBusy
	}
	info, err := src.Stat()
	if err != nil {
		return err
	}
	// Another process may just have done it.
	if there, err := j.unchanged(s, info); err != nil || !there {
		return err
	}
	for _, end := range []string{endGzip, endZstd} {
		if _, err := j.disk.lstat(s.compressed(end)); err == nil {
			return j.settle(ctx, s, src, info.Size(), end)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	to := s
	to.end = j.folder.set.compress
	temp := to.temp()
	if err := j.disk.remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = j.write(ctx, temp, to.end, src, info)
	if err == nil {
		var there bool
		if there, err = j.unchanged(s, info); err == nil && !there {
			err = errBusy // by someone who removed it or writes to it
		}
	}
	if err == nil {
		err = j.disk.rename(temp, to.String())
	}
	if err != nil {
		_ = j.disk.remove(temp)
		return err
	}
	return j.replaced(s)
}

// replaced removes a file that is there compressed, whole and synced.
func (j *job) replaced(s sealed) error {
	if err := j.disk.syncDir(path.Clean(s.dir)); err != nil {
		return err
	}
	return j.disk.remove(s.String())
}

// unchanged reports whether a file is what it was when it was opened.
func (j *job) unchanged(s sealed, info fs.FileInfo) (bool, error) {
	now, err := j.disk.lstat(s.String())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(now, info) && now.Size() == info.Size(), err
}

// write makes a compressed file and syncs it.
func (j *job) write(ctx context.Context, temp, end string, src file, info fs.FileInfo) (err error) {
	f, err := j.disk.open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, packChunk)
	w, err := newEncoder(out, end)
	if err != nil {
		return err
	}
	in := io.NewSectionReader(src, 0, info.Size())
	chunk := make([]byte, min(packChunk, info.Size()))
	for left := info.Size(); left > 0; {
		start := time.Now()
		chunk = chunk[:min(int64(len(chunk)), left)]
		if _, err := io.ReadFull(in, chunk); err != nil {
			return fmt.Errorf("reading it: %w", err)
		}
		if _, err := w.Write(chunk); err != nil {
			return err
		}
		left -= int64(len(chunk))
		if err := rest(ctx, time.Since(start)); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := j.disk.setTime(temp, info.ModTime()); err != nil {
		return err
	}
	return f.Sync()
}

// rest keeps compressing to half of one processor: events come first.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func newEncoder(w io.Writer, end string) (io.WriteCloser, error) {
	if end == endGzip {
		return gzip.NewWriter(w), nil
	}
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
}

func newDecoder(r io.Reader, end string) (io.ReadCloser, error) {
	if end == endGzip {
		return gzip.NewReader(r)
	}
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8*zstdWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// settle removes a file that another process has compressed and not removed, after a look whether it did.
func (j *job) settle(ctx context.Context, s sealed, src file, size int64, end string) error {
	f, err := j.disk.open(s.compressed(end), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	same := false
	if in, err := newDecoder(io.NewSectionReader(f, 0, info.Size()), end); err == nil {
		n, err := io.Copy(&match{ctx: ctx, want: io.NewSectionReader(src, 0, size)}, in)
		same = err == nil && n == size // an error is a torn file, too
		_ = in.Close()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !same {
		// None that this sink has made. Whatever it is, both stay.
		slog.WarnContext(ctx, "a sealed file is there compressed with other contents", "dir", j.folder.dir)
		return nil
	}
	return j.replaced(s)
}

// match is a writer that takes only what a reader gives.
type match struct {
	ctx  context.Context
	want io.Reader
	buf  []byte
}

var errDiffers = errors.New("it differs")

func (m *match) Write(b []byte) (int, error) {
	m.buf = slices.Grow(m.buf[:0], len(b))[:len(b)]
	if _, err := io.ReadFull(m.want, m.buf); err != nil || !bytes.Equal(m.buf, b) {
		return 0, errDiffers
	}
	return len(b), m.ctx.Err()
}
