package expr

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/sdk"
)

// finding is a mistake at one place, with the event types that it concerns.
type finding struct {
	sev    hcl.DiagnosticSeverity
	rng    hcl.Range
	detail string
	types  map[string]bool // that it concerns
	among  map[string]bool // that get to the route
	route  *checkedTypes   // the last that added to it
}

type findingKey struct {
	file       string
	start, end int
	summary    string
}

func (c *Checker) warn(rng hcl.Range, summary, detail string, v known) {
	c.find(hcl.DiagWarning, rng, summary, detail, v)
}

func (c *Checker) fail(rng hcl.Range, summary, detail string, v known) {
	c.find(hcl.DiagError, rng, summary, detail, v)
}

func (c *Checker) find(sev hcl.DiagnosticSeverity, rng hcl.Range, summary, detail string, v known) {
	if v.live == 0 {
		return
	}
	c.failures++
	if c.tolerant > 0 {
		return
	}
	key := findingKey{rng.Filename, rng.Start.Byte, rng.End.Byte, summary}
	f := c.found[key]
	if f == nil {
		f = &finding{sev: sev, rng: rng, detail: detail, types: map[string]bool{}, among: map[string]bool{}}
		c.found[key] = f
	}
	c.concerns(f, v)
}

// concerns adds the event types at hand to a finding.
func (c *Checker) concerns(f *finding, v known) {
	if f.route != c.route {
		f.route = c.route
		maps.Copy(f.among, c.route.names)
	}
	if !c.sh.open {
		c.sh.each(v.live, func(_ int, a *atom) { f.types[a.typ] = true })
	}
}

// sighting is a reference, with what the shapes that get to it have of it.
type sighting struct {
	e       hclsyntax.Expression
	gaveUp  *bool
	text    string
	lenient bool // it stands where a field that some types lack is no mistake, or a reference is untyped on purpose
	has     []seenBy
	any     []seenBy // whose data is not described
	lacks   []seenBy
	missing []gap
}

type seenBy struct {
	sh   *shape
	live mask
}

func typesOf(by []seenBy) map[string]bool {
	types := map[string]bool{}
	for _, b := range by {
		b.sh.each(b.live, func(_ int, a *atom) { types[a.typ] = true })
	}
	return types
}

type gap struct {
	walk walk
	path []hop
	sh   *shape
	live mask
}

// sight records what a reference leads to for the types at hand. path is its path, nil for that of a refNode.
func (c *Checker) sight(e hclsyntax.Expression, text string, untyped bool, w walk, path []hop, v known) {
	if untyped || v.live == 0 {
		return
	}
	s := c.refs[e]
	if s == nil {
		s = &sighting{e: e, gaveUp: &c.route.gaveUp, text: text}
		c.refs[e] = s
	}
	s.lenient = s.lenient || c.lenient > 0
	to := &s.has
	switch {
	case w.stop >= 0:
		to = &s.lacks
		if path == nil {
			path = hops(e.(*refNode).ref.path)
		}
		s.missing = append(s.missing, gap{w, path, c.sh, v.live})
	case isAny(w.schema):
		to = &s.any
	}
	*to = append(*to, seenBy{c.sh, v.live})
}

func (c *Checker) typeNames() []string { return slices.Sorted(maps.Keys(c.route.names)) }

// changedField warns about a change of a field whose name is nearly one of the record's. What a provider calls a
// changed field is its own affair, so nothing else is a mistake.
func (c *Checker) changedField(e *refNode, v known) {
	if c.sh.data == nil || c.sh.data.Kind != sdk.KindObject {
		return
	}
	name, _, _ := strings.Cut(e.ref.path[0].name, ".") // some providers write paths
	names := attributeNames(c.sh.data)
	if slices.Contains(names, name) {
		return
	}
	if guess := nearestName(name, names); guess != "" && !strings.HasPrefix(name, guess) {
		c.warn(e.Range(), fmt.Sprintf("The record has no field %q that could change", name),
			fmt.Sprintf("Did you mean event.changes[%q]?", guess), v)
	}
}

// misplaced notes what is meant by a reference to a field of the record that lacks its "data".
func (c *Checker) misplaced(e *brokenNode) {
	t := e.traversal
	if len(t) < 2 || t.RootName() != "event" || c.meant[e] != "" || c.sh.data == nil {
		return
	}
	path, ok := hopsOf(t[1:])
	if !ok || slices.Contains(eventNames, path[0].name) || nearestField(path[0].name, eventNames) != "" {
		return
	}
	switch w := follow(c.sh.data, path); {
	case w.stop < 0:
		c.meant[e] = "event.data" + traversalText(t[1:])
	case w.stop > 0:
		c.meant[e] = "event.data" + traversalText(t[1:1+w.stop])
	}
}

