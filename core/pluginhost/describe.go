package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/pluginfile"
	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// binary is a plugin's program whose content is known.
type binary struct {
	Binary
	sha256 string
	dev    bool
	size   int64
	mtime  time.Time

	probe  *lane // for Describe and Validate; made when needed
	redact *redactor
}

// key tells binaries apart: one program may be installed under several names.
func (b *binary) key() string { return b.label() + " " + b.sha256 + " " + b.Path }

// label is how configurations and lock files name the plugin.
func (b *binary) label() string { return b.Label() }

// Describe returns what the plugin says about itself, checked. Of a binary whose content it knows, from this host's
// life or from Options.CacheDir, it starts nothing; else it starts the plugin, asks, and stops it soon after. A
// plugin that is not there is a *NotFoundError, one that is not there in a version that its pin allows a *VersionError.
// What OpenSink and OpenDecoder run is the binary that was described last.
func (h *Host) Describe(ctx context.Context, kind core.PluginKind, name string) (*core.PluginInfo, error) {
	h.describing.Lock() // One at a time: several sources of one plugin must not each start it.
	defer h.describing.Unlock()
	b, err := h.find(kind, name)
	if err != nil {
		return nil, err
	}
	info, err := h.describe(ctx, b)
	if err != nil {
		return nil, err
	}
	if err := h.checkVersion(b, info); err != nil {
		return nil, err
	}
	h.resolve(b)
	return info, nil
}

// DescribeFile is Describe for one program, wherever it is and whatever its name; where that is a plugin's, it must
// tell the truth. Pins do not apply, and what OpenSink and OpenDecoder run stays as it is.
func (h *Host) DescribeFile(ctx context.Context, path string) (*core.PluginInfo, error) {
	h.describing.Lock()
	defer h.describing.Unlock()
	if err := pluginfile.CheckExecutable(path); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	file := filepath.Base(abs)
	named, err := pluginfile.ParseName(file, pluginfile.Current())
	if err != nil {
		named = Binary{Name: file} // of no kind: it may call itself what it likes
	}
	named.Path = abs
	b, err := h.read(named, false)
	if err != nil {
		return nil, err
	}
	return h.describe(ctx, b)
}

// describe returns what is known of a binary, or asks it. h.describing is held.
func (h *Host) describe(ctx context.Context, b *binary) (*core.PluginInfo, error) {
	if info := h.known(b); info != nil {
		return info, nil
	}
	response := h.cached(b)
	fresh := response == nil
	if fresh {
		err := h.ask(ctx, b, func(ctx context.Context, c *child) error {
			var err error
			response, err = c.plugin.Describe(ctx, &pluginv1.DescribeRequest{Context: h.callContext.Load()})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("describe plugin %s: %w", b.Path, err)
		}
	}
	info, err := h.info(b, response)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", b.Path, err)
	}
	if fresh {
		h.cache(b, response)
	}
	h.mu.Lock()
	h.infos[b.key()] = info
	h.mu.Unlock()
	return info, nil
}

// resolve makes b what OpenSink and OpenDecoder run.
func (h *Host) resolve(b *binary) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resolved[b.Kind][b.Name] = b
}

// Validate asks the plugin what its schema cannot say about a configuration, given as JSON. Nothing is opened or
// dialled.
func (h *Host) Validate(ctx context.Context, kind core.PluginKind, name string,
	config []byte) (core.Validation, error) {
	info, err := h.Describe(ctx, kind, name)
	if err != nil {
		return core.Validation{}, err
	}
	if !info.Has(wire.CapabilityValidate) {
		return core.Validation{}, nil
	}
	b, err := h.find(kind, name)
	if err != nil {
		return core.Validation{}, err
	}
	return h.validate(ctx, b, info, config)
}

