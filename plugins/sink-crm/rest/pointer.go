package rest

import (
	"errors"
	"strings"

	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// pointer is a JSON pointer (RFC 6901), taken apart.
type pointer []string

// parsePointer reads a pointer: empty for the whole value, or texts that each have a slash before them.
func parsePointer(s string) (pointer, error) {
	if s == "" {
		return pointer{}, nil
	}
	if s[0] != '/' {
		return nil, errors.New(`a JSON pointer starts with "/"`)
	}
	steps := strings.Split(s[1:], "/")
	for i, step := range steps {
		for rest := step; ; {
			_, after, found := strings.Cut(rest, "~")
			if !found {
				break
			}
			if after == "" || after[0] != '0' && after[0] != '1' {
				return nil, errors.New(`in a JSON pointer "~" is written "~0", and "/" in a name "~1"`)
			}
			rest = after[1:]
		}
		steps[i] = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
	}
	return steps, nil
}

// in returns what the pointer leads to, or nil.
func (p pointer) in(v rawjson.Value) rawjson.Value { return v.Follow(p...) }
