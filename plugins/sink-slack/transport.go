package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/slack-go/slack"

	"github.com/grapnelhq/grapnel/sdk/serve"
)

// post is a message on its way.
type post struct {
	text    string
	blocks  json.RawMessage // nil: none
	links   bool            // unfurl
	media   bool
	channel string  // bot
	thread  string  // bot: ts of the parent, "" for none
	update  *parent // bot: what is replaced, nil for a new message
	extra   *Message
}

// transport brings posts to Slack. Its methods may be called from any number of goroutines.
type transport interface {
	send(ctx context.Context, p *post) answer
	check(ctx context.Context) error
	close()
}

func userAgent() string { return "grapnel-sink-slack/" + serve.Version() }

// newClient makes a client that follows no redirects: a credential goes where the configuration says and nowhere else.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           dialer.DialContext,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       60 * time.Second,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// exchange is one request and what came back, body included.
type exchange struct {
	sent   atomic.Bool
	status int
	header http.Header
	body   []byte
	err    error
}

// do sends a request and reads the answer whole. The error holds no address, which may be a secret.
func (x *exchange) do(client *http.Client, req *http.Request) {
	trace := &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) {
		if i.Err == nil {
			x.sent.Store(true)
		}
	}}
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	req.Header.Set("User-Agent", userAgent())
	resp, err := client.Do(req)
	if err != nil {
		x.err = unreachable(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// What comes then is no answer, and reading it would not end with the request's context.
		x.err = errors.New("slack's answer is 101 Switching Protocols")
		return
	}
	x.status, x.header = resp.StatusCode, resp.Header
	if x.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1)); err != nil {
		x.err = fmt.Errorf("slack's answer broke off: %w", err)
	} else if len(x.body) > maxAnswer {
		x.body = nil
		x.err = errors.New("slack's answer is longer than 1 MiB")
	}
}

// unreachable is an error of net/http without the address that it repeats.
func unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("slack did not answer in time")
	}
	return fmt.Errorf("slack cannot be reached: %w", err)
}

func (x *exchange) answer(read func(int, http.Header, []byte, time.Time) answer) answer {
	if x.err != nil {
		return answer{err: x.err, sent: x.sent.Load()}
	}
	return read(x.status, x.header, x.body, time.Now())
}

// hook posts through an incoming webhook.
type hook struct {
	client *http.Client
	url    string // secret
}

// hookBody is the JSON that a webhook takes.
type hookBody struct {
	Text        string          `json:"text"`
	Blocks      json.RawMessage `json:"blocks,omitempty"`
	UnfurlLinks bool            `json:"unfurl_links"`
	UnfurlMedia bool            `json:"unfurl_media"`
}

func (h *hook) send(ctx context.Context, p *post) answer {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(hookBody{p.text, p.blocks, p.links, p.media}); err != nil {
		return answer{err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, &body)
	if err != nil {
		return answer{err: errors.New("webhook_url is no address")}
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	x := &exchange{}
	x.do(h.client, req)
	x.body = withoutPath(x.body, req.URL)
	return x.answer(readHook)
}

// withoutPath takes the path of an address out of an answer, and its last part: of a webhook's that is the credential,
// and whoever does not know a path likes to repeat it.
func withoutPath(answer []byte, u *url.URL) []byte {
	whole := u.EscapedPath()
	for _, part := range []string{whole, strings.ReplaceAll(whole, "/", `\/`), path.Base(whole)} {
		if len(part) > 4 { // a shorter one stands in any text
			answer = bytes.ReplaceAll(answer, []byte(part), []byte("(sensitive)"))
		}
	}
	return answer
}

// check reaches the server and asks nothing of the webhook: any request to it that it understands posts a message.
func (h *hook) check(ctx context.Context) error {
	u, err := url.Parse(h.url)
	if err != nil {
		return errors.New("webhook_url is no address")
	}
	root := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, root.String(), nil)
	if err != nil {
		return err
	}
	x := &exchange{}
	x.do(h.client, req)
	return x.err
}

func (h *hook) close() { h.client.CloseIdleConnections() }

// bot posts with a token through the Web API.
type bot struct {
	client *http.Client
	api    *slack.Client
}

// exchangeKey is where a call's exchange is in its context.
type exchangeKey struct{}

// Do implements the client that slack.Client asks for. It keeps what came back: slack.Client itself drops the words of
// failures, cannot tell a 429 without Retry-After, takes an answer without ok for success, and fails on a part of an
// answer that it does not know after the message was posted.
func (b *bot) Do(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("a request without an exchange")
	}
	x.do(b.client, req)
	if x.err != nil {
		return nil, x.err
	}
	return &http.Response{
		Status: http.StatusText(x.status), StatusCode: x.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: x.header, Body: io.NopCloser(bytes.NewReader(x.body)), ContentLength: int64(len(x.body)), Request: req,
	}, nil
}

