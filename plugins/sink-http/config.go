package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/grapnelhq/grapnel/sdk"
)

// The modes: how an event becomes a request.
const (
	modeStructured = "structured"
	modeBinary     = "binary"
	modeBatch      = "batch"
	modeRaw        = "raw"
)

// maxBatch is the most events of a request in mode batch.
const maxBatch = 100

// Config is the sink's block.
type Config struct {
	URL         string `json:"url" doc:"Where to send, http or https. Routes can only add to it."`
	Mode        string `json:"mode,omitempty" enum:"structured|binary|batch|raw" default:"structured" doc:"How an event becomes a request; see below."`
	Method      string `json:"method,omitempty" enum:"POST|PUT|PATCH|DELETE|GET" default:"POST" doc:"DELETE and GET only in mode raw."`
	ContentType string `json:"content_type,omitempty" default:"application/json" doc:"Mode raw: type of the body; see below for those that are not JSON."`

	Headers       map[string]string     `json:"headers,omitempty" doc:"Headers of every request."`
	SecretHeaders map[string]sdk.Secret `json:"secret_headers,omitempty" doc:"Likewise, for those that hold a credential, such as an API key."`
	IDHeader      string                `json:"id_header,omitempty" doc:"One more header for the delivery's id, such as Idempotency-Key."`
	BearerToken   sdk.Secret            `json:"bearer_token,omitempty" doc:"Token of the Authorization header."`
	Basic         *Basic                `json:"basic" doc:"User name and password of the Authorization header."`
	OAuth         *OAuth                `json:"oauth" doc:"OAuth 2.0 client credentials: the sink gets and renews a bearer token itself."`
	Signing       *Signing              `json:"signing" doc:"Signatures of Standard Webhooks."`

	TLS             *TLS          `json:"tls" doc:"Certificates, where those of the system are not enough."`
	Proxy           sdk.Secret    `json:"proxy,omitempty" doc:"Proxy for all connections: http, https or socks5, with user and password if it asks for them."`
	AllowPrivate    bool          `json:"allow_private,omitempty" default:"false" doc:"Connect to private, loopback, link-local and other addresses that are not public, too."`
	FollowRedirects bool          `json:"follow_redirects,omitempty" default:"false" doc:"Follow 307 and 308 within the scheme, host and port of url. No other redirect is ever followed."`
	Timeout         time.Duration `json:"timeout,omitempty" default:"20s" doc:"Of one request, at most that of the call (delivery.timeout)."`
	MaxBytes        int           `json:"max_bytes,omitempty" default:"1048576" doc:"Longest body to send. An event that needs more is a dead letter."`

	Status          *Status          `json:"status" doc:"What answers mean, where that is not as below."`
	AbuseProtection *AbuseProtection `json:"abuse_protection" doc:"Ask the endpoint for its consent first, as CloudEvents' web hooks have it."`
}

// Basic is a login with a password.
type Basic struct {
	Username string     `json:"username"`
	Password sdk.Secret `json:"password"`
}

// OAuth is a login with OAuth 2.0 client credentials (RFC 6749, section 4.4).
type OAuth struct {
	TokenURL      string            `json:"token_url" doc:"Where tokens are issued."`
	ClientID      string            `json:"client_id"`
	ClientSecret  sdk.Secret        `json:"client_secret"`
	Scopes        []string          `json:"scopes,omitempty" doc:"Scopes to ask for."`
	Parameters    map[string]string `json:"parameters,omitempty" doc:"More parameters of the token request, such as audience."`
	CredentialsIn string            `json:"credentials_in,omitempty" enum:"header|body" default:"header" doc:"Where the token request has id and secret."`
}

// Signing says how requests are signed.
type Signing struct {
	Keys []*sdk.Secret `json:"keys" doc:"whsec_… (HMAC, v1) or whsk_… (ed25519, v1a). Each signs every request; nulls are dropped."`
}

// TLS says whom to trust and who the sink is.
type TLS struct {
	CA         string `json:"ca,omitempty" format:"path" doc:"Authorities to trust instead of the system's, PEM."`
	Cert       string `json:"cert,omitempty" format:"path" doc:"The sink's own certificate, PEM. It is read for every connection, so it can be renewed."`
	Key        string `json:"key,omitempty" format:"path" doc:"Its key, PEM."`
	ServerName string `json:"server_name,omitempty" doc:"Name in the endpoint's certificate, where it is not that of url."`
}

