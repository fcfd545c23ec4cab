package metrics

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The native buckets of histograms: eight per power of two, which is a factor of 1.09, from 2^-20 to 2^20. What is less is
// in the zero bucket, what is more in the last.
const (
	schema      = 3
	perDouble   = 1 << schema
	lowestPower = -20
	lowestKey   = lowestPower * perDouble // the values up to 2^-20
	highestKey  = -lowestKey
)

// shape is what the histograms of one kind have in common. Its cells are cut by the bounds of both kinds of buckets, so that
// one count serves both.
type shape struct {
	unit   float64   // what is observed is divided by it
	bounds []float64 // of the classic buckets, ascending
	steps  [perDouble]float64
	first  [highestKey - lowestKey + 1]int // cell of a native bucket; the lowest is the zero bucket
	splits [][]float64                     // of each native bucket: the classic bounds inside of it, or nil
	below  []int                           // of each classic bucket: how many cells are below its bound
	cells  int
}

func newShape(unit float64, bounds ...float64) *shape {
	s := &shape{unit: unit, bounds: bounds, splits: make([][]float64, highestKey-lowestKey+1)}
	for i := range s.steps {
		s.steps[i] = math.Exp2(float64(i)/perDouble - 1)
	}
	left := bounds
	for i := range s.first {
		s.first[i] = s.cells
		upper := s.upper(i)
		for len(left) > 0 && left[0] < upper {
			s.splits[i] = append(s.splits[i], left[0])
			s.cells++
			s.below = append(s.below, s.cells)
			left = left[1:]
		}
		s.cells++
		if len(left) > 0 && left[0] == upper {
			s.below = append(s.below, s.cells)
			left = left[1:]
		}
	}
	return s
}

// upper is the bound of a native bucket, which belongs to it.
func (s *shape) upper(i int) float64 {
	key := i + lowestKey
	power := key >> schema
	return math.Ldexp(s.steps[key-power<<schema], power+1)
}

// cell finds the cell of a value.
func (s *shape) cell(v float64) int {
	i := 0
	if v > 1.0/(1<<-lowestPower) {
		fraction, power := math.Frexp(v) // fraction in [0.5, 1)
		n := 0
		for n < perDouble && fraction > s.steps[n] {
			n++
		}
		i = min((power-1)<<schema+n-lowestKey, len(s.first)-1)
	}
	cell := s.first[i]
	for _, b := range s.splits[i] {
		if v > b {
			cell++
		}
	}
	return cell
}

// histogram counts values in classic and native buckets. It takes no lock and does not allocate.
type histogram struct {
	shape *shape
	sum   atomic.Int64
	cells []atomic.Uint64
}

func newHistogram(s *shape) *histogram {
	return &histogram{shape: s, cells: make([]atomic.Uint64, s.cells)}
}

func (h *histogram) observe(n int64) {
	n = max(n, 0) // clocks
	h.cells[h.shape.cell(float64(n)/h.shape.unit)].Add(1)
	h.sum.Add(n)
}

func (h *histogram) took(d time.Duration) { h.observe(int64(d)) }

// sample is a histogram as Prometheus takes it.
type sample struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	h      *histogram
}

// Desc implements prometheus.Metric.
func (s sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric.
func (s sample) Write(out *dto.Metric) error {
	out.Label, out.Histogram = s.labels, s.h.read()
	return nil
}

func (h *histogram) read() *dto.Histogram {
	s := h.shape
	counts := make([]uint64, len(h.cells))
	total := uint64(0)
	for i := range h.cells {
		counts[i] = h.cells[i].Load()
		total += counts[i]
	}
	sum := float64(h.sum.Load()) / s.unit
	scale, threshold := int32(schema), 1.0/(1<<-lowestPower)
	out := &dto.Histogram{SampleCount: &total, SampleSum: &sum, Schema: &scale, ZeroThreshold: &threshold}

	cumulative, cell := uint64(0), 0
	for i, bound := range s.bounds {
		for ; cell < s.below[i]; cell++ {
			cumulative += counts[cell]
		}
		n := cumulative
		out.Bucket = append(out.Bucket, &dto.Bucket{CumulativeCount: &n, UpperBound: &bound})
	}

	native := func(i int) (n uint64) {
		end := s.cells
		if i+1 < len(s.first) {
			end = s.first[i+1]
		}
		for _, c := range counts[s.first[i]:end] {
			n += c
		}
		return n
	}
	zero := native(0)
	out.ZeroCount = &zero
	// Small gaps within a span cost less than another span.
	const smallGap = 2
	next, before := 0, int64(0)
	add := func(n int64) {
		last := out.PositiveSpan[len(out.PositiveSpan)-1]
		*last.Length++
		out.PositiveDelta = append(out.PositiveDelta, n-before)
		before = n
	}
	for i := 1; i < len(s.first); i++ {
		n := int64(native(i))
		if n == 0 {
			continue
		}
		key := i + lowestKey
		gap := int32(key - next)
		if len(out.PositiveSpan) == 0 || gap > smallGap {
			out.PositiveSpan = append(out.PositiveSpan, &dto.BucketSpan{Offset: &gap, Length: new(uint32)})
		} else {
			for range gap {
				add(0)
			}
		}
		add(n)
		next = key + 1
	}
	return out
}
