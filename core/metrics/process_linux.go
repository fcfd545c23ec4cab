package metrics

import "github.com/prometheus/procfs"

// usageOf asks the kernel. A process that has ended is not known.
func usageOf(pid int) usage {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return usage{}
	}
	stat, err := p.Stat()
	if err != nil {
		return usage{}
	}
	files, err := p.FileDescriptorsLen()
	if err != nil {
		return usage{}
	}
	return usage{known: true, cpuSeconds: stat.CPUTime(), openFiles: files}
}
