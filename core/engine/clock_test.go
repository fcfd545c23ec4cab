package engine

import (
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	c := newClock()
	began := c.began.Round(0)
	for i, step := range []struct{ wall, passed, want time.Duration }{
		{0, 0, 0},
		{time.Second, time.Second, time.Second},
		{-time.Hour, 2 * time.Second, 2 * time.Second},                              // set back
		{-time.Hour + time.Second, 3 * time.Second, 3 * time.Second},                // and goes on from there
		{4 * time.Second, 4 * time.Second, 4 * time.Second},                         // right again
		{24 * time.Hour, 5 * time.Second, 24 * time.Hour},                           // set forward
		{6 * time.Second, 6 * time.Second, 24*time.Hour + time.Second},              // by mistake
		{48 * time.Hour, 7 * time.Second, 48 * time.Hour},                           // further
		{48*time.Hour + time.Second, 8 * time.Second, 48*time.Hour + time.Second},   // on
		{time.Second - 48*time.Hour, 9 * time.Second, 48*time.Hour + 2*time.Second}, // far back
	} {
		if got := c.at(began.Add(step.wall), step.passed).Sub(began); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	before := time.Now()
	if now := newClock().now(); now.Before(before.Round(0)) || now.Sub(before) > time.Minute {
		t.Errorf("now is %s at %s", now, before)
	}
}
