package main

import "testing"

func TestTimeIsUp(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		want bool
	}{
		"end of the time": {"--- FAIL: FuzzMembers (1.08s)\n    context deadline exceeded\nFAIL\n", true},
		"finding": {"--- FAIL: FuzzMembers (0.11s)\n    --- FAIL: FuzzMembers (0.00s)\n        x_test.go:9: no\n" +
			"    Failing input written to testdata/fuzz/FuzzMembers/1\n", false},
		"finding of a deadline": {"--- FAIL: FuzzMembers (0.11s)\n    context deadline exceeded\n" +
			"    Failing input written to testdata/fuzz/FuzzMembers/1\n", false},
		"the target's own words": {"--- FAIL: FuzzMembers (0.11s)\n    x_test.go:9: context deadline exceeded\n", false},
		"does not build":         {"# pkg\nx.go:1:1: expected 'package'\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := timeIsUp(c.out); got != c.want {
				t.Errorf("%v for %q", got, c.out)
			}
		})
	}
}