// Status says what answers mean.
type Status struct {
	Success []string `json:"success,omitempty" doc:"Delivered. Statuses and classes: 200, 2xx."`
	Retry   []string `json:"retry,omitempty" doc:"Try again later."`
	Reject  []string `json:"reject,omitempty" doc:"This event never gets in: a dead letter."`
	Suspend []string `json:"suspend,omitempty" doc:"No event gets in until someone acts: the sink is suspended."`
}

// AbuseProtection says who asks for consent.
type AbuseProtection struct {
	Origin string `json:"origin" doc:"DNS name of the system that sends."`
	Rate   int    `json:"rate,omitempty" doc:"Requests per minute to ask for."`
}

// Message is what a route says to this sink.
type Message struct {
	Body    json.RawMessage   `json:"body,omitempty" doc:"What to send instead of the event's data, any value. Null is as if left out."`
	Path    string            `json:"path,omitempty" escape:"url" doc:"Appended to the path of url; a query may follow."`
	Method  string            `json:"method,omitempty" enum:"POST|PUT|PATCH|DELETE|GET" doc:"Instead of the configured one."`
	Headers map[string]string `json:"headers,omitempty" doc:"Over the configured ones."`
}

// MaxBatch implements sdk.Batcher: only mode batch takes more than one delivery per call, so that elsewhere a slow
// answer holds nobody else back.
func (c *Config) MaxBatch() int {
	if c.Mode == modeBatch {
		return maxBatch
	}
	return 1
}

// Validate implements sdk.Validator.
func (c *Config) Validate() error {
	_, err := c.settings()
	return err
}

// settings are a configuration's parts in the form that requests need.
type settings struct {
	url     *url.URL
	header  http.Header // of every request
	secrets []string    // what no error may show
	address []string    // path and query of url, which an endpoint's words may not show
	signers []signer
	classes classes
	proxy   *url.URL // nil: none
}

// problems collects attribute errors.
type problems []error

func (p *problems) add(path []string, detail, format string, args ...any) {
	*p = append(*p, &sdk.AttributeError{Path: path, Summary: fmt.Sprintf(format, args...), Detail: detail})
}

func at(path ...string) []string { return path }

func (c *Config) settings() (*settings, error) {
	var p problems
	s := &settings{}
	s.url = c.address(&p, at("url"), c.URL)
	if !hasBody(c.Method) && c.Mode != modeRaw {
		p.add(at("method"), "Only mode \"raw\" can send it.", "%s has no body that could hold an event", c.Method)
	}
	c.checkContentType(&p)
	if c.Timeout < 10*time.Millisecond || c.Timeout > time.Hour {
		p.add(at("timeout"), "", "must be from 10ms to 1h")
	}
	if c.MaxBytes < 1<<10 || c.MaxBytes > 32<<20 {
		p.add(at("max_bytes"), "", "must be from 1024 to 33554432")
	}
	s.header = c.checkHeaders(&p, s.url)
	s.signers = c.checkKeys(&p)
	s.classes = c.checkStatus(&p)
	s.proxy = c.checkProxy(&p)
	if t := c.TLS; t != nil {
		if t.Cert != "" && t.Key == "" {
			p.add(at("tls", "cert"), "", "needs a key beside it")
		}
		if t.Key != "" && t.Cert == "" {
			p.add(at("tls", "key"), "", "needs a cert beside it")
		}
	}
	if a := c.AbuseProtection; a != nil {
		if a.Origin == "" || !httpguts.ValidHeaderFieldValue(a.Origin) || strings.ContainsAny(a.Origin, " /:") {
			p.add(at("abuse_protection", "origin"), `Write it like "hooks.example.com".`, "is not a DNS name")
		}
		if a.Rate < 0 {
			p.add(at("abuse_protection", "rate"), "", "must not be negative")
		}
	}
	s.secrets, s.address = c.secretTexts(s.url), addressTexts(s.url)
	return s, errors.Join(p...)
}

// address checks an address that the sink sends to.
func (c *Config) address(p *problems, path []string, text string) *url.URL {
	u, err := url.Parse(text)
	const example = `Write it like "https://example.com/hooks".`
	switch {
	case err != nil: // the error would show the address, which may hold a key
		p.add(path, example, "is not an address")
		return nil
	case u.Scheme != "http" && u.Scheme != "https":
		p.add(path, example, "must start with https:// or http://")
		return nil
	case u.Hostname() == "" || u.Opaque != "":
		p.add(path, example, "has no host")
		return nil
	case u.User != nil:
		p.add(path, "Write a block basic { username, password } instead.", "must not hold a user name or password")
	case u.Fragment != "":
		p.add(path, "", "must not have a fragment (#…)")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			p.add(path, "", "has a port that is none")
		}
	}
	if why := literalRefusal(u.Hostname()); why != "" && !c.AllowPrivate {
		p.add(path, "If the sink is to connect to it, write allow_private = true.", "leads to %s", why)
	}
	return u
}

