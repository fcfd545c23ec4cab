package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/sqlite"
)

// withControl makes c run on the host that its --config names: on its control API while it runs, on its store when not.
func withControl(c *cobra.Command, run func(*cobra.Command, admin.Control, printer, []string) error) {
	path := configFlag(c)
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		ctl, done, err := openControl(c.Context(), *path)
		if err != nil {
			return err
		}
		if direct, ok := ctl.(*admin.Direct); ok { // no host runs: its configuration would be this one
			direct.Renderer = func(context.Context) (admin.Renderer, error) {
				cfg, err := loadConfig(c, *path)
				if err != nil {
					return nil, err
				}
				return routeTable(cfg).Renderer(), nil
			}
		}
		err = run(c, ctl, newPrinter(c, *asJSON), args)
		if closeErr := done(); err == nil {
			err = closeErr
		}
		return err
	}
}

// openControl finds the host of a configuration.
func openControl(ctx context.Context, configPath string) (admin.Control, func() error, error) {
	storage, err := config.LoadStorage(configPath, config.Options{})
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Dir(storage.Path)
	socket, err := admin.SocketPath(dir)
	if err != nil {
		return nil, nil, err
	}
	client := admin.NewClient(socket)
	if _, err := client.Status(ctx); err == nil {
		return client, func() error { client.Close(); return nil }, nil
	} else if !errors.Is(err, admin.ErrNotRunning) {
		return nil, nil, err
	}
	if _, err := os.Stat(storage.Path); err != nil {
		return nil, nil, fmt.Errorf("no host runs on %s and it holds no database yet: start one with grapnel run --config %s",
			dir, configPath)
	}
	st, err := sqlite.Open(ctx, sqlite.Options{
		Path: storage.Path, DedupeWindow: storage.DedupeWindow, MinFree: storage.MinFree, Logger: hclog.NewNullLogger(),
	})
	if errors.Is(err, store.ErrLocked) {
		return nil, nil, fmt.Errorf("a host is starting or stopping on %s: try again in a moment: %w", dir, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return &admin.Direct{Store: st}, st.Close, nil
}
