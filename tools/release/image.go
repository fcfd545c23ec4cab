package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the user of the image, as in distroless ones.
const nobody = 65532

// image writes a container image of one layer: the programs, certificates, and nothing else.
func (r *release) image(arch, to string, list []file) error {
	var inside []file
	for _, f := range list {
		if strings.HasPrefix(f.name, "/usr/bin/") || strings.HasPrefix(f.name, "/usr/lib/grapnel/") ||
			f.name == "/etc/grapnel/config.hcl" || f.name == "/usr/share/doc/grapnel/LICENSE" {
			inside = append(inside, f)
		}
	}
	for name, text := range map[string]string{
		"/etc/passwd":                        fmt.Sprintf("root:x:0:0:root:/:/\nnonroot:x:%d:%[1]d:nonroot:/var/lib/grapnel:/\n", nobody),
		"/etc/group":                         fmt.Sprintf("root:x:0:\nnonroot:x:%d:\n", nobody),
		"/etc/ssl/certs/ca-certificates.crt": authorities(),
	} {
		f := file{name: name, source: filepath.Join(r.work, filepath.Base(name)), mode: 0o644}
		if err := os.WriteFile(f.source, []byte(text), 0o644); err != nil {
			return err
		}
		inside = append(inside, f)
	}
	var content bytes.Buffer
	if err := r.tar(&content, "", inside, []folder{
		{"/tmp", 0o1777, 0}, // programs of plugins run from copies there
		{"/var/lib/grapnel", 0o700, nobody},
	}); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	})
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: v1.Time{Time: r.at}, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(layer)},
		Config: v1.Config{
			User: fmt.Sprintf("%d:%[1]d", nobody), Entrypoint: []string{"/usr/bin/grapnel"},
			Cmd: []string{"run", "--config", "/etc/grapnel/config.hcl"}, WorkingDir: "/var/lib/grapnel",
			ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/grapnel": {}},
			Labels: map[string]string{
				"org.opencontainers.image.title": "grapnel", "org.opencontainers.image.version": r.version,
				"org.opencontainers.image.licenses": "Apache-2.0",
			},
		},
	})
	if err != nil {
		return err
	}
	tag, err := name.NewTag("grapnel:" + strings.ReplaceAll(r.version, "+", "-"))
	if err != nil {
		return err
	}
	return tarball.WriteToFile(to, tag, image)
}

func diffIDs(layer v1.Layer) []v1.Hash {
	id, err := layer.DiffID()
	if err != nil { // it was read from memory before
		return nil
	}
	return []v1.Hash{id}
}

// authorities is Mozilla's list of certificate authorities, as in the version of golang.org/x/crypto that is built with.
func authorities() string {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil { // what cannot be said in a file stays out
			_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return all.String()
}
