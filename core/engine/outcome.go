package engine

import (
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// maxCrashes is how many processes, alone with it in quarantine, a request or delivery may kill before it is dead.
const maxCrashes = 3

// settlement is a pure function: it says what an attempt's outcome means for the delivery.
//
//	delivered, skipped ──► that state
//	rejected ──► dead
//	retry    ──► pending, due after the policy's pause; dead when the policy gives up
//	crashed  ──► as retry; dead at the third
//	suspend  ──► pending at once, not charged
func settlement(d *core.Delivery, o core.Outcome, p RetryPolicy, started time.Time, took time.Duration, random float64) store.Settlement {
	now := started.Add(took)
	s := store.Settlement{
		Key:     d.Key,
		Charge:  true,
		Crashes: d.Crashes,
		Reason:  o.Reason,
		Attempt: &core.Attempt{
			Number: d.Attempts + 1, At: started, Took: took, Outcome: o.Kind, Reason: o.Reason, Notes: o.Notes,
		},
		Sink: d.Sink, OrderKey: d.OrderKey,
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
		if s.Crashes >= maxCrashes {
			s.State = core.DeliveryDead
			s.Reason = fmt.Sprintf("the sink's process died %d times on this delivery alone: %s", s.Crashes, o.Reason)
			break
		}
		fallthrough
	default: // retry, and whatever a plugin of a later version may say
		first := d.FirstAttempt
		if first.IsZero() {
			first = started
		}
		pause, ok := p.next(d.Attempts+1, first, now, o.After, random)
		if !ok {
			s.State = core.DeliveryDead
			s.Reason = fmt.Sprintf("given up after %d attempts: %s", d.Attempts+1, o.Reason)
			break
		}
		s.State, s.Due = core.DeliveryPending, now.Add(pause)
	}
	return s
}
