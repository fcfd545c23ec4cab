package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	maxKept      = 16 << 10  // bytes of an answer that are looked at
	maxRead      = 256 << 10 // bytes of an answer that are read so that its connection can be used again
	maxReadTime  = 2 * time.Second
	maxRedirects = 5
)

// newTransport makes the connections of a sink: kept alive, HTTP/2 where the endpoint has it, and to public addresses
// only, unless the configuration says otherwise.
func newTransport(cfg *Config, set *settings) (transport, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if !cfg.AllowPrivate && set.proxy == nil {
		// A proxy was chosen by whoever wrote the configuration, may be in a private network, and is who connects then.
		dialer.Control = controlPublic
	}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true, // DialContext alone turns it off
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		MaxIdleConnsPerHost:    128,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // answers are short, and a short one may be long once unpacked
	}
	if set.proxy != nil {
		t.Proxy = http.ProxyURL(set.proxy)
	}
	if cfg.TLS == nil {
		return transport{t}, nil
	}
	t.TLSClientConfig = &tls.Config{ServerName: cfg.TLS.ServerName}
	if cfg.TLS.CA != "" {
		pem, err := os.ReadFile(cfg.TLS.CA)
		if err != nil {
			return transport{}, &sdk.AttributeError{Path: at("tls", "ca"), Summary: reason(err)}
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return transport{}, &sdk.AttributeError{Path: at("tls", "ca"), Summary: "the file holds no certificate in PEM form"}
		}
	}
	if cfg.TLS.Cert != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.TLS.Cert, cfg.TLS.Key)
			return &pair, err
		}
		if _, err := load(nil); err != nil {
			return transport{}, &sdk.AttributeError{Path: at("tls", "cert"), Summary: "cannot be used with its key: " + reason(err)}
		}
		t.TLSClientConfig.GetClientCertificate = load // anew for every connection: it may have been renewed
	}
	return transport{t}, nil
}

// reason is an error without the operation that failed.
func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Path + ": " + pe.Err.Error()
	}
	return err.Error()
}

// answer is what an endpoint said.
type answer struct {
	status int
	header http.Header
	body   []byte // the beginning; empty for success
}

// result is what became of a request.
type result struct {
	answer  *answer // nil: there was none
	outcome error   // nil: delivered
	refused bool    // the endpoint refuses what it was sent, and for good
}

// send sends a request once.
func (s *sink) send(ctx context.Context, r *request) result {
	if err := s.consent.obtain(ctx, s); err != nil {
		return result{outcome: err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	a, err := s.authorized(ctx, r)
	if err != nil {
		return result{outcome: s.unreachable(ctx, err)}
	}
	return s.judge(r, a)
}

// authorized sends with credentials. A token that the endpoint refuses is renewed, once, and the request, which was not
// carried out, sent again.
func (s *sink) authorized(ctx context.Context, r *request) (*answer, error) {
	if s.tokens == nil {
		return s.attempt(ctx, r, "")
	}
	for again := false; ; again = true {
		token, err := s.tokens.get(ctx)
		if err != nil {
			return nil, err
		}
		a, err := s.attempt(ctx, r, token.value)
		if err != nil || a.status != http.StatusUnauthorized || again {
			return a, err
		}
		s.tokens.drop(token)
		r.header = r.header.Clone() // the transport may still be reading it
	}
}

// attempt sends once, and follows redirects where that is allowed.
func (s *sink) attempt(ctx context.Context, r *request, authorization string) (*answer, error) {
	now := time.Now()
	h := r.header
	h["Webhook-Id"] = []string{r.id}
	h["Webhook-Timestamp"] = []string{strconv.FormatInt(now.Unix(), 10)}
	if len(s.set.signers) > 0 {
		h["Webhook-Signature"] = []string{signature(s.set.signers, r.id, now, r.body)}
	}
	if s.idHeader != "" {
		h[s.idHeader] = []string{r.id}
	}
	if authorization != "" {
		h["Authorization"] = []string{authorization}
	}
	// An endpoint may close a kept connection just when it is used. With this the transport knows that the request may be
	// sent over another one, which it may: every attempt carries the same id. Nothing is written for an empty list.
	const replayable = "X-Idempotency-Key"
	if _, there := h[replayable]; !there {
		h[replayable] = []string{}
	}
	u := r.url
	for redirects := 0; ; redirects++ {
		a, err := s.exchange(ctx, r.method, u, h, r.body)
		if err != nil {
			return nil, err
		}
		if !s.cfg.FollowRedirects || redirects == maxRedirects {
			return a, nil
		}
		next := redirect(u, a)
		if next == nil {
			return a, nil
		}
		u = next
	}
}

// exchange sends one request and reads the answer, whose body may take a moment only: its status has said what matters.
func (s *sink) exchange(
	ctx context.Context, method string, u *url.URL, h http.Header, body []byte,
) (*answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &http.Request{
		Method: method, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, ContentLength: int64(len(body)), Body: http.NoBody,
	}
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	// Not http.Client, which would follow redirects its own way and put the address into its errors.
	resp, err := s.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer time.AfterFunc(maxReadTime, cancel).Stop()
	return s.read(resp), nil
}

// transport is a transport whose answers always end with their request's context. One that switches protocols would
// not: the connection becomes the caller's, and reading waits for what never comes.
type transport struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, err
}

// read reads an answer's beginning and closes it.
func (s *sink) read(resp *http.Response) *answer {
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	if s.set.classes.of(a.status).class != classSuccess {
		// The status has said what matters: an answer that breaks off is as good as a whole one.
		a.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxKept))
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxRead)
	return a
}

