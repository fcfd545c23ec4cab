package main

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Files of the sink's own in the top folder.
const (
	lockName   = ".lock"   // held locked by a process while it writes below the folder
	ledgerName = ".active" // the files that rotation has to seal one day
)

const (
	maxSegment = 200 // bytes; file systems stop at 255
	maxPath    = 1000
)

// checkPath accepts a path below the folder. What it lets pass is confined by os.Root as well; here the route's
// author gets a reason, and odd names from events never reach the disk.
func checkPath(path string) error {
	if path == defaultPath {
		return nil
	}
	switch {
	case path == "":
		return errors.New("path is empty")
	case !utf8.ValidString(path):
		return errors.New("path is not valid UTF-8")
	case len(path) > maxPath:
		return errors.New("path is longer than 1000 bytes")
	case path[0] == '/':
		return errors.New("path is absolute; it starts below the sink's dir")
	}
	for rest, more := path, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch {
		case segment == "":
			return errors.New("path has an empty part")
		case segment == "." || segment == "..":
			return errors.New("path has a part . or ..")
		case len(segment) > maxSegment:
			return errors.New("path has a part of more than 200 bytes")
		}
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c < ' ' || c == 0x7f:
			return errors.New("path has a control character")
		case c == '\\' || c == ':':
			return errors.New(`path has a \ or a :, which some systems take for a separator`)
		}
	}
	top, _, _ := strings.Cut(path, "/")
	for _, own := range []string{lockName, ledgerName, ledgerName + tempEnd} {
		if strings.EqualFold(top, own) {
			return errors.New("path is a file of the sink's own")
		}
	}
	_, sealed := parseSealed(path)
	if _, temp := parseTemp(path); sealed || temp {
		return errors.New("path is the name of a sealed file, to which nothing is added")
	}
	return nil
}

// pathError is a path that is well-formed and yet no place for a file here.
type pathError struct{ reason string }

func (e *pathError) Error() string { return e.reason }
