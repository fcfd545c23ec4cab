package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/grapnelhq/grapnel/sdk"
)

// token is a bearer token as it stands in a request.
type token struct {
	value   string // of the Authorization header
	secret  string
	expires time.Time // zero: unknown
}

// tokens keeps the sink's token and has one goroutine at a time get a new one.
type tokens struct {
	config clientcredentials.Config
	client *http.Client
	turn   chan struct{} // held by who gets a token
	clean  func(string) string

	mu      sync.Mutex
	current *token
}

func newTokens(o *OAuth, transport http.RoundTripper, timeout time.Duration, clean func(string) string) *tokens {
	t := &tokens{
		config: clientcredentials.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret.Reveal(), TokenURL: o.TokenURL, Scopes: o.Scopes,
			AuthStyle: oauth2.AuthStyleInHeader, EndpointParams: url.Values{},
		},
		client: &http.Client{
			Transport: transport, Timeout: timeout,
			// The secret goes nowhere but where it was meant to.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		turn: make(chan struct{}, 1), clean: clean,
	}
	if o.CredentialsIn == "body" {
		t.config.AuthStyle = oauth2.AuthStyleInParams
	}
	for name, value := range o.Parameters {
		t.config.EndpointParams.Set(name, value)
	}
	return t
}

// early is how long before its end a token is not used any more.
const early = 10 * time.Second

// valid is the current token, if it is good for some more time.
func (t *tokens) valid() *token {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.current; c != nil && (c.expires.IsZero() || time.Until(c.expires) > early) {
		return c
	}
	return nil
}

// secret is the current token's text, or nothing.
func (t *tokens) secret() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		return ""
	}
	return t.current.secret
}

// drop forgets a token that was refused, unless there is a newer one by now.
func (t *tokens) drop(refused *token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == refused {
		t.current = nil
	}
}

// get returns a token. It blocks while one is being got, at most until ctx ends. Its errors say themselves what they
// mean, in an outcomeError, or are those of a connection.
func (t *tokens) get(ctx context.Context) (*token, error) {
	if c := t.valid(); c != nil {
		return c, nil
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := t.valid(); c != nil { // somebody else got it
		return c, nil
	}
	got, err := t.config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	if err != nil {
		return nil, t.failure(err)
	}
	if got.AccessToken == "" {
		return nil, &outcomeError{errors.New("the token address answers without a token")}
	}
	c := &token{value: got.Type() + " " + got.AccessToken, secret: got.AccessToken, expires: got.Expiry}
	t.mu.Lock()
	t.current = c
	t.mu.Unlock()
	return c, nil
}

// failure says what it means that there is no token.
func (t *tokens) failure(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		var ue *url.Error
		if errors.As(err, &ue) { // without the address
			err = ue.Err
		}
		return fmt.Errorf("token: %w", err)
	}
	status := 0
	header := http.Header{}
	if refused.Response != nil {
		status, header = refused.Response.StatusCode, refused.Response.Header
	}
	words := refused.ErrorCode
	if refused.ErrorDescription != "" {
		words += ": " + refused.ErrorDescription
	}
	why := fmt.Errorf("no token: the token address answers %s: %s", statusText(status), t.clean(words))
	switch {
	case status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		if after, ok := retryAfter(header, time.Now()); ok {
			return &outcomeError{sdk.RetryAfter(why, after)}
		}
		return &outcomeError{why}
	}
	return &outcomeError{sdk.Suspend(why)}
}
