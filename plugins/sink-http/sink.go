package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/cloudevents"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

// factory makes the plugin.
func factory() *sdk.SinkFactory {
	info := sdk.SinkInfo{
		Name:        "http",
		Description: "Posts events to an HTTP endpoint, as CloudEvents or as a body that the route makes.",
		Data:        true,
		MaxBatch:    maxBatch,
	}
	return sdk.NewBatchSink(info, func(_ context.Context, cfg Config) (sdk.BatchSink[Message], error) { return open(cfg) })
}

func userAgent() string { return "grapnel-sink-http/" + serve.Version() }

// sink is one configured block.
type sink struct {
	cfg       Config
	set       *settings
	transport transport
	tokens    *tokens  // nil: no OAuth
	consent   *consent // nil: not asked for

	contentType      []string
	rawJSON, rawForm bool
	idHeader         string // canonical, may be empty
	isSecretHeader   map[string]bool
}

// open makes a sink. It reads certificates and dials nothing: an endpoint that is down now is no reason not to start.
func open(cfg Config) (*sink, error) {
	set, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	s := &sink{cfg: cfg, set: set, isSecretHeader: map[string]bool{}, idHeader: http.CanonicalHeaderKey(cfg.IDHeader)}
	for name := range cfg.SecretHeaders {
		s.isSecretHeader[http.CanonicalHeaderKey(name)] = true
	}
	switch cfg.Mode {
	case modeRaw:
		s.contentType = []string{cfg.ContentType}
		s.rawJSON, s.rawForm = isJSON(cfg.ContentType), isForm(cfg.ContentType)
	case modeBinary:
		s.contentType = []string{jsonType}
	case modeBatch:
		s.contentType = []string{cloudevents.BatchContentType}
	default:
		s.contentType = []string{cloudevents.ContentType}
	}
	if s.transport, err = newTransport(&cfg, set); err != nil {
		return nil, err
	}
	if cfg.OAuth != nil {
		s.tokens = newTokens(cfg.OAuth, s.transport, cfg.Timeout, s.clean)
	}
	if cfg.AbuseProtection != nil {
		s.consent = &consent{AbuseProtection: *cfg.AbuseProtection, turn: make(chan struct{}, 1)}
	}
	return s, nil
}

// secretTexts are what no error may show, longest first.
func (s *sink) secretTexts() []string {
	if s.tokens == nil {
		return s.set.secrets
	}
	if t := s.tokens.secret(); len(t) >= 4 {
		return append([]string{t}, s.set.secrets...)
	}
	return s.set.secrets
}

// Close implements sdk.Closer.
func (s *sink) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// DeliverBatch implements sdk.BatchSink. The host hands over more than one delivery only in mode batch.
func (s *sink) DeliverBatch(ctx context.Context, ds []*delivery) []error {
	errs := make([]error, len(ds))
	if s.cfg.Mode == modeBatch {
		s.deliverBatch(ctx, ds, errs)
		return errs
	}
	for i, d := range ds {
		errs[i] = s.deliver(ctx, d)
	}
	return errs
}

func (s *sink) deliver(ctx context.Context, d *delivery) error {
	r, err := s.request(d)
	if err != nil {
		return err
	}
	res := s.send(ctx, r)
	s.tell(d, &res)
	return res.outcome
}

// maxReference is the longest Location that is kept, in bytes.
const maxReference = 500

// tell records with a delivery what else there is to know of its request.
func (s *sink) tell(d *delivery, res *result) {
	if res.outcome != nil {
		return
	}
	if l := res.answer.header.Get("Location"); l != "" && len(l) <= maxReference {
		d.SetReference(s.clean(l))
	}
	s.consent.tell(d)
}

// deliverBatch sends events together: one request for those with the same target, more where max_bytes asks for it.
func (s *sink) deliverBatch(ctx context.Context, ds []*delivery, errs []error) {
	for _, g := range s.groups(ds, errs) {
		for len(g.items) > 0 {
			n, size := 0, 2
			for n < len(g.items) && (n == 0 || size+len(g.items[n].event)+1 <= s.cfg.MaxBytes) {
				size += len(g.items[n].event) + 1
				n++
			}
			if stop := s.sendBatch(ctx, &g.target, ds, g.items[:n], errs); stop != nil {
				// What holds for one request to this endpoint holds for the others of this call, too.
				for _, item := range g.items[n:] {
					errs[item.index] = stop
				}
				break
			}
			g.items = g.items[n:]
		}
	}
}

