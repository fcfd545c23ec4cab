package main

import (
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/cloudevents"
)

// appendLine appends a delivery's line without its end: the record that the route asked for, or the event as
// CloudEvents 1.0 JSON. All tokens stay as they are.
func appendLine(b []byte, d *sdk.Delivery[Message]) []byte {
	if r := d.Message.Record; len(r) > 0 && string(r) != "null" {
		return cloudevents.AppendJSON(b, r)
	}
	return cloudevents.Append(b, d, d.Data)
}
