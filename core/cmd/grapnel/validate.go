package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/ingress"
	"github.com/grapnelhq/grapnel/core/pluginhost"
	"github.com/grapnelhq/grapnel/sdk"
)

func newValidate() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and report every mistake",
		Long: `Check a configuration and report every mistake. Nothing is opened and nobody is called.

With --online, each source and sink is opened beside that, and each sink looks whether its far end is there and takes its
credentials. Nothing is delivered. What a host that runs keeps to itself, such as the folder of a sink file, it cannot open.`,
		Args: cobra.NoArgs,
	}
	path, asJSON := configFlag(c), jsonFlag(c)
	online := c.Flags().Bool("online", false, "open sources and sinks, and check that far ends are there")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, diags := load(c, *path)
		if cfg != nil && *online {
			said := c.OutOrStdout()
			if *asJSON {
				said = io.Discard
			}
			if err := checkOnline(c.Context(), said, c.ErrOrStderr(), cfg, diags); err != nil {
				return err
			}
		}
		if *asJSON {
			return showReport(newPrinter(c, true), cfg, diags)
		}
		if err := showDiagnostics(c, diags); err != nil {
			return err
		}
		out := c.OutOrStdout()
		routes, alerts := len(cfg.Routes), ""
		if n := len(cfg.Alerts); n > 0 {
			routes, alerts = ownRoutes(cfg), ", "+plural(n, "alert")
		}
		fmt.Fprintf(out, "%s is valid: %s, %s, %s%s\n", *path,
			plural(len(cfg.Sources), "source"), plural(len(cfg.Sinks), "sink"), plural(routes, "route"), alerts)
		for _, d := range cfg.Disabled {
			fmt.Fprintf(out, "%s %q is disabled and stays out\n", d.Kind, d.Name)
		}
		return nil
	}
	return c
}

func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// report is what validate says with --json.
type report struct {
	Valid       bool         `json:"valid"`
	Sources     int          `json:"sources"`
	Sinks       int          `json:"sinks"`
	Routes      int          `json:"routes"`
	Alerts      int          `json:"alerts,omitempty"`
	Diagnostics []diagnostic `json:"diagnostics"`
}

type diagnostic struct {
	Severity config.Severity `json:"severity"`
	Summary  string          `json:"summary"`
	Detail   string          `json:"detail,omitempty"`
	File     string          `json:"file,omitempty"`
	Line     int             `json:"line,omitempty"`
	Column   int             `json:"column,omitempty"`
}

// ownRoutes counts the route blocks; alerts have routes, too.
func ownRoutes(cfg *config.Config) int {
	n := 0
	for _, r := range cfg.Routes {
		if r.Alert == "" {
			n++
		}
	}
	return n
}

func showReport(p printer, cfg *config.Config, diags *config.Diagnostics) error {
	r := report{Valid: !diags.HasErrors(), Diagnostics: []diagnostic{}}
	if r.Valid {
		r.Sources, r.Sinks, r.Routes = len(cfg.Sources), len(cfg.Sinks), ownRoutes(cfg)
		r.Alerts = len(cfg.Alerts)
	}
	for _, d := range diags.All() {
		r.Diagnostics = append(r.Diagnostics, diagnostic{
			d.Severity, d.Summary, d.Detail, d.Range.File, d.Range.Line, d.Range.Column,
		})
	}
	if err := p.value(r); err != nil {
		return err
	}
	if !r.Valid {
		return errShown
	}
	return nil
}

// loadConfig loads a configuration and tells every mistake.
func loadConfig(c *cobra.Command, path string) (*config.Config, error) {
	cfg, diags := load(c, path)
	return cfg, showDiagnostics(c, diags)
}

// load loads a configuration. The plugins that it asks are stopped again.
func load(c *cobra.Command, path string) (*config.Config, *config.Diagnostics) {
	return loadWith(c, path, config.Options{})
}

// loadToLook loads a configuration for a command that decodes and routes and does nothing else: what neither needs of the
// environment need not be there. It tells every mistake.
func loadToLook(c *cobra.Command, path string) (*config.Config, error) {
	cfg, diags := loadWith(c, path, config.Options{Incomplete: true})
	return cfg, showDiagnostics(c, diags)
}

// loadWith is load with options. Programs under development take the place of what the configuration says of their
// plugins.
func loadWith(
	c *cobra.Command, path string, opt config.Options, dev ...config.Pin,
) (*config.Config, *config.Diagnostics) {
	opt, done := commonOptions(c, opt, dev...)
	defer done()
	return config.Load(c.Context(), path, opt)
}

// commonOptions adds what all commands have in common. done stops the plugins that were asked.
func commonOptions(
	c *cobra.Command, opt config.Options, dev ...config.Pin,
) (_ config.Options, done func()) {
	var host *pluginhost.Host
	opt.Plugins = func(p config.Plugins) (config.Catalog, error) {
		var err error
		p.Pins = append(slices.Clone(p.Pins), dev...)
		host, err = newPluginHost(p, nil, hclog.NewNullLogger())
		return catalog{host, p.Dir}, err
	}
	opt.CheckAuth = checkAuth
	opt.CheckTLS = func(cert, key string) (string, error) {
		return ingress.CheckCertificate(cert, key, time.Now())
	}
	return opt, func() {
		if host != nil {
			host.Close(c.Context())
		}
	}
}

// showDiagnostics writes what is wrong; errShown if something is.
func showDiagnostics(c *cobra.Command, diags *config.Diagnostics) error {
	if err := diags.Write(c.ErrOrStderr(), onTerminal(), 100); err != nil {
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
