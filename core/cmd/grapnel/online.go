package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

// onlinePatience is how long one block may take to open and to reach its far end.
const onlinePatience = 30 * time.Second

// checkOnline opens the enabled sources and sinks of a configuration and has those that can check their far end. What is
// wrong goes into diags, what is good to out.
func checkOnline(ctx context.Context, out, notes io.Writer, cfg *config.Config, diags *config.Diagnostics) error {
	host, err := newPluginHost(cfg.Plugins, cfg.Secrets, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer host.Close(ctx)
	type opening struct {
		kind core.PluginKind
		name string
		info *core.PluginInfo
		open func(context.Context) (*pluginhost.Handle, error)
		err  error
	}
	var blocks []*opening
	for _, s := range cfg.Sources {
		blocks = append(blocks, &opening{kind: core.PluginDecoder, name: s.Name, info: s.Info,
			open: func(ctx context.Context) (*pluginhost.Handle, error) {
				d, err := host.OpenDecoder(ctx, s.Name, s.Plugin, s.Config, pluginhost.DecoderOptions{
					Isolated: s.Isolated, Provider: s.Info.Provider.Name, Manifest: s.Info.Provider,
				})
				if err != nil {
					return nil, err
				}
				return &d.Handle, nil
			}})
	}
	for _, s := range cfg.Sinks {
		blocks = append(blocks, &opening{kind: core.PluginSink, name: s.Name, info: s.Info,
			open: func(ctx context.Context) (*pluginhost.Handle, error) {
				d, err := host.OpenSink(ctx, s.Name, s.Plugin, s.Config, pluginhost.SinkOptions{Isolated: s.Isolated})
				if err != nil {
					return nil, err
				}
				return &d.Handle, nil
			}})
	}
	var checking sync.WaitGroup
	for _, b := range blocks {
		checking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, onlinePatience)
			defer cancel()
			b.err = openAndCheck(ctx, b.open, b.info.Has(core.CanCheck))
		})
	}
	checking.Wait()
	failed := false
	for _, b := range blocks {
		if b.err != nil {
			failed = true
			diags.Refuse(b.kind, b.name, b.err)
			continue
		}
		fmt.Fprintf(out, "%s %q: ok\n", block(b.kind), b.name)
	}
	if dir := filepath.Dir(cfg.Storage.Path); failed && admin.Running(dir) {
		fmt.Fprintf(notes, "note: a host runs on %s, which may have open what could not be opened here\n", dir)
	}
	return ctx.Err()
}

func openAndCheck(ctx context.Context, open func(context.Context) (*pluginhost.Handle, error), check bool) error {
	h, err := open(ctx)
	if err != nil {
		return err
	}
	if why := h.Reason(); why != "" {
		return errors.New("cannot be opened now: " + why)
	}
	if !check {
		return nil
	}
	attrs, err := h.Check(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(attrs))
	for i := range attrs {
		errs[i] = &attrs[i]
	}
	return errors.Join(errs...)
}
