package pluginhost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// UpgradeStage is how far an upgrade has come.
type UpgradeStage string

// The stages, in their order. Until Settled everything can go back to where it was.
const (
	UpgradeChecking UpgradeStage = "checking" // the program is described, and compared with what runs
	UpgradeStarting UpgradeStage = "starting" // its processes are launched beside the old ones
	UpgradeOpening  UpgradeStage = "opening"  // Done of Total blocks are open in them
	UpgradeMoved    UpgradeStage = "moved"    // every new call goes there; the trial begins
	UpgradeSettled  UpgradeStage = "settled"  // the trial is over
	UpgradeDraining UpgradeStage = "draining" // Done of Total blocks have no call in the old processes any more
	UpgradeDone     UpgradeStage = "done"     // the old processes are gone
)

// UpgradeProgress tells of an upgrade under way.
type UpgradeProgress struct {
	Stage       UpgradeStage
	Done, Total int
}

// UpgradeOptions say more about an upgrade.
type UpgradeOptions struct {
	SHA256 string // what the program has to be, hexadecimal; empty: any
	// Allow has the last word on a program, after it described itself; nil: it may run.
	Allow func(*core.PluginInfo) error
	// Dev: a program under development. Its description is not kept, and changed events are no reason to refuse it.
	Dev    bool
	Trial  time.Duration // for so long after the move a crash takes everything back; 0: 3 s
	NoWait bool          // return when the trial is over, not when the old version is drained
	// Uses says whether a route sets an attribute of the messages to a sink; nil: each is set.
	Uses     func(block, attribute string) bool
	Progress func(UpgradeProgress) // called from the caller's goroutine; may be nil
}

const defaultTrial = 3 * time.Second

// Upgrade is what an upgrade came to.
type Upgrade struct {
	From, To *core.PluginInfo // From is what ran; of several versions, one
	Blocks   []string         // that moved
	Same     bool             // the program ran already, nothing was done
	Notes    []string         // what is not in force before a restart
	Drained  bool             // false: the caller did not wait for the last calls in the old version; they go on
}

// RefusedError says that a program cannot take the place of one that runs, before it was tried.
type RefusedError struct {
	Plugin   string // "sink-file"
	Path     string
	Blocks   map[string][]sdk.AttributeError // what does not fit in the blocks' configurations
	Problems []string                        // what does not fit otherwise
}

// Names lists the blocks whose configurations do not fit.
func (e *RefusedError) Names() []string { return slices.Sorted(maps.Keys(e.Blocks)) }

// Error implements error.
func (e *RefusedError) Error() string {
	reasons := slices.Clone(e.Problems)
	for _, block := range e.Names() {
		for k := range e.Blocks[block] {
			reasons = append(reasons, block+": "+e.Blocks[block][k].Error())
		}
	}
	return fmt.Sprintf("%s (%s) does not fit under the running configuration: %s", e.Plugin, e.Path,
		strings.Join(reasons, "; "))
}

// RolledBackError says that a program was tried and that everything is back in the one that ran.
type RolledBackError struct {
	Reason string
	Cause  error // may be nil
}

// Error implements error.
func (e *RolledBackError) Error() string { return "taken back: " + e.Reason }

// Unwrap makes errors.Is true for the cause.
func (e *RolledBackError) Unwrap() error { return e.Cause }

// ErrNotUsed says that no block of the running configuration uses a plugin.
var ErrNotUsed = errors.New("no block uses it")

// ErrUpgrading says that a plugin is being upgraded already.
var ErrUpgrading = errors.New("it is being upgraded already")

