package plugintest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/reference"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

// update is the flag of all tests that import this package.
var update = flag.Bool("update", false, "rewrite golden files and generated parts of READMEs instead of comparing them")

// Update reports whether the test was run with -update: golden files are then to be written, not compared. The flag is
// registered here, so a test package that imports this one asks here and registers none of its own.
func Update() bool { return *update }

// The lines around the part of a README that Readme owns.
const (
	readmeBegin = "<!-- schema:begin -->\n"
	readmeEnd   = "<!-- schema:end -->\n"
)

// Readme checks that the part of a plugin's README between the lines <!-- schema:begin --> and <!-- schema:end --> is
// the reference of its configuration and, for a sink, of its message. With -update it writes that part.
//
//	func TestReadme(t *testing.T) { plugintest.Readme(t, factory(), "README.md") }
func Readme[F serve.Factory](t testing.TB, factory F, path string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, begins := bytes.Cut(file, []byte(readmeBegin))
	got, tail, ends := bytes.Cut(rest, []byte(readmeEnd))
	if !begins || !ends {
		t.Fatalf("%s lacks the lines around the reference of the schema:\n%s%s", path, readmeBegin, readmeEnd)
	}
	want := Reference(factory)
	if string(got) == want {
		return
	}
	if !Update() {
		t.Fatalf("the reference in %s is not that of the schema; run this test with -update to write it. It should be:\n%s",
			path, want)
	}
	file = bytes.Join([][]byte{head, []byte(readmeBegin), []byte(want), []byte(readmeEnd), tail}, nil)
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Reference describes a plugin's configuration and, for a sink, its message in Markdown, one table each.
func Reference[F serve.Factory](factory F) string {
	var b strings.Builder
	switch f := any(factory).(type) {
	case *sdk.SinkFactory:
		fmt.Fprintf(&b, "## Configuration\n\n%s\n## Message\n\n%s", reference.Config(&f.Config), reference.Message(&f.Message))
	case *sdk.DecoderFactory:
		fmt.Fprintf(&b, "## Configuration\n\n%s", reference.Config(&f.Config))
	}
	return b.String()
}
