package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	patience = 20 * time.Second // longest wait for a turn within a call
	tooLong  = 20 * time.Second // of one request
)

// factory makes the plugin.
func factory() *sdk.SinkFactory {
	paces := newPacer()
	info := sdk.SinkInfo{
		Name:        "slack",
		Description: "Posts messages to Slack, through an incoming webhook or as a bot.",
		State:       true,
	}
	return sdk.NewSink(info, func(_ context.Context, cfg Config) (sdk.Sink[Message], error) {
		return open(cfg, paces, newClient()), nil
	})
}

// sink is one configured block.
type sink struct {
	cfg     Config
	account string // digest of the credential
	to      transport
	paces   *pacer
}

func open(cfg Config, paces *pacer, client *http.Client) *sink {
	s := &sink{cfg: cfg, paces: paces}
	if cfg.Mode == modeBot {
		base := cfg.BaseURL
		if base == "" {
			base = slackAPI
		}
		if !strings.HasSuffix(base, "/") {
			base += "/"
		}
		s.account = digest(base, cfg.Token.Reveal())
		s.to = newBot(client, cfg.Token.Reveal(), base)
		return s
	}
	s.account = digest(cfg.WebhookURL.Reveal())
	s.to = &hook{client: client, url: cfg.WebhookURL.Reveal()}
	return s
}

// Check implements sdk.Checker. It posts nothing.
func (s *sink) Check(ctx context.Context) error { return s.to.check(ctx) }

// Close implements sdk.Closer.
func (s *sink) Close() error {
	s.to.close()
	return nil
}

// Deliver implements sdk.Sink.
//
// Slack takes about one message per second and channel. A delivery whose turn comes soon waits for it in here: that
// charges no attempt, keeps the order of the calls, and to the host a sink that is busy does not look like one that
// fails. Only where the turn does not come before the call must end, the host gets it back, with a time of its own.
func (s *sink) Deliver(ctx context.Context, d *sdk.Delivery[Message]) error {
	t, err := s.prepare(d)
	if err != nil {
		return err
	}
	for _, n := range t.content.notes {
		d.Note(n)
	}
	a, err := s.inTurn(ctx, t)
	if err != nil {
		return err
	}
	if !a.ok && a.meaning().class == plainly && t.post.blocks != nil {
		refused := a.reason(a.meaning())
		slog.WarnContext(ctx, "slack refuses the blocks, sending them as text", "reason", refused)
		t.post.text, t.post.blocks = t.content.plain, nil
		if a, err = s.inTurn(ctx, t); err != nil {
			return err
		}
		if a.ok {
			d.Note(refused + "; sent as text")
		}
	}
	return s.settle(ctx, d, t, a)
}

// task is a delivery on its way.
type task struct {
	content content
	post    post
	lane    laneKey
	chosen  bool   // the route chose the channel
	thread  string // key among the order key's threads; "": none
	threads threads
}

// prepare makes what is to be sent; errors are outcomes.
func (s *sink) prepare(d *sdk.Delivery[Message]) (*task, error) {
	m := &d.Message
	t := &task{
		post: post{links: m.UnfurlLinks, media: m.UnfurlMedia, extra: m},
		lane: laneKey{account: s.account, every: s.cfg.Spacing},
	}
	most := maxText
	if s.cfg.Mode == modeWebhook {
		if err := m.onlyBots(); err != nil {
			return nil, err
		}
	} else {
		if err := s.address(d, t); err != nil {
			return nil, err
		}
		if t.post.update != nil {
			most = maxUpdateText
		}
	}
	var err error
	if t.content, err = compose(m, d.Event.Type, most); err != nil {
		return nil, err
	}
	t.post.text, t.post.blocks = t.content.text, t.content.blocks
	return t, nil
}

// address says where a bot's message goes: a channel, a thread, in place of another.
func (s *sink) address(d *sdk.Delivery[Message], t *task) error {
	m := &d.Message
	if err := m.check(); err != nil {
		return err
	}
	t.post.channel, t.chosen = s.cfg.Channel, m.Channel != "" && m.Channel != s.cfg.Channel
	if m.Channel != "" {
		t.post.channel = m.Channel
		if why := checkChannel(m.Channel); why != "" {
			return sdk.Reject(errors.New("channel "+why), "channel")
		}
	}
	if t.post.channel == "" {
		return sdk.Reject(errors.New("neither the message nor the sink names a channel"), "channel")
	}
	t.lane.channel = t.post.channel
	key := m.threadKey()
	switch {
	case key == "":
		return nil
	case d.OrderKey == "":
		d.Note("without an order key there are no threads: it is posted as a message of its own")
		return nil
	}
	t.threads = readThreads(d.State)
	t.thread = digest(key, t.post.channel)
	p := t.threads.find(t.thread)
	switch {
	case p == nil:
	case !m.Update:
		t.post.thread, t.post.channel = p.Timestamp, p.Channel
	case !d.Force && p.newerThan(placeOf(&d.Event, d.Sequence, time.Now()), d.Replay):
		return sdk.Skip("stale: the message shows a newer event")
	default:
		t.post.update = p
	}
	return nil
}

// inTurn sends when it is the channel's turn. An error is an outcome.
func (s *sink) inTurn(ctx context.Context, t *task) (answer, error) {
	latest := time.Now().Add(patience)
	if end, ok := ctx.Deadline(); ok { // keep a third for the request itself
		latest = earlier(latest, time.Now().Add(time.Until(end)/3*2))
	}
	away, err := s.paces.enter(ctx, t.lane, latest)
	if err != nil {
		return answer{}, err
	}
	if away > 0 {
		return answer{}, sdk.RetryAfter(errors.New("the channel has no turn free in time"), away)
	}
	limit := tooLong
	if end, ok := ctx.Deadline(); ok { // leave the host some time to hear of it
		limit = min(limit, time.Until(end)*9/10)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := s.to.send(ctx, &t.post)
	if !a.ok && a.meaning().class == limited {
		s.paces.shut(t.lane, a.pause())
	}
	return a, nil
}

// settle says what an answer means for the delivery.
func (s *sink) settle(ctx context.Context, d *sdk.Delivery[Message], t *task, a answer) error {
	if !a.ok {
		if a.err != nil && a.sent {
			d.Note("the request was sent, but no answer came: the message may be there twice after the next attempt")
		}
		if m := a.meaning(); m.class == anew && t.threads.find(t.thread) != nil {
			// State is kept whatever the outcome: the next attempt begins without the message that is gone.
			d.SetState(t.threads.without(t.thread).state())
			d.Note("the thread begins anew")
			return errors.New(a.reason(m))
		}
		return a.outcome(t.chosen)
	}
	if a.warnings != "" {
		slog.WarnContext(ctx, "slack warns about a message", "warning", a.warnings)
	}
	if a.ts == "" {
		return nil // a webhook does not say what it made
	}
	d.SetReference(a.channel + "/" + a.ts)
	if t.thread == "" {
		return nil
	}
	p := parent{Key: t.thread, Channel: a.channel, Timestamp: a.ts, place: placeOf(&d.Event, d.Sequence, time.Now())}
	if old := t.threads.find(t.thread); old != nil && t.post.update == nil {
		if a.threadTS == "" {
			// Slack posts a reply to a message that was deleted as one of its own.
			d.Note("the thread's parent is gone, a new thread begins")
		} else {
			p = *old
		}
	}
	d.SetState(t.threads.with(p).state())
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