// Upgrade puts all blocks of a plugin into another program of it while calls go on. The program may be anywhere; what it
// calls itself must be right.
//
// The new program starts beside the old one, opens every block that is open in the old one, and then gets all new calls,
// block by block. A call belongs to one version from its beginning to its end, with what quarantine makes of it, so that
// whoever has at most one delivery of a key in flight still has: no call waits for another one because of an upgrade, and
// there is no pause, however long the last calls in the old version take.
//
// Until the trial is over the old version stays open and idle. A crash of the new one, or the end of ctx, takes
// everything back: a *RolledBackError. Calls that were in flight in what crashed then come back as ErrNotReady, nobody is
// charged, and they are made again in the old version. After the trial the old version is drained, its instances are
// closed and its processes stopped, even if ctx ends meanwhile.
func (h *Host) Upgrade(ctx context.Context, kind core.PluginKind, name, path string, o UpgradeOptions) (*Upgrade, error) {
	label := string(kind) + "-" + name
	u := &upgrade{h: h, label: label, opts: o, crash: map[*process]<-chan struct{}{}}
	if err := h.beginUpgrade(label); err != nil {
		return nil, err
	}
	var drain sync.WaitGroup // outlives this call
	defer func() {
		h.endUpgrade(label)
		if o.Dev {
			drain.Go(func() { h.forgetBuilds(h.ctx) })
		}
		h.whenDone(&drain)
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(h.life, cancel)
	defer stop()

	if err := u.check(ctx, kind, name, path); err != nil || u.result.Same {
		return u.done(err)
	}
	if err := u.open(ctx); err != nil {
		u.abandon()
		return nil, err
	}
	u.move()
	if err := u.trial(ctx); err != nil {
		h.log.Warn("plugin's upgrade is taken back, the old version goes on", "plugin", label, "reason", err.Error())
		u.takeBack()
		return nil, err
	}
	left := u.settle(&drain)
	if !o.NoWait {
		u.await(ctx, left)
	}
	return u.done(nil)
}

// upgrade is one upgrade under way.
type upgrade struct {
	h      *Host
	label  string
	opts   UpgradeOptions
	b      *binary
	info   *core.PluginInfo
	moves  []*move
	crash  map[*process]<-chan struct{} // the new processes, and what their next crash closes
	result Upgrade
}

// move is a block's way from one instance to another.
type move struct {
	handle    *Handle
	fitting   fitting
	maxBatch  int
	old, next *instance
	moved     bool
}

func (h *Host) beginUpgrade(label string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("%w: the host is closed", ErrNotReady)
	}
	if h.upgrading[label] {
		return fmt.Errorf("%s: %w", label, ErrUpgrading)
	}
	h.upgrading[label] = true
	h.stops.Add(1) // Close waits for it
	return nil
}

func (h *Host) endUpgrade(label string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.upgrading, label)
}

// whenDone takes an upgrade off the host's list after the last of its goroutines.
func (h *Host) whenDone(wg *sync.WaitGroup) {
	go func() {
		wg.Wait()
		h.stops.Done()
	}()
}

func (u *upgrade) say(stage UpgradeStage, done, total int) {
	if u.opts.Progress != nil {
		u.opts.Progress(UpgradeProgress{stage, done, total})
	}
}

func (u *upgrade) done(err error) (*Upgrade, error) {
	if err != nil {
		return nil, err
	}
	return &u.result, nil
}

// check finds out whether the program may take over.
func (u *upgrade) check(ctx context.Context, kind core.PluginKind, name, path string) error {
	u.say(UpgradeChecking, 0, 0)
	h := u.h
	var blocks []*Handle
	h.mu.Lock()
	for hd := range h.handles {
		if hd.kind == kind && hd.plugin == name {
			blocks = append(blocks, hd)
		}
	}
	h.mu.Unlock()
	if len(blocks) == 0 {
		return fmt.Errorf("%s: %w", u.label, ErrNotUsed)
	}
	slices.SortFunc(blocks, func(a, b *Handle) int { return cmp.Compare(a.block, b.block) })
	if err := u.describe(ctx, kind, name, path); err != nil {
		return err
	}
	for _, hd := range blocks {
		old := hd.at.Load()
		u.result.From = old.p.info
		if old.p.info.SHA256 == u.b.sha256 {
			continue // It is there already.
		}
		u.moves = append(u.moves, &move{handle: hd, old: old})
		u.result.Blocks = append(u.result.Blocks, hd.block)
	}
	if u.result.To = u.info; len(u.moves) == 0 {
		u.result.Same = true
		return nil
	}
	u.result.From = u.moves[0].old.p.info
	refused := &RefusedError{Plugin: u.label, Path: u.b.Path, Blocks: map[string][]sdk.AttributeError{}}
	for _, m := range u.moves {
		if err := u.fit(ctx, m, refused); err != nil {
			return err
		}
	}
	if len(refused.Problems)+len(refused.Blocks) > 0 {
		return refused
	}
	return nil
}

func (u *upgrade) describe(ctx context.Context, kind core.PluginKind, name, path string) error {
	if err := pluginfile.CheckExecutable(path); err != nil {
		return err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("plugin: %w", err)
	}
	found := Binary{Kind: kind, Name: name, Platform: pluginfile.Current(), Path: abs}
	named, err := pluginfile.ParseName(filepath.Base(abs), found.Platform)
	if err == nil && named.Label() == found.Label() {
		found.Version = named.Version
	}
	u.h.describing.Lock()
	defer u.h.describing.Unlock()
	if u.b, err = u.h.read(found, u.opts.Dev); err != nil {
		return err
	}
	if want := u.opts.SHA256; want != "" && !strings.EqualFold(want, u.b.sha256) {
		return fmt.Errorf("plugin %s: %w: its sha256 is %s, not %s", u.b.Path, core.ErrNotLocked, u.b.sha256, want)
	}
	if u.info, err = u.h.describe(ctx, u.b); err == nil && u.opts.Allow != nil {
		err = u.opts.Allow(u.info)
	}
	return err
}

