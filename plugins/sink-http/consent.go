package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/grapnelhq/grapnel/sdk"
)

// consent asks an endpoint whether it wants events, as CloudEvents' web hooks have it: once for every opened sink. A
// nil consent is given.
type consent struct {
	AbuseProtection
	given atomic.Bool
	rate  atomic.Int64 // requests per minute that the endpoint allows; 0: any
	told  atomic.Bool  // of the rate
	turn  chan struct{}
}

// obtain returns nil when the endpoint has consented. It blocks while that is being asked, at most until ctx ends. Its
// errors are outcomes.
func (c *consent) obtain(ctx context.Context, s *sink) error {
	if c == nil || c.given.Load() {
		return nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return errors.New("the call was cancelled")
	}
	if c.given.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	more := http.Header{}
	if c.Rate > 0 {
		more["Webhook-Request-Rate"] = []string{strconv.Itoa(c.Rate)}
	}
	a, err := s.options(ctx, more)
	if err != nil {
		return s.unreachable(ctx, err)
	}
	if v := s.set.classes.of(a.status).class; v == classRetry {
		return s.judge(&request{}, a).outcome
	}
	allowed := a.header.Get("WebHook-Allowed-Origin")
	if a.status/100 != 2 || allowed != "*" && !strings.EqualFold(allowed, c.Origin) {
		return sdk.Suspend(fmt.Errorf("the endpoint does not consent to events from %s: it answers %s",
			c.Origin, statusText(a.status)))
	}
	if n, err := strconv.ParseInt(a.header.Get("WebHook-Allowed-Rate"), 10, 64); err == nil && n > 0 {
		c.rate.Store(n)
	}
	c.given.Store(true)
	return nil
}

// tell notes, once, with a delivery what rate the endpoint allows: the host's settings decide.
func (c *consent) tell(d *delivery) {
	if c == nil || c.rate.Load() == 0 || c.told.Swap(true) {
		return
	}
	n := c.rate.Load()
	d.Note(fmt.Sprintf(`the endpoint allows %d requests per minute; write rate = "%d/m" in delivery { }`, n, n))
}

// options sends OPTIONS with the sink's credentials.
func (s *sink) options(ctx context.Context, more http.Header) (*answer, error) {
	h := s.set.header.Clone()
	for name, values := range more {
		h[name] = values
	}
	if s.tokens != nil {
		token, err := s.tokens.get(ctx)
		if err != nil {
			return nil, err
		}
		h["Authorization"] = []string{token.value}
	}
	return s.exchange(ctx, http.MethodOptions, s.set.url, h, nil)
}
