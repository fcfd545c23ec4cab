// Package wire is the glue between package sdk's types and the wire contract grapnel.plugin.v1: conversions in both
// directions, and what the two ends of a go-plugin connection must agree on. Package serve and package plugintest use
// it on a plugin's side, the host's pluginhost on the other. Authors of plugins need none of it.
//
// Conversions to the wire never fail on text that is not UTF-8, which protobuf does not carry: each bad byte becomes
// U+FFFD. Conversions from the wire trust nothing: an enum value that this version does not know is an error where it
// changes what a schema or manifest means.
package wire

import (
	"context"
	"errors"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// Protocol is the major version of the wire contract, go-plugin's protocol number.
const Protocol = 1

// MaxMessage bounds every gRPC message, in bytes, on both sides. gRPC's own default of 4 MiB for what is received is
// less than one batch of large requests.
const MaxMessage = 64 << 20

// PluginName is the only name in a plugin's set.
const PluginName = "plugin"

// EnvHostPID is the environment variable that tells a plugin the host's process id, where both see the same ids. A
// plugin ends when that process does. Without it, a plugin watches its parent only.
const EnvHostPID = "GRAPNEL_HOST_PID"

// Capabilities that a DescribeResponse may list.
const (
	CapabilityCheck    = "check"    // Check reaches the far end
	CapabilityValidate = "validate" // Validate knows more than the schema
	CapabilityManifest = "manifest" // Validate answers with the manifest of a decoder's instance
	CapabilityMessages = "messages" // Validate of a sink judges drafts of messages
)

// Log levels of a CallContext. A plugin writes its log to stderr, one JSON object per line in the form of log/slog:
// "time", "level" (one of these words), "msg", and attributes.
const (
	LogTrace = "trace"
	LogDebug = "debug"
	LogInfo  = "info"
	LogWarn  = "warn"
	LogError = "error"
)

// Handshake is what both sides agree on before they talk. The cookie keeps a user from running a plugin by hand; it
// protects nothing.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  Protocol,
		MagicCookieKey:   "GRAPNEL_PLUGIN",
		MagicCookieValue: "webhooks-in-events-out",
	}
}

// ClientSet is the host's plugin set. Dispensing PluginName gives a *Client.
func ClientSet() plugin.PluginSet { return plugin.PluginSet{PluginName: &grpcPlugin{}} }

// ServerSet is a plugin's plugin set. register adds its services to the server.
func ServerSet(register func(*grpc.Server)) plugin.PluginSet {
	return plugin.PluginSet{PluginName: &grpcPlugin{register: register}}
}

// Client holds the client of every service over one connection. Which of Decoder and Sink the plugin serves, Describe
// says.
type Client struct {
	Conn    *grpc.ClientConn
	Plugin  pluginv1.PluginClient
	Decoder pluginv1.DecoderClient
	Sink    pluginv1.SinkClient
}

// NewClient makes the clients of a connection.
func NewClient(conn *grpc.ClientConn) *Client {
	return &Client{
		Conn:    conn,
		Plugin:  pluginv1.NewPluginClient(conn),
		Decoder: pluginv1.NewDecoderClient(conn),
		Sink:    pluginv1.NewSinkClient(conn),
	}
}

// DialOptions are those that a host gives to go-plugin.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage))}
}

// ServerOptions are those that a plugin adds to go-plugin's.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage)}
}

// grpcPlugin implements go-plugin's GRPCPlugin for both sides.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
}

var _ plugin.GRPCPlugin = (*grpcPlugin)(nil)

// GRPCServer implements plugin.GRPCPlugin.
func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	if p.register == nil {
		return errors.New("a client's plugin set cannot serve")
	}
	p.register(s)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin.
func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}
