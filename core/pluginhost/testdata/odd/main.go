// Odd is a plugin that misbehaves on command: at its start by its environment, at Open by its configuration, later by
// what stands under "do" in messages and bodies. It serves the wire contract without package serve, which would not
// let it.
package main

import (
	"context"
	"encoding/json"
	"fmt"

	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// version is set by the linker.
var version = "1.2.3"

// variant is how the program's file was named, up to the first dot: "dies", "dies-decoder". It chooses a way to fail for
// one program among others with the same environment.
func variant() string {
	name, _, _ := strings.Cut(filepath.Base(os.Args[0]), ".")
	return strings.TrimSuffix(name, "-decoder")
}

func main() {
	start := os.Getenv("ODD_START")
	if variant() == "exits" {
		start = "exit"
	}
	first := launches() // how often it was started before, where ODD_DIR says so
	if n, ok := strings.CutPrefix(start, "exit_first:"); ok {
		if limit, _ := strconv.Atoi(n); first < limit {
			fmt.Fprintln(os.Stderr, "odd: not yet")
			os.Exit(4)
		}
	}
	switch start {
	case "stdout":
		fmt.Println("Hello from a plugin that prints")
	case "slow":
		time.Sleep(time.Hour)
	case "exit":
		fmt.Fprintln(os.Stderr, "odd: cannot go on")
		os.Exit(3)
	case "panic":
		panic("odd start")
	case "badline":
		fmt.Fprintln(os.Stderr, `{"@message":1}`)
	case "die_soon":
		time.AfterFunc(100*time.Millisecond, func() { os.Exit(5) })
	}
	limits := wire.ServerOptions()
	if start == "small" {
		limits = nil // gRPC's own 4 MiB
	}
	s := &odd{decoder: strings.Contains(filepath.Base(os.Args[0]), "-decoder"), stderr: os.Stderr}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: wire.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{wire.Protocol: wire.ServerSet(func(g *grpc.Server) {
			pluginv1.RegisterPluginServer(g, s)
			pluginv1.RegisterSinkServer(g, s)
			pluginv1.RegisterDecoderServer(g, s)
		})},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server { return grpc.NewServer(append(opts, limits...)...) },
	})
}

func launches() int {
	dir := os.Getenv("ODD_DIR")
	if dir == "" {
		return 0
	}
	files, _ := filepath.Glob(filepath.Join(dir, "launch-*"))
	f, err := os.CreateTemp(dir, "launch-")
	if err == nil {
		_ = f.Close()
	}
	return len(files)
}

type odd struct {
	pluginv1.UnimplementedPluginServer
	pluginv1.UnimplementedSinkServer
	pluginv1.UnimplementedDecoderServer
	decoder bool
	stderr  *os.File
	opens   atomic.Int64
	secret  atomic.Value
	mu      sync.Mutex
	hoard   [][]byte
}

func object(attributes ...*pluginv1.Attribute) *pluginv1.Schema {
	return &pluginv1.Schema{Kind: pluginv1.Schema_KIND_OBJECT, Attributes: attributes}
}

func text(name string, sensitive bool) *pluginv1.Attribute {
	return &pluginv1.Attribute{Name: name, Schema: &pluginv1.Schema{
		Kind: pluginv1.Schema_KIND_STRING, Optional: true, Sensitive: sensitive,
	}}
}

