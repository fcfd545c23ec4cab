package web

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	// textBudget is how long one answer looks through bodies. What it has not come to is asked for by the page itself, or
	// by a link.
	textBudget = 700 * time.Millisecond
	textSpan   = 24 * time.Hour // that is looked through where no time is chosen
	textMost   = 200            // rows that a page asks for by itself
)

// textSearch is how far a search in bodies has come.
type textSearch struct {
	Text      string
	Since     time.Time // the oldest it looks at
	Span      bool      // by itself
	LookedTo  time.Time // zero: nowhere yet
	Looked    int       // bodies
	Percent   int
	Found     int
	Next      string // where it goes on, as a part; empty: it does not
	Further   string // likewise, as a page
	Automatic bool   // it goes on by itself
}

// searchText looks for a text in the bodies of requests, for a while. Where it is behind, its address says.
func (c *call) searchText(f store.RequestFilter, text string) ([]admin.Request, *textSearch, error) {
	q := c.r.URL.Query()
	s := &textSearch{Text: text}
	s.Found, _ = strconv.Atoi(q.Get("found"))
	s.Looked, _ = strconv.Atoi(q.Get("looked"))
	top := c.now()
	if !f.Until.IsZero() && f.Until.Before(top) {
		top = f.Until
	}
	if f.Since.IsZero() {
		f.Since, s.Span = c.now().Add(-textSpan), true
	}
	s.Since = f.Since
	behind, err := parseTime(q.Get("behind"))
	if err != nil {
		return nil, nil, err
	}
	if !behind.IsZero() && (f.Until.IsZero() || behind.Before(f.Until)) {
		f.Until = behind
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(c)
	defer cancel()
	enough := false
	var found []admin.Request
	p, err := c.control.SearchRequests(ctx, admin.SearchOrder{Filter: f, Text: text}, func(r admin.SearchReport) {
		switch {
		case r.Item != nil:
			found = append(found, *r.Item)
		case r.Progress != nil && time.Since(began) > textBudget:
			enough = true
			cancel()
		}
	})
	if err != nil && (!enough || c.Err() != nil) {
		return nil, nil, err
	}
	s.Found, s.Looked = s.Found+len(found), s.Looked+p.Looked
	if p.LookedTo != nil {
		s.LookedTo = *p.LookedTo
	} else if len(found) > 0 && p.Next != "" {
		s.LookedTo = found[len(found)-1].ReceivedAt
	}
	if !s.LookedTo.IsZero() {
		s.Percent = min(99, max(0, int(100*float64(top.Sub(s.LookedTo))/float64(top.Sub(f.Since)))))
	}
	on := url.Values{}
	for name, values := range q {
		on[name] = values
	}
	switch {
	case p.Next != "":
		on.Set("cursor", p.Next)
	case enough && p.LookedTo != nil:
		on.Del("cursor")
		on.Set("behind", p.LookedTo.UTC().Format(time.RFC3339Nano))
	case enough:
	default:
		s.Percent = 100
		return found, s, nil
	}
	if s.Span { // the while is that of the first page
		on.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	on.Set("looked", strconv.Itoa(s.Looked))
	on.Set("found", strconv.Itoa(s.Found))
	s.Next = address("/requests/found", on)
	on.Del("found") // a page of its own begins to count anew
	s.Further = address("/requests", on)
	s.Automatic = s.Found < textMost
	return found, s, nil
}

// found answers with further rows of a search.
func (c *call) found() error {
	f, err := c.requestFilter()
	if err != nil {
		return err
	}
	rs, s, err := c.searchText(f, strings.TrimSpace(c.r.URL.Query().Get("text")))
	if err != nil {
		return err
	}
	return c.part("found", list[admin.Request]{Items: rs, Search: s})
}
