//go:build !race

package auth

import "testing"

// The race detector makes sync.Pool forget on purpose, so this holds without it only.
func TestVerifyAllocatesNothing(t *testing.T) {
	scheme, in, now := vectors(t)[0].load(t)
	v := mustNew(t, scheme, "other", vectors(t)[0].Secret)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.Verify(in, now); err != nil {
			t.Fatal(err)
		}
	}); n > 0.5 {
		t.Errorf("%v allocations", n)
	}
}