// validate is Validate of one program that has the capability.
func (h *Host) validate(ctx context.Context, b *binary, info *core.PluginInfo, config []byte) (core.Validation, error) {
	b.redact.add(sensitiveTexts(&info.Config, config)...)
	var response *pluginv1.ValidateResponse
	err := h.ask(ctx, b, func(ctx context.Context, c *child) error {
		var err error
		response, err = c.plugin.Validate(ctx, &pluginv1.ValidateRequest{Context: h.callContext.Load(), Config: config})
		return err
	})
	if err != nil {
		return core.Validation{}, fmt.Errorf("validate with plugin %s: %w", b.Path, err)
	}
	out := core.Validation{Errors: attributeErrors(response.GetErrors(), b.redact)}
	if n := int(response.GetMaxBatch()); n > 0 && n <= info.MaxBatch {
		out.MaxBatch = n
	}
	if len(out.Errors) == 0 && info.Has(core.ManifestPerSource) && response.GetProvider() != nil {
		if err := instanceManifest(&out, info, response.GetProvider()); err != nil {
			return core.Validation{}, fmt.Errorf("plugin %s: %w", b.Path, err)
		}
	}
	return out, nil
}

// ValidateMessages asks a sink with the capability core.JudgesMessages which of the drafts it would reject whatever the
// event is, with a configuration that Validate has found good. It returns one list of errors per draft.
func (h *Host) ValidateMessages(ctx context.Context, name string, config []byte, drafts []core.Draft) (
	[][]sdk.AttributeError, error,
) {
	b, err := h.find(core.PluginSink, name)
	if err != nil {
		return nil, err
	}
	r := &pluginv1.ValidateRequest{Context: h.callContext.Load(), Config: config}
	for _, d := range drafts {
		m := &pluginv1.Draft{Message: d.Message}
		for _, path := range d.Varies {
			m.Varies = append(m.Varies, &pluginv1.AttributePath{Path: path})
		}
		r.Drafts = append(r.Drafts, m)
	}
	var response *pluginv1.ValidateResponse
	if err := h.ask(ctx, b, func(ctx context.Context, c *child) (err error) {
		response, err = c.plugin.Validate(ctx, r)
		return err
	}); err != nil {
		return nil, fmt.Errorf("validate messages with plugin %s: %w", b.Path, err)
	}
	out := make([][]sdk.AttributeError, len(drafts))
	for i, v := range response.GetDrafts()[:min(len(drafts), len(response.GetDrafts()))] {
		out[i] = attributeErrors(v.GetErrors(), b.redact)
	}
	return out, nil
}

// instanceManifest takes the manifest of one configuration. What is wrong with it may be what the user has declared, so it
// is said of the configuration as a whole.
func instanceManifest(out *core.Validation, info *core.PluginInfo, in *pluginv1.Provider) error {
	manifest, err := wire.ProviderFromProto(in)
	if err != nil {
		return fmt.Errorf("this version of grapnel does not understand the manifest: %w", err)
	}
	instance := *info
	instance.Provider = manifest
	var p problems
	p.provider(&instance, true)
	for _, err := range p.errs[:min(len(p.errs), maxAttributeErrors)] {
		out.Errors = append(out.Errors, sdk.AttributeError{Summary: clip(clean(err.Error()), maxReason)})
	}
	if len(p.errs) == 0 {
		out.Provider = manifest
	}
	return nil
}

// find resolves a plugin, as it is on disk now: its development path, or the program that its pin chooses.
func (h *Host) find(kind core.PluginKind, name string) (*binary, error) {
	if path, ok := h.devPath(kind, name); ok {
		if err := pluginfile.CheckExecutable(path); err != nil {
			return nil, fmt.Errorf("development plugin: %w", err)
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("development plugin: %w", err)
		}
		return h.read(Binary{Kind: kind, Name: name, Platform: pluginfile.Current(), Path: abs}, true)
	}
	pin, _ := h.pin(kind, name)
	return h.choose(kind, name, pin)
}

