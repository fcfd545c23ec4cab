package pluginhost

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRunDirHalfRemoved kills a host, so to say, while it removes its folder, at every file: the next one removes it.
func TestRunDirHalfRemoved(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, runDirPrefix+"1")
	for _, name := range []string{lockName, "a", "z", "sub/socket"} {
		file := filepath.Join(path, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A file that cannot be removed stops it half-way, as a kill would. Root can remove all: there it is gone at once.
	if err := os.Chmod(filepath.Join(path, "sub"), 0o500); err != nil {
		t.Fatal(err)
	}
	sweepRunDirs(base)
	if _, err := os.Stat(path); err == nil {
		if _, err := os.Stat(filepath.Join(path, lockName)); err != nil {
			t.Fatalf("the rest has no lock any more: %v", err)
		}
		if err := os.Chmod(filepath.Join(path, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		sweepRunDirs(base)
	}
	if left, err := filepath.Glob(filepath.Join(base, "*")); err != nil || len(left) > 0 {
		t.Fatalf("left: %q, %v", left, err)
	}
}
