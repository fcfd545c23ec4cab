// Leaky is a sink that tells its secrets in every way that a plugin has to tell something.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

type account struct {
	User     string     `json:"user,omitempty"`
	Password sdk.Secret `json:"password"`
}

type config struct {
	Token    sdk.Secret            `json:"token"`
	Keys     []sdk.Secret          `json:"keys,omitempty"`
	ByName   map[string]sdk.Secret `json:"by_name,omitempty"`
	Account  *account              `json:"account,omitempty"`
	Accounts []account             `json:"accounts,omitempty"`
	Label    string                `json:"label,omitempty"` // not declared sensitive, but may be given sensitive()
	Refuse   bool                  `json:"refuse,omitempty"`
}

type message struct {
	Do string `json:"do,omitempty"`
}

// tell is all secrets in all spellings.
func (c *config) tell() string {
	secrets := []string{c.Token.Reveal(), c.Label}
	for _, k := range c.Keys {
		secrets = append(secrets, k.Reveal())
	}
	for _, k := range c.ByName {
		secrets = append(secrets, k.Reveal())
	}
	if c.Account != nil {
		secrets = append(secrets, c.Account.Password.Reveal())
	}
	for _, a := range c.Accounts {
		secrets = append(secrets, a.Password.Reveal())
	}
	var all []string
	for _, s := range secrets {
		all = append(all, s, base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
			url.QueryEscape(s), fmt.Sprintf("%q", s))
	}
	return strings.Join(all, " ; ")
}

// Validate implements sdk.Validator.
func (c *config) Validate() error {
	if c.Refuse {
		return &sdk.AttributeError{Path: []string{"token"}, Summary: "not a token: " + c.tell(), Detail: c.tell()}
	}
	return nil
}

type sink struct{ cfg config }

func (s *sink) Deliver(ctx context.Context, d *sdk.Delivery[message]) error {
	words := s.cfg.tell()
	fmt.Fprintln(os.Stderr, "plain:", words)
	token := s.cfg.Token.Reveal()
	fmt.Fprintf(os.Stderr, `{"@level":"info","@message":"json: %s","token":"%s"}`+"\n", token, token)
	slog.InfoContext(ctx, "slog: "+words, "token", token, token, "key")
	d.Note("note: " + words)
	d.SetState([]byte(token))
	switch d.Message.Do {
	case "retry":
		return errors.New("retry: " + words)
	case "reject":
		return sdk.Reject(errors.New("reject: "+words), "do", token)
	case "skip":
		return sdk.Skip("skip: " + words)
	case "suspend":
		return sdk.Suspend(errors.New("suspend: " + words))
	case "panic":
		panic("panic: " + words)
	case "crash":
		go panic("crash: " + words) // a panic in Deliver itself would not end the process
		select {}
	}
	d.SetReference("reference: " + words)
	return nil
}

// Check implements sdk.Checker.
func (s *sink) Check(context.Context) error { return errors.New("check: " + s.cfg.tell()) }

func open(_ context.Context, cfg config) (sdk.Sink[message], error) {
	fmt.Fprintln(os.Stderr, "open:", cfg.tell())
	return &sink{cfg}, nil
}

func main() {
	serve.Main(sdk.NewSink(sdk.SinkInfo{Name: "leaky", Description: "Tells its secrets.", State: true}, open))
}
