//go:build unix

package sqlite

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// freeBytes is what an unprivileged user can still write to the file system of a folder.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // the types differ between platforms
}

// sameDisk reports whether two folders are of one file system.
func sameDisk(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX != nil || errY != nil {
		return true
	}
	of, ok := x.Sys().(*syscall.Stat_t)
	with, ok2 := y.Sys().(*syscall.Stat_t)
	return !ok || !ok2 || of.Dev == with.Dev
}
