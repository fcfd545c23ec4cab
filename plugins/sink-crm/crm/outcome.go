package crm

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// NotSent is the error of an operation whose turn did not come before the call ended. The host tries it again.
func NotSent() error { return errors.New("not sent: the call's time was over") }

// Unaccounted is the error of an operation that the far end's answer does not mention. It may have been carried out.
func Unaccounted() error { return errors.New("the answer does not say what became of this record") }

// RetryAfter reads the header Retry-After in both of its forms, seconds and a date. The host caps what comes out.
func RetryAfter(h http.Header, now time.Time) (d time.Duration, ok bool) {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0, false
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		const most = 366 * 24 * time.Hour
		switch {
		case !(s >= 0): // NaN, too
			return 0, false
		case s > most.Seconds():
			return most, true
		}
		return time.Duration(s * float64(time.Second)), true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}

// Later is the outcome of a throttled or failing far end: a retry after Retry-After's time, or after the given pause
// where the answer has none. No pause leaves the time to the host's policy.
func (r *Response) Later(err error, pause time.Duration) error {
	if d, ok := RetryAfter(r.Header, time.Now()); ok {
		return sdk.RetryAfter(err, d)
	}
	if pause > 0 {
		return sdk.RetryAfter(err, pause)
	}
	return err
}

// Outcome is what a refusal means by its status alone, for the dialects to start from: a status that passes is a retry
// (408, 425, 429 and 5xx, with Retry-After), one that needs somebody to act suspends the sink (redirects, 401, 402, 403,
// 407, 410, 501, 505), and every other one rejects the operation. words is what the far end says, cleaned by
// Client.Words; empty leaves it out. Outcome returns nil for 2xx.
func (r *Response) Outcome(words string) error {
	if r.OK() {
		return nil
	}
	err := r.Error(words)
	switch s := r.Status; {
	case s == http.StatusNotImplemented || s == http.StatusHTTPVersionNotSupported:
		return sdk.Suspend(err)
	case s == http.StatusRequestTimeout || s == http.StatusTooEarly || s == http.StatusTooManyRequests || s >= 500:
		return r.Later(err, 0)
	case s < 400 || s == http.StatusUnauthorized || s == http.StatusPaymentRequired || s == http.StatusForbidden ||
		s == http.StatusProxyAuthRequired || s == http.StatusGone:
		return sdk.Suspend(err)
	}
	return sdk.Reject(err)
}

// Error is the text of a refusal: the status and, where there are any, the far end's words.
func (r *Response) Error(words string) error {
	text := strconv.Itoa(r.Status)
	if name := http.StatusText(r.Status); name != "" {
		text += " " + name
	}
	if words == "" {
		return fmt.Errorf("the CRM answers %s", text)
	}
	return fmt.Errorf("the CRM answers %s: %s", text, words)
}
