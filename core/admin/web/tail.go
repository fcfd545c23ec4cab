package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

func tailPages() []page {
	return []page{
		{pattern: "GET /tail", template: "tail", serve: (*call).tail, nav: &place{"Watch", "Live tail", "t"}},
		{pattern: "GET /tail/stream", template: "tail", serve: (*call).tailStream},
	}
}

const (
	tailFirst = 25               // requests that are there at the beginning
	tailMade  = 200              // deliveries, likewise
	tailPace  = 60               // requests and rejections shown a second: nobody reads more
	tailBeat  = 15 * time.Second // between signs of life, for proxies that close what is silent
	tailWrite = 10 * time.Second // for a browser to take what is written to it
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
	ctx, cancel := context.WithCancel(c)
	defer cancel()
	s := &stream{w: c.w, ctl: http.NewResponseController(c.w)}
	var beats sync.WaitGroup
	defer beats.Wait()
	defer cancel()
	beats.Go(func() {
		tick := time.NewTicker(tailBeat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if s.write(": \n\n", false) != nil {
					cancel()
				}
			}
		}
	})
	pace := &tailLimit{now: c.now}
	err := c.control.Tail(ctx, c.r.Header.Get("Last-Event-ID"), func(ch admin.Change) error {
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
	})
	if s.begun || c.Err() != nil {
		return nil // the browser comes back by itself
	}
	if errors.Is(err, admin.ErrTailFull) || errors.Is(err, admin.ErrNotRunning) {
		http.Error(c.w, err.Error(), http.StatusServiceUnavailable)
		return nil
	}
	return err
}

// tailBegins tells what was received between the page and its stream, oldest first; the script knows what it has.
func (c *call) tailBegins(s *stream, source string, ch admin.Change) error {
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
func (c *call) tell(s *stream, id, event string, data any) error {
	var b bytes.Buffer
	if err := c.pages[c.name].ExecuteTemplate(&b, "tail-"+event, data); err != nil {
		return err
	}
	var text strings.Builder
	if id != "" {
		text.WriteString("id: " + id + "\n")
	}
	text.WriteString("event: " + event + "\n")
	for l := range strings.Lines(b.String()) {
		if l = strings.Trim(l, "\r\n"); strings.TrimSpace(l) != "" {
			text.WriteString("data: " + strings.ReplaceAll(l, "\r", " ") + "\n")
		}
	}
	return s.write(text.String()+"data:\n\n", true)
}

// stream is an answer of server-sent events.
type stream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	ctl   *http.ResponseController
	begun bool
}

// write writes a piece; what does not begin the answer waits until something has.
func (s *stream) write(text string, begins bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		if !begins {
			return nil
		}
		s.begun = true
		s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		s.w.Header().Set("X-Accel-Buffering", "no") // of a proxy that would wait for more
		text = "retry: 1000\n" + text
	}
	_ = s.ctl.SetWriteDeadline(time.Now().Add(tailWrite)) // not all writers have one
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.ctl.Flush()
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
