package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// flat is a histogram in numbers that can be compared.
type flat struct {
	Count, Zero uint64
	Classic     []uint64
	Native      map[int]int64
}

func flatten(h *dto.Histogram) flat {
	f := flat{Count: h.GetSampleCount(), Zero: h.GetZeroCount(), Native: map[int]int64{}}
	for _, b := range h.GetBucket() {
		f.Classic = append(f.Classic, b.GetCumulativeCount())
	}
	key, n, d := 0, int64(0), 0
	for _, span := range h.GetPositiveSpan() {
		key += int(span.GetOffset())
		for range span.GetLength() {
			n += h.GetPositiveDelta()[d]
			d++
			if n != 0 {
				f.Native[key] = n
			}
			key++
		}
	}
	return f
}

// TestHistogramLikeTheClients compares with the client library's own histogram, value by value and at every bound.
func TestHistogramLikeTheClients(t *testing.T) {
	for name, s := range map[string]*shape{
		"latency": newShapes().latency, "age": newShapes().age, "counts": newShapes().counts,
		"bounds of native buckets": newShape(1, .25, .5, 1, 2, 1024, 1025),
	} {
		h := newHistogram(s)
		theirs := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "x", Buckets: s.bounds, NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: math.Ldexp(1, -20),
		})
		sum := 0.0
		see := func(n int64) {
			h.observe(n)
			theirs.Observe(float64(n) / s.unit)
			sum += float64(n) / s.unit
		}
		for _, b := range s.bounds {
			at := int64(b * s.unit)
			for _, n := range []int64{at - 1, at, at + 1} {
				see(max(n, 0))
			}
		}
		for p := range 40 {
			see(1 << p)
			see(1<<p + 1)
		}
		for range 20_000 {
			see(int64(math.Exp(rand.Float64() * math.Log(1000*s.unit))))
		}
		see(0)
		if s.unit == 1 { // what is over 2^20 is in the last native bucket of ours
			continue
		}
		var want dto.Metric
		if err := theirs.Write(&want); err != nil {
			t.Fatal(err)
		}
		got := h.read()
		if diff := cmp.Diff(flatten(want.GetHistogram()), flatten(got)); diff != "" {
			t.Errorf("%s (-theirs +ours):\n%s", name, diff)
		}
		if got.GetSchema() != want.GetHistogram().GetSchema() || math.Abs(got.GetSampleSum()/sum-1) > 1e-9 {
			t.Errorf("%s: schema %d, sum %g, want %d, %g", name, got.GetSchema(), got.GetSampleSum(),
				want.GetHistogram().GetSchema(), sum)
		}
	}
}

// TestHistogramOfAnything puts every value somewhere, and counts it once in each kind of buckets.
func TestHistogramOfAnything(t *testing.T) {
	for _, s := range []*shape{newShapes().latency, newShapes().age, newShapes().counts} {
		h := newHistogram(s)
		values := []int64{math.MinInt64, -1, 0, 1, math.MaxInt64, math.MaxInt64 - 1}
		for range 1000 {
			values = append(values, int64(rand.Uint64()>>rand.UintN(64)))
		}
		for _, v := range values {
			h.observe(v)
		}
		f := flatten(h.read())
		native := f.Zero
		for _, n := range f.Native {
			native += uint64(n)
		}
		if f.Count != uint64(len(values)) || native != f.Count {
			t.Errorf("%d values, %d counted, %d in native buckets", len(values), f.Count, native)
		}
	}
}

func FuzzHistogram(f *testing.F) {
	for _, n := range []int64{0, 1, 953, 954, 1e5, 1e9, math.MaxInt64, -5} {
		f.Add(n)
	}
	shapes := newShapes()
	f.Fuzz(func(t *testing.T, n int64) {
		for _, s := range []*shape{shapes.latency, shapes.age, shapes.counts} {
			h := newHistogram(s)
			h.observe(n)
			v, flat := float64(max(n, 0))/s.unit, flatten(h.read())
			for i, b := range s.bounds {
				if (v <= b) != (flat.Classic[i] == 1) {
					t.Errorf("%g and the bucket up to %g: %d", v, b, flat.Classic[i])
				}
			}
			for key := range flat.Native {
				lower, upper := s.upper(key-1-lowestKey), s.upper(key-lowestKey)
				if v <= lower || v > upper && key != highestKey {
					t.Errorf("%g is in the native bucket (%g, %g]", v, lower, upper)
				}
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	h := newHistogram(newShapes().latency)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		h.observe(i % 1000 * 10_000)
	}
}

// BenchmarkClient is the client library's own, for comparison.
func BenchmarkClient(b *testing.B) {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "x", Buckets: newShapes().latency.bounds, NativeHistogramBucketFactor: 1.1,
	})
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		h.Observe(float64(i%1000*10_000) / 1e9)
	}
}

// BenchmarkEvent is all that the host counts and times of a request with one event for one sink, when nothing is batched.
func BenchmarkEvent(b *testing.B) {
	m := New(Options{})
	source, sink, route, store := m.Source("hr"), m.Sink("out"), m.Route("all"), m.Store()
	d := delivery(time.Now())
	b.ReportAllocs()
	for i := time.Duration(0); b.Loop(); i++ {
		took := i % 1000 * 10 * time.Microsecond
		store.Committed(2, 1, took)
		store.Synced(took)
		source.Accepted(took)
		source.Decoded(1, took)
		route.Evaluated(took)
		source.Routed(took)
		store.Committed(2, 0, took)
		source.Matched("all", 1)
		source.Decided(1, 0, false)
		sink.Called(1, took)
		sink.Attempted("delivered")
		store.Committed(1, 0, took)
		sink.Settled(d, "delivered")
	}
}
