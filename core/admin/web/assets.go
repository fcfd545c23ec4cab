package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed templates assets
var files embed.FS

// assets are the files that pages link to, under names that change with their content, so that a browser may keep them
// for ever. They are no secrets: a login page may use them before the login.
type assets struct {
	names map[string]string // file name → name with the hash
	files map[string]asset  // by name with the hash
}

type asset struct {
	kind string
	body []byte
}

// AssetsPath is where the assets are: what is below it may be asked for without a login.
const AssetsPath = "/assets/"

func loadAssets() (*assets, error) {
	kinds := map[string]string{
		".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
	}
	a := &assets{map[string]string{}, map[string]asset{}}
	err := fs.WalkDir(files, "assets", func(file string, d fs.DirEntry, err error) error {
		kind := kinds[path.Ext(file)]
		if err != nil || d.IsDir() || kind == "" {
			return err
		}
		b, err := files.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		base, ext := path.Base(file), path.Ext(file)
		name := strings.TrimSuffix(base, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		a.names[base], a.files[name] = name, asset{kind, b}
		return nil
	})
	return a, err
}

// path is the address of a file, for templates.
func (a *assets) path(file string) (string, error) {
	name, ok := a.names[file]
	if !ok {
		return "", fmt.Errorf("there is no asset %s", file)
	}
	return AssetsPath + name, nil
}

// ServeHTTP implements http.Handler.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(f.body)
}