// literalRefusal says what is not public about a host that is written as an address, or as this machine's name.
func literalRefusal(host string) string {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return "this machine itself"
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if kind := notPublic(ip); kind != "" {
			return "the " + kind + " address " + ip.String()
		}
	}
	return ""
}

func hasBody(method string) bool { return method != http.MethodDelete && method != http.MethodGet }

func (c *Config) checkContentType(p *problems) {
	if c.ContentType == jsonType {
		return
	}
	if c.Mode != modeRaw {
		p.add(at("content_type"), "It belongs to mode \"raw\"; leave it out.", "is given by the mode %q", c.Mode)
	}
	if _, _, err := mime.ParseMediaType(c.ContentType); err != nil || !httpguts.ValidHeaderFieldValue(c.ContentType) {
		p.add(at("content_type"), `Write it like "application/xml; charset=utf-8".`, "is not a media type")
	}
}

// ownHeader says whose a header is that neither the configuration nor a route may set, or "".
func ownHeader(name string) string {
	switch name = http.CanonicalHeaderKey(name); name {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
		"Upgrade", "Expect", "Proxy-Authorization", "Proxy-Authenticate":
		return "HTTP itself"
	case "Content-Type":
		return "content_type and the mode"
	case "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature":
		return "signing"
	case "Webhook-Request-Origin", "Webhook-Request-Rate":
		return "abuse_protection"
	}
	if strings.HasPrefix(name, "Ce-") {
		return "the event"
	}
	return ""
}

// checkHeaders makes the headers of every request, the token of OAuth aside.
func (c *Config) checkHeaders(p *problems, u *url.URL) http.Header {
	h := http.Header{"User-Agent": {userAgent()}}
	set := map[string]bool{}
	check := func(path []string, name, value string) {
		canonical := http.CanonicalHeaderKey(name)
		switch owner := ownHeader(name); {
		case !httpguts.ValidHeaderFieldName(name):
			p.add(path, "", "is not the name of a header")
		case owner != "":
			p.add(path, "", "cannot be set: the header belongs to %s", owner)
		case set[canonical]:
			p.add(path, "", "is given twice")
		case !httpguts.ValidHeaderFieldValue(value):
			p.add(path, "", "has a value with control characters")
		default:
			set[canonical] = true
			h[canonical] = []string{value}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if holdsCredential(name) {
			p.add(at("headers", name), "Write it in secret_headers, which keeps it out of logs and errors.",
				"holds a credential")
			continue
		}
		check(at("headers", name), name, c.Headers[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.SecretHeaders)) {
		check(at("secret_headers", name), name, c.SecretHeaders[name].Reveal())
	}
	if c.IDHeader != "" {
		check(at("id_header"), c.IDHeader, "")
		delete(h, http.CanonicalHeaderKey(c.IDHeader))
	}
	var logins []string
	login := func(attribute, value string) {
		logins = append(logins, attribute)
		if len(logins) > 1 {
			p.add(at(attribute), "Keep one of them.", "cannot stand beside %s", logins[0])
			return
		}
		if value != "" {
			h["Authorization"] = []string{value}
		}
	}
	if set["Authorization"] {
		logins = append(logins, "secret_headers.Authorization")
	}
	if !c.BearerToken.IsZero() {
		token := c.BearerToken.Reveal()
		if !httpguts.ValidHeaderFieldValue(token) || strings.ContainsAny(token, " \t") {
			p.add(at("bearer_token"), "Write the token without the word Bearer, and mind the line break at the end of a file.",
				"holds white space or control characters")
		}
		login("bearer_token", "Bearer "+token)
	}
	if b := c.Basic; b != nil {
		if strings.Contains(b.Username, ":") {
			p.add(at("basic", "username"), "", "must not hold a colon")
		}
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(b.Username, b.Password.Reveal())
		login("basic", r.Header.Get("Authorization"))
	}
	if o := c.OAuth; o != nil {
		token := c.address(p, at("oauth", "token_url"), o.TokenURL)
		if token != nil && token.Scheme != "https" && !c.AllowPrivate {
			p.add(at("oauth", "token_url"), "", "must be https: the secret goes there")
		}
		for name, value := range map[string]string{"client_id": o.ClientID, "client_secret": o.ClientSecret.Reveal()} {
			if value == "" {
				p.add(at("oauth", name), "", "must not be empty")
			}
		}
		login("oauth", "")
	}
	if u != nil && u.Scheme == "http" && !c.AllowPrivate && literalRefusal(u.Hostname()) == "" &&
		len(logins)+len(c.SecretHeaders) > 0 {
		p.add(at("url"), "If the endpoint is in a network of your own, write allow_private = true.",
			"must be https: credentials would go over the internet in clear")
	}
	if c.AbuseProtection != nil {
		h["Webhook-Request-Origin"] = []string{c.AbuseProtection.Origin}
	}
	return h
}

// holdsCredential reports whether a header is there to hold a credential.
func holdsCredential(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Authorization", "Cookie", "X-Api-Key", "Api-Key":
		return true
	}
	return false
}

func (c *Config) checkKeys(p *problems) []signer {
	if c.Signing == nil {
		return nil
	}
	var all []signer
	given := 0
	for i, key := range c.Signing.Keys {
		if key == nil {
			continue
		}
		given++
		s, err := newSigner(key.Reveal())
		if err != nil {
			p.add(at("signing", "keys", strconv.Itoa(i)), "A key is whsec_ and 24 to 64 bytes in base64, or whsk_ and an "+
				"ed25519 key of 32 or 64 bytes in base64.", "%v", err)
			continue
		}
		all = append(all, s)
	}
	if given == 0 {
		p.add(at("signing", "keys"), "", "must hold at least one key")
	}
	return all
}

func (c *Config) checkProxy(p *problems) *url.URL {
	if c.Proxy.IsZero() {
		return nil
	}
	u, err := url.Parse(c.Proxy.Reveal())
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		p.add(at("proxy"), `Write it like "http://proxy.example.com:3128".`, "is not the address of a proxy")
		return nil
	}
	return u
}

