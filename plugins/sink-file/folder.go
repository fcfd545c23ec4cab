package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	errFolderGone = errors.New("the sink's folder was moved, removed or unmounted")
	errLocked     = errors.New("the sink's folder is in use by another process")
)

const (
	idleClose     = 30 * time.Second // how long a file stays open without a new line
	lockWait      = 2 * time.Second  // for a process that is about to end to let go of a folder
	maxTail       = 16 << 20         // bytes; the longest unended line that may turn out to be whole
	parallelSyncs = 8                // files of one batch that are synced at the same time
	maxRepairs    = 4096             // beyond it, lines that were not reported may stay, to be seen again when retried
)

// folders are the open folders of a process, each there once.
type folders struct {
	mu   sync.Mutex
	list []*folder
	wrap func(disk) disk // tests put faults in between
}

// open opens a folder, or joins those who have it open. It creates the folder if it is missing, and fails if another
// process holds its lock.
func (fs *folders) open(ctx context.Context, dir string, mode os.FileMode) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir, mode); err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if f.is(info) {
			f.users++
			return f, nil
		}
	}
	f := &folder{
		dir:     dir,
		wrap:    fs.wrap,
		busy:    make(chan struct{}, 1),
		files:   make(map[string]*openFile),
		repairs: make(map[string]damage),
		users:   1,
	}
	if err := f.attach(ctx); err != nil {
		return nil, err
	}
	fs.list = append(fs.list, f)
	return f, nil
}

// close lets go of a folder; the last one closes it.
func (fs *folders) close(f *folder) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.users--; f.users > 0 {
		return nil
	}
	fs.list = slices.DeleteFunc(fs.list, func(o *folder) bool { return o == f })
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

// folder is an open folder. All that touches its files runs one call at a time, batches as well: they share one
// disk, and a batch's sync is the time that the next one has to collect lines.
type folder struct {
	dir  string // absolute
	wrap func(disk) disk

	infoMu sync.Mutex
	info   fs.FileInfo // of the folder that disk and lock belong to

	users int // guarded by folders.mu

	busy    chan struct{} // holds one item while someone works; guards what follows
	disk    disk          // nil: detached
	lock    *os.File
	files   map[string]*openFile // by path; two paths may lead to one file
	repairs map[string]damage    // by path: what a failed write left and could not be cut off
	round   int64                // counts parts of batches
	idle    *time.Timer          // nil: not armed
}

// openFile is a file that is open for append.
type openFile struct {
	file    file
	info    fs.FileInfo // who it is
	size    int64       // up to here all is synced and reported
	pending int64       // bytes written behind size and not synced yet
	err     error       // of the last sync
	round   int64       // of the last use
	used    time.Time
}

// damage is the end of a file that was written, not synced, and could not be cut off.
type damage struct {
	info      fs.FileInfo
	good, bad int64 // sizes to have and as found
}

func (f *folder) is(info fs.FileInfo) bool {
	f.infoMu.Lock()
	defer f.infoMu.Unlock()
	return f.info != nil && os.SameFile(f.info, info)
}

// enter waits for the folder to be free.
func (f *folder) enter(ctx context.Context) error {
	select {
	case f.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for other writes to the folder: %w", context.Cause(ctx))
	}
}

// attach opens the folder and takes its lock.
func (f *folder) attach(ctx context.Context) error {
	root, err := os.OpenRoot(f.dir)
	if gone(err) {
		return errFolderGone
	} else if err != nil {
		return err
	}
	info, err := root.Stat(".")
	if err != nil {
		root.Close()
		return err
	}
	lock, err := takeLock(ctx, root)
	if err != nil {
		root.Close()
		return err
	}
	f.disk, f.lock = rootDisk{root}, lock
	if f.wrap != nil {
		f.disk = f.wrap(f.disk)
	}
	f.infoMu.Lock()
	f.info = info
	f.infoMu.Unlock()
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
	errs = append(errs, f.disk.close(), f.lock.Close())
	f.disk, f.lock = nil, nil
	return errors.Join(errs...)
}

// verify makes sure that dir still leads to the folder that is open, and else follows it.
func (f *folder) verify(ctx context.Context) error {
	if f.disk != nil {
		info, err := os.Stat(f.dir)
		switch {
		case err == nil && f.is(info):
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
func (f *folder) write(ctx context.Context, groups []*group, set settings) {
	err := f.enter(ctx)
	if err == nil {
		defer func() { <-f.busy }()
		err = f.verify(ctx)
	}
	if err != nil {
		for _, g := range groups {
			g.err = err
		}
		return
	}
	files := make([]*openFile, 0, min(len(groups), set.maxOpen))
	for part := range slices.Chunk(groups, set.maxOpen) {
		f.round++
		files = files[:0]
		for _, g := range part {
			if g.err = ctx.Err(); g.err != nil || len(g.lines) == 0 {
				continue
			}
			if g.file, g.note, g.err = f.append(g.path, g.lines, set); g.err == nil && !slices.Contains(files, g.file) {
				files = append(files, g.file)
			}
		}
		f.sync(files)
		for _, g := range part {
			if g.err == nil && g.file != nil {
				g.err = g.file.err
			}
		}
	}
	f.armIdle()
}

// append writes lines to a file without syncing them.
func (f *folder) append(name string, lines []byte, set settings) (of *openFile, note string, err error) {
	of, note, err = f.open(name, set)
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

// open returns the open file of a path. note tells of a repair of its end.
func (f *folder) open(name string, set settings) (of *openFile, note string, err error) {
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
			// Someone else wrote or cut; the end may be anything.
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
	f.evict(set.maxOpen - 1)

	file, err := f.disk.open(name, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if dir := path.Dir(name); dir != "." {
			if err := f.disk.mkdirAll(dir, set.dirMode); err != nil {
				return nil, "", err
			}
		}
		file, err = f.disk.open(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, set.fileMode)
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
	for _, of := range f.files {
		if os.SameFile(of.info, info) {
			return of, "", nil
		}
	}
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
	size, note, err := repair(file, size)
	if err != nil {
		return nil, note, err
	}
	return &openFile{file: file, info: info, size: size}, note, nil
}

// repair makes a file end with a whole line, and returns its size then. A last line without its end was never
// reported as delivered by this sink. If it is whole otherwise, as an editor leaves it, it gets its end; else it is
// cut off.
func repair(f file, size int64) (newSize int64, note string, err error) {
	start, err := lastLine(f, size)
	if err != nil || start == size {
		return size, "", err
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
	defer func() { <-f.busy }()
	if err := f.verify(ctx); err != nil {
		return err
	}
	if err := writeOwner(f.lock); err != nil {
		return err
	}
	return f.disk.syncDir(".")
}

// takeLock locks the folder for this process.
func takeLock(ctx context.Context, root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockWait)
	for {
		ok, err := tryLock(f)
		if ok {
			err = writeOwner(f)
		}
		switch {
		case err != nil:
			f.Close()
			return nil, fmt.Errorf("locking the sink's folder: %w", err)
		case ok:
			return f, nil
		case time.Now().After(deadline) || ctx.Err() != nil:
			owner := make([]byte, 20)
			n, _ := f.ReadAt(owner, 0)
			f.Close()
			if pid := strings.TrimSpace(string(owner[:n])); pid != "" {
				return nil, fmt.Errorf("%w (process %s)", errLocked, pid)
			}
			return nil, errLocked
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// writeOwner leaves the process id in the lock file, for the message that others get.
func writeOwner(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return err
	}
	return f.Sync()
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
