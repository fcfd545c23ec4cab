package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// verdict is what became of one call.
type verdict int

const (
	answered verdict = iota
	silent           // no answer within its time: whether it happened is unknown
	died             // the process ended with the call in flight: unknown
	broken           // the plugin answered with an error of the transport
	given            // not made, or interrupted by the host: nobody's fault
)

// judge finds out why a call failed. For given the error is what Deliver or Decode return.
func (i *instance) judge(ctx context.Context, c *child, err error) (verdict, error) {
	if err == nil {
		return answered, nil
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return given, fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx))
	case overdue(ctx, err):
		select {
		case <-c.exited: // It died shortly before.
		default:
			return silent, nil
		}
	}
	if crashed(c, err) {
		switch {
		case c.stopping.Load():
			return given, fmt.Errorf("%w: its process was stopped", ErrNotReady)
		case i.trial.Load():
			return given, fmt.Errorf("%w: its process died while it was on trial", ErrNotReady)
		}
		return died, nil
	}
	return broken, errors.New(i.p.reason(brokenReason(err)))
}

// overdue reports whether a call failed because its time was over. The plugin's end may notice that a moment before
// ctx.
func overdue(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	by, ok := ctx.Deadline()
	return ok && status.Code(err) == codes.DeadlineExceeded && time.Until(by) < 100*time.Millisecond
}

func brokenReason(err error) string {
	s := status.Convert(err)
	if s.Code() == codes.ResourceExhausted {
		return "its answer is larger than the host accepts, or the call larger than the plugin accepts: " + s.Message()
	}
	return fmt.Sprintf("it answered with the error %s: %s", s.Code(), s.Message())
}

// crashed reports whether a call failed because the process ended. A process that is there but cannot be talked to is
// ended.
func crashed(c *child, err error) bool {
	select {
	case <-c.exited:
		return true
	default:
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled:
	default:
		return false
	}
	timer := time.NewTimer(250 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-c.exited:
		return true
	case <-timer.C:
	}
	if c.ping(context.Background()) == nil {
		return false // The plugin itself chose that status.
	}
	c.die("killed because its connection broke: " + status.Convert(err).Message())
	<-c.exited
	return true
}

// limit gives a call its deadline: ctx's, or the default. within is how long it may take. The error says that there
// is no time for a call.
func (i *instance) limit(ctx context.Context) (limited context.Context, cancel context.CancelFunc,
	within time.Duration, err error) {
	if ctx.Err() != nil {
		return nil, nil, 0, fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx))
	}
	if by, ok := ctx.Deadline(); ok {
		return ctx, func() {}, time.Until(by), nil
	}
	limited, cancel = context.WithTimeout(ctx, i.p.h.callTimeout)
	return limited, cancel, i.p.h.callTimeout, nil
}

// silence words a missing answer. What is left of a deadline is rounded to what somebody may have configured.
func silence(within time.Duration) string {
	unit := 100 * time.Millisecond
	switch {
	case within < time.Second:
		unit = time.Millisecond
	case within < 10*time.Second:
		unit = 10 * time.Millisecond
	}
	return fmt.Sprintf("no answer within %s", within.Round(unit))
}

// alone runs one call in the quarantine process, with the time that it had in the first place. It ends early only when
// ctx is canceled: a deadline that passed while the item waited for its turn is no answer.
func (i *instance) alone(ctx context.Context, within time.Duration,
	call func(ctx context.Context, c *child, id string) error) (v verdict, words string, err error) {
	free, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	defer stop()
	lane := i.p.apart
	err = lane.use(free, func(c *child) error {
		id, err := lane.open(c, i)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(free, within)
		defer cancel()
		callErr := call(ctx, c, id)
		v, err = i.judge(ctx, c, callErr)
		switch v {
		case died:
			words = i.p.redact.text(c.report())
		case silent:
			words = silence(within)
			c.kill() // It may hang on for ever; the next item gets a fresh process.
			<-c.exited
		case broken:
			words, err = err.Error(), nil
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNotReady) {
		err = fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return v, words, err
}

// isInvalidText reports whether a call failed because its answer holds text that is not UTF-8, which the wire cannot
// carry: the other end notices it or this one does.
func isInvalidText(err error) bool {
	return status.Code(err) == codes.Internal && strings.Contains(status.Convert(err).Message(), "invalid UTF-8")
}

// isOversized reports whether a message was larger than one of the ends accepts.
func isOversized(err error) bool { return status.Code(err) == codes.ResourceExhausted }
