package engine

import (
	"cmp"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// attempt is what settlement knows of a call beside its outcome.
type attempt struct {
	started time.Time
	took    time.Duration
	ended   time.Time     // by the clock of due times
	active  time.Duration // the sink's active time when it started
	probe   bool          // it went out to see whether the sink works
	random  float64       // in [0, 1), for jitter
}

// settlement is a pure function: it says what an attempt's outcome means for the delivery.
//
//	delivered, skipped ──► that state
//	rejected ──► dead
//	retry    ──► pending, due after the policy's pause; dead when the policy gives up
//	crashed  ──► as retry; dead at the third
//	suspend  ──► pending at once, not charged
//
// A probe that ends in a retry tells of the sink, not of the delivery, which is not charged for it.
func settlement(d *core.Delivery, o core.Outcome, p RetryPolicy, a attempt) store.Settlement {
	now := a.ended
	s := store.Settlement{
		Key:     d.Key,
		Of:      d,
		Charge:  true,
		Crashes: d.Crashes,
		Reason:  o.Reason,
		Attempt: &core.Attempt{
			Number: d.Attempts + 1, At: a.started, Took: a.took, Outcome: o.Kind, Reason: o.Reason, Notes: o.Notes,
		},
		Active: a.active, Sink: d.Sink, OrderKey: d.OrderKey,
	}
	if d.Renewed {
		s.Renewed, s.Message, s.ConfigDigest, s.SchemaDigest = true, d.Message, d.ConfigDigest, d.SchemaDigest
	}
	if o.StateSet && d.OrderKey != "" {
		s.KeyState, s.StateSet = o.State, true
	}
	switch o.Kind {
	case sdk.Delivered:
		s.State, s.Reference = core.DeliveryDelivered, o.Reference
	case sdk.Skipped:
		s.State = core.DeliverySkipped
	case sdk.Rejected:
		s.State, s.AttributePath = core.DeliveryDead, o.AttributePath
	case sdk.Suspended:
		s.State, s.Due, s.Charge = core.DeliveryPending, now, false
	case core.Crashed:
		s.Crashes++
		if s.Crashes >= core.MaxCrashes {
			s.State = core.DeliveryDead
			s.Reason = fmt.Sprintf("the sink's process died %d times on this delivery alone: %s", s.Crashes, o.Reason)
			break
		}
		fallthrough
	default: // retry, and whatever a plugin of a later version may say
		if a.probe && o.Kind != core.Crashed {
			s.State, s.Charge, s.Due = core.DeliveryPending, false, now.Add(p.pause(d.Attempts+1, o.After, a.random))
			break
		}
		age := a.took
		if !d.FirstAttempt.IsZero() {
			age += a.active - d.FirstActive
		}
		if d.Attempts+1 >= p.MaxAttempts || age >= p.MaxAge {
			s.State = core.DeliveryDead
			s.Reason = fmt.Sprintf("given up after %d attempts: %s", d.Attempts+1, o.Reason)
			break
		}
		s.State, s.Due = core.DeliveryPending, now.Add(p.pause(d.Attempts+1, o.After, a.random))
	}
	return s
}

// judge is a pure function: it says what a call's outcomes mean for the sink.
func judge(outcomes []core.Outcome) result {
	r := result{failed: true}
	for _, o := range outcomes {
		switch o.Kind {
		case sdk.Suspended:
			r.suspend, r.reason = true, cmp.Or(o.Reason, "the sink asked for it")
		case sdk.Delivered, sdk.Skipped, sdk.Rejected:
			r.failed = false
		default:
			r.after = max(r.after, o.After)
			if !r.suspend {
				r.reason = cmp.Or(o.Reason, r.reason)
			}
		}
	}
	return r
}
