package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	lettersPerPage = 50
	// previewTime is how long a preview may take; what it has not come to by then it does not show.
	previewTime = 2 * time.Second
	// shortWork is how long the answer to a form waits for the work's end, so that what is quick needs no page of its own.
	shortWork = time.Second
	// maxForm bounds the body of a form.
	maxForm = 1 << 20
)

func letterPages() []page {
	return []page{
		{pattern: "GET /dead", template: "letters", serve: (*call).letters, nav: &place{"Act", "Dead letters", "x"}},
		{pattern: "GET /again", template: "again", serve: (*call).previewAgain},
		{pattern: "POST /again", serve: (*call).beginAgain},
		{pattern: "GET /jobs/{id}", template: "work", serve: (*call).showWork},
		{pattern: "GET /jobs/{id}/live", template: "work", serve: (*call).liveWork},
		{pattern: "POST /jobs/{id}/stop", serve: (*call).stopWork},
		{pattern: "POST /deliveries/{id}/skip", serve: (*call).skipDelivery},
	}
}

// order is what a form asks to be done again.
type order struct {
	Replay bool // instead of a retry
	admin.DeliveryOrder
}

// Verb is what the order does, Noun what it is.
func (o order) Verb() string { return map[bool]string{false: "Retry", true: "Replay"}[o.Replay] }

// Noun is Verb as a noun.
func (o order) Noun() string { return strings.ToLower(o.Verb()) }

// Done says what has been done to those that it was done to.
func (o order) Done() string {
	return map[bool]string{false: admin.OutcomeRetried, true: admin.OutcomeReplayed}[o.Replay]
}

// carryOut does it.
func (o order) carryOut(
	ctx context.Context, control admin.Control, dryRun bool, report func(admin.Report),
) (admin.Tally, error) {
	o.DryRun = dryRun
	if o.Replay {
		return control.ReplayDeliveries(ctx, o.DeliveryOrder, report)
	}
	return control.RetryDeliveries(ctx, o.DeliveryOrder, report)
}

// Words tell what an order selects.
func (o order) Words() []string {
	if n := len(o.IDs); n > 0 {
		return []string{plural(n, "delivery") + " by id"}
	}
	var words []string
	for _, f := range letterFields(&o.Filter) {
		if *f.text != "" {
			words = append(words, f.Label+" "+*f.text)
		}
	}
	if o.Filter.State != "" {
		words = append(words, "state "+string(o.Filter.State))
	}
	if t := o.Filter.Since; !t.IsZero() {
		words = append(words, "received since "+exact(t))
	}
	if t := o.Filter.Until; !t.IsZero() {
		words = append(words, "received before "+exact(t))
	}
	return words
}

// hidden is a field of a form that repeats an order.
type hidden struct{ Name, Value string }

