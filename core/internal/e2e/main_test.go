//go:build unix

package e2e

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// programs are the host and the plugins that all tests share.
var programs harness.Programs

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of these tests wait for hosts most of the time: twice as many at once.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(programs.Main(m))
}
