package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/dryrun"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/core/route"
)

// dryRun is a configuration with its decoders open, and no sink.
type dryRun struct {
	*dryrun.Runner
	table   *route.Table
	plugins *pluginhost.Host
}

// openDryRun opens the decoders of the named sources, of all without a name. The caller closes what it returns. Several
// configurations may be open beside each other.
func openDryRun(ctx context.Context, cfg *config.Config, log hclog.Logger, names ...string) (_ *dryRun, err error) {
	d := &dryRun{table: routeTable(cfg)}
	if d.plugins, err = newPluginHost(cfg.Plugins, cfg.Secrets, log); err != nil {
		return nil, err
	}
	sources := make([]dryrun.Source, len(cfg.Sources))
	errs := make([]error, len(cfg.Sources))
	var opening sync.WaitGroup
	for i, s := range cfg.Sources {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		opening.Go(func() {
			decoder, err := d.plugins.OpenDecoder(ctx, s.Name, s.Plugin, s.Config,
				pluginhost.DecoderOptions{Isolated: s.Isolated, Provider: s.Info.Provider.Name})
			if err != nil {
				errs[i] = fmt.Errorf("%s: source %q: %w", s.Range, s.Name, err)
				return
			}
			sources[i] = dryrun.Source{Name: s.Name, Decoder: decoder, Router: d.table.Router(s.Name)}
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		d.close()
		return nil, err
	}
	if cfg.Builtin != nil && (len(names) == 0 || slices.Contains(names, core.BuiltinSource)) {
		sources = append(sources, dryrun.Source{
			Name: core.BuiltinSource, Decoder: builtinDecoder{}, Router: d.table.Router(core.BuiltinSource),
		})
	}
	d.Runner = dryrun.New(slices.DeleteFunc(sources, func(s dryrun.Source) bool { return s.Decoder == nil }))
	return d, nil
}

// close stops the decoders. Nothing is under way by then, so it does not wait for long.
func (d *dryRun) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.plugins.Close(ctx)
}
