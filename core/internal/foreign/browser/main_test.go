//go:build foreign && linux

package browser

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

var (
	programs harness.Programs // the host and the plugins that all tests share
	chrome   chromium         // likewise

	pictures = flag.String("ui.pictures", "", "a folder that gets a picture of every page")
	requests = flag.Int("ui.requests", 3_000, "how many requests filters are timed over")
	database = flag.String("ui.database", "", "a database that filters are timed over instead; a copy of it is")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The folder that the harness expects tests to run in: three below the root.
	if err := os.Chdir(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := programs.Main(m)
	chrome.stop()
	os.Exit(code)
}
