package crm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/sdk"
)

const (
	maxResponse    = 1 << 20
	maxWords       = 300 // bytes of the far end's own words in a reason
	defaultTimeout = 20 * time.Second
	// reserve is what is left of a call's time when a request in it must be over, to report what became of it.
	reserve = 500 * time.Millisecond
)

// Options describe a Client.
type Options struct {
	BaseURL string // absolute, http or https; see ParseBaseURL
	// Login obtains the credentials of requests; nil: there are none. See StaticToken and OAuth.Login; a dialect may
	// bring its own.
	Login Login
	// Refused reports whether an answer says that the credentials are not, or no longer, accepted. Default: status 401.
	Refused func(*Response) bool
	Header  http.Header   // on every request
	Agent   string        // User-Agent, where neither Header nor the request has one
	Timeout time.Duration // of one request; default 20 s, and never longer than the call has left
	// Secrets are texts that no error may show, besides the credentials that Login returns.
	Secrets []string
	// RejectUnknown turns a field or type of records that the CRM does not know into a dead letter, instead of suspending
	// the sink; see Client.Unknown.
	RejectUnknown bool
	// Transport is for tests; default: one of this client's own.
	Transport http.RoundTripper
}

// Client speaks HTTP with one far end: bounded answers, bounded time, no redirects, credentials on every request and in no
// error. It may be used from any number of goroutines.
type Client struct {
	base    *url.URL
	http    *http.Client
	header  http.Header
	agent   string
	timeout time.Duration
	refused func(*Response) bool
	secrets []string
	reject  bool // RejectUnknown
	tokens  tokens
}

// NewClient makes a client. It reaches nothing yet. An error is BaseURL's, as an sdk.AttributeError of "base_url".
func NewClient(o Options) (*Client, error) {
	base, err := ParseBaseURL(o.BaseURL)
	if err != nil {
		return nil, &sdk.AttributeError{Path: []string{"base_url"}, Summary: err.Error()}
	}
	c := &Client{base: base, header: o.Header, agent: o.Agent, timeout: o.Timeout, refused: o.Refused, secrets: o.Secrets,
		reject: o.RejectUnknown}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if c.refused == nil {
		c.refused = func(r *Response) bool { return r.Status == http.StatusUnauthorized }
	}
	transport := o.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 8
		t.MaxResponseHeaderBytes = 256 << 10
		transport = t
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirect would carry a write, and maybe the credentials, to where nobody configured it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.tokens.login, c.tokens.turn = o.Login, make(chan struct{}, 1)
	return c, nil
}

// ParseBaseURL checks the address of a far end: http or https with a host and maybe a path, nothing else.
func ParseBaseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "":
		return nil, errors.New(`not an address like "https://crm.example.com"`)
	case u.User != nil:
		return nil, errors.New("credentials do not belong in an address")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("an address with a query or a fragment")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// IsLoopback reports whether an address is this machine's own, where plain HTTP shows nothing to anybody else.
func IsLoopback(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Close ends idle connections. Call it after the last Do.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Request is one request to the far end.
type Request struct {
	Method string
	// Path starts with a slash and is appended to the base address. It is escaped already and may have a query.
	Path string
	// URL is an absolute address instead, of the configuration, not of a message. Only an Anonymous request has one.
	URL    string
	Header http.Header // over the client's own
	Body   []byte      // nil: none
	// Type is the Content-Type of Body; default application/json.
	Type string
	// Anonymous requests carry no credentials. A Login uses them.
	Anonymous bool
}

// Response is an answer, read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// OK reports whether the status is 2xx.
func (r *Response) OK() bool { return r.Status/100 == 2 }

// Do sends a request and returns the answer, whatever its status. Where the answer says that the credentials are not
// accepted, they are obtained anew once, shared by all who wait for it, and the request is sent a second time; a request
// that was refused so was not carried out. Errors are outcomes: a plain error is a retry; sdk.Suspend says that
// credentials cannot be had. Nothing in an error is secret.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	if r.Anonymous {
		return c.send(ctx, r, Token{})
	}
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, r, token)
	if err != nil || c.tokens.login == nil || !c.refused(resp) {
		return resp, err
	}
	c.tokens.drop(token)
	fresh, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	if fresh.Value == token.Value { // a static one
		return resp, nil
	}
	return c.send(ctx, r, fresh)
}

