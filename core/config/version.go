package config

import (
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
)

// constraint is what a plugin's version must satisfy: all of its terms.
type constraint []term

type term struct{ op, version string }

// parseConstraint reads "~> 1.2", ">= 1.2, < 2", "1.4.0".
func parseConstraint(s string) (constraint, error) {
	var c constraint
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		op := "="
		for _, o := range []string{"~>", ">=", "<=", "!=", "=", ">", "<"} {
			if rest, ok := strings.CutPrefix(part, o); ok {
				op, part = o, strings.TrimSpace(rest)
				break
			}
		}
		v := "v" + strings.TrimPrefix(part, "v")
		if !semver.IsValid(v) {
			return nil, fmt.Errorf("%q is no version", part)
		}
		c = append(c, term{op, v})
	}
	return c, nil
}

// allows reports whether a plugin's version satisfies the constraint.
func (c constraint) allows(version string) bool {
	v := "v" + strings.TrimPrefix(version, "v")
	if !semver.IsValid(v) {
		return false
	}
	for _, t := range c {
		n := semver.Compare(v, t.version)
		ok := false
		switch t.op {
		case "=":
			ok = n == 0
		case "!=":
			ok = n != 0
		case ">":
			ok = n > 0
		case ">=":
			ok = n >= 0
		case "<":
			ok = n < 0
		case "<=":
			ok = n <= 0
		case "~>": // 1.2 and 1.9, not 2; 1.2.3 and 1.2.9, not 1.3
			ok = n >= 0 && semver.Major(v) == semver.Major(t.version)
			if ok && strings.Count(t.version, ".") > 1 {
				ok = semver.MajorMinor(v) == semver.MajorMinor(t.version)
			}
		}
		if !ok {
			return false
		}
	}
	return true
}
