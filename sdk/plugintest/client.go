package plugintest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/serve"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Client calls a plugin as the host does. Its methods may be called from many goroutines.
type Client struct {
	wire *wire.Client
	proc *process // nil: inside of the test

	mu sync.Mutex
	n  int // instances so far
}

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
	return &Client{wire: dial(t, target)}
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

func dial(t testing.TB, target string) *wire.Client {
	t.Helper()
	conn, err := grpc.NewClient(target,
		append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return wire.NewClient(conn)
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

// process is a launched plugin.
type process struct {
	cmd    *exec.Cmd // the plugin's parent, or on Windows the plugin
	pid    int       // the plugin
	socket string
	stderr *output
	stdout *output       // what came after the handshake
	ended  chan struct{} // the plugin has closed its stdout
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Launch starts a plugin's program with the environment that the host gives it and ends it when the test does.
func Launch(t testing.TB, program string) *Client {
	t.Helper()
	p := &process{stderr: &output{}, stdout: &output{}, ended: make(chan struct{})}
	// A shell in between can be killed in the host's place; it says which process the plugin is.
	p.cmd = exec.Command("/bin/sh", "-c", `"$0" & echo $!; wait`, program)
	if runtime.GOOS == "windows" {
		p.cmd = exec.Command(program)
	}
	handshake := wire.Handshake()
	p.cmd.Env = []string{
		handshake.MagicCookieKey + "=" + handshake.MagicCookieValue,
		"PLUGIN_PROTOCOL_VERSIONS=" + strconv.Itoa(wire.Protocol),
		"PLUGIN_UNIX_SOCKET_DIR=" + socketDir(t),
		"PLUGIN_MIN_PORT=10000", "PLUGIN_MAX_PORT=25000",
	}
	p.cmd.Stderr = p.stderr
	p.cmd.WaitDelay = time.Second // an orphan may hold stderr
	stdout, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close() // the process has its own
	p.pid = p.cmd.Process.Pid

	lines := bufio.NewReader(stdout)
	address, err := p.readHandshake(lines)
	go func() {
		defer close(p.ended)
		_, _ = io.Copy(p.stdout, lines)
		_ = stdout.Close()
	}()
	t.Cleanup(func() { p.kill(t) })
	if err != nil {
		t.Fatalf("%s does not start as a plugin: %v\n%s", program, err, p.stderr)
	}
	return &Client{wire: dial(t, address), proc: p}
}

// readHandshake reads the shell's line and go-plugin's, in whatever order, and returns the address to dial.
func (p *process) readHandshake(lines *bufio.Reader) (string, error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("no handshake on stdout: %w", err)
		}
		line = strings.TrimSpace(line)
		if pid, err := strconv.Atoi(line); err == nil {
			p.pid = pid
			continue
		}
		parts := strings.Split(line, "|")
		if len(parts) < 5 {
			return "", fmt.Errorf("stdout begins with %q; it belongs to the handshake", line)
		}
		if parts[1] != strconv.Itoa(wire.Protocol) || parts[4] != "grpc" {
			return "", fmt.Errorf("handshake %q is not gRPC with protocol version %d", line, wire.Protocol)
		}
		if parts[2] == "unix" {
			p.socket = parts[3]
			return "unix:" + parts[3], nil
		}
		return "passthrough:///" + parts[3], nil
	}
}

func (p *process) kill(t testing.TB) {
	_ = p.cmd.Process.Kill()
	if plugin, err := os.FindProcess(p.pid); err == nil {
		select {
		case <-p.ended:
		default:
			_ = plugin.Kill()
		}
	}
	_ = p.cmd.Wait() // says that it was killed
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		t.Error("the plugin's stdout stays open after it was killed: it has left a process behind")
	}
}

// Log returns what a launched plugin has written to stderr so far; it is empty for Connect.
func (c *Client) Log() string {
	if c.proc == nil {
		return ""
	}
	return c.proc.stderr.String()
}

