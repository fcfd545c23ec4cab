package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

var (
	errFolderGone = errors.New("the sink's folder was moved, removed or unmounted")
	errLocked     = errors.New("the sink's folder is in use by another host")
)

const (
	idleClose     = 30 * time.Second // how long a file stays open without a new line
	lockWait      = 2 * time.Second  // for a process that is about to end to let go of a folder
	maxTail       = 16 << 20         // bytes; the longest unended line that may turn out to be whole
	parallelSyncs = 8                // files of one batch that are synced at the same time
	maxRepairs    = 4096             // beyond it, lines that were not reported may stay, to be seen again when retried
)

// openFolder opens a folder for a host's process. It creates the folder if it is missing, and fails if a process of
// another host has it open. wrap, which may be nil, is for tests to put faults in front of the disk.
func openFolder(ctx context.Context, dir string, set settings, host string, wrap func(disk) disk) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir, set.dirMode); err != nil {
		return nil, err
	}
	f := &folder{
		dir:     dir,
		set:     set,
		host:    host,
		wrap:    wrap,
		busy:    make(chan struct{}, 1),
		files:   make(map[string]*openFile),
		repairs: make(map[string]damage),
		active:  make(map[string]time.Time),

		maxActive: mostActive,

		nudge: make(chan struct{}, 1),
		stop:  func() {},
	}
	f.packer = newPacker(f)
	if err := f.attach(ctx); err != nil {
		return nil, err
	}
	if set.rotate.on() {
		var work context.Context
		work, f.stop = context.WithCancel(context.Background())
		f.working.Go(func() { f.packer.run(work) })
		if set.rotate.timed() {
			f.working.Go(func() { f.keepSealing(work) })
		}
	}
	return f, nil
}

// close waits for what is going on and closes the folder.
func (f *folder) close() error {
	f.stop()
	f.working.Wait()
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	return f.detach()
}

// makeDir is os.MkdirAll whose result survives a power cut.
func makeDir(dir string, mode os.FileMode) error {
	made := []string{dir} // always, for a process that ended between making and syncing
	for d := filepath.Dir(dir); d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	for i, d := range made {
		err := syncDir(os.Open(filepath.Dir(d)))
		if err != nil && (i > 0 || !errors.Is(err, fs.ErrPermission)) {
			return err
		}
	}
	return nil
}

// folder is an open folder. All that touches its files runs one call at a time, batches as well: they share one disk,
// and a batch's sync is the time that the next one has to collect lines. That holds for all instances and processes of
// a host: after a crash, a second process of the plugin looks for what caused it while the first one works on.
type folder struct {
	dir  string // absolute
	set  settings
	host string // who runs this process, for the lock
	wrap func(disk) disk

	packer  *packer
	nudge   chan struct{}      // tells keepSealing to look again
	stop    context.CancelFunc // ends what is in working
	working sync.WaitGroup

	busy    chan struct{}        // holds one item while someone works; guards what follows
	info    fs.FileInfo          // of the folder that disk, lock and gate belong to
	disk    disk                 // nil: detached
	lock    *os.File             // locked, shared with the other processes of the host, as long as the folder is attached
	gate    *os.File             // the folder itself, locked while its files are touched
	files   map[string]*openFile // by path; two paths may lead to one file
	repairs map[string]damage    // by path: what a failed write left and could not be cut off
	round   int64                // counts parts of batches
	idle    *time.Timer          // nil: not armed

	// Of rotation by time:
	active    map[string]time.Time // by path, the time of the last line: files to seal one day
	maxActive int
	ledger    ledger    // the same on disk
	look      time.Time // when keepSealing looks next
}

// openFile is a file that is open for append.
type openFile struct {
	file    file
	info    fs.FileInfo // who it is
	name    string      // the path that is its name, not a link to it; empty: none, and it is not rotated
	size    int64       // up to here all is synced and reported
	pending int64       // bytes written behind size and not synced yet
	err     error       // of the last sync
	round   int64       // of the last use
	used    time.Time   // when the last line was written
	stamp   time.Time   // of the path's newest sealed file; zero: to be looked up
	keep    time.Time   // not to be sealed before, after a failure
	listed  bool        // in the ledger
}

// damage is the end of a file that was written, not synced, and could not be cut off.
type damage struct {
	info      fs.FileInfo
	good, bad int64 // sizes to have and as found
}

// enter waits for the folder to be free, makes sure that it is still there, and keeps others out until leave.
func (f *folder) enter(ctx context.Context) error {
	select {
	case f.busy <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("waiting for other writes to the folder: %w", context.Cause(ctx))
	}
	err := f.verify(ctx)
	for err == nil {
		var ok bool
		if ok, err = tryLock(f.gate, true); ok {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			err = fmt.Errorf("waiting for other processes' writes to the folder: %w", context.Cause(ctx))
		}
	}
	<-f.busy
	return err
}

