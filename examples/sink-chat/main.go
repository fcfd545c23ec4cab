// Command grapnel-sink-chat is a custom sink, whole: it posts a text to a chat's webhook.
package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

type Config struct {
	URL   string     `json:"url" doc:"Where to post."`
	Token sdk.Secret `json:"token" doc:"API token."`
}

type Message struct {
	Text string `json:"text" doc:"What to say."`
}

type sink struct{ cfg Config }

func (s *sink) Deliver(ctx context.Context, d *sdk.Delivery[Message]) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, strings.NewReader(d.Message.Text))
	if err != nil {
		return sdk.Reject(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.cfg.Token.Reveal())
	req.Header.Set("Idempotency-Key", d.ID) // the same on every attempt
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err // any error: the host tries again
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the chat answers %s", resp.Status)
	}
	return nil
}

func open(_ context.Context, cfg Config) (sdk.Sink[Message], error) { return &sink{cfg}, nil }

var info = sdk.SinkInfo{Name: "chat", Description: "Posts a text."}

func main() { serve.Main(sdk.NewSink(info, open)) }
