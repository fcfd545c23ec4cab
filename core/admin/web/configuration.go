package web

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
)

// reloadTime is how long the answer to the form waits for a reload, which has bounds of its own.
const reloadTime = 2 * time.Minute

func configurationPages() []page {
	return []page{
		{
			pattern: "GET /configuration", template: "configuration", serve: (*call).configuration,
			nav: &place{"Run", "Configuration", "c"},
		},
		{pattern: "POST /configuration/reload", serve: (*call).reload},
	}
}

// configuration is the data of the page.
type configuration struct {
	admin.Config
	Running bool
	Files   []configFile
	Reloads []admin.Reload // the newest first
}

// configFile is a file in lines.
type configFile struct {
	Name  string
	Lines []string
}

func (c *call) configuration() error {
	loaded, err := c.control.Config(c)
	if errors.Is(err, admin.ErrNotRunning) {
		return c.page("Configuration", configuration{})
	}
	if err != nil {
		return err
	}
	reloads, err := c.control.Reloads(c)
	if err != nil {
		return err
	}
	data := configuration{Config: loaded, Running: true, Reloads: reloads.Items}
	for _, f := range loaded.Files {
		data.Files = append(data.Files, configFile{f.Name, strings.Split(strings.TrimSuffix(f.Text, "\n"), "\n")})
	}
	return c.page("Configuration", data)
}

func (c *call) reload() error {
	// A browser that goes away stops nothing half way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c), reloadTime)
	defer cancel()
	if _, err := c.control.Reload(ctx); err != nil {
		return err
	}
	return c.redirect("/configuration")
}
