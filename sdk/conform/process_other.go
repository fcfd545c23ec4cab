//go:build !unix

package conform

import (
	"os"
	"os/exec"
)

// ownGroup does nothing: here a process is killed alone.
func ownGroup(*exec.Cmd) {}

func killGroup(p *os.Process) { _ = p.Kill() }

func textBusy(error) bool { return false }

// stopSignals are none: a process cannot be sent any.
func stopSignals() []os.Signal { return nil }

// canOrphan says whether the end of a host can be played here.
const canOrphan = false
