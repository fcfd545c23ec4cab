package rest

import (
	"errors"
	"strconv"
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
func (p pointer) in(v rawjson.Value) rawjson.Value {
	for _, step := range p {
		switch v.Kind() {
		case rawjson.Object:
			v = v.Get(step)
		case rawjson.Array:
			v = element(v, step)
		default:
			return nil
		}
	}
	return v
}

// element returns an array's element by its index as RFC 6901 writes it, or nil.
func element(list rawjson.Value, index string) rawjson.Value {
	n, err := strconv.Atoi(index)
	if err != nil || n < 0 || strconv.Itoa(n) != index {
		return nil
	}
	for w := rawjson.Elements(list); w.Next(); {
		if w.Index == n {
			return w.Value
		}
	}
	return nil
}
