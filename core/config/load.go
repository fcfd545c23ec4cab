package config

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

const (
	maxFile  = 1 << 20 // bytes of one configuration file, or of a file that file() reads
	maxDepth = 100     // expressions inside each other
	lockFile = "grapnel.lock.hcl"
	testFile = ".test.hcl"
)

// Load reads the configuration in a file or in the *.hcl files of a folder (not *.test.hcl), and grapnel.lock.hcl in the
// same folder. It reports every mistake it can find. The Config is nil if there is an error among the Diagnostics,
// which are never nil. Load starts nothing that outlives it; plugins are asked through the catalogue, and none is if
// the lock file has a mistake.
func Load(ctx context.Context, path string, opt Options) (*Config, *Diagnostics) {
	l := newLoader(ctx, path, opt)
	if l.read(path) {
		l.load()
		l.trust()
	}
	l.finish()
	if l.diags.HasErrors() {
		return nil, l.diags
	}
	return l.cfg, l.diags
}

// LoadText is Load for a text that is to become the file at path, and need not be there yet.
func LoadText(ctx context.Context, path string, src []byte, opt Options) (*Config, *Diagnostics) {
	l := newLoader(ctx, path, opt)
	var err error
	if l.cfg.Dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		l.error(hcl.Range{Filename: path}, "The configuration cannot be read", sentence(err.Error()))
	} else if body := l.parseText(path, src); body != nil {
		l.bodies = append(l.bodies, body)
		l.load()
		l.trust()
	}
	l.finish()
	if l.diags.HasErrors() {
		return nil, l.diags
	}
	return l.cfg, l.diags
}

// LoadStorage reads the storage block of a configuration and nothing else, for those who look for a host or its
// database: what other blocks need of the environment need not be there, and plugins are not asked.
func LoadStorage(path string, opt Options) (Storage, error) {
	l := newLoader(context.Background(), path, opt)
	if !l.read(path) || l.partial {
		l.finish()
		return Storage{}, l.diags.Err()
	}
	top := l.split()
	l.diags.list = nil // not about storage
	l.declareLocals(top["locals"])
	l.diags.list = nil
	l.storage(top["storage"])
	l.finish()
	return l.cfg.Storage, l.diags.Err()
}

func newLoader(ctx context.Context, path string, opt Options) *loader {
	if opt.Getenv == nil {
		opt.Getenv = os.LookupEnv
	}
	l := &loader{
		ctx:       ctx,
		opt:       opt,
		diags:     &Diagnostics{path: path, reads: Stamps{}, files: map[string][]byte{}, blocks: map[blockName]*hclsyntax.Block{}},
		cfg:       &Config{Path: path, Retention: map[string]time.Duration{}},
		misreadAt: map[string]int{}, odd: map[string]bool{},
		locals: map[string]*local{},
		taint:  map[string]bool{},
		unset:  map[string]bool{},
		infos:  map[pluginRef]*pluginAnswer{},
	}
	l.functions = l.functionTable()
	return l
}

// finish makes the diagnostics fit to be shown. A mistake can keep a value from landing where it would have been known
// as a secret, so what came from outside is hidden too, unless it is short or a word of the configuration itself.
func (l *loader) finish() {
	for _, s := range l.cfg.Secrets {
		l.diags.mask(s)
	}
	for _, s := range l.env {
		if len(s) >= 2*minMask && !l.written(s) {
			l.diags.mask(s)
		}
	}
	l.diags.finish()
}

// written reports whether a text stands in one of the files.
func (l *loader) written(text string) bool {
	for _, src := range l.diags.files {
		if bytes.Contains(src, []byte(text)) {
			return true
		}
	}
	return false
}

// loader is the state of one Load.
type loader struct {
	ctx   context.Context
	opt   Options
	cfg   *Config
	diags *Diagnostics

	bodies  []*hclsyntax.Body
	partial bool // a file has a syntax error: what seems to be missing may be there

	misreadAt map[string]int  // line of a file's first syntax error
	odd       map[string]bool // kinds of blocks of which one has no name

	locals    map[string]*local
	functions map[string]function.Function

	testing bool            // the configuration is loaded for its tests
	unset   map[string]bool // with Options.Incomplete: origins of values that are not there
	env     []string        // values that env() and file() gave, never to be shown by foreign messages
	taint   map[string]bool // marks (see origin) of values that landed in a secret place
	catalog Catalog
	infos   map[pluginRef]*pluginAnswer

	sources   map[string]*sourceBlock
	values    map[string]cty.Value // of the locals, as routes see them
	explained []hcl.Range          // in expressions on events: reported here or elsewhere

	sinks map[string]*sinkBlock

	typed  []typedRoute    // all of whose "from" and "on" it is clear what they mean
	named  map[string]bool // sinks, by `to` blocks
	broken bool            // there is a `to` block that names no sink
}

