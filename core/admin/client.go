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
func (c *Client) RetryRequests(ctx context.Context, list []string) (v Page[Request], err error) {
	err = c.post(ctx, "requests/retry", ids{list}, &v)
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
func (c *Client) RetryDeliveries(ctx context.Context, list []string) (v Page[Delivery], err error) {
	err = c.post(ctx, "deliveries/retry", ids{list}, &v)
	return v, err
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
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, bytes.NewReader(b), v)
}

func (c *Client) call(ctx context.Context, method, path string, body io.Reader, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://grapnel/v1/"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return ErrNotRunning
	case err != nil:
		return fmt.Errorf("control API: %w", err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	if resp.StatusCode == http.StatusOK {
		if err := dec.Decode(v); err != nil {
			return fmt.Errorf("control API: %w", err)
		}
		return nil
	}
	var f failure
	if err := dec.Decode(&f); err != nil {
		return fmt.Errorf("control API: %s", resp.Status)
	}
	if resp.StatusCode == http.StatusNotFound {
		return notFound(f.Error)
	}
	return errors.New(f.Error)
}

// notFound is store.ErrNotFound in the host's own words.
type notFound string

func (e notFound) Error() string { return string(e) }
func (e notFound) Unwrap() error { return store.ErrNotFound }
