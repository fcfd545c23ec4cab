package plugintest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
	"github.com/grapnelhq/grapnel/sdk/plugintest/internal/example"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	config  = `{"address":"up","token":"hunter2-hunter2","labels":{"a":"b"}}`
	down    = `{"address":"down","token":"hunter3-hunter3"}`
	message = `{"text":"hello","fields":{"a":null}}`
)

func TestGoodSink(t *testing.T) {
	plugintest.Sink(t, example.Sink(""), plugintest.Options{
		Config: config, Down: down, Message: message, Package: "testdata/sink-good",
	})
}

func TestGoodDecoder(t *testing.T) {
	plugintest.Decoder(t, example.Decoder(""), plugintest.Options{
		Package: "testdata/decoder-good", Golden: "testdata/golden",
	})
}

// faultVar names the faulty plugin that the child process tests.
const faultVar = "GRAPNEL_TEST_FAULT"

// TestFaulty is what the child processes of TestFaultsAreFound run; without a fault there is nothing to do.
func TestFaulty(t *testing.T) {
	kind, fault, _ := strings.Cut(os.Getenv(faultVar), " ")
	opts := plugintest.Options{NoProgram: true}
	switch kind {
	case "sink":
		opts.Config, opts.Down, opts.Message = config, down, message
		plugintest.Sink(t, example.Sink(fault), opts)
	case "program":
		opts.Config, opts.Message = config, message
		opts.NoProgram, opts.Package = false, "testdata/sink-bad"
		plugintest.Sink(t, example.Sink(""), opts)
	case "decoder":
		plugintest.Decoder(t, example.Decoder(fault), opts)
	case "readme":
		plugintest.Readme(t, example.Sink(""), fault)
	case "golden":
		opts.Golden = fault
		plugintest.Decoder(t, example.Decoder(""), opts)
	}
}

// runFaulty runs TestFaulty with a fault, which must fail, and returns what it printed.
func runFaulty(t *testing.T, fault string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFaulty$")
	cmd.Env = append(os.Environ(), faultVar+"="+fault)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the fault is not found: %v\n%s", err, out)
	}
	return string(out)
}

func TestFaultsAreFound(t *testing.T) {
	empty := t.TempDir()
	for fault, wants := range map[string][]string{
		"sink secret": {"a secret of the configuration shows in an outcome", "refused <SECRET>"},
		"sink open":   {"a secret of the configuration shows in an error of Open", "cannot log in with <SECRET>"},
		"sink leak":   {"goroutines are left after Close", "example.Sink"},
		"sink hang":   {"Deliver does not return within 2s of its context's end"},
		"sink down":   {"a delivery to a far end that is not there: rejected: nobody there; want a retry"},
		"program":     {"stdout belongs to the handshake", "hello", "a secret of the configuration shows in its log"},
		"decoder data": {
			"data of example.thing.created: id: is not of kind integer", "extra: is not in the schema",
		},
		"decoder panic": {
			"damaged: panic: runtime error: invalid memory address or nil pointer dereference", "body ",
		},
		"decoder impure":  {"the same request gives other events"},
		"decoder writes":  {"the request's body was changed"},
		"decoder type":    {"does not begin with the provider's name"},
		"golden " + empty: {"is not there; -update writes it"},
	} {
		t.Run(strings.Fields(fault)[0]+" "+filepath.Base(fault), func(t *testing.T) {
			t.Parallel()
			out := runFaulty(t, fault)
			for _, want := range wants {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(out, "hunter2-hunter2") {
				t.Errorf("the test's output shows the secret\n%s", out)
			}
		})
	}
}

func TestClient(t *testing.T) {
	c := plugintest.Connect(t, example.Sink(""))
	if err := c.Validate(t.Context(), `{"adress":"x"}`); len(sdk.AttributeErrors(err)) != 3 {
		t.Errorf("Validate: %v", err)
	}
	i, err := c.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	d := plugintest.Delivery(7, message, "")
	o, err := i.Deliver(t.Context(), d)
	if err != nil || o[0].Kind != sdk.Delivered || o[0].Reference != d.ID {
		t.Errorf("Deliver: %v, %v", o, err)
	}
	if err := errors.Join(i.Check(t.Context()), i.Close(t.Context())); err != nil {
		t.Error(err)
	}
	down := plugintest.Connect(t, example.Sink("open"))
	if _, err := down.Open(context.Background(), config); !errors.Is(err, plugintest.ErrUnavailable) {
		t.Errorf("Open: %v", err)
	}
}

func TestCheckData(t *testing.T) {
	type inner struct {
		N int64 `json:"n"`
	}
	type data struct {
		S    string           `json:"s"`
		Enum string           `json:"enum,omitempty" enum:"a|b"`
		P    *float64         `json:"p"`
		B    bool             `json:"b,omitempty"`
		L    []inner          `json:"l,omitempty"`
		M    map[string]inner `json:"m,omitempty"`
		Any  any              `json:"any,omitempty"`
	}
	s, err := sdk.SchemaOf[data]()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"s":"x","p":null,"any":null,"b":true,"l":[{"n":1}],"m":{"k":{"n":12.0}}}`: "",
		`{"s":"x","p":1.5e300}`:             "",
		`{}`:                                "s: is not there, and the schema does not say optional",
		`{"s":null}`:                        "s: is null, and the schema does not say nullable",
		`{"s":"x","enum":"c"}`:              `enum: is not one of ["a" "b"]`,
		`{"s":"x","l":[{"n":1},{"n":1.5}]}`: "l.1.n: is not of kind integer",
		`{"s":"x","m":{"k":{"n":9223372036854775808}}}`: "m.k.n: is not of kind integer",
		`{"s":"x","m":{"k":{"n":1e1000000000}}}`:        "m.k.n: is not of kind integer",
		`{"s":"x","b":"true","z":1}`:                    "b: is not of kind bool\nz: is not in the schema",
		`[]`:                                            "is not of kind object",
		`{"s":"x"} 1`:                                   "is more than one JSON value",
	} {
		got := ""
		if err := plugintest.CheckData(&s, []byte(in)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
