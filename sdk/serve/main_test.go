package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// roleVar makes the test binary play another program.
const roleVar = "GRAPNEL_TEST_ROLE"

// The roles. The bare ones are plugins as go-plugin's documentation has them: they show the problems that serve solves.
const (
	roleServed    = "served"
	roleBare      = "bare"
	roleNoisy     = "noisy"
	roleBareNoisy = "bare-noisy"
	roleHost      = "host" // launches the role in the next variable, says where it is, and waits to be killed
	roleHostOf    = "GRAPNEL_TEST_ROLE_OF_PLUGIN"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case roleServed:
		Main(echoFactory())
	case roleNoisy:
		fmt.Println("noise before Main")
		Main(echoFactory())
	case roleBareNoisy:
		os.Stdout = handshakeOut // undo what this package does
		fmt.Println("noise before Serve")
		serveBare()
	case roleBare:
		os.Stdout = handshakeOut
		serveBare()
	case roleHost:
		playHost()
	default:
		// Plugins that are killed leave their sockets behind.
		dir, err := os.MkdirTemp("", "serve")
		if err != nil {
			panic(err)
		}
		if err := os.Setenv("TMPDIR", dir); err != nil {
			panic(err)
		}
		goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
			_ = os.RemoveAll(dir)
			os.Exit(status)
		}))
	}
}

func playHost() {
	c := plugin.NewClient(clientConfig(os.Getenv(roleHostOf), &buffer{}))
	if _, err := dispense(c); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r := c.ReattachConfig()
	fmt.Println(r.Pid, r.Addr)
	time.Sleep(time.Minute)
}

func serveBare() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake(),
		Plugins:         wire.ServerSet(New(echoFactory(), "1").Register),
		GRPCServer:      plugin.DefaultGRPCServer,
	})
}

type echoConfig struct {
	Prefix string     `json:"prefix" default:">"`
	Token  sdk.Secret `json:"token,omitempty"`
	Fail   string     `json:"fail,omitempty"`
}

func (c echoConfig) Validate() error {
	switch c.Fail {
	case "validate":
		return &sdk.AttributeError{Path: []string{"fail"}, Summary: "asked to"}
	case "panic in validate":
		panic("oh")
	}
	return nil
}

type echoMessage struct {
	Do   string `json:"do,omitempty"`
	Text string `json:"text,omitempty"`
}

// echo is a sink that does what it is told.
type echo struct {
	cfg     echoConfig
	release chan struct{}

	mu     sync.Mutex
	closed int
}

func echoFactory() *sdk.SinkFactory {
	return sdk.NewSink(sdk.SinkInfo{Name: "echo", Description: "Says it again."}, openEcho)
}

// opened holds the sinks that were opened in this process.
var opened struct {
	mu   sync.Mutex
	list []*echo
}

func lastEcho(t *testing.T) *echo {
	t.Helper()
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if len(opened.list) == 0 {
		return &echo{}
	}
	return opened.list[len(opened.list)-1]
}

func openEcho(ctx context.Context, cfg echoConfig) (sdk.Sink[echoMessage], error) {
	switch cfg.Fail {
	case "open":
		return nil, errors.New("far end is down")
	case "open for good":
		return nil, fmt.Errorf("token: %w", &sdk.AttributeError{Path: []string{"token"}, Summary: "revoked"})
	case "panic in open":
		panic("oh")
	case "empty":
		return nil, errors.New("")
	case "slow open":
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond)
	}
	e := &echo{cfg: cfg, release: make(chan struct{})}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	opened.list = append(opened.list, e)
	return e, nil
}

func (e *echo) Deliver(ctx context.Context, d *sdk.Delivery[echoMessage]) error {
	switch d.Message.Do {
	case "print":
		fmt.Println(d.Message.Text)
		fmt.Fprintln(os.Stderr, "stderr "+d.Message.Text)
	case "log":
		slog.DebugContext(ctx, "debug line")
		slog.InfoContext(ctx, "info line", "token", e.cfg.Token)
		slog.Log(ctx, levelTrace, "trace line")
	case "panic":
		panic("oh")
	case "wait":
		<-ctx.Done()
		return context.Cause(ctx)
	case "hang":
		<-e.release
	}
	d.SetReference(e.cfg.Prefix + d.Message.Text)
	return nil
}

func (e *echo) Check(context.Context) error {
	switch e.cfg.Fail {
	case "check":
		return errors.New("no permission")
	case "panic in check":
		panic("oh")
	}
	return nil
}

func (e *echo) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed++
	switch e.cfg.Fail {
	case "close":
		return errors.New("not flushed")
	case "panic in close":
		panic("oh")
	}
	return nil
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// waitFor polls until the buffer holds text.
func (b *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !strings.Contains(b.String(), text) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q on stderr:\n%s", text, b.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// clientConfig launches the test binary in a role, in the way the host launches plugins.
func clientConfig(role string, stderr *buffer) *plugin.ClientConfig {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{roleVar + "=" + role, "TMPDIR=" + os.TempDir()}
	return &plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		Plugins:          wire.ClientSet(),
		Cmd:              cmd,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		GRPCDialOptions:  wire.DialOptions(),
		Logger:           hclog.NewNullLogger(),
		Stderr:           stderr,
	}
}

// launch starts a plugin and opens an instance "i".
func launch(t *testing.T, role string) (*plugin.Client, *wire.Client, *buffer) {
	t.Helper()
	stderr := &buffer{}
	c := plugin.NewClient(clientConfig(role, stderr))
	t.Cleanup(c.Kill)
	w, err := dispense(c)
	if err != nil {
		t.Fatalf("launch: %v\n%s", err, stderr.String())
	}
	_, err = w.Plugin.Open(t.Context(), &pluginv1.OpenRequest{Instance: "i", Name: "block"})
	if err != nil {
		t.Fatal(err)
	}
	return c, w, stderr
}

func dispense(c *plugin.Client) (*wire.Client, error) {
	p, err := c.Client()
	if err != nil {
		return nil, err
	}
	raw, err := p.Dispense(wire.PluginName)
	if err != nil {
		return nil, err
	}
	return raw.(*wire.Client), nil
}

// deliver sends one message and returns its outcome.
func deliver(ctx context.Context, w *wire.Client, level string, m echoMessage) (*pluginv1.Outcome, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	r, err := w.Sink.Deliver(ctx, &pluginv1.DeliverRequest{
		Context: &pluginv1.CallContext{LogLevel: level}, Instance: "i",
		Deliveries: []*pluginv1.Delivery{{Id: "dlv_1", Attempt: 1, Message: b}},
	})
	if err != nil {
		return nil, err
	}
	return r.Outcomes[0], nil
}
