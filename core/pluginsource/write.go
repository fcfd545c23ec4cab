package pluginsource

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/pluginfile"
)

const stagePrefix = ".install-"

// NewStage makes a folder for Stage within the folder that programs are to be moved to, so that moving one there is atomic.
// The caller removes it. What an installation left that was killed is removed here.
func NewStage(plugins string) (string, error) {
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(plugins, stagePrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > 24*time.Hour {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
		}
	}
	return os.MkdirTemp(plugins, stagePrefix)
}

// Target is where a program is installed in a plugins' folder: in it for this platform, else in the platform's own.
func Target(plugins string, f pluginfile.File) string {
	if f.Platform == pluginfile.Current() {
		return filepath.Join(plugins, f.FileName())
	}
	return filepath.Join(plugins, f.Platform, f.FileName())
}

// ErrExists says that another program is where one was to be installed.
var ErrExists = errors.New("another program of that name is there")

// Install moves a staged program to its Target, whole and on disk, or not at all. If the same program is there, nothing is
// done and fresh is false; if another one is, it is replaced only if that is asked for, else the error wraps ErrExists.
func Install(plugins string, p Program, replace bool) (path string, fresh bool, err error) {
	path = Target(plugins, p.File)
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() && !replace {
		return path, false, fmt.Errorf("%s: %w", path, ErrExists)
	}
	there, err := pluginfile.Hash(path)
	switch {
	case err == nil && there == p.SHA256:
		return path, false, nil
	case err == nil && !replace:
		return path, false, fmt.Errorf("%s: %w: its sha256 is %s, the new one's is %s", path, ErrExists, there, p.SHA256)
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !replace:
		return path, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return path, false, err
	}
	// What is moved is what was hashed when it was staged, and on disk.
	if now, err := pluginfile.Hash(p.Path); err != nil || now != p.SHA256 {
		return path, false, errors.Join(fmt.Errorf("%s was changed while it was being installed", p.Path), err)
	}
	if err := syncFile(p.Path); err != nil {
		return path, false, err
	}
	if err := os.Rename(p.Path, path); err != nil {
		return path, false, err
	}
	return path, true, syncFolder(filepath.Dir(path))
}

// WriteFile writes a file whole and on disk, or not at all. A symbolic link stays one.
func WriteFile(path string, content []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, bytes.NewReader(content))
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncFolder(dir)
}

// writeNew writes a file that is not there yet.
func writeNew(path string, mode fs.FileMode, in io.Reader) (n int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, in)
	return n, errors.Join(err, f.Close())
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // which cannot
	}
	return syncFile(dir)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// oneLine makes foreign text fit to be quoted in an error.
func oneLine(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Join(strings.Fields(s), " ")
}