func (f *folder) leave() {
	if f.gate != nil {
		unlock(f.gate)
	}
	<-f.busy
}

// attach opens the folder and takes its lock.
func (f *folder) attach(ctx context.Context) error {
	root, err := os.OpenRoot(f.dir)
	if gone(err) {
		return errFolderGone
	} else if err != nil {
		return err
	}
	gate, err := root.Open(".")
	if err != nil {
		root.Close()
		return err
	}
	info, err := gate.Stat()
	var lock *os.File
	if err == nil {
		lock, err = takeLock(ctx, root, f.host)
	}
	if err != nil {
		gate.Close()
		root.Close()
		return err
	}
	f.disk, f.info, f.lock, f.gate = rootDisk{root}, info, lock, gate
	if f.wrap != nil {
		f.disk = f.wrap(f.disk)
	}
	f.packer.lookAround()
	f.lookSooner(time.Time{})
	return nil
}

// detach closes everything. The folder can be attached again.
func (f *folder) detach() error {
	if f.idle != nil {
		f.idle.Stop()
		f.idle = nil
	}
	if f.disk == nil {
		return nil
	}
	errs := []error{}
	for _, of := range f.files {
		if err := of.file.Close(); !errors.Is(err, fs.ErrClosed) { // closed: a file with two paths
			errs = append(errs, err)
		}
	}
	clear(f.files)
	clear(f.repairs)
	clear(f.active)
	f.ledger = ledger{}
	errs = append(errs, f.disk.close(), f.lock.Close(), f.gate.Close())
	f.disk, f.lock, f.gate = nil, nil, nil
	return errors.Join(errs...)
}