// redirect is where an answer leads, if that may be followed: with the same method and body, to the same origin.
func redirect(from *url.URL, a *answer) *url.URL {
	if a.status != http.StatusTemporaryRedirect && a.status != http.StatusPermanentRedirect {
		return nil
	}
	u, err := from.Parse(a.header.Get("Location"))
	if err != nil || u.Scheme != from.Scheme || u.Host != from.Host || u.User != nil {
		return nil
	}
	u.Fragment = ""
	return u
}

// judge says what an answer means.
func (s *sink) judge(r *request, a *answer) result {
	v := s.set.classes.of(a.status)
	if v.class == classSuccess {
		return result{answer: a}
	}
	err := fmt.Errorf("the endpoint answers %s%s", statusText(a.status), s.remark(a))
	var path []string
	switch missing := a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed ||
		a.status == http.StatusGone; {
	case missing && r.ownPath && !v.explicit:
		// The route made the path: it is the event that leads to nothing, and not the sink.
		v.class, path = classReject, at("path")
	case r.mapped && !r.ownPath:
		path = at("body")
	}
	switch v.class {
	case classReject:
		return result{answer: a, outcome: sdk.Reject(err, path...), refused: true}
	case classSuspend:
		return result{answer: a, outcome: sdk.Suspend(err)}
	}
	if after, ok := retryAfter(a.header, time.Now()); ok {
		err = sdk.RetryAfter(err, after)
	}
	return result{answer: a, outcome: err}
}

func statusText(status int) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}

// remark is what there is to say about an answer besides its status.
func (s *sink) remark(a *answer) string {
	if a.status/100 == 3 {
		u, err := s.set.url.Parse(a.header.Get("Location"))
		switch {
		case err != nil || a.header.Get("Location") == "":
		case u.Host != s.set.url.Host || u.Scheme != s.set.url.Scheme:
			return ", which leads to " + s.clean(u.Scheme+"://"+u.Host) + "; the sink does not follow: write the right url"
		default:
			return ", which leads to another path; write the right url"
		}
	}
	if a.status == http.StatusGone {
		return ": it wants no more events"
	}
	if words := s.words(a.header, a.body); words != "" {
		return ": " + words
	}
	return ""
}

// unreachable says what it means that there is no answer: mostly that one comes later.
func (s *sink) unreachable(ctx context.Context, err error) error {
	var outcome *outcomeError
	if errors.As(err, &outcome) {
		return outcome.err
	}
	var refused *addressError
	if errors.As(err, &refused) {
		return sdk.Suspend(refused)
	}
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return sdk.Suspend(fmt.Errorf("the endpoint's certificate is not accepted: %s", s.clean(verification.Err.Error())))
	}
	var alert *net.OpError // that TLS makes of the other side's alert, whose type it does not export
	if errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Error(), "certificate") {
		return sdk.Suspend(fmt.Errorf("the endpoint refuses the connection: %s", s.clean(alert.Error())))
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("the endpoint does not answer in time")
	case ctx.Err() != nil:
		return errors.New("the call was cancelled")
	}
	return fmt.Errorf("the endpoint cannot be reached: %s", s.clean(err.Error()))
}

// outcomeError carries an outcome through code that speaks of reaching something.
type outcomeError struct{ err error }

func (e *outcomeError) Error() string { return e.err.Error() }
func (e *outcomeError) Unwrap() error { return e.err }
