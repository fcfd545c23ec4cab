package jsonscan

import (
	"bytes"
	"math"
)

// Span is where a raw token lies in the text: b[Start:End]. The zero Span stands for an absent value.
type Span struct{ Start, End int32 }

// Present reports whether the path was found, be its value null or not.
func (s Span) Present() bool { return s.End > 0 }

// Paths is a set of paths into a JSON text whose values are extracted together, in one pass.
//
// Fill it with Add from one goroutine; after the last Add, any number of goroutines may call Extract.
type Paths struct {
	nodes []pathNode // node 0 is the whole text
}

type pathNode struct {
	name     string // the step that leads here
	children []int32
	// heads and next are a hash table over the children's names: heads[hash] is a child's node number or 0, and next goes
	// on from there. Most keys of a payload are named by nobody and end at an empty head.
	heads    []int32
	next     int32
	indexes  bool // some child's name may be an array's index
	maxIndex int
}

// MaxPathLen is the most steps a path may have.
const MaxPathLen = 64

// NewPaths returns an empty set. The whole text always has number 0.
func NewPaths() *Paths { return &Paths{nodes: make([]pathNode, 1)} }

// Len is the number of spans that Extract fills.
func (p *Paths) Len() int { return len(p.nodes) }

// Add names a path by its steps (member names, or decimal indexes of array elements) and returns its number, the same
// for the same path. ok is false if the path is too long. All prefixes of the path are added, too.
func (p *Paths) Add(steps ...string) (number int, ok bool) {
	if len(steps) > MaxPathLen {
		return 0, false
	}
	at := int32(0)
	for _, s := range steps {
		at = p.child(at, s)
	}
	return int(at), true
}

// child returns the number of a node's child, and makes it if there is none.
func (p *Paths) child(at int32, name string) int32 {
	for _, c := range p.nodes[at].children {
		if p.nodes[c].name == name {
			return c
		}
	}
	c := int32(len(p.nodes))
	p.nodes = append(p.nodes, pathNode{name: name})
	n := &p.nodes[at]
	n.children = append(n.children, c)
	if i := arrayIndex(name); i >= 0 {
		n.indexes = true
		n.maxIndex = max(n.maxIndex, i)
	}
	size := 8
	for size < 4*len(n.children) {
		size *= 2
	}
	n.heads = make([]int32, size)
	for _, c := range n.children {
		h := &n.heads[pathHash([]byte(p.nodes[c].name))&(size-1)]
		p.nodes[c].next = *h
		*h = c
	}
	return c
}

func pathHash(s []byte) int {
	if len(s) == 0 {
		return 0
	}
	return len(s) + 3*int(s[0]) + 17*int(s[len(s)-1]) + 5*int(s[len(s)/2])
}

// Extract fills spans, which must have Len elements, with the positions of the raw tokens of all paths in b. It
// forgets what spans held before. A text of 2 GiB or more has no values.
func (p *Paths) Extract(b []byte, spans []Span) {
	clear(spans)
	if len(b) >= math.MaxInt32 {
		return
	}
	i := Space(b, 0)
	if i < len(b) {
		p.walk(b, i, 0, spans)
	}
}

// walk notes the value at i for a node and its children, and returns the offset after the value. It recurses as deep as
// the paths are long.
func (p *Paths) walk(b []byte, i int, at int32, spans []Span) int {
	start := i
	n := &p.nodes[at]
	switch {
	case len(n.children) == 0:
		i = Skip(b, i)
	case b[i] == '{':
		i = p.walkObject(b, i+1, n, spans)
	case b[i] == '[' && n.indexes:
		i = p.walkArray(b, i+1, n, spans)
	default:
		i = Skip(b, i)
	}
	spans[at] = Span{int32(start), int32(i)}
	return i
}

func (p *Paths) walkObject(b []byte, i int, n *pathNode, spans []Span) int {
	for {
		i = Space(b, i)
		if i >= len(b) {
			return len(b)
		}
		switch b[i] {
		case '}':
			return i + 1
		case ',':
			i = Space(b, i+1)
		}
		if i >= len(b) || b[i] != '"' {
			return len(b) // not JSON
		}
		key := i
		i = StringEnd(b, i)
		child := p.find(n, b[key:i])
		if i < len(b) && b[i] != ':' {
			i = Space(b, i)
		}
		i = Space(b, i+1)
		if i >= len(b) {
			return len(b)
		}
		if child == 0 {
			i = Skip(b, i)
			continue
		}
		if spans[child].Present() {
			p.forget(child, spans) // a repeated key replaces all of the earlier one
		}
		i = p.walk(b, i, child, spans)
	}
}

func (p *Paths) walkArray(b []byte, i int, n *pathNode, spans []Span) int {
	var digits [10]byte
	for index := 0; ; index++ {
		i = Space(b, i)
		if i >= len(b) {
			return len(b)
		}
		switch b[i] {
		case ']':
			return i + 1
		case ',':
			i = Space(b, i+1)
		}
		if i >= len(b) {
			return len(b)
		}
		child := int32(0)
		if index <= n.maxIndex {
			child = p.findName(n, appendIndex(digits[:0], index))
		}
		before := i
		if child == 0 {
			i = Skip(b, i)
		} else {
			i = p.walk(b, i, child, spans)
		}
		if i == before {
			return len(b) // not JSON
		}
	}
}

func appendIndex(dst []byte, n int) []byte {
	if n >= 10 {
		dst = appendIndex(dst, n/10)
	}
	return append(dst, byte('0'+n%10))
}

// find returns the child of n with the name in a raw string token, or 0.
func (p *Paths) find(n *pathNode, raw []byte) int32 {
	if len(raw) < 2 {
		return 0
	}
	name := raw[1 : len(raw)-1]
	if c := p.findName(n, name); c != 0 {
		if bytes.IndexByte(name, '\\') < 0 {
			return c
		}
	} else if bytes.IndexByte(name, '\\') < 0 {
		return 0
	}
	text, ok := Unquote(raw)
	if !ok {
		return 0
	}
	return p.findName(n, []byte(text))
}

func (p *Paths) findName(n *pathNode, name []byte) int32 {
	for c := n.heads[pathHash(name)&(len(n.heads)-1)]; c != 0; c = p.nodes[c].next {
		if p.nodes[c].name == string(name) {
			return c
		}
	}
	return 0
}

func (p *Paths) forget(at int32, spans []Span) {
	spans[at] = Span{}
	for _, c := range p.nodes[at].children {
		p.forget(c, spans)
	}
}
