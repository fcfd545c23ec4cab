package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/pluginfile"
)

const (
	runDirPrefix = "grapnel-run-"
	lockName     = "lock"
	// maxSocketDir is how long a run folder's path may be, so that a socket in it stays within the 104 bytes that
	// macOS has for one: "/p1234567890/plugin-dir1234567890/plugin1234567890" follows.
	maxSocketDir = 104 - 1 - 50
)

// runDir is a host's private folder: sockets, temporary files of plugins, and the copies of the binaries that it
// runs. A lock on a file in it tells a folder in use from one that a killed host has left.
type runDir struct {
	path string
	lock *os.File
}

// newRunDir makes a fresh folder below base and removes those of hosts that are gone.
func newRunDir(base string) (*runDir, error) {
	if base == "" {
		base = os.TempDir()
	}
	// A path in the address of a socket must be absolute: plugins have a working directory of their own.
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	if runtime.GOOS != "windows" && len(base)+1+len(runDirPrefix)+10 > maxSocketDir {
		base = "/tmp"
	}
	sweepRunDirs(base)
	for try := 0; ; try++ {
		path, err := os.MkdirTemp(base, runDirPrefix)
		if err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = lockFile(lock)
		}
		if err == nil {
			// Another host that starts may have swept it between the two.
			if _, err = os.Stat(lock.Name()); err == nil {
				return &runDir{path: path, lock: lock}, nil
			}
		}
		err = errors.Join(fmt.Errorf("run folder: %w", err), os.RemoveAll(path))
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
		if try == 3 {
			return nil, err
		}
	}
}

// sweepRunDirs removes folders whose host is gone. It is best effort: a folder of another user stays.
func sweepRunDirs(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), runDirPrefix) {
			continue
		}
		path := filepath.Join(base, e.Name())
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
		if err != nil {
			// Just being made by another host, or half made by one that was killed.
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
				_ = os.Remove(path)
			}
			continue
		}
		if lockFile(lock) == nil {
			_ = removeRunDir(path)
		}
		_ = lock.Close()
	}
}

// copyPath is where a binary's copy is.
func (d *runDir) copyPath(path, sha string) string {
	return filepath.Join(d.path, filepath.Base(path)+"."+sha[:16])
}

// install copies a binary into the folder, once per content, and returns the copy's path. What runs is so what was
// hashed, and a file that is replaced under a running host changes nothing before the next start. A copy that is there
// is hashed again: a later start runs the same bytes, or none.
func (d *runDir) install(path, sha string) (string, error) {
	dst := d.copyPath(path, sha)
	if got, err := pluginfile.Hash(dst); err == nil && got == sha {
		return dst, nil
	}
	src, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = src.Close() }()
	tmp, err := os.CreateTemp(d.path, "copy-")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(tmp, hash), src)
	if err == nil {
		err = tmp.Chmod(0o500)
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return "", errors.Join(err, os.Remove(tmp.Name()))
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sha {
		return "", errors.Join(fmt.Errorf("%s was changed on disk since it was described (sha256 %s, now %s): "+
			"restart the host, or put the program back", path, sha, got), os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), dst); err != nil {
		return "", err
	}
	return dst, nil
}

func (d *runDir) close() error {
	return errors.Join(removeRunDir(d.path), d.lock.Close())
}

// removeRunDir removes the lock last: what a host that is killed in between leaves is still known as nobody's.
func removeRunDir(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockName {
			if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(path)
}
