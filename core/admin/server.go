package admin

import (
	"context"
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

// Handler serves c as the control API, to who owns the host's files.
func Handler(c Control) http.Handler { return routes(c, owner) }

// caller is who a handler of the control API is for.
type caller int

const (
	owner  caller = iota // of the host's files, over the socket
	remote               // anybody who may use the admin listener
)

// patterns is a mux that knows what is in it.
type patterns struct {
	http.ServeMux
	all []string
}

func (p *patterns) HandleFunc(pattern string, h http.HandlerFunc) {
	p.all = append(p.all, pattern)
	p.ServeMux.HandleFunc(pattern, h)
}

// routes makes the mux of the control API. Every pattern in it has its place in the OpenAPI document.
func routes(c Control, who caller) *patterns {
	mux := &patterns{}
	handle := func(pattern string, h func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			l := newLines(w)
			if v, err := h(r); err != nil {
				l.fail(err)
			} else {
				l.one(v)
			}
		})
	}
	mux.HandleFunc("GET /v1/openapi.json", handleOpenAPI)
	handle("GET /v1/status", func(r *http.Request) (any, error) { return c.Status(r.Context()) })
	handle("POST /v1/reload", func(r *http.Request) (any, error) { return c.Reload(r.Context()) })
	handle("GET /v1/reloads", func(r *http.Request) (any, error) { return c.Reloads(r.Context()) })
	handle("GET /v1/config", func(r *http.Request) (any, error) { return c.Config(r.Context()) })
	handle("GET /v1/rates", func(r *http.Request) (any, error) { return c.Rates(r.Context()) })
	handle("GET /v1/requests", func(r *http.Request) (any, error) {
		var f store.RequestFilter
		if err := parse(r.URL.Query(), requestFields(&f)); err != nil {
			return nil, badRequest{err}
		}
		return c.Requests(r.Context(), f)
	})
	handle("GET /v1/requests/export", handleExport(c))
	handle("GET /v1/requests/{id}", func(r *http.Request) (any, error) { return c.Request(r.Context(), r.PathValue("id")) })
	mux.HandleFunc("GET /v1/requests/{id}/body", func(w http.ResponseWriter, r *http.Request) { handleBody(c, w, r) })
	handle("GET /v1/requests/{id}/explanation", func(r *http.Request) (any, error) {
		return c.Explain(r.Context(), r.PathValue("id"))
	})
	handle("POST /v1/explain", handleExplain(c))
	handle("GET /v1/events", func(r *http.Request) (any, error) {
		var f store.EventFilter
		if err := parse(r.URL.Query(), eventFields(&f)); err != nil {
			return nil, badRequest{err}
		}
		return c.Events(r.Context(), f)
	})
	handle("GET /v1/events/{id}", func(r *http.Request) (any, error) { return c.Event(r.Context(), r.PathValue("id")) })
	handle("GET /v1/deliveries", func(r *http.Request) (any, error) {
		var f store.DeliveryFilter
		if err := parse(r.URL.Query(), deliveryFields(&f)); err != nil {
			return nil, badRequest{err}
		}
		return c.Deliveries(r.Context(), f)
	})
	handle("GET /v1/deliveries/{id}", func(r *http.Request) (any, error) { return c.Delivery(r.Context(), r.PathValue("id")) })
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
		changed, err := c.ResumeSink(r.Context(), r.PathValue("sink"))
		return resumed{changed}, err
	})
	handle("GET /v1/alerts", func(r *http.Request) (any, error) { return c.Alerts(r.Context()) })
	handle("POST /v1/alerts/{name}/test", func(r *http.Request) (any, error) {
		return c.TestAlert(r.Context(), r.PathValue("name"))
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
	handle("GET /v1/receipts", func(r *http.Request) (any, error) {
		var cursor string
		var limit int
		if err := parse(r.URL.Query(), placeFields(&cursor, &limit)); err != nil {
			return nil, badRequest{err}
		}
		return c.Receipts(r.Context(), cursor, limit)
	})
	handle("GET /v1/receipts/{id}", func(r *http.Request) (any, error) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			return nil, badRequest{fmt.Errorf("%q is not a receipt's number", r.PathValue("id"))}
		}
		return c.Receipt(r.Context(), id)
	})
	mux.HandleFunc("GET /v1/tail", func(w http.ResponseWriter, r *http.Request) { handleTail(c, w, r) })
	if who == owner { // they take paths
		mux.HandleFunc("POST /v1/backup", func(w http.ResponseWriter, r *http.Request) { handleBackup(c, w, r) })
		mux.HandleFunc("POST /v1/plugins/upgrade", func(w http.ResponseWriter, r *http.Request) { handleUpgrade(c, w, r) })
	}
	mux.HandleFunc("POST /v1/requests/search", func(w http.ResponseWriter, r *http.Request) { handleSearch(c, w, r) })
	mux.HandleFunc("POST /v1/requests/erase", func(w http.ResponseWriter, r *http.Request) { handleErase(c, w, r) })
	mux.HandleFunc("POST /v1/requests/retry", func(w http.ResponseWriter, r *http.Request) {
		var o RequestOrder
		stream(w, r, requestOrder(&o), &o.IDs, func(report func(Report)) (Tally, error) {
			return c.RetryRequests(r.Context(), o, report)
		})
	})
	mux.HandleFunc("POST /v1/deliveries/retry", func(w http.ResponseWriter, r *http.Request) {
		var o DeliveryOrder
		stream(w, r, deliveryOrder(&o, false), &o.IDs, func(report func(Report)) (Tally, error) {
			return c.RetryDeliveries(r.Context(), o, report)
		})
	})
	mux.HandleFunc("POST /v1/deliveries/replay", func(w http.ResponseWriter, r *http.Request) {
		var o DeliveryOrder
		stream(w, r, deliveryOrder(&o, true), &o.IDs, func(report func(Report)) (Tally, error) {
			return c.ReplayDeliveries(r.Context(), o, report)
		})
	})
	return mux
}

