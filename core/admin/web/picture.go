package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
)

// picture is the graph of sources, routes and sinks, laid out for an SVG of its Width and Height.
type picture struct {
	Width, Height int
	Nodes         []node
	Edges         []edge
	Left          int // nodes there is no room for
}

// node is a box of the picture.
type node struct {
	ID, Kind, Name, Href string
	Title                string // the whole of what it says
	Line, LineTone       string // below the name
	Tone                 string
	X, Y, W, H           int
}

// edge is a line between boxes. Weight, 0 to 4, says how much runs along it.
type edge struct {
	Path   string
	Weight int
}

const (
	boxW, boxH     = 232, 54
	boxGap         = 12
	columnGap      = 132
	pictureHead    = 26
	mostBoxes      = 40 // of a column
	pictureW       = 3*boxW + 2*columnGap + 4
	textW          = 26 // characters of a name
	liveBuckets    = 3  // whole ones that a live rate is the mean of
	sparkW, sparkH = 120, 26
	sparkPoints    = 60
)

// newPicture lays out what the status knows. rates may be nil: then no numbers of the last hour are there.
func newPicture(s *admin.Status, rates *hour) picture {
	p := picture{Width: pictureW}
	sources := map[string]int{}
	routes := map[string]int{}
	sinks := map[string]int{}
	var columns [3][]node
	add := func(column int, places map[string]int, name string, n node) {
		if len(columns[column]) == mostBoxes {
			p.Left++
			return
		}
		places[name] = len(columns[column])
		n.Title = n.Kind + " " + name + ": " + n.Line
		n.ID, n.Name = "box-"+n.Kind+"-"+name, cut(textW, name)
		n.Line = cut(36, n.Line)
		columns[column] = append(columns[column], n)
	}
	for _, v := range s.Sources {
		n := node{Kind: "source", Href: address("/requests", query("source", v.Source))}
		if r, ok := rates.source(v.Source); ok {
			n.Line = rate(r.perSecond) + ", " + count(r.total) + " in the last hour"
		} else {
			n.Line = count(v.Accepted) + " accepted"
		}
		add(0, sources, v.Source, n)
	}
	for _, v := range s.Routes {
		n := node{Kind: "route", Href: address("/deliveries", query("route", v.Route))}
		if r, ok := rates.route(v.Route); ok {
			n.Line = rate(r.perSecond) + ", " + plural(r.total, "event")
		} else if len(v.On) > 0 {
			n.Line = strings.Join(v.On, ", ")
		} else {
			n.Line = "every event"
		}
		add(1, routes, v.Route, n)
	}
	for _, v := range s.Sinks {
		n := node{Kind: "sink", Href: address("/sinks/"+v.Sink, nil), Tone: tone(v.State)}
		var words []string
		if n.Tone != toneGood {
			words = append(words, v.State)
		}
		if w := s.Stats.Deliveries[v.Sink][core.DeliveryPending]; w > 0 {
			words = append(words, count(w)+" waiting")
		}
		if d := s.Stats.Deliveries[v.Sink][core.DeliveryDead]; d > 0 {
			words = append(words, count(d)+" dead")
		}
		if r, ok := rates.sink(v.Sink); ok && len(words) < 3 {
			words = append(words, rate(r.perSecond))
		} else if len(words) == 0 {
			words = append(words, count(s.Stats.Deliveries[v.Sink][core.DeliveryDelivered])+" delivered")
		}
		n.Line, n.LineTone = strings.Join(words, ", "), n.Tone
		add(2, sinks, v.Sink, n)
	}
	tallest := max(len(columns[0]), len(columns[1]), len(columns[2]), 1)
	p.Height = pictureHead + tallest*(boxH+boxGap)
	for column := range columns {
		top := pictureHead + (tallest-len(columns[column]))*(boxH+boxGap)/2
		for i := range columns[column] {
			n := &columns[column][i]
			n.X, n.Y, n.W, n.H = 2+column*(boxW+columnGap), top+i*(boxH+boxGap), boxW, boxH
		}
	}
	for _, v := range s.Routes {
		at, ok := routes[v.Route]
		if !ok {
			continue
		}
		to := columns[1][at]
		r, _ := rates.route(v.Route)
		from := v.From
		if len(from) == 0 {
			for _, src := range s.Sources {
				from = append(from, src.Source)
			}
		}
		for _, name := range from {
			if i, ok := sources[name]; ok {
				in, _ := rates.source(name)
				p.Edges = append(p.Edges, newEdge(columns[0][i], to, min(r.perSecond, in.perSecond)))
			}
		}
		for _, name := range v.Sinks {
			if i, ok := sinks[name]; ok {
				p.Edges = append(p.Edges, newEdge(to, columns[2][i], r.perSecond))
			}
		}
	}
	// What is live is drawn above what is not.
	slices.SortStableFunc(p.Edges, func(a, b edge) int { return cmp.Compare(a.Weight, b.Weight) })
	p.Nodes = slices.Concat(columns[0], columns[1], columns[2])
	return p
}