// load goes through the blocks in the order in which they need each other.
func (l *loader) load() {
	top := l.split()
	l.evalLocals(top["locals"])
	l.server(top["server"])
	l.admin(top["admin"])
	l.storage(top["storage"])
	l.log(top["log"])
	l.reload(top["reload"])
	l.tracing(top["tracing"])
	l.plugins(top["plugins"])
	// With a lock file that cannot be trusted no plugin is started, not even to be asked.
	locked := l.readLock()
	if l.opt.Plugins != nil && locked {
		var err error
		if l.catalog, err = l.opt.Plugins(l.cfg.Plugins); err == nil && l.catalog == nil {
			err = errors.New("there is no catalogue")
		}
		if err != nil {
			var at hcl.Range
			if len(top["plugins"]) > 0 {
				at = blockHeader(top["plugins"][0])
			} else {
				at.Filename = l.cfg.Path
			}
			l.error(at, "The plugins cannot be read", sentence(err.Error()))
			l.catalog = nil
		}
	}
	l.allSources(top["source"])
	l.builtin(top["source"], top["alert"])
	l.allSinks(top["sink"])
	l.compile(top["route"], top["alert"])
	l.sortSecrets()
	l.digest(slices.Concat(top["route"], top["alert"]))
}

// read finds and parses the files. It reports whether there is anything to work on.
func (l *loader) read(path string) bool {
	files, err := l.find(path)
	if err != nil {
		l.error(hcl.Range{Filename: path}, "The configuration cannot be read", sentence(ioMessage(err)))
		return false
	}
	for _, name := range files {
		if body := l.parse(name); body != nil {
			l.bodies = append(l.bodies, body)
		}
	}
	return true
}

// parse reads and parses one file. nil: that was impossible, and reported.
func (l *loader) parse(name string) *hclsyntax.Body {
	src, err := readFile(name)
	if err != nil {
		l.error(hcl.Range{Filename: name}, "The configuration cannot be read", sentence(ioMessage(err)))
		return nil
	}
	return l.parseText(name, src)
}

func (l *loader) parseText(name string, src []byte) *hclsyntax.Body {
	l.diags.files[name] = src
	if at, summary, detail := outOfBounds(src, name); summary != "" {
		l.partial = true
		l.error(at, summary, detail)
		return nil
	}
	f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	l.partial = l.partial || diags.HasErrors()
	from := len(l.diags.list)
	l.foreign(l.misread(name, diags), nil)
	for i := range l.diags.list[from:] {
		l.diags.list[from+i].syntax = true
	}
	if f == nil {
		return nil
	}
	return f.Body.(*hclsyntax.Body)
}

// misread notes from which line on a file was not read as it was meant: where a quotation mark is missing, the parser takes
// texts for code and code for texts, and where a brace is, all that follows belongs to one block. What it says of what
// comes after a missing quotation mark is left out.
func (l *loader) misread(name string, diags hcl.Diagnostics) hcl.Diagnostics {
	first, unquoted, unclosed := 0, false, 0
	for _, d := range diags {
		if d.Severity != hcl.DiagError || d.Subject == nil {
			continue
		}
		line := d.Subject.Start.Line
		if first == 0 || line < first {
			first = line
		}
		if d.Summary == "Invalid multi-line string" {
			unquoted = true
			d.Detail = "A quotation mark is missing in this line, or there is one too many. A text of several lines is " +
				"written with \\n in it, or as <<EOT."
		}
		if d.Summary == "Unclosed configuration block" {
			unclosed = line
		}
	}
	switch {
	case unquoted:
		l.misreadAt[name] = first
	case unclosed > 0:
		l.misreadAt[name] = unclosed
	}
	return slices.DeleteFunc(diags, func(d *hcl.Diagnostic) bool {
		return unquoted && d.Subject != nil && d.Subject.Start.Line > first
	})
}

// trust drops what was found in lines that were misread.
func (l *loader) trust() {
	l.diags.list = slices.DeleteFunc(l.diags.list, func(d Diagnostic) bool {
		first, ok := l.misreadAt[d.Range.File]
		return ok && !d.syntax && d.Range.Line >= first
	})
}

// find lists the files to read and sets the folder that relative paths start from.
func (l *loader) find(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	dir := path
	if !info.IsDir() {
		dir = filepath.Dir(path)
	}
	if l.cfg.Dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	files, err := hclFiles(path)
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, testFile) })
	if len(files) == 0 {
		return nil, errors.New("the folder holds no *.hcl file")
	}
	return files, nil
}