func (s *odd) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	r := &pluginv1.DescribeResponse{
		Kind: pluginv1.PluginKind_PLUGIN_KIND_SINK, Name: "odd", Version: version, Description: "Misbehaves on command.",
		Config: object(text("open", false), text("token", true)), Capabilities: []string{"validate", "check"},
		Sink: &pluginv1.SinkInfo{Message: object(text("do", false)), MaxBatch: 100, WantsData: true, WantsState: true},
	}
	if s.decoder {
		r.Kind, r.Sink = pluginv1.PluginKind_PLUGIN_KIND_DECODER, nil
		r.Provider = &pluginv1.Provider{
			Name: "odd", Title: "Odd",
			Schemes: []*pluginv1.AuthScheme{{Name: "signed", Kind: &pluginv1.AuthScheme_Hmac{Hmac: &pluginv1.Hmac{
				Headers: []string{"x-odd"}, Encoding: pluginv1.Encoding_ENCODING_HEX,
			}}}},
			Events: []*pluginv1.EventType{{Type: "odd.thing.made", Data: &pluginv1.Schema{Kind: pluginv1.Schema_KIND_ANY},
				Samples: []*pluginv1.Sample{{Name: "made", Body: []byte("{ \"spaces\" :\t1 }\n")}}}},
		}
	}
	switch variant() {
	case "nodescribe":
		fmt.Fprintln(s.stderr, "odd: cannot describe myself")
		os.Exit(7)
	case "config":
		r.Config.Attributes = append(r.Config.Attributes, &pluginv1.Attribute{Name: "needed", Schema: &pluginv1.Schema{
			Kind: pluginv1.Schema_KIND_STRING,
		}})
	case "message":
		r.Sink.Message.Attributes = append(r.Sink.Message.Attributes, &pluginv1.Attribute{Name: "needed",
			Schema: &pluginv1.Schema{Kind: pluginv1.Schema_KIND_STRING}})
	case "more":
		more := text("more", false)
		more.Schema.Default = []byte(`"by default"`)
		r.Config.Attributes = append(r.Config.Attributes, more)
		if s.decoder {
			break
		}
		r.Sink.Message.Attributes = append(r.Sink.Message.Attributes, more)
	case "manifest":
		r.Provider.Methods = []string{"PUT"}
	}
	switch os.Getenv("ODD_DESCRIBE") {
	case "manifest":
		r.Capabilities = append(r.Capabilities, "manifest")
	case "reserved":
		r.Config = object(text("enabled", false), text("delivery", false))
	case "name":
		r.Name = "other"
	case "enum":
		r.Config.Attributes[0].Schema.Kind = 99
	case "handshake":
		r.Provider.Handshake = &pluginv1.Handshake{Method: "GET",
			Echo: &pluginv1.Part{Kind: pluginv1.Part_KIND_QUERY}}
	case "scheme":
		r.Provider.Schemes = []*pluginv1.AuthScheme{{Name: "basic", Kind: &pluginv1.AuthScheme_Token{
			Token: &pluginv1.Token{Part: &pluginv1.Part{Kind: pluginv1.Part_KIND_BODY}},
		}}}
	case "prefix":
		r.Provider.Events[0].Type = "even.thing.made"
	case "hang":
		time.Sleep(time.Hour)
	}
	return r, nil
}

func (s *odd) Validate(_ context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	c := config(r.GetConfig())
	if c.Open == "attribute" {
		return &pluginv1.ValidateResponse{Errors: []*pluginv1.AttributeError{
			{Path: []string{"open"}, Summary: "not " + c.Token, Detail: "choose another"},
		}}, nil
	}
	if name, ok := strings.CutPrefix(c.Open, "manifest:"); ok { // of a provider of its own
		return &pluginv1.ValidateResponse{Provider: &pluginv1.Provider{
			Name: name, ChooseScheme: true, Events: []*pluginv1.EventType{{Type: "acme.thing.made", Data: object()}},
		}}, nil
	}
	return &pluginv1.ValidateResponse{}, nil
}

type settings struct{ Open, Token string }

func config(b []byte) (c settings) {
	_ = json.Unmarshal(b, &c)
	return c
}

func (s *odd) Open(_ context.Context, r *pluginv1.OpenRequest) (*pluginv1.OpenResponse, error) {
	n := s.opens.Add(1)
	c := config(r.GetConfig())
	if c.Token != "" {
		s.secret.Store(c.Token)
	}
	switch variant() {
	case "noopen":
		if r.GetName() == "b" {
			return &pluginv1.OpenResponse{Unavailable: "version 2 does not like " + r.GetName()}, nil
		}
	case "refuses":
		return &pluginv1.OpenResponse{Errors: []*pluginv1.AttributeError{{Path: []string{"open"}, Summary: "refused"}}}, nil
	case "opendies":
		fmt.Fprintln(s.stderr, "odd: opening killed me")
		os.Exit(8)
	}
	switch c.Open {
	case "attribute":
		return &pluginv1.OpenResponse{Errors: []*pluginv1.AttributeError{{Path: []string{"open"}, Summary: "refused"}}}, nil
	case "unavailable":
		return &pluginv1.OpenResponse{Unavailable: "far end is down"}, nil
	case "unavailable_first":
		if n == 1 {
			return &pluginv1.OpenResponse{Unavailable: "far end is down"}, nil
		}
	case "exit":
		os.Exit(6)
	case "hang":
		time.Sleep(time.Hour)
	}
	return &pluginv1.OpenResponse{}, nil
}

