package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// disk is what a folder needs of the file system. Names are below the folder, with slashes.
type disk interface {
	open(name string, flag int, mode fs.FileMode) (file, error)
	mkdirAll(name string, mode fs.FileMode) error
	stat(name string) (fs.FileInfo, error)
	syncDir(name string) error
	close() error
}

// file is what a folder needs of a file; *os.File is one.
type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
}

// rootDisk is a real folder, which no name and no link leads out of.
type rootDisk struct{ root *os.Root }

func (d rootDisk) open(name string, flag int, mode fs.FileMode) (file, error) {
	f, err := d.root.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err // not f: a nil *os.File is not a nil file
	}
	return f, nil
}

func (d rootDisk) mkdirAll(name string, mode fs.FileMode) error { return d.root.MkdirAll(name, mode) }
func (d rootDisk) stat(name string) (fs.FileInfo, error)        { return d.root.Stat(name) }
func (d rootDisk) syncDir(name string) error                    { return syncDir(d.root.Open(name)) }
func (d rootDisk) close() error                                 { return d.root.Close() }

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
