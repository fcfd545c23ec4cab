package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

// pack writes a package of a format, deb or rpm.
func (r *release) pack(format, arch, to string, list []file) error {
	info := &nfpm.Info{
		Name: "grapnel", Arch: arch, Platform: "linux", Version: r.version, MTime: r.at,
		Section: "net", Priority: "optional", License: "Apache-2.0",
		Maintainer:  "The Grapnel authors <grapnel@users.noreply.github.com>",
		Homepage:    "https://github.com/grapnelhq/grapnel",
		Description: "Webhook host that never loses an event\nIt receives webhooks, stores them before it answers, and routes their events to plugins.",
		Overridables: nfpm.Overridables{
			Scripts: nfpm.Scripts{
				PostInstall: "tools/release/files/postinstall.sh", PreRemove: "tools/release/files/preremove.sh",
			},
			Depends: []string{"ca-certificates"},
		},
	}
	if format == "rpm" {
		info.Arch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
	}
	for _, f := range list {
		c := &files.Content{Source: f.source, Destination: f.name, FileInfo: &files.ContentFileInfo{Mode: f.mode, MTime: r.at}}
		if f.config {
			c.Type = files.TypeConfigNoReplace
		}
		info.Contents = append(info.Contents, c)
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	var packager nfpm.Packager = deb.Default
	if format == "rpm" {
		packager = rpm.DefaultRPM
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := errors.Join(packager.Package(info, out), out.Close()); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return nil
}
