package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	c := &cobra.Command{
		Use:    "man FOLDER",
		Short:  "Write the manual pages of all commands into a folder",
		Hidden: true, // packages bring the pages along
		Args:   cobra.ExactArgs(1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := os.MkdirAll(args[0], 0o755); err != nil {
			return err
		}
		root := c.Root()
		root.DisableAutoGenTag = true
		literal(root)
		// The pages of a version are the same whenever they are made.
		date := time.Unix(0, 0).UTC()
		return doc.GenManTree(root, &doc.GenManHeader{
			Title: "GRAPNEL", Section: "1", Source: "Grapnel " + version, Manual: "Grapnel", Date: &date,
		}, args[0])
	}
	return c
}

// literal keeps what texts have between angle brackets and the like, which the generator takes for Markdown. Examples are
// indented, and are kept anyway.
func literal(c *cobra.Command) {
	escape := strings.NewReplacer("<", `\<`, "*", `\*`, "_", `\_`)
	for _, text := range []*string{&c.Short, &c.Long} {
		lines := strings.SplitAfter(*text, "\n")
		for i, line := range lines {
			if !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "    ") {
				lines[i] = escape.Replace(line)
			}
		}
		*text = strings.Join(lines, "")
	}
	for _, sub := range c.Commands() {
		literal(sub)
	}
}
