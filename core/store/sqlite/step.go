package sqlite

import (
	"context"
	"time"
)

// Long work, such as a purge, goes through the writer in steps: whoever accepts meanwhile waits for one step, and the
// writer has most of its time for others.
const (
	stepTime   = time.Millisecond // of the writer, for one step
	stepRest   = 9                // then it is left alone for so many times as long as the step took
	stepWeight = 1024             // of a step in its group
)

// stepped runs apply in a transaction of the writer, as o, and then leaves the writer alone for a while. apply is to
// return soon after until, and to do something before. An error means that nothing was committed.
func (s *Store) stepped(ctx context.Context, o *op, apply func(w *writer, until time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var took time.Duration
	o.weight = stepWeight
	o.apply = func(w *writer) error {
		began := time.Now()
		err := apply(w, began.Add(stepTime))
		took = time.Since(began)
		return err
	}
	if err := s.do(ctx, o); err != nil {
		return err
	}
	s.rest(ctx, stepRest*took)
	return nil
}

// rest waits, unless ctx ends or the store closes, which the next operation tells.
func (s *Store) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.live.Done():
	}
}
