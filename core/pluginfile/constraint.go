package pluginfile

import (
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
)

// Constraint is what a plugin's version must satisfy: all of its terms. The zero value allows any version.
type Constraint struct {
	text  string
	terms []term
}

type term struct{ op, version string }

// ParseConstraint reads "~> 1.2", ">= 1.2, < 2", "1.4.0".
func ParseConstraint(s string) (Constraint, error) {
	c := Constraint{text: strings.TrimSpace(s)}
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
			return Constraint{}, fmt.Errorf("%q is no version", part)
		}
		c.terms = append(c.terms, term{op, v})
	}
	return c, nil
}

// String is the constraint as it was written.
func (c Constraint) String() string { return c.text }

// Any reports whether every version will do.
func (c Constraint) Any() bool { return c.terms == nil }

// Allows reports whether a plugin's version satisfies the constraint. A pre-release such as 1.3.0-rc.1 satisfies only a
// constraint that names a pre-release of the same 1.3.0: nobody gets one by asking for "~> 1.2".
func (c Constraint) Allows(version string) bool {
	if c.Any() {
		return true
	}
	v := "v" + strings.TrimPrefix(version, "v")
	if !semver.IsValid(v) {
		return false
	}
	named := semver.Prerelease(v) == ""
	for _, t := range c.terms {
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
			if ok && strings.Count(strings.SplitN(t.version, "-", 2)[0], ".") > 1 {
				ok = semver.MajorMinor(v) == semver.MajorMinor(t.version)
			}
		}
		if !ok {
			return false
		}
		named = named || semver.Prerelease(t.version) != "" && numbers(t.version) == numbers(v)
	}
	return named
}

// numbers is a version without what marks a pre-release or a build.
func numbers(v string) string {
	v = semver.Canonical(v)
	return strings.TrimSuffix(v, semver.Prerelease(v))
}
