package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/hubspot"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/rest"
	"github.com/grapnelhq/grapnel/plugins/sink-crm/salesforce"
	"github.com/grapnelhq/grapnel/sdk"
)

// Config is the sink's block.
type Config struct {
	Dialect     string     `json:"dialect" enum:"hubspot|salesforce|rest" doc:"What kind of CRM it is."`
	BaseURL     string     `json:"base_url,omitempty" doc:"Address of the CRM's API. Default for hubspot: https://api.hubapi.com."`
	APIVersion  string     `json:"api_version,omitempty" doc:"hubspot: \"v3\" (default) or a date such as \"2026-03\"; salesforce: \"62.0\" (default)."`
	Token       sdk.Secret `json:"token,omitempty" doc:"A token that does not change by itself, sent with every request."`
	TokenHeader string     `json:"token_header,omitempty" default:"Authorization" doc:"The header that carries token."`
	TokenPrefix string     `json:"token_prefix,omitempty" default:"Bearer " doc:"What stands before token in it."`
	OAuth       *crm.OAuth `json:"oauth,omitempty" doc:"Login with OAuth 2.0 instead of token."`

	Stale         string        `json:"stale,omitempty" default:"skip" enum:"skip|apply" doc:"What to do with an event older than what the record has."`
	UnknownField  string        `json:"unknown_field,omitempty" default:"suspend" enum:"suspend|reject" doc:"What to do when the CRM does not know a field."`
	AllowEmailKey bool          `json:"allow_email_key,omitempty" doc:"Accept e-mail addresses as keys."`
	Timeout       time.Duration `json:"timeout,omitempty" default:"20s" doc:"Of one request; never longer than the call has left."`

	Rest *rest.Config `json:"rest,omitempty" doc:"The steps of the dialect rest."`
}

// Validate implements sdk.Validator.
func (c *Config) Validate() error {
	var errs []error
	bad := func(name, summary, detail string) {
		errs = append(errs, &sdk.AttributeError{Path: []string{name}, Summary: summary, Detail: detail})
	}
	if c.BaseURL == "" && c.Dialect != "hubspot" {
		bad("base_url", "is missing", fmt.Sprintf("The dialect %s has no address of its own.", c.Dialect))
	}
	if c.BaseURL != "" {
		u, err := crm.ParseBaseURL(c.BaseURL)
		switch {
		case err != nil:
			bad("base_url", err.Error(), "")
		case c.Dialect != "rest" && u.Scheme != "https" && !crm.IsLoopback(u):
			bad("base_url", "must be https", "")
		}
	}
	if c.OAuth != nil && !c.Token.IsZero() {
		bad("oauth", "is given beside token", "Write one of them.")
	}
	if c.Timeout < time.Second {
		bad("timeout", "must be at least 1s", "")
	}
	if c.OAuth != nil {
		errs = append(errs, c.OAuth.Validate())
	}
	switch {
	case c.Dialect == "rest" && c.Rest == nil:
		bad("rest", "is missing", "The dialect rest needs its steps.")
	case c.Dialect != "rest" && c.Rest != nil:
		bad("rest", "is of no use here", `It belongs to dialect = "rest".`)
	case c.Rest != nil:
		errs = append(errs, c.Rest.Validate())
	}
	return errors.Join(errs...)
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
	options := crm.Options{BaseURL: cfg.BaseURL, Timeout: cfg.Timeout}
	if !cfg.Token.IsZero() {
		options.Login = crm.StaticToken(cfg.TokenHeader, cfg.TokenPrefix, cfg.Token)
		options.Secrets = []string{cfg.Token.Reveal()}
	}
	var dialect crm.Dialect
	var err error
	switch cfg.Dialect {
	case "hubspot":
		dialect, err = hubspot.New(options)
	case "salesforce":
		dialect, err = salesforce.New(options)
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
