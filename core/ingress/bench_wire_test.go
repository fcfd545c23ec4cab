package ingress

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// drive sends b.N copies of a request over 64 connections.
func drive(b *testing.B, addr string, wire []byte) {
	b.Helper()
	b.ReportAllocs()
	const conns = 64
	var wg sync.WaitGroup
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		n := b.N / conns
		if i < b.N%conns {
			n++
		}
		wg.Go(func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for range n {
				if _, err := c.Write(wire); err != nil {
					b.Error(err)
					return
				}
				for first := true; ; first = false {
					line, err := r.ReadSlice('\n')
					if err != nil || first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
						b.Errorf("%s %v", line, err)
						return
					}
					if len(line) == 2 {
						break
					}
				}
			}
		})
	}
	wg.Wait()
}

func wireRequest(b *testing.B) []byte {
	b.Helper()
	body := benchBody()
	r := benchRequest(b, body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		b.Fatal(err)
	}
	return wire.Bytes()
}

// BenchmarkWire is the whole ingress over loopback, without a store; compare with BenchmarkBareWire.
func BenchmarkWire(b *testing.B) {
	h := start(b, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(b, "hr")}
		c.Acceptor = nothing{}
		c.Logger = discard()
	})
	wire := wireRequest(b)
	b.ResetTimer()
	drive(b, h.addr, wire)
}

// BenchmarkBareWire is a net/http server that reads the body and checks its MAC.
func BenchmarkBareWire(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(bare))
	defer s.Close()
	wire := wireRequest(b)
	b.ResetTimer()
	drive(b, s.Listener.Addr().String(), wire)
}