// read hashes a program if it is not known as it is on disk now.
func (h *Host) read(found Binary, dev bool) (*binary, error) {
	stat, err := os.Stat(found.Path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := string(found.Kind) + " " + found.Name + " " + found.Path
	old := h.binaries[key]
	if old != nil && old.size == stat.Size() && old.mtime.Equal(stat.ModTime()) {
		return old, nil
	}
	sum, err := pluginfile.Hash(found.Path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	b := &binary{
		Binary: found, sha256: sum, dev: dev, size: stat.Size(), mtime: stat.ModTime(), redact: newRedactor(h.opts.Secrets),
	}
	b.probe = newLane(h.ctx, h.starter(b, "describe"), describeIdle)
	h.binaries[key] = b
	h.lanes = append(h.lanes, b.probe)
	return b, nil
}

// setting looks a plugin up in a map by "<kind>-<name>" or name.
func setting[T any](m map[string]T, kind core.PluginKind, name string) (T, bool) {
	if v, ok := m[string(kind)+"-"+name]; ok {
		return v, true
	}
	v, ok := m[name]
	return v, ok
}

func (h *Host) known(b *binary) *core.PluginInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.infos[b.key()]
}

// ask makes one call to a short-lived process of the binary.
func (h *Host) ask(ctx context.Context, b *binary, call func(ctx context.Context, c *child) error) error {
	return b.probe.use(ctx, func(c *child) error {
		ctx, cancel := context.WithTimeout(ctx, h.openTimeout)
		defer cancel()
		err := call(ctx, c)
		if err == nil {
			return nil
		}
		if overdue(ctx, err) {
			c.kill() // Whatever it hangs in, nobody waits for it.
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Cause(ctx)
			}
			return fmt.Errorf("it gave no answer within %s", h.openTimeout)
		}
		if crashed(c, err) {
			return fmt.Errorf("it died: %s", b.redact.text(c.report()))
		}
		return errors.New(b.redact.text(brokenReason(err)))
	})
}

// info checks a description.
func (h *Host) info(b *binary, r *pluginv1.DescribeResponse) (*core.PluginInfo, error) {
	d, err := wire.DescriptionFromProto(r)
	if err != nil {
		return nil, fmt.Errorf("this version of grapnel does not understand it: %w", err)
	}
	info := &core.PluginInfo{
		Name: d.Name, Version: d.Version, Description: clip(clean(d.Description), maxReason),
		Capabilities: d.Capabilities, Config: d.Config,
		Protocol: wire.Protocol, Path: b.Path, SHA256: b.sha256, Dev: b.dev,
	}
	switch {
	case d.Sink != nil:
		info.Kind, info.Message = core.PluginSink, d.Message
		info.MaxBatch, info.WantData, info.WantState = max(d.Sink.MaxBatch, 1), d.Sink.Data, d.Sink.State
		if d.Sink.MaxBatch < 0 {
			info.MaxBatch = d.Sink.MaxBatch
		}
	case d.Provider != nil:
		info.Kind, info.Provider = core.PluginDecoder, d.Provider
	}
	if b.Kind != "" && (info.Kind != b.Kind || info.Name != b.Name) {
		return nil, fmt.Errorf("it calls itself %s %q, its file says %s %q",
			info.Kind, clip(clean(info.Name), 80), b.Kind, b.Name)
	}
	if b.Version != "" && info.Version != b.Version {
		return nil, fmt.Errorf("it calls itself version %s, its file says %s", clip(clean(info.Version), 80), b.Version)
	}
	if err := checkInfo(info); err != nil {
		return nil, err
	}
	return info, nil
}

// cacheFile is where a binary's description is kept. The format is the wire contract's own JSON, checked again when
// read.
func (h *Host) cacheFile(b *binary) string {
	return filepath.Join(h.opts.CacheDir, fmt.Sprintf("describe-v1-%s-%s-%s.json", b.Kind, b.Name, b.sha256))
}

func (h *Host) cached(b *binary) *pluginv1.DescribeResponse {
	if h.opts.CacheDir == "" {
		return nil
	}
	data, err := os.ReadFile(h.cacheFile(b))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			h.log.Warn("cannot read a cached plugin description", "error", err)
		}
		return nil
	}
	r := &pluginv1.DescribeResponse{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, r); err != nil {
		h.log.Warn("cached plugin description is damaged, the plugin is asked again", "path", h.cacheFile(b))
		return nil
	}
	return r
}

// cache keeps a description. It is best effort: without it the plugin is asked again.
func (h *Host) cache(b *binary, r *pluginv1.DescribeResponse) {
	if h.opts.CacheDir == "" || b.dev { // each build of a program under development is another one
		return
	}
	err := func() error {
		data, err := protojson.Marshal(r)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(h.opts.CacheDir, 0o700); err != nil {
			return err
		}
		tmp, err := os.CreateTemp(h.opts.CacheDir, "describe-*.tmp")
		if err != nil {
			return err
		}
		_, err = tmp.Write(data)
		if err = errors.Join(err, tmp.Close()); err == nil {
			err = os.Rename(tmp.Name(), h.cacheFile(b))
		}
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
		return err
	}()
	if err != nil {
		h.log.Warn("cannot cache a plugin description", "error", err)
	}
}
