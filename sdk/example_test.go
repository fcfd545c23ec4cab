package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/grapnelhq/grapnel/sdk"
)

type greeterConfig struct {
	Greeting string     `json:"greeting" default:"Hello" doc:"What to begin with."`
	Token    sdk.Secret `json:"token" doc:"API token."`
}

type greeterMessage struct {
	Name string `json:"name" doc:"Whom to greet."`
}

type greeter struct{ cfg greeterConfig }

// Deliver implements sdk.Sink.
func (g *greeter) Deliver(_ context.Context, d *sdk.Delivery[greeterMessage]) error {
	if d.Message.Name == "" {
		return sdk.Reject(errors.New("nobody to greet"), "name")
	}
	d.SetReference(g.cfg.Greeting + " " + d.Message.Name)
	return nil
}

func openGreeter(_ context.Context, cfg greeterConfig) (sdk.Sink[greeterMessage], error) {
	return &greeter{cfg}, nil
}

// A sink is a configuration, a message, a constructor and one method. In a plugin, main hands the factory to
// serve.Main; here it is driven by hand.
func ExampleNewSink() {
	factory := sdk.NewSink(sdk.SinkInfo{Name: "greeter"}, openGreeter)

	fmt.Println(factory.Validate([]byte(`{"greting":"Hi","token":"t"}`)))

	sink, err := factory.Open(context.Background(), []byte(`{"token":"t"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, message := range []string{`{"name":"Ada"}`, `{"name":""}`, `{}`} {
		d := &sdk.Delivery[json.RawMessage]{ID: "dlv_1", Message: json.RawMessage(message)}
		o := sink.DeliverRaw(context.Background(), []*sdk.Delivery[json.RawMessage]{d})[0]
		fmt.Println(o.Kind, o.Reference, o.Reason, o.AttributePath)
	}

	// Output:
	// greting: there is no such attribute; did you mean "greeting"?
	// delivered Hello Ada  []
	// rejected  nobody to greet [name]
	// rejected  message: name: is required [name]
}
