package pluginhost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

const (
	describeIdle = 2 * time.Second // how long a process that described stays for the next question
	maxOpenRetry = 30 * time.Second
)

// Options configure a Host. Zero values are defaults.
type Options struct {
	Dir      string            // folder of the plugins' programs
	Dev      map[string]string // "<kind>-<name>" or name → path of a program that is taken instead; no pin applies
	Pins     map[string]Pin    // "<kind>-<name>" or name → which of its programs may run
	CacheDir string            // where descriptions are kept between runs; empty: in memory only
	TempDir  string            // where the run folder is made: sockets, copies of programs; default os.TempDir()
	Logger   hclog.Logger
	Secrets  []string // to be cut from logs and reasons of every plugin, beside what its schema declares sensitive
	Env      []string // more of the plugins' environment, "NAME=value"; of the host's own they get TZ and the CA paths

	MessageLimit int   // bytes of one message, both ways; default and most: wire.MaxMessage
	MemoryLimit  int64 // bytes in RAM per process; a process above is drained and replaced. 0: none. Linux only
	MaxEvents    int   // per request; default and most: core.MaxEvents

	StartTimeout   time.Duration // until a started plugin is connected; default 20 s
	OpenTimeout    time.Duration // of Open, Describe and Validate; default 15 s
	CallTimeout    time.Duration // of calls whose context has no deadline; default 30 s
	DrainTimeout   time.Duration // for calls in flight when a process is replaced; default 35 s
	HealthTimeout  time.Duration // of a health call; default 5 s
	AbandonedLimit int           // calls given up in one process before it is replaced; default 256
	QuarantineIdle time.Duration // after which an unused quarantine process stops; default 10 s
	MemoryPoll     time.Duration // default 2 s
	OpenRetry      time.Duration // first pause before another Open of an instance; doubles up to 30 s; default 1 s
}

// Host runs plugins. Its methods may be called from any number of goroutines; Close ends it.
type Host struct {
	opts        Options
	log         hclog.Logger
	own         hclog.Logger // what go-plugin itself has to say
	run         *runDir
	launcher    launcher
	policy      policy
	callContext atomic.Pointer[pluginv1.CallContext]
	ids         atomic.Int64 // of instances
	ctx         context.Context
	cancel      context.CancelFunc
	life        context.Context // ends when Close begins
	endLife     context.CancelFunc

	openTimeout, openRetry, closeTimeout, callTimeout, drainTimeout, laneIdle, memoryPoll time.Duration
	memoryLimit                                                                           int64
	abandonedLimit, maxEvents                                                             int

	describing sync.Mutex

	mu        sync.Mutex
	closed    bool
	binaries  map[string]*binary                     // by kind, name and path
	resolved  map[core.PluginKind]map[string]*binary // described last, by name
	infos     map[string]*core.PluginInfo            // by binary.key
	processes map[string]*process
	handles   map[*Handle]struct{} // blocks that are open
	upgrading map[string]bool      // plugins, by label
	lanes     []*lane
	stops     sync.WaitGroup // processes that lost their last instance, and upgrades
}

// New makes a host. It starts no process; it makes its private run folder and removes those that killed hosts have
// left.
func New(opts Options) (*Host, error) {
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	run, err := newRunDir(opts.TempDir)
	if err != nil {
		return nil, err
	}
	orDuration := func(d, otherwise time.Duration) time.Duration { return cmp.Or(max(d, 0), otherwise) }
	h := &Host{
		opts: opts, log: opts.Logger, own: quietLogger(opts.Logger), run: run, policy: defaultPolicy(),
		openTimeout:    orDuration(opts.OpenTimeout, 15*time.Second),
		openRetry:      orDuration(opts.OpenRetry, time.Second),
		closeTimeout:   5 * time.Second,
		callTimeout:    orDuration(opts.CallTimeout, 30*time.Second),
		drainTimeout:   orDuration(opts.DrainTimeout, 35*time.Second),
		laneIdle:       orDuration(opts.QuarantineIdle, 10*time.Second),
		memoryPoll:     orDuration(opts.MemoryPoll, 2*time.Second),
		memoryLimit:    opts.MemoryLimit,
		abandonedLimit: cmp.Or(max(opts.AbandonedLimit, 0), 256),
		maxEvents:      core.MaxEvents,
		binaries:       map[string]*binary{},
		resolved:       map[core.PluginKind]map[string]*binary{core.PluginDecoder: {}, core.PluginSink: {}},
		infos:          map[string]*core.PluginInfo{},
		processes:      map[string]*process{},
		handles:        map[*Handle]struct{}{},
		upgrading:      map[string]bool{},
	}
	h.SetLogLevel(opts.Logger.GetLevel())
	if opts.MaxEvents > 0 {
		h.maxEvents = min(opts.MaxEvents, core.MaxEvents)
	}
	limit := wire.MaxMessage
	if opts.MessageLimit > 0 {
		limit = min(opts.MessageLimit, limit)
	}
	h.launcher = launcher{
		dir: run.path, env: pluginEnv(opts.Env), messageLimit: limit, memoryLimit: opts.MemoryLimit,
		start:  orDuration(opts.StartTimeout, 20*time.Second),
		health: orDuration(opts.HealthTimeout, 5*time.Second),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.life, h.endLife = context.WithCancel(context.Background())
	return h, nil
}

// pluginEnv is the whole environment of plugins, but for what go-plugin adds. The host's own may hold secrets.
func pluginEnv(more []string) []string {
	env := []string{wire.EnvHostPID + "=" + strconv.Itoa(os.Getpid())}
	for _, name := range []string{"TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, more...)
}

func logLevel(l hclog.Level) string {
	switch l {
	case hclog.Trace:
		return wire.LogTrace
	case hclog.Debug:
		return wire.LogDebug
	case hclog.Warn:
		return wire.LogWarn
	case hclog.Error, hclog.Off:
		return wire.LogError
	}
	return wire.LogInfo
}

// quietLogger is for go-plugin. Its level Off keeps go-plugin from parsing what plugins write to their standard error,
// where one odd line makes it panic; its own messages are repeated at trace level.
func quietLogger(out hclog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "go-plugin", Level: hclog.Off, Output: io.Discard})
	l.RegisterSink(traceSink{out})
	return l
}

