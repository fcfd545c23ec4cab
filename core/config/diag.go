package config

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// Severity says whether a diagnostic keeps the host from starting.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Range is a place in a configuration file.
type Range struct {
	File   string // as Load was told, or below the folder it was told
	Line   int    // from 1
	Column int    // from 1, in characters

	start, end int // bytes
}

// String returns "file:line,column", as hcl and deliveries write places, or the file alone where the place is a whole
// file.
func (r Range) String() string { return r.format(",") }

// place returns "file:line:column", which terminals and editors can follow.
func (r Range) place() string { return r.format(":") }

func (r Range) format(separator string) string {
	if r.Line == 0 {
		return r.File
	}
	return r.File + ":" + strconv.Itoa(r.Line) + separator + strconv.Itoa(r.Column)
}

func rangeOf(r hcl.Range) Range {
	return Range{File: r.Filename, Line: r.Start.Line, Column: r.Start.Column, start: r.Start.Byte, end: r.End.Byte}
}

// Diagnostic is one mistake, or something that deserves attention. It holds no secret.
type Diagnostic struct {
	Severity Severity
	Summary  string // what is wrong, one line, no full stop
	Detail   string // what to do about it; may be empty
	Range    Range

	veiled      bool // the snippet ends with the subject: a secret may follow
	veilSubject bool // the subject itself may be a secret
	syntax      bool // the parser says it
}

// Diagnostics is what Load has to say about a configuration. It may be read from any number of goroutines.
type Diagnostics struct {
	list  []Diagnostic
	files map[string][]byte
	masks []string // texts that never show
	// blocks are those of sources and sinks, by kind and name, for Refuse.
	blocks map[blockName]*hclsyntax.Block

	path     string             // as Load was told
	top      []*hclsyntax.Block // all blocks of the top level
	reads    Stamps             // of what file() read, or tried to
	secretAt []hcl.Range        // expressions that make secrets
}

type blockName struct {
	kind core.PluginKind
	name string
}

// Refuse adds what a plugin said of a source or sink of the configuration when it was opened or reached its far end:
// errors of attributes come with their places.
func (d *Diagnostics) Refuse(kind core.PluginKind, name string, err error) {
	what, b := blockType(kind)+" "+strconv.Quote(name), d.blocks[blockName{kind, name}]
	for _, e := range sdk.AttributeErrors(err) {
		x := Diagnostic{Severity: Error, Summary: refusal(what, e), Detail: sentence(e.Detail), veiled: true}
		if b != nil {
			x.Range = rangeOf(rangeInBody(b.Body, blockHeader(b), e.Path))
		}
		d.list = append(d.list, x)
	}
	d.finish()
}

func blockType(kind core.PluginKind) string {
	if kind == core.PluginDecoder {
		return "source"
	}
	return string(kind)
}

// refusal is the summary of what a plugin says against a block.
func refusal(what string, e *sdk.AttributeError) string {
	summary := cmp.Or(e.Summary, "The value is refused")
	if len(e.Path) > 0 {
		what = fmt.Sprintf("%q of %s", strings.Join(e.Path, "."), what)
	}
	return strings.TrimSuffix(what+": "+summary, ".")
}

// All returns the diagnostics by file and line.
func (d *Diagnostics) All() []Diagnostic { return d.list }

// HasErrors reports whether the configuration cannot be used.
func (d *Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(d.list, func(x Diagnostic) bool { return x.Severity == Error })
}

// Err is nil without errors; else its text is the first error and how many more there are.
func (d *Diagnostics) Err() error {
	var first string
	n := 0
	for _, x := range d.list {
		if x.Severity != Error {
			continue
		}
		if n++; n == 1 {
			first = x.Range.place() + ": " + x.Summary
			if x.Detail != "" {
				first += ": " + x.Detail
			}
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return errors.New(first)
	}
	return fmt.Errorf("%s (and %d more)", first, n-1)
}

// finish sorts the diagnostics, drops repetitions and takes every secret out of them.
func (d *Diagnostics) finish() {
	slices.SortStableFunc(d.list, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Range.File, b.Range.File), cmp.Compare(a.Range.start, b.Range.start))
	})
	d.list = slices.CompactFunc(d.list, func(a, b Diagnostic) bool { return a == b })
	for i := range d.list {
		d.list[i].Summary = d.redact(d.list[i].Summary)
		d.list[i].Detail = d.redact(d.list[i].Detail)
	}
}

// minMask is the shortest text that is masked: shorter ones stand in every other word.
const minMask = 4

