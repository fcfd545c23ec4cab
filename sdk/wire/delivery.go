package wire

import (
	"encoding/json"
	"math"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// EnvelopeToProto converts an envelope.
func EnvelopeToProto(e *sdk.Envelope) *pluginv1.Envelope {
	return &pluginv1.Envelope{
		Id:           text(e.ID),
		Source:       text(e.Source),
		Type:         text(e.Type),
		Subject:      text(e.Subject),
		Time:         text(e.Time),
		PartitionKey: text(e.PartitionKey),
		Provider:     text(e.Provider),
		Operation:    text(e.Operation),
		Tenant:       text(e.Tenant),
	}
}

// EnvelopeFromProto converts an envelope.
func EnvelopeFromProto(e *pluginv1.Envelope) sdk.Envelope {
	return sdk.Envelope{
		ID:           e.GetId(),
		Source:       e.GetSource(),
		Type:         e.GetType(),
		Subject:      e.GetSubject(),
		Time:         e.GetTime(),
		PartitionKey: e.GetPartitionKey(),
		Provider:     e.GetProvider(),
		Operation:    e.GetOperation(),
		Tenant:       e.GetTenant(),
	}
}

// DeliveryToProto converts a delivery. Message, data and state are not copied.
func DeliveryToProto(d *sdk.Delivery[json.RawMessage]) *pluginv1.Delivery {
	return &pluginv1.Delivery{
		Id:          text(d.ID),
		Attempt:     int32(d.Attempt),
		Sequence:    d.Sequence,
		Route:       text(d.Route),
		OrderKey:    text(d.OrderKey),
		State:       d.State,
		Event:       EnvelopeToProto(&d.Event),
		Message:     d.Message,
		Data:        d.Data,
		Traceparent: text(d.TraceParent),
		Replay:      d.Replay,
		Force:       d.Force,
	}
}

// DeliveryFromProto converts a delivery. Message, data and state are not copied.
func DeliveryFromProto(d *pluginv1.Delivery) *sdk.Delivery[json.RawMessage] {
	return &sdk.Delivery[json.RawMessage]{
		ID:          d.GetId(),
		Attempt:     int(d.GetAttempt()),
		Sequence:    d.GetSequence(),
		Route:       d.GetRoute(),
		OrderKey:    d.GetOrderKey(),
		State:       d.GetState(),
		Event:       EnvelopeFromProto(d.GetEvent()),
		Message:     d.GetMessage(),
		Data:        d.GetData(),
		TraceParent: d.GetTraceparent(),
		Replay:      d.GetReplay(),
		Force:       d.GetForce(),
	}
}

var outcomes = enum[sdk.OutcomeKind, pluginv1.Outcome_Kind]{
	{sdk.Delivered, pluginv1.Outcome_KIND_DELIVERED},
	{sdk.Retried, pluginv1.Outcome_KIND_RETRY},
	{sdk.Rejected, pluginv1.Outcome_KIND_REJECTED},
	{sdk.Skipped, pluginv1.Outcome_KIND_SKIPPED},
	{sdk.Suspended, pluginv1.Outcome_KIND_SUSPEND},
}

// OutcomeToProto converts an outcome. After goes up to the next millisecond.
func OutcomeToProto(o *sdk.Outcome) *pluginv1.Outcome {
	var unknown problems // ends as unspecified, which counts as retry
	out := &pluginv1.Outcome{
		DeliveryId:    text(o.DeliveryID),
		Kind:          outcomes.number(&unknown, "outcome", o.Kind),
		Reason:        Text(o.Reason),
		AfterMs:       milliseconds(o.After),
		Reference:     Text(o.Reference),
		AttributePath: texts(o.AttributePath),
		Notes:         NotesToProto(o.Notes),
		Spans:         spansToProto(o.Spans),
	}
	if o.StateSet {
		out.State = o.State
		if out.State == nil {
			out.State = []byte{} // there, and empty: forget
		}
	}
	return out
}

// OutcomeFromProto converts an outcome. A kind that is not there or not known is a retry.
func OutcomeFromProto(o *pluginv1.Outcome) sdk.Outcome {
	var unknown problems
	out := sdk.Outcome{
		DeliveryID:    o.GetDeliveryId(),
		Kind:          outcomes.word(&unknown, "outcome", o.GetKind()),
		Reason:        o.GetReason(),
		After:         Milliseconds(o.GetAfterMs()),
		Reference:     o.GetReference(),
		AttributePath: o.GetAttributePath(),
		State:         o.GetState(),
		StateSet:      o.State != nil,
		Notes:         NotesFromProto(o.GetNotes()),
		Spans:         spansFromProto(o.GetSpans()),
	}
	if out.Kind == "" {
		out.Kind, out.Reason = sdk.Retried, "the plugin gave no outcome that this version knows"
	}
	return out
}

// Milliseconds makes a duration of a number from the wire, where anything may stand: it is never negative, and as long
// as a duration can be. How long a pause may be is for those to say who make it.
func Milliseconds(ms int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(ms, 0), most)) * time.Millisecond
}

// milliseconds rounds up to what the wire can say.
func milliseconds(d time.Duration) int64 {
	ms := max(d, 0).Milliseconds()
	if d > time.Duration(ms)*time.Millisecond {
		ms++
	}
	return ms
}
