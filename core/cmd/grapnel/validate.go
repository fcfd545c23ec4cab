package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/sdk"
)

func newValidate() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and report every mistake",
		Args:  cobra.NoArgs,
	}
	path := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := loadConfig(c, *path)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is valid: %d sources, %d sinks, %d routes\n",
			*path, len(cfg.Sources), len(cfg.Sinks), len(cfg.Routes))
		for _, d := range cfg.Disabled {
			fmt.Fprintf(c.OutOrStdout(), "%s %q is disabled and stays out\n", d.Kind, d.Name)
		}
		return nil
	}
	return c
}

// loadConfig loads a configuration for a command that only looks at it, and tells every mistake.
func loadConfig(c *cobra.Command, path string) (*config.Config, error) {
	var host *pluginhost.Host
	defer func() {
		if host != nil {
			host.Close(c.Context())
		}
	}()
	cfg, diags := config.Load(c.Context(), path, config.Options{
		Plugins: func(p config.Plugins) (config.Catalog, error) {
			var err error
			host, err = newPluginHost(p, hclog.NewNullLogger())
			return catalog{host, p.Dir}, err
		},
		CheckAuth: checkAuth,
	})
	if err := showDiagnostics(c, diags); err != nil {
		return nil, err
	}
	return cfg, nil
}

// showDiagnostics writes what is wrong; errShown if something is.
func showDiagnostics(c *cobra.Command, diags *config.Diagnostics) error {
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	if err := diags.Write(c.ErrOrStderr(), terminal, 100); err != nil {
		return err
	}
	if diags.HasErrors() {
		return errShown
	}
	return nil
}

// checkAuth has a source's credentials checked before start.
func checkAuth(scheme sdk.Scheme, secrets []string, allow map[string][]string) error {
	_, err := auth.New(scheme, secrets, allow)
	return err
}

// unwrapURL takes the URL, which may hold a credential, out of an HTTP client's error.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
