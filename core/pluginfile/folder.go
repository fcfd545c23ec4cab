package pluginfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// List lists the programs of a folder: those in it, which are for this platform, and those in folders of it that are named
// after a platform, such as linux_arm64/grapnel-sink-file_v1.2.0. They come in the order of Sort.
//
// Programs and error come together: the error joins what is wrong with single files that look like plugins but are none.
func List(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("plugin folder: %w", err)
	}
	list, errs := programs(dir, Current(), entries)
	for _, e := range entries {
		if !e.IsDir() || !IsPlatform(e.Name()) {
			continue
		}
		below := filepath.Join(dir, e.Name())
		entries, err := os.ReadDir(below)
		if err != nil {
			errs = append(errs, fmt.Errorf("plugin folder: %w", err))
			continue
		}
		more, moreErrs := programs(below, e.Name(), entries)
		list, errs = append(list, more...), append(errs, moreErrs...)
	}
	// Stable: of two that are the same version the one in the folder itself stays, then the one first by name.
	order := func(a, b File) int {
		a.Path, b.Path = "", ""
		return compare(a, b)
	}
	slices.SortStableFunc(list, order)
	var single []File
	for _, f := range list {
		if n := len(single); n > 0 && order(single[n-1], f) == 0 {
			errs = append(errs, fmt.Errorf("%s and %s are the same version of one plugin: remove one", single[n-1].Path, f.Path))
			continue
		}
		single = append(single, f)
	}
	return single, errors.Join(errs...)
}

func programs(dir, platform string, entries []os.DirEntry) (list []File, errs []error) {
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), Prefix) {
			continue
		}
		file := filepath.Join(dir, e.Name())
		f, err := ParseName(e.Name(), platform)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		f.Path = file
		if err := check(file, platform == Current()); err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, f)
	}
	return list, errs
}

// CheckExecutable says why a file cannot be started, by what its folder says about it.
func CheckExecutable(path string) error { return check(path, true) }

func check(path string, here bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("plugin: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case here && runtime.GOOS != "windows" && info.Mode()&fs.FileMode(0o111) == 0:
		return fmt.Errorf("%s is not executable: chmod +x it", path)
	}
	return nil
}

// HeadSize is how many bytes CheckHead looks at.
const HeadSize = 20

// CheckHead says why a program that begins with these bytes cannot run on a platform, as far as they tell: ELF, Mach-O and
// PE name their processor, a script none.
func CheckHead(head []byte, platform string) error {
	system, arch, _ := strings.Cut(platform, "_")
	format, machine := "", ""
	switch {
	case len(head) >= 2 && string(head[:2]) == "#!":
		if system == "windows" {
			return errors.New("it is a script, which Windows does not start")
		}
		return nil
	case len(head) >= HeadSize && string(head[:4]) == "\x7fELF":
		n := int(head[18]) | int(head[19])<<8
		if head[5] == 2 { // big endian
			n = int(head[19]) | int(head[18])<<8
		}
		format, machine = "ELF", map[int]string{
			3: "386", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 22: "s390x", 258: "loong64",
		}[n]
	case len(head) >= 8 && string(head[:4]) == "\xcf\xfa\xed\xfe":
		n := int(head[4]) | int(head[7])<<24
		format, machine = "Mach-O", map[int]string{7 | 1<<24: "amd64", 12 | 1<<24: "arm64"}[n]
	case len(head) >= 4 && string(head[:4]) == "\xca\xfe\xba\xbe":
		format = "Mach-O" // of several processors
	case len(head) >= 2 && string(head[:2]) == "MZ":
		format = "PE"
	default:
		return errors.New("it is no program")
	}
	want := "ELF"
	switch system {
	case "darwin", "ios":
		want = "Mach-O"
	case "windows":
		want = "PE"
	}
	if format != want || machine != "" && machine != arch {
		return fmt.Errorf("it is a program for another platform than %s (%s)", platform,
			strings.TrimSpace(format+" "+machine))
	}
	return nil
}

// Hash is the SHA-256 of a file, in lower-case hexadecimal, as lock files have it.
func Hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
