//go:build !linux

package pluginhost

func preferAsVictim(int) {}

// residentBytes is not known without running another program; memory limits have no effect here.
func residentBytes(int) int64 { return 0 }
