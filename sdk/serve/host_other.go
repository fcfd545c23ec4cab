//go:build !unix

package serve

import (
	"os"
	"os/signal"
)

// ignoreSignals keeps an interrupt of the console from stopping a plugin before its host has drained it.
func ignoreSignals() { signal.Notify(make(chan os.Signal, 1), os.Interrupt) }

// hostGone returns a channel that is never closed: here a process does not learn of its parent's end.
func hostGone() <-chan struct{} { return nil }
