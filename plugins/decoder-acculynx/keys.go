package main

import (
	"bytes"
	"encoding/json"
)

// camelKeys spells the keys of a JSON value in lower camel case, at every depth: JobId and jobId are the same to
// routes. All else stays byte for byte, and where no key has to change the result is the argument itself.
func camelKeys(data []byte) []byte {
	var out []byte // nil: nothing changed so far
	done := 0      // data[:done] is in out
	for i := 0; i < len(data); {
		start := bytes.IndexByte(data[i:], '"')
		if start < 0 {
			break
		}
		start += i
		end := stringEnd(data, start)
		i = end
		if !isKey(data[end:]) {
			continue
		}
		if key := data[start:end]; !isCamel(key) {
			if out == nil {
				out = make([]byte, 0, len(data))
			}
			out = appendCamel(append(out, data[done:start]...), key)
			done = end
		}
	}
	if out == nil {
		return data
	}
	return append(out, data[done:]...)
}

// isKey reports whether the string before rest is a member's name: in JSON, only those have a colon behind them.
func isKey(rest []byte) bool {
	for _, c := range rest {
		switch c {
		case ' ', '\n', '\r', '\t':
		default:
			return c == ':'
		}
	}
	return false
}

// stringEnd returns the index after the string that starts at i.
func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// isCamel reports whether a key's token begins in lower case, or with what has no case.
func isCamel(token []byte) bool {
	if bytes.IndexByte(token, '\\') < 0 {
		return len(token) < 2 || !startsUpper(token[1:len(token)-1])
	}
	var key string
	return json.Unmarshal(token, &key) != nil || !startsUpper([]byte(key))
}

// appendCamel appends a key's token in lower camel case.
func appendCamel(b, token []byte) []byte {
	start := len(b)
	if bytes.IndexByte(token, '\\') >= 0 {
		var key string
		if json.Unmarshal(token, &key) == nil {
			name := []byte(key)
			lowerFirst(name)
			if t, err := json.Marshal(string(name)); err == nil {
				return append(b, t...)
			}
		}
		return append(b, token...)
	}
	b = append(b, token...)
	lowerFirst(b[start+1 : len(b)-1])
	return b
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// startsUpper reports whether the first letter of a name is a capital, after the underscores of names like _link.
func startsUpper(name []byte) bool {
	name = bytes.TrimLeft(name, "_")
	return len(name) > 0 && isUpper(name[0])
}

// lowerFirst puts a name's first word in lower case, in place: JobId, URL, IDNumber to jobId, url, idNumber.
func lowerFirst(name []byte) {
	name = name[len(name)-len(bytes.TrimLeft(name, "_")):]
	for i := 0; i < len(name) && isUpper(name[i]); i++ {
		if i > 0 && i+1 < len(name) && name[i+1] >= 'a' && name[i+1] <= 'z' {
			return // the capital that begins the next word
		}
		name[i] += 'a' - 'A'
	}
}
