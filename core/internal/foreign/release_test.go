//go:build foreign && linux

package foreign

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const repository = "../../.."

// command runs a tool and returns what it printed.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out.Bytes(), complaint.Bytes())
	}
	return out.String()
}

// TestRelease makes a release for this machine, takes every file of it apart with the tools it is for, and runs what is in
// it. The service's unit is checked by systemd-analyze; that it starts is not, as there is no systemd where tests run.
func TestRelease(t *testing.T) {
	for _, tool := range []string{"dpkg-deb", "rpm", "rpm2cpio", "cpio", "systemd-analyze", "sha256sum", "chroot"} {
		need(t, tool)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "release")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir, build.Env = filepath.Join(repository, "tools/release"), append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dist := filepath.Join(dir, "dist")
	command(t, repository, program, "-version", "1.2.3-rc.1", "-targets", "linux/"+runtime.GOARCH, "-out", dist)
	of := func(ending string) string {
		return filepath.Join(dist, "grapnel_1.2.3-rc.1_linux_"+runtime.GOARCH+ending)
	}
	command(t, dist, "sha256sum", "--check", "--strict", "SHA256SUMS")
	if sums, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS")); err != nil || bytes.Count(sums, []byte("\n")) != 4 {
		t.Errorf("%v\n%s", err, sums)
	}

	deb := filepath.Join(dir, "deb")
	command(t, dir, "dpkg-deb", "--extract", of(".deb"), deb)
	t.Run("deb", func(t *testing.T) {
		if got := command(t, dir, "dpkg-deb", "--field", of(".deb"), "Version"); strings.TrimSpace(got) != "1.2.3~rc.1" {
			t.Errorf("version %q", got)
		}
		checkInstallation(t, deb)
		control := filepath.Join(dir, "control")
		command(t, dir, "dpkg-deb", "--control", of(".deb"), control)
		kept, err := os.ReadFile(filepath.Join(control, "conffiles"))
		if err != nil || string(kept) != "/etc/grapnel/config.hcl\n/etc/grapnel/secrets.env\n" {
			t.Errorf("%v; an upgrade keeps %q", err, kept)
		}
		for _, script := range []string{"postinst", "prerm"} {
			command(t, control, "sh", "-n", script)
		}
	})
	t.Run("rpm", func(t *testing.T) {
		root := filepath.Join(dir, "rpm")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		command(t, dir, "rpm", "--checksig", "--nosignature", of(".rpm"))
		command(t, root, "sh", "-c", `rpm2cpio "$0" | cpio --extract --make-directories --no-absolute-filenames --quiet`, of(".rpm"))
		checkInstallation(t, root)
		if got, want := installed(t, root), installed(t, deb); !slices.Equal(got, want) {
			t.Errorf("the RPM package has\n%s\nthe Debian package\n%s", got, want)
		}
		if got := command(t, dir, "rpm", "--query", "--package", "--configfiles", of(".rpm")); strings.Count(got, "\n") != 2 {
			t.Errorf("an upgrade keeps %q", got)
		}
	})
	t.Run("unit", func(t *testing.T) {
		unit, err := os.ReadFile(filepath.Join(deb, "usr/lib/systemd/system/grapnel.service"))
		if err != nil {
			t.Fatal(err)
		}
		// It looks for the programs, which are below here.
		there := strings.NewReplacer("ExecStart=/", "ExecStart="+deb+"/", "ExecReload=/", "ExecReload="+deb+"/")
		file := filepath.Join(dir, "grapnel.service")
		if err := os.WriteFile(file, []byte(there.Replace(string(unit))), 0o644); err != nil {
			t.Fatal(err)
		}
		command(t, dir, "systemd-analyze", "verify", "--man=no", file)
		t.Log(command(t, dir, "sh", "-c", `systemd-analyze security --offline=yes --threshold=25 "$0" | tail -n 1`, file))
	})
	t.Run("archive", func(t *testing.T) {
		root := filepath.Join(dir, "archive")
		f, err := os.Open(of(".tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		unpack(t, f, root)
		inside := filepath.Join(root, strings.TrimSuffix(filepath.Base(of("")), "/"))
		if got := command(t, inside, "bin/grapnel", "version"); !strings.Contains(got, "1.2.3-rc.1") {
			t.Errorf("got %q", got)
		}
		command(t, inside, "bin/grapnel", "test") // config.hcl by config.test.hcl, with the plugins beside them
	})
	t.Run("image", func(t *testing.T) { runImage(t, of(".image.tar"), filepath.Join(dir, "image")) })
}

// installed lists the files below a folder.
func installed(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// checkInstallation checks what a package puts into a system.
func checkInstallation(t *testing.T, root string) {
	t.Helper()
	if got := command(t, root, "usr/bin/grapnel", "version"); !strings.Contains(got, "1.2.3-rc.1") {
		t.Errorf("got %q", got)
	}
	sources, err := filepath.Glob(filepath.Join(repository, "plugins/*/go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	programs, err := os.ReadDir(filepath.Join(root, "usr/lib/grapnel/plugins"))
	if err != nil || len(programs) != len(sources) {
		t.Errorf("%v; %d plugins of %d", err, len(programs), len(sources))
	}
	for _, name := range []string{
		"etc/grapnel/config.hcl", "usr/share/man/man1/grapnel.1", "usr/share/bash-completion/completions/grapnel",
		"usr/share/zsh/site-functions/_grapnel", "usr/share/fish/vendor_completions.d/grapnel.fish",
		"usr/lib/systemd/system/grapnel.service", "usr/lib/sysusers.d/grapnel.conf", "usr/share/doc/grapnel/LICENSE",
	} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// As installed, but for where the plugins are.
	text, err := os.ReadFile(filepath.Join(root, "etc/grapnel/config.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.hcl")
	here := strings.ReplaceAll(string(text), "/usr/lib/grapnel", filepath.Join(root, "usr/lib/grapnel"))
	if err := os.WriteFile(config, []byte(here), 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, root, "usr/bin/grapnel", "validate", "--config", config)
}

// unpack unpacks a .tar.gz, with its owners where that is allowed.
func unpack(t *testing.T, r io.Reader, root string) {
	t.Helper()
	zr, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(root, h.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(name, 0o755)
		default:
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(name, data, 0o644)
			}
		}
		if err == nil && os.Geteuid() == 0 {
			err = os.Chown(name, h.Uid, h.Gid)
		}
		if err == nil {
			err = os.Chmod(name, h.FileInfo().Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// runImage unpacks a container image and runs it as its configuration says, in a root of its own, as a container tool would
// but without namespaces. It has to be root for that.
func runImage(t *testing.T, image, dir string) {
	if os.Geteuid() != 0 {
		t.Fatal("changing the root needs root: run these tests as root")
	}
	parts := map[string][]byte{}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if parts[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(parts["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("%v: %s", err, parts["manifest.json"])
	}
	var settings struct {
		Config struct {
			User            string
			Entrypoint, Cmd []string
		} `json:"config"`
	}
	if err := json.Unmarshal(parts[manifest[0].Config], &settings); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	for _, layer := range manifest[0].Layers {
		unpack(t, bytes.NewReader(parts[layer]), root)
	}
	if user := settings.Config.User; user != "65532:65532" {
		t.Fatalf("it runs as %q", user)
	}
	for at := root; at != "/" && at != "."; at = filepath.Dir(at) { // the way there is open for that user, too
		info, err := os.Stat(at)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o1 == 0 {
			if err := os.Chmod(at, info.Mode().Perm()|0o1); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What every container gets.
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	const null = 1<<8 | 3
	if err := syscall.Mknod(filepath.Join(root, "dev/null"), syscall.S_IFCHR|0o666, null); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "dev/null"), 0o666); err != nil {
		t.Fatal(err)
	}

	listen, admin := freePort(t), freePort(t)
	config := filepath.Join(root, "etc/grapnel/config.hcl")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	own := strings.NewReplacer(`":8080"`, strconv.Quote(listen), `"127.0.0.1:8081"`, strconv.Quote(admin)).Replace(string(text)) + `
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}
sink "file" "archive" {
  dir = "/var/lib/grapnel/events"
}
route "everything" {
  on = ["*"]
  to "file" "archive" {}
}
`
	if err := os.WriteFile(config, []byte(own), 0o644); err != nil {
		t.Fatal(err)
	}
	inside := func(ctx context.Context, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "chroot", append([]string{"--userspec=65532:65532", root}, args...)...)
		cmd.Env = []string{"HOME=/var/lib/grapnel", "PEOPLEFORCE_SECRET=open-sesame"}
		return cmd
	}
	host := inside(context.WithoutCancel(t.Context()), append(settings.Config.Entrypoint, settings.Config.Cmd...)...)
	var log bytes.Buffer
	host.Stderr = &log
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		_ = host.Process.Signal(syscall.SIGTERM)
		end := time.AfterFunc(30*time.Second, func() { _ = host.Process.Kill() })
		defer end.Stop()
		if err := host.Wait(); err != nil {
			t.Errorf("it ended with %v\n%s", err, log.Bytes())
		}
	}
	defer stop()
	eventually(t, "the host in the image is ready", func() bool {
		resp, err := http.Get("http://" + admin + "/")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	send := inside(t.Context(), "/usr/bin/grapnel", "send", "people", "peopleforce.employee.created", "--config",
		"/etc/grapnel/config.hcl")
	if out, err := send.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	eventually(t, "the event is in the file", func() bool {
		data, err := os.ReadFile(filepath.Join(root, "var/lib/grapnel/events/events.jsonl"))
		return err == nil && bytes.Contains(data, []byte(`"peopleforce.employee.created"`))
	})
	stop()
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(fmt.Errorf("not within a minute: %s", what))
		}
	}
}