func (s *odd) Check(context.Context, *pluginv1.CheckRequest) (*pluginv1.CheckResponse, error) {
	return &pluginv1.CheckResponse{Unavailable: "far end is down"}, nil
}

func (s *odd) Close(_ context.Context, r *pluginv1.CloseRequest) (*pluginv1.CloseResponse, error) {
	if dir := os.Getenv("ODD_DIR"); dir != "" {
		_ = os.WriteFile(filepath.Join(dir, "closed-"+r.GetInstance()), nil, 0o600)
	}
	return &pluginv1.CloseResponse{}, nil
}

// act does what is the same in a sink and a decoder.
func (s *odd) act(ctx context.Context, do, id string) error {
	if variant() == "dies" {
		fmt.Fprintln(s.stderr, "odd: version 2 cannot do anything")
		os.Exit(9)
	}
	word, arg, _ := strings.Cut(do, ":")
	switch word {
	case "crash":
		fmt.Fprintln(s.stderr, "odd: last words of", id)
		os.Exit(3)
	case "crash_once":
		name := filepath.Join(os.Getenv("ODD_DIR"), "crashed-"+id)
		if _, err := os.Stat(name); err != nil {
			_ = os.WriteFile(name, nil, 0o600)
			os.Exit(3)
		}
	case "panic":
		fmt.Fprintln(s.stderr, `{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"about to panic","token":"`+s.token()+`"}`)
		go func() { panic("odd panic with " + s.token()) }()
		time.Sleep(time.Hour)
	case "hang":
		time.Sleep(time.Hour)
	case "wait":
		<-ctx.Done()
		return ctx.Err()
	case "sleep":
		d, _ := time.ParseDuration(arg)
		time.Sleep(d)
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		time.Sleep(time.Second)
	case "flood":
		line := []byte(strings.Repeat("x", 100) + "\n")
		for range 20_000 {
			_, _ = s.stderr.Write(line)
		}
		_, _ = s.stderr.Write([]byte(strings.Repeat("y", 200<<10) + "\n"))
	case "badline":
		fmt.Fprintln(s.stderr, `{"@message":1}`)
		fmt.Fprintln(s.stderr, `{"@message":"ok","@level":7,"@timestamp":{}}`)
	case "log":
		fmt.Fprintln(s.stderr, `{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"odd says `+s.token()+`","at":{"x":1},"token":"`+s.token()+`"}`)
		fmt.Fprintln(os.Stdout, "printed "+s.token()) // not the real one any more: go-plugin took it
	case "leak", "leak_wait":
		n, _ := strconv.Atoi(arg)
		b := make([]byte, n<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		s.mu.Lock()
		s.hoard = append(s.hoard, b)
		s.mu.Unlock()
		if word == "leak_wait" {
			time.Sleep(5 * time.Second)
		}
	case "orphan":
		cmd := exec.Command("sleep", "1000")
		cmd.Stdout, cmd.Stderr = s.stderr, s.stderr
		if err := cmd.Start(); err != nil {
			return err
		}
	case "status":
		return status.Error(codes.Unavailable, "odd says unavailable")
	case "unlisten":
		// The connection dies while the process lives.
		dir := os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			_ = os.Remove(f)
		}
		closeConnections()
	}
	return nil
}

// closeConnections closes every socket of the process under its own feet.
func closeConnections() {
	for fd := 3; fd < 64; fd++ {
		f := os.NewFile(uintptr(fd), "")
		if c, err := net.FileConn(f); err == nil {
			if u, ok := c.(*net.UnixConn); ok {
				if raw, err := u.SyscallConn(); err == nil {
					_ = raw.Control(func(p uintptr) { _ = syscall.Shutdown(int(p), syscall.SHUT_RDWR) })
				}
			}
			_ = c.Close()
		}
	}
}

