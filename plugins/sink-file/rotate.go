package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"time"
)

const (
	lookEvery  = time.Minute           // at the latest; another process may have left files to seal, or the clock was set
	sealRetry  = time.Minute           // after a failure to seal a file, which grows on meanwhile
	sealAtOnce = 10 * time.Millisecond // how long batches wait for files being sealed because of the time
	mostActive = 100_000               // files to be sealed that are remembered; the ledger has the others
)

// rotation says when files are sealed. All lines of a file are of one period of age, by the clock in UTC. So the time
// of the last line tells what to do, and that is the time of the file: nothing else has to survive a restart.
type rotation struct {
	size      int64
	age, idle time.Duration
}

func (r rotation) on() bool { return r.size > 0 || r.timed() }

// timed reports whether files have to be sealed although nothing is written to them.
func (r rotation) timed() bool { return r.age > 0 || r.idle > 0 }

// before reports whether a file has to be sealed before n bytes are added to it.
func (r rotation) before(n int, size int64, last, now time.Time) bool {
	return r.size > 0 && size+int64(n) > r.size ||
		r.age > 0 && !last.Truncate(r.age).Equal(now.Truncate(r.age)) || // also after the clock was set back
		r.idle > 0 && now.Sub(last) >= r.idle
}

// deadline is when a file has to be sealed to which nothing is added.
func (r rotation) deadline(last time.Time) time.Time {
	end := last.Truncate(max(r.age, 1)).Add(r.age)
	if idle := last.Add(r.idle); r.age == 0 || r.idle > 0 && idle.Before(end) {
		end = idle
	}
	return end
}

// due reports whether a file has to be sealed before n bytes are added to it.
func (f *folder) due(of *openFile, n int) bool {
	if !f.set.rotate.on() || of.name == "" || of.size == 0 || of.pending > 0 {
		return false
	}
	now := time.Now()
	return f.set.rotate.before(n, of.size, of.used, now) && !now.Before(of.keep)
}

