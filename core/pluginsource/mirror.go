package pluginsource

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/pluginfile"
)

// The files of a mirror, beside its archives.
const (
	IndexFile = "index.json"
	SumsFile  = "SHA256SUMS"
)

// Release is one version of a plugin in a mirror.
type Release struct {
	Plugin    string   `json:"plugin"` // <kind>-<name>
	Version   string   `json:"version"`
	Archive   string   `json:"archive"`   // path of a tar.gz or zip, from the mirror's folder
	Platforms []string `json:"platforms"` // that it has a program for
}

// index is the file that says what a mirror has.
type index struct {
	Format  int       `json:"format"`
	Plugins []Release `json:"plugins"`
}

const indexFormat = 1

// ParseIndex reads a mirror's index. Fields that it does not know do not matter.
func ParseIndex(text []byte) ([]Release, error) {
	var x index
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("%s is no index of plugins: %s", IndexFile, oneLine(err.Error()))
	}
	if x.Format != indexFormat {
		return nil, fmt.Errorf("%s has format %d, this version of grapnel reads format %d", IndexFile, x.Format, indexFormat)
	}
	seen := map[string]bool{}
	for i, r := range x.Plugins {
		at := fmt.Sprintf("%s: plugin %d", IndexFile, i+1)
		if _, err := pluginfile.ParseLabel(r.Plugin); err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		at = fmt.Sprintf("%s: %s %s", IndexFile, r.Plugin, oneLine(r.Version))
		switch id := r.Plugin + " " + r.Version; {
		case !pluginfile.IsVersion(r.Version) || r.Version == "devel":
			return nil, fmt.Errorf("%s: that is no version such as 1.2.0", at)
		case seen[id]:
			return nil, fmt.Errorf("%s is there twice", at)
		case !archivePattern.MatchString(r.Archive) || !filepath.IsLocal(filepath.FromSlash(r.Archive)):
			return nil, fmt.Errorf("%s: %q is no path of an archive in the mirror's folder", at, oneLine(r.Archive))
		case len(r.Platforms) == 0:
			return nil, fmt.Errorf("%s has no platforms", at)
		default:
			seen[id] = true
		}
		for _, p := range r.Platforms {
			if !pluginfile.IsPlatform(p) {
				return nil, fmt.Errorf("%s: %q is no platform such as linux_amd64", at, oneLine(p))
			}
		}
	}
	return x.Plugins, nil
}

// archivePattern leaves out what means something in a URL.
var archivePattern = regexp.MustCompile(`^[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*$`)

// ParseSums reads checksums as sha256sum writes them, by the paths of archives. What is no such path is left out.
func ParseSums(text []byte) (map[string]string, error) {
	sums := map[string]string{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		sum, name, _ := strings.Cut(line, " ")
		name = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(name, " "), "*"), "./")
		if !sumPattern.MatchString(sum) || name == "" {
			return nil, fmt.Errorf("%s: line %d is not the hash of a file as sha256sum writes it", SumsFile, n)
		}
		if !archivePattern.MatchString(name) {
			continue // of something that no index can name
		}
		sum = strings.ToLower(sum)
		if old, twice := sums[name]; twice && old != sum {
			return nil, fmt.Errorf("%s: line %d gives %s a second hash", SumsFile, n, oneLine(name))
		}
		sums[name] = sum
	}
	return sums, nil
}

var sumPattern = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)

// MirrorOptions say how a mirror is reached.
type MirrorOptions struct {
	Authorization string // header of that name, for the mirror's own host only; empty: none. It shows in no error
	UserAgent     string
	Limits        Limits
	Transport     http.RoundTripper // default: the system's proxy and roots, bounded waits
}

// Mirror is a folder of plugins on a web server.
type Mirror struct {
	Releases []Release

	base   *url.URL
	opts   MirrorOptions
	client *http.Client
	sums   map[string]string
}

// IsURL reports whether a source is meant as a mirror's address.
func IsURL(source string) bool {
	return strings.HasPrefix(source, "https:") || strings.HasPrefix(source, "http:")
}