type traceSink struct{ out hclog.Logger }

// Accept implements hclog.SinkAdapter.
func (s traceSink) Accept(name string, _ hclog.Level, msg string, args ...any) {
	if s.out.IsTrace() {
		s.out.Trace("go-plugin: "+msg, append([]any{"from", name}, args...)...)
	}
}

func (h *Host) random() float64 { return rand.Float64() }

// starter returns the function that launches a process of the binary.
func (h *Host) starter(b *binary, role string) func(ctx context.Context) (*child, error) {
	log := h.log.Named("plugin").Named(b.label())
	if role != "" {
		log = log.With("role", role)
	}
	return func(ctx context.Context) (*child, error) {
		path, err := h.run.install(b.Path, b.sha256)
		if err != nil {
			return nil, err
		}
		c, err := h.launcher.launch(ctx, path, newProcessLog(log, b.redact), h.own)
		if err == nil && role != "" && h.memoryLimit > 0 {
			go h.guardMemory(c)
		}
		return c, err
	}
}

// guardMemory kills a process above the limit that nobody supervises: it has one call at most.
func (h *Host) guardMemory(c *child) {
	ticker := time.NewTicker(h.memoryPoll)
	defer ticker.Stop()
	for {
		select {
		case <-c.exited:
			return
		case <-ticker.C:
			if used := residentBytes(c.pid); used > h.memoryLimit {
				c.die(tooMuchMemory(used, h.memoryLimit))
				return
			}
		}
	}
}

func tooMuchMemory(used, limit int64) string {
	return fmt.Sprintf("killed because it used %d MiB of memory, its limit is %d MiB", used>>20, limit>>20)
}

// SinkOptions and DecoderOptions say more about one block.
type (
	SinkOptions struct {
		Isolated bool // a process of its own
		// Wait: a configuration that the plugin refuses is no error. The block is not ready until the plugin takes it, which is
		// tried again and again: what is wrong may be a file that is not there yet.
		Wait bool
	}
	// DecoderOptions describe how a source's decoder runs.
	DecoderOptions struct {
		Isolated bool   // a process of its own
		Wait     bool   // as SinkOptions.Wait
		Provider string // first part of the event types; default: that of the manifest. See core.Validation
		// Manifest is what the source's endpoint and routes were made from; nil: the plugin's own. An upgrade is held to
		// it.
		Manifest *sdk.Provider
	}
)

// open makes a block's first instance: it finds the process, and waits for the first attempt to open it there.
func (h *Host) open(ctx context.Context, hd *Handle, kind core.PluginKind, block, plugin string, config []byte,
	opts SinkOptions) error {
	// What the configuration was checked against is run, not what may be on disk by now.
	b := h.lookUp(kind, plugin)
	if b == nil {
		if _, err := h.Describe(ctx, kind, plugin); err != nil {
			return err
		}
		b = h.lookUp(kind, plugin)
	}
	info := h.known(b)
	if len(config) == 0 {
		config = []byte("{}")
	}
	b.redact.add(sensitiveTexts(&info.Config, config)...)
	p, err := h.process(b, info, block, opts.Isolated)
	if err != nil {
		return err
	}
	i := newInstance(p, block, config)
	hd.h, hd.kind, hd.plugin, hd.block, hd.isolated = h, kind, plugin, block, opts.Isolated
	hd.config, hd.made, hd.moved = config, info, make(chan struct{})
	if hd.manifest != nil {
		made := *info
		made.Provider = hd.manifest
		hd.made = &made
	}
	hd.at.Store(i)
	p.add(i)
	select {
	case <-i.first:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("open %s: %w", block, context.Cause(ctx)), i.close(ctx))
	}
	i.mu.Lock()
	attrs := i.attrs
	i.mu.Unlock()
	if len(attrs) > 0 && !opts.Wait {
		err := joinAttributes(attrs)
		if closeErr := i.close(ctx); closeErr != nil {
			h.log.Debug("instance did not close well", "error", closeErr)
		}
		return err
	}
	h.mu.Lock()
	h.handles[hd] = struct{}{}
	h.mu.Unlock()
	return nil
}

