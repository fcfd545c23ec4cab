package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/hubspot"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/rest"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/salesforce"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

// Config is the sink's block.
type Config struct {
	Dialect     string     `json:"dialect" enum:"hubspot|salesforce|rest" doc:"What kind of CRM it is."`
	BaseURL     string     `json:"base_url,omitempty" doc:"Address of the CRM's API, https (rest: http as well). hubspot: https://api.hubapi.com if left out; salesforce: the My Domain address."`
	APIVersion  string     `json:"api_version,omitempty" doc:"hubspot: v3 if left out, or a dated one such as 2026-03. salesforce: 62.0 if left out."`
	Token       sdk.Secret `json:"token,omitempty" doc:"A token that does not change by itself, sent with every request."`
	TokenHeader string     `json:"token_header,omitempty" default:"Authorization" doc:"The header that carries the token."`
	TokenPrefix string     `json:"token_prefix,omitempty" default:"Bearer " doc:"What stands before the token in it."`
	OAuth       *crm.OAuth `json:"oauth,omitempty" doc:"Login with OAuth 2.0, in place of a token."`

	Stale         string        `json:"stale,omitempty" default:"skip" enum:"skip|apply" doc:"What becomes of an event that is older than what the record has."`
	Unknown       string        `json:"unknown,omitempty" default:"suspend" enum:"suspend|reject" doc:"What becomes of a message that names a field or type of records which the CRM does not know: the sink waits until someone acts, or the message is a dead letter."`
	AllowEmailKey bool          `json:"allow_email_key,omitempty" default:"false" doc:"Accept e-mail addresses as keys."`
	Timeout       time.Duration `json:"timeout,omitempty" default:"20s" doc:"Of one request, at least 1s. It is never longer than the call has left."`

	Rest *rest.Config `json:"rest,omitempty" doc:"The steps of the dialect rest."`
}

// Validate implements sdk.Validator.
func (c *Config) Validate() error {
	var errs []error
	bad := func(summary, detail string, path ...string) {
		errs = append(errs, &sdk.AttributeError{Path: path, Summary: summary, Detail: detail})
	}
	if c.BaseURL == "" && c.Dialect != "hubspot" {
		bad("is missing", fmt.Sprintf("The dialect %s has no address of its own.", c.Dialect), "base_url")
	}
	if c.BaseURL != "" {
		u, err := crm.ParseBaseURL(c.BaseURL)
		switch {
		case err != nil:
			bad(err.Error(), "", "base_url")
		case c.Dialect != "rest" && u.Scheme != "https" && !crm.IsLoopback(u):
			bad("must be https: the token goes there", "", "base_url")
		}
	}
	var err error
	switch c.Dialect {
	case "hubspot":
		err = hubspot.CheckVersion(c.APIVersion)
	case "salesforce":
		err = salesforce.CheckVersion(c.APIVersion)
	default:
		if c.APIVersion != "" {
			err = errors.New("is of no use with the dialect rest: the version is part of its paths")
		}
	}
	if err != nil {
		bad(err.Error(), "", "api_version")
	}
	if c.Timeout < time.Second {
		bad("must be at least 1s", "", "timeout")
	}
	if !headerName.MatchString(c.TokenHeader) {
		bad("not the name of a header", "", "token_header")
	}
	if strings.ContainsFunc(c.TokenPrefix+c.Token.Reveal(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		bad("holds a line break or another control character", "A file's text ends with one: trimspace() drops it.", "token")
	}
	switch {
	case c.OAuth != nil && !c.Token.IsZero():
		bad("is given beside token", "Write one of them.", "oauth")
	case c.OAuth != nil:
		if c.Dialect != "salesforce" && c.OAuth.TokenURL == "" {
			bad("is missing", "Only for the dialect salesforce it follows from base_url.", "oauth", "token_url")
		}
		if c.Dialect != "salesforce" && c.OAuth.Audience == "" && !c.OAuth.PrivateKey.IsZero() {
			bad("is missing", "The JWT bearer grant says who is to accept its assertion.", "oauth", "audience")
		}
		errs = append(errs, c.OAuth.Validate())
	case c.Token.IsZero() && c.Dialect != "rest":
		bad("is missing", "Write token, or a block oauth.", "token")
	}
	switch {
	case c.Dialect == "rest" && c.Rest == nil:
		bad("is missing", "The dialect rest needs its steps.", "rest")
	case c.Dialect != "rest" && c.Rest != nil:
		bad("is of no use here", `It belongs to dialect = "rest".`, "rest")
	case c.Rest != nil:
		errs = append(errs, c.Rest.Validate())
		if c.Rest.Login != nil && (c.OAuth != nil || !c.Token.IsZero()) {
			bad("is given beside token or oauth", "Write one of them.", "rest", "login")
		}
	}
	return errors.Join(errs...)
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// options are those of the client, for a validated configuration.
func (c *Config) options() (crm.Options, error) {
	o := crm.Options{
		BaseURL: c.BaseURL, Agent: "grapnel-sink-crm/" + serve.Version(), Timeout: c.Timeout,
		RejectUnknown: c.Unknown == "reject",
	}
	switch {
	case !c.Token.IsZero():
		o.Login = crm.StaticToken(c.TokenHeader, c.TokenPrefix, c.Token)
		o.Secrets = []string{c.Token.Reveal()}
	case c.OAuth != nil:
		oauth := *c.OAuth
		if c.Dialect == "salesforce" {
			u, err := crm.ParseBaseURL(c.BaseURL)
			if err != nil {
				return o, err
			}
			oauth.TokenURL = cmp.Or(oauth.TokenURL, u.String()+"/services/oauth2/token")
			oauth.Audience = cmp.Or(oauth.Audience, salesforce.Audience(u.Hostname()))
		}
		login, err := oauth.Login()
		if err != nil {
			return o, err
		}
		o.Login, o.Secrets = login, oauth.Secrets()
	}
	return o, nil
}

// factory makes the plugin.
func factory() *sdk.SinkFactory {
	info := sdk.SinkInfo{
		Name:        "crm",
		Description: "Keeps the records of a CRM as events say: HubSpot, Salesforce, or any JSON API by declared steps.",
		State:       true,
		MaxBatch:    200,
	}
	return sdk.NewBatchSink(info, open)
}

func open(_ context.Context, cfg Config) (sdk.BatchSink[Message], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	var dialect crm.Dialect
	switch cfg.Dialect {
	case "hubspot":
		dialect, err = hubspot.New(cfg.APIVersion, options)
	case "salesforce":
		dialect, err = salesforce.New(cfg.APIVersion, options)
	default:
		dialect, err = rest.New(cfg.Rest, options)
	}
	if err != nil {
		return nil, err
	}
	return &sink{cfg: cfg, dialect: dialect, maxBatch: dialect.MaxBatch()}, nil
}

// sink is one configured block.
type sink struct {
	cfg      Config
	dialect  crm.Dialect
	maxBatch int
}
