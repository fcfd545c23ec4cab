package plugintest

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/conform"
	"github.com/grapnelhq/grapnel/sdk/serve"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Client calls a plugin as the host does. Its methods may be called from many goroutines.
type Client = conform.Client

// Instance is an open instance of a plugin.
type Instance = conform.Instance

// ErrUnavailable is wrapped by an error that says: not now, try again.
var ErrUnavailable = conform.ErrUnavailable

// Connect serves a factory inside of the test's process, over a socket, until the test ends.
func Connect[F serve.Factory](t testing.TB, factory F) *Client {
	t.Helper()
	s := serve.New(factory, "devel")
	g := grpc.NewServer(s.ServerOptions(nil)...)
	s.Register(g)
	socket := filepath.Join(socketDir(t), "plugin")
	network, address := "unix", socket
	target := "unix:" + socket
	if runtime.GOOS == "windows" {
		network, address = "tcp", "127.0.0.1:0"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if network == "tcp" {
		target = "passthrough:///" + l.Addr().String()
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := g.Serve(l); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		g.Stop()
		<-served
	})
	conn, err := grpc.NewClient(target,
		append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conform.NewClient(conn)
}

// socketDir is a temporary folder with a name that is short enough for sockets, which t.TempDir's is not.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gpt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Build builds the main package in folder pkg, with the race detector off, and returns the program's path. The program
// is removed when the test ends.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "plugin")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir = pkg
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// Launch starts a plugin's program as the host does and ends it when the test does.
func Launch(t testing.TB, program string) *Client {
	t.Helper()
	p, err := conform.Start(t.Context(), conform.Command{Path: program})
	if err != nil {
		t.Fatalf("%s does not start as a plugin: %v", program, err)
	}
	t.Cleanup(p.Stop)
	return p.Client
}

// Delivery makes a delivery with everything filled, for Instance.Deliver. n tells deliveries apart; message and data
// are JSON.
func Delivery(n int, message, data string) *sdk.Delivery[json.RawMessage] {
	return conform.Delivery(n, message, data)
}

// CheckData checks JSON against a schema, strictly: every member is declared, every one that is not optional is there,
// and types, enums and null are as declared. The error joins an sdk.AttributeError for each problem.
func CheckData(schema *sdk.Schema, data []byte) error { return conform.CheckData(schema, data) }
