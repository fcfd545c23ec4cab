//go:build unix

package harness

import (
	"io"
	"os/exec"
	"path/filepath"
	"testing"
)

// StartFake builds the program of a package, given from the repository's root, and starts it. It is for fakes of far
// ends, which say on their standard output where they listen, and end when their standard input does: that is when the
// test ends. It returns what they print. The working folder is three below the root, as for every end-to-end test.
func StartFake(t testing.TB, pkg string, args ...string) io.Reader {
	t.Helper()
	program := filepath.Join(t.TempDir(), "fake")
	build := exec.Command("go", "build", "-o", program, pkg)
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // its end ends the program
		_, _ = io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", pkg, err)
		}
	})
	return stdout
}