func newBot(client *http.Client, token, base string) *bot {
	b := &bot{client: client}
	// Its own retries are off unless asked for: those are the host's.
	b.api = slack.New(token, slack.OptionAPIURL(base), slack.OptionHTTPClient(b))
	return b
}

// rawBlock is a block that goes as it is.
type rawBlock json.RawMessage

func (rawBlock) BlockType() slack.MessageBlockType { return "" }
func (rawBlock) ID() string                        { return "" }

// MarshalJSON implements json.Marshaler.
func (b rawBlock) MarshalJSON() ([]byte, error) { return b, nil }

func (b *bot) send(ctx context.Context, p *post) answer {
	x := &exchange{}
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	options, err := p.options()
	if err != nil {
		return answer{err: err}
	}
	if p.update != nil {
		_, _, _, err = b.api.UpdateMessageContext(ctx, p.update.Channel, p.update.Timestamp, options...)
	} else {
		_, _, err = b.api.PostMessageContext(ctx, p.channel, options...)
	}
	if x.status == 0 && x.err == nil {
		return answer{err: fmt.Errorf("the request cannot be made: %w", err)}
	}
	return x.answer(readAPI)
}

// options says a post in the words of slack.Client.
func (p *post) options() ([]slack.MsgOption, error) {
	options := []slack.MsgOption{slack.MsgOptionText(p.text, false)} // the host has escaped it
	var blocks []json.RawMessage
	if p.blocks != nil {
		if err := json.Unmarshal(p.blocks, &blocks); err != nil {
			return nil, err
		}
	}
	set := make([]slack.Block, len(blocks))
	for i, b := range blocks {
		set[i] = rawBlock(b)
	}
	if p.update != nil {
		// No blocks is an empty list here: without one the old blocks would stay. And unlike a new message, a changed one
		// would have names and channels in its text made into links and mentions.
		options = append(options, slack.MsgOptionBlocks(set...), slack.MsgOptionParse(false))
	} else {
		if len(set) > 0 {
			options = append(options, slack.MsgOptionBlocks(set...))
		}
		if p.links {
			options = append(options, slack.MsgOptionEnableLinkUnfurl())
		} else {
			options = append(options, slack.MsgOptionDisableLinkUnfurl())
		}
		if !p.media { // otherwise the default
			options = append(options, slack.MsgOptionDisableMediaUnfurl())
		}
		if p.thread != "" {
			options = append(options, slack.MsgOptionTS(p.thread))
			if p.extra.Broadcast {
				options = append(options, slack.MsgOptionBroadcast())
			}
		}
		if p.extra.Username != "" {
			options = append(options, slack.MsgOptionUsername(p.extra.Username))
		}
		if p.extra.IconEmoji != "" {
			options = append(options, slack.MsgOptionIconEmoji(p.extra.IconEmoji))
		}
		if p.extra.IconURL != "" {
			options = append(options, slack.MsgOptionIconURL(p.extra.IconURL))
		}
	}
	if m := p.extra.Metadata; m != nil {
		payload := m.Payload
		if payload == nil {
			payload = map[string]any{}
		}
		options = append(options, slack.MsgOptionMetadata(slack.SlackMetadata{EventType: m.EventType, EventPayload: payload}))
	}
	return options, nil
}

// scope is what a token must be allowed to do.
const scope = "chat:write"

func (b *bot) check(ctx context.Context) error {
	x := &exchange{}
	_, err := b.api.AuthTestContext(context.WithValue(ctx, exchangeKey{}, x))
	if x.status == 0 && x.err == nil {
		return fmt.Errorf("the request cannot be made: %w", err)
	}
	a := x.answer(readAPI)
	if !a.ok {
		return errors.New(a.reason(a.meaning()))
	}
	if a.scopes != "" && !hasScope(a.scopes, scope) {
		return fmt.Errorf("the token lacks the scope %s: %s", scope, words["missing_scope"].advice)
	}
	return nil
}

func (b *bot) close() { b.client.CloseIdleConnections() }

func hasScope(scopes, want string) bool {
	for s := range strings.SplitSeq(scopes, ",") {
		if strings.TrimSpace(s) == want {
			return true
		}
	}
	return false
}