// Diagnostics is what was found, by place. A NoAttribute at the place of one that was reported when the expression was
// compiled is to take its place.
func (c *Checker) Diagnostics() hcl.Diagnostics {
	var out hcl.Diagnostics
	add := func(sev hcl.DiagnosticSeverity, rng hcl.Range, summary, detail string) {
		out = append(out, &hcl.Diagnostic{Severity: sev, Summary: summary, Detail: detail, Subject: &rng})
	}
	for key, f := range c.found {
		add(f.sev, f.rng, key.summary, sentences(f.detail, concerned(f.types, f.among)))
	}
	for _, s := range c.refs {
		if len(s.missing) > 0 && !*s.gaveUp {
			out = append(out, s.diagnostic()...)
		}
	}
	for _, d := range c.verdicts {
		switch {
		case d.may || !d.never || *d.gaveUp:
		case d.e.Op == hclsyntax.OpNotEqual:
			add(d.sev, d.e.Range(), "This is always true", d.why)
		default:
			add(d.sev, d.e.Range(), "This is never true", d.why)
		}
	}
	for e, meant := range c.meant {
		name, _, _ := stepName(e.traversal[1])
		for _, d := range unknownName("event", name, nil, e.traversal[1]) {
			add(d.Severity, *d.Subject, d.Summary, d.Detail+" Did you mean "+meant+"?")
		}
	}
	slices.SortFunc(out, func(a, b *hcl.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Subject.Filename, b.Subject.Filename),
			cmp.Compare(a.Subject.Start.Byte, b.Subject.Start.Byte), cmp.Compare(a.Subject.End.Byte, b.Subject.End.Byte),
			cmp.Compare(a.Summary, b.Summary))
	})
	return out
}

// Explained reports whether there is a finding in a condition that explains why it is never true: a comparison that is
// not. It is asked after the last Route that has the condition.
func (c *Checker) Explained(cond *Condition) bool {
	within := cond.expr.Range()
	for _, d := range c.verdicts {
		r := d.e.Range()
		if !d.may && d.never && r.Filename == within.Filename && r.Start.Byte >= within.Start.Byte &&
			r.End.Byte <= within.End.Byte {
			return true
		}
	}
	return false
}

func (s *sighting) diagnostic() hcl.Diagnostics {
	// What follows the most steps that exist is what the author had in mind.
	m := &s.missing[0]
	for i := range s.missing {
		if s.missing[i].walk.stop > m.walk.stop {
			m = &s.missing[i]
		}
	}
	d := &hcl.Diagnostic{Severity: hcl.DiagError}
	rng, written := s.stepRange(m.walk.stop)
	name := m.path[m.walk.stop].name
	before := strings.TrimSuffix(s.text, written)
	switch {
	case len(s.has) > 0:
		if s.lenient {
			return nil
		}
		have, lacks := typesOf(s.has), typesOf(s.lacks)
		rng = s.e.Range()
		d.Summary = "Only some of the event types have " + s.text
		d.Detail = fmt.Sprintf("%s %s it, %s %s not. Narrow \"on\", or ask for event.type == %q first; try(%s, null) does "+
			"without it where it is not there.", compact(have), verb(have, "has", "have"), compact(lacks),
			verb(lacks, "does", "do"), slices.Min(slices.Collect(maps.Keys(have))), s.text)
	case m.walk.at.Kind != sdk.KindObject:
		d.Summary = fmt.Sprintf("%s has no members", before)
		d.Detail = fmt.Sprintf("It is %s.", describe(m.walk.at, m.sh.sampleAt(m.live, m.path[:m.walk.stop])))
		if m.walk.at.Kind == sdk.KindList {
			d.Summary = fmt.Sprintf("%s is a list", before)
			d.Detail = fmt.Sprintf("Name one of its elements, as in %s[0]%s, or all: %s[*]%s.", before, written, before, written)
		}
	default:
		d.Summary = fmt.Sprintf("There is no field %q in %s", name, before)
		d.Detail = s.advice(m, name, before)
	}
	d.Subject = &rng
	return hcl.Diagnostics{d}
}

func verb(types map[string]bool, one, more string) string {
	if len(types) == 1 {
		return one
	}
	return more
}

// advice suggests the field that was meant.
func (s *sighting) advice(m *gap, name, before string) string {
	var known []string
	at := map[string]*gap{}
	for i := range s.missing {
		x := &s.missing[i]
		if x.walk.stop != m.walk.stop || x.walk.at.Kind != sdk.KindObject {
			continue
		}
		for _, n := range attributeNames(x.walk.at) {
			if at[n] == nil {
				at[n] = x
				known = append(known, n)
			}
		}
	}
	var text string
	to := m.path[:m.walk.stop]
	guess := nearestName(name, known)
	if guess == "" && elsewhere(m.walk.at, name, 3) == nil {
		guess = sharesWord(name, known)
	}
	if guess != "" {
		x := at[guess]
		text = fmt.Sprintf("Did you mean %q? It is %s.", guess, describe(x.walk.at.Attribute(guess),
			x.sh.sampleAt(x.live, append(slices.Clip(to), hop{name: guess}))))
	} else if path := elsewhere(m.sh.data, name, 3); path != nil && s.isData() {
		text = fmt.Sprintf("Did you mean event.data%s? It is %s.", pathName(path),
			describe(follow(m.sh.data, path).schema, m.sh.sampleAt(m.live, path)))
	} else if len(known) > 0 && len(known) <= 16 {
		text = "There are: " + strings.Join(known, ", ") + "."
	}
	if untyped := typesOf(s.any); len(untyped) > 0 {
		text = sentences(text, fmt.Sprintf("The catalogue does not describe it for %s.", compact(untyped)))
	}
	if raw, ok := strings.CutPrefix(s.text, "event.data"); ok {
		text = sentences(text, fmt.Sprintf("A field that the catalogue lacks is in event.raw%s.", raw))
	}
	return text
}

