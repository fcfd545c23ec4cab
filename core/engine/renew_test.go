package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/engine"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// TestRenew has deliveries wait for a sink while the configuration changes: each is rendered anew when it is claimed,
// or ends without a call, and order holds.
func TestRenew(t *testing.T) {
	const keys, perKey, all = 5, 10, 60
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newSink()
		s.err = errors.New("the process is down")
		h := start(t, dir, &decoder{}, map[string]*sink{"a": s}, nil)
		h.acceptAll(keys, perKey)
		h.accept("gone", `"dead"`)
		h.accept("gone", `"skipped"`)
		for n := range perKey { // behind those that end
			h.accept("gone", fmt.Sprintf("[%d,%d]", keys, n))
		}
		h.close()

		s.err = nil
		s.deliver = func(d *core.Delivery) core.Outcome {
			if string(d.Message) != `{"new":true}` {
				t.Errorf("%s was sent %s", d.Event.Data, d.Message)
			}
			if d.Attempts == 0 && string(d.Event.Data) == "[3,3]" {
				return core.Outcome{Kind: sdk.Retried, Reason: "busy"}
			}
			return core.Outcome{Kind: sdk.Delivered}
		}
		failures, renewed := 3, map[string]int{}
		h = start(t, dir, &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) {
			es.Renew = func(_ context.Context, d *core.Delivery) error {
				if failures > 0 {
					failures--
					return errors.New("the store cannot be read")
				}
				if d.ConfigDigest == "new" {
					return nil
				}
				renewed[string(d.Event.Data)]++
				switch string(d.Event.Data) {
				case `"dead"`:
					d.State, d.Reason, d.RouteRange = core.DeliveryDead, "no such route", "config.hcl:1,2-3"
				case `"skipped"`:
					d.State, d.Reason = core.DeliverySkipped, "not any more"
				default:
					d.Message, d.ConfigDigest, d.SchemaDigest, d.Renewed = []byte(`{"new":true}`), "new", "schema", true
				}
				return nil
			}
		})
		defer h.close()
		until(t, "all is settled", func() bool {
			st, err := h.store.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n := st.Deliveries["a"]
			return n[core.DeliveryDelivered] == all && n[core.DeliveryDead] == 1 && n[core.DeliverySkipped] == 1
		})
		checkOrder(t, s.got, keys+1, perKey)
		if len(s.got) != all || renewed["[3,3]"] != 1 {
			t.Errorf("%d were delivered, and one that was tried again was rendered %d times", len(s.got), renewed["[3,3]"])
		}
		ds, _, err := h.store.ListDeliveries(t.Context(), store.DeliveryFilter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, d := range ds {
			got[fmt.Sprintf("%s %s %s %s %s %s", d.State, d.Message, d.ConfigDigest, d.SchemaDigest, d.Reason, d.RouteRange)]++
		}
		for what, n := range map[string]int{
			`delivered {"new":true} new schema  `:      all,
			`dead {}   no such route config.hcl:1,2-3`: 1,
			`skipped {}   not any more `:               1,
		} {
			if got[what] != n {
				t.Errorf("%d are %q, not %d: %v", got[what], what, n, got)
			}
		}
	})
}

// TestRenewGivesBack stops the host while it cannot be said what a claimed delivery is to be.
func TestRenewGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newSink()
		s.err = errors.New("the process is down")
		h := start(t, dir, &decoder{}, map[string]*sink{"a": s}, nil)
		for n := range 20 {
			h.accept("k"+strconv.Itoa(n%3), strconv.Itoa(n))
		}
		h.close()
		s.err = nil
		h = start(t, dir, &decoder{}, map[string]*sink{"a": s}, func(es *engine.Sink) {
			es.Renew = func(context.Context, *core.Delivery) error { return errors.New("the store cannot be read") }
		})
		time.Sleep(time.Minute)
		st, err := h.store.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := st.Deliveries["a"]; n[core.DeliveryPending] != 20 || s.count() != 0 {
			t.Errorf("%v, %d delivered", n, s.count())
		}
		h.close()
	})
}

// retry makes a dead delivery pending as it is.
func (h *host) retry(id string) {
	h.t.Helper()
	found, err := h.store.FindDeliveries(h.t.Context(), []string{id})
	if err != nil || len(found) != 1 {
		h.t.Fatalf("%s: %v, %v", id, found, err)
	}
	as := *found[0].Delivery
	as.State = core.DeliveryPending
	r := &store.Redo{Of: found[0].Delivery, As: &as}
	if err := h.store.Redo(h.t.Context(), []*store.Redo{r}); err != nil || !r.Done {
		h.t.Fatalf("retry %s: %+v, %v", id, r, err)
	}
	h.engine.Wake(as.Sink)
}
