package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/grapnelhq/grapnel/core/admin"
)

// searchRequests looks for a text in bodies and shows how far it has come. For machines it prints what it finds at once.
func searchRequests(
	ctx context.Context, ctl admin.Control, p printer, o admin.SearchOrder,
) (found []admin.Request, next string, err error) {
	b := newBar(p.err, "")
	var failed error // of writing
	res, err := ctl.SearchRequests(ctx, o, func(r admin.SearchReport) {
		switch {
		case r.Progress != nil && r.Progress.LookedTo != nil:
			b.say(barLine(int(r.Progress.Share*1000), 1000, "")[:32] + fmt.Sprintf(" %3.0f%% back to %s, %d found in %d requests",
				r.Progress.Share*100, at(*r.Progress.LookedTo), r.Progress.Found, r.Progress.Looked))
		case r.Item == nil || failed != nil:
		case p.json:
			failed = p.value(*r.Item)
		default:
			found = append(found, *r.Item)
		}
	})
	b.clear()
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err = errors.Join(err, failed); err != nil {
		if res.LookedTo != nil {
			err = fmt.Errorf("%w after looking back to %s", err, at(*res.LookedTo))
		}
		return found, "", err
	}
	fmt.Fprintf(p.err, "looked into %d requests\n", res.Looked)
	if p.json && res.Next != "" {
		fmt.Fprintf(p.err, "there are more: --cursor %s\n", res.Next)
	}
	return found, res.Next, nil
}
