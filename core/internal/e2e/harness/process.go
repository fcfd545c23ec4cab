//go:build unix

package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Process is a running process.
type Process struct {
	PID, Parent int
	Command     string // path of its program, as it was started
}

func (p Process) String() string {
	return fmt.Sprintf("%s (pid %d, parent %d)", p.Command, p.PID, p.Parent)
}

// Plugin is the plugin that the process runs, such as "sink-file"; empty: none.
func (p Process) Plugin() string {
	name, ok := strings.CutPrefix(filepath.Base(p.Command), "grapnel-")
	if !ok {
		return ""
	}
	name, _, _ = strings.Cut(name, ".")
	return name
}

// Kill kills it with SIGKILL. It may be gone already.
func (p Process) Kill() { _ = syscall.Kill(p.PID, syscall.SIGKILL) }

// processesBelow lists the processes whose program is below a folder, zombies left out.
func processesBelow(dir string) []Process {
	all, err := procFS()
	if err != nil {
		all = ps()
	}
	return slices.DeleteFunc(all, func(p Process) bool { return !strings.HasPrefix(p.Command, dir+"/") })
}

func procFS() ([]Process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return nil, os.ErrNotExist
	}
	var all []Process
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // gone
		}
		command, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err != nil {
			continue
		}
		// "pid (name) state parent …", and the name may hold anything.
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		p := Process{}
		p.PID, _ = strconv.Atoi(filepath.Base(filepath.Dir(path)))
		p.Parent, _ = strconv.Atoi(fields[1])
		p.Command, _, _ = strings.Cut(string(command), "\x00")
		if fields[0] != "Z" {
			all = append(all, p)
		}
	}
	return all, nil
}

func ps() []Process {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=,command=").Output()
	if err != nil {
		panic(fmt.Sprintf("harness: cannot list processes: %v", err))
	}
	var all []Process
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 2 {
			p := Process{Command: fields[2]}
			p.PID, _ = strconv.Atoi(fields[0])
			p.Parent, _ = strconv.Atoi(fields[1])
			all = append(all, p)
		}
	}
	return all
}
