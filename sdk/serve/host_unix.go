//go:build unix

package serve

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/grapnelhq/grapnel/sdk/wire"
)

// ignoreSignals keeps signals that were sent to the whole process group from stopping a plugin before its host has
// drained it: the host stops it when it is time. SIGQUIT still dumps the goroutines. SIGPIPE is among them so that a
// log line to a dead host does not kill the process before its socket is removed. They are caught, not ignored, because
// a program that a plugin starts inherits the latter.
func ignoreSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
}

// pollHost is how often a plugin looks whether its host is still there.
const pollHost = 250 * time.Millisecond

// hostGone returns a channel that is closed when the host has died: the process has another parent, or the process with
// the id in GRAPNEL_HOST_PID is no more. The latter sees also a host that died before this process could look at its
// parent.
func hostGone() <-chan struct{} {
	parent := os.Getppid()
	host, _ := strconv.Atoi(os.Getenv(wire.EnvHostPID)) // 0: not given
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for os.Getppid() == parent && !(host > 0 && errors.Is(syscall.Kill(host, 0), syscall.ESRCH)) {
			time.Sleep(pollHost)
		}
	}()
	return gone
}
