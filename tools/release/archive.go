package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// inArchive is where a file goes in an archive: as in the repository after `make build`, whose config.hcl works there as well.
func inArchive(name string) string {
	for from, to := range map[string]string{
		"/usr/bin/":                "bin/",
		"/usr/lib/grapnel/":        "bin/",
		"/usr/share/doc/grapnel/":  "",
		"/usr/lib/systemd/system/": "share/",
		"/usr/share/":              "share/",
	} {
		if rest, ok := strings.CutPrefix(name, from); ok && !(from == "/usr/share/" && strings.HasPrefix(rest, "doc/")) {
			return to + rest
		}
	}
	return "" // of packages only
}

// archive writes a .tar.gz of one folder.
func (r *release) archive(to string, files []file) error {
	folder := strings.TrimSuffix(filepath.Base(to), ".tar.gz")
	var inside []file
	for _, f := range files {
		if f.name = inArchive(f.name); f.name != "" {
			inside = append(inside, f)
		}
	}
	for _, name := range []string{"config.hcl", "config.test.hcl"} {
		inside = append(inside, file{name: name, source: name, mode: 0o644})
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	zw := gzip.NewWriter(out)
	err = errors.Join(r.tar(zw, folder+"/", inside, nil), zw.Close(), out.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return nil
}

// folder is one that has to be there before the host starts.
type folder struct {
	name string
	mode int64
	user int // and group
}

// tar writes files and folders, sorted and with root as their owner.
func (r *release) tar(w io.Writer, prefix string, files []file, folders []folder) error {
	tw := tar.NewWriter(w)
	for _, d := range folders {
		h := &tar.Header{
			Typeflag: tar.TypeDir, Name: prefix + strings.TrimPrefix(d.name, "/") + "/", Mode: d.mode, Uid: d.user, Gid: d.user,
			ModTime: r.at,
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	for _, f := range files {
		data, err := os.ReadFile(f.source)
		if err != nil {
			return err
		}
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: prefix + strings.TrimPrefix(f.name, "/"), Mode: int64(f.mode), Size: int64(len(data)),
			ModTime: r.at,
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return tw.Close()
}