// group is the events of a call that have the same target.
type group struct {
	target
	items []batchItem
}

// groups sorts the deliveries of a call by target, in order, and gives those an outcome that cannot be sent.
func (s *sink) groups(ds []*delivery, errs []error) []*group {
	var all []*group
	for i, d := range ds {
		t, err := s.target(d)
		if err != nil {
			errs[i] = err
			continue
		}
		item := batchItem{index: i}
		data := []byte(d.Data)
		if b := d.Message.Body; len(b) > 0 && string(b) != "null" {
			data, item.mapped = b, true
		}
		item.event = cloudevents.Append(make([]byte, 0, len(data)+envelopeSize), d, data)
		if n := len(item.event) + 2; n > s.cfg.MaxBytes {
			errs[i] = s.tooLong(n, item.mapped)
			continue
		}
		at := slices.IndexFunc(all, func(g *group) bool { return g.same(&t) })
		if at < 0 {
			at = len(all)
			all = append(all, &group{target: t})
		}
		all[at].items = append(all[at].items, item)
	}
	return all
}

func (t *target) same(o *target) bool {
	if t.method != o.method || t.ownPath != o.ownPath || len(t.headers) != len(o.headers) {
		return false
	}
	if t.ownPath && t.url.String() != o.url.String() {
		return false
	}
	for name, value := range t.headers {
		if other, ok := o.headers[name]; !ok || other != value {
			return false
		}
	}
	return true
}

// sendBatch sends one request and fills in the outcome of all its events. Where the endpoint refuses the whole of it, it
// does not say for which: each event is sent once by itself, so that it takes no other with it. stop is an outcome
// that would meet further requests as well.
func (s *sink) sendBatch(ctx context.Context, t *target, ds []*delivery, items []batchItem, errs []error) (stop error) {
	res := s.send(ctx, s.batchRequest(t, ds, items))
	if res.refused && len(items) > 1 {
		return s.sendSingly(ctx, t, ds, items, errs)
	}
	for _, item := range items {
		errs[item.index] = res.outcome
		s.tell(ds[item.index], &res)
	}
	if res.refused {
		return nil
	}
	return res.outcome
}

// singles is how many events of a refused batch are sent at the same time.
const singles = 8

func (s *sink) sendSingly(
	ctx context.Context, t *target, ds []*delivery, items []batchItem, errs []error,
) (stop error) {
	var mu sync.Mutex // of items and stop
	take := func() (item batchItem, err error, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(items) == 0 {
			return item, nil, false
		}
		item, items = items[0], items[1:]
		return item, stop, true
	}
	var working sync.WaitGroup
	for range min(singles, len(items)) {
		working.Go(func() {
			for item, err, ok := take(); ok; item, err, ok = take() {
				if err != nil {
					errs[item.index] = err
					continue
				}
				res := s.send(ctx, s.batchRequest(t, ds, []batchItem{item}))
				errs[item.index] = res.outcome
				s.tell(ds[item.index], &res)
				if res.outcome != nil && !res.refused {
					mu.Lock()
					stop = res.outcome
					mu.Unlock()
				}
			}
		})
	}
	working.Wait()
	return stop
}

// Check implements sdk.Checker. There is no request that does nothing everywhere: it asks for consent where that is
// configured, and else sends OPTIONS, whose answer says little; but names, addresses, certificates, proxy and tokens are
// right when there is one.
func (s *sink) Check(ctx context.Context) error {
	if s.consent != nil {
		return s.consent.obtain(ctx, s)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	a, err := s.options(ctx, nil)
	if err != nil {
		return s.unreachable(ctx, err)
	}
	switch {
	case a.status == http.StatusUnauthorized, a.status == http.StatusProxyAuthRequired, a.status == http.StatusGone,
		a.status >= 500 && a.status != http.StatusNotImplemented:
		return fmt.Errorf("the endpoint answers %s to OPTIONS%s", statusText(a.status), s.remark(a))
	}
	return nil
}
