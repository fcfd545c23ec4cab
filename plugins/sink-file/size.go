package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

// parseSize reads a number of bytes as the host's own settings write it: "1MiB", "1.5GB", "4096".
func parseSize(s string) (int64, error) {
	number, unit := s, 1.0
	for _, u := range sizeUnits {
		if head, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimSuffix(head, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, errors.New("the units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB")
	}
	if n*unit >= math.MaxInt64 {
		return 0, errors.New("it is too large")
	}
	return int64(n * unit), nil
}
