package main

import (
	"io"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/config"
)

// newLogger logs for people on a terminal and in JSON otherwise, unless the configuration says which.
func newLogger(out *os.File, c config.Log) hclog.Logger {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return logger(out, c, terminal)
}

func logger(out io.Writer, c config.Log, terminal bool) hclog.Logger {
	asJSON := !terminal
	switch c.Format {
	case "json":
		asJSON = true
	case "text":
		asJSON = false
	}
	color := hclog.ColorOff
	if terminal && !asJSON {
		color = hclog.AutoColor
	}
	return hclog.New(&hclog.LoggerOptions{
		Name:       "grapnel",
		Level:      hclog.LevelFromString(c.Level),
		Output:     out,
		JSONFormat: asJSON,
		Color:      color,
	})
}
