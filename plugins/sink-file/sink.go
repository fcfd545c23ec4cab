package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// Config is the sink's block.
type Config struct {
	Dir          string `json:"dir" format:"path" doc:"Folder that holds the files; it is created where it is missing."`
	FileMode     string `json:"file_mode,omitempty" default:"0640" doc:"Mode of new files, octal, before the umask."`
	DirMode      string `json:"dir_mode,omitempty" default:"0750" doc:"Mode of new folders, octal, before the umask."`
	MaxOpenFiles int    `json:"max_open_files,omitempty" default:"64" doc:"How many files stay open between batches, 1 to 4096."`

	Rotate   *Rotate `json:"rotate" doc:"When files are sealed: they get their last name and nothing is added to them any more. Without the block files grow for ever."`
	Compress string  `json:"compress,omitempty" default:"none" enum:"none|gzip|zstd" doc:"How sealed files are compressed, in the background."`
	Retain   *Retain `json:"retain" doc:"Which sealed files are kept. Without the block, all."`
}

// Rotate says when files are sealed. What is zero seals none.
type Rotate struct {
	MaxSize string        `json:"max_size,omitempty" doc:"Seal a file before it grows beyond this, such as \"128MiB\"; at least \"64KiB\". The lines of one call stay together, however long."`
	MaxAge  time.Duration `json:"max_age,omitempty" doc:"Seal files when the clock, in UTC, passes a multiple of this: with \"1h\" on the hour, with \"1d\" at midnight."`
	Idle    time.Duration `json:"idle,omitempty" doc:"Seal a file that got no new line for this long."`
}

// Retain says which sealed files are kept. What is zero removes none.
type Retain struct {
	MaxFiles int           `json:"max_files,omitempty" doc:"Keep so many of each path, the newest."`
	MaxAge   time.Duration `json:"max_age,omitempty" doc:"Remove those whose last line is older than this."`
}

// Message is what a route says to this sink.
type Message struct {
	Path   string          `json:"path,omitempty" default:"events.jsonl" doc:"File below dir, with / between folders, which are created."`
	Record json.RawMessage `json:"record,omitempty" doc:"What to write instead of the event. Null is as if left out."`
}

const defaultPath = "events.jsonl"

// Validate implements sdk.Validator.
func (c *Config) Validate() error {
	_, err := c.settings()
	return err
}

// settings are a configuration as a folder needs it.
type settings struct {
	fileMode, dirMode fs.FileMode
	maxOpen           int
	rotate            rotation
	compress          string        // the end of compressed files' names; empty: none is compressed
	keepFiles         int           // sealed ones of a path; 0: all
	keepAge           time.Duration // of sealed files; 0: any
}

const (
	minRotateSize = 64 << 10
	minRotateTime = time.Second
)

func (c *Config) settings() (settings, error) {
	var errs []error
	if c.Dir == "" || strings.ContainsRune(c.Dir, 0) {
		errs = append(errs, &sdk.AttributeError{Path: []string{"dir"}, Summary: "not the name of a folder"})
	}
	mode := func(name, text, example string, need fs.FileMode) fs.FileMode {
		n, err := strconv.ParseUint(text, 8, 32)
		if m := fs.FileMode(n); err == nil && m <= 0o777 && m&need == need {
			return m
		}
		errs = append(errs, &sdk.AttributeError{
			Path:    []string{name},
			Summary: "not a usable mode",
			Detail:  fmt.Sprintf("Write an octal number like %q that has at least the bits of %#o.", example, need),
		})
		return 0
	}
	s := settings{
		fileMode: mode("file_mode", c.FileMode, "0640", 0o600),
		dirMode:  mode("dir_mode", c.DirMode, "0750", 0o700),
		maxOpen:  c.MaxOpenFiles,
	}
	if s.maxOpen < 1 || s.maxOpen > 4096 {
		errs = append(errs, &sdk.AttributeError{Path: []string{"max_open_files"}, Summary: "not between 1 and 4096"})
	}
	return s, errors.Join(append(errs, c.rotation(&s)...)...)
}

// rotation fills in the settings of rotation and of what becomes of sealed files.
func (c *Config) rotation(s *settings) (errs []error) {
	bad := func(summary, detail string, path ...string) {
		errs = append(errs, &sdk.AttributeError{Path: path, Summary: summary, Detail: detail})
	}
	long := func(d time.Duration, path ...string) time.Duration {
		if d < 0 || d > 0 && d < minRotateTime {
			bad("not a second or more", "", path...)
		}
		return d
	}
	if r := c.Rotate; r != nil {
		s.rotate.age = long(r.MaxAge, "rotate", "max_age")
		s.rotate.idle = long(r.Idle, "rotate", "idle")
		if r.MaxSize != "" {
			n, err := parseSize(r.MaxSize)
			if err != nil || n < minRotateSize {
				bad("not a usable size", `Write a text like "128MiB", of at least 64KiB.`, "rotate", "max_size")
			}
			s.rotate.size = n
		}
		if len(errs) == 0 && !s.rotate.on() {
			bad("seals no file ever", "Set max_size, max_age or idle, or leave the block out.", "rotate")
		}
	}
	switch c.Compress {
	case "gzip":
		s.compress = endGzip
	case "zstd":
		s.compress = endZstd
	}
	if s.compress != "" && c.Rotate == nil {
		bad("needs a rotate block", "Only sealed files are compressed.", "compress")
	}
	if r := c.Retain; r != nil {
		s.keepFiles = r.MaxFiles
		s.keepAge = long(r.MaxAge, "retain", "max_age")
		if s.keepFiles < 0 {
			bad("less than 0", "", "retain", "max_files")
		}
		if c.Rotate == nil {
			bad("needs a rotate block", "Only sealed files are ever removed.", "retain")
		}
	}
	return errs
}

