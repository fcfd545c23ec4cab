package admin

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRates passes the last hour on as it is.
func TestRates(t *testing.T) {
	s := serve(t, shortTemp(t))
	if _, err := s.client.Rates(t.Context()); err == nil || err.Error() != ErrNotRunning.Error() {
		t.Errorf("without a running host: %v", err)
	}
	want := Rates{
		Start: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), StepSeconds: 10, Since: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC),
		Sources: []SourceRates{{"hr", []int64{1, 2}, []int64{3, 4}, []int64{5, 6}}},
		Routes:  []RouteRates{{"all", []int64{7, 8}}}, Sinks: []SinkRates{{"out", []int64{9, 1}, []int64{2, 3}, []int64{4, 5}}},
		Nowhere: []int64{0, 1},
	}
	s.direct.Rater = func() Rates { return want }
	got, err := s.client.Rates(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
