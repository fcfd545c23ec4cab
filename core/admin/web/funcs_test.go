package web

import "testing"

func TestPosition(t *testing.T) {
	for in, want := range map[string]string{
		"config.hcl:177,5-180,6": "config.hcl:177:5",
		"a:b/config.hcl:3,1-9":   "a:b/config.hcl:3:1",
		"config.hcl:3,1":         "config.hcl:3:1",
		"config.hcl:3":           "config.hcl:3",
		"config.hcl":             "config.hcl",
		"":                       "",
	} {
		if got := position(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
