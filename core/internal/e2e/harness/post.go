//go:build unix

package harness

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Post is a request to a source, signed by this package's own code and not by the host's.
type Post struct {
	Path   string
	Header http.Header
	Body   []byte
}

// Answer is a host's reply.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// NewPost is a JSON body without a signature.
func NewPost(path string, body []byte) Post {
	return Post{Path: path, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}
}

// Youforce is an event of a source with the secret YouforceSecret: the number-th of the employment key. Its type is
// youforce.employment.updated, event.subject "employment/<key>", event.data.number the number.
func Youforce(source, key string, number int) Post {
	body := fmt.Appendf(nil, `{"id":%q,"operation":"Update","tenantId":"1","timestamp":"2026-01-15T10:12:35Z",`+
		`"value":{"number":%d}}`, key, number)
	return SignYouforce(source, "EMPLOYMENT_CHANGED", fmt.Sprintf("%s/%d", key, number), body)
}

// SignYouforce signs a body as Visma Youforce does. notification is what makes two requests the same; it may be
// empty.
func SignYouforce(source, event, notification string, body []byte) Post {
	p := NewPost("/hooks/"+source, body)
	p.Header.Set("X-Vwd-Event-Id", event)
	if notification != "" {
		p.Header.Set("X-Vwd-Notification-Id", notification)
	}
	p.Header.Set("X-VWD-Signature-V1", base64.StdEncoding.EncodeToString(digest(YouforceSecret, body)))
	return p
}

// SignPeopleForce signs a body as PeopleForce does.
func SignPeopleForce(source string, body []byte) Post {
	p := NewPost("/hooks/"+source, body)
	p.Header.Set("X-Peopleforce-Signature", "sha256="+hex.EncodeToString(digest(PeopleForceSecret, body)))
	return p
}

// AccuLynx is a body as AccuLynx posts it: unsigned, to an address with a token.
func AccuLynx(source string, body []byte) Post {
	return NewPost("/hooks/"+source+"/"+AccuLynxToken, body)
}

func digest(secret string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return mac.Sum(nil)
}

// Post posts once. It may be called from any goroutine.
func (h *Host) Post(p Post) (Answer, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL+p.Path, bytes.NewReader(p.Body))
	if err != nil {
		return Answer{}, err
	}
	req.Header = p.Header.Clone()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: Patience}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, string(body)}, err
}

// MustPost posts once and fails the test unless the answer is 2xx.
func (h *Host) MustPost(p Post) Answer {
	h.t.Helper()
	a, err := h.Post(p)
	if err != nil {
		h.t.Fatal(err)
	}
	if a.Status/100 != 2 {
		h.t.Fatalf("POST %s: %d %s", p.Path, a.Status, a.Body)
	}
	return a
}

// pause waits, or ends early when ctx does.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
