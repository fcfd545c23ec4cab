//go:build unix

package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Load posts events of Youforce from several connections until it is stopped, each event unique and each key sent by
// one connection only, so that the order in which a key's events were accepted is known. A connection has one request
// under way. When it gets no answer (the host was killed) or another one than 2xx, it connects again and either
// repeats the event, as a provider does, or goes on with the next one.
type Load struct {
	accepted, unanswered, refused atomic.Int64

	begun atomic.Int64 // events that are accepted or may still be; with a limit

	t      testing.TB
	host   *Host
	limit  int64
	cancel context.CancelFunc
	done   sync.WaitGroup
	conns  []*sender

	mu       sync.Mutex
	statuses map[int]int
	took     []Took
}

// Took is how long an answer with 2xx took.
type Took struct {
	At   time.Time // when it was there
	Time time.Duration
}

// Took returns how long each answer with 2xx took, after Stop.
func (l *Load) Took() []Took { return l.took }

// LoadOptions describe a load.
type LoadOptions struct {
	Source string // default "hr"
	Conns  int    // default 8
	Keys   int    // per connection, default 8
	Limit  int    // stop by itself when this many events are accepted; 0: no
	Rate   int    // about so many events per second; 0: as fast as it goes
	Name   string // part of its keys, to tell two loads on a host apart
}

// sender is one connection.
type sender struct {
	keys     []string
	accepted [][]bool // by key and number: it got 2xx
}

// StartLoad starts a load on a host, which need not run yet.
func (h *Host) StartLoad(o LoadOptions) *Load {
	if o.Source == "" {
		o.Source = "hr"
	}
	if o.Conns == 0 {
		o.Conns = 8
	}
	if o.Keys == 0 {
		o.Keys = 8
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	l := &Load{t: h.t, host: h, limit: int64(o.Limit), cancel: cancel, statuses: map[int]int{}}
	for i := range o.Conns {
		s := &sender{accepted: make([][]bool, o.Keys)}
		for k := range o.Keys {
			s.keys = append(s.keys, fmt.Sprintf("%s%d-%d", o.Name, i, k))
		}
		l.conns = append(l.conns, s)
		l.done.Go(func() { l.send(ctx, s, o) })
	}
	return l
}

// Stop ends the load and returns when no request is under way.
func (l *Load) Stop() {
	l.cancel()
	l.done.Wait()
}

// Wait returns when the load has reached its limit.
func (l *Load) Wait() { l.done.Wait() }

// Accepted is how many events got 2xx so far, each counted once.
func (l *Load) Accepted() int64 { return l.accepted.Load() }

// Unanswered is how many requests got no answer.
func (l *Load) Unanswered() int64 { return l.unanswered.Load() }

// Refused is how many requests got another answer than 2xx; Statuses has which.
func (l *Load) Refused() int64 { return l.refused.Load() }

// Statuses counts the answers by status, after Stop.
func (l *Load) Statuses() map[int]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statuses
}

// WaitAccepted waits until n events were accepted.
func (l *Load) WaitAccepted(n int64, within time.Duration) {
	l.t.Helper()
	l.host.Eventually(within, fmt.Sprintf("%d events are accepted", n), func() bool { return l.Accepted() >= n })
}

func (l *Load) send(ctx context.Context, s *sender, o LoadOptions) {
	numbers := make([]int, o.Keys)
	var conn net.Conn
	var r *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	started := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if l.limit > 0 && l.begun.Add(1) > l.limit {
			return
		}
		if o.Rate > 0 {
			pause(ctx, time.Until(started.Add(time.Duration(n)*time.Second*time.Duration(o.Conns)/time.Duration(o.Rate))))
		}
		k := n % o.Keys
		number := numbers[k]
		numbers[k]++
		s.accepted[k] = append(s.accepted[k], false)
		request := request(Youforce(o.Source, s.keys[k], number))
		for {
			if conn == nil {
				c, err := net.DialTimeout("tcp", l.host.Address, time.Second)
				if err != nil {
					if pause(ctx, 2*time.Millisecond); ctx.Err() != nil {
						return
					}
					continue
				}
				conn, r = c, bufio.NewReader(c)
			}
			began := time.Now()
			status, err := exchange(conn, r, request)
			if err == nil && status/100 == 2 {
				s.accepted[k][number] = true
				l.accepted.Add(1)
				l.count(status)
				l.answered(began)
				break
			}
			if err == nil {
				l.refused.Add(1)
				l.count(status)
				pause(ctx, 2*time.Millisecond)
			} else {
				l.unanswered.Add(1)
			}
			_ = conn.Close()
			conn = nil
			if ctx.Err() != nil || rand.IntN(2) == 0 {
				l.begun.Add(-1)
				break
			}
		}
	}
}

