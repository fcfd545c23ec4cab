package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/grapnelhq/grapnel/sdk"
)

// RawBody is the body of a stored request, byte for byte.
type RawBody struct {
	Type string // as its sender called it; empty: it did not
	Body []byte
}

// typeHeader says what a body was called by its sender. It is not the type of the answer: what a stranger sent is not to
// be shown by a browser as if it were ours.
const typeHeader = "Grapnel-Content-Type"

// Body implements Control.
func (c *Direct) Body(ctx context.Context, id string) (RawBody, error) {
	d, err := c.Store.GetRequest(ctx, id)
	if err != nil {
		return RawBody{}, err
	}
	return RawBody{contentType(d.Request.Headers), d.Request.Body}, nil
}

func contentType(hs []sdk.Header) string {
	for _, h := range hs {
		if h.Name == "content-type" {
			return h.Value
		}
	}
	return ""
}

// Body implements Control.
func (c *Client) Body(ctx context.Context, id string) (RawBody, error) {
	resp, err := c.open(ctx, http.MethodGet, "requests/"+url.PathEscape(id)+"/body", nil)
	if err != nil {
		return RawBody{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return RawBody{}, fmt.Errorf("control API: %w", err)
	}
	return RawBody{resp.Header.Get(typeHeader), b}, nil
}

func handleBody(c Control, w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	b, err := c.Body(r.Context(), id)
	if err != nil {
		newLines(w).fail(err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.body"`, url.PathEscape(id)))
	if b.Type != "" {
		h.Set(typeHeader, b.Type)
	}
	_, _ = w.Write(b.Body) // a caller that went away is no error of ours
}
