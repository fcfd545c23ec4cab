package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/plugins/sink-crm/crm"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/rawjson"
)

// Message is what a route says to this sink.
type Message struct {
	Object    string                     `json:"object" doc:"Type of the record, as the CRM's API names it."`
	Key       map[string]json.RawMessage `json:"key" doc:"The one field whose value finds the record: { name = value }."`
	Fields    map[string]json.RawMessage `json:"fields,omitempty" doc:"What to write, by the names of the CRM's API."`
	Operation string                     `json:"operation,omitempty" default:"upsert" enum:"upsert|archive|flag|ignore" doc:"What to do to the record; see below."`
	OnNull    string                     `json:"on_null,omitempty" default:"omit" enum:"omit|clear" doc:"What becomes of a field whose value is null: it stays as it is, or is cleared."`
	Stale     string                     `json:"stale,omitempty" enum:"skip|apply" doc:"As in the configuration, for this message."`
}

// maxKey bounds a key's value: far longer ones than any CRM takes are a mistake.
const maxKey = 1000

// op makes an operation of a delivery's message. The error is the delivery's outcome. What the message asks for and the
// CRM knows nothing of is seen to here: ignore, null fields that are left out.
func (s *sink) op(d *sdk.Delivery[Message]) (crm.Op, error) {
	m := &d.Message
	if m.Operation == "ignore" {
		return crm.Op{}, sdk.Skip("the message says ignore")
	}
	op := crm.Op{DeliveryID: d.ID, TraceParent: d.TraceParent, Kind: crm.Kind(m.Operation), Object: m.Object}
	if !isObject(m.Object) {
		return op, sdk.Reject(fmt.Errorf("object %w", errObject), crm.ObjectPath()...)
	}
	var err error
	if op.Key, err = s.cfg.key(m.Key); err != nil {
		return op, sdk.Reject(err, crm.KeyPath()...)
	}
	if op.Time, err = time.Parse(time.RFC3339, d.Event.Time); err != nil {
		return op, sdk.Reject(errors.New("the event has no time"))
	}
	if op.Kind == crm.Archive {
		return op, nil
	}
	for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
		f := crm.Field{Name: name, Value: m.Fields[name]}
		switch {
		case name == "" || hasControl(name):
			return op, sdk.Reject(errors.New("fields holds a name that no field can have"), "fields")
		case name == op.Key.Name:
			return op, sdk.Reject(fmt.Errorf("%s %w", name, errKeyField), crm.FieldPath(name)...)
		case f.Null() && m.OnNull != "clear":
			continue
		}
		op.Fields = append(op.Fields, f)
	}
	if op.Kind == crm.Flag && len(op.Fields) == 0 {
		return op, sdk.Reject(errFlag, "fields")
	}
	return op, nil
}

// ValidateMessage implements sdk.MessageValidator: what op would reject whatever the event is.
func (c *Config) ValidateMessage(d *sdk.Draft[Message]) error {
	m := &d.Message
	if m.Operation == "ignore" && !d.Varies("operation") {
		return nil
	}
	var errs []error
	wrong := func(err error, path ...string) {
		errs = append(errs, &sdk.AttributeError{Path: path, Summary: err.Error()})
	}
	if !d.Varies("object") && !isObject(m.Object) {
		wrong(errObject, crm.ObjectPath()...)
	}
	if c.Rest != nil && !d.Varies("operation") {
		if why := c.Rest.Lacks(crm.Kind(m.Operation)); why != "" {
			wrong(errors.New(why), "operation")
		}
	}
	if d.Varies("key") {
		return errors.Join(errs...)
	}
	name, err := c.keyName(m.Key)
	if err == nil && !d.Varies("key", name) {
		_, err = c.key(m.Key)
	}
	if err != nil {
		wrong(err, crm.KeyPath()...)
	}
	if _, twice := m.Fields[name]; twice && len(m.Key) == 1 && m.Operation != string(crm.Archive) && !d.Varies("operation") {
		wrong(errKeyField, crm.FieldPath(name)...)
	}
	if m.Operation == string(crm.Flag) && !d.Varies("operation") && !d.Varies("fields") && len(m.Fields) == 0 {
		wrong(errFlag, "fields")
	}
	return errors.Join(errs...)
}

var (
	errObject   = errors.New("is not the name of a type of records")
	errKeyField = errors.New("is the key: it is written by itself")
	errFlag     = errors.New("flag writes fields, and there are none")
)

func isObject(name string) bool {
	return strings.TrimSpace(name) == name && name != "" && !hasControl(name)
}

// keyName is the name of the one field that a key has.
func (c *Config) keyName(m map[string]json.RawMessage) (string, error) {
	if len(m) != 1 {
		return "", fmt.Errorf("key has %d members; it is one field with its value", len(m))
	}
	name := ""
	for name = range m {
	}
	switch {
	case name == "" || hasControl(name):
		return name, errors.New("the key has no name")
	case !c.AllowEmailKey && isEmailName(name):
		return name, fmt.Errorf("%s is an e-mail address, which people change and share: take an id that stays, "+
			"or set allow_email_key", name)
	}
	return name, nil
}

// key reads the message's key.
func (c *Config) key(m map[string]json.RawMessage) (crm.Key, error) {
	name, err := c.keyName(m)
	k := crm.Key{Name: name, Token: m[name]}
	if err != nil {
		return k, err
	}
	v := rawjson.Value(k.Token)
	switch v.Kind() {
	case rawjson.String:
		k.Value, _ = v.Text()
	case rawjson.Number:
		k.Value = string(v)
	default:
		return k, fmt.Errorf("the key's value is %s; it must be a text or a number", v.Kind())
	}
	switch {
	case strings.TrimSpace(k.Value) == "":
		return k, errors.New("the key's value is empty")
	case len(k.Value) > maxKey || hasControl(k.Value):
		return k, fmt.Errorf("the key's value is longer than %d bytes or holds control characters", maxKey)
	case !c.AllowEmailKey && emailText.MatchString(k.Value):
		return k, errors.New("the key's value is an e-mail address, which people change and share: take an id that " +
			"stays, or set allow_email_key")
	}
	return k, nil
}

var emailText = regexp.MustCompile(`^[^\s@:/]+@[^\s@:/]+\.[^\s@:/]+$`)

// isEmailName reports whether a field holds e-mail addresses, by its name: email, workEmail, e_mail, Email__c, mail.
func isEmailName(name string) bool {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSuffix(strings.ToLower(name), "__c")) {
		if r != '_' && r != '-' && r != '.' && r != ' ' {
			b.WriteRune(r)
		}
	}
	n := b.String()
	return strings.Contains(n, "email") || strings.HasSuffix(n, "mail") || strings.HasPrefix(n, "mailaddress")
}

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
