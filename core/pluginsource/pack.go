package pluginsource

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/grapnelhq/grapnel/core/pluginfile"
)

// Pack adds programs to a mirror's folder, which is made if it is missing: an archive per plugin and version, with one
// program per platform, then the checksums, then the index that names them, each written whole. Every program needs a
// version. The same programs give the same archive, byte for byte; a release that is there with other bytes is replaced
// only if that is asked for. It returns the releases that were packed.
func Pack(dir string, programs []Program, replace bool) ([]Release, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	index, sums, err := readFolder(dir)
	if err != nil {
		return nil, err
	}
	programs = slices.Clone(programs)
	slices.SortFunc(programs, func(a, b Program) int {
		return cmp.Or(cmp.Compare(a.Label(), b.Label()), pluginfile.CompareVersions(a.Version, b.Version),
			cmp.Compare(a.Version, b.Version), cmp.Compare(a.Platform, b.Platform))
	})
	var packed []Release
	for len(programs) > 0 {
		n := 1
		for n < len(programs) && programs[n].Label() == programs[0].Label() && programs[n].Version == programs[0].Version {
			n++
		}
		group := programs[:n]
		programs = programs[n:]
		r := Release{Plugin: group[0].Label(), Version: group[0].Version}
		if r.Version == "devel" || !pluginfile.IsVersion(r.Version) {
			return nil, fmt.Errorf("%s has no version such as 1.2.0", group[0].From)
		}
		r.Archive = r.Plugin + "_v" + r.Version + ".tar.gz"
		for i, p := range group {
			if i > 0 && group[i-1].Platform == p.Platform {
				return nil, fmt.Errorf("%s and %s are the same program", group[i-1].From, p.From)
			}
			r.Platforms = append(r.Platforms, p.Platform)
		}
		sum, err := packArchive(dir, r.Archive, group, sums[r.Archive], replace)
		if err != nil {
			return nil, err
		}
		sums[r.Archive] = sum
		index = slices.DeleteFunc(index, func(x Release) bool { return x.Plugin == r.Plugin && x.Version == r.Version })
		index = append(index, r)
		packed = append(packed, r)
	}
	slices.SortFunc(index, func(a, b Release) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), pluginfile.CompareVersions(b.Version, a.Version))
	})
	text, err := encodeIndex(index)
	if err != nil {
		return nil, err
	}
	// In this order: a reader in between finds what the index that it has names.
	return packed, errors.Join(WriteFile(filepath.Join(dir, SumsFile), encodeSums(sums)),
		WriteFile(filepath.Join(dir, IndexFile), text))
}

func readFolder(dir string) ([]Release, map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, IndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, map[string]string{}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	index, err := ParseIndex(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	if text, err = os.ReadFile(filepath.Join(dir, SumsFile)); err != nil {
		return nil, nil, err
	}
	sums, err := ParseSums(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	return index, sums, nil
}

func encodeIndex(releases []Release) ([]byte, error) {
	text, err := json.MarshalIndent(index{Format: indexFormat, Plugins: releases}, "", "  ")
	return append(text, '\n'), err
}

func encodeSums(sums map[string]string) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&b, "%s  %s\n", sums[name], name)
	}
	return b.Bytes()
}

// packArchive writes an archive and returns its hash. old is the hash of the one that is published, if there is one.
func packArchive(dir, name string, programs []Program, old string, replace bool) (sum string, err error) {
	tmp, err := os.CreateTemp(dir, "."+name+"-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	hash := sha256.New()
	err = writeArchive(io.MultiWriter(tmp, hash), programs)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(hash.Sum(nil))
	if old != "" && old != sum && !replace {
		return "", fmt.Errorf("%s is in the mirror with other content: whoever locked it would be refused the new one; "+
			"give it another version, or use --replace", name)
	}
	if err := os.Rename(tmp.Name(), filepath.Join(dir, name)); err != nil {
		return "", err
	}
	return sum, syncFolder(dir)
}

// writeArchive writes a tar.gz that depends on nothing but the programs.
func writeArchive(w io.Writer, programs []Program) error {
	zw := gzip.NewWriter(w)
	tw := tar.NewWriter(zw)
	for _, p := range programs {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: p.Platform + "/" + p.FileName(), Mode: 0o755, Size: p.Size, Format: tar.FormatPAX,
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		f, err := os.Open(p.Path)
		if err != nil {
			return err
		}
		_, err = io.Copy(tw, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return errors.Join(tw.Close(), zw.Close())
}
