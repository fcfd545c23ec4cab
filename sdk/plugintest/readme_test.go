package plugintest_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/internal/example"
	"github.com/grapnelhq/grapnel/sdk/plugintest"
)

type referenceConfig struct {
	URL     string                   `json:"url" doc:"Where to post: a | b."`
	Dir     string                   `json:"dir,omitempty" format:"path"`
	Mode    string                   `json:"mode,omitempty" enum:"one|two" default:"one"`
	Keys    []sdk.Secret             `json:"keys,omitempty" doc:"Keys."`
	Wait    time.Duration            `json:"wait,omitempty" default:"1h30m"`
	Keep    time.Duration            `json:"keep,omitempty" default:"3d"`
	Codes   []string                 `json:"codes,omitempty" default:"[\"2xx\"]"`
	Kinds   []string                 `json:"kinds,omitempty" enum:"x|y"`
	Labels  map[string]string        `json:"labels,omitempty"`
	On      bool                     `json:"on,omitempty" default:"true"`
	Login   *referenceLogin          `json:"login" doc:"Who."`
	Steps   []referenceStep          `json:"steps,omitempty"`
	Streams map[string]referenceStep `json:"streams"`
}

type referenceLogin struct {
	User     string     `json:"user"`
	Password sdk.Secret `json:"password"`
}

type referenceStep struct {
	Name *string `json:"name"`
}

type referenceMessage struct {
	Text   string          `json:"text" escape:"html"`
	Record json.RawMessage `json:"record,omitempty"`
	Ratio  *float64        `json:"ratio"`
	Lists  [][]*string     `json:"lists,omitempty"`
}

const wantReference = `## Configuration

| attribute | type | default | meaning |
|---|---|---|---|
| ` + "`url`" + ` | text | required | Where to post: a \| b. |
| ` + "`dir`" + ` | path |  |  |
| ` + "`mode`" + ` | ` + "`\"one\"`, `\"two\"`" + ` | ` + "`\"one\"`" + ` |  |
| ` + "`keys`" + ` | list of text, secret |  | Keys. |
| ` + "`wait`" + ` | duration | ` + "`\"1h30m\"`" + ` |  |
| ` + "`keep`" + ` | duration | ` + "`\"3d\"`" + ` |  |
| ` + "`codes`" + ` | list of text | ` + "`[\"2xx\"]`" + ` |  |
| ` + "`kinds`" + ` | list of ` + "`\"x\"`, `\"y\"`" + ` |  |  |
| ` + "`labels`" + ` | map of text |  |  |
| ` + "`on`" + ` | true or false | ` + "`true`" + ` |  |
| ` + "`login`" + ` | object |  | Who. |
| ` + "`login.user`" + ` | text | required |  |
| ` + "`login.password`" + ` | text, secret | required |  |
| ` + "`steps`" + ` | list of object |  |  |
| ` + "`steps[].name`" + ` | text |  |  |
| ` + "`streams`" + ` | map of object | required |  |
| ` + "`streams.*.name`" + ` | text |  |  |

## Message

| attribute | type | default | meaning |
|---|---|---|---|
| ` + "`text`" + ` | text, escaped (` + "`html`" + `) | required |  |
| ` + "`record`" + ` | any |  |  |
| ` + "`ratio`" + ` | number or null |  |  |
| ` + "`lists`" + ` | list of list of text or null |  |  |
`

func TestReference(t *testing.T) {
	sink := sdk.NewSink(sdk.SinkInfo{Name: "x"},
		func(context.Context, referenceConfig) (sdk.Sink[referenceMessage], error) { return nil, nil })
	if diff := cmp.Diff(wantReference, plugintest.Reference(sink)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	const bare = "## Configuration\n\nIt has no settings of its own.\n"
	if got := plugintest.Reference(example.Decoder("")); got != bare {
		t.Errorf("a decoder without settings: %q", got)
	}
}

func TestReadme(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	write := func(reference string) {
		text := "# x\n\n<!-- schema:begin -->\n" + reference + "<!-- schema:end -->\n\nMore.\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sink := example.Sink("")
	write(plugintest.Reference(sink))
	plugintest.Readme(t, sink, file)

	for name, c := range map[string]struct{ text, want string }{
		"stale":      {"<!-- schema:begin -->\nold\n<!-- schema:end -->\n", "run this test with -update"},
		"no markers": {"# x\n", "lacks the lines"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := runFaulty(t, "readme "+file); !strings.Contains(out, c.want) {
			t.Errorf("%s: no %q in\n%s", name, c.want, out)
		}
	}

	write("old\n")
	cmd := exec.Command(os.Args[0], "-test.run=^TestFaulty$", "-update")
	cmd.Env = append(os.Environ(), faultVar+"=readme "+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("-update: %v\n%s", err, out)
	}
	plugintest.Readme(t, sink, file)
	if b, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(b),
		"# x\n") || !strings.HasSuffix(string(b), "\nMore.\n") {
		t.Errorf("the rest of the file has changed: %q, %v", b, err)
	}
}
