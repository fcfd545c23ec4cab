package pluginsource

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/grapnelhq/grapnel/core/pluginfile"
)

// Limits bound what a source may cost. A zero field is a default.
type Limits struct {
	Program int64 // bytes of one program; default 256 MiB
	Total   int64 // bytes of all that an archive holds, unpacked; default 2 GiB
	Entries int   // of an archive; default 10 000
	Archive int64 // bytes of an archive; default 1 GiB
	Text    int64 // bytes of a mirror's index, and of its checksums; default 4 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(n *int64, otherwise int64) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	set(&l.Program, 256<<20)
	set(&l.Total, 2<<30)
	set(&l.Archive, 1<<30)
	set(&l.Text, 4<<20)
	if l.Entries <= 0 {
		l.Entries = 10_000
	}
	return l
}

// Program is a staged program. File.Path is where it is staged; it is executable.
type Program struct {
	pluginfile.File
	From   string // where the source had it, for messages
	SHA256 string // of the bytes that were written
	Size   int64
}

// Stage copies the plugins' programs of a file, folder or archive into a folder, as <platform>/<file name>. An archive is
// told by its first bytes: gzip with tar in it, or zip. wanted, which may be nil, says which programs to take.
//
// What is no plugin, such as a README, is left out. Anything that is not as it should be refuses the whole source: a
// symbolic link, a path that leads elsewhere, a program for another platform than its folder says, one program twice,
// and more than the limits allow. What was staged by then stays for the caller to remove, with the folder.
func Stage(source, dir string, limits Limits, wanted func(pluginfile.File) bool) ([]Program, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, limits: limits.withDefaults(), wanted: wanted, seen: map[pluginfile.File]string{}}
	switch {
	case info.IsDir():
		err = s.folder(source)
	case strings.HasPrefix(filepath.Base(source), pluginfile.Prefix) && !isArchive(source):
		err = s.file(source)
	default:
		err = s.archive(source, info.Size())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return s.programs, nil
}

type stage struct {
	dir      string
	limits   Limits
	wanted   func(pluginfile.File) bool
	programs []Program
	seen     map[pluginfile.File]string // Path is empty
}

func isArchive(file string) bool {
	return strings.HasSuffix(file, ".tar.gz") || strings.HasSuffix(file, ".tgz") || strings.HasSuffix(file, ".zip")
}

func (s *stage) folder(dir string) error {
	files, err := pluginfile.List(dir)
	if err != nil {
		return err // Half a folder is not what was meant.
	}
	for _, f := range files {
		if err := s.copyFile(f, f.Path); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) file(name string) error {
	abs, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	f, err := pluginfile.ParsePath(filepath.ToSlash(abs), pluginfile.Current())
	if err != nil {
		return err
	}
	return s.copyFile(f, name)
}

func (s *stage) copyFile(f pluginfile.File, name string) error {
	if info, err := os.Lstat(name); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is a link, or no regular file", name)
	}
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	return s.take(f, name, in)
}

// archive unpacks the programs of an archive.
func (s *stage) archive(name string, size int64) error {
	if size > s.limits.Archive {
		return fmt.Errorf("it has %d bytes, the most is %d", size, s.limits.Archive)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 4)
	if n, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	} else if head = head[:n]; !bytes.HasPrefix(head, []byte("\x1f\x8b")) && string(head) != "PK\x03\x04" {
		return errors.New("it is neither a plugin's program (grapnel-<kind>-<name>) nor an archive (tar.gz, zip) nor a folder")
	}
	if head[0] == 'P' {
		return s.zip(f, size)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return s.tar(f)
}

func (s *stage) tar(f io.Reader) error {
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	r := tar.NewReader(&bounded{r: unpacked, left: s.limits.Total})
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n >= s.limits.Entries {
			return fmt.Errorf("it has more than %d entries", s.limits.Entries)
		}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
		case tar.TypeDir:
			if _, err := local(h.Name); err != nil {
				return err
			}
		case tar.TypeReg:
			if err := s.entry(h.Name, r); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q in it is a link, or no regular file", h.Name)
		}
	}
}

func (s *stage) zip(f io.ReaderAt, size int64) error {
	r, err := zip.NewReader(f, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // which is checked below
		return err
	}
	if len(r.File) > s.limits.Entries {
		return fmt.Errorf("it has more than %d entries", s.limits.Entries)
	}
	left := s.limits.Total
	for _, e := range r.File {
		switch mode := e.Mode(); {
		case mode.IsDir():
			if _, err := local(e.Name); err != nil {
				return err
			}
			continue
		case !mode.IsRegular():
			return fmt.Errorf("%q in it is a link, or no regular file", e.Name)
		}
		in, err := e.Open()
		if err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
		b := &bounded{r: in, left: left}
		err = s.entry(e.Name, b)
		left = b.left
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

// bounded fails when more than so many bytes come out of it.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("what it unpacks to is too large")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// local makes the name of an archive's entry a clean path within it.
func local(name string) (string, error) {
	if strings.ContainsAny(name, "\\\x00") || !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fmt.Errorf("%q in it leads out of it", name)
	}
	return path.Clean(name), nil
}

// entry takes a file of an archive, if it is a plugin's program.
func (s *stage) entry(name string, r io.Reader) error {
	clean, err := local(name)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(path.Base(clean), pluginfile.Prefix) {
		return nil
	}
	f, err := pluginfile.ParsePath(clean, pluginfile.Current())
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return s.take(f, name, r)
}

// take writes one program into the folder.
func (s *stage) take(f pluginfile.File, from string, in io.Reader) error {
	f.Path = ""
	if s.wanted != nil && !s.wanted(f) {
		return nil
	}
	if first, twice := s.seen[f]; twice {
		return fmt.Errorf("%s and %s are the same program", first, from)
	}
	s.seen[f] = from
	head := make([]byte, pluginfile.HeadSize)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", from, err)
	}
	head = head[:n]
	if err := pluginfile.CheckHead(head, f.Platform); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	folder := filepath.Join(s.dir, f.Platform)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f.Path = filepath.Join(folder, f.FileName())
	p := Program{File: f, From: from}
	hash := sha256.New()
	p.Size, err = writeNew(f.Path, 0o755, io.TeeReader(
		io.LimitReader(io.MultiReader(bytes.NewReader(head), in), s.limits.Program+1), hash))
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if p.Size > s.limits.Program {
		return fmt.Errorf("%s: a program has at most %d bytes, this one has more", from, s.limits.Program)
	}
	p.SHA256 = hex.EncodeToString(hash.Sum(nil))
	s.programs = append(s.programs, p)
	return nil
}
