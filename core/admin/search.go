package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

// SearchOrder asks for requests whose body has a text. It travels in a body, so that no name stands in a log of calls.
type SearchOrder struct {
	// Filter chooses among which. Without Since it is the last day, without Limit 50.
	Filter store.RequestFilter
	Text   string
}

const (
	searchSpan  = 24 * time.Hour
	searchLimit = 50
)

// SearchProgress is how far a search has come.
type SearchProgress struct {
	Looked   int        `json:"looked"`              // requests whose bodies were read
	LookedTo *time.Time `json:"looked_to,omitempty"` // all that was received at that time or later was looked at
	Share    float64    `json:"share"`               // of the time to look through, from 0 to 1
	Found    int        `json:"found"`
	Next     string     `json:"next,omitempty"` // of a result: the cursor to go on from; none: all was looked through
}

// SearchReport is one line of what a search says while it works. Exactly one field is set.
type SearchReport struct {
	Item     *Request        `json:"item,omitempty"`
	Progress *SearchProgress `json:"progress,omitempty"`
	Result   *SearchProgress `json:"result,omitempty"` // the last line
	Error    string          `json:"error,omitempty"`  // the last line instead
}

// SearchRequests implements Control.
func (c *Direct) SearchRequests(
	ctx context.Context, o SearchOrder, report func(SearchReport),
) (p SearchProgress, err error) {
	if o.Text == "" {
		return p, badRequest{errors.New("there is no text to search for")}
	}
	f, text := o.Filter, store.NewText(o.Text)
	newest := time.Now()
	if f.Since.IsZero() {
		f.Since = newest.Add(-searchSpan)
	}
	if !f.Until.IsZero() && f.Until.Before(newest) {
		newest = f.Until
	}
	limit := f.Limit
	if limit <= 0 {
		limit = searchLimit
	}
	for {
		f.Limit = limit - p.Found
		found, looked, next, err := c.Store.SearchRequests(ctx, f, text)
		if err != nil {
			return p, err
		}
		p.Looked, p.Found = p.Looked+looked, p.Found+len(found)
		if report != nil {
			for _, r := range found {
				v := viewRequest(r)
				report(SearchReport{Item: &v})
			}
		}
		f.Cursor, p.LookedTo, p.Share = next, nil, 1
		if at := store.Looked(next); !at.IsZero() {
			p.LookedTo, p.Share = &at, min(max(float64(newest.Sub(at))/float64(newest.Sub(f.Since)), 0), 1)
		}
		if next == "" || p.Found >= limit {
			p.Next = next
			return p, nil
		}
		if report != nil {
			now := p
			report(SearchReport{Progress: &now})
		}
	}
}

// searching is the body of a search.
type searching struct {
	Text string `json:"text"`
}

// SearchRequests implements Control.
func (c *Client) SearchRequests(
	ctx context.Context, o SearchOrder, report func(SearchReport),
) (p SearchProgress, err error) {
	body, err := jsonBody(searching{o.Text})
	if err != nil {
		return p, err
	}
	resp, err := c.open(ctx, http.MethodPost, "requests/search?"+format(requestFields(&o.Filter)), body)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	err = readLines(resp.Body, func(r SearchReport) (last bool, err error) {
		switch {
		case r.Result != nil:
			p, last = *r.Result, true
		case r.Error != "":
			err = errors.New(r.Error)
		default:
			if r.Progress != nil {
				p = *r.Progress
			}
			if report != nil {
				report(r)
			}
		}
		return last, err
	})
	return p, err
}

// handleSearch answers a search with lines as it goes on. It ends when nobody listens any more.
func handleSearch(c Control, w http.ResponseWriter, r *http.Request) {
	var o SearchOrder
	var body searching
	l := newLines(w)
	err := parse(r.URL.Query(), requestFields(&o.Filter))
	if err != nil {
		err = badRequest{err}
	} else if err = readBody(r, &body, `{"text": "…"}`); err == nil {
		o.Text = body.Text
	}
	var p SearchProgress
	if err == nil {
		p, err = c.SearchRequests(r.Context(), o, func(rep SearchReport) { l.say(rep, true) })
	}
	switch {
	case err == nil:
		l.say(SearchReport{Result: &p}, true)
	case l.begun:
		l.say(SearchReport{Error: err.Error()}, true)
	default:
		l.fail(err)
	}
}