// factory makes the plugin.
func factory() *sdk.SinkFactory {
	host := hostName() // now: when the host is gone, the answer is another one
	info := sdk.SinkInfo{
		Name:        "file",
		Description: "Appends events to files, one JSON text per line, and syncs them to disk.",
		Data:        true,
		MaxBatch:    256,
	}
	return sdk.NewBatchSink(info, func(ctx context.Context, cfg Config) (sdk.BatchSink[Message], error) {
		return open(ctx, cfg, host, nil)
	})
}

func open(ctx context.Context, cfg Config, host string, wrap func(disk) disk) (*sink, error) {
	set, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	return openSettings(ctx, cfg.Dir, set, host, wrap)
}

func openSettings(ctx context.Context, dir string, set settings, host string, wrap func(disk) disk) (*sink, error) {
	f, err := openFolder(ctx, dir, set, host, wrap)
	if err != nil {
		return nil, &sdk.AttributeError{Path: []string{"dir"}, Summary: err.Error()}
	}
	return &sink{folder: f}, nil
}

// sink is one configured block.
type sink struct {
	folder  *folder
	batches sync.Pool // *batch
}

// batch is the lines of one call, by file in order of first use.
type batch struct {
	groups []*group
	byPath map[string]*group
	spare  []*group
}

// group is the lines of a batch that go to one file.
type group struct {
	path    string
	lines   []byte
	members []int // indexes of the deliveries

	// Set by folder.write:
	file *openFile
	note string // of a repair
	err  error  // none of the lines counts as delivered
}

func (b *batch) group(path string) *group {
	if g := b.byPath[path]; g != nil {
		return g
	}
	g := &group{}
	if n := len(b.spare); n > 0 {
		g, b.spare = b.spare[n-1], b.spare[:n-1]
	}
	g.path = path
	b.groups = append(b.groups, g)
	b.byPath[path] = g
	return g
}

// maxPooled keeps one batch of uncommonly large events from holding its memory for ever.
const maxPooled = 4 << 20

func (b *batch) reset() {
	clear(b.byPath)
	for _, g := range b.groups {
		if cap(g.lines) <= maxPooled && len(b.spare) < 16 {
			*g = group{lines: g.lines[:0], members: g.members[:0]}
			b.spare = append(b.spare, g)
		}
	}
	clear(b.groups)
	b.groups = b.groups[:0]
}

// DeliverBatch implements sdk.BatchSink. The lines of one file are written with one call and synced before it
// returns; when that fails, the deliveries of that file are retried and those of the others are not touched by it.
func (s *sink) DeliverBatch(ctx context.Context, ds []*sdk.Delivery[Message]) []error {
	errs := make([]error, len(ds))
	b, _ := s.batches.Get().(*batch)
	if b == nil {
		b = &batch{byPath: make(map[string]*group)}
	}
	defer func() { b.reset(); s.batches.Put(b) }()

	for i, d := range ds {
		path := cmp.Or(d.Message.Path, defaultPath)
		if err := s.checkPath(path); err != nil {
			errs[i] = sdk.Reject(err, "path")
			continue
		}
		g := b.group(path)
		start := len(g.lines)
		g.lines = appendLine(g.lines, d)
		if bytes.IndexByte(g.lines[start:], '\n') >= 0 {
			// Only a text that is no JSON keeps a line break, inside a string.
			g.lines = g.lines[:start]
			errs[i] = sdk.Reject(errors.New("the event's data or the record is not valid JSON"))
			continue
		}
		g.lines = append(g.lines, '\n')
		g.members = append(g.members, i)
	}
	s.folder.write(ctx, b.groups)
	for _, g := range b.groups {
		var err error
		if g.err != nil {
			err = outcome(g.err)
		}
		for n, i := range g.members {
			errs[i] = err
			if err == nil {
				ds[i].SetReference(g.path)
			}
			if n == 0 && g.note != "" {
				ds[i].Note(g.note)
			}
		}
		if g.note != "" {
			slog.WarnContext(ctx, "repaired the end of a file", "dir", s.folder.dir, "note", g.note)
		}
	}
	return errs
}

func (s *sink) checkPath(path string) error {
	if err := checkPath(path); err != nil || !s.folder.set.rotate.on() {
		return err
	}
	if strings.HasSuffix(path, endGzip) || strings.HasSuffix(path, endZstd) {
		return errors.New("path ends as compressed files do; files get that end when they are compressed")
	}
	return nil
}

// Check implements sdk.Checker: it writes to the folder and syncs.
func (s *sink) Check(ctx context.Context) error {
	return s.folder.check(ctx)
}

// Close implements sdk.Closer.
func (s *sink) Close() error { return s.folder.close() }

// outcome says what a failure means for the host. A full or failing disk passes; permissions need someone to act; a
// path that the folder's contents or the file system refuse is a mistake of the route that made it, and must not
// stop others.
func outcome(err error) error {
	var bad *pathError
	switch {
	case errors.As(err, &bad):
		return sdk.Reject(err, "path")
	case errors.Is(err, errFolderGone), errors.Is(err, errLocked), errors.Is(err, fs.ErrPermission):
		return sdk.Suspend(err)
	}
	return err
}
