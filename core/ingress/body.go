package ingress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	firstChunk  = 64 << 10 // the most that is allocated on the word of a Content-Length alone
	pooledChunk = 16 << 10 // where a body of unknown length is read to first
)

// bodyReader reads one body within the limits. It holds a share of the memory for bodies until release.
type bodyReader struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	limit int64
	start time.Time // when the handler began
	held  int64
}

// read returns the body in a slice of its own, of exactly its length.
func (b *bodyReader) read() ([]byte, *refusal) {
	n := b.r.ContentLength
	switch {
	case n > b.limit:
		return nil, b.tooLarge(strconv.FormatInt(n, 10))
	case n == 0 || b.r.Body == nil:
		return nil, nil
	case n > 0:
		return b.readKnown(int(n))
	}
	return b.readUnknown()
}

// readKnown reads n bytes. Memory follows what has arrived, so that a promise of bytes costs us little.
func (b *bodyReader) readKnown(n int) ([]byte, *refusal) {
	size := min(n, firstChunk)
	if !b.reserve(size) {
		return nil, overloaded()
	}
	buf := make([]byte, size)
	got := 0
	for {
		m, err := b.r.Body.Read(buf[got:])
		if got += m; got == n {
			return buf, nil
		}
		if err != nil {
			return nil, b.failed(err)
		}
		b.extend(got)
		if got == len(buf) {
			grown := min(n, 2*len(buf))
			if !b.reserve(grown - len(buf)) {
				return nil, overloaded()
			}
			old := buf
			buf = make([]byte, grown)
			copy(buf, old)
		}
	}
}

func (b *bodyReader) readUnknown() ([]byte, *refusal) {
	if !b.reserve(pooledChunk) {
		return nil, overloaded()
	}
	chunk := b.s.chunks.Get().(*[]byte)
	defer b.s.chunks.Put(chunk)
	buf := *chunk
	got := 0
	for {
		m, err := b.r.Body.Read(buf[got:])
		got += m
		if int64(got) > b.limit {
			return nil, b.tooLarge("more than " + strconv.FormatInt(b.limit, 10))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, b.failed(err)
		}
		b.extend(got)
		if got == len(buf) {
			// One byte more than the limit shows that there is more.
			grown := int(min(2*int64(len(buf)), max(b.limit+1, pooledChunk)))
			if !b.reserve(grown - len(buf)) {
				return nil, overloaded()
			}
			old := buf
			buf = make([]byte, grown)
			copy(buf, old)
		}
	}
	body := make([]byte, got)
	copy(body, buf)
	return body, nil
}

// extend moves the deadline on: a body may take the grace and the time of its bytes so far at the lowest rate, and no
// more than BodyTimeout. Most bodies come with their head in one piece and never get here.
func (b *bodyReader) extend(got int) {
	l := &b.s.cfg.Limits
	d := l.BodyGrace + time.Duration(float64(got)/float64(l.MinBodyRate)*float64(time.Second))
	// A connection that cannot have a deadline is not one of ours.
	_ = http.NewResponseController(b.w).SetReadDeadline(b.start.Add(min(d, l.BodyTimeout)))
}

func (b *bodyReader) reserve(n int) bool {
	if b.s.bodyMemory.Add(int64(n)) > b.s.cfg.Limits.MaxBodyMemory {
		b.s.bodyMemory.Add(-int64(n))
		return false
	}
	b.held += int64(n)
	return true
}

func (b *bodyReader) release() {
	if b.held > 0 {
		b.s.bodyMemory.Add(-b.held)
	}
}

func (b *bodyReader) tooLarge(size string) *refusal {
	return &refusal{
		status: http.StatusRequestEntityTooLarge, cause: CauseTooLarge, close: true,
		detail: fmt.Sprintf("%s bytes, the limit is %d", size, b.limit),
	}
}

func overloaded() *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, cause: CauseOverloaded, close: true,
		detail: "the memory for bodies is used up (max_body_memory)",
	}
}

// failed says what a failed read means. The connection is of no use any more.
func (b *bodyReader) failed(err error) *refusal {
	var netErr net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return &refusal{
			status: http.StatusRequestTimeout, cause: CauseBodyTimeout, close: true, detail: "the body came too slowly",
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.As(err, &netErr),
		b.r.Context().Err() != nil:
		return &refusal{
			status: http.StatusBadRequest, cause: CauseClientGone, close: true, detail: "the body ends early",
		}
	}
	// Of the rest, net/http's own words say most, and they quote nothing of the body: "malformed chunked encoding".
	return &refusal{
		status: http.StatusBadRequest, cause: CauseMalformedBody, close: true, detail: printable(err.Error(), maxDetail),
	}
}

func newChunkPool() sync.Pool {
	return sync.Pool{New: func() any { b := make([]byte, pooledChunk); return &b }}
}