// mask makes a text disappear from everything that is printed, in the spellings in which messages may quote it.
func (d *Diagnostics) mask(text string) {
	quoted := strconv.Quote(text)
	inJSON, _ := json.Marshal(text) // a string cannot fail
	candidates := []string{
		text, quoted[1 : len(quoted)-1], string(inJSON[1 : len(inJSON)-1]), strings.TrimSpace(text),
		url.QueryEscape(text), url.PathEscape(text),
		base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
	}
	candidates = append(candidates, strings.Split(text, "\n")...) // a snippet shows lines
	for _, s := range candidates {
		if len(s) >= minMask && !slices.Contains(d.masks, s) {
			d.masks = append(d.masks, s)
		}
	}
	slices.SortFunc(d.masks, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
}

func (d *Diagnostics) redact(text string) string {
	for _, m := range d.masks {
		text = strings.ReplaceAll(text, m, "(sensitive)")
	}
	return text
}

// Write prints the diagnostics for people: "file:line:column: error: …" with the line of the file, the place
// underlined, and advice, then a line that counts them. width is the terminal's, 0 for no limit; color adds escape
// sequences. It prints nothing if there is nothing to say.
func (d *Diagnostics) Write(w io.Writer, color bool, width int) error {
	if len(d.list) == 0 {
		return nil
	}
	var buf bytes.Buffer
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	count := map[Severity]int{}
	for _, x := range d.list {
		count[x.Severity]++
		code := "1;31"
		if x.Severity == Warning {
			code = "1;33"
		}
		head := paint(code, string(x.Severity)+":") + " " + paint("1", clean(x.Summary))
		if x.Range.File != "" {
			head = x.Range.place() + ": " + head
		}
		buf.WriteString(head + "\n")
		d.snippet(&buf, x, width, func(s string) string { return paint(code, s) })
		if x.Detail != "" {
			for line := range strings.Lines(wrap(clean(x.Detail), width-2)) {
				buf.WriteString("  " + line)
			}
			buf.WriteString("\n")
		}
		buf.WriteString("\n")
	}
	var parts []string
	for _, s := range []Severity{Error, Warning} {
		switch n := count[s]; {
		case n == 1:
			parts = append(parts, "1 "+string(s))
		case n > 1:
			parts = append(parts, strconv.Itoa(n)+" "+string(s)+"s")
		}
	}
	buf.WriteString(strings.Join(parts, ", ") + "\n")
	_, err := w.Write(buf.Bytes())
	return err
}

// snippet prints the line that a diagnostic's range starts in, and underlines the range.
func (d *Diagnostics) snippet(buf *bytes.Buffer, x Diagnostic, width int, paint func(string) string) {
	r := x.Range
	src := d.files[r.File]
	if r.Line == 0 || r.start > len(src) {
		return
	}
	from := bytes.LastIndexByte(src[:r.start], '\n') + 1
	to := len(src)
	if i := bytes.IndexByte(src[r.start:], '\n'); i >= 0 {
		to = r.start + i
	}
	line := d.blot(strings.TrimSuffix(string(src[from:to]), "\r"))
	start := min(r.start-from, len(line))
	end := min(max(r.end-from, start), len(line))
	before, inside, after := clean(line[:start]), clean(line[start:end]), strings.TrimRight(clean(line[end:]), " \t")
	if x.veiled && after != "" {
		after = " …"
	}
	if x.veilSubject {
		inside = strings.Repeat("*", utf8.RuneCountInString(inside))
	}
	if room := width - 8; width > 0 && room > 20 {
		// A long line keeps its subject in sight.
		if n := utf8.RuneCountInString(before); n > room/2 {
			before = "…" + string([]rune(before)[n-room/2+1:])
		}
		room -= utf8.RuneCountInString(before)
		inside = cut(inside, room)
		after = cut(after, room-utf8.RuneCountInString(inside))
	}
	pad := strings.Map(func(c rune) rune {
		if c == '\t' {
			return c
		}
		return ' '
	}, before)
	fmt.Fprintf(buf, "%5d | %s%s%s\n", r.Line, before, inside, after)
	fmt.Fprintf(buf, "      | %s%s\n", pad, paint(strings.Repeat("^", max(1, utf8.RuneCountInString(inside)))))
}

// blot replaces every secret in a line of source by asterisks, byte for byte, so that places stay where they are.
func (d *Diagnostics) blot(line string) string {
	for _, m := range d.masks {
		line = strings.ReplaceAll(line, m, strings.Repeat("*", len(m)))
	}
	return line
}

func cut(s string, room int) string {
	if utf8.RuneCountInString(s) <= room {
		return s
	}
	if room < 1 {
		return ""
	}
	return string([]rune(s)[:room-1]) + "…"
}

// clean takes out what a terminal could obey.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	return strings.Map(func(c rune) rune {
		if c != '\n' && c != '\t' && unicode.IsControl(c) {
			return '\ufffd'
		}
		return c
	}, s)
}

// wrap breaks text at spaces; width below 20 means no limit.
func wrap(text string, width int) string {
	if width < 20 {
		return text
	}
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		col := 0
		for j, word := range strings.Split(line, " ") {
			n := utf8.RuneCountInString(word)
			switch {
			case j == 0:
			case col+1+n > width:
				b.WriteByte('\n')
				col = 0
			default:
				b.WriteByte(' ')
				col++
			}
			b.WriteString(word)
			col += n
		}
	}
	return b.String()
}

// suggest returns `Did you mean "x"?` for the candidate nearest to a name, or "".
func suggest(name string, candidates []string) string {
	if best := nearest(name, candidates); best != "" {
		return fmt.Sprintf("Did you mean %q?", best)
	}
	return ""
}

// nearest returns the candidate nearest to a name, or "" if none is near enough to be what was meant.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", max(1, min(3, len(name)/3))+1
	for _, c := range candidates {
		if d := distance(name, c); d > 0 && d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is how many letters must be changed, inserted, dropped or swapped with their neighbour to make b of a.
func distance(a, b string) int {
	if len(a) > 200 || len(b) > 200 {
		return len(a) + len(b)
	}
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// list writes names for people: "a", "b" and "c".
func list(names []string) string { return join(names, "and") }

func join(names []string, last string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " " + last + " " + quoted[len(quoted)-1]
}
