package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"github.com/grapnelhq/grapnel/core/store"
)

// Client is the Control of a host that runs, over its socket.
type Client struct {
	http *http.Client
}

var _ Control = (*Client)(nil)

// ErrNotRunning says that no host listens on the socket.
var ErrNotRunning = errors.New("no host runs on this data folder")

// NewClient returns a client of the host that listens on a socket. It dials with the first call.
func NewClient(socket string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status implements Control.
func (c *Client) Status(ctx context.Context) (v Status, err error) {
	err = c.get(ctx, "status", "", &v)
	return v, err
}

// Requests implements Control.
func (c *Client) Requests(ctx context.Context, f store.RequestFilter) (v Page[Request], err error) {
	err = c.get(ctx, "requests", format(requestFields(&f)), &v)
	return v, err
}

// Request implements Control.
func (c *Client) Request(ctx context.Context, id string) (v Request, err error) {
	err = c.get(ctx, "requests/"+url.PathEscape(id), "", &v)
	return v, err
}

// RetryRequests implements Control.
func (c *Client) RetryRequests(ctx context.Context, o RequestOrder, report func(Report)) (Tally, error) {
	return c.stream(ctx, "requests/retry", requestOrder(&o), o.IDs, report)
}

// Events implements Control.
func (c *Client) Events(ctx context.Context, f store.EventFilter) (v Page[ListedEvent], err error) {
	err = c.get(ctx, "events", format(eventFields(&f)), &v)
	return v, err
}

// Event implements Control.
func (c *Client) Event(ctx context.Context, id string) (v EventDetail, err error) {
	err = c.get(ctx, "events/"+url.PathEscape(id), "", &v)
	return v, err
}

// Deliveries implements Control.
func (c *Client) Deliveries(ctx context.Context, f store.DeliveryFilter) (v Page[Delivery], err error) {
	err = c.get(ctx, "deliveries", format(deliveryFields(&f)), &v)
	return v, err
}

// Delivery implements Control.
func (c *Client) Delivery(ctx context.Context, id string) (v Delivery, err error) {
	err = c.get(ctx, "deliveries/"+url.PathEscape(id), "", &v)
	return v, err
}

// RetryDeliveries implements Control.
func (c *Client) RetryDeliveries(ctx context.Context, o DeliveryOrder, report func(Report)) (Tally, error) {
	return c.stream(ctx, "deliveries/retry", deliveryOrder(&o, false), o.IDs, report)
}

// ReplayDeliveries implements Control.
func (c *Client) ReplayDeliveries(ctx context.Context, o DeliveryOrder, report func(Report)) (Tally, error) {
	return c.stream(ctx, "deliveries/replay", deliveryOrder(&o, true), o.IDs, report)
}

// Rejections implements Control.
func (c *Client) Rejections(ctx context.Context, f store.RejectionFilter) (v Page[Rejection], err error) {
	err = c.get(ctx, "rejections", format(rejectionFields(&f)), &v)
	return v, err
}

// Rejection implements Control.
func (c *Client) Rejection(ctx context.Context, id int64) (v Rejection, err error) {
	err = c.get(ctx, "rejections/"+strconv.FormatInt(id, 10), "", &v)
	return v, err
}

func (c *Client) get(ctx context.Context, path, query string, v any) error {
	return c.call(ctx, http.MethodGet, path+"?"+query, nil, v)
}

func (c *Client) post(ctx context.Context, path string, body, v any) error {
	b, err := jsonBody(body)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, b, v)
}

func jsonBody(v any) (io.Reader, error) {
	b, err := json.Marshal(v)
	return bytes.NewReader(b), err
}

func (c *Client) call(ctx context.Context, method, path string, body io.Reader, v any) error {
	resp, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("control API: %w", err)
	}
	return nil
}

// stream posts a command and passes on what is reported until its end.
func (c *Client) stream(ctx context.Context, path string, fields []field, list []string, report func(Report)) (t Tally, err error) {
	var body io.Reader = http.NoBody
	if len(list) > 0 {
		if body, err = jsonBody(ids{list}); err != nil {
			return t, err
		}
	}
	resp, err := c.open(ctx, http.MethodPost, path+"?"+format(fields), body)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	err = readLines(resp.Body, func(r Report) (last bool, err error) {
		if r.Progress != nil {
			t = *r.Progress
		}
		switch {
		case r.Result != nil:
			t, last = *r.Result, true
		case r.Error != "":
			err = errors.New(r.Error)
		case report != nil:
			report(r)
		}
		return last, err
	})
	return t, err
}

// readLines reads an answer of lines until the last one, or an error.
func readLines[T any](body io.Reader, line func(T) (last bool, err error)) error {
	for dec := json.NewDecoder(body); ; {
		var v T
		if err := dec.Decode(&v); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("control API: the host went away: %w", err)
		}
		if last, err := line(v); last || err != nil {
			return err
		}
	}
}

// open makes a call, and an error of an answer other than 200.
func (c *Client) open(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://grapnel/v1/"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("control API: %w", err)
	case resp.StatusCode == http.StatusOK:
		return resp, nil
	}
	defer resp.Body.Close()
	var f failure
	switch err := json.NewDecoder(resp.Body).Decode(&f); {
	case err != nil:
		return nil, fmt.Errorf("control API: %s", resp.Status)
	case resp.StatusCode == http.StatusNotFound:
		return nil, notFound(f.Error)
	}
	return nil, errors.New(f.Error)
}

// notFound is store.ErrNotFound in the host's own words.
type notFound string

func (e notFound) Error() string { return string(e) }
func (e notFound) Unwrap() error { return store.ErrNotFound }