// secretTexts are what no error may show: secrets, and how they are written in requests, which an endpoint may repeat.
func (c *Config) secretTexts(u *url.URL) []string {
	all := []string{c.BearerToken.Reveal(), c.Proxy.Reveal()}
	for _, s := range c.SecretHeaders {
		all = append(all, s.Reveal())
	}
	if b := c.Basic; b != nil {
		all = append(all, b.Password.Reveal(), basicText(b.Username, b.Password.Reveal()))
	}
	if o := c.OAuth; o != nil {
		secret := url.QueryEscape(o.ClientSecret.Reveal())
		all = append(all, o.ClientSecret.Reveal(), secret, basicText(url.QueryEscape(o.ClientID), secret))
	}
	if c.Signing != nil {
		for _, s := range c.Signing.Keys {
			if s != nil {
				all = append(all, s.Reveal())
			}
		}
	}
	if p, err := url.Parse(c.Proxy.Reveal()); err == nil && p.User != nil {
		password, _ := p.User.Password()
		all = append(all, password, basicText(p.User.Username(), password))
	}
	if u != nil {
		all = append(all, keysIn(u)...)
	}
	return worthHiding(all)
}

// worthHiding leaves texts that do not stand in any other text, longest first.
func worthHiding(texts []string) []string {
	texts = slices.DeleteFunc(texts, func(s string) bool { return len(s) < 4 })
	slices.SortFunc(texts, func(a, b string) int { return len(b) - len(a) })
	return texts
}

// basicText is what stands for a user and a password in a header, without the = at its end.
func basicText(user, password string) string {
	return base64.RawStdEncoding.EncodeToString([]byte(user + ":" + password))
}

// keysIn are the parts of an address that look like keys: long parts of the path, and values of the query.
func keysIn(u *url.URL) (keys []string) {
	const longPart, longValue = 16, 8
	for part := range strings.SplitSeq(u.EscapedPath(), "/") {
		if len(part) >= longPart {
			plain, _ := url.PathUnescape(part)
			keys = append(keys, part, plain)
		}
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if _, value, _ := strings.Cut(pair, "="); len(value) >= longValue {
			plain, _ := url.QueryUnescape(value)
			keys = append(keys, value, plain)
		}
	}
	return keys
}

// addressTexts are the path and the query of an address, as an endpoint may repeat them.
func addressTexts(u *url.URL) []string {
	if u == nil {
		return nil
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	plain := strings.TrimSuffix(u.Path, "/")
	return worthHiding([]string{path, plain, strings.ReplaceAll(path, "/", `\/`), u.RawQuery})
}
