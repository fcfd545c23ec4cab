package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// exportAtOnce is how many requests one answer holds at most; large ones end it earlier.
const exportAtOnce = 500

// Export implements Control.
func (c *Direct) Export(ctx context.Context, f store.RequestFilter) (Page[Request], error) {
	after := int64(0)
	if f.Cursor != "" {
		var err error
		if after, err = strconv.ParseInt(f.Cursor, 10, 64); err != nil {
			return Page[Request]{}, badRequest{fmt.Errorf("%q is %w", f.Cursor, store.ErrCursor)}
		}
	}
	limit := exportAtOnce
	if f.Limit > 0 {
		limit = min(limit, f.Limit)
	}
	rs, next, err := c.Store.ReadRequests(ctx, f, after, limit)
	cursor := ""
	if next > 0 {
		cursor = strconv.FormatInt(next, 10)
	}
	return viewAll(rs, cursor, viewRequest), err
}

// Export implements Control.
func (c *Client) Export(ctx context.Context, f store.RequestFilter) (v Page[Request], err error) {
	err = c.get(ctx, "requests/export", format(requestFields(&f)), &v)
	return v, err
}

func handleExport(c Control) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var f store.RequestFilter
		if err := parse(r.URL.Query(), requestFields(&f)); err != nil {
			return nil, badRequest{err}
		}
		return c.Export(r.Context(), f)
	}
}

// Stored is a request as it was stored, made from how it is shown with its body. The error says that it is no such
// thing.
func (r *Request) Stored() (*core.Request, error) {
	key, repeat, err := core.ParseRequestID(r.ID)
	switch {
	case err != nil:
		return nil, err
	case r.Source == "":
		return nil, errors.New(`"source" is missing`)
	case r.ReceivedAt.IsZero():
		return nil, errors.New(`"received_at" is missing`)
	case r.Body != "" && r.BodyBase64 != nil:
		return nil, errors.New(`there is both "body" and "body_base64"`)
	}
	body := r.BodyBase64
	if body == nil {
		body = []byte(r.Body)
	}
	return &core.Request{
		Seq: r.Seq, Dedupe: key, Repeat: repeat, Source: r.Source, Tenant: r.Tenant, ReceivedAt: r.ReceivedAt,
		RemoteAddr: r.RemoteAddr, Method: r.Method, Query: r.Query, Headers: r.Headers, Body: body,
		State: core.RequestState(r.State),
	}, nil
}
