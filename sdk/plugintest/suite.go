package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Options say what a plugin is tested with. The zero value tests a decoder without configuration whose test stands
// beside its main package.
type Options struct {
	// Config is a complete configuration, JSON; default {}. Secrets in it should be long enough to be searched for.
	Config string
	// Package is the folder of the plugin's main package, default ".". NoProgram leaves out the checks on the built
	// program.
	Package   string
	NoProgram bool

	// For sinks.

	// Message is a message that the sink delivers with Config, JSON; default {}.
	Message string
	// Data is the event's data for a sink that asks for it, JSON; default {}.
	Data string
	// Down is a configuration whose far end is not there: a delivery must end as a retry. Empty: not tested.
	Down string

	// For decoders.

	// Golden is a folder with the expected events of each sample, one file each. Empty: none. The flag -update writes
	// them.
	Golden string
	// Loose accepts members of a sample's data that its schema does not declare.
	Loose bool
}

// prompt is how long a plugin may take to return from a call whose context has ended.
const prompt = 2 * time.Second

func (o *Options) setDefaults() {
	for _, s := range []*string{&o.Config, &o.Message, &o.Data} {
		if *s == "" {
			*s = "{}"
		}
	}
	if o.Package == "" {
		o.Package = "."
	}
}

// Sink checks a sink: its configuration and messages are refused by name where they are wrong, deliveries come out as
// delivered, also many at once, a cancelled call returns, Close leaves no goroutine, no secret shows in an error or in
// the log, nothing is written to stdout, and the program ends when its host dies.
//
// Every check delivers opts.Message; a far end that the test provides must take it any number of times and from several
// connections at once.
func Sink(t *testing.T, factory *sdk.SinkFactory, opts Options) {
	t.Helper()
	run(t, factory, opts, func(t *testing.T, s *suite) {
		t.Run("message", s.message)
		t.Run("deliver", s.deliver)
		t.Run("concurrent", s.concurrent)
		t.Run("cancel", s.cancel)
		t.Run("down", s.down)
	})
}

// suite is one pass of the checks, over one connection.
type suite struct {
	Options
	client  *Client
	desc    *wire.Description
	secrets []string
}

// run runs the checks that all plugins share, and more, against the factory and against the program.
func run[F serve.Factory](t *testing.T, factory F, opts Options, more func(*testing.T, *suite)) {
	t.Helper()
	opts.setDefaults()
	pass := func(t *testing.T, c *Client) *suite {
		t.Helper()
		s := &suite{Options: opts, client: c}
		var err error
		if s.desc, err = c.Describe(t.Context()); err != nil {
			t.Fatalf("Describe: %v", err)
		}
		if s.desc.Provider != nil {
			if s.desc.Provider, err = c.Manifest(t.Context(), opts.Config); err != nil {
				t.Fatalf("the manifest with Options.Config: %v", err)
			}
		}
		for _, config := range []string{opts.Config, opts.Down} {
			var v any
			if json.Unmarshal([]byte(config), &v) == nil {
				s.secrets = append(s.secrets, secrets(&s.desc.Config, v, false)...)
			}
		}
		t.Run("config", s.config)
		more(t, s)
		return s
	}
	t.Run("factory", func(t *testing.T) {
		s := pass(t, Connect(t, factory))
		t.Run("goroutines", s.goroutines)
	})
	if opts.NoProgram {
		return
	}
	t.Run("program", func(t *testing.T) {
		s := pass(t, Launch(t, Build(t, opts.Package)))
		t.Run("orphan", s.orphan)
		s.noSecrets(t, "its log", s.client.Log())
		if out := s.client.proc.stdout.String(); out != "" {
			t.Errorf("stdout belongs to the handshake, but the plugin wrote %q", out)
		}
	})
}

// noSecrets fails if a text shows a secret of the configuration.
func (s *suite) noSecrets(t *testing.T, where, text string) {
	t.Helper()
	if clean := s.redact(text); clean != text {
		t.Errorf("a secret of the configuration shows in %s:\n%s", where, clean)
	}
}