// fit sees whether a block can live in the new program, by its schemas and then by its own word.
func (u *upgrade) fit(ctx context.Context, m *move, refused *RefusedError) error {
	hd := m.handle
	uses := func(attribute string) bool { return u.opts.Uses == nil || u.opts.Uses(hd.block, attribute) }
	other, v := u.info, core.Validation{}
	m.fitting = refitted(hd.made, u.info, hd.config)
	u.b.redact.add(sensitiveTexts(&hd.made.Config, m.fitting.config)...)
	u.b.redact.add(sensitiveTexts(&u.info.Config, m.fitting.config)...)
	if len(m.fitting.attrs) == 0 && u.info.Has(wire.CapabilityValidate) {
		var err error
		if v, err = u.h.validate(ctx, u.b, u.info, m.fitting.config); err != nil {
			return err
		}
		m.fitting.attrs = v.Errors
	}
	if len(m.fitting.attrs) > 0 {
		refused.Blocks[hd.block] = m.fitting.attrs
	}
	if v.Provider != nil {
		own := *u.info
		own.Provider = v.Provider
		other = &own
	}
	m.fitting.compare(hd.made, other, uses, u.opts.Dev)
	m.maxBatch = max(u.info.MaxBatch, 1)
	if v.MaxBatch > 0 {
		m.maxBatch = min(m.maxBatch, v.MaxBatch)
	}
	for _, p := range m.fitting.problems {
		if !slices.Contains(refused.Problems, p) {
			refused.Problems = append(refused.Problems, p)
		}
	}
	for _, n := range m.fitting.notes {
		if !slices.Contains(u.result.Notes, n) {
			u.result.Notes = append(u.result.Notes, n)
		}
	}
	return nil
}

// open starts the new program and opens the blocks in it.
func (u *upgrade) open(ctx context.Context) error {
	u.say(UpgradeStarting, 0, len(u.moves))
	for _, m := range u.moves {
		p, err := u.h.process(u.b, u.info, m.handle.block, m.handle.isolated)
		if err != nil {
			return err
		}
		if p.setUpgrade("new"); u.crash[p] == nil {
			u.crash[p] = p.nextCrash()
		}
		m.next = newInstance(p, m.handle.block, m.fitting.config)
		m.next.maxBatch, m.next.fill = m.maxBatch, m.fitting.fill
		m.next.trial.Store(true)
		p.add(m.next)
	}
	for k, m := range u.moves {
		u.say(UpgradeOpening, k, len(u.moves))
		select {
		case <-m.next.first:
		case <-ctx.Done():
			return u.interrupted(ctx)
		}
		if err := m.opened(); err != nil {
			return err
		}
	}
	u.say(UpgradeOpening, len(u.moves), len(u.moves))
	return u.trouble()
}

// opened says why a block cannot move. What the old version has not open now, for lack of its far end or because it refuses
// the configuration, need not be open in the new one for the same reason.
func (m *move) opened() error {
	why, refused := m.next.state()
	before, refusedBefore := m.old.state()
	switch {
	case why == "", before != "" && (len(refused) == 0 || len(refusedBefore) > 0):
		return nil
	case len(refused) > 0:
		return &RolledBackError{Cause: joinAttributes(refused), Reason: fmt.Sprintf(
			"the new version refuses the configuration of %q: %s", m.handle.block, refused[0].Error())}
	}
	return &RolledBackError{Reason: fmt.Sprintf("the new version does not open %q: %s", m.handle.block, why)}
}

func (u *upgrade) interrupted(ctx context.Context) error {
	select {
	case <-u.h.life.Done():
		return &RolledBackError{Reason: "the host stops", Cause: context.Cause(ctx)}
	default:
		return &RolledBackError{Reason: "interrupted", Cause: context.Cause(ctx)}
	}
}

// trouble is the reason to go back if a new process has crashed.
func (u *upgrade) trouble() error {
	for p, crash := range u.crash {
		select {
		case <-crash:
			p.mu.Lock()
			reason := p.last.Reason
			p.mu.Unlock()
			return &RolledBackError{Reason: "the new version died: " + p.reason(reason)}
		default:
		}
	}
	return nil
}

// move sends all new calls to the new program.
func (u *upgrade) move() {
	for _, m := range u.moves {
		m.old.p.setUpgrade("old")
		m.moved = m.handle.move(m.next)
	}
	u.h.log.Info("plugin is upgraded, the new version is on trial", "plugin", u.label, "version", u.info.Version,
		"before", u.result.From.Version)
	u.say(UpgradeMoved, len(u.moves), len(u.moves))
}

