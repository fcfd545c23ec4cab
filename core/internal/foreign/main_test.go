//go:build foreign && linux

package foreign

import (
	"os"
	"os/exec"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// programs are the host and the plugins that all tests share.
var programs harness.Programs

func TestMain(m *testing.M) { os.Exit(programs.Main(m)) }

// need fails the test unless a tool is there.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatal(err)
	}
}