// redact is a text for the test's own output.
func (s *suite) redact(text string) string {
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "<SECRET>")
	}
	return text
}

// mustOpen opens an instance that the check closes itself.
func (s *suite) mustOpen(t *testing.T) *Instance {
	t.Helper()
	i, err := s.client.Open(t.Context(), s.Config)
	if err != nil {
		s.noSecrets(t, "an error of Open", err.Error())
		t.Fatalf("Open with Options.Config: %s", s.redact(err.Error()))
	}
	return i
}

func (s *suite) open(t *testing.T) *Instance {
	t.Helper()
	i := s.mustOpen(t)
	t.Cleanup(func() {
		// Not the test's context, which has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := i.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return i
}

// members is a JSON object for changing.
func members(t *testing.T, object string) map[string]json.RawMessage {
	t.Helper()
	m := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		t.Fatalf("%s is not a JSON object: %v", object, err)
	}
	return m
}

func with(t *testing.T, object, name, value string) string {
	t.Helper()
	m := members(t, object)
	if value == "" {
		delete(m, name)
	} else {
		m[name] = json.RawMessage(value)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unknownName is a name that no plugin declares.
const unknownName = "no_such_attribute_9"

// wrong lists changed copies of a good object that a schema must refuse, with the name to be blamed.
func wrong(t *testing.T, schema *sdk.Schema, object string) map[string]string {
	t.Helper()
	out := map[string]string{with(t, object, unknownName, "1"): unknownName}
	for i := range schema.Attributes {
		a := &schema.Attributes[i]
		if !a.Schema.Optional {
			out[with(t, object, a.Name, "")] = a.Name
		}
		value, there := members(t, object)[a.Name]
		switch {
		case a.Schema.Kind == sdk.KindAny:
		case a.Schema.Kind == sdk.KindObject || a.Schema.Kind == sdk.KindMap:
			out[with(t, object, a.Name, "[]")] = a.Name
		case there: // the value itself in the wrong place: an error must not repeat it
			out[with(t, object, a.Name, `{"text":`+string(value)+`}`)] = a.Name
		default:
			out[with(t, object, a.Name, "{}")] = a.Name
		}
	}
	return out
}

func blames(err error, name string) bool {
	for _, e := range sdk.AttributeErrors(err) {
		if len(e.Path) > 0 && e.Path[0] == name {
			return true
		}
	}
	return false
}

func (s *suite) config(t *testing.T) {
	if err := s.client.Validate(t.Context(), s.Config); err != nil {
		t.Fatalf("Validate refuses Options.Config: %s", s.redact(err.Error()))
	}
	for config, name := range wrong(t, &s.desc.Config, s.Config) {
		err := s.client.Validate(t.Context(), config)
		if !blames(err, name) {
			t.Errorf("a configuration with a wrong %s: Validate gives %s", name, s.redact(fmt.Sprint(err)))
		}
		if err != nil {
			s.noSecrets(t, "an error of Validate", err.Error())
		}
		if _, err := s.client.Open(t.Context(), config); !blames(err, name) {
			t.Errorf("a configuration with a wrong %s: Open gives %s", name, s.redact(fmt.Sprint(err)))
		}
	}
}

func (s *suite) message(t *testing.T) {
	i := s.open(t)
	for message, name := range wrong(t, &s.desc.Message, s.Message) {
		o, err := i.Deliver(t.Context(), Delivery(1, message, s.Data))
		if err != nil {
			t.Fatal(err)
		}
		if o[0].Kind != sdk.Rejected || len(o[0].AttributePath) == 0 || o[0].AttributePath[0] != name {
			t.Errorf("a message with a wrong %s: %+v", name, o[0])
		}
	}
}

func (s *suite) deliver(t *testing.T) {
	i := s.open(t)
	if err := i.Check(t.Context()); err != nil {
		s.noSecrets(t, "an error of Check", err.Error())
		t.Errorf("Check: %s", s.redact(err.Error()))
	}
	for attempt := 1; attempt <= 2; attempt++ { // the first outcome may have been lost
		d := Delivery(1, s.Message, s.Data)
		d.Attempt = attempt
		o, err := i.Deliver(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		s.good(t, o...)
	}
}

// good fails unless every outcome says that there is nothing more to do.
func (s *suite) good(t *testing.T, outcomes ...sdk.Outcome) {
	t.Helper()
	for _, o := range outcomes {
		s.noSecrets(t, "an outcome", o.Reason+" "+o.Reference+" "+strings.Join(o.Notes, " "))
		if o.Kind != sdk.Delivered && o.Kind != sdk.Skipped {
			t.Errorf("Options.Message is not delivered: %s: %s", o.Kind, s.redact(o.Reason))
		}
	}
}

func (s *suite) concurrent(t *testing.T) {
	i := s.open(t)
	size := min(max(s.desc.Sink.MaxBatch, 1), 10)
	var calls sync.WaitGroup
	for call := range 8 {
		calls.Go(func() {
			var ds []*sdk.Delivery[json.RawMessage]
			for k := range size {
				ds = append(ds, Delivery(1000+call*size+k, s.Message, s.Data))
			}
			o, err := i.Deliver(t.Context(), ds...)
			if err != nil {
				t.Errorf("Deliver: %v", err)
			}
			s.good(t, o...)
		})
	}
	calls.Wait()
}

// cancel ends a call's context early. Close waits for calls, so it tells whether the call has really returned.
func (s *suite) cancel(t *testing.T) {
	i := s.mustOpen(t)
	for _, after := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, _ = i.Deliver(ctx, Delivery(2, s.Message, s.Data))
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), prompt)
	defer cancel()
	if err := i.Close(ctx); err != nil {
		t.Errorf("Deliver does not return within %v of its context's end: Close: %v", prompt, err)
	}
	if err := i.Close(t.Context()); err != nil {
		t.Errorf("Close a second time: %v", err)
	}
}

func (s *suite) down(t *testing.T) {
	if s.Down == "" {
		return
	}
	i, err := s.client.Open(t.Context(), s.Down)
	if errors.Is(err, ErrUnavailable) {
		s.noSecrets(t, "an error of Open", err.Error())
		return
	}
	if err != nil {
		t.Fatalf("Open with Options.Down: %s", s.redact(err.Error()))
	}
	o, err := i.Deliver(t.Context(), Delivery(3, s.Message, s.Data))
	if err != nil {
		t.Fatal(err)
	}
	s.noSecrets(t, "an outcome", o[0].Reason+" "+strings.Join(o[0].Notes, " "))
	if o[0].Kind != sdk.Retried {
		t.Errorf("a delivery to a far end that is not there: %s: %s; want a retry", o[0].Kind, s.redact(o[0].Reason))
	}
	if err := i.Check(t.Context()); err != nil {
		s.noSecrets(t, "an error of Check", err.Error())
	}
	if err := i.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// goroutines opens, uses and closes an instance and looks for what it has left running. Idle connections of net/http
// are let off: they end by themselves.
func (s *suite) goroutines(t *testing.T) {
	options := []goleak.Option{
		goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
	}
	i := s.mustOpen(t)
	var err error
	if s.desc.Sink != nil {
		_, err = i.Deliver(t.Context(), Delivery(4, s.Message, s.Data))
	} else {
		_, err = i.Decode(t.Context(), &sdk.Request{ID: "req", Body: []byte("{}")})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := goleak.Find(options...); err != nil {
		t.Errorf("goroutines are left after Close: %v", err)
	}
}

// orphan kills the plugin's parent.
func (s *suite) orphan(t *testing.T) {
	p := s.client.proc
	if p.socket == "" {
		return // Windows: no parent in between
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // says that it was killed
	select {
	case <-p.ended:
	case <-time.After(prompt + time.Second):
		t.Fatal("the plugin outlives its host")
	}
	if _, err := os.Stat(p.socket); !os.IsNotExist(err) {
		t.Errorf("the plugin leaves its socket behind: %v", err)
	}
}