// Hidden are the fields that say the order again. Times are absolute, so that it stays the same.
func (o order) Hidden() []hidden {
	fields := []hidden{{"do", o.Noun()}}
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, hidden{name, value})
		}
	}
	for _, id := range o.IDs {
		add("id", id)
	}
	for _, f := range letterFields(&o.Filter) {
		add(f.Name, *f.text)
	}
	add("state", string(o.Filter.State))
	for name, t := range map[string]time.Time{"since": o.Filter.Since, "until": o.Filter.Until} {
		if !t.IsZero() {
			add(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return fields
}

// letterField is a text field of the filter.
type letterField struct {
	Name, Label string
	text        *string
}

// Value is what is in it.
func (f letterField) Value() string { return *f.text }

func letterFields(f *store.DeliveryFilter) []letterField {
	return []letterField{
		{"source", "source", &f.Source}, {"type", "type", &f.Type}, {"subject", "subject", &f.Subject},
		{"tenant", "tenant", &f.Tenant}, {"route", "route", &f.Route}, {"sink", "sink", &f.Sink},
	}
}

// letterFilter reads a filter from a form or an address.
func letterFilter(q url.Values, now time.Time) (f store.DeliveryFilter, err error) {
	for _, k := range letterFields(&f) {
		*k.text = strings.TrimSpace(q.Get(k.Name))
	}
	switch s := core.DeliveryState(q.Get("state")); s {
	case "", core.DeliveryDead, core.DeliveryDelivered, core.DeliverySkipped:
		f.State = s
	default:
		return f, badInput{fmt.Errorf("deliveries that are %q cannot be done again", s)}
	}
	if f.Since, err = when(q.Get("since"), now); err != nil {
		return f, err
	}
	f.Until, err = when(q.Get("until"), now)
	return f, err
}

// when reads a time: in UTC to the minute, with a zone to the nanosecond, or as a while ago (2h, 3d).
func when(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly,
	} {
		if t, err := time.ParseInLocation(layout, text, time.UTC); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, badInput{fmt.Errorf("%q is no time: write 2026-03-04 15:04 (UTC), or 2h or 3d for so long ago", text)}
}

// letters is the data of the page of dead letters.
type letters struct {
	Filter  store.DeliveryFilter
	Fields  []letterField
	Since   string
	Until   string
	Any     bool // there are dead letters, of any sink
	Items   []admin.Delivery
	Work    []workState
	Pager   pager
	Choices map[string][]string
}

func (c *call) letters() error {
	q := c.r.URL.Query()
	f, err := letterFilter(q, c.now())
	if err != nil {
		return err
	}
	s, err := c.control.Status(c)
	if err != nil {
		return err
	}
	f.State = core.DeliveryDead
	data := letters{
		Filter: f, Fields: letterFields(&f), Since: q.Get("since"), Until: q.Get("until"), Work: c.works.list(),
		Choices: choices(&s),
	}
	for _, n := range s.Stats.Deliveries {
		data.Any = data.Any || n[core.DeliveryDead] > 0
	}
	f.Limit, f.Cursor = lettersPerPage, q.Get("cursor")
	found, err := c.control.Deliveries(c, f)
	if err != nil {
		return err
	}
	data.Items = found.Items
	data.Pager = c.pager(found.Next)
	return c.page("Dead letters", data)
}

// choices are the names that fields suggest.
func choices(s *admin.Status) map[string][]string {
	m := map[string][]string{}
	for _, v := range s.Sources {
		m["source"] = append(m["source"], v.Source)
	}
	m["sink"] = sorted(s.Stats.Deliveries)
	return m
}

// readOrder reads an order from a form or an address.
func (c *call) readOrder(q url.Values) (order, error) {
	var o order
	switch q.Get("do") {
	case "retry":
	case "replay":
		o.Replay = true
	default:
		return o, badInput{errors.New("say what is to be done: do=retry or do=replay")}
	}
	o.IDs = q["id"]
	o.AsIs, o.Force = q.Get("as_is") != "", o.Replay && q.Get("force") != ""
	var err error
	if len(o.IDs) == 0 {
		if o.Filter, err = letterFilter(q, c.now()); err == nil && o.Filter.State == "" {
			o.Filter.State = core.DeliveryDead
		}
	}
	return o, err
}

// preview is the data of the page that comes before a retry or replay.
type preview struct {
	Order order
	Tally admin.Tally
	Cut   bool // it was not finished in time
	Items []previewItem
	Left  int // how many more there are than Items
}

// previewItem is one of the first deliveries, with what becomes of its message.
type previewItem struct {
	admin.Item
	Same    bool   // the message is the one that is stored
	Message string // what would be sent
	Lines   []diffLine
}

func (c *call) previewAgain() error {
	o, err := c.readOrder(c.r.URL.Query())
	if err != nil {
		return err
	}
	data := preview{Order: o}
	ctx, cancel := context.WithTimeout(c, previewTime)
	defer cancel()
	data.Tally, err = o.carryOut(ctx, c.control, true, func(r admin.Report) {
		if r.Item != nil {
			data.Items = append(data.Items, newPreviewItem(*r.Item))
		}
	})
	if data.Cut = errors.Is(err, context.DeadlineExceeded) && c.Err() == nil; err != nil && !data.Cut {
		return err
	}
	data.Left = data.Tally.Selected - len(data.Items)
	return c.page(o.Verb(), data)
}

func newPreviewItem(i admin.Item) previewItem {
	p := previewItem{Item: i}
	if len(i.Message) == 0 {
		return p
	}
	now := indent(i.Message)
	if p.Message = now; len(i.Stored) > 0 {
		was := indent(i.Stored)
		if p.Same = was == now; !p.Same {
			p.Lines = diff(was, now)
		}
	}
	return p
}

// indent writes JSON for people; what is none stays.
func indent(b []byte) string {
	var v bytes.Buffer
	if err := json.Indent(&v, b, "", "  "); err != nil {
		return string(b)
	}
	return v.String()
}

// sorted are the keys of a map.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// form reads a form that was posted.
func (c *call) form() (url.Values, error) {
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxForm)
	if err := c.r.ParseForm(); err != nil {
		return nil, badInput{err}
	}
	return c.r.PostForm, nil
}

func (c *call) beginAgain() error {
	q, err := c.form()
	if err != nil {
		return err
	}
	o, err := c.readOrder(q)
	if err != nil {
		return err
	}
	k := c.works.begin(c.control, o)
	select {
	case <-k.ended:
	case <-time.After(shortWork):
	case <-c.Done():
	}
	return c.redirect("/jobs/" + k.ID)
}

// workData is the data of the page of a retry or replay.
type workData struct {
	workState
	Now   []nowItem
	Going bool // something may still change
}

// nowItem is one of the first deliveries, and what has become of it.
type nowItem struct {
	admin.Item
	Look  string // the delivery to look at: itself, or its replay
	State string
	Why   string
}

func (c *call) readWork() (workData, error) {
	k := c.works.find(c.r.PathValue("id"))
	if k == nil {
		return workData{}, errNoPage
	}
	data := workData{workState: k.state()}
	data.Going = data.End.IsZero()
	for _, i := range data.Items {
		n := nowItem{Item: i, Look: i.ID, State: i.Outcome, Why: i.Reason}
		if i.ReplayID != "" {
			n.Look = i.ReplayID
		}
		if i.Outcome == data.Order.Done() {
			d, err := c.control.Delivery(c, n.Look)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return data, err
			}
			if err == nil {
				n.State, n.Why = d.State, d.Reason
			}
			data.Going = data.Going || n.State == string(core.DeliveryPending)
		}
		data.Now = append(data.Now, n)
	}
	return data, nil
}

func (c *call) showWork() error {
	data, err := c.readWork()
	if err != nil {
		return err
	}
	return c.page(data.Order.Verb(), data)
}

func (c *call) liveWork() error {
	data, err := c.readWork()
	if err != nil {
		return err
	}
	return c.part("live", data)
}

func (c *call) stopWork() error {
	k := c.works.find(c.r.PathValue("id"))
	if k == nil {
		return errNoPage
	}
	k.cancel()
	return c.redirect("/jobs/" + k.ID)
}

func (c *call) skipDelivery() error {
	q, err := c.form()
	if err != nil {
		return err
	}
	id := c.r.PathValue("id")
	changed, err := c.control.SkipDeliveries(c, []string{id}, strings.TrimSpace(q.Get("reason")))
	if err != nil {
		return err
	}
	if len(changed.Items) == 0 {
		return badInput{errors.New("only a dead letter can be skipped, and this is none (any more)")}
	}
	return c.redirect("/deliveries/" + url.PathEscape(id))
}