// hclFiles lists the *.hcl files of a folder, sorted, but for hidden ones and the lock file.
func hclFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		hidden := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#")
		if !e.IsDir() && !hidden && filepath.Ext(name) == ".hcl" && name != lockFile {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

// readFile reads a regular file of bounded size.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return nil, errors.New("it is a folder")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, errors.New("it is larger than 1 MiB")
	}
	return b, nil
}

// ioMessage is an error's text without the operation and the path, which stand elsewhere.
func ioMessage(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// outOfBounds finds what would take parser and evaluation too long: deep recursion, and numbers nobody can write out.
func outOfBounds(src []byte, name string) (at hcl.Range, summary, detail string) {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	depth, signs, questions := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp,
			hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
			depth--
		}
		switch t.Type {
		case hclsyntax.TokenBang, hclsyntax.TokenMinus: // !!!!x
			signs++
		case hclsyntax.TokenQuestion: // a ? b : c ? d : e …
			questions++
		case hclsyntax.TokenNewline:
			signs, questions = 0, 0
		default:
			signs = 0
		}
		if max(depth, signs, questions) > maxDepth {
			return t.Range, "Expressions are nested too deeply", fmt.Sprintf("The limit is %d.", maxDepth)
		}
		if t.Type != hclsyntax.TokenNumberLit {
			continue
		}
		if v, err := cty.ParseNumberVal(string(t.Bytes)); err == nil {
			if why := expr.OutOfRange(v); why != "" {
				return t.Range, "Number out of range", why
			}
		}
	}
	return hcl.Range{}, "", ""
}

// topBlocks are the blocks of the top level, and how many labels each has.
var topBlocks = map[string]int{
	"server": 0, "admin": 0, "storage": 1, "plugins": 0, "log": 0, "reload": 0, "tracing": 0, "locals": 0,
	"source": 2, "sink": 2, "route": 1, "alert": 1,
}

// split sorts the top level by kind of block and reports what does not belong there.
func (l *loader) split() map[string][]*hclsyntax.Block {
	kinds := make([]string, 0, len(topBlocks))
	for k := range topBlocks {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	labels := []string{"no label", "one label", "two labels"}
	shape := map[string]string{
		"storage": `storage "sqlite" {`, "source": `source "plugin" "name" {`, "sink": `sink "plugin" "name" {`,
		"route": `route "name" {`, "alert": `alert "name" {`,
	}
	top := map[string][]*hclsyntax.Block{}
	for _, body := range l.bodies {
		for _, a := range inOrder(body.Attributes) {
			detail := "The top level holds blocks only: " + strings.Join(kinds, ", ") + "."
			if _, ok := topBlocks[a.Name]; ok {
				detail = fmt.Sprintf("%q is a block: write it without the equals sign.", a.Name)
			}
			l.error(a.NameRange, fmt.Sprintf("The attribute %q stands outside of all blocks", a.Name), detail)
		}
		for _, b := range body.Blocks {
			want, ok := topBlocks[b.Type]
			if !ok {
				detail := suggest(b.Type, kinds)
				if detail == "" {
					detail = "The blocks are " + strings.Join(kinds, ", ") + "."
				}
				l.error(b.TypeRange, fmt.Sprintf("There is no block %q", b.Type), detail)
				continue
			}
			if len(b.Labels) != want {
				detail := ""
				if s := shape[b.Type]; s != "" {
					detail = "Write " + s + " … }"
				}
				article := "A"
				if b.Type == "alert" {
					article = "An"
				}
				l.error(blockHeader(b), fmt.Sprintf("%s %s block has %s", article, b.Type, labels[want]), detail)
				l.odd[b.Type] = true
				continue
			}
			if want == 0 && b.Type != "locals" || b.Type == "storage" {
				if earlier := top[b.Type]; len(earlier) > 0 {
					l.error(blockHeader(b), fmt.Sprintf("A second %s block", b.Type),
						"The first is at "+rangeOf(earlier[0].TypeRange).place()+".")
					continue
				}
			}
			top[b.Type] = append(top[b.Type], b)
		}
	}
	for _, blocks := range top {
		l.diags.top = append(l.diags.top, blocks...)
	}
	return top
}

// digest covers all that decides which deliveries an event makes and what is in them.
func (l *loader) digest(routes []*hclsyntax.Block) {
	h := sha256.New()
	write := func(parts ...string) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s,", len(p), p)
		}
	}
	sorted := slices.Clone(routes)
	slices.SortStableFunc(sorted, func(a, b *hclsyntax.Block) int { return strings.Compare(a.Labels[0], b.Labels[0]) })
	for _, b := range sorted {
		r := b.Range()
		write("route", string(l.diags.files[r.Filename][r.Start.Byte:b.CloseBraceRange.End.Byte]))
	}
	sinks := slices.Clone(l.cfg.Sinks)
	slices.SortFunc(sinks, func(a, b Sink) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range sinks {
		write("sink", s.Name, s.SchemaDigest)
	}
	for _, d := range l.cfg.Disabled {
		write("disabled", d.Kind, d.Name)
	}
	for _, name := range l.localNames() {
		if text, ok := l.localDigest(name); ok {
			write("local", name, text)
		}
	}
	l.cfg.Digest = hex.EncodeToString(h.Sum(nil)[:8])
}