// trial waits for the trial's end.
func (u *upgrade) trial(ctx context.Context) error {
	over := time.NewTimer(cmp.Or(max(u.opts.Trial, 0), defaultTrial))
	defer over.Stop()
	trouble := make(chan struct{}, 1)
	ended := make(chan struct{})
	defer close(ended)
	for _, crash := range u.crash {
		go func() {
			select {
			case <-crash:
				select {
				case trouble <- struct{}{}:
				default:
				}
			case <-ended:
			}
		}()
	}
	select {
	case <-trouble:
	case <-ctx.Done():
		return u.interrupted(ctx)
	case <-over.C:
	}
	return u.trouble()
}

// abandon gives up what was not moved to.
func (u *upgrade) abandon() {
	u.close(func(m *move) *instance { return m.next })
}

// takeBack sends all new calls to the old program again and gives the new one up.
func (u *upgrade) takeBack() {
	for _, m := range u.moves {
		if m.moved {
			m.handle.move(m.old)
		}
		m.old.p.setUpgrade("")
	}
	u.close(func(m *move) *instance { return m.next })
	for _, m := range u.moves { // The block was closed meanwhile, and its owner has seen the new instance only.
		u.closeOrphan(m, m.old)
	}
}

// closeOrphan closes an instance if its block was closed without it.
func (u *upgrade) closeOrphan(m *move, i *instance) {
	m.handle.mu.Lock()
	orphan := m.handle.closed && m.handle.at.Load() != i
	m.handle.mu.Unlock()
	if orphan {
		u.closeOne(i)
	}
}

// settle ends the trial: the new program is what the plugin is. The old instances are closed after their last calls, in
// the background. It returns what is closed with each.
func (u *upgrade) settle(drain *sync.WaitGroup) (left []<-chan struct{}) {
	u.h.resolve(u.b)
	u.h.log.Info("plugin's new version has passed its trial", "plugin", u.label, "version", u.info.Version)
	for _, m := range u.moves {
		m.next.trial.Store(false)
		m.next.p.setUpgrade("")
		u.closeOrphan(m, m.next)
		closed := make(chan struct{})
		left = append(left, closed)
		drain.Go(func() {
			defer close(closed)
			// Calls have their own deadlines; the host's end is the only other one.
			select {
			case <-m.old.calls.quiet():
			case <-u.h.ctx.Done():
			}
			u.closeOne(m.old)
		})
	}
	u.say(UpgradeSettled, len(u.moves), len(u.moves))
	return left
}

// await waits for the end of the old instances as long as the caller does.
func (u *upgrade) await(ctx context.Context, left []<-chan struct{}) {
	for k, closed := range left {
		u.say(UpgradeDraining, k, len(left))
		select {
		case <-closed:
		case <-ctx.Done():
			return
		}
	}
	u.result.Drained = true
	u.say(UpgradeDone, len(left), len(left))
}

// close closes one instance of each move, and waits for it.
func (u *upgrade) close(which func(*move) *instance) {
	var wg sync.WaitGroup
	for _, m := range u.moves {
		if i := which(m); i != nil {
			wg.Go(func() { u.closeOne(i) })
		}
	}
	wg.Wait()
}

func (u *upgrade) closeOne(i *instance) {
	ctx, cancel := context.WithTimeout(u.h.ctx, u.h.drainTimeout)
	defer cancel()
	if err := i.close(ctx); err != nil {
		u.h.log.Warn("an instance of a plugin was closed with calls in flight", "plugin", u.label, "block", i.block,
			"error", err)
	}
}

// forgetBuilds drops what is kept of programs under development that run no more. Each build is another program: there
// would be no end of them.
func (h *Host) forgetBuilds(ctx context.Context) {
	h.describing.Lock() // One that is being described is not known as in use yet.
	defer h.describing.Unlock()
	var gone []*binary
	h.mu.Lock()
	for key, b := range h.binaries {
		used := !b.dev || h.resolved[b.Kind][b.Name] == b || h.upgrading[b.label()]
		for _, p := range h.processes {
			used = used || p.info.SHA256 == b.sha256
		}
		if used {
			continue
		}
		gone = append(gone, b)
		delete(h.binaries, key)
		delete(h.infos, b.key())
		h.lanes = slices.DeleteFunc(h.lanes, func(l *lane) bool { return l == b.probe })
	}
	h.mu.Unlock()
	for _, b := range gone {
		b.probe.stop(ctx)
		_ = os.Remove(h.run.copyPath(b.Path, b.sha256)) // all of the folder goes when the host ends
	}
}

// nextCrash returns a channel that is closed with the next crash.
func (p *process) nextCrash() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble
}

// setUpgrade says what the process is in an upgrade: "new", "old" or nothing.
func (p *process) setUpgrade(role string) {
	p.mu.Lock()
	p.upgrade = role
	p.mu.Unlock()
}
