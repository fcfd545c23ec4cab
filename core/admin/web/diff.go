package web

import "strings"

// diffLine is a line of a text, or of what became of it.
type diffLine struct {
	Sign string // "−" gone, "+" new, "" the same
	Text string
}

const (
	mostDiffLines = 400 // longer texts are shown as gone and new as a whole
	diffContext   = 3   // lines of the same around what differs
)

// diff tells how one text became another, line by line.
func diff(was, now string) []diffLine {
	a, b := strings.Split(was, "\n"), strings.Split(now, "\n")
	if len(a) > mostDiffLines || len(b) > mostDiffLines {
		return append(signed("−", a[:min(len(a), mostDiffLines)]), signed("+", b[:min(len(b), mostDiffLines)])...)
	}
	// same[i][j] is how many lines a[i:] and b[j:] have in common, in order.
	same := make([][]int, len(a)+1)
	for i := range same {
		same[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				same[i][j] = same[i+1][j+1] + 1
			} else {
				same[i][j] = max(same[i+1][j], same[i][j+1])
			}
		}
	}
	var all []diffLine
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			all = append(all, diffLine{"", a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && same[i+1][j] >= same[i][j+1]:
			all = append(all, diffLine{"−", a[i]})
			i++
		default:
			all = append(all, diffLine{"+", b[j]})
			j++
		}
	}
	return around(all)
}

func signed(sign string, lines []string) []diffLine {
	var all []diffLine
	for _, l := range lines {
		all = append(all, diffLine{sign, l})
	}
	return all
}

// around leaves out what is far from any change.
func around(all []diffLine) []diffLine {
	near := make([]bool, len(all))
	for i, l := range all {
		if l.Sign != "" {
			for k := max(0, i-diffContext); k <= min(len(all)-1, i+diffContext); k++ {
				near[k] = true
			}
		}
	}
	var kept []diffLine
	for i, l := range all {
		switch {
		case near[i]:
			kept = append(kept, l)
		case i == 0 || near[i-1]:
			kept = append(kept, diffLine{"", "…"})
		}
	}
	return kept
}
