package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/doctor"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
)

// What doctor returns when it has told what it found.
var (
	errWarnings = errors.New("warnings")
	errProblems = errors.New("problems")
)

func newDoctor() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong with a host, its folders and its configuration",
		Long: `Look for what is wrong with a host, its folders and its configuration, and say what to do about it. It changes nothing, and
works whether a host runs or not. Run it as the user of the host, on its machine and with its environment.

With --online, sources and sinks are opened beside that and look for their far ends, as with validate --online, and the
clock is compared with that of a far end.

Exit codes: 0 all is well; 1 it could not be checked; 2 the command line is wrong; 4 there are warnings; 5 there are
problems.`,
		Args: cobra.NoArgs,
	}
	path, asJSON := configFlag(c), jsonFlag(c)
	online := c.Flags().Bool("online", false, "open sources and sinks, check that far ends are there, and compare the clock")
	deep := c.Flags().Bool("deep", false, "check the indexes of the database, too, which takes longer")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if _, err := os.Stat(*path); err != nil {
			return err
		}
		x := &examination{path: *path, online: *online, deep: *deep, now: time.Now()}
		if err := x.run(c); err != nil {
			return err
		}
		if err := newPrinter(c, *asJSON).findings(x.found); err != nil {
			return err
		}
		switch doctor.Worst(x.found) {
		case doctor.Problem:
			return errProblems
		case doctor.Warning:
			return errWarnings
		case doctor.OK:
		}
		return nil
	}
	return c
}

