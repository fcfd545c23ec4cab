// Package salesforce is the dialect for Salesforce.
package salesforce

import (
	"errors"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
)

// New makes the dialect.
func New(options crm.Options) (crm.Dialect, error) {
	return nil, errors.New("the dialect salesforce is not there yet")
}
