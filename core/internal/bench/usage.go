package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// used is what a process has used.
type used struct {
	cpu time.Duration
	rss int64
}

// usage reads the processor time and memory of a process and its children from /proc, by program name.
func usage(pid int) (map[string]used, error) {
	all := map[string]used{}
	if err := addUsage(all, pid); err != nil {
		return nil, err
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		fields := statFields(b)
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				return nil, err
			}
			if err := addUsage(all, child); err != nil && !os.IsNotExist(err) {
				return nil, err
			}
		}
	}
	return all, nil
}

// statFields are the fields of /proc/pid/stat after the program's name: state, parent, …
func statFields(stat []byte) []string {
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

func addUsage(all map[string]used, pid int) error {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	dir := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return err
	}
	fields := statFields(stat)
	if len(fields) < 22 {
		return fmt.Errorf("%s/stat is too short", dir)
	}
	var numbers [3]int64
	for i, at := range []int{11, 12, 21} { // utime, stime, rss
		if numbers[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return err
		}
	}
	exe, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(string(exe), "\x00")
	name = strings.TrimPrefix(filepath.Base(name), "grapnel-")
	u := all[name]
	u.cpu += time.Duration(numbers[0]+numbers[1]) * tick
	u.rss += numbers[2] * int64(os.Getpagesize())
	all[name] = u
	return nil
}
