// Package hubspot is the dialect for Hubspot.
package hubspot

import (
	"errors"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
)

// New makes the dialect.
func New(options crm.Options) (crm.Dialect, error) {
	return nil, errors.New("the dialect hubspot is not there yet")
}