func (s *odd) token() string {
	t, _ := s.secret.Load().(string)
	return t
}

func (s *odd) Deliver(ctx context.Context, r *pluginv1.DeliverRequest) (*pluginv1.DeliverResponse, error) {
	out := &pluginv1.DeliverResponse{}
	for _, d := range r.GetDeliveries() {
		var m struct{ Do string }
		_ = json.Unmarshal(d.GetMessage(), &m)
		if err := s.act(ctx, m.Do, d.GetId()); err != nil {
			return nil, err
		}
		o := &pluginv1.Outcome{DeliveryId: d.GetId(), Kind: pluginv1.Outcome_KIND_DELIVERED,
			Reference: strconv.Itoa(os.Getpid()), Reason: string(d.GetData())}
		word, arg, _ := strings.Cut(m.Do, ":")
		switch word {
		case "missing":
			continue
		case "double":
			out.Outcomes = append(out.Outcomes, o)
		case "foreign":
			out.Outcomes = append(out.Outcomes, &pluginv1.Outcome{DeliveryId: "dlv_foreign", Kind: pluginv1.Outcome_KIND_DELIVERED})
		case "reverse":
			out.Outcomes = append([]*pluginv1.Outcome{o}, out.Outcomes...)
			continue
		case "big":
			n, _ := strconv.Atoi(arg)
			o.Reason = strings.Repeat("z", n)
		case "message":
			o.Reason = string(d.GetMessage())
		case "env":
			o.Reason = strings.Join(os.Environ(), "\n")
		case "secret":
			o.Kind, o.Reason = pluginv1.Outcome_KIND_RETRY, "token "+s.token()+" refused\x1b[31m"
			o.AfterMs = 1500
			o.Notes = []*pluginv1.Note{{Message: "with " + s.token()}}
		case "kind":
			o.Kind = 77
		case "state":
			n, _ := strconv.Atoi(arg)
			o.State = []byte(strings.Repeat("s", n))
		case "reject":
			o.Kind, o.AttributePath = pluginv1.Outcome_KIND_REJECTED, []string{"do"}
		}
		out.Outcomes = append(out.Outcomes, o)
	}
	return out, nil
}

func (s *odd) Decode(ctx context.Context, r *pluginv1.DecodeRequest) (*pluginv1.DecodeResponse, error) {
	out := &pluginv1.DecodeResponse{}
	for _, q := range r.GetRequests() {
		var m struct {
			Do    string
			Event json.RawMessage // protobuf's fields in JSON
		}
		_ = json.Unmarshal(q.GetBody(), &m)
		if err := s.act(ctx, m.Do, q.GetId()); err != nil {
			return nil, err
		}
		word, arg, _ := strings.Cut(m.Do, ":")
		body := q.GetBody()
		e := &pluginv1.Event{Type: "odd.thing.made", Subject: "thing/1", PartitionKey: "thing/1", Operation: "created",
			DataRange: &pluginv1.ByteRange{Length: uint32(len(body))}}
		res := &pluginv1.DecodeResult{RequestId: q.GetId(), Events: []*pluginv1.Event{e}}
		if len(m.Event) > 0 {
			_ = json.Unmarshal(m.Event, e)
		}
		switch word {
		case "missing":
			continue
		case "double":
			out.Results = append(out.Results, res)
		case "foreign":
			res.RequestId = "req_foreign"
		case "many":
			n, _ := strconv.Atoi(arg)
			for range n - 1 {
				res.Events = append(res.Events, e)
			}
		case "big":
			n, _ := strconv.Atoi(arg)
			e.DataRange, e.Data = nil, []byte(`"`+strings.Repeat("z", n)+`"`)
		case "refuse":
			res.Events, res.Refused = nil, "not mine"
		case "utf8":
			e.Subject = "\xff"
		case "data":
			e.DataRange, e.Data = nil, []byte(arg)
		}
		out.Results = append(out.Results, res)
	}
	return out, nil
}
