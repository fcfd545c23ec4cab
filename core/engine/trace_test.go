package engine

import (
	"testing"

	"github.com/grapnelhq/grapnel/core"
)

// tracingOff is all that tracing is where it is off: three questions per call and batch.
func tracingOff(source *Source, sink *Sink, rs []*core.Request, ds []*core.Delivery) bool {
	return source.decoding(rs) == nil && source.routing(rs) == nil && sink.delivering(ds) == nil
}

func TestTracingOffAllocatesNothing(t *testing.T) {
	source, sink, rs, ds := &Source{}, &Sink{}, make([]*core.Request, 256), make([]*core.Delivery, 256)
	if n := testing.AllocsPerRun(100, func() {
		if !tracingOff(source, sink, rs, ds) {
			t.Error("something is traced")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTracingOff(b *testing.B) {
	source, sink, rs, ds := &Source{}, &Sink{}, make([]*core.Request, 256), make([]*core.Delivery, 256)
	b.ReportAllocs()
	for b.Loop() {
		tracingOff(source, sink, rs, ds)
	}
}
