package web

import "github.com/grapnelhq/grapnel/core/admin"

func pluginPages() []page {
	return []page{
		{pattern: "GET /plugins", template: "plugins", serve: (*call).plugins, nav: &place{"Run", "Plugins", "p"}},
		{pattern: "GET /plugins/live", template: "plugins", serve: (*call).livePlugins},
	}
}

func (c *call) readPlugins() ([]admin.Plugin, error) {
	s, err := c.control.Status(c)
	return s.Plugins, err
}

func (c *call) plugins() error {
	data, err := c.readPlugins()
	if err != nil {
		return err
	}
	return c.page("Plugins", data)
}

func (c *call) livePlugins() error {
	data, err := c.readPlugins()
	if err != nil {
		return err
	}
	return c.part("live", data)
}