// send sends once.
func (c *Client) send(ctx context.Context, r Request, token Token) (*Response, error) {
	base := c.base
	if token.Base != nil {
		base = token.Base
	}
	address := r.URL
	if address == "" || !r.Anonymous {
		var err error
		if address, err = join(base, r.Path); err != nil {
			return nil, sdk.Reject(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.budget(ctx))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, address, bytes.NewReader(r.Body))
	if err != nil {
		return nil, sdk.Reject(errors.New("no request can be made of this message")) // the error itself shows the address
	}
	for _, h := range []http.Header{c.header, r.Header} {
		for name, values := range h {
			req.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if req.Header.Get("User-Agent") == "" && c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if r.Body != nil {
		if r.Type == "" {
			r.Type = "application/json"
		}
		req.Header.Set("Content-Type", r.Type)
	}
	if token.Name != "" {
		req.Header.Set(token.Name, token.Value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// What comes then is no answer, and reading it would not end with ctx.
		return nil, errors.New("the CRM answers 101 Switching Protocols")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return nil, c.unreachable(err)
	}
	if len(body) > maxResponse {
		return nil, fmt.Errorf("the CRM's answer (status %d) is longer than %d bytes", resp.StatusCode, maxResponse)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// budget is how long a request may take: less than what is left of the call.
func (c *Client) budget(ctx context.Context) time.Duration {
	d := c.timeout
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		d = min(d, left-min(reserve, left/10))
	}
	return d
}

// join appends an escaped path to a base address. What would lead to another host is refused.
func join(base *url.URL, path string) (string, error) {
	bad := errors.New("no address can be made of this message")
	if !strings.HasPrefix(path, "/") {
		return "", bad
	}
	text := base.String() + path
	u, err := url.Parse(text)
	if err != nil || u.Scheme != base.Scheme || u.Host != base.Host || u.User != nil {
		return "", bad
	}
	return text, nil
}

// unreachable is the error of a request that got no whole answer. The address stays out: it may hold a key.
func (c *Client) unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the CRM does not answer in time")
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("the call was cancelled")
	}
	return fmt.Errorf("the CRM cannot be reached: %s", c.Clean(err.Error()))
}

// Unknown is the outcome of a field, key or type of records that the CRM does not know, as path says: the route or the CRM
// has to be changed, and until then the sink waits, or what names it is a dead letter, as the configuration says.
func (c *Client) Unknown(err error, path []string) error {
	if c.reject {
		return sdk.Reject(err, path...)
	}
	return sdk.Suspend(fmt.Errorf("%s: %w", strings.Join(path, "."), err))
}

// Words is what the far end says in an answer that is no JSON for the dialect to read: text as it is, HTML without its
// tags. It is cleaned; see Clean.
func (c *Client) Words(r *Response) string {
	text := strings.ToValidUTF8(string(r.Body[:min(len(r.Body), 64<<10)]), "\uFFFD")
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "text/html" || kind == "application/xhtml+xml" || strings.HasPrefix(strings.TrimSpace(text), "<") {
		text = withoutTags(text)
	}
	return c.Clean(text)
}

// Clean makes a foreign text fit for a reason: no secrets, no control characters, white space in single blanks, at most
// 300 bytes.
func (c *Client) Clean(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	secrets := c.secrets
	if t, _ := c.tokens.current(); t.Value != "" {
		secrets = append(secrets[:len(secrets):len(secrets)], t.secret())
	}
	for _, s := range secrets {
		if len(s) >= 4 { // a shorter one stands in any text
			text = strings.ReplaceAll(text, s, "(sensitive)")
		}
	}
	var b strings.Builder
	blank := false
	for _, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			blank = b.Len() > 0
			continue
		}
		if blank {
			b.WriteByte(' ')
			blank = false
		}
		if b.Len()+utf8.RuneLen(r) > maxWords {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// withoutTags drops tags, comments, scripts and styles. It is for reading an error page, not for making one safe.
func withoutTags(text string) string {
	low := strings.Map(func(r rune) rune { // byte by byte the same length, unlike strings.ToLower
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
	var b strings.Builder
	for at := 0; at < len(text); {
		tag := strings.IndexByte(text[at:], '<')
		if tag < 0 {
			b.WriteString(text[at:])
			break
		}
		b.WriteString(text[at : at+tag])
		b.WriteByte(' ')
		at += tag
		end := ">"
		for _, skip := range []struct{ start, end string }{
			{"<!--", "-->"}, {"<script", "</script>"}, {"<style", "</style>"},
		} {
			if strings.HasPrefix(low[at:], skip.start) {
				end = skip.end
			}
		}
		stop := strings.Index(low[at:], end)
		if stop < 0 {
			break
		}
		at += stop + len(end)
	}
	return html.UnescapeString(b.String())
}
