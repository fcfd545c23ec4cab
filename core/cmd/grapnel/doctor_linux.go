package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fileSystem tells the type of a folder's file system, and whether programs may not run there.
func fileSystem(dir string) (magic int64, noexec bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(s.Type) & 0xffffffff, int64(s.Flags)&unix.ST_NOEXEC != 0 //nolint:unconvert // the types differ between platforms
}

// fileLimit is how many files a process may open, 0 for a host that would be started from here: it raises its limit to the
// hard one. 0: not known.
func fileLimit(pid int) uint64 {
	if pid == 0 {
		var r unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
			return 0
		}
		return r.Max
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok && len(strings.Fields(rest)) > 0 {
			n, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64) // "unlimited": not known
			return n
		}
	}
	return 0
}

// listener finds the process that listens at a TCP address; 0: it is not to be seen.
func listener(address string) (pid int, name string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, ""
	}
	want := strings.ToUpper(hex.EncodeToString([]byte{byte(n >> 8), byte(n)}))
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// sl local_address rem_address st … uid timeout inode; state 0A listens
			w := strings.Fields(lines.Text())
			if len(w) > 9 && strings.HasSuffix(w[1], ":"+want) && w[3] == "0A" {
				sockets["socket:["+w[9]+"]"] = true
			}
		}
		_ = f.Close()
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil && sockets[to] {
			process := filepath.Dir(filepath.Dir(file))
			comm, _ := os.ReadFile(process + "/comm") // it may have ended
			pid, _ = strconv.Atoi(filepath.Base(process))
			return pid, strings.TrimSpace(string(comm))
		}
	}
	return 0, ""
}

// lockHolder is the process that has a data folder; 0: none has, or it is not to be seen.
func lockHolder(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "grapnel.lock"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	f, err := os.Open(filepath.Join(dir, "grapnel.lock"))
	if err != nil {
		return 0
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0 // nobody has it, and closing it gives it back
	}
	return pid
}
