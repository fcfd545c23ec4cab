//go:build unix

package pluginhost

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

func benchHost(b *testing.B) *Host {
	b.Helper()
	dir := b.TempDir()
	for name, bin := range map[string]string{"grapnel-decoder-odd": oddBinary, "grapnel-sink-plain": plainBinary} {
		if err := os.Link(bin, filepath.Join(dir, name)); err != nil {
			b.Fatal(err)
		}
	}
	h, err := New(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := h.Close(b.Context()); err != nil {
			b.Error(err)
		}
	})
	return h
}

func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, err := benchHost(b).OpenSink(b.Context(), "a", "plain", nil, SinkOptions{})
			if err != nil {
				b.Fatal(err)
			}
			ds := make([]*core.Delivery, size)
			for k := range ds {
				ds[k] = &core.Delivery{
					ID: fmt.Sprintf("dlv_%032d_%d", k, k), Route: "new_hires", OrderKey: "employee/4101", Message: []byte(`{"text":"Welcome Ada!"}`),
					Event: &core.Event{Envelope: sdk.Envelope{ID: fmt.Sprintf("evt_%032d_0", k), Source: "urn:grapnel:source:people",
						Type: "shop.employee.created", Subject: "employee/4101", Time: "2026-01-01T00:00:00Z", PartitionKey: "employee/4101",
						Provider: "shop", Operation: "created"}},
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Deliver(b.Context(), ds); err != nil {
					b.Fatal(err)
				}
			}
			perItem(b, size)
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"do":"","data":{` + string(bytes.Repeat([]byte(`"first_name":"Ada","hired_on":"2026-01-01",`), 30)) + `"id":4101}}`)
	for _, size := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d, err := benchHost(b).OpenDecoder(b.Context(), "a", "odd", nil, DecoderOptions{})
			if err != nil {
				b.Fatal(err)
			}
			rs := make([]*core.Request, size)
			for k := range rs {
				rs[k] = &core.Request{Dedupe: core.DedupeKey{byte(k), 1}, Source: "a", Method: "POST", Body: body, ReceivedAt: time.Now(),
					Headers: []sdk.Header{{Name: "content-type", Value: "application/json"}}}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(b.Context(), rs); err != nil {
					b.Fatal(err)
				}
			}
			perItem(b, size)
		})
	}
}

func perItem(b *testing.B, size int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/item")
}