func (p printer) findings(all []doctor.Finding) error {
	if p.json {
		for _, f := range all {
			if err := p.value(f); err != nil {
				return err
			}
		}
		return nil
	}
	count := map[doctor.Severity]int{}
	for _, f := range all {
		count[f.Severity]++
		text := f.What
		if f.Where != "" {
			text = f.Where + ": " + text
		}
		if _, err := fmt.Fprintf(p.out, "%-7s  %-13s  %s\n", f.Severity, f.Check, printable(text)); err != nil {
			return err
		}
		if f.Advice != "" {
			if _, err := fmt.Fprintf(p.out, "%26s%s\n", "→ ", printable(f.Advice)); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(p.out, "%s, %s\n", plural(count[doctor.Problem], "problem"), plural(count[doctor.Warning], "warning"))
	return err
}

// printable keeps a finding in its line: what it quotes may be foreign.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// examination collects the facts that package doctor judges.
type examination struct {
	path         string
	online, deep bool
	now          time.Time
	found        []doctor.Finding

	cfg     *config.Config // nil: it has mistakes
	said    *config.Diagnostics
	storage config.Storage
	dir     string        // of the data
	running bool          // a host
	status  *admin.Status // of it
	pid     int           // of it; 0: not known
	in      store.Inspection
}

func (x *examination) add(fs []doctor.Finding) { x.found = append(x.found, fs...) }

func (x *examination) run(c *cobra.Command) error {
	ctx := c.Context()
	x.configuration(c)
	storage, err := config.LoadStorage(x.path, config.Options{})
	if err != nil { // the findings on the configuration say why, and nothing else has a place
		return nil //nolint:nilerr // see above
	}
	x.storage, x.dir = storage, filepath.Dir(storage.Path)
	x.host(ctx)
	x.database(ctx)
	x.permissions()
	x.machine(ctx)
	x.plugins(ctx)
	if x.cfg != nil {
		x.listeners()
		if x.online {
			x.farEnds(ctx)
		}
	}
	return ctx.Err()
}

// configuration loads it. Certificates are checked by themselves.
func (x *examination) configuration(c *cobra.Command) {
	opt, done := commonOptions(c, config.Options{})
	defer done()
	opt.CheckTLS = nil
	x.cfg, x.said = config.Load(c.Context(), x.path, opt)
	x.add(diagnosed("configuration", x.said.All()))
	if x.cfg == nil {
		return
	}
	if len(x.found) == 0 {
		x.add([]doctor.Finding{{
			Check: "configuration", Severity: doctor.OK, Where: x.path,
			What: fmt.Sprintf("valid: %s, %s, %s; its secrets are there", plural(len(x.cfg.Sources), "source"),
				plural(len(x.cfg.Sinks), "sink"), plural(ownRoutes(x.cfg), "route")),
		}})
	}
}

func diagnosed(check string, said []config.Diagnostic) (list []doctor.Finding) {
	for _, d := range said {
		f := doctor.Finding{Check: check, Severity: doctor.Warning, What: d.Summary, Where: d.Range.File, Advice: d.Detail}
		if d.Severity == config.Error {
			f.Severity = doctor.Problem
		}
		if d.Range.Line > 0 {
			f.Where = fmt.Sprintf("%s:%d:%d", d.Range.File, d.Range.Line, d.Range.Column)
		}
		if f.Advice == "" {
			f.Advice = "grapnel validate shows the place"
		}
		list = append(list, f)
	}
	return list
}

// hostPatience is how long a host may take to say how it is.
const hostPatience = 10 * time.Second

// host asks the host that runs, if one does.
func (x *examination) host(ctx context.Context) {
	x.pid = lockHolder(x.dir)
	socket, err := admin.SocketPath(x.dir)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hostPatience)
	defer cancel()
	client := admin.NewClient(socket)
	defer client.Close()
	s, err := client.Status(ctx)
	f := doctor.Finding{Check: "host", Severity: doctor.OK, Where: x.dir, What: "no host runs"}
	switch {
	case err == nil:
		x.running, x.status = true, &s
		f.What = fmt.Sprintf("grapnel %s runs", s.Version)
	case !errors.Is(err, admin.ErrNotRunning):
		x.running = admin.Running(x.dir)
		f.Severity, f.What = doctor.Problem, fmt.Sprintf("the host does not answer: %v", err)
		f.Advice = "run it as the user of the host; else look into the host's log, and start it again"
	}
	x.found = append(x.found, f)
	if x.status != nil && x.status.Config != nil {
		failed := x.status.Config.Failed
		if failed == nil {
			x.add(doctor.CheckReload(false, ""))
		} else {
			x.add(doctor.CheckReload(true, failed.Error))
		}
	}
}

func (x *examination) database(ctx context.Context) {
	path := x.storage.Path
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		x.add([]doctor.Finding{{Check: "database", Severity: doctor.OK, Where: path, What: "there is none yet"}})
		return
	}
	in, err := sqlite.Inspect(ctx, path, x.deep, x.now)
	if err != nil {
		x.add([]doctor.Finding{{
			Check: "database", Severity: doctor.Problem, Where: path, What: fmt.Sprintf("it cannot be looked at: %v", err),
			Advice: "run it as the user of the host",
		}})
		return
	}
	x.in = in
	x.add(doctor.CheckDatabase(path, in, x.running))
	if len(in.Damage) == 0 && !in.Foreign && in.Schema <= in.Known {
		x.add(doctor.CheckStop(in, x.running || x.pid != 0))
		x.add(doctor.CheckLetters(in))
		var sinks []doctor.Sink
		if x.status != nil {
			for _, s := range x.status.Sinks {
				sinks = append(sinks, doctor.Sink{Name: s.Sink, State: s.State, Reason: s.Reason})
			}
		}
		x.add(doctor.CheckSinks(sinks, in.Paused))
		x.add(doctor.CheckLate(in))
	}
	var stale []doctor.Stale
	entries, _ := os.ReadDir(x.dir) // permissions tells why it cannot be read
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			stale = append(stale, doctor.Stale{Name: e.Name(), Age: x.now.Sub(info.ModTime()), Size: info.Size()})
		}
	}
	x.add(doctor.CheckStale(x.dir, stale))
}

func (x *examination) permissions() {
	var files []doctor.File
	look := func(kind doctor.Kind, path string) {
		if f, there := lookAt(kind, path); there {
			files = append(files, f)
		}
	}
	own := map[string]bool{config.LockPath(x.path): true}
	for _, f := range x.said.Files() {
		own[f.Name] = true
		c, there := lookAt(doctor.Config, f.Name)
		c.Spelt = strings.Contains(f.Text, "(sensitive)")
		if there {
			files = append(files, c)
		}
	}
	look(doctor.Config, config.LockPath(x.path))
	for _, name := range slices.Sorted(maps.Keys(x.said.Loaded())) {
		if !own[name] {
			look(doctor.Secret, name)
		}
	}
	if x.cfg != nil {
		for _, tls := range []*config.TLS{x.cfg.Server.TLS, x.cfg.Admin.TLS} {
			if tls != nil {
				look(doctor.Secret, tls.Key)
			}
		}
	}
	look(doctor.Folder, x.dir)
	owner := -1
	if n := len(files); n > 0 && files[n-1].Kind == doctor.Folder {
		owner = files[n-1].Owner
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		look(doctor.Database, x.storage.Path+suffix)
	}
	if socket, err := admin.SocketPath(x.dir); err == nil {
		look(doctor.Socket, socket)
	}
	if entries, err := os.ReadDir(x.pluginDir()); err == nil {
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "grapnel-") {
				look(doctor.Program, filepath.Join(x.pluginDir(), e.Name()))
			}
		}
	}
	x.add(doctor.Permissions(files, os.Getuid(), owner))
}

