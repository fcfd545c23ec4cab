package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/grapnelhq/grapnel/core/store"
)

// maxCommand bounds the body of a command.
const maxCommand = 4 << 20

// ids is the body of a command on several things.
type ids struct {
	IDs []string `json:"ids"`
}

// failure is the body of an answer other than 200.
type failure struct {
	Error string `json:"error"`
}

// badRequest marks an error as the caller's.
type badRequest struct{ error }

func (e badRequest) Unwrap() error { return e.error }

// Handler serves c as the control API.
func Handler(c Control) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := h(r)
			status := http.StatusOK
			if err != nil {
				status, v = statusOf(err), failure{err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false) // event data is shown as it came
			_ = enc.Encode(v)        // the status is out; a caller that went away is no error of ours
		})
	}
	handle("GET /v1/status", func(r *http.Request) (any, error) { return c.Status(r.Context()) })
	handle("GET /v1/requests", func(r *http.Request) (any, error) {
		var f store.RequestFilter
		if err := parse(r.URL.Query(), requestFields(&f)); err != nil {
			return nil, badRequest{err}
		}
		return c.Requests(r.Context(), f)
	})
	handle("GET /v1/requests/{id}", func(r *http.Request) (any, error) { return c.Request(r.Context(), r.PathValue("id")) })
	handle("POST /v1/requests/retry", func(r *http.Request) (any, error) {
		ids, err := readIDs(r)
		if err != nil {
			return nil, err
		}
		return c.RetryRequests(r.Context(), ids)
	})
	handle("GET /v1/deliveries", func(r *http.Request) (any, error) {
		var f store.DeliveryFilter
		if err := parse(r.URL.Query(), deliveryFields(&f)); err != nil {
			return nil, badRequest{err}
		}
		return c.Deliveries(r.Context(), f)
	})
	handle("GET /v1/deliveries/{id}", func(r *http.Request) (any, error) { return c.Delivery(r.Context(), r.PathValue("id")) })
	handle("POST /v1/deliveries/retry", func(r *http.Request) (any, error) {
		ids, err := readIDs(r)
		if err != nil {
			return nil, err
		}
		return c.RetryDeliveries(r.Context(), ids)
	})
	handle("POST /v1/deliveries/skip", func(r *http.Request) (any, error) {
		var body skipping
		if err := readBody(r, &body, `{"ids": […], "reason": "…"}`); err != nil {
			return nil, err
		}
		return c.SkipDeliveries(r.Context(), body.IDs, body.Reason)
	})
	handle("POST /v1/sinks/{sink}/pause", func(r *http.Request) (any, error) {
		var body pausing
		if err := readBody(r, &body, `{"reason": "…"}`); err != nil {
			return nil, err
		}
		return struct{}{}, c.PauseSink(r.Context(), r.PathValue("sink"), body.Reason)
	})
	handle("POST /v1/sinks/{sink}/resume", func(r *http.Request) (any, error) {
		return struct{}{}, c.ResumeSink(r.Context(), r.PathValue("sink"))
	})
	handle("GET /v1/rejections", func(r *http.Request) (any, error) {
		var f store.RejectionFilter
		if err := parse(r.URL.Query(), rejectionFields(&f)); err != nil {
			return nil, badRequest{err}
		}
		return c.Rejections(r.Context(), f)
	})
	handle("GET /v1/rejections/{id}", func(r *http.Request) (any, error) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			return nil, badRequest{fmt.Errorf("%q is not a rejection's number", r.PathValue("id"))}
		}
		return c.Rejection(r.Context(), id)
	})
	return mux
}

func statusOf(err error) int {
	var bad badRequest
	switch {
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound
	case errors.As(err, &bad), errors.Is(err, store.ErrCursor):
		return http.StatusBadRequest
	default:
		return http.StatusInternalServerError
	}
}

func readIDs(r *http.Request) ([]string, error) {
	var body ids
	err := readBody(r, &body, `{"ids": […]}`)
	return body.IDs, err
}

// readBody decodes the body of a command.
func readBody(r *http.Request, v any, want string) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxCommand))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badRequest{fmt.Errorf("the body is not %s: %w", want, err)}
	}
	return nil
}