func (s *sighting) isData() bool { _, ok := s.e.(*refNode); return ok }

// elsewhere is the path of the field of some name that is deeper in a record; nil: there is none, or several.
func elsewhere(s *sdk.Schema, name string, depth int) []hop {
	if s == nil || depth == 0 || s.Kind != sdk.KindObject {
		return nil
	}
	if s.Attribute(name) != nil {
		return []hop{{name: name}}
	}
	var best []hop
	several := false
	for i := range s.Attributes {
		a := &s.Attributes[i]
		rest := elsewhere(&a.Schema, name, depth-1)
		several = several && len(rest)+1 >= len(best) || rest != nil && len(rest)+1 == len(best)
		if rest != nil && (best == nil || len(rest)+1 < len(best)) {
			best = append([]hop{{name: a.Name}}, rest...)
		}
	}
	if several {
		return nil
	}
	return best
}

// stepRange is where a step of a reference into data stands, without its dot, and how it and what follows is written.
func (s *sighting) stepRange(step int) (hcl.Range, string) {
	var steps hcl.Traversal
	switch e := s.e.(type) {
	case *refNode:
		steps = e.traversal[2:] // event, data
	case *travNode:
		steps = e.steps
	}
	rng := steps[step].SourceRange()
	if a, ok := steps[step].(hcl.TraverseAttr); ok && rng.End.Byte-rng.Start.Byte == len(a.Name)+1 {
		rng.Start.Byte++
		rng.Start.Column++
	}
	return rng, traversalText(steps[step:])
}

func attributeNames(s *sdk.Schema) []string {
	names := make([]string, len(s.Attributes))
	for i := range s.Attributes {
		names[i] = s.Attributes[i].Name
	}
	return names
}

// nearestName is the known name that a misspelt one most likely stands for; empty: none is near. Equal but for the case of
// letters and underscores is nearest; then come few slips of the hand; then the beginning of a name.
func nearestName(name string, known []string) string {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "") }
	best, bestAt := "", min(3, 1+(len(name)+1)/3)
	for _, k := range known {
		if plain(k) == plain(name) {
			return k
		}
		if d := slips(name, k, bestAt); d < bestAt {
			best, bestAt = k, d
		}
	}
	if best == "" && len(name) >= 3 {
		for _, k := range known {
			if strings.HasPrefix(k, name) || len(k) >= 3 && strings.HasPrefix(name, k) {
				return k
			}
		}
	}
	return best
}

// nearestField is the known name that a wrong one most likely stands for: a misspelt one, or else one of the same words.
func nearestField(name string, known []string) string {
	if guess := nearestName(name, known); guess != "" {
		return guess
	}
	return sharesWord(name, known)
}

// sharesWord is the known name that has most words in common with another, such as hired_on with hire_date: words are the
// same that begin with the same four letters, and the first counts most. Empty: there is none, or several.
func sharesWord(name string, known []string) string {
	words := strings.Split(strings.ToLower(name), "_")
	best, bestScore, several := "", 0, false
	for _, k := range known {
		score := 0
		for i, word := range strings.Split(strings.ToLower(k), "_") {
			for j, w := range words {
				switch {
				case len(w) < 4 || len(word) < 4 || w[:4] != word[:4]:
				case i == 0 && j == 0:
					score += 3
				default:
					score++
				}
			}
		}
		if score >= bestScore {
			several = score == bestScore
		}
		if score > bestScore {
			best, bestScore = k, score
		}
	}
	if several {
		return ""
	}
	return best
}

// slips counts insertions, deletions, replacements and exchanges of neighbours between two names; from limit on, it may say
// limit.
func slips(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	var rows [3][]int // two before, the last, this
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[0], rows[1], rows[2]
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
		rows[0], rows[1], rows[2] = last, row, before
	}
	return rows[1][len(b)]
}

// concerned names the event types that a finding concerns, if those are not all.
func concerned(types, among map[string]bool) string {
	if len(types) == 0 || len(types) == len(among) {
		return ""
	}
	rest := maps.Clone(among)
	for t := range types {
		delete(rest, t)
	}
	return fmt.Sprintf("This is so for %s, not for %s.", compact(types), compact(rest))
}

// compact names some of many event types.
func compact(types map[string]bool) string {
	names := slices.Sorted(maps.Keys(types))
	if len(names) > 3 {
		return fmt.Sprintf("%s, %s and %d more", names[0], names[1], len(names)-2)
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

func sentences(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}
