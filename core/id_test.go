package core

import (
	"strings"
	"testing"
)

func TestIDsRoundTrip(t *testing.T) {
	k := NewDedupeKey("people", []byte("a"), []byte("b"))
	for _, repeat := range []int{0, 1, 12} {
		request := RequestID(k, repeat)
		if gk, gr, err := ParseRequestID(request); err != nil || gk != k || gr != repeat {
			t.Errorf("ParseRequestID(%q) = %x, %d, %v", request, gk, gr, err)
		}
		if r, e, err := Locate(request); err != nil || r != request || e != "" {
			t.Errorf("Locate(%q) = %s, %s, %v", request, r, e, err)
		}
		for _, index := range []int{0, 7, MaxEvents - 1} {
			event := EventID(k, repeat, index)
			if gk, gr, gi, err := ParseEventID(event); err != nil || gk != k || gr != repeat || gi != index {
				t.Errorf("ParseEventID(%q) = %x, %d, %d, %v", event, gk, gr, gi, err)
			}
			delivery := DeliveryID(event, "a_route", "a_sink", 0)
			if gk, gr, gi, err := ParseDeliveryID(delivery); err != nil || gk != k || gr != repeat || gi != index {
				t.Errorf("ParseDeliveryID(%q) = %x, %d, %d, %v", delivery, gk, gr, gi, err)
			}
			for _, id := range []string{event, delivery} {
				if r, e, err := Locate(id); err != nil || r != request || e != event {
					t.Errorf("Locate(%q) = %s, %s, %v", id, r, e, err)
				}
			}
			if strings.Contains(delivery, ".") {
				t.Errorf("%q has a full stop, so it cannot be a webhook-id", delivery)
			}
		}
	}
}

func TestIDsDiffer(t *testing.T) {
	event := EventID(NewDedupeKey("s"), 0, 0)
	seen := map[string]bool{}
	for _, id := range []string{
		DeliveryID(event, "r", "s", 0), DeliveryID(event, "r", "s", 1), DeliveryID(event, "r2", "s", 0), DeliveryID(event, "r", "s2", 0),
	} {
		if seen[id] {
			t.Errorf("%s twice", id)
		}
		seen[id] = true
	}
	if NewDedupeKey("s", []byte("ab"), []byte("c")) == NewDedupeKey("s", []byte("a"), []byte("bc")) {
		t.Error("parts run together")
	}
}

func TestParseRefusesWhatIsNoID(t *testing.T) {
	good := EventID(NewDedupeKey("s"), 0, 3)[len("evt_"):]
	for _, id := range []string{
		"", "req_", "req_12", "evt_" + good[:10], "evt_" + good + "x", "evt_" + good[:32], "dlv_" + good, "dlv_", "req_" + good,
		"req_" + strings.Repeat("z", 32), "req_" + strings.Repeat("0", 32) + "_r0", "evt_" + strings.Repeat("0", 32) + "_4096",
	} {
		_, _, errR := ParseRequestID(id)
		_, _, _, errE := ParseEventID(id)
		if errR == nil || errE == nil {
			t.Errorf("%q was taken for an id", id)
		}
	}
}

func TestKeysGrowInAcceptOrder(t *testing.T) {
	last := DeliveryKey(-1)
	for _, k := range []struct{ seq, index, ordinal int64 }{{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, MaxEvents - 1, MaxDeliveries - 1}, {1, 0, 0}, {1 << 38, 5, 6}} {
		key := NewDeliveryKey(k.seq, int(k.index), int(k.ordinal))
		if key <= last {
			t.Errorf("%v does not grow", k)
		}
		if key.RequestSeq() != k.seq || key.EventKey() != NewEventKey(k.seq, int(k.index)) {
			t.Errorf("%v: parts are %d and %d", k, key.RequestSeq(), key.EventKey())
		}
		last = key
	}
}
