package engine

import (
	"slices"

	"github.com/grapnelhq/grapnel/core"
)

// mostErased bounds what a dispatcher remembers of erased deliveries that it did not hold when it was told.
const mostErased = windowDeliveries

// Erased is told that deliveries of a sink were erased in the store, and which of them the sink's dispatcher has. Those that
// wait for a call are forgotten; those in a call end as they do, and the store takes no outcome of them. What waited behind
// them goes on. The store's writer calls it; it does not block.
func (e *Engine) Erased(sink string, keys []core.DeliveryKey) {
	if d := e.sinks()[sink]; d != nil {
		d.forget(keys)
		d.fallBehind()
	}
}

// forget drops deliveries.
func (d *dispatcher) forget(keys []core.DeliveryKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.erased)+len(keys) > mostErased {
		d.erased = nil
	}
	if d.erased == nil {
		d.erased = map[core.DeliveryKey]struct{}{}
	}
	for _, k := range keys {
		d.erased[k] = struct{}{}
	}
	for order, waiting := range d.keys {
		d.keys[order] = slices.DeleteFunc(waiting, d.dropErased)
	}
	for _, list := range []*[]*core.Delivery{&d.ready, &d.fresh} {
		var free []string // order keys whose next may be called
		*list = slices.DeleteFunc(*list, func(dl *core.Delivery) bool {
			gone := d.dropErased(dl)
			if gone {
				free = append(free, dl.OrderKey)
			}
			return gone
		})
		for _, order := range free {
			d.release(order)
		}
	}
	d.changed.Broadcast()
}

// dropErased tells whether a held delivery was erased, and forgets it then. d.mu is held.
func (d *dispatcher) dropErased(dl *core.Delivery) bool {
	if _, ok := d.erased[dl.Key]; !ok {
		return false
	}
	delete(d.erased, dl.Key)
	d.drop(dl)
	return true
}
