//go:build !linux

package pluginhost

import "time"

func preferAsVictim(int) {}

// residentBytes is not known without running another program; memory limits have no effect here.
func residentBytes(int) int64 { return 0 }

// cpuTime is not known either.
func cpuTime(int) time.Duration { return 0 }