// verify makes sure that dir still leads to the folder that is open, and else follows it.
func (f *folder) verify(ctx context.Context) error {
	if f.disk != nil {
		info, err := os.Stat(f.dir)
		switch {
		case err == nil && os.SameFile(info, f.info):
			return nil
		case err != nil && !gone(err):
			return err
		}
		// Nothing is lost with the old files: what was reported is synced.
		_ = f.detach()
	}
	return f.attach(ctx)
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// write appends the groups' lines, each group with one write, and syncs them. Afterwards the lines of a group
// without an error are on disk, and those of a group with one are cut off again, at the latest before the next line
// of that file.
func (f *folder) write(ctx context.Context, groups []*group) {
	if err := f.enter(ctx); err != nil {
		for _, g := range groups {
			g.err = err
		}
		return
	}
	defer f.leave()
	files := make([]*openFile, 0, min(len(groups), f.set.maxOpen))
	for part := range slices.Chunk(groups, f.set.maxOpen) {
		f.round++
		files = files[:0]
		for _, g := range part {
			if g.err = ctx.Err(); g.err != nil || len(g.lines) == 0 {
				continue
			}
			if g.file, g.note, g.err = f.append(ctx, g.path, g.lines); g.err == nil && !slices.Contains(files, g.file) {
				files = append(files, g.file)
			}
		}
		f.ledger.write(ctx, f)
		f.sync(files)
		for _, g := range part {
			if g.err == nil && g.file != nil {
				g.err = g.file.err
			}
		}
	}
	f.armIdle()
}

// append writes lines to a file without syncing them. Before that it seals the file if it is due.
func (f *folder) append(ctx context.Context, name string, lines []byte) (of *openFile, note string, err error) {
	of, note, err = f.open(name, true)
	if err == nil && f.due(of, len(lines)) {
		var next string
		of, next, err = f.renew(ctx, of)
		note = cmp.Or(note, next)
	}
	if err != nil {
		return nil, note, refusal(err)
	}
	of.round, of.used = f.round, time.Now()
	n, err := of.file.Write(lines)
	of.pending += int64(n)
	if err != nil {
		// Lines of the same batch that came to this file by another path fail at the sync.
		f.drop(of)
		return nil, note, err
	}
	f.track(of)
	return of, note, nil
}

// sync syncs files and gives up those that fail.
func (f *folder) sync(files []*openFile) {
	if len(files) == 1 {
		files[0].err = files[0].file.Sync()
	} else {
		var wg sync.WaitGroup
		free := make(chan struct{}, parallelSyncs)
		for _, of := range files {
			free <- struct{}{}
			wg.Go(func() {
				of.err = of.file.Sync()
				<-free
			})
		}
		wg.Wait()
	}
	for _, of := range files {
		if of.err != nil {
			f.drop(of)
			continue
		}
		of.size += of.pending
		of.pending = 0
	}
}

// drop gives up a file after a failure: after one failed sync, a second one that succeeds says nothing about the
// first. What was not reported is cut off.
func (f *folder) drop(of *openFile) {
	info, err := of.file.Stat()
	if err == nil && info.Size() > of.size && of.file.Truncate(of.size) != nil {
		for name, o := range f.files {
			if o == of && len(f.repairs) < maxRepairs {
				f.repairs[name] = damage{info: of.info, good: of.size, bad: info.Size()}
			}
		}
	}
	f.closeFile(of)
}

// open returns the open file of a path, which is made if it is missing and shall be. note tells of a repair of its
// end.
func (f *folder) open(name string, create bool) (of *openFile, note string, err error) {
	if of = f.files[name]; of != nil {
		info, err := f.disk.stat(name)
		if err == nil && os.SameFile(info, of.info) {
			switch {
			case info.Size() == of.size+of.pending:
				return of, "", nil
			case of.pending > 0:
				f.drop(of)
				return nil, "", errors.New("the file was changed by someone else while it was written")
			}
			// Someone else wrote or cut, and is done with it or dead; the end may be anything.
			of.used = f.lastLine(name, info)
			of.size, note, err = repair(of.file, info.Size())
			if err != nil {
				f.closeFile(of)
				return nil, note, err
			}
			return of, note, nil
		}
		// Renamed or removed, as by log rotation: what was reported stays in the old file.
		delete(f.files, name)
		if !f.uses(of) {
			_ = of.file.Close()
		}
	}
	f.evict(f.set.maxOpen - 1)

	file, err := f.disk.open(name, os.O_RDWR|os.O_APPEND, 0)
	if create && errors.Is(err, fs.ErrNotExist) {
		if dir := path.Dir(name); dir != "." {
			if err := f.disk.mkdirAll(dir, f.set.dirMode); err != nil {
				return nil, "", err
			}
		}
		file, err = f.disk.open(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, f.set.fileMode)
	}
	if err != nil {
		return nil, "", err
	}
	of, note, err = f.adopt(name, file)
	if err != nil {
		_ = file.Close()
		return nil, note, err
	}
	if of.file != file { // it is open already, by another path
		_ = file.Close()
	}
	f.files[name] = of
	return of, note, nil
}

// adopt makes a file that was just opened ready for append.
func (f *folder) adopt(name string, file file) (*openFile, string, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", &pathError{name + " is not a regular file"}
	}
	own := ""
	if f.set.rotate.on() {
		link, err := f.disk.lstat(name)
		if err != nil {
			return nil, "", err
		}
		if os.SameFile(link, info) {
			own = name
		}
	}
	for _, of := range f.files {
		if os.SameFile(of.info, info) {
			of.name = cmp.Or(of.name, own)
			return of, "", nil
		}
	}
	of := &openFile{file: file, info: info, name: own, used: f.lastLine(name, info)}
	// The names first: without them the lines are on disk and cannot be found. This is not only for files made now: they
	// may have been made by a process that ended before it came here.
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if err := f.disk.syncDir(dir); err != nil {
			return nil, "", err
		}
		if dir == "." {
			break
		}
	}
	size := info.Size()
	if d, ok := f.repairs[name]; ok {
		if os.SameFile(d.info, info) && d.bad == size {
			if err := file.Truncate(d.good); err != nil {
				return nil, "", err
			}
			size = d.good
		}
		delete(f.repairs, name)
	}
	note := ""
	if of.size, note, err = repair(file, size); err != nil {
		return nil, note, err
	}
	return of, note, nil
}

// lastLine is when the last line of a file was written. A time to come is none: the clock was set back since then, or
// someone played with the file.
func (f *folder) lastLine(name string, info fs.FileInfo) time.Time {
	now := time.Now()
	if t := info.ModTime(); !t.After(now) {
		return t
	}
	if t, ok := f.active[name]; ok {
		return t
	}
	return now
}

// repair makes a file end with a whole line, and returns its size then. A last line without its end was never
// reported as delivered by this sink. If it is whole otherwise, as an editor leaves it, it gets its end; else it is
// cut off.
func repair(f file, size int64) (newSize int64, note string, err error) {
	start, err := lastLine(f, size)
	if err != nil || start == size {
		return size, "", err
	}
	first := make([]byte, 1)
	if _, err := f.ReadAt(first, start); err != nil {
		return size, "", err
	}
	if !bytes.Contains([]byte("{[\"tfn-0123456789\x00"), first) { // a NUL: blocks that a power cut left empty
		_, err := f.Write([]byte{'\n'})
		return size + 1, "ended the file's last line, which this sink did not write", err
	}
	if size-start <= maxTail {
		tail := make([]byte, size-start)
		if _, err := f.ReadAt(tail, start); err != nil {
			return size, "", err
		}
		// A number can be the beginning of another one, all other values end visibly.
		if c := tail[0]; c != '-' && (c < '0' || c > '9') && json.Valid(tail) {
			_, err := f.Write([]byte{'\n'})
			return size + 1, "ended the file's last line", err
		}
	}
	if err := f.Truncate(start); err != nil {
		return size, "", err
	}
	return start, fmt.Sprintf("cut %d bytes of an unfinished line off the file's end", size-start), nil
}

