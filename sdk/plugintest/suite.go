package plugintest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/conform"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

// FarEnd is a word in the texts of Options for an HTTP server that the kit runs; see conform.FarEnd.
const FarEnd = conform.FarEnd

// Options say what a plugin is tested with. The zero value tests a decoder without configuration whose test stands
// beside its main package.
type Options struct {
	// Config is a complete configuration, JSON; default {}. Secrets in it should be long enough to be searched for.
	Config string
	// Package is the folder of the plugin's main package, default ".". NoProgram leaves out the checks on the built
	// program.
	Package   string
	NoProgram bool
	// Timeout is how long Describe, Validate, Open and Check may take; default: the host's 15 s.
	Timeout time.Duration

	// For sinks.

	// Message is a message that the sink delivers with Config, JSON; default: the least that its schema asks for.
	Message string
	// Data is the event's data for a sink that asks for it, JSON; default {}.
	Data string
	// Down is a configuration whose far end is not there: a delivery must end as a retry. Slow is one whose far end takes
	// a delivery and does not answer: a delivery must keep the deadline of its call. With FarEnd in Config both have a
	// default; otherwise empty means: not tested.
	Down string
	Slow string
	// Refused is a configuration whose far end refuses Message for good, RefusedMessage a message that the far end of
	// Config refuses so: a delivery must be rejected, or suspend the sink. Empty: not tested.
	Refused        string
	RefusedMessage string

	// For decoders.

	// Golden is a folder with the expected events of each sample, one file each. Empty: none. The flag -update writes
	// them.
	Golden string
	// Loose accepts members of a sample's data that its schema does not declare.
	Loose bool
}

func (o *Options) conform() conform.Options {
	return conform.Options{
		Config: o.Config, Timeout: o.Timeout, Message: o.Message, Data: o.Data, Down: o.Down, Slow: o.Slow,
		Refused: o.Refused, RefusedMessage: o.RefusedMessage, Golden: o.Golden, Update: Update(), Loose: o.Loose,
	}
}

// Sink checks a sink: its configuration and messages are refused by name where they are wrong, deliveries come out as
// delivered, also many at once, in batches and in many instances, a far end that is down, slow or refusing gets the
// outcome that it should, a cancelled call returns, Close leaves no goroutine, no secret shows in an error, an outcome
// or the log, nothing is written to stdout, and the program survives signals and ends when its host does.
func Sink(t *testing.T, factory *sdk.SinkFactory, opts Options) {
	t.Helper()
	run(t, factory, opts)
}

// Decoder checks a decoder: its configuration is refused by name where it is wrong, every sample of its catalogue
// decodes to the type that it stands under, with data that matches the type's schema and the golden file, in every
// process and at every call alike; damaged and hostile requests never make it panic, run on, change their request or
// answer with something that is no event; and the program behaves as that of a sink.
func Decoder(t *testing.T, factory *sdk.DecoderFactory, opts Options) {
	t.Helper()
	run(t, factory, opts)
	t.Run("untouched", func(t *testing.T) { untouched(t, factory, opts) })
}

// run runs the checks against the factory and against the program.
func run[F serve.Factory](t *testing.T, factory F, opts Options) {
	t.Helper()
	runner := func(t *testing.T) conform.Runner {
		return func(c conform.Check) {
			if c.Skip != "" {
				return
			}
			t.Run(c.Name, func(t *testing.T) {
				for _, f := range c.Run(t.Context()) {
					t.Error(f)
				}
			})
		}
	}
	var results conform.Results
	t.Run("factory", func(t *testing.T) {
		c := Connect(t, factory)
		results = conform.Run(t.Context(), c, opts.conform(), true, nil, runner(t))
		if !t.Failed() {
			t.Run("goroutines", func(t *testing.T) { goroutines(t, c, opts) })
		}
	})
	if opts.NoProgram {
		return
	}
	t.Run("program", func(t *testing.T) {
		conform.Program(t.Context(), conform.Command{Path: Build(t, cmp.Or(opts.Package, "."))}, opts.conform(),
			results, runner(t))
	})
}

// goroutines opens, uses and closes an instance and looks for what it has left running. Idle connections of net/http
// are let off: they end by themselves.
func goroutines(t *testing.T, c *Client, opts Options) {
	options := []goleak.Option{
		goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
	}
	for _, f := range conform.Use(t.Context(), c, opts.conform()) {
		t.Error(f)
	}
	if err := goleak.Find(options...); err != nil {
		t.Error(conform.Finding{
			Did:      "goroutines are left after Close (" + err.Error() + ")",
			Contract: "Close ends all that Open began",
			Do:       "stop what was started and wait for it",
		})
	}
}

// untouched calls the decoder directly, where a change of the request's body can be seen.
func untouched(t *testing.T, factory *sdk.DecoderFactory, opts Options) {
	config := opts.Config
	if strings.TrimSpace(config) == "" {
		config = "{}"
	}
	d, err := factory.Open(t.Context(), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	if closer, ok := d.(sdk.Closer); ok {
		defer func() {
			if err := closer.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}()
	}
	for _, e := range factory.Provider.Events {
		for _, sample := range e.Samples {
			r := sample.Request()
			r.Body = bytes.Clone(r.Body)
			if err := leavesBody(t.Context(), d, r); err != nil {
				t.Errorf("%s: %v", e.Type, err)
				return
			}
		}
	}
}

// leavesBody decodes a request and finds a change of its body.
func leavesBody(ctx context.Context, d sdk.Decoder, r *sdk.Request) error {
	body := bytes.Clone(r.Body)
	sdk.DecodeAll(ctx, d, []*sdk.Request{r})
	if bytes.Equal(body, r.Body) {
		return nil
	}
	return errors.New(conform.Finding{
		Did: "Decode changed the request's body", Contract: "the body is shared with the events of the request",
		Do: "copy what is to be changed",
	}.String())
}