func newEdge(from, to node, perSecond float64) edge {
	x1, y1, x2, y2 := from.X+from.W, from.Y+from.H/2, to.X, to.Y+to.H/2
	mid := (x1 + x2) / 2
	e := edge{Path: fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, mid, y1, mid, y2, x2, y2)}
	if perSecond > 0 {
		e.Weight = min(4, 2+int(math.Log10(perSecond+0.1)))
		e.Weight = max(1, e.Weight)
	}
	return e
}

// hour is what happened in the last one, with what pages show of it. A nil one knows nothing.
type hour struct{ admin.Rates }

// pace is how fast something goes.
type pace struct {
	perSecond float64 // over the last whole buckets
	total     int64   // of the hour
}

func (h *hour) pace(buckets []int64) pace {
	var p pace
	for _, n := range buckets {
		p.total += n
	}
	whole := buckets[:max(0, len(buckets)-1)]
	last := whole[max(0, len(whole)-liveBuckets):]
	var n int64
	for _, b := range last {
		n += b
	}
	if len(last) > 0 && h.StepSeconds > 0 {
		p.perSecond = float64(n) / float64(len(last)*h.StepSeconds)
	}
	return p
}

func (h *hour) source(name string) (pace, bool) {
	if h == nil {
		return pace{}, false
	}
	for _, r := range h.Sources {
		if r.Source == name {
			return h.pace(r.Accepted), true
		}
	}
	return pace{}, true
}

func (h *hour) route(name string) (pace, bool) {
	if h == nil {
		return pace{}, false
	}
	for _, r := range h.Routes {
		if r.Route == name {
			return h.pace(r.Matched), true
		}
	}
	return pace{}, true
}

func (h *hour) sink(name string) (pace, bool) {
	if h == nil {
		return pace{}, false
	}
	for _, r := range h.Sinks {
		if r.Sink == name {
			return h.pace(r.Delivered), true
		}
	}
	return pace{}, true
}

// spark is a small curve of the last hour, a second one of what went wrong above it.
type spark struct {
	W, H                int
	Area, Curve, Faults string
	Title               string
}

// newSpark draws counts, summed up in so many points. what and faults name them.
func (h *hour) spark(counts []int64, what string, faulty []int64, faults string) *spark {
	if h == nil || len(counts) == 0 {
		return nil
	}
	a, b := condense(counts), condense(faulty)
	peak := max(1, slices.Max(a))
	if len(b) > 0 {
		peak = max(peak, slices.Max(b))
	}
	s := &spark{W: sparkW, H: sparkH, Title: plural2(h.pace(counts).total, what)}
	s.Curve = curve(a, peak)
	s.Area = s.Curve + fmt.Sprintf("V%dH0Z", sparkH-1)
	if n := h.pace(faulty).total; n > 0 {
		s.Faults = curve(b, peak)
		s.Title += ", " + plural2(n, faults)
	}
	s.Title += " in the last hour"
	return s
}

// level draws a number that goes up and down, such as a backlog.
func (h *hour) level(values []int64, what string) *spark {
	if h == nil || len(values) == 0 {
		return nil
	}
	var a []int64
	size := max(1, len(values)/sparkPoints)
	for chunk := range slices.Chunk(values, size) {
		a = append(a, slices.Max(chunk))
	}
	peak := max(1, slices.Max(a))
	now, most := count(values[len(values)-1]), count(slices.Max(a))
	s := &spark{W: sparkW, H: sparkH, Title: fmt.Sprintf("%s %s now, at most %s in the last hour", now, what, most)}
	s.Curve = curve(a, peak)
	s.Area = s.Curve + fmt.Sprintf("V%dH0Z", sparkH-1)
	return s
}

func plural2(n int64, what string) string { return count(n) + " " + what }

// condense sums up counts in at most sparkPoints numbers.
func condense(counts []int64) []int64 {
	if len(counts) == 0 {
		return nil
	}
	size := max(1, (len(counts)+sparkPoints-1)/sparkPoints)
	var out []int64
	for chunk := range slices.Chunk(counts, size) {
		var n int64
		for _, c := range chunk {
			n += c
		}
		out = append(out, n)
	}
	return out
}

func curve(values []int64, peak int64) string {
	var b strings.Builder
	for i, v := range values {
		x := float64(i) * sparkW / float64(max(1, len(values)-1))
		y := float64(sparkH-1) - float64(v)*(sparkH-3)/float64(peak)
		b.WriteString(string("LM"[btoi(i == 0)]))
		b.WriteString(strconv.FormatFloat(x, 'f', 1, 64) + " " + strconv.FormatFloat(y, 'f', 1, 64))
	}
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
