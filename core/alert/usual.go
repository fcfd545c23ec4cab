package alert

import (
	"slices"
	"time"
)

// What is usual for a source is learned from itself: of each hour of the last four weeks, the longest silence that there was
// in it. A silence is unusual when it is twice as long as the longest at the same hour (or the one before or after) of the
// same weekday in past weeks, of which the worst does not count where there are three; nights, weekends and the daily batch
// are in that by themselves. Until there are two such weeks, it is compared with all of the last seven days.
const (
	unusual   = 2 // times
	keptHours = 28*24 + 2
	week      = 7 * 24
)

// quiet is what is known about a source's silences.
type quiet struct {
	Last time.Time `json:"last"` // when it last sent something, or was first seen; later by what the host was down since
	Came int64     `json:"came"` // grows with what it sends
	// Hours has the longest silence of each hour from From on, in seconds; -1: nobody listened then.
	From  int64   `json:"from"` // hours since 1970
	Hours []int32 `json:"hours"`
}

// listen notes what a source has sent since the last snapshot.
func (e *Evaluator) listen(s *Source, now time.Time) {
	q := e.s.Quiet[s.Name]
	if q == nil {
		q = &quiet{Last: now}
		e.s.Quiet[s.Name] = q
	}
	q.note(now)
	if before := e.before[KindSource+"/"+s.Name].received; s.Received != before && (s.Received > 0 || before > 0) {
		q.Last = now
		q.Came++
	}
}

// note enters the silence as it is now into its hour.
func (q *quiet) note(now time.Time) {
	h := now.Unix() / 3600
	switch {
	case len(q.Hours) == 0 || h < q.From || h-q.From > 4*keptHours: // a new one, or the clock went far
		q.From, q.Hours = h, []int32{-1}
	case h-q.From >= keptHours:
		drop := min(h-q.From-keptHours+1, int64(len(q.Hours)))
		q.Hours, q.From = slices.Delete(q.Hours, 0, int(drop)), q.From+drop
		if len(q.Hours) == 0 {
			q.From = h
		}
	}
	for int64(len(q.Hours)) <= h-q.From {
		q.Hours = append(q.Hours, -1)
	}
	i := h - q.From
	q.Hours[i] = max(q.Hours[i], int32(min(now.Sub(q.Last)/time.Second, 1<<30)))
}

// at is the longest silence around an hour; not ok: it is not known.
func (q *quiet) at(h int64) (longest int32, ok bool) {
	known := 0
	for i := h - 1 - q.From; i <= h+1-q.From; i++ {
		if i >= 0 && i < int64(len(q.Hours)) && q.Hours[i] >= 0 {
			known++
			longest = max(longest, q.Hours[i])
		}
	}
	return longest, known >= 2
}

// usual is the longest silence that is usual at a time; not ok: it is not known yet.
func (q *quiet) usual(now time.Time) (longest time.Duration, ok bool) {
	h := now.Unix() / 3600
	var weeks []int32
	for k := int64(1); k <= 4; k++ {
		if s, ok := q.at(h - k*week); ok {
			weeks = append(weeks, s)
		}
	}
	if len(weeks) >= 2 {
		slices.Sort(weeks)
		i := len(weeks) - 1
		if len(weeks) >= 3 {
			i--
		}
		return time.Duration(weeks[i]) * time.Second, true
	}
	var most int32
	for k := int64(1); k <= 7; k++ {
		s, ok := q.at(h - k*24)
		if !ok {
			return 0, false
		}
		most = max(most, s)
	}
	return time.Duration(most) * time.Second, true
}

// Learn enters past requests of a source, oldest first, of which nothing is known yet: those of before the alerts were
// written. With what is known already it does nothing.
func (e *Evaluator) Learn(source string, received []time.Time) {
	if q := e.s.Quiet[source]; q != nil || len(received) == 0 {
		return
	}
	q := &quiet{Last: received[0]}
	for _, at := range received {
		for h := q.Last.Truncate(time.Hour).Add(time.Hour); h.Before(at); h = h.Add(time.Hour) {
			q.note(h.Add(-time.Second)) // the silence at the end of each hour that it lasted
		}
		q.note(at)
		q.Last = at
	}
	e.s.Quiet[source] = q
	e.dirty = true
}

// Knows reports whether there is anything known of a source's silences.
func (e *Evaluator) Knows(source string) bool { return e.s.Quiet[source] != nil }
