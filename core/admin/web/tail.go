package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/admin/sse"
	"github.com/grapnelhq/grapnel/core/store"
)

func tailPages() []page {
	return []page{
		{pattern: "GET /tail", template: "tail", serve: (*call).tail, nav: &place{"Watch", "Live tail", "t"}},
		{pattern: "GET /tail/stream", template: "tail", serve: (*call).tailStream},
	}
}

const (
	tailFirst = 25  // requests that are there at the beginning
	tailMade  = 200 // deliveries, likewise
	tailPace  = 60  // requests and rejections shown a second: nobody reads more
)

// tailPage is the page of what comes in.
type tailPage struct {
	Form   form
	Rows   []tailRow
	Stream string // where it goes on
	Silent string // why nothing follows
}

// tailRow is a request with what is known to have come of it.
type tailRow struct {
	admin.Request
	Made []admin.Delivery
}

// tailRows are the newest requests.
func (c *call) tailRows(source string) ([]tailRow, error) {
	p, err := c.control.Requests(c, store.RequestFilter{Source: source, Limit: tailFirst})
	if err != nil || len(p.Items) == 0 {
		return nil, err
	}
	oldest := p.Items[len(p.Items)-1].ReceivedAt
	ds, err := c.control.Deliveries(c, store.DeliveryFilter{Source: source, Since: oldest, Limit: tailMade})
	if err != nil {
		return nil, err
	}
	made := map[string][]admin.Delivery{}
	for _, d := range slices.Backward(ds.Items) {
		made[d.RequestID] = append(made[d.RequestID], d)
	}
	rows := make([]tailRow, len(p.Items))
	for i, r := range p.Items {
		rows[i] = tailRow{r, made[r.ID]}
	}
	return rows, nil
}

func (c *call) tail() error {
	s, err := c.control.Status(c)
	if err != nil {
		return err
	}
	source := c.r.URL.Query().Get("source")
	rows, err := c.tailRows(source)
	if err != nil {
		return err
	}
	data := tailPage{
		Form: c.filters([]formField{sourceField(&s)}, nil), Rows: rows, Stream: address("/tail/stream", c.r.URL.Query()),
	}
	if !s.Running {
		data.Silent = "No host runs: nothing comes in."
	}
	return c.page("Live tail", data)
}

// tailStream answers with server-sent events, each a piece of the page: new requests, deliveries and rejections.
func (c *call) tailStream() error {
	source := c.r.URL.Query().Get("source")
	s := sse.Answer(c.w)
	pace := &tailLimit{now: c.now}
	show := func(ch admin.Change) error {
		if n := pace.passed(); n > 0 {
			if err := c.tell(s, "", "skipped", plural(n, "request")); err != nil {
				return err
			}
		}
		switch ch.Kind {
		case admin.ChangeReady, admin.ChangeMissed:
			return c.tailBegins(s, source, ch)
		case admin.ChangeRequest:
			if source != "" && ch.Request.Source != source || !pace.room(ch.Request.ID) {
				return nil
			}
			return c.tell(s, ch.ID, ch.Kind, tailRow{*ch.Request, nil})
		case admin.ChangeDelivery:
			if source != "" && sourceName(ch.Delivery.Source) != source || pace.left(ch.Delivery.RequestID) {
				return nil
			}
			return c.tell(s, ch.ID, ch.Kind, ch.Delivery)
		case admin.ChangeRejection:
			if source != "" && ch.Rejection.Source != source || !pace.room("") {
				return nil
			}
			return c.tell(s, ch.ID, ch.Kind, ch.Rejection)
		}
		return nil
	}
	err := s.Beat(c, func(ctx context.Context) error {
		return c.control.Tail(ctx, c.r.Header.Get("Last-Event-ID"), show)
	})
	if s.Begun() {
		return nil // the browser comes back by itself
	}
	if errors.Is(err, admin.ErrTailFull) || errors.Is(err, admin.ErrNotRunning) {
		http.Error(c.w, err.Error(), http.StatusServiceUnavailable)
		return nil
	}
	return err
}

// tailBegins tells what was received between the page and its stream, oldest first; the script knows what it has.
func (c *call) tailBegins(s *sse.Writer, source string, ch admin.Change) error {
	if err := c.tell(s, ch.ID, ch.Kind, nil); err != nil {
		return err
	}
	rows, err := c.tailRows(source)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(rows) {
		if err := c.tell(s, "", "before", r); err != nil {
			return err
		}
	}
	return nil
}

// tell renders a part of the page, the one that an event is named after, and sends it.
func (c *call) tell(s *sse.Writer, id, event string, data any) error {
	var b bytes.Buffer
	if err := c.pages[c.name].ExecuteTemplate(&b, "tail-"+event, data); err != nil {
		return err
	}
	return s.Send(id, event, bytes.TrimSpace(b.Bytes()))
}

// tailLimit leaves out what comes faster than anybody reads.
type tailLimit struct {
	now     func() time.Time
	second  int64
	shown   int
	skipped int
	out     map[string]bool // requests of this second that are left out, their deliveries too
}

// passed counts what was left out, once its second is over.
func (l *tailLimit) passed() int {
	now := l.now().Unix()
	if now == l.second {
		return 0
	}
	n := l.skipped
	l.second, l.shown, l.skipped = now, 0, 0
	if len(l.out) > 10_000 {
		l.out = nil
	}
	return n
}

// room reports whether a request is shown. What is shown once is shown again when its state changes.
func (l *tailLimit) room(id string) bool {
	if l.out[id] {
		return false
	}
	if l.shown++; l.shown <= tailPace {
		return true
	}
	if l.out == nil {
		l.out = map[string]bool{}
	}
	if id != "" {
		l.out[id] = true
	}
	l.skipped++
	return false
}

// left reports whether a request was left out.
func (l *tailLimit) left(id string) bool { return l.out[id] }

// statusText is the number of an HTTP status with its words.
func statusText(status int) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}
