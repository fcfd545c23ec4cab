package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"
)

// disk is what a folder needs of the file system. Names are below the folder, with slashes.
type disk interface {
	open(name string, flag int, mode fs.FileMode) (file, error)
	mkdirAll(name string, mode fs.FileMode) error
	stat(name string) (fs.FileInfo, error)
	lstat(name string) (fs.FileInfo, error)
	rename(from, to string) error
	remove(name string) error // a file or an empty folder
	setTime(name string, modified time.Time) error
	// list calls each for all that is in a folder, in any order.
	list(name string, each func(fs.DirEntry)) error
	syncDir(name string) error
	close() error
}

// file is what a folder needs of a file.
type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	// tryLock locks the file until it is closed. It returns false if someone else has it locked.
	tryLock() (bool, error)
}

// osFile is a real file.
type osFile struct{ *os.File }

func (f osFile) tryLock() (bool, error) { return tryLock(f.File, true) }

// rootDisk is a real folder, which no name and no link leads out of.
type rootDisk struct{ root *os.Root }

func (d rootDisk) open(name string, flag int, mode fs.FileMode) (file, error) {
	f, err := d.root.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d rootDisk) mkdirAll(name string, mode fs.FileMode) error { return d.root.MkdirAll(name, mode) }
func (d rootDisk) stat(name string) (fs.FileInfo, error)        { return d.root.Stat(name) }
func (d rootDisk) lstat(name string) (fs.FileInfo, error)       { return d.root.Lstat(name) }
func (d rootDisk) rename(from, to string) error                 { return d.root.Rename(from, to) }
func (d rootDisk) remove(name string) error                     { return d.root.Remove(name) }
func (d rootDisk) setTime(name string, t time.Time) error       { return d.root.Chtimes(name, t, t) }
func (d rootDisk) syncDir(name string) error                    { return syncDir(d.root.Open(name)) }
func (d rootDisk) close() error                                 { return d.root.Close() }

func (d rootDisk) list(name string, each func(fs.DirEntry)) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1024) // never all at once: sealed files may be many
		for _, e := range entries {
			each(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// syncDir makes the names in a folder survive a power cut. It takes what opening the folder returned, and closes it.
func syncDir(f *os.File, err error) error {
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" { // which has no such call
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
