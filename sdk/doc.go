// Package sdk is what the author of a Grapnel plugin imports: the types of sinks and decoders, and the schemas that the
// host derives its configuration language from.
//
// A plugin is a program of its own that the host starts and calls over gRPC. It is either a sink, which hands events to
// the outside, or a decoder, which turns one provider's webhooks into events. The author writes two structs (the
// configuration and the message), one constructor and one method; package serve does the rest:
//
//	type Config struct {
//		URL   string     `json:"url" doc:"Where to post."`
//		Token sdk.Secret `json:"token" doc:"API token."`
//	}
//
//	type Message struct {
//		Text string `json:"text" doc:"What to say."`
//	}
//
//	type sink struct{ cfg Config }
//
//	func (s *sink) Deliver(ctx context.Context, d *sdk.Delivery[Message]) error {
//		return post(ctx, s.cfg, d.ID, d.Message.Text) // nil: delivered; any error: retried; see Reject, Skip, Suspend
//	}
//
//	func open(ctx context.Context, cfg Config) (sdk.Sink[Message], error) { return &sink{cfg}, nil }
//
//	func main() { serve.Main(sdk.NewSink(sdk.SinkInfo{Name: "chat"}, open)) }
//
// The user of the plugin then writes `sink "chat" "ops" { url = … token = … }` and `to "chat" "ops" { text = … }`;
// unknown, missing and ill-typed attributes are found by the host, with file and line, before the plugin sees anything.
//
// The package depends on the standard library only. The wire contract is grapnel.plugin.v1 in the proto folder.
package sdk
