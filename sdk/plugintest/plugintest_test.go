package plugintest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/internal/example"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	config  = `{"url": "$FAR_END", "token": "hunter2-hunter2", "labels": {"a": "b"}}`
	refused = `{"url": "$FAR_END/status/400", "token": "hunter2-hunter2"}`
	message = `{"text": "hello", "fields": {"a": null}}`
)

func TestGoodSink(t *testing.T) {
	plugintest.Sink(t, example.Sink(""), plugintest.Options{
		Config: config, Refused: refused, Message: message, NoProgram: true, // package conform tests that
	})
}

func TestGoodDecoder(t *testing.T) {
	plugintest.Decoder(t, example.Decoder(""), plugintest.Options{
		Package: "testdata/decoder", Golden: "testdata/golden",
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
		opts.Config, opts.Message = config, message
		plugintest.Sink(t, example.Sink(fault), opts)
	case "program": // another than the factory
		opts.NoProgram, opts.Package = false, "testdata/decoder"
		plugintest.Decoder(t, example.Decoder("process"), opts)
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
	empty, other := t.TempDir(), t.TempDir()
	golden := filepath.Join(other, "example.thing.created.json")
	if err := os.WriteFile(golden, []byte("{\n  \"events\": []\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for fault, wants := range map[string][]string{
		"sink secret": {"it shows a secret of the configuration in an outcome", "refused <SECRET>"},
		"sink leak": {
			"goroutines are left after Close", "example.Sink",
			"but Close ends all that Open began: stop what was started and wait for it",
		},
		"sink shared":    {"Deliver ends with retry (nobody there) where it was delivered before "},
		"program":        {"the sample example.thing.created gives other events in another process"},
		"decoder panics": {"Decode panicked at the sample example.thing.created with a byte changed"},
		"decoder impure": {"the same request, the sample example.thing.created, gives other events the second time"},
		"decoder writes": {"Decode changed the request's body, but the body is shared with " +
			"the events of the request: copy what is to be changed"},
		"golden " + empty: {"the sample example.thing.created has events, and ",
			"created.json is not there, but the golden files say what " +
				"the events are: write it with -update"},
		"golden " + other: {"gives other events than " + golden + " has", `-  "events": []`,
			`+      "type": "example.thing.created",`},
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
	far := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer far.Close()
	c := plugintest.Connect(t, example.Sink(""))
	if err := c.Validate(t.Context(), `{"ulr":"x"}`); len(sdk.AttributeErrors(err)) != 3 {
		t.Errorf("Validate: %v", err)
	}
	i, err := c.Open(t.Context(), strings.ReplaceAll(config, "$FAR_END", far.URL))
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