func (x *examination) pluginDir() string {
	p, _, _ := config.LoadPlugins(x.path, config.Options{})
	return p.Dir
}

// lookAt asks the system about a file; false: there is none.
func lookAt(kind doctor.Kind, path string) (doctor.File, bool) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return doctor.File{}, false
	}
	f := doctor.File{Path: path, Kind: kind, Err: err, Owner: -1}
	if err == nil {
		f.Mode, f.Owner, f.Writable = info.Mode(), ownerOf(info), writable(path)
	}
	return f, true
}

func (x *examination) machine(ctx context.Context) {
	dir := x.dir // or the next above that is there
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	if free, err := sqlite.FreeBytes(dir); err == nil && free < math.MaxInt64 {
		d := doctor.Disk{
			Dir: dir, Free: free, MinFree: x.storage.MinFree, Requests: x.in.Requests, LastDay: x.in.LastDay,
			Retention: x.storage.Retention,
		}
		if info, err := os.Stat(x.storage.Path); err == nil {
			d.Size = info.Size()
		}
		x.add(doctor.CheckDisk(d))
	}
	magic, _ := fileSystem(dir)
	x.add(doctor.FileSystem(dir, magic))
	temporary := os.TempDir()
	_, noexec := fileSystem(temporary)
	f, err := os.CreateTemp(temporary, "grapnel-doctor-")
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	x.add(doctor.Temporary(temporary, noexec, err))
	clock := doctor.Clock{Now: x.now, Newest: x.in.Newest}
	if x.online && x.cfg != nil {
		if far := farEnd(x.cfg); far != "" {
			clock.Far = far
			clock.Skew, clock.FarErr = skew(ctx, far)
		}
	}
	x.add(doctor.CheckClock(clock))
}

// farEnd is the origin of a sink's far end; empty: none has an address that can be seen.
func farEnd(cfg *config.Config) string {
	for _, s := range cfg.Sinks {
		var values map[string]any
		if json.Unmarshal(s.Config, &values) != nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			text, _ := values[name].(string)
			if u, err := url.Parse(text); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
				return u.Scheme + "://" + u.Host + "/" // the rest may be a secret
			}
		}
	}
	return ""
}

// skew compares the clock with the Date of an answer.
func skew(ctx context.Context, far string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, onlinePatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, far, nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	sent := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return 0, unwrapURL(err)
	}
	_ = resp.Body.Close()
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, errors.New("its answer has no date")
	}
	between := sent.Add(time.Since(sent) / 2)
	return between.Sub(at.Add(500 * time.Millisecond)), nil // the header leaves out what is less than a second
}

