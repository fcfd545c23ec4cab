package ingress

import (
	"slices"
	"sync/atomic"

	"github.com/grapnelhq/grapnel/core/auth"
)

// The causes of rejections that are not package auth's.
const (
	CauseUnknownPath      = "unknown_path"
	CauseMethod           = "method_not_allowed"
	CauseAddress          = "address_not_allowed"
	CauseContentType      = "content_type"
	CauseContentEncoding  = "content_encoding"
	CauseTooLarge         = "too_large"
	CauseBodyTimeout      = "body_timeout"
	CauseClientGone       = "client_gone" // before its request was complete
	CauseMalformedBody    = "malformed_body"
	CauseBadJSON          = "bad_json"
	CauseBadForm          = "bad_form"
	CauseBadHandshake     = "bad_handshake" // what it wants echoed is not fit for that
	CauseRateLimited      = "rate_limited"
	CauseConnections      = "too_many_connections"
	CauseOverloaded       = "overloaded" // the memory for bodies is used up
	CauseDraining         = "draining"
	CauseDiskShort        = "disk_short"
	CauseDiskFull         = "disk_full"
	CauseNotReady         = "not_ready"
	CauseStore            = "store_failed"
	CauseInternal         = "internal"
	CauseHeaderTooLarge   = "header_too_large"
	CauseHeaderTimeout    = "header_timeout"
	CauseMalformedRequest = "malformed_request"
)

// Causes lists every cause that a rejection may have.
func Causes() []string {
	return append(auth.Causes(), CauseUnknownPath, CauseMethod, CauseAddress, CauseContentType, CauseContentEncoding,
		CauseTooLarge, CauseBodyTimeout, CauseClientGone, CauseMalformedBody, CauseBadJSON, CauseBadForm, CauseBadHandshake,
		CauseRateLimited, CauseConnections, CauseOverloaded, CauseDraining, CauseDiskShort, CauseDiskFull, CauseNotReady, CauseStore,
		CauseInternal, CauseHeaderTooLarge, CauseHeaderTimeout, CauseMalformedRequest)
}

// Stats counts since the start.
type Stats struct {
	Sources     map[string]SourceStats // every source that the server has or had
	Rejected    map[string]uint64      // by cause, of requests that no source has
	Unrecorded  uint64                 // rejections that came too fast to be listed
	Connections int                    // open now
	Requests    int64                  // in the handler now
	BodyMemory  int64                  // bytes now
}

// SourceStats counts one source's requests.
type SourceStats struct {
	Accepted   uint64
	Duplicates uint64
	Reopened   uint64
	Handshakes uint64
	Rejected   map[string]uint64 // by cause, without zeros
	Secrets    []uint64          // authentic requests by index of the secret; anew with each set of endpoints
}

// counters belong to a source, or to all that is none, and survive a change of endpoints.
type counters struct {
	accepted, duplicates, reopened, handshakes atomic.Uint64

	rejected map[string]*atomic.Uint64 // complete from the start
	records  *limiter                  // of the list of rejections
	logs     *limiter
	silent   atomic.Uint64 // rejections that were not logged since one was
}

func newCounters() *counters {
	c := &counters{rejected: map[string]*atomic.Uint64{}, records: newLimiter(20, 200), logs: newLimiter(0.5, 10)}
	for _, cause := range Causes() {
		c.rejected[cause] = new(atomic.Uint64)
	}
	return c
}

func (c *counters) rejectedByCause() map[string]uint64 {
	m := map[string]uint64{}
	for cause, n := range c.rejected {
		if n := n.Load(); n > 0 {
			m[cause] = n
		}
	}
	return m
}

// countersOf returns the counters of a source, new ones the first time. The caller holds s.mu.
func (s *Server) countersOf(source string) *counters {
	c := s.counters[source]
	if c == nil {
		c = newCounters()
		s.counters[source] = c
	}
	return c
}

// Stats counts what has happened so far. It may be called at any time from any goroutine.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Sources:     make(map[string]SourceStats, len(s.counters)),
		Rejected:    s.nowhere.rejectedByCause(),
		Unrecorded:  s.unrecorded.Load(),
		Connections: len(s.conns),
		Requests:    s.requests.Load(),
		BodyMemory:  s.bodyMemory.Load(),
	}
	all := s.routes.Load().all
	for source, c := range s.counters {
		ss := SourceStats{
			Accepted: c.accepted.Load(), Duplicates: c.duplicates.Load(), Reopened: c.reopened.Load(),
			Handshakes: c.handshakes.Load(), Rejected: c.rejectedByCause(),
		}
		if i := slices.IndexFunc(all, func(ep *endpoint) bool { return ep.source == source }); i >= 0 {
			for j := range all[i].secrets {
				ss.Secrets = append(ss.Secrets, all[i].secrets[j].Load())
			}
		}
		st.Sources[source] = ss
	}
	return st
}
