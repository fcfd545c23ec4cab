//go:build !unix

package sqlite

import "math"

// freeBytes knows nothing here: the store still reports a full disk.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }

func sameDisk(string, string) bool { return false }
