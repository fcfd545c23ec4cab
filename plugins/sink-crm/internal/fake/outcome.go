package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

type failing struct{ err error }

func (f failing) Deliver(context.Context, *sdk.Delivery[struct{}]) error { return f.err }

// OutcomeOf is what an error of a sink is for the host.
func OutcomeOf(err error) sdk.Outcome {
	f := sdk.NewSink(sdk.SinkInfo{Name: "failing"}, func(context.Context, struct{}) (sdk.Sink[struct{}], error) {
		return failing{err}, nil
	})
	in, openErr := f.Open(context.Background(), []byte("{}"))
	if openErr != nil {
		panic(openErr)
	}
	return in.DeliverRaw(context.Background(), []*sdk.Delivery[json.RawMessage]{{ID: "d", Message: []byte("{}")}})[0]
}

// Short writes an outcome in one line: its kind, then a pause and a path where it has them.
func Short(err error) string {
	o := OutcomeOf(err)
	s := string(o.Kind)
	if o.After > 0 {
		s += fmt.Sprintf(" after %s", o.After)
	}
	if len(o.AttributePath) > 0 {
		s += " " + strings.Join(o.AttributePath, ".")
	}
	return s
}
