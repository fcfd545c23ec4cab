//go:build unix

package main

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerOf is the user id of a file's owner.
func ownerOf(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// writable reports whether this user may write to a file or folder.
func writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }
