// Package docs holds the reference of the configuration for the command that writes it beside those of plugins.
package docs

import _ "embed"

//go:embed config.md
var config string

// Config is config.md, in Markdown. Its links are relative to this folder.
func Config() string { return config }
