package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads a duration as configurations write it: "1h30m", "3d", "1d12h", "500ms". It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, errors.New("it is empty")
	}
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
		return 0, errors.New("it has no sign")
	}
	var days time.Duration
	rest := s
	if head, tail, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseFloat(head, 64)
		if err != nil || strings.Trim(head, "0123456789.") != "" || n*float64(day) >= math.MaxInt64 {
			return 0, errors.New("the number of days cannot be read")
		}
		if days, rest = time.Duration(n*float64(day)), tail; rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 {
		if strings.Trim(rest, "0123456789.") == "" {
			return 0, errors.New("the unit is missing: ns, us, ms, s, m, h or d")
		}
		return 0, errors.New("the units are ns, us, ms, s, m, h and d")
	}
	if days+d < days {
		return 0, errors.New("it is too long")
	}
	return days + d, nil
}

// parseRate reads a number of things per second, minute or hour, such as "50/s", and returns it per second.
func parseRate(s string) (float64, error) {
	number, unit, ok := strings.Cut(s, "/")
	per, known := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.ParseFloat(number, 64)
	if !ok || !known || err != nil || !(n > 0) || math.IsInf(n, 0) {
		return 0, errors.New("it is a number above 0, a slash and s, m or h")
	}
	return n / per.Seconds(), nil
}

// FormatDuration writes a duration as configurations do.
func FormatDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

// ParseSize reads a number of bytes as configurations write it: "1MiB", "1.5GB", "4096".
func ParseSize(s string) (int64, error) {
	number, unit := s, int64(1)
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
	if n*float64(unit) >= math.MaxInt64 {
		return 0, errors.New("it is too large")
	}
	return int64(n * float64(unit)), nil
}

// formatSize writes a number of bytes as configurations do.
func formatSize(n int64) string {
	for i := 3; i >= 0; i-- {
		if u := sizeUnits[i]; n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}