// OpenMirror reads a mirror's index and checksums. The address is that of its folder: https, or http on this machine. ctx
// bounds this and, by another, Fetch.
func OpenMirror(ctx context.Context, address string, opts MirrorOptions) (*Mirror, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("the mirror's address is no URL") // the error would quote it, and what may be in it
	case u.User != nil:
		return nil, errors.New("the mirror's address holds a credential: command lines can be read by others; " +
			"put the value of the Authorization header into an environment variable and name it with --auth-env")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("a mirror's address is that of a folder, without ? and #")
	case u.Host == "" || !allowed(u):
		return nil, fmt.Errorf("%s: a mirror is reached over https, or over http on this machine", u)
	case isArchive(u.Path):
		return nil, fmt.Errorf("%s is an archive, not a mirror: download it, check it, and install the file", u)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, IndexFile), "/") + "/"
	u.RawPath = ""
	opts.Limits = opts.Limits.withDefaults()
	if opts.Transport == nil {
		opts.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
			DisableCompression: true, ForceAttemptHTTP2: true, IdleConnTimeout: time.Second,
		}
	}
	m := &Mirror{base: u, opts: opts}
	m.client = &http.Client{Transport: opts.Transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if !allowed(r.URL) || r.URL.Scheme != "https" && u.Scheme == "https" {
			return errors.New("it leads away from https")
		}
		if len(via) >= 5 {
			return errors.New("it leads on and on")
		}
		if r.URL.Host != u.Host {
			r.Header.Del("Authorization")
		}
		return nil
	}}
	text, err := m.text(ctx, IndexFile)
	if err != nil {
		return nil, err
	}
	if m.Releases, err = ParseIndex(text); err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	if text, err = m.text(ctx, SumsFile); err != nil {
		return nil, err
	}
	if m.sums, err = ParseSums(text); err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	return m, nil
}

// Close frees connections.
func (m *Mirror) Close() { m.client.CloseIdleConnections() }

// allowed reports whether nobody between here and there can change what comes.
func allowed(u *url.URL) bool {
	if u.Scheme != "http" {
		return u.Scheme == "https"
	}
	if u.Hostname() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback()
}

// Fetch downloads a release's archive into a folder, checks it, and stages its programs there, for every platform.
func (m *Mirror) Fetch(ctx context.Context, r Release, dir string) ([]Program, error) {
	want, ok := m.sums[r.Archive]
	if !ok {
		return nil, fmt.Errorf("%s: %s has no checksum of %s", m.base, SumsFile, r.Archive)
	}
	body, err := m.get(ctx, r.Archive)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	file := filepath.Join(dir, "archive")
	defer func() { _ = os.Remove(file) }() // its folder goes, too
	hash := sha256.New()
	most := m.opts.Limits.Archive
	n, err := writeNew(file, 0o600, io.TeeReader(io.LimitReader(body, most+1), hash))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.base.JoinPath(r.Archive), plain(err))
	}
	if n > most {
		return nil, fmt.Errorf("%s: an archive has at most %d bytes, this one has more", m.base.JoinPath(r.Archive), most)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return nil, fmt.Errorf("%s: its sha256 is %s, the mirror's %s says %s: nothing was installed",
			m.base.JoinPath(r.Archive), got, SumsFile, want)
	}
	programs, err := Stage(file, dir, m.opts.Limits, func(f pluginfile.File) bool {
		return f.Label() == r.Plugin && f.Version == r.Version
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.base.JoinPath(r.Archive), err)
	}
	for _, p := range r.Platforms {
		if !slices.ContainsFunc(programs, func(x Program) bool { return x.Platform == p }) {
			return nil, fmt.Errorf("%s holds no %s %s for %s, which the index promises",
				m.base.JoinPath(r.Archive), r.Plugin, r.Version, p)
		}
	}
	for i := range programs {
		programs[i].From = m.base.JoinPath(r.Archive).String() + " (" + programs[i].From + ")"
	}
	return programs, nil
}

func (m *Mirror) text(ctx context.Context, name string) ([]byte, error) {
	body, err := m.get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(body, m.opts.Limits.Text+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", m.base.JoinPath(name), plain(err))
	}
	if int64(b.Len()) > m.opts.Limits.Text {
		return nil, fmt.Errorf("%s has more than %d bytes", m.base.JoinPath(name), m.opts.Limits.Text)
	}
	return b.Bytes(), nil
}

func (m *Mirror) get(ctx context.Context, name string) (io.ReadCloser, error) {
	address := m.base.JoinPath(name)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	if m.opts.UserAgent != "" {
		r.Header.Set("User-Agent", m.opts.UserAgent)
	}
	if m.opts.Authorization != "" {
		r.Header.Set("Authorization", m.opts.Authorization)
	}
	resp, err := m.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, plain(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	err = fmt.Errorf("%s: %d %s", address, resp.StatusCode, http.StatusText(resp.StatusCode))
	switch resp.StatusCode {
	case http.StatusNotFound:
		if name != IndexFile && name != SumsFile {
			break
		}
		err = fmt.Errorf("%w: a mirror's folder has %s and %s", err, IndexFile, SumsFile)
	case http.StatusUnauthorized, http.StatusForbidden:
		err = fmt.Errorf("%w: --auth-env names an environment variable with the value of the Authorization header", err)
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// plain takes addresses, which a redirect may have given a credential, out of an HTTP client's error.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it took too long: %w (--timeout)", err)
	}
	return err
}
