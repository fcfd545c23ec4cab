//go:build unix

package pluginhost

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup gives a process a group of its own: a signal to the host's group does not reach it, and all that it starts
// can be killed with it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a process and all of its group.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// lockFile takes an exclusive lock that ends with the file or the process, or fails at once.
func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
