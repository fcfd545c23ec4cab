//go:build unix

package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Programs are the host and the plugins, built once per test process, with the first use. The zero value is ready.
type Programs struct {
	once sync.Once
	dir  string
	err  error

	mu       sync.Mutex
	examples map[string]error // those that were built
	hosts    []string         // folders
	ports    map[int]bool     // given to hosts
}

// Main runs the tests and removes what was built; TestMain exits with the result. It is a failure when a process of a
// host or plugin is left.
func (p *Programs) Main(m *testing.M) int {
	code := m.Run()
	if p.dir == "" {
		return code
	}
	for _, dir := range append(p.hosts, p.dir) {
		for _, left := range processesBelow(dir) {
			fmt.Fprintln(os.Stderr, "harness: a process is left:", left)
			left.Kill()
			code = max(code, 1)
		}
	}
	if err := os.RemoveAll(p.dir); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		code = max(code, 1)
	}
	return code
}

// Build builds what is not built yet: ./core/cmd/grapnel, every plugin, and the test plugins in e2e/testdata.
func (p *Programs) Build(t testing.TB) {
	t.Helper()
	if p.once.Do(func() { p.dir, p.err = build() }); p.err != nil {
		t.Fatal(p.err)
	}
}

// Grapnel is the path of the host's binary.
func (p *Programs) Grapnel(t testing.TB) string {
	t.Helper()
	p.Build(t)
	return filepath.Join(p.dir, "grapnel")
}

// PluginDir is the folder of the plugins' binaries.
func (p *Programs) PluginDir(t testing.TB) string {
	t.Helper()
	p.Build(t)
	return filepath.Join(p.dir, "plugins")
}

// AddExample builds a plugin of the folder examples, such as "decoder-github", beside the others.
func (p *Programs) AddExample(t testing.TB, name string) {
	t.Helper()
	dir := p.PluginDir(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	err, built := p.examples[name]
	if !built {
		err = buildExample(dir, name)
		if p.examples == nil {
			p.examples = map[string]error{}
		}
		p.examples[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
}

func buildExample(dir, name string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	// Under another name first: a host that looks for plugins must not find half a program.
	made := filepath.Join(filepath.Dir(dir), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", made, "./examples/"+name)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.Rename(made, filepath.Join(dir, "grapnel-"+name))
}

func build() (dir string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if err := readSources(root); err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "grapnel-e2e-bin-"); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	packages := []string{"./core/cmd/grapnel"}
	for _, pattern := range []string{"plugins/*/main.go", "core/internal/e2e/testdata/*/main.go"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return dir, err
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, filepath.Dir(f))
			if err != nil {
				return dir, err
			}
			packages = append(packages, "./"+filepath.ToSlash(rel))
		}
	}
	// As make build builds them.
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/"}, packages...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go build: %w\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(dir, "plugins"), 0o700); err != nil {
		return dir, err
	}
	for _, p := range packages[1:] {
		name := filepath.Base(p)
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "plugins", "grapnel-"+name)); err != nil {
			return dir, err
		}
	}
	return dir, nil
}

// moduleRoot is the repository's folder, from whichever package the tests run in.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.work above the tests")
		}
		dir = up
	}
}

// readSources looks at every source file, so that `go test` knows that a cached result is void when one of them
// changes.
func readSources(root string) error {
	for _, top := range []string{"core", "sdk", "plugins", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if strings.HasSuffix(path, ".go") || d.Name() == "go.mod" {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
