package core

import "fmt"

// MaxRendered bounds the messages and event data that one request may become, in bytes: they are in memory until they
// are committed together.
const MaxRendered = 256 << 20

// MaxCrashes is how many processes a request or delivery may kill when it is alone with them; then it is dead.
const MaxCrashes = 3

// Decide routes the events of one decoded request. Either it is refused for good, with the reason, or the deliveries of
// all its events are there, in order. route appends the deliveries of one event; its error means that the event cannot be
// routed for good. The engine and package dryrun call it, so that a dry run says what the host would do.
func Decide(r *Request, d *Decoded, route func([]*Delivery, *Request, *Event) ([]*Delivery, error),
) (deliveries []*Delivery, refused string) {
	if d.Refused != "" {
		return nil, d.Refused
	}
	if len(d.Events) > MaxEvents {
		return nil, fmt.Sprintf("the decoder made %d events of this request, at most %d are possible",
			len(d.Events), MaxEvents)
	}
	rendered, routed := 0, 0
	for i := range d.Events {
		ev := &d.Events[i]
		var err error
		if deliveries, err = route(deliveries, r, ev); err != nil {
			return nil, err.Error()
		}
		for ; routed < len(deliveries); routed++ {
			rendered += len(deliveries[routed].Message)
		}
		if ev.DataOffset < 0 {
			rendered += len(ev.Data)
		}
		if rendered > MaxRendered {
			return nil, fmt.Sprintf("the events and messages of this request have more than %d MiB in all", MaxRendered>>20)
		}
	}
	return deliveries, ""
}

// CrashedTooOften is why a request is refused whose decoder died on it alone MaxCrashes times; words are the last ones.
func CrashedTooOften(times int, words string) string {
	return fmt.Sprintf("the decoder's process died %d times on this request alone: %s", times, words)
}