func (h *Host) lookUp(kind core.PluginKind, name string) *binary {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.resolved[kind][name]
}

// process returns the process for a block, making it if there is none. The caller adds an instance at once.
func (h *Host) process(b *binary, info *core.PluginInfo, block string, isolated bool) (*process, error) {
	key, sole := b.label()+"@"+b.sha256, ""
	if isolated {
		key, sole = key+"/"+block, block
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fmt.Errorf("%w: the host is closed", ErrNotReady)
	}
	p := h.processes[key]
	if p == nil {
		log := h.log.With("plugin", b.label())
		p = newProcess(h, key, info, sole, log, b.redact, h.starter(b, ""), h.starter(b, "quarantine"))
		h.processes[key] = p
	}
	p.users++
	return p, nil
}

// release gives a process up that lost an instance; without any it is stopped in the background.
func (h *Host) release(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.users--
	if p.users > 0 || h.closed {
		return
	}
	delete(h.processes, p.key)
	h.stops.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, h.drainTimeout)
		defer cancel()
		p.stop(ctx)
		h.forgetBuilds(ctx)
	})
}

// Close ends every process: calls in flight are awaited until ctx is done, instances closed, what does not end is
// killed. Items in flight then come back with an error and are nobody's fault. It removes the run folder.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.endLife()
	processes := make([]*process, 0, len(h.processes))
	for _, p := range h.processes {
		processes = append(processes, p)
	}
	lanes := h.lanes
	h.mu.Unlock()
	stop := context.AfterFunc(ctx, h.cancel)
	defer stop()
	var wg sync.WaitGroup
	for _, p := range processes {
		wg.Go(func() { p.stop(ctx) })
	}
	for _, l := range lanes {
		wg.Go(func() { l.stop(ctx) })
	}
	wg.Wait()
	h.stops.Wait()
	h.cancel()
	if err := h.run.close(); err != nil {
		return fmt.Errorf("remove the plugins' run folder: %w", err)
	}
	return nil
}

// ProcessStatus describes one plugin process for an operator.
type ProcessStatus struct {
	Kind       core.PluginKind
	Plugin     string
	Version    string
	Path       string
	SHA256     string
	Dev        bool
	Isolated   string // the block that has the process for itself; empty: shared
	State      State
	Reason     string // why it is not ready
	PID        int    // 0: none
	Quarantine int    // pid of the quarantine process; 0: none
	Started    time.Time
	Restarts   int
	RSS        int64         // bytes; 0: not known
	CPU        time.Duration // that it has used of processors; 0: not known
	InFlight   int           // calls
	Abandoned  int           // calls that got no answer in time
	Faults     int           // answers that broke the contract
	LastCrash  Crash         // zero: none
	Instances  []InstanceStatus
	Upgrade    string // "new", "old": while another version of the plugin takes over or is being left; else empty
}

// InstanceStatus describes one block in a process.
type InstanceStatus struct {
	Block  string
	Ready  bool
	Reason string // why it is not ready
}

// Status lists the processes, by kind, plugin and block.
func (h *Host) Status() []ProcessStatus {
	h.mu.Lock()
	processes := make([]*process, 0, len(h.processes))
	for _, p := range h.processes {
		processes = append(processes, p)
	}
	h.mu.Unlock()
	list := make([]ProcessStatus, 0, len(processes))
	for _, p := range processes {
		list = append(list, p.status())
	}
	slices.SortFunc(list, func(a, b ProcessStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.SHA256, b.SHA256),
			cmp.Compare(a.Isolated, b.Isolated))
	})
	return list
}

func (p *process) status() ProcessStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := ProcessStatus{
		Kind: p.info.Kind, Plugin: p.info.Name, Version: p.info.Version,
		Path: p.info.Path, SHA256: p.info.SHA256, Dev: p.info.Dev,
		Isolated: p.sole, State: p.m.state, Quarantine: p.apart.status(), Restarts: max(p.launches-1, 0),
		Abandoned: p.abandoned, Faults: p.faults, LastCrash: p.last, Upgrade: p.upgrade,
	}
	if s.State != Ready {
		s.Reason = p.last.Reason
	}
	if c := p.child; c != nil {
		s.PID, s.Started, s.InFlight, s.RSS = c.pid, c.started, c.calls.inFlight(), residentBytes(c.pid)
		s.CPU = cpuTime(c.pid)
	}
	for i := range p.instances {
		why := i.why()
		s.Instances = append(s.Instances, InstanceStatus{Block: i.block, Ready: why == "", Reason: why})
	}
	slices.SortFunc(s.Instances, func(a, b InstanceStatus) int { return strings.Compare(a.Block, b.Block) })
	return s
}