func (l *Load) count(status int) {
	l.mu.Lock()
	l.statuses[status]++
	l.mu.Unlock()
}

func (l *Load) answered(began time.Time) {
	now := time.Now()
	l.mu.Lock()
	l.took = append(l.took, Took{now, now.Sub(began)})
	l.mu.Unlock()
}

// request is the bytes of a request.
func request(p Post) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: e2e\r\nContent-Length: %d\r\n", p.Path, len(p.Body))
	for name, values := range p.Header {
		b = fmt.Appendf(b, "%s: %s\r\n", name, values[0])
	}
	return append(append(b, "\r\n"...), p.Body...)
}

func exchange(conn net.Conn, r *bufio.Reader, request []byte) (status int, err error) {
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// subjectOf is the subject of a key's events.
func subjectOf(key string) string { return "employment/" + key }

// Found is what Verify found.
type Found struct {
	Accepted   int64 // events that got 2xx
	Unanswered int64 // requests that got no answer
	Lines      int   // in the file
	Unasked    int   // events in the file whose requests were not answered with 2xx
	Lost       int   // accepted events that are not in the file
	Repeats    int   // lines beyond the first of their event
	OtherID    int   // repeats with another event or delivery id than the first
	Disorder   int   // first lines of an event that stand behind a later one of their key
}

func (f Found) String() string {
	return fmt.Sprintf("%d accepted, %d requests without answer; %d lines at the sink: %d lost, %d repeated "+
		"(%d of them under another id), %d out of order, %d of unanswered requests",
		f.Accepted, f.Unanswered, f.Lines, f.Lost, f.Repeats, f.OtherID, f.Disorder, f.Unasked)
}

// Verify compares lines of a sink with what the load sent, after Stop.
func (l *Load) Verify(lines []Line) Found {
	l.t.Helper()
	type place struct{ conn, key int }
	places := map[string]place{}
	for i, s := range l.conns {
		for k, key := range s.keys {
			places[subjectOf(key)] = place{i, k}
		}
	}
	f := Found{Accepted: l.Accepted(), Unanswered: l.Unanswered()}
	type first struct{ event, delivery string }
	seen := map[string]first{}
	last := map[string]int{}
	for _, line := range lines {
		at, ok := places[line.Subject]
		if !ok {
			continue // another load's
		}
		f.Lines++
		numbers := l.conns[at.conn].accepted[at.key]
		number := line.Data.Number
		if number < 0 || number >= len(numbers) {
			l.t.Errorf("a line with %s number %d, which was never sent", line.Subject, number)
			continue
		}
		id := line.Subject + "/" + strconv.Itoa(number)
		if was, ok := seen[id]; ok {
			if f.Repeats++; was != (first{line.ID, line.DeliveryID}) {
				f.OtherID++
			}
			continue
		}
		seen[id] = first{line.ID, line.DeliveryID}
		if !numbers[number] {
			f.Unasked++
		}
		if before, ok := last[line.Subject]; ok && number < before {
			f.Disorder++
		}
		last[line.Subject] = max(last[line.Subject], number)
	}
	for _, s := range l.conns {
		for k, key := range s.keys {
			for number, accepted := range s.accepted[k] {
				if _, ok := seen[subjectOf(key)+"/"+strconv.Itoa(number)]; accepted && !ok {
					f.Lost++
				}
			}
		}
	}
	return f
}