// lastLine returns where the text behind a file's last line end starts.
func lastLine(f file, size int64) (int64, error) {
	buf := make([]byte, min(size, 1)) // nearly always enough
	for end := size; end > 0; {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return end - n + i + 1, nil
			}
		}
		end -= n
		if len(buf) == 1 {
			buf = make([]byte, 64<<10)
		}
	}
	return 0, nil
}

// uses reports whether any path leads to an open file.
func (f *folder) uses(of *openFile) bool {
	for _, o := range f.files {
		if o == of {
			return true
		}
	}
	return false
}

// evict closes the files that were not used for longest, until at most n are open; not those of this part of the
// batch.
func (f *folder) evict(n int) {
	for len(f.files) > n {
		var oldest *openFile
		for _, of := range f.files {
			if of.round != f.round && (oldest == nil || of.round < oldest.round) {
				oldest = of
			}
		}
		if oldest == nil {
			return
		}
		f.closeFile(oldest)
	}
}

func (f *folder) closeFile(of *openFile) {
	_ = of.file.Close()
	for name, o := range f.files {
		if o == of {
			delete(f.files, name)
		}
	}
}

// armIdle has idle files closed in a while, if any is open.
func (f *folder) armIdle() {
	if f.idle == nil && len(f.files) > 0 {
		f.idle = time.AfterFunc(idleClose, f.closeIdle)
	}
}

func (f *folder) closeIdle() {
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	f.idle = nil
	for _, of := range f.files {
		if time.Since(of.used) >= idleClose {
			f.closeFile(of)
		}
	}
	f.armIdle()
}

// check writes to the folder and syncs.
func (f *folder) check(ctx context.Context) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	defer f.leave()
	if _, err := f.lock.WriteAt([]byte(f.host), 0); err != nil { // what it holds anyway
		return err
	}
	return errors.Join(f.lock.Sync(), f.disk.syncDir("."))
}

// takeLock locks the folder for a host. All its processes may have it at the same time, another host's may not.
func takeLock(ctx context.Context, root *os.Root, host string) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockWait)
	for {
		owner, err := lockOwner(f, host)
		switch {
		case err != nil:
			f.Close()
			return nil, fmt.Errorf("locking the sink's folder: %w", err)
		case owner == host:
			return f, nil
		case time.Now().After(deadline) || ctx.Err() != nil:
			f.Close()
			if owner == "" {
				return nil, errLocked
			}
			return nil, fmt.Errorf("%w: %s", errLocked, owner)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lockOwner tries to lock the folder for a host and returns who has it: that host, another one, or "" while someone is
// about to take it.
func lockOwner(f *os.File, host string) (string, error) {
	// Who is alone writes down who it is. The exclusive lock goes over into the shared one, but not at once: another one
	// may come in between, so what counts is what is read under the shared lock.
	alone, err := tryLock(f, true)
	if err != nil {
		return "", err
	}
	if alone {
		if err := f.Truncate(0); err != nil {
			return "", err
		}
		if _, err := f.WriteAt([]byte(host), 0); err != nil {
			return "", err
		}
	}
	shared, err := tryLock(f, false)
	if err != nil || !shared {
		return "", err
	}
	b := make([]byte, 512)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	owner := string(b[:n])
	if owner != host {
		unlock(f)
	}
	return owner, nil
}

// hostName names the process that started this one, which is the host, as the lock shows it.
func hostName() string {
	machine, err := os.Hostname()
	if err != nil {
		machine = "this machine"
	}
	return fmt.Sprintf("process %d on %.200s", os.Getppid(), machine)
}

// refusal makes a mistake of the path of what the file system or os.Root refuse about it, such as a link out of the
// folder, a folder where a file should be, or a file where a folder should be.
func refusal(err error) error {
	var p *fs.PathError
	if !errors.As(err, &p) || errors.Is(err, fs.ErrClosed) {
		return err
	}
	var errno syscall.Errno
	if errors.As(p.Err, &errno) {
		switch errno {
		case syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EILSEQ:
		default:
			return err
		}
	}
	return &pathError{err.Error()}
}
