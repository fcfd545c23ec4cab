package admin

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// skipping is the body of a command that skips deliveries, and pausing of one that pauses a sink.
type (
	skipping struct {
		IDs    []string `json:"ids"`
		Reason string   `json:"reason"`
	}
	pausing struct {
		Reason string `json:"reason"`
	}
	resumed struct {
		Resumed bool `json:"resumed"` // false: nothing kept it from work
	}
)

// SkipDeliveries implements Control.
func (c *Direct) SkipDeliveries(ctx context.Context, ids []string, reason string) (Page[Delivery], error) {
	ds, err := c.Store.SkipDeliveries(ctx, ids, reason)
	c.wake(ds) // their order keys may go on
	return viewAll(ds, "", viewDelivery), err
}

// PauseSink implements Control.
func (c *Direct) PauseSink(ctx context.Context, sink, reason string) error {
	if err := c.known(ctx, sink); err != nil {
		return err
	}
	if err := c.Store.PauseSink(ctx, sink, reason, time.Now()); err != nil {
		return err
	}
	if c.Engine != nil {
		c.Engine.Pause(sink, reason)
	}
	return nil
}

// ResumeSink implements Control.
func (c *Direct) ResumeSink(ctx context.Context, sink string) (bool, error) {
	if err := c.known(ctx, sink); err != nil {
		return false, err
	}
	kept, err := c.Store.Sinks(ctx)
	if err != nil {
		return false, err
	}
	changed := !kept[sink].PausedAt.IsZero()
	if err := c.Store.ResumeSink(ctx, sink); err != nil {
		return false, err
	}
	if c.Engine != nil && c.Engine.Resume(sink) {
		changed = true
	}
	return changed, nil
}

// known fails for a sink that the host does not have, and that has no deliveries.
func (c *Direct) known(ctx context.Context, sink string) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for name := range s.Stats.Deliveries {
		names[name] = true
	}
	for _, v := range s.Sinks {
		names[v.Sink] = true
	}
	if !names[sink] {
		return notFound(fmt.Sprintf("there is no sink %q, only %s", sink,
			strings.Join(slices.Sorted(maps.Keys(names)), ", ")))
	}
	return nil
}

// SkipDeliveries implements Control.
func (c *Client) SkipDeliveries(ctx context.Context, list []string, reason string) (v Page[Delivery], err error) {
	err = c.post(ctx, "deliveries/skip", skipping{list, reason}, &v)
	return v, err
}

// PauseSink implements Control.
func (c *Client) PauseSink(ctx context.Context, sink, reason string) error {
	var v struct{}
	return c.post(ctx, "sinks/"+url.PathEscape(sink)+"/pause", pausing{reason}, &v)
}

// ResumeSink implements Control.
func (c *Client) ResumeSink(ctx context.Context, sink string) (bool, error) {
	var v resumed
	err := c.post(ctx, "sinks/"+url.PathEscape(sink)+"/resume", struct{}{}, &v)
	return v.Resumed, err
}
