// Package serve runs a plugin: Main is the one line of its main function.
//
// It takes care of what a process behind hashicorp/go-plugin has to mind, so that an author need not know of it:
// message sizes, signals, prints to stdout, the end of the host, panics, logging, and that one process holds many
// instances.
package serve

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// version is set by the linker: -ldflags "-X github.com/grapnelhq/grapnel/sdk/serve.version=1.2.3".
var version string

// Factory is what Main serves: what sdk.NewSink, sdk.NewBatchSink or sdk.NewDecoder made.
type Factory interface {
	*sdk.SinkFactory | *sdk.DecoderFactory
}

// Main serves a plugin until its host ends it. It is called once, from main, and does not return to do anything else:
// the program's work is in the factory's instances. What the program prints, before or after, goes to the host's log;
// stdout belongs to the handshake.
//
// Run by hand, it says what the program is and exits with status 1, or with 0 for the argument --version.
func Main[F Factory](factory F) {
	s := New(factory, Version())
	handshake := wire.Handshake()
	if os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		os.Exit(byHand(s, os.Args, os.Stdout, os.Stderr))
	}
	if s.broken != nil {
		fmt.Fprintln(os.Stderr, "this plugin cannot be described:", s.broken)
		os.Exit(1)
	}
	stderr := os.Stderr // go-plugin replaces the variable
	slog.SetDefault(slog.New(newLogHandler(stderr, &s.level)))
	ignoreSignals()

	os.Stdout = handshakeOut
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         wire.ServerSet(s.Register),
		Logger:          hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: stderr, DisableTime: true}),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			g := grpc.NewServer(append(options, s.ServerOptions(func() {
				// go-plugin has put pipes in place of both by now; what nobody reads from them would block a print.
				os.Stdout, os.Stderr = stderr, stderr
			})...)...)
			go watchHost(g)
			return g
		},
	})
}

// watchHost stops the server, which also removes its socket, when the host is gone. The process ends soon after in any
// case: an orphan would hold on to what its successor needs.
func watchHost(g *grpc.Server) {
	<-hostGone()
	slog.Warn("the host is gone, exiting")
	time.AfterFunc(500*time.Millisecond, func() { os.Exit(1) })
	g.Stop()
	if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
		_ = os.Remove(dir) // made for this socket; fails if anything else is in it
	}
}

// handshakeOut is the real stdout, of which the host reads one line. This initialisation is the one side effect that
// the package has: only here is it early enough to keep a print at the start of main, or in an init function, from
// being taken for that line. It changes nothing unless a host has started the process.
var handshakeOut = claimStdout()

func claimStdout() *os.File {
	out := os.Stdout
	if h := wire.Handshake(); os.Getenv(h.MagicCookieKey) == h.MagicCookieValue {
		os.Stdout = os.Stderr
	}
	return out
}

// Version is the program's version: the linker's, else that of the build's main module, else "devel".
func Version() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); v == "" && ok {
		v = strings.Trim(info.Main.Version, "()")
	}
	return cmp.Or(strings.TrimPrefix(v, "v"), "devel")
}

// byHand answers a user who runs the plugin as if it were a tool. It returns the exit status.
func byHand(s *Server, args []string, stdout, stderr io.Writer) int {
	d := s.description
	kind := "sink"
	if d.Provider != nil {
		kind = "decoder"
	}
	if len(args) > 1 {
		switch args[1] {
		case "version", "-version", "--version":
			fmt.Fprintf(stdout, "%s %s %s\n", kind, d.Name, d.Version)
			return 0
		}
	}
	fmt.Fprintf(stderr, `%s is the Grapnel %s plugin %q, version %s.

It is started by the Grapnel host and does nothing by itself. Put it into the folder that
"plugins { dir = ... }" in Grapnel's configuration names, under the name grapnel-%s-%s,
and use it in a %s block.
`, filepath.Base(args[0]), kind, d.Name, d.Version, kind, d.Name, blockHead(kind, d.Name))
	return 1
}

func blockHead(kind, name string) string {
	if kind == "decoder" {
		kind = "source"
	}
	return fmt.Sprintf("%s %q", kind, name)
}
