package engine

import (
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestSettlement(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended := started.Add(time.Hour) // by another clock
	policy := RetryPolicy{MaxAttempts: 3, MaxAge: time.Hour, Min: time.Second, Max: time.Minute}
	tests := []struct {
		name     string
		delivery core.Delivery
		outcome  core.Outcome
		probe    bool
		state    core.DeliveryState
		pause    time.Duration
		charge   bool
		crashes  int
	}{
		{name: "delivered", outcome: core.Outcome{Kind: sdk.Delivered}, state: core.DeliveryDelivered, charge: true},
		{name: "skipped", outcome: core.Outcome{Kind: sdk.Skipped}, state: core.DeliverySkipped, charge: true},
		{name: "rejected", outcome: core.Outcome{Kind: sdk.Rejected}, state: core.DeliveryDead, charge: true},
		{name: "suspended", outcome: core.Outcome{Kind: sdk.Suspended}, state: core.DeliveryPending},
		{
			name: "first retry", outcome: core.Outcome{Kind: sdk.Retried},
			state: core.DeliveryPending, pause: 500 * time.Millisecond, charge: true,
		},
		{
			name:     "second retry",
			delivery: core.Delivery{Attempts: 1, FirstAttempt: started.Add(-time.Minute), FirstActive: 119 * time.Minute},
			outcome:  core.Outcome{Kind: sdk.Retried}, state: core.DeliveryPending, pause: time.Second, charge: true,
		},
		{
			name: "retry after", outcome: core.Outcome{Kind: sdk.Retried, After: 10 * time.Minute},
			state: core.DeliveryPending, pause: 10 * time.Minute, charge: true,
		},
		{
			name: "retry after a year", outcome: core.Outcome{Kind: sdk.Retried, After: 365 * 24 * time.Hour},
			state: core.DeliveryPending, pause: 24 * time.Hour, charge: true,
		},
		{
			name: "last attempt", delivery: core.Delivery{Attempts: 2, FirstAttempt: started.Add(-time.Minute)},
			outcome: core.Outcome{Kind: sdk.Retried}, state: core.DeliveryDead, charge: true,
		},
		{
			name: "too old", delivery: core.Delivery{Attempts: 1, FirstAttempt: started.Add(-time.Hour), FirstActive: time.Hour},
			outcome: core.Outcome{Kind: sdk.Retried}, state: core.DeliveryDead, charge: true,
		},
		{
			name:     "old, and its sink was left alone",
			delivery: core.Delivery{Attempts: 1, FirstAttempt: started.Add(-48 * time.Hour), FirstActive: 90 * time.Minute},
			outcome:  core.Outcome{Kind: sdk.Retried}, state: core.DeliveryPending, pause: time.Second, charge: true,
		},
		{
			name: "probe", delivery: core.Delivery{Attempts: 2, FirstAttempt: started.Add(-time.Hour)}, probe: true,
			outcome: core.Outcome{Kind: sdk.Retried}, state: core.DeliveryPending, pause: 2 * time.Second,
		},
		{name: "probe that worked", probe: true, outcome: core.Outcome{Kind: sdk.Delivered}, state: core.DeliveryDelivered, charge: true},
		{
			name: "crashed", outcome: core.Outcome{Kind: core.Crashed},
			state: core.DeliveryPending, pause: 500 * time.Millisecond, charge: true, crashes: 1,
		},
		{
			name: "crashed for the third time", delivery: core.Delivery{Crashes: 2}, outcome: core.Outcome{Kind: core.Crashed},
			state: core.DeliveryDead, charge: true, crashes: 3,
		},
		{
			name: "a word of a later version", outcome: core.Outcome{Kind: "postponed"},
			state: core.DeliveryPending, pause: 500 * time.Millisecond, charge: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := settlement(&tt.delivery, tt.outcome, policy,
				attempt{started: started, ended: ended, active: 2 * time.Hour, probe: tt.probe, random: 0.5})
			if s.State != tt.state || s.Charge != tt.charge || s.Crashes != tt.crashes {
				t.Errorf("got %s, charge %v, crashes %d", s.State, s.Charge, s.Crashes)
			}
			if tt.state == core.DeliveryPending && s.Due.Sub(ended) != tt.pause {
				t.Errorf("due after %s, want %s", s.Due.Sub(ended), tt.pause)
			}
		})
	}
}

func TestRetryPauseGrowsAndIsBounded(t *testing.T) {
	p := RetryPolicy{}.withDefaults()
	var last time.Duration
	for attempts := 1; attempts < p.MaxAttempts; attempts++ {
		pause := p.pause(attempts, 0, 0.999999)
		if pause < last || pause > p.Max {
			t.Errorf("attempt %d: pause %s after %s", attempts, pause, last)
		}
		last = pause
	}
	if last < p.Max-time.Second {
		t.Errorf("the pause ends at %s, never near %s", last, p.Max)
	}
}
