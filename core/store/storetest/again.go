package storetest

import (
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// testSettleRenewed settles deliveries that were rendered anew before they were sent.
func testSettleRenewed(k *kit) {
	one, two := k.add("a")[0], k.add("a")[0]
	k.claims("a", one, two)
	s, again := delivered(one), retried(two, later.Add(time.Minute))
	s.Renewed, s.Message, s.ConfigDigest, s.SchemaDigest = true, []byte(`{"text":"new"}`), "c1", "s1"
	again.Renewed, again.Message, again.ConfigDigest, again.SchemaDigest = true, []byte(`{"text":"newer"}`), "c2", "s2"
	k.settle(s, again)
	for d, want := range map[*core.Delivery][]string{
		one: {`{"text":"new"}`, "c1", "s1", "delivered"}, two: {`{"text":"newer"}`, "c2", "s2", "pending"},
	} {
		got := k.delivery(d.ID).Delivery
		k.equal([]string{string(got.Message), got.ConfigDigest, got.SchemaDigest, string(got.State)}, want)
	}

	// A settlement that comes late changes no message either.
	late := dead(one)
	late.Renewed, late.Message = true, []byte(`{"text":"late"}`)
	k.settle(late)
	k.equal(string(k.delivery(one.ID).Delivery.Message), `{"text":"new"}`)
}
