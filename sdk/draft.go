package sdk

import (
	"encoding/json"
	"reflect"
	"slices"
)

// MessageValidator is implemented by the configuration type of a sink (on the value or the pointer) that can tell of some
// messages that it will reject them whatever the event: a text is missing, or an attribute is of no use with this
// configuration. ValidateMessage is called for each route to the sink when a host's configuration is checked, on a
// configuration that Validator has found good. It opens and dials nothing. AttributeErrors in its error, joined or
// wrapped, are reported at their line of the route. What it lets pass may still be rejected for an event.
type MessageValidator[M any] interface {
	ValidateMessage(d *Draft[M]) error
}

// Draft is a message as a route makes it, as far as that does not depend on the event. What does has a stand-in of its
// kind: an empty text (the first value of an enum), 0, false, an empty list, map or object, null for any value.
type Draft[M any] struct {
	Message M
	varying [][]string
}

// NewDraft makes a draft. varying are the paths of its stand-ins. Package serve calls it, and tests do.
func NewDraft[M any](message M, varying ...[]string) *Draft[M] { return &Draft[M]{message, varying} }

// Varies reports whether the value at a path (names of attributes, keys of maps, indices of lists) depends on the event
// as a whole, or is part of one that does. Of an object that is written out only members may vary.
func (d *Draft[M]) Varies(path ...string) bool {
	return slices.ContainsFunc(d.varying, func(v []string) bool {
		return len(v) <= len(path) && slices.Equal(v, path[:len(v)])
	})
}

// validateMessage is SinkFactory.ValidateMessage of a sink with configuration C and messages M.
func validateMessage[C, M any](message *node) func([]byte, *Draft[json.RawMessage]) error {
	if _, ok := any(new(C)).(MessageValidator[M]); !ok {
		return nil
	}
	config := mustDescribe[C](useConfig)
	return func(raw []byte, d *Draft[json.RawMessage]) error {
		cfg, err := decodeConfig[C](config, raw)
		if err != nil {
			return err
		}
		typed := &Draft[M]{varying: d.varying}
		// The host has checked it against the schema; a stand-in may not be good enough.
		decoded := message.decode(d.Message, reflect.ValueOf(&typed.Message).Elem()) == nil
		if !decoded {
			return nil
		}
		return any(&cfg).(MessageValidator[M]).ValidateMessage(typed)
	}
}
