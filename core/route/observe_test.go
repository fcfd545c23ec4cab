package route

import (
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/expr"
)

type timed struct {
	t     *testing.T
	times int
}

func (s *timed) Evaluated(took time.Duration) {
	if s.times++; took < 0 {
		s.t.Errorf("it took %s", took)
	}
}

// TestObserve times each route that listens to an event's type, also one whose condition says no, on a sample of events.
func TestObserve(t *testing.T) {
	b := builder{t, expr.NewSet(nil, nil)}
	table := NewTable([]Route{
		{Name: "all", To: []To{b.to("a", `text = "x"`), b.to("b", `text = "y"`)}},
		{Name: "never", When: b.when(`event.data.n > 41`), To: []To{b.to("a", `text = "no"`)}},
		{Name: "other_type", On: []string{"y.*"}, To: []To{b.to("a", `text = "no"`)}},
	}, b.set, "")
	seen := map[string]*timed{}
	router := table.Router("people").Observe(func(route string) Observer {
		seen[route] = &timed{t: t}
		return seen[route]
	})
	r, ev := request()
	for range 10 * observeShare {
		if ds, err := router.Route(nil, r, ev); err != nil || len(ds) != 2 {
			t.Fatal(len(ds), err)
		}
	}
	if seen["all"].times != 10 || seen["never"].times != 10 || seen["other_type"].times != 0 {
		t.Errorf("all %d, never %d, other_type %d", seen["all"].times, seen["never"].times, seen["other_type"].times)
	}
}
