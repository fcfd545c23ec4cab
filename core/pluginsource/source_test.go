package pluginsource

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entry is one of an archive.
type entry struct {
	name, content string
	kind          byte // of tar; 0: a file
}

const script = "#!/bin/sh\nexit 1\n"

func tarGz(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o755, Size: int64(len(e.content))}
		if e.kind != 0 {
			h.Typeflag, h.Linkname, h.Size, e.content = e.kind, e.content, 0, ""
		}
		if e.kind == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: e.kind, Name: e.name, PAXRecords: map[string]string{"comment": "x"}}
		}
		_, err := 0, tw.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = tw.Write([]byte(e.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		switch e.kind {
		case tar.TypeSymlink:
			h.SetMode(fs.ModeSymlink | 0o777)
		case tar.TypeDir:
			h.SetMode(fs.ModeDir | 0o755)
		case 0:
			h.SetMode(0o755)
		default:
			h.SetMode(fs.ModeNamedPipe)
		}
		f, err := w.CreateHeader(h)
		if err == nil && e.kind != tar.TypeDir {
			_, err = f.Write([]byte(e.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func staged(programs []Program) []string {
	var list []string
	for _, p := range programs {
		list = append(list, p.Platform+" "+p.FileName())
	}
	slices.Sort(list)
	return list
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// TestStage has the same programs in a folder, a tar and a zip.
func TestStage(t *testing.T) {
	good := []entry{
		{"./", "", tar.TypeDir},
		{"README.md", "about", 0},
		{"release/grapnel-sink-file_v1.2.0", script, 0},
		{"./grapnel-decoder-x", script + "x", 0},
		{"a/freebsd_riscv64/grapnel-sink-file_v1.2.0", script + "r", 0},
		{"a/freebsd_riscv64/", "", tar.TypeDir},
	}
	want := []string{
		pluginfile.Current() + " grapnel-decoder-x", pluginfile.Current() + " grapnel-sink-file_v1.2.0",
		"freebsd_riscv64 grapnel-sink-file_v1.2.0",
	}
	slices.Sort(want)
	folder := t.TempDir()
	write(t, folder, "README.md", []byte("about"))
	write(t, folder, "grapnel-sink-file_v1.2.0", []byte(script))
	write(t, folder, "grapnel-decoder-x", []byte(script+"x"))
	write(t, folder, "freebsd_riscv64/grapnel-sink-file_v1.2.0", []byte(script+"r"))
	sources := t.TempDir()
	for _, source := range []string{
		folder, write(t, sources, "a.tar.gz", tarGz(t, append(good, entry{"pax", "", tar.TypeXGlobalHeader})...)),
		write(t, sources, "a.zip", zipped(t, good...)), write(t, sources, "unnamed", zipped(t, good...)),
	} {
		dir := t.TempDir()
		programs, err := Stage(source, dir, Limits{}, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(want, staged(programs)); diff != "" {
			t.Errorf("%s:\n%s", source, diff)
		}
		for _, p := range programs {
			content, err := os.ReadFile(p.Path)
			if err != nil || sum(content) != p.SHA256 || int64(len(content)) != p.Size || !strings.HasPrefix(p.Path, dir) {
				t.Errorf("%+v: %v", p, err)
			}
			if info, err := os.Stat(p.Path); err != nil || info.Mode().Perm()&0o100 == 0 {
				t.Errorf("%s is not executable: %v", p.Path, err)
			}
		}
		only, err := Stage(source, t.TempDir(), Limits{}, func(f pluginfile.File) bool { return f.Kind == core.PluginDecoder })
		if err != nil || len(only) != 1 || only[0].Name != "x" {
			t.Errorf("%s: %+v, %v", source, only, err)
		}
	}
	one, err := Stage(filepath.Join(folder, "grapnel-sink-file_v1.2.0"), t.TempDir(), Limits{}, nil)
	if err != nil || len(one) != 1 || one[0].SHA256 != sum([]byte(script)) {
		t.Errorf("a single program: %+v, %v", one, err)
	}
	other, err := Stage(filepath.Join(folder, "freebsd_riscv64", "grapnel-sink-file_v1.2.0"), t.TempDir(), Limits{}, nil)
	if err != nil || len(other) != 1 || other[0].Platform != "freebsd_riscv64" {
		t.Errorf("a single program for another platform: %+v, %v", other, err)
	}
}

func TestStageRefuses(t *testing.T) {
	name := "grapnel-sink-file_v1.2.0"
	small := Limits{Program: 40, Total: 4000, Entries: 3, Archive: 5000}
	long := strings.Repeat("\n", 41)
	for what, c := range map[string]struct {
		want    string
		entries []entry
	}{
		"up":            {"leads out of it", []entry{{"../" + name, script, 0}}},
		"up, no plugin": {"leads out of it", []entry{{"a/../../README", "x", 0}}},
		"absolute":      {"leads out of it", []entry{{"/tmp/" + name, script, 0}}},
		"backslash":     {"leads out of it", []entry{{`..\` + name, script, 0}}},
		"folder up":     {"leads out of it", []entry{{"../x/", "", tar.TypeDir}}},
		"symlink":       {"is a link", []entry{{name, "/bin/sh", tar.TypeSymlink}}},
		"symlink there": {"is a link", []entry{{"docs", "/etc", tar.TypeSymlink}}},
		"pipe":          {"is a link", []entry{{name, "", tar.TypeFifo}}},
		"twice":         {"are the same program", []entry{{name, script, 0}, {"b/" + name, script, 0}}},
		"platform":      {"another platform", []entry{{"darwin_arm64/" + name, "\x7fELF" + strings.Repeat("\x00", 20), 0}}},
		"no program":    {"it is no program", []entry{{name, "hello", 0}}},
		"name":          {"the kind of a plugin", []entry{{"grapnel-x-file", script, 0}}},
		"version":       {"not a semantic version", []entry{{"grapnel-sink-file_v1", script, 0}}},
		"large":         {"at most 40 bytes", []entry{{name, script + long, 0}}},
		"many":          {"more than 3 entries", []entry{{"a", "", 0}, {"b", "", 0}, {"c", "", 0}, {"d", "", 0}}},
		"bomb":          {"too large", []entry{{"README", strings.Repeat("\x00", 100_000), 0}, {name, script, 0}}},
	} {
		for kind, archive := range map[string][]byte{"tar": tarGz(t, c.entries...), "zip": zipped(t, c.entries...)} {
			if what == "bomb" && kind == "zip" {
				continue // A zip's entries that nobody wants are not unpacked.
			}
			dir := t.TempDir()
			_, err := Stage(write(t, t.TempDir(), "a."+kind, archive), dir, small, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: %v, want %q", what, kind, err, c.want)
			}
		}
	}
	hard := tarGz(t, entry{name, "/bin/sh", tar.TypeLink})
	whole := tarGz(t, entry{name, script, 0})
	for what, c := range map[string]struct {
		want    string
		archive []byte
	}{
		"hard link": {"is a link", hard}, "cut": {"unexpected EOF", whole[:len(whole)-20]},
		"damaged zip": {"zip: not a valid zip file", []byte("PK\x03\x04 and so on")},
		"text":        {"neither a plugin's program", []byte("hello")}, "empty": {"neither a plugin's program", nil},
		"gzip only": {"", []byte("\x1f\x8b")}, "large": {"the most is 5000", bytes.Repeat([]byte("x"), 5001)},
	} {
		if _, err := Stage(write(t, t.TempDir(), "a", c.archive), t.TempDir(), small, nil); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if _, err := Stage(filepath.Join(t.TempDir(), "none"), t.TempDir(), small, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	folder := t.TempDir()
	if err := os.Symlink(write(t, t.TempDir(), "x", []byte(script)), filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
	if _, err := Stage(folder, t.TempDir(), small, nil); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Error(err)
	}
	if _, err := Stage(filepath.Join(folder, name), t.TempDir(), small, nil); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Error(err)
	}
}

func TestInstall(t *testing.T) {
	plugins := filepath.Join(t.TempDir(), "plugins")
	stage, err := NewStage(plugins)
	if err != nil {
		t.Fatal(err)
	}
	put := func(content string) Program {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(stage, pluginfile.Current())); err != nil {
			t.Fatal(err)
		}
		programs, err := Stage(write(t, t.TempDir(), "grapnel-sink-x_v1.0.0", []byte(content)), stage, Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return programs[0]
	}
	path, fresh, err := Install(plugins, put(script), false)
	if err != nil || !fresh || path != filepath.Join(plugins, "grapnel-sink-x_v1.0.0") {
		t.Fatal(path, fresh, err)
	}
	if _, fresh, err = Install(plugins, put(script), false); err != nil || fresh {
		t.Error("the same once more:", fresh, err)
	}
	if _, _, err = Install(plugins, put(script+"2"), false); !errors.Is(err, ErrExists) {
		t.Error("another:", err)
	}
	changed := put(script + "2")
	if err := os.WriteFile(changed.Path, []byte(script+"3"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err = Install(plugins, changed, true); err == nil || !strings.Contains(err.Error(), "was changed while") {
		t.Error("changed in the stage:", err)
	}
	if got, err := pluginfile.Hash(path); err != nil || got != sum([]byte(script)) {
		t.Error("what was there was touched:", err)
	}
	if _, fresh, err = Install(plugins, put(script+"2"), true); err != nil || !fresh {
		t.Error("replaced:", fresh, err)
	}
	// What was staged long ago and is nobody's goes; what is being installed stays.
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(stage, old, old); err != nil {
		t.Fatal(err)
	}
	second, err := NewStage(plugins)
	if err != nil {
		t.Fatal(err)
	}
	third, err := NewStage(plugins)
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(plugins, ".*"))
	want := []string{second, third}
	slices.Sort(want)
	if err != nil || !slices.Equal(left, want) {
		t.Error(left, want, err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(real, nil, 0o600), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, []byte("text")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(real)
	info, statErr := os.Lstat(link)
	if err := errors.Join(err, statErr); err != nil || string(text) != "text" || info.Mode()&fs.ModeSymlink == 0 {
		t.Error(string(text), info, err)
	}
	if info, err := os.Stat(real); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := WriteFile(filepath.Join(dir, "none", "x"), nil); err == nil {
		t.Error("no folder, no error")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// mirror packs programs of versions 1.0.0 and 1.1.0 and serves the folder. change gets its way before.
func mirror(t *testing.T, change func(dir string)) (*httptest.Server, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mirror")
	for _, v := range []string{"1.0.0", "1.1.0"} {
		folder := t.TempDir()
		write(t, folder, "grapnel-sink-x_v"+v, []byte(script+v))
		write(t, folder, "freebsd_riscv64/grapnel-sink-x_v"+v, []byte(script+v+"r"))
		programs, err := Stage(folder, t.TempDir(), Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Pack(dir, programs, false); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(dir)
	}
	s := httptest.NewTLSServer(http.StripPrefix("/plugins", http.FileServer(http.Dir(dir))))
	t.Cleanup(s.Close)
	return s, dir
}

func open(t *testing.T, s *httptest.Server, opts MirrorOptions) (*Mirror, error) {
	t.Helper()
	if opts.Transport == nil {
		opts.Transport = s.Client().Transport
	}
	m, err := OpenMirror(t.Context(), s.URL+"/plugins", opts)
	if err == nil {
		t.Cleanup(m.Close)
	}
	return m, err
}

// TestMirror packs a mirror, looks at it as documented, and installs from it over HTTPS.
func TestMirror(t *testing.T) {
	s, dir := mirror(t, nil)
	m, err := open(t, s, MirrorOptions{})
	if err != nil {
		t.Fatal(err)
	}
	platforms := []string{"freebsd_riscv64", pluginfile.Current()}
	slices.Sort(platforms)
	want := []Release{
		{"sink-x", "1.1.0", "sink-x_v1.1.0.tar.gz", platforms}, {"sink-x", "1.0.0", "sink-x_v1.0.0.tar.gz", platforms},
	}
	if diff := cmp.Diff(want, m.Releases); diff != "" {
		t.Error(diff)
	}
	programs, err := m.Fetch(t.Context(), m.Releases[1], t.TempDir())
	if err != nil || len(programs) != 2 {
		t.Fatal(programs, err)
	}
	for _, p := range programs {
		content := script + "1.0.0"
		if p.Platform != pluginfile.Current() {
			content += "r"
		}
		if p.SHA256 != sum([]byte(content)) || !strings.HasPrefix(p.From, s.URL+"/plugins/sink-x_v1.0.0.tar.gz (") {
			t.Errorf("%+v", p)
		}
	}
	// The same programs are the same archive; others are refused unless that is meant.
	before, err := pluginfile.Hash(filepath.Join(dir, want[0].Archive))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(content string, replace bool) error {
		programs, err := Stage(write(t, t.TempDir(), "grapnel-sink-x_v1.1.0", []byte(content)), t.TempDir(), Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Pack(dir, programs, replace)
		return err
	}
	if err := pack(script+"other", false); err == nil || !strings.Contains(err.Error(), "is in the mirror with other content") {
		t.Error(err)
	}
	if after, err := pluginfile.Hash(filepath.Join(dir, want[0].Archive)); err != nil || after != before {
		t.Error("it was replaced:", err)
	}
	if err := pack(script+"other", true); err != nil {
		t.Error(err)
	}
	// Who has read the checksums before is told.
	if _, err := m.Fetch(t.Context(), m.Releases[0], t.TempDir()); err == nil || !strings.Contains(err.Error(), "nothing was installed") {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func TestMirrorRefuses(t *testing.T) {
	const credential = "s3cr3t"
	replace := func(file, old, new string) func(string) {
		return func(dir string) {
			path := filepath.Join(dir, file)
			text, err := os.ReadFile(path)
			if err == nil && !strings.Contains(string(text), old) {
				err = fmt.Errorf("no %q in %s", old, file)
			}
			if err == nil {
				err = os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o600)
			}
			if err != nil {
				panic(err)
			}
		}
	}
	for what, c := range map[string]struct {
		want   string
		change func(dir string)
		opts   MirrorOptions
	}{
		"no index": {"404 Not Found: a mirror's folder has index.json and SHA256SUMS", func(dir string) {
			_ = os.Remove(filepath.Join(dir, IndexFile))
		}, MirrorOptions{}},
		"no checksums": {"404 Not Found: a mirror's folder", func(dir string) { _ = os.Remove(filepath.Join(dir, SumsFile)) }, MirrorOptions{}},
		"no archive": {"sink-x_v1.1.0.tar.gz: 404 Not Found", func(dir string) {
			_ = os.Remove(filepath.Join(dir, "sink-x_v1.1.0.tar.gz"))
		}, MirrorOptions{}},
		"no checksum of it": {"has no checksum of sink-x_v1.1.0.tar.gz", replace(SumsFile, "sink-x_v1.1.0", "sink-y_v1.1.0"), MirrorOptions{}},
		"other archive":     {"the mirror's SHA256SUMS says", replace("sink-x_v1.1.0.tar.gz", "\x1f\x8b", "\x1f\x8c"), MirrorOptions{}},
		"platform missing": {"holds no sink-x 1.1.0 for linux_s390x, which the index promises",
			replace(IndexFile, "freebsd_riscv64", "linux_s390x"), MirrorOptions{}},
		"other plugin":  {"holds no sink-y 1.1.0", replace(IndexFile, `"sink-x"`, `"sink-y"`), MirrorOptions{}},
		"index large":   {"has more than 100 bytes", nil, MirrorOptions{Limits: Limits{Text: 100}}},
		"archive large": {"an archive has at most 50 bytes", nil, MirrorOptions{Limits: Limits{Archive: 50}}},
		"program large": {"a program has at most 5 bytes", nil, MirrorOptions{Limits: Limits{Program: 5}}},
		"no JSON":       {"is no index of plugins", replace(IndexFile, "{", "<"), MirrorOptions{}},
	} {
		t.Run(what, func(t *testing.T) {
			s, _ := mirror(t, c.change)
			c.opts.Authorization = "Bearer " + credential
			m, err := open(t, s, c.opts)
			if err == nil {
				_, err = m.Fetch(t.Context(), m.Releases[0], t.TempDir())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), credential) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestMirrorAddress is about which addresses are taken, and where redirects may lead.
func TestMirrorAddress(t *testing.T) {
	for address, want := range map[string]string{
		"http://example.com/x":             "over https, or over http on this machine",
		"http://127.0.0.1.example.com/x":   "over https",
		"ftp://example.com":                "over https",
		"https:///x":                       "over https",
		"https://user:s3cr3t@example.com/": "holds a credential",
		"https://example.com/?key=s3cr3t":  "without ? and #",
		"https://exa mple.com/s3cr3t":      "is no URL",
		"https://example.com/x.tar.gz":     "download it, check it, and install the file",
	} {
		m, err := OpenMirror(t.Context(), address, MirrorOptions{Transport: refusing{}})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v, %v, want %q", address, m, err, want)
		}
	}
	for _, address := range []string{"http://localhost/x", "http://127.1.2.3:8080", "http://[::1]/x", "https://example.com/index.json"} {
		if _, err := OpenMirror(t.Context(), address, MirrorOptions{Transport: refusing{}}); !errors.Is(err, errRefusing) {
			t.Errorf("%s: %v", address, err)
		}
	}

	real, _ := mirror(t, nil)
	seen := make(chan string, 10)
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		http.Redirect(w, r, real.URL+r.URL.Path, http.StatusFound)
	}))
	defer elsewhere.Close()
	transport := real.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs.AddCert(elsewhere.Certificate())
	defer transport.CloseIdleConnections()
	first := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cr3t" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
	}))
	defer first.Close()
	transport.TLSClientConfig.RootCAs.AddCert(first.Certificate())
	if _, err := open(t, first, MirrorOptions{Transport: transport}); err == nil || !strings.Contains(err.Error(), "401 Unauthorized: --auth-env") {
		t.Error(err)
	}
	m, err := open(t, first, MirrorOptions{Transport: transport, Authorization: "Bearer s3cr3t"})
	if err != nil || len(m.Releases) != 2 {
		t.Fatal(err)
	}
	if got := <-seen; got != "" {
		t.Errorf("the credential went on to another host: %q", got)
	}
	for target, want := range map[string]string{"http://127.0.0.1:1": "away from https", "": "on and on"} {
		loop := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target+r.URL.Path, http.StatusFound)
		}))
		loop.StartTLS()
		if _, err := open(t, loop, MirrorOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		loop.Close()
	}
}

type refusing struct{}

var errRefusing = errors.New("no network here")

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errRefusing }

// TestMirrorTakesTooLong has a server that never answers, and one that never ends.
func TestMirrorTakesTooLong(t *testing.T) {
	for _, begin := range []bool{false, true} {
		release := make(chan struct{})
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if begin {
				_, _ = w.Write([]byte(`{"format"`))
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-r.Context().Done():
			case <-release:
			}
			panic(http.ErrAbortHandler) // not even an end
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := OpenMirror(ctx, s.URL, MirrorOptions{Transport: s.Client().Transport})
		if err == nil || !strings.Contains(err.Error(), "it took too long") {
			t.Error(err)
		}
		cancel()
		close(release)
		s.Close()
	}
}

func TestParse(t *testing.T) {
	hash := strings.Repeat("a", 64)
	sums, err := ParseSums([]byte("# made by hand\n" + hash + "  a.tar.gz\r\n\n" + strings.ToUpper(hash) + " *b/c.zip\n" + hash + "  ./d"))
	if diff := cmp.Diff(map[string]string{"a.tar.gz": hash, "b/c.zip": hash, "d": hash}, sums); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, s := range []string{"x", hash, hash + "  ", hash[1:] + "  a", hash + "  a\n" + strings.Repeat("b", 64) + "  a", `\` + hash + "  a"} {
		if sums, err := ParseSums([]byte(s)); err == nil {
			t.Errorf("%q: %v", s, sums)
		}
	}
	release := func(plugin, version, archive, platforms string) string {
		return fmt.Sprintf(`{"plugin": %q, "version": %q, "archive": %q, "platforms": [%s], "later": 1}`, plugin, version, archive, platforms)
	}
	good := release("sink-x", "1.0.0", "x/sink-x_v1.0.0+b.tar.gz", `"linux_amd64"`)
	if r, err := ParseIndex([]byte(`{"format": 1, "plugins": [` + good + `], "later": {}}`)); err != nil || len(r) != 1 {
		t.Error(r, err)
	}
	for want, text := range map[string]string{
		"has format 2":              `{"format": 2}`,
		"is no index":               `[]`,
		"names no plugin":           `{"format": 1, "plugins": [` + release("x", "1.0.0", "a", `"linux_amd64"`) + `]}`,
		"no version such as":        `{"format": 1, "plugins": [` + release("sink-x", "1.0", "a", `"linux_amd64"`) + `]}`,
		"is there twice":            `{"format": 1, "plugins": [` + good + `,` + good + `]}`,
		"has no platforms":          `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "a", ``) + `]}`,
		"is no platform":            `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "a", `"linux"`) + `]}`,
		`"../a" is no path`:         `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "../a", `"linux_amd64"`) + `]}`,
		`"a/../../b" is no path`:    `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "a/../../b", `"linux_amd64"`) + `]}`,
		`"/a" is no path`:           `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "/a", `"linux_amd64"`) + `]}`,
		`"https://b/c" is no path`:  `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "https://b/c", `"linux_amd64"`) + `]}`,
		`"a?b" is no path`:          `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "a?b", `"linux_amd64"`) + `]}`,
		`"a%2f..%2fb" is no path`:   `{"format": 1, "plugins": [` + release("sink-x", "1.0.0", "a%2f..%2fb", `"linux_amd64"`) + `]}`,
		"SHA256SUMS is not archive": "",
	} {
		if text == "" {
			continue
		}
		if r, err := ParseIndex([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", text, r, err, want)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"format":1,"plugins":[{"plugin":"sink-x","version":"1.0.0","archive":"a/b.tar.gz","platforms":["linux_amd64"]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		releases, err := ParseIndex(text)
		if err != nil {
			return
		}
		for _, r := range releases {
			if !filepath.IsLocal(r.Archive) || strings.ContainsAny(r.Archive, `%?#\:`) {
				t.Errorf("%q", r.Archive)
			}
		}
		again, err := encodeIndex(releases)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseIndex(again); err != nil || len(got) != len(releases) {
			t.Errorf("%s: %v", again, err)
		}
	})
}

func FuzzSums(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 32) + "  a.tar.gz\n" + strings.Repeat("0B", 32) + " *b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sums, err := ParseSums(text)
		if err != nil {
			return
		}
		again, err := ParseSums(encodeSums(sums))
		if err != nil {
			t.Fatalf("%q: %v", encodeSums(sums), err)
		}
		if diff := cmp.Diff(sums, again); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzArchive stages whatever it is given: nothing may land outside of the folder, be a link, or be larger than allowed.
func FuzzArchive(f *testing.F) {
	entries := []entry{
		{"grapnel-sink-file_v1.2.0", script, 0}, {"linux_arm64/grapnel-sink-file_v1.2.0", script, 0}, {"README", "x", 0},
	}
	f.Add(tarGz(f, entries...))
	f.Add(zipped(f, entries...))
	f.Add(tarGz(f, entry{"../grapnel-sink-x", script, 0}))
	f.Add(zipped(f, entry{"a", "/etc", tar.TypeSymlink}, entry{"a/grapnel-sink-x", script, 0}))
	limits := Limits{Program: 1 << 10, Total: 1 << 16, Entries: 10, Archive: 1 << 16}
	parent := f.TempDir()
	f.Fuzz(func(t *testing.T, archive []byte) {
		top, err := os.MkdirTemp(parent, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(top)
		source, dir := write(t, top, "archive", archive), filepath.Join(top, "a", "b", "stage")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		programs, _ := Stage(source, dir, limits, nil)
		for _, p := range programs {
			if p.Size > limits.Program || !strings.HasPrefix(p.Path, dir+string(filepath.Separator)) {
				t.Errorf("%+v", p)
			}
		}
		err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path == source {
				return err
			}
			if !strings.HasPrefix(path, dir+string(filepath.Separator)) || !d.Type().IsRegular() {
				t.Errorf("%s is there", path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
