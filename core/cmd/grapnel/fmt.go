package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/config"
)

func newFmt() *cobra.Command {
	c := &cobra.Command{
		Use:   "fmt [PATH...]",
		Short: "Lay configurations out in the usual way",
		Long: `Lay files of configurations and tests out in the usual way, and name those that were changed. PATH is a file, a folder
(its *.hcl files), or - for standard input, which is written to standard output; without one it is config.hcl. Words and
comments stay as they are.`,
		Args: cobra.ArbitraryArgs,
	}
	check := c.Flags().Bool("check", false, "change nothing: name the files that would be changed, and exit with 1 if there are any")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"config.hcl"}
		}
		changed, wrong := 0, false
		for _, path := range args {
			n, err := format(c, path, *check)
			changed += n
			switch {
			case errors.Is(err, errShown):
				wrong = true // and go on: all mistakes at once
			case err != nil:
				return err
			}
		}
		if wrong || *check && changed > 0 {
			return errShown
		}
		return nil
	}
	return c
}

// format lays out what a path names and returns how many files that changes.
func format(c *cobra.Command, path string, check bool) (changed int, err error) {
	if path == "-" {
		src, err := io.ReadAll(c.InOrStdin())
		if err != nil {
			return 0, err
		}
		out, diags := config.Format("standard input", src)
		if err := showDiagnostics(c, diags); err != nil {
			return 0, err
		}
		if check {
			if !bytes.Equal(out, src) {
				changed = 1
			}
			return changed, nil
		}
		_, err = c.OutOrStdout().Write(out)
		return 0, err
	}
	files, err := config.FormattedFiles(path)
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("%s holds no *.hcl file", path)
	}
	var errs []error
	for _, name := range files {
		did, err := formatFile(c, name, check)
		errs = append(errs, err)
		if did {
			changed++
		}
	}
	return changed, errors.Join(errs...)
}

// formatFile lays one file out and puts it in the place of the old one at once.
func formatFile(c *cobra.Command, name string, check bool) (changed bool, err error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	out, diags := config.Format(name, src)
	if err := showDiagnostics(c, diags); err != nil {
		return false, err
	}
	if bytes.Equal(out, src) {
		return false, nil
	}
	if _, err := fmt.Fprintln(c.OutOrStdout(), name); err != nil || check {
		return true, err
	}
	return true, replaceFile(name, out)
}

// replaceFile writes a file beside another and puts it in its place, with the same permissions. What a link leads to is
// replaced, not the link.
func replaceFile(name string, content []byte) error {
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".grapnel-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // in vain if all went well
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}
