package config

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Reload is when a running host loads its configuration again by itself.
type Reload struct {
	Watch bool // when a file changes that it was made of
}

func (l *loader) reload(blocks []*hclsyntax.Block) {
	if len(blocks) == 0 {
		return
	}
	b := l.block(blocks[0], "reload")
	b.bool("watch", &l.cfg.Reload.Watch)
	b.finish()
}

// Stamps are the contents of files, by path. What cannot be read is like nothing else.
type Stamps map[string][sha256.Size]byte

func stampOf(content []byte, err error) [sha256.Size]byte {
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(content)
}

// Loaded returns the contents of the files that a load has read: those of the configuration, its lock file, and what file()
// read.
func (d *Diagnostics) Loaded() Stamps {
	all := maps.Clone(d.reads)
	for name, src := range d.files {
		all[name] = sha256.Sum256(src)
	}
	return all
}

// Now returns the contents of the same files as they are now, of what came to the configuration's folder since, and without
// what went. It differs from Loaded when another load may come to something else.
func (d *Diagnostics) Now() Stamps {
	all := Stamps{}
	for name := range d.reads {
		all[name] = stampOf(readFile(name))
	}
	files := []string{d.path}
	if info, err := os.Stat(d.path); err == nil && info.IsDir() {
		files, _ = hclFiles(d.path) // a folder that is gone has none
		files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, testFile) })
	}
	for _, name := range append(files, LockPath(d.path)) {
		if b, err := readFile(name); err == nil {
			all[name] = sha256.Sum256(b)
		}
	}
	return all
}

// Block returns a block of the top level as it is written, "" if there is none, or several.
func (d *Diagnostics) Block(kind, name string) string {
	text := ""
	for _, b := range d.top {
		if b.Type != kind || len(b.Labels) == 0 || b.Labels[len(b.Labels)-1] != name {
			continue
		}
		if text != "" {
			return ""
		}
		r := b.Range()
		text = string(d.files[r.Filename][r.Start.Byte:b.CloseBraceRange.End.Byte])
	}
	return text
}

// GuessStorage is LoadStorage for who has a configuration that may be broken, and wants to find the host that runs by an
// earlier state of it.
func GuessStorage(path string) (storage Storage, broken bool) {
	l := newLoader(context.Background(), path, Options{})
	if !l.read(path) {
		return l.cfg.Storage, true
	}
	top := l.split()
	l.declareLocals(top["locals"])
	l.storage(top["storage"])
	return l.cfg.Storage, l.partial || l.diags.HasErrors()
}

// NeedsRestart adds that a setting, such as "server.limits.connections", cannot be changed while a host runs.
func (d *Diagnostics) NeedsRestart(setting string) {
	x := Diagnostic{
		Severity: Error, Summary: fmt.Sprintf("%q cannot be changed while the host runs", setting),
		Detail: "The running host has another value. Restart it to change this, or take the change back.",
		veiled: true,
	}
	names := strings.Split(setting, ".")
	for _, b := range d.top {
		if b.Type != names[0] {
			continue
		}
		x.Range = rangeOf(settingRange(b, names[1:]))
		break
	}
	if x.Range.File == "" { // it is not written any more
		x.Range.File = d.path
		x.Detail = "The running host has a value that is not in the configuration any more. Restart the host to change this, or " +
			"take the change back."
	}
	d.list = append(d.list, x)
	d.finish()
}

// settingRange is where a setting of a block stands, or the block where it is left out.
func settingRange(b *hclsyntax.Block, names []string) hcl.Range {
	for i, name := range names {
		if a := b.Body.Attributes[name]; a != nil && i == len(names)-1 {
			return a.NameRange
		}
		for _, inner := range b.Body.Blocks {
			if inner.Type == name {
				return settingRange(inner, names[i+1:])
			}
		}
	}
	return blockHeader(b)
}

// Fail adds something that is wrong beside the configuration itself; at may be the zero Range.
func (d *Diagnostics) Fail(at Range, summary, detail string) {
	d.list = append(d.list, Diagnostic{Severity: Error, Summary: summary, Detail: sentence(detail), Range: at, veiled: true})
	d.finish()
}

// File is a file of a configuration as it was loaded, without secrets.
type File struct{ Name, Text string }

// secretMark stands where a secret stood.
const secretMark = "(sensitive)"

// Files returns the files that were read, by name, as they may be shown: the secrets that are spelt out in them are taken
// out, and so is every text in an expression that makes a secret, but for the names of variables and files.
func (d *Diagnostics) Files() []File {
	var files []File
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		text := d.veilTexts(name, d.files[name])
		files = append(files, File{Name: name, Text: clean(d.redact(text))})
	}
	return files
}

var (
	assigns = regexp.MustCompile(`=.*"`)
	quoted  = regexp.MustCompile(`"[^"\n]*"`)
)

// veilTexts takes the texts out of a file that stand where a secret is made.
func (d *Diagnostics) veilTexts(name string, src []byte) string {
	secret := func(at int) bool {
		return slices.ContainsFunc(d.secretAt, func(r hcl.Range) bool {
			return r.Filename == name && r.Start.Byte <= at && at < r.End.Byte
		})
	}
	var out bytes.Buffer
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	last, shown := 0, false // shown: the next text is the name of a variable or file
	marking := 0            // depth in brackets of a call of sensitive()
	for i, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenIdent:
			call := i+1 < len(tokens) && tokens[i+1].Type == hclsyntax.TokenOParen
			switch word := string(t.Bytes); {
			case call && (word == "env" || word == "file"):
				shown = true
			case call && word == "sensitive" && marking == 0:
				marking = 1
				continue
			}
		case hclsyntax.TokenOParen:
			if marking > 0 {
				marking++
			}
		case hclsyntax.TokenCParen:
			if marking--; marking == 1 {
				marking = 0
			}
			marking = max(marking, 0)
		case hclsyntax.TokenComment: // what was a setting once may be a secret still
			if assigns.Match(t.Bytes) {
				out.Write(src[last:t.Range.Start.Byte])
				out.Write(quoted.ReplaceAll(t.Bytes, []byte(`"`+secretMark+`"`)))
				last = t.Range.End.Byte
			}
		case hclsyntax.TokenComma:
			shown = false
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenNumberLit:
			if shown {
				shown = false
				continue
			}
			if !secret(t.Range.Start.Byte) && marking == 0 {
				continue
			}
			out.Write(src[last:t.Range.Start.Byte])
			out.WriteString(secretMark)
			last = t.Range.End.Byte
		}
	}
	out.Write(src[last:])
	return out.String()
}
