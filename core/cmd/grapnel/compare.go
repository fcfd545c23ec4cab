package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// sameJSON reports whether two JSON texts say the same: the order of members does not matter, numbers are compared by
// their value and texts in normal form, as HCL writes them.
func sameJSON(a, b []byte) bool {
	x, errX := decodeJSON(a)
	y, errY := decodeJSON(b)
	return errX == nil && errY == nil && same(x, y)
}

func decodeJSON(b []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

func same(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || sameNumber(string(a), string(b)))
	case string:
		b, ok := b.(string)
		return ok && (a == b || norm.NFC.String(a) == norm.NFC.String(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, x := range a {
			y, ok := b[name]
			if !ok || !same(x, y) {
				return false
			}
		}
		return true
	}
	return a == b // true, false, null
}

// sameNumber compares numbers with as many digits as HCL has.
func sameNumber(a, b string) bool {
	x, _, errX := big.ParseFloat(a, 10, 512, big.ToNearestEven)
	y, _, errY := big.ParseFloat(b, 10, 512, big.ToNearestEven)
	return errX == nil && errY == nil && x.Cmp(y) == 0
}

// jsonLines writes JSON over several lines, members by name, so that two texts can be compared line by line.
func jsonLines(b []byte) []string {
	v, err := decodeJSON(b)
	if err != nil {
		return strings.Split(string(b), "\n")
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return strings.Split(string(b), "\n")
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// maxDiff is how many lines are compared; of longer texts the rest is taken as it is.
const maxDiff = 1000

// diffLines writes what is to be done to make b of a: lines with "-", "+" or " " before them.
func diffLines(a, b []string) []string {
	a, b = a[:min(len(a), maxDiff)], b[:min(len(b), maxDiff)]
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int16, len(a)+1)
	for i := range common {
		common[i] = make([]int16, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}
