//go:build unix

package e2e

import (
	"os"
	"testing"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// programs are the host and the plugins that all tests share.
var programs harness.Programs

func TestMain(m *testing.M) { os.Exit(programs.Main(m)) }
