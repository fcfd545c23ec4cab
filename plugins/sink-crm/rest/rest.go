// Package rest is the dialect for any CRM with a JSON API, by steps that the configuration declares: login, lookup, create,
// update, archive.
package rest

import (
	"errors"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
)

// Config is the block rest of the sink.
type Config struct{}

// Validate checks what a schema cannot say. Its errors are sdk.AttributeErrors with paths that start with "rest".
func (c *Config) Validate() error { return nil }

// New makes the dialect. options hold the address, the login of the sink's own attributes (token, oauth; nil where they
// are not given) and the secrets that no error may show; New sets what the steps need (a Login of their own, Refused) and
// makes the client. It reaches nothing.
func New(c *Config, options crm.Options) (crm.Dialect, error) {
	return nil, errors.New("the dialect rest is not there yet")
}