func (c *Client) context() *pluginv1.CallContext {
	return &pluginv1.CallContext{
		LogLevel: wire.LogTrace, Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

// Describe returns what the plugin says about itself.
func (c *Client) Describe(ctx context.Context) (*wire.Description, error) {
	r, err := c.wire.Plugin.Describe(ctx, &pluginv1.DescribeRequest{Context: c.context()})
	if err != nil {
		return nil, err
	}
	return wire.DescriptionFromProto(r)
}

// Validate checks a configuration, JSON. The error joins an sdk.AttributeError for each problem.
func (c *Client) Validate(ctx context.Context, config string) error {
	r, err := c.wire.Plugin.Validate(ctx, &pluginv1.ValidateRequest{Context: c.context(), Config: []byte(config)})
	if err != nil {
		return err
	}
	return problems(r.GetErrors(), "")
}

// Manifest returns the manifest of an instance of a decoder with a configuration, JSON: that of Describe, or the one that
// depends on the configuration.
func (c *Client) Manifest(ctx context.Context, config string) (*sdk.Provider, error) {
	d, err := c.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(d.Capabilities, wire.CapabilityManifest) {
		return d.Provider, nil
	}
	r, err := c.wire.Plugin.Validate(ctx, &pluginv1.ValidateRequest{Context: c.context(), Config: []byte(config)})
	if err != nil {
		return nil, err
	}
	if err := problems(r.GetErrors(), ""); err != nil || r.GetProvider() == nil {
		return d.Provider, err
	}
	return wire.ProviderFromProto(r.GetProvider())
}

// ErrUnavailable is wrapped by an error that says: not now, try again.
var ErrUnavailable = errors.New("unavailable")

func problems(list []*pluginv1.AttributeError, unavailable string) error {
	var errs []error
	for _, e := range wire.AttributeErrorsFromProto(list) {
		errs = append(errs, &e)
	}
	if unavailable != "" {
		errs = append(errs, fmt.Errorf("%w: %s", ErrUnavailable, unavailable))
	}
	return errors.Join(errs...)
}

// Open makes an instance from a configuration, JSON. The error joins an sdk.AttributeError for each problem, or wraps
// ErrUnavailable.
func (c *Client) Open(ctx context.Context, config string) (*Instance, error) {
	c.mu.Lock()
	c.n++
	i := &Instance{client: c, id: strconv.Itoa(c.n)}
	c.mu.Unlock()
	r, err := c.wire.Plugin.Open(ctx, &pluginv1.OpenRequest{
		Context: c.context(), Instance: i.id, Name: "test", Config: []byte(config),
	})
	if err != nil {
		return nil, err
	}
	if err := problems(r.GetErrors(), r.GetUnavailable()); err != nil {
		return nil, err
	}
	return i, nil
}

// Instance is an open instance of a plugin.
type Instance struct {
	client *Client
	id     string
}

// Check has the instance reach its far end.
func (i *Instance) Check(ctx context.Context) error {
	r, err := i.client.wire.Plugin.Check(ctx, &pluginv1.CheckRequest{Context: i.client.context(), Instance: i.id})
	if err != nil {
		return err
	}
	return problems(r.GetErrors(), r.GetUnavailable())
}

// Close ends the instance, after its other calls.
func (i *Instance) Close(ctx context.Context) error {
	r, err := i.client.wire.Plugin.Close(ctx, &pluginv1.CloseRequest{Context: i.client.context(), Instance: i.id})
	if err != nil {
		return err
	}
	if notes := wire.NotesFromProto(r.GetNotes()); len(notes) > 0 {
		return errors.New(strings.Join(notes, "; "))
	}
	return nil
}

// Deliver hands deliveries to a sink in one call and returns one outcome for each, in order. An error speaks of the
// transport: nothing is known about the deliveries.
func (i *Instance) Deliver(ctx context.Context, ds ...*sdk.Delivery[json.RawMessage]) ([]sdk.Outcome, error) {
	req := &pluginv1.DeliverRequest{Context: i.client.context(), Instance: i.id}
	for _, d := range ds {
		req.Deliveries = append(req.Deliveries, wire.DeliveryToProto(d))
	}
	r, err := i.client.wire.Sink.Deliver(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(r.GetOutcomes()) != len(ds) {
		return nil, fmt.Errorf("%d outcomes for %d deliveries", len(r.GetOutcomes()), len(ds))
	}
	outcomes := make([]sdk.Outcome, len(ds))
	for k, o := range r.GetOutcomes() {
		if outcomes[k] = wire.OutcomeFromProto(o); outcomes[k].DeliveryID != ds[k].ID {
			return nil, fmt.Errorf("outcome %d is of delivery %q, not %q", k, outcomes[k].DeliveryID, ds[k].ID)
		}
	}
	return outcomes, nil
}

// Decode has a decoder turn requests into events and returns one result for each, in order.
func (i *Instance) Decode(ctx context.Context, rs ...*sdk.Request) ([]sdk.Decoded, error) {
	req := &pluginv1.DecodeRequest{Context: i.client.context(), Instance: i.id}
	for _, r := range rs {
		req.Requests = append(req.Requests, wire.RequestToProto(r))
	}
	r, err := i.client.wire.Decoder.Decode(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(r.GetResults()) != len(rs) {
		return nil, fmt.Errorf("%d results for %d requests", len(r.GetResults()), len(rs))
	}
	decoded := make([]sdk.Decoded, len(rs))
	for k, m := range r.GetResults() {
		if decoded[k], err = wire.DecodedFromProto(m, rs[k].Body); err != nil {
			return nil, err
		}
		if decoded[k].RequestID != rs[k].ID {
			return nil, fmt.Errorf("result %d is of request %q, not %q", k, decoded[k].RequestID, rs[k].ID)
		}
	}
	return decoded, nil
}

// Delivery makes a delivery with everything filled, for Instance.Deliver. n tells deliveries apart; message and data
// are JSON.
func Delivery(n int, message, data string) *sdk.Delivery[json.RawMessage] {
	id := fmt.Sprintf("dlv_%032x_0_%08x", n, n)
	return &sdk.Delivery[json.RawMessage]{
		ID: id, Attempt: 1, Sequence: int64(n), Route: "test", OrderKey: fmt.Sprintf("employee/%d", n),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Event: sdk.Envelope{
			ID: fmt.Sprintf("evt_%032x_0", n), Source: "urn:grapnel:source:test", Type: "test.employee.updated",
			Subject: fmt.Sprintf("employee/%d", n), Time: "2026-01-02T03:04:05Z",
			PartitionKey: fmt.Sprintf("employee/%d", n), Provider: "test", Operation: "updated",
		},
		Message: json.RawMessage(message), Data: json.RawMessage(data),
	}
}
