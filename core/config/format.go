package config

import (
	"context"
	"os"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Format returns a file of a configuration, or of tests, in the usual layout: indentation, and equals signs in columns. Words
// and comments stay. name is how the file is called in what is wrong with it; a file with a syntax error is returned as it
// is.
func Format(name string, src []byte) ([]byte, *Diagnostics) {
	l := newLoader(context.Background(), name, Options{})
	l.parseText(name, src)
	l.finish()
	if l.diags.HasErrors() {
		return src, l.diags
	}
	return hclwrite.Format(src), l.diags
}

// FormattedFiles lists what is in the usual layout when a path is: the file, or the *.hcl files of a folder, tests
// included. The lock file, which a command writes, is not among them.
func FormattedFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	return hclFiles(path)
}

// Quote writes a text as a configuration has it: in quotation marks, and with all escaped that would not be taken as it is.
func Quote(text string) string {
	return string(hclwrite.TokensForValue(cty.StringVal(text)).Bytes())
}
