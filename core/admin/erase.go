package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

// EraseOrder says what to erase: a subject, maybe only of a source or tenant, or requests by id. It is a body and never a
// query, so that the name of nobody stands in a log of calls.
type EraseOrder struct {
	Subject string   `json:"subject,omitempty"`
	Source  string   `json:"source,omitempty"`
	Tenant  string   `json:"tenant,omitempty"`
	IDs     []string `json:"ids,omitempty"`
}

func (o EraseOrder) erasure() store.Erasure {
	return store.Erasure{Subject: o.Subject, Source: o.Source, Tenant: o.Tenant, Requests: o.IDs}
}

// ErasePreview is what an erasure would remove, as shown.
type ErasePreview struct {
	Removed      store.Removed        `json:"removed"`
	Origins      []store.EraseOrigin  `json:"origins,omitempty"` // of the subject's events
	Sent         []store.SentDelivery `json:"sent,omitempty"`    // to sinks, which know them
	Unread       int64                `json:"unread"`            // requests of which nobody knows whom they are about
	DeadMentions []string             `json:"dead_mentions,omitempty"`
	Similar      []string             `json:"similar,omitempty"`   // subjects, where there is none as asked for
	CutShort     int64                `json:"cut_short,omitempty"` // the receipt of the same erasure, which is to be ended
}

// Receipt tells what was erased, as shown.
type Receipt struct {
	ID      int64                `json:"id"`
	Subject string               `json:"subject_sha256,omitempty"`
	Source  string               `json:"source,omitempty"`
	Tenant  string               `json:"tenant,omitempty"`
	BegunAt time.Time            `json:"begun_at"`
	DoneAt  *time.Time           `json:"done_at,omitempty"` // not there: it was cut short, and goes on
	Removed store.Removed        `json:"removed"`
	Unread  int64                `json:"unread"`
	Sent    []store.SentDelivery `json:"sent,omitempty"` // only of a single receipt
}

// EraseProgress is how far an erasure has come, as shown.
type EraseProgress struct {
	Stage   string        `json:"stage"` // searching, waiting, overwriting
	Done    int64         `json:"done"`
	Total   int64         `json:"total"`
	Removed store.Removed `json:"removed"`
}

// EraseReport is one line of what an erasure says while it works. Exactly one field is set.
type EraseReport struct {
	Progress *EraseProgress `json:"progress,omitempty"`
	Result   *Receipt       `json:"result,omitempty"` // the last line
	Error    string         `json:"error,omitempty"`  // the last line instead
}

func viewReceipt(r store.Receipt) Receipt {
	v := Receipt{
		ID: r.ID, Subject: r.Subject, Source: r.Source, Tenant: r.Tenant, BegunAt: r.BegunAt, Removed: r.Removed,
		Unread: r.Unread, Sent: r.Sent,
	}
	if !r.DoneAt.IsZero() {
		v.DoneAt = &r.DoneAt
	}
	return v
}

// PreviewErase implements Control.
func (c *Direct) PreviewErase(ctx context.Context, o EraseOrder) (ErasePreview, error) {
	p, err := c.Store.PreviewErase(ctx, o.erasure())
	return ErasePreview(p), asked(err)
}

// Erase implements Control.
func (c *Direct) Erase(ctx context.Context, o EraseOrder, report func(EraseProgress)) (Receipt, error) {
	r, err := c.Store.Erase(ctx, o.erasure(), func(p store.EraseProgress) {
		if report != nil {
			report(EraseProgress(p))
		}
	})
	return viewReceipt(r), asked(err)
}

// Receipts implements Control.
func (c *Direct) Receipts(ctx context.Context, cursor string, limit int) (Page[Receipt], error) {
	rs, next, err := c.Store.ListReceipts(ctx, cursor, limit)
	return viewAll(rs, next, viewReceipt), err
}

// Receipt implements Control.
func (c *Direct) Receipt(ctx context.Context, id int64) (Receipt, error) {
	r, err := c.Store.GetReceipt(ctx, id)
	if err != nil {
		return Receipt{}, err
	}
	return viewReceipt(r), nil
}

// asked marks what is wrong with an order as the caller's.
func asked(err error) error {
	if errors.Is(err, store.ErrErasure) {
		return badRequest{err}
	}
	return err
}

// PreviewErase implements Control.
func (c *Client) PreviewErase(ctx context.Context, o EraseOrder) (v ErasePreview, err error) {
	err = c.post(ctx, "requests/erase?dry_run=true", o, &v)
	return v, err
}

// Erase implements Control.
func (c *Client) Erase(ctx context.Context, o EraseOrder, report func(EraseProgress)) (Receipt, error) {
	body, err := jsonBody(o)
	if err != nil {
		return Receipt{}, err
	}
	resp, err := c.open(ctx, http.MethodPost, "requests/erase", body)
	if err != nil {
		return Receipt{}, err
	}
	defer resp.Body.Close()
	var receipt Receipt
	err = readLines(resp.Body, func(r EraseReport) (last bool, err error) {
		switch {
		case r.Result != nil:
			receipt, last = *r.Result, true
		case r.Error != "":
			err = errors.New(r.Error)
		case r.Progress != nil && report != nil:
			report(*r.Progress)
		}
		return last, err
	})
	return receipt, err
}

// Receipts implements Control.
func (c *Client) Receipts(ctx context.Context, cursor string, limit int) (v Page[Receipt], err error) {
	err = c.get(ctx, "receipts", format(placeFields(&cursor, &limit)), &v)
	return v, err
}

// Receipt implements Control.
func (c *Client) Receipt(ctx context.Context, id int64) (v Receipt, err error) {
	err = c.get(ctx, "receipts/"+strconv.FormatInt(id, 10), "", &v)
	return v, err
}

// placeFields is a place in a list that has no filter.
func placeFields(cursor *string, limit *int) []field {
	return []field{text("cursor", cursor), number("limit", limit)}
}

// eraseFields are the parameters of an erasure; what is erased is in the body.
func eraseFields(dryRun *bool) []field { return []field{flag("dry_run", dryRun)} }

// progressEvery is how often an erasure reports at most.
const progressEvery = 100 * time.Millisecond

// handleErase answers an erasure with lines as it goes on, or its preview at once.
func handleErase(c Control, w http.ResponseWriter, r *http.Request) {
	var o EraseOrder
	var dryRun bool
	err := parse(r.URL.Query(), eraseFields(&dryRun))
	if err != nil {
		err = badRequest{err}
	} else {
		err = readBody(r, &o, `{"subject": "…", "source": "…", "tenant": "…"} or {"ids": […]}`)
	}
	l := newLines(w)
	if err == nil && dryRun {
		var p ErasePreview
		if p, err = c.PreviewErase(r.Context(), o); err == nil {
			l.one(p)
			return
		}
	}
	var receipt Receipt
	if err == nil {
		var last EraseProgress
		var said time.Time
		receipt, err = c.Erase(r.Context(), o, func(p EraseProgress) {
			if p.Stage != last.Stage || time.Since(said) > progressEvery {
				last, said = p, time.Now()
				l.say(EraseReport{Progress: &p}, true)
			}
		})
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("the host stops; the erasure goes on with its next start")
	}
	switch {
	case err == nil:
		l.say(EraseReport{Result: &receipt}, true)
	case l.begun:
		l.say(EraseReport{Error: err.Error()}, true)
	default:
		l.fail(err)
	}
}