// schemaDigest is a short name for a schema: the same for the same schema.
func schemaDigest(info *core.PluginInfo) string {
	b, err := json.Marshal(info.Message)
	if err != nil {
		return "" // a schema is made of texts and numbers: it cannot fail, except on a default that is no JSON
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// hide has the texts of an expression that makes a secret left out where files are shown.
func (l *loader) hide(at hcl.Range) { l.diags.secretAt = append(l.diags.secretAt, at) }

// secret remembers a secret text.
func (l *loader) secret(text string) {
	if text != "" && !slices.Contains(l.cfg.Secrets, text) {
		l.cfg.Secrets = append(l.cfg.Secrets, text)
	}
}

func (l *loader) sortSecrets() {
	slices.SortFunc(l.cfg.Secrets, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a) // a secret inside another must not leave the other's rest in the open
		}
		return strings.Compare(a, b)
	})
}

// errors counts the errors so far.
func (l *loader) errors() int {
	n := 0
	for i := range l.diags.list {
		if l.diags.list[i].Severity == Error {
			n++
		}
	}
	return n
}

func (l *loader) error(at hcl.Range, summary, detail string) {
	l.say(Error, rangeOf(at), summary, detail)
}

func (l *loader) warn(at hcl.Range, summary, detail string) {
	l.say(Warning, rangeOf(at), summary, detail)
}

func (l *loader) say(s Severity, at Range, summary, detail string) {
	l.diags.list = append(l.diags.list, Diagnostic{Severity: s, Summary: summary, Detail: detail, Range: at})
}

// veil keeps what the last diagnostic points at, and what follows on its line, out of its snippet.
func (l *loader) veil(subject bool) {
	d := &l.diags.list[len(l.diags.list)-1]
	d.veiled, d.veilSubject = true, subject
}

// veilValue keeps the value that the last diagnostic points at out of its snippet, if it is spelt out there.
func (l *loader) veilValue(e hclsyntax.Expression) {
	if hasText(e) {
		l.veil(true)
	}
}

// foreign takes over diagnostics of hcl. Their messages may quote values, so values from the environment are taken out.
func (l *loader) foreign(diags hcl.Diagnostics, fallback *hcl.Range) {
	for _, d := range diags {
		x := Diagnostic{Severity: Error, Summary: l.hush(d.Summary), Detail: l.hush(d.Detail)}
		if d.Severity == hcl.DiagWarning {
			x.Severity = Warning
		}
		switch {
		case d.Subject != nil:
			x.Range = rangeOf(*d.Subject)
		case fallback != nil:
			x.Range = rangeOf(*fallback)
		}
		l.diags.list = append(l.diags.list, x)
	}
}

func (l *loader) hush(text string) string {
	masks := Diagnostics{}
	for _, s := range l.env {
		masks.mask(s)
	}
	return masks.redact(text)
}

// abs makes a path absolute from the configuration's folder.
func (l *loader) abs(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.cfg.Dir, path)
}

// blockHeader is the range of a block's type and labels.
func blockHeader(b *hclsyntax.Block) hcl.Range {
	if n := len(b.LabelRanges); n > 0 {
		return hcl.RangeBetween(b.TypeRange, b.LabelRanges[n-1])
	}
	return b.TypeRange
}

// inOrder lists attributes as they stand in the file.
func inOrder(attrs hclsyntax.Attributes) []*hclsyntax.Attribute {
	out := make([]*hclsyntax.Attribute, 0, len(attrs))
	for _, a := range attrs {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *hclsyntax.Attribute) int { return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte })
	return out
}

// sentence makes a sentence of an error's text. What it begins with stays as it is if it is no word, as whsec_….
func sentence(text string) string {
	if text == "" {
		return ""
	}
	if first, _, _ := strings.Cut(text, " "); strings.Trim(first, "abcdefghijklmnopqrstuvwxyz,:.;'’-") == "" {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}
