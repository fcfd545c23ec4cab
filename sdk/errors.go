package sdk

import "strings"

// AttributeError is a problem with one attribute of a configuration. The host points at its file, line and column.
// Several are joined with errors.Join.
type AttributeError struct {
	Path    []string // attribute names, map keys and decimal list indexes, outermost first; empty: the whole block
	Summary string   // one line
	Detail  string   // what to do about it, may be empty
}

// Error implements error.
func (e *AttributeError) Error() string {
	if len(e.Path) == 0 {
		return e.Summary
	}
	return strings.Join(e.Path, ".") + ": " + e.Summary
}
