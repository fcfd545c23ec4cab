package admin

import (
	"context"
	"time"
)

// Rates are the counts of the last hour. All lists are of the same length, the oldest bucket first; the last one has begun
// and grows.
type Rates struct {
	Start       time.Time     `json:"start"`        // of the first bucket
	StepSeconds int           `json:"step_seconds"` // length of a bucket
	Since       time.Time     `json:"since"`        // when the host began to count; earlier buckets are empty
	Sources     []SourceRates `json:"sources"`
	Routes      []RouteRates  `json:"routes"`
	Sinks       []SinkRates   `json:"sinks"`
	Nowhere     []int64       `json:"nowhere"` // rejected requests that no source has
}

// SourceRates counts a source's requests.
type SourceRates struct {
	Source     string  `json:"source"`
	Accepted   []int64 `json:"accepted"`
	Rejected   []int64 `json:"rejected"`
	Duplicates []int64 `json:"duplicates"`
}

// RouteRates counts the events that a route matched. A route is in the list from the first one on.
type RouteRates struct {
	Route   string  `json:"route"`
	Matched []int64 `json:"matched"`
}

// SinkRates counts a sink's deliveries.
type SinkRates struct {
	Sink      string  `json:"sink"`
	Delivered []int64 `json:"delivered"`
	Failed    []int64 `json:"failed"`  // attempts that neither delivered nor were skipped
	Backlog   []int64 `json:"backlog"` // pending, at the end of the bucket
}

// Rates implements Control.
func (c *Direct) Rates(context.Context) (Rates, error) {
	if c.Rater == nil {
		return Rates{}, ErrNotRunning
	}
	return c.Rater(), nil
}

// Rates implements Control.
func (c *Client) Rates(ctx context.Context) (v Rates, err error) {
	err = c.get(ctx, "rates", "", &v)
	return v, err
}
