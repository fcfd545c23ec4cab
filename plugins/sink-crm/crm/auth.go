package crm

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// Token is what proves who is asking: a header line for every request.
type Token struct {
	Name, Value string    // of the header; Value is secret
	Base        *url.URL  // where requests go, if the login says so; else the client's base address
	Expires     time.Time // zero: when the far end refuses it
}

// secret is the part of the value that must not show.
func (t Token) secret() string {
	if _, after, ok := strings.Cut(t.Value, " "); ok {
		return after
	}
	return t.Value
}

// Login obtains a token. The client calls it when it has none, one call at a time, and again after the far end has refused
// the token. Its requests go through c with Anonymous set. An error is an outcome: sdk.Suspend when somebody has to act
// (wrong or revoked credentials), else a retry.
type Login func(ctx context.Context, c *Client) (Token, error)

// StaticToken is a login that always gives the same header, such as "Authorization: Bearer …".
func StaticToken(header, prefix string, token sdk.Secret) Login {
	return func(context.Context, *Client) (Token, error) {
		return Token{Name: header, Value: prefix + token.Reveal()}, nil
	}
}

// tokens keeps a client's current token.
type tokens struct {
	login Login
	turn  chan struct{} // one login at a time; a channel, so that waiting for it ends with ctx

	mu    sync.Mutex
	token Token
	has   bool
}

func (t *tokens) current() (Token, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const early = 10 * time.Second // before its end, a token is as good as ended
	return t.token, t.has && (t.token.Expires.IsZero() || time.Until(t.token.Expires) > early)
}

func (t *tokens) keep(token Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.has = token, true
}

// drop forgets a token that was refused, unless somebody has obtained another one since.
func (t *tokens) drop(refused Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == refused {
		t.has = false
	}
}

// token returns the current token, or obtains one.
func (c *Client) token(ctx context.Context) (Token, error) {
	t := &c.tokens
	if t.login == nil {
		return Token{}, nil
	}
	if token, ok := t.current(); ok {
		return token, nil
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return Token{}, errors.New("the login takes too long")
	}
	defer func() { <-t.turn }()
	if token, ok := t.current(); ok { // who had the turn before
		return token, nil
	}
	token, err := t.login(ctx, c)
	if err != nil {
		return Token{}, err
	}
	t.keep(token)
	return token, nil
}