// renew seals a file and returns the one that follows it under its name. If the file cannot be renamed it is
// returned itself: better a file that is too large than one to which nothing can be added.
func (f *folder) renew(ctx context.Context, of *openFile) (next *openFile, note string, err error) {
	name := of.name
	stamp, err := f.seal(of)
	if errors.Is(err, errNotSealed) {
		of.keep = time.Now().Add(sealRetry)
		slog.WarnContext(ctx, "cannot seal a file, it grows on", "dir", f.dir, "error", err)
		return of, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if next, note, err = f.open(name, true); err == nil && next.size == 0 {
		next.stamp = stamp
	}
	return next, note, err
}

// errNotSealed is a failure to seal a file that is as before.
var errNotSealed = errors.New("sealing a file")

// seal gives a file its final name, whose time it returns, and closes it. The file has no pending bytes. After an
// error that is not errNotSealed the file is closed, under the old name or the new one.
func (f *folder) seal(of *openFile) (stamp time.Time, err error) {
	if err := of.file.Sync(); err != nil { // its end may have been repaired
		f.drop(of)
		return stamp, err
	}
	to, err := f.finalName(of)
	if err == nil {
		err = f.disk.rename(of.name, to.String())
	}
	if err != nil {
		return stamp, fmt.Errorf("%w: %w", errNotSealed, err)
	}
	delete(f.active, of.name)
	f.closeFile(of)
	f.packer.add(to)
	// Before there is a new file of the old name: whatever a power cut leaves of the two steps, the lines are there.
	return to.stamp, f.disk.syncDir(path.Dir(of.name))
}

// finalName finds a name for a file that nothing has, and that sorts behind those of all earlier files.
func (f *folder) finalName(of *openFile) (sealed, error) {
	info, err := f.disk.lstat(of.name)
	if err != nil {
		return sealed{}, err
	}
	if !os.SameFile(info, of.info) {
		// It was opened by this name and is open now by another one: someone has renamed it.
		of.name = ""
		return sealed{}, errors.New("the file has another name by now")
	}
	for range 2 {
		if of.stamp.IsZero() {
			if of.stamp, err = f.newest(of.name); err != nil {
				return sealed{}, err
			}
		}
		to := sealedAs(of.name, of.used)
		if !to.stamp.After(of.stamp) { // the clock was set back, or the files are very short
			to.stamp = of.stamp.Add(stampStep)
		}
		free, err := f.free(to)
		if err != nil || free {
			return to, err
		}
		of.stamp = time.Time{}
	}
	return sealed{}, errors.New("its final name is taken")
}

// newest is the time in the name of a path's newest sealed file. It is not zero.
func (f *folder) newest(name string) (time.Time, error) {
	at := time.Unix(0, 0)
	of := sealedAs(name, at)
	err := f.disk.list(path.Dir(name), func(e fs.DirEntry) {
		s, ok := parseSealed(e.Name())
		if ok && s.stem == of.stem && s.ext == of.ext && s.stamp.After(at) {
			at = s.stamp
		}
	})
	return at, err
}

// free reports whether a sealed file's name is taken in no form.
func (f *folder) free(s sealed) (bool, error) {
	for _, end := range []string{"", endGzip, endZstd} {
		if _, err := f.disk.lstat(s.compressed(end)); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// track remembers a file to which a line was added, to seal it one day.
func (f *folder) track(of *openFile) {
	if of.name == "" || !f.set.rotate.timed() {
		return
	}
	_, known := f.active[of.name]
	if !known && !of.listed {
		of.listed = true
		f.ledger.add(of.name)
	}
	if f.remember(of.name, of.used) && !known {
		f.lookSooner(f.set.rotate.deadline(of.used))
	}
}

// remember notes when a file was written last. It returns false if there are too many files.
func (f *folder) remember(name string, last time.Time) bool {
	if _, known := f.active[name]; !known && len(f.active) >= f.maxActive {
		f.ledger.more = true
		return false
	}
	f.active[name] = last
	return true
}

// lookSooner has keepSealing look at a time, if it would only later.
func (f *folder) lookSooner(at time.Time) {
	if at.Before(f.look) {
		f.look = at
		select {
		case f.nudge <- struct{}{}:
		default:
		}
	}
}

// keepSealing seals files to which nothing is added, until ctx ends.
func (f *folder) keepSealing(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.nudge:
		case <-timer.C:
		}
		timer.Reset(f.sealDue(ctx))
	}
}

// sealDue seals the files that are due, without keeping batches waiting for long, and returns when to look again.
func (f *folder) sealDue(ctx context.Context) (next time.Duration) {
	var due []string
	var failed error
	for first := true; first || len(due) > 0; first = false {
		if f.enter(ctx) != nil {
			return lookEvery // the folder is gone or someone else's, as its deliveries say
		}
		start := time.Now()
		if first {
			f.ledger.update(ctx, f)
			due = f.dueAt(start)
		}
		for len(due) > 0 && time.Since(start) < sealAtOnce {
			failed = cmp.Or(failed, f.sealIdle(ctx, due[0], start))
			due = due[1:]
		}
		if len(due) == 0 {
			next = f.nextLook(start, failed != nil)
			f.look = start.Add(next)
			f.armIdle()
		}
		f.leave()
	}
	if failed != nil { // the first; what holds for one often holds for many
		slog.WarnContext(ctx, "cannot seal files", "dir", f.dir, "error", failed)
	}
	return next
}

// dueAt lists the files that have to be sealed, those that wait for longest first.
func (f *folder) dueAt(now time.Time) []string {
	var due []string
	for name, last := range f.active {
		if !f.set.rotate.deadline(last).After(now) {
			due = append(due, name)
		}
	}
	slices.SortFunc(due, func(a, b string) int {
		return cmp.Or(f.active[a].Compare(f.active[b]), cmp.Compare(a, b))
	})
	return due
}

// nextLook is how long it is until a file has to be sealed, if nothing is written until then.
func (f *folder) nextLook(now time.Time, failed bool) time.Duration {
	next := lookEvery
	for _, last := range f.active {
		d := f.set.rotate.deadline(last).Sub(now)
		if d <= 0 && failed {
			d = sealRetry
		}
		next = min(next, max(d, 0))
	}
	return next
}

// sealIdle seals a file, if it is due.
func (f *folder) sealIdle(ctx context.Context, name string, now time.Time) error {
	if _, ok := f.active[name]; !ok {
		return nil // sealed in between
	}
	f.round++ // any other file may be closed for it
	of, note, err := f.open(name, false)
	if note != "" {
		slog.WarnContext(ctx, "repaired the end of a file", "dir", f.dir, "note", note)
	}
	var bad *pathError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(refusal(err), &bad),
		err == nil && (of.name != name || of.size == 0):
		// Someone has moved it or put something else in its place.
		delete(f.active, name)
		return nil
	case err != nil:
		return err
	case f.set.rotate.deadline(of.used).After(now):
		f.active[name] = of.used // another process has written to it
		return nil
	}
	_, err = f.seal(of)
	return err
}