// lines is an answer of a line of JSON per report while work goes on. An error before the first line is an answer of its
// own.
type lines struct {
	w     http.ResponseWriter
	enc   *json.Encoder
	begun bool
}

func newLines(w http.ResponseWriter) *lines {
	l := &lines{w: w, enc: json.NewEncoder(w)}
	l.enc.SetEscapeHTML(false) // event data is shown as it came
	return l
}

// say writes a line. A caller that went away ends the context.
func (l *lines) say(v any, now bool) {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	_ = l.enc.Encode(v)
	if now {
		_ = http.NewResponseController(l.w).Flush()
	}
}

// one answers with one thing.
func (l *lines) one(v any) {
	l.w.Header().Set("Content-Type", "application/json")
	_ = l.enc.Encode(v) // a caller that went away is no error of ours
}

// fail answers with an error, before any line.
func (l *lines) fail(err error) {
	l.w.Header().Set("Content-Type", "application/json")
	l.w.WriteHeader(statusOf(err))
	_ = l.enc.Encode(failure{err.Error()})
}

// stream answers with what a retry or replay reports, the last line a result or an error. fields and ids are read from the
// query and the body, which may be empty.
func stream(
	w http.ResponseWriter, r *http.Request, fields []field, list *[]string, work func(func(Report)) (Tally, error),
) {
	l := newLines(w)
	err := parse(r.URL.Query(), fields)
	if err != nil {
		err = badRequest{err}
	} else if r.ContentLength != 0 {
		*list, err = readIDs(r)
	}
	var t Tally
	if err == nil {
		t, err = work(func(rep Report) { l.say(rep, rep.Item == nil) })
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("the host stops") // or nobody listens any more
	}
	switch {
	case err == nil:
		l.say(Report{Result: &t}, true)
	case l.begun:
		l.say(Report{Progress: &t, Error: err.Error()}, true)
	default:
		l.fail(err)
	}
}

func statusOf(err error) int {
	var bad badRequest
	switch {
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound
	case errors.As(err, &bad), errors.Is(err, store.ErrCursor):
		return http.StatusBadRequest
	case errors.Is(err, ErrTailFull):
		return http.StatusServiceUnavailable
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
func readBody(r *http.Request, v any, want string) error { return readUpTo(r, v, want, maxCommand) }

func readUpTo(r *http.Request, v any, want string, most int64) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, most))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badRequest{fmt.Errorf("the body is not %s: %w", want, err)}
	}
	return nil
}
