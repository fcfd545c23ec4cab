// Command release makes what users install, for every target: an archive, and for Linux a Debian and an RPM package and a
// container image that `docker load` and `podman load` take. It needs Go and git only, and makes the same files of the same
// commit. Run it from the repository's root, or by `make release`.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

func main() {
	version := flag.String("version", "0.1.0-dev", "of what is released, without a v")
	targets := flag.String("targets", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64", "os/arch, separated by commas")
	out := flag.String("out", "dist", "folder for the files; what is in it goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *version, strings.Split(*targets, ","), *out); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is what all targets have in common.
type release struct {
	version string
	at      time.Time // of the commit
	out     string
	work    string // folder of what goes into the files
	shared  []file // the same for every target
}

// file is one file of an installation.
type file struct {
	name   string      // where it goes, from / on
	source string      // where it is
	mode   os.FileMode // permissions
	config bool        // people change it: an upgrade leaves it alone
}

func run(ctx context.Context, version string, targets []string, out string) error {
	r := &release{version: version, out: out, work: filepath.Join(out, "work")}
	for _, clean := range []func() error{
		func() error { return os.RemoveAll(out) },
		func() error { return os.MkdirAll(r.work, 0o755) },
	} {
		if err := clean(); err != nil {
			return err
		}
	}
	defer os.RemoveAll(r.work)
	var err error
	if r.at, err = commitTime(ctx); err != nil {
		return err
	}
	if r.shared, err = r.documents(ctx); err != nil {
		return err
	}
	for _, target := range targets {
		system, arch, ok := strings.Cut(target, "/")
		if !ok {
			return fmt.Errorf("%q is not os/arch, such as linux/amd64", target)
		}
		if err := r.target(ctx, system, arch); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	return checksums(out)
}

// target makes the files of one.
func (r *release) target(ctx context.Context, system, arch string) error {
	programs, err := r.programs(ctx, system, arch)
	if err != nil {
		return err
	}
	files := append(programs, r.shared...)
	name := filepath.Join(r.out, fmt.Sprintf("grapnel_%s_%s_%s", r.version, system, arch))
	if err := r.archive(name+".tar.gz", files); err != nil {
		return err
	}
	if system != "linux" {
		return nil
	}
	for _, format := range []string{"deb", "rpm"} {
		if err := r.pack(format, arch, name+"."+format, files); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	if err := r.image(arch, name+".image.tar", files); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

// programs builds the host and all plugins.
func (r *release) programs(ctx context.Context, system, arch string) ([]file, error) {
	dir := filepath.Join(r.work, system+"_"+arch)
	env := append(os.Environ(), "GOOS="+system, "GOARCH="+arch)
	host := file{name: "/usr/bin/grapnel", source: filepath.Join(dir, "grapnel"), mode: 0o755}
	if err := r.build(ctx, env, host.source, "./core/cmd/grapnel"); err != nil {
		return nil, err
	}
	files := []file{host}
	plugins, err := filepath.Glob("plugins/*/go.mod")
	if err != nil {
		return nil, err
	}
	for _, mod := range plugins {
		plugin := filepath.Base(filepath.Dir(mod))
		f := file{name: "/usr/lib/grapnel/plugins/grapnel-" + plugin, source: filepath.Join(dir, plugin), mode: 0o755}
		if err := r.build(ctx, env, f.source, "./"+filepath.Dir(mod)); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func (r *release) build(ctx context.Context, env []string, to, pkg string) error {
	flags := "-s -w -X main.version=" + r.version + " -X github.com/grapnelhq/grapnel/sdk/serve.version=" + r.version
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", flags, "-o", to, pkg)
	cmd.Env = append(env, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}

// documents makes what is the same on every system; the host itself writes its manual pages and completions.
func (r *release) documents(ctx context.Context) ([]file, error) {
	const doc, etc = "/usr/share/doc/grapnel/", "/etc/grapnel/"
	files := []file{
		{name: doc + "LICENSE", source: "LICENSE", mode: 0o644},
		{name: doc + "README.md", source: "README.md", mode: 0o644},
		{name: doc + "CHANGELOG.md", source: "CHANGELOG.md", mode: 0o644},
		{name: etc + "config.hcl", source: "tools/release/files/config.hcl", mode: 0o644, config: true},
		{name: etc + "secrets.env", source: "tools/release/files/secrets.env", mode: 0o640, config: true},
		{name: "/usr/lib/systemd/system/grapnel.service", source: "tools/release/files/grapnel.service", mode: 0o644},
		{name: "/usr/lib/sysusers.d/grapnel.conf", source: "tools/release/files/sysusers.conf", mode: 0o644},
	}
	host := filepath.Join(r.work, "grapnel")
	env := append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH) // it is to run here
	if err := r.build(ctx, env, host, "./core/cmd/grapnel"); err != nil {
		return nil, err
	}
	man := filepath.Join(r.work, "man")
	if err := exec.CommandContext(ctx, host, "man", man).Run(); err != nil {
		return nil, fmt.Errorf("write the manual pages: %w", err)
	}
	pages, err := os.ReadDir(man)
	if err != nil {
		return nil, err
	}
	for _, p := range pages {
		files = append(files, file{name: "/usr/share/man/man1/" + p.Name(), source: filepath.Join(man, p.Name()), mode: 0o644})
	}
	for shell, name := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/grapnel",
		"zsh":  "/usr/share/zsh/site-functions/_grapnel",
		"fish": "/usr/share/fish/vendor_completions.d/grapnel.fish",
	} {
		script, err := exec.CommandContext(ctx, host, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("write the completions of %s: %w", shell, err)
		}
		f := file{name: name, source: filepath.Join(r.work, "completion."+shell), mode: 0o644}
		if err := os.WriteFile(f.source, script, 0o644); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// commitTime is when the commit was made that is released; all files get it.
func commitTime(ctx context.Context) (time.Time, error) {
	out, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask git for the commit's time: %w", err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask git for the commit's time: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// checksums writes SHA256SUMS, which sha256sum -c reads.
func checksums(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "grapnel_*"))
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		_ = f.Close() // it was only read
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), filepath.Base(name))
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
