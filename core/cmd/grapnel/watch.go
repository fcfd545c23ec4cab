package main

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// watcher sees changes of a Go program's sources by looking at them now and then. That needs nothing of the system, works
// on every file system, and takes whatever an editor does with a file for what it is: another size or time.
type watcher struct {
	dir   string        // of the main package
	every time.Duration // between two looks

	dirs  []string // of the packages that it is built from, but for those that no author edits
	files []string // other files that it is built from
	seen  map[string]stamp
}

// stamp is what tells that a file has changed.
type stamp struct {
	size int64
	time time.Time
}

// look takes the sources as they are now as seen. It is called before a build, so that a change during it is one.
func (w *watcher) look(ctx context.Context) {
	w.list(ctx)
	w.seen = w.stamps()
}

// wait returns when something has changed since look and nothing changes any more; false: ctx ended.
func (w *watcher) wait(ctx context.Context) bool {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	last, changed := w.seen, false
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
		now := w.stamps()
		if maps.Equal(now, last) {
			if changed && !maps.Equal(now, w.seen) {
				return true
			}
			changed = false
			continue
		}
		last, changed = now, true
	}
}

// list finds out what the program is built from. While the sources are so wrong that go cannot tell, the last answer
// holds, or else the folder alone.
func (w *watcher) list(ctx context.Context) {
	if w.dirs == nil {
		w.dirs = []string{w.dir}
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-deps", "-json=Dir,Standard,Module,EmbedFiles", ".")
	cmd.Dir = w.dir
	out, err := cmd.Output()
	if err != nil {
		return
	}
	dirs, files := []string{w.dir}, []string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Dir        string
			Standard   bool
			EmbedFiles []string
			Module     *struct {
				Main    bool
				GoMod   string
				Replace *struct{ Version string }
			}
		}
		if dec.Decode(&p) != nil {
			break
		}
		// What comes from the module cache does not change.
		if p.Standard || p.Dir == "" || p.Module == nil ||
			!p.Module.Main && (p.Module.Replace == nil || p.Module.Replace.Version != "") {
			continue
		}
		dirs = append(dirs, p.Dir)
		for _, f := range p.EmbedFiles {
			files = append(files, filepath.Join(p.Dir, f))
		}
		if p.Module.GoMod != "" {
			files = append(files, p.Module.GoMod, strings.TrimSuffix(p.Module.GoMod, ".mod")+".sum")
		}
	}
	slices.Sort(dirs)
	slices.Sort(files)
	w.dirs, w.files = slices.Compact(dirs), slices.Compact(files)
}

// stamps looks at all files. What is not there has none.
func (w *watcher) stamps() map[string]stamp {
	all := map[string]stamp{}
	add := func(path string, info fs.FileInfo, err error) {
		if err == nil && info.Mode().IsRegular() {
			all[path] = stamp{info.Size(), info.ModTime()}
		}
	}
	for _, dir := range w.dirs {
		entries, _ := os.ReadDir(dir) // a folder that is gone has none
		for _, e := range entries {
			if isSource(e.Name()) {
				path := filepath.Join(dir, e.Name())
				info, err := os.Stat(path) // through links
				add(path, info, err)
			}
		}
	}
	for _, path := range w.files {
		info, err := os.Stat(path)
		add(path, info, err)
	}
	return all
}

// isSource reports whether a file of a package's folder goes into its program.
func isSource(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || strings.HasSuffix(name, "_test.go") {
		return false
	}
	switch filepath.Ext(name) {
	case ".go", ".mod", ".sum", ".s", ".S", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".m", ".syso":
		return true
	}
	return false
}