// plugins starts each program once, as it is on the disk.
func (x *examination) plugins(ctx context.Context) {
	p, uses, diags := config.LoadPlugins(x.path, config.Options{})
	if diags.HasErrors() {
		return
	}
	dev, pins := choices(p, hclog.NewNullLogger())
	host, err := pluginhost.New(pluginhost.Options{Dir: p.Dir, Dev: dev, Pins: pins, Logger: hclog.NewNullLogger()})
	var list []doctor.Plugin
	place := pluginPlace{config: x.path, plugins: p, uses: uses}
	for _, u := range uses {
		label := string(u.Kind) + "-" + u.Name
		v := doctor.Plugin{Label: label, Dev: place.pin(label).Dev != "", Locked: place.locked(label) != nil, Err: err}
		if err == nil {
			info, err := host.Describe(ctx, u.Kind, u.Name)
			if v.Err = err; err == nil {
				v.Path, v.Version, v.Protocol = info.Path, info.Version, info.Protocol
				if locked := place.locked(label); locked != nil && !v.Dev {
					v.Err = checkEntry(ctx, host, place, *locked)
				}
			}
		}
		list = append(list, v)
	}
	if host != nil {
		_ = host.Close(ctx) // they hold nothing
	}
	running := map[string]string{}
	if x.status != nil {
		for _, r := range x.status.Plugins {
			if r.State != "ready" {
				running[r.Plugin] = r.State
				if r.Reason != "" {
					running[r.Plugin] += ", " + r.Reason
				}
			}
			for _, b := range r.Blocks {
				if !b.Ready {
					running[r.Plugin+" "+b.Block] = b.Reason
				}
			}
		}
	}
	x.add(doctor.CheckPlugins(list, p.LockFile, running))
	if x.cfg != nil {
		x.add(doctor.Descriptors(fileLimit(x.hostPID()), x.cfg.Server.Limits.Connections, len(uses)))
	}
}

// hostPID is the process of the running host; 0: none, or not known.
func (x *examination) hostPID() int {
	if !x.running {
		return 0
	}
	return x.pid
}

func (x *examination) listeners() {
	srv, adm := x.cfg.Server, x.cfg.Admin
	ports := []doctor.Port{x.port("server.listen", srv.Listen)}
	if adm.Listen != "" {
		ports = append(ports, x.port("admin.listen", adm.Listen))
	}
	x.add(doctor.Ports(ports, x.running))
	name, _, _ := net.SplitHostPort(adm.Listen)
	ip := net.ParseIP(name)
	loopback := name == "localhost" || ip != nil && ip.IsLoopback()
	x.add(doctor.CheckAdmin(adm.Listen, loopback, adm.TLS != nil, adm.Token != ""))
	var certificates []doctor.Certificate
	for _, s := range []struct {
		setting string
		tls     *config.TLS
	}{{"server.tls", srv.TLS}, {"admin.tls", adm.TLS}} {
		if s.tls != nil {
			c := doctor.Certificate{Setting: s.setting, File: s.tls.Cert}
			c.Warning, c.Err = ingress.CheckCertificate(s.tls.Cert, s.tls.Key, x.now)
			certificates = append(certificates, c)
		}
	}
	x.add(doctor.CheckCertificates(certificates))
}

// port tries to listen at an address for a moment.
func (x *examination) port(setting, address string) doctor.Port {
	p := doctor.Port{Setting: setting, Address: address}
	ln, err := net.Listen("tcp", address)
	if err == nil {
		_ = ln.Close()
		return p
	}
	p.Err = err
	if errors.Is(err, syscall.EADDRINUSE) {
		p.Err = syscall.EADDRINUSE
		pid, name := listener(address)
		p.Ours = x.running && (pid == x.pid || pid == 0)
		if pid != 0 {
			p.Holder = fmt.Sprintf("%s (process %d)", name, pid)
		}
	}
	return p
}

// farEnds opens sources and sinks as validate --online does.
func (x *examination) farEnds(ctx context.Context) {
	before := len(x.said.All())
	var notes strings.Builder
	err := checkOnline(ctx, io.Discard, &notes, x.cfg, x.said)
	if err != nil {
		x.found = append(x.found, doctor.Finding{
			Check: "online", Severity: doctor.Problem, What: err.Error(), Advice: "see the findings on plugins",
		})
		return
	}
	said := x.said.All()
	if len(said) == before {
		x.found = append(x.found, doctor.Finding{
			Check: "online", Severity: doctor.OK,
			What: fmt.Sprintf("far ends are there: %s, %s", plural(len(x.cfg.Sources), "source"), plural(len(x.cfg.Sinks), "sink")),
		})
		return
	}
	had := map[string]bool{}
	for _, f := range x.found {
		had[f.Where+f.What] = true
	}
	for _, f := range diagnosed("online", said) {
		if !had[f.Where+f.What] {
			if f.Advice == "grapnel validate shows the place" {
				f.Advice = "mend its settings, or the far end; grapnel validate --online looks again"
			}
			if x.running { // it may have open what could not be opened here
				f.Severity, f.Advice = doctor.Warning, "the host that runs may have it open: grapnel status tells"
			}
			x.found = append(x.found, f)
		}
	}
}
