package admin

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// The filters travel as query parameters. field is one parameter, read from and written to the same place.
type field struct {
	name  string
	read  func(string) error
	write func() string
}

func text[S ~string](name string, at *S) field {
	return field{name, func(v string) error { *at = S(v); return nil }, func() string { return string(*at) }}
}

func number(name string, at *int) field {
	return field{
		name,
		func(v string) (err error) { *at, err = strconv.Atoi(v); return err },
		func() string {
			if *at == 0 {
				return ""
			}
			return strconv.Itoa(*at)
		},
	}
}

func instant(name string, at *time.Time) field {
	return field{
		name,
		func(v string) (err error) { *at, err = time.Parse(time.RFC3339Nano, v); return err },
		func() string {
			if at.IsZero() {
				return ""
			}
			return at.Format(time.RFC3339Nano)
		},
	}
}

func flag(name string, at *bool) field {
	return field{
		name,
		func(v string) (err error) { *at, err = strconv.ParseBool(v); return err },
		func() string {
			if !*at {
				return ""
			}
			return "true"
		},
	}
}

func requestFields(f *store.RequestFilter) []field {
	return []field{
		text("source", &f.Source), text("tenant", &f.Tenant), text("type", &f.Type), text("subject", &f.Subject),
		text[core.RequestState]("state", &f.State), flag("unrouted", &f.Unrouted),
		instant("since", &f.Since), instant("until", &f.Until), text("cursor", &f.Cursor), number("limit", &f.Limit),
	}
}

func eventFields(f *store.EventFilter) []field {
	return []field{
		text("source", &f.Source), text("type", &f.Type), text("subject", &f.Subject), text("tenant", &f.Tenant),
		text("request", &f.RequestID), flag("unrouted", &f.Unrouted), instant("since", &f.Since), instant("until", &f.Until),
		text("cursor", &f.Cursor), number("limit", &f.Limit),
	}
}

func deliveryFields(f *store.DeliveryFilter) []field {
	return append(deliverySelection(f), text("cursor", &f.Cursor), number("limit", &f.Limit))
}

// deliverySelection is deliveryFields without the place in a list.
func deliverySelection(f *store.DeliveryFilter) []field {
	return []field{
		text("source", &f.Source), text("type", &f.Type), text("subject", &f.Subject), text("tenant", &f.Tenant),
		text("route", &f.Route), text("sink", &f.Sink), text("request", &f.RequestID),
		text[core.DeliveryState]("state", &f.State), instant("since", &f.Since), instant("until", &f.Until),
	}
}

// deliveryOrder is all of an order but the ids, which are in the body.
func deliveryOrder(o *DeliveryOrder, replay bool) []field {
	fields := append(deliverySelection(&o.Filter),
		flag("as_is", &o.AsIs), flag("dry_run", &o.DryRun), number("items", &o.Items))
	if replay {
		fields = append(fields, flag("force", &o.Force))
	}
	return fields
}

func requestOrder(o *RequestOrder) []field {
	return []field{
		text("source", &o.Filter.Source), text("tenant", &o.Filter.Tenant),
		text[core.RequestState]("state", &o.Filter.State), instant("since", &o.Filter.Since), instant("until", &o.Filter.Until), flag("dry_run", &o.DryRun),
		number("items", &o.Items),
	}
}

func rejectionFields(f *store.RejectionFilter) []field {
	return []field{
		text("source", &f.Source), text("cause", &f.Cause), instant("since", &f.Since), instant("until", &f.Until),
		text("cursor", &f.Cursor), number("limit", &f.Limit),
	}
}

// parse reads fields from a query; what it does not know is an error.
func parse(q url.Values, fields []field) error {
	known := map[string]field{}
	for _, f := range fields {
		known[f.name] = f
	}
	for name, values := range q {
		f, ok := known[name]
		if !ok {
			return fmt.Errorf("unknown parameter %q", name)
		}
		if err := f.read(values[0]); err != nil {
			return fmt.Errorf("parameter %q: %w", name, err)
		}
	}
	return nil
}

// format is the inverse of parse.
func format(fields []field) string {
	q := url.Values{}
	for _, f := range fields {
		if v := f.write(); v != "" {
			q.Set(f.name, v)
		}
	}
	return q.Encode()
}
