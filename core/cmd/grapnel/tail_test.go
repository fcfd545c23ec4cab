package main

import (
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
)

func TestChangeLine(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.Local)
	request := admin.Change{At: now, Request: &admin.Request{ID: "req_1", Source: "people", State: "dead", Reason: "no\x1b[31m"}}
	delivery := admin.Change{At: now, Delivery: &admin.Delivery{
		ID: "dlv_1", Source: "urn:grapnel:source:people", Sink: "audit", State: "delivered", Type: "x.made", Subject: "x/1", Attempts: 2,
	}}
	rejection := admin.Change{At: now, Rejection: &admin.Rejection{Status: 404, Cause: "unknown_path", RemoteAddr: "192.0.2.1"}}
	missed := admin.Change{At: now, Kind: admin.ChangeMissed}
	for want, c := range map[string]struct {
		ch           admin.Change
		source, sink string // of others
	}{
		"08:00:00.000  request    dead       people  req_1  no?[31m":               {request, "hr", "audit"},
		"08:00:00.000  delivery   delivered  audit  dlv_1  x.made  x/1  attempt 2": {delivery, "hr", "main"},
		"08:00:00.000  rejected   404        -  unknown_path  192.0.2.1":           {rejection, "hr", "audit"},
		"08:00:00.000  something was missed: the lists have it":                    {missed, "", ""},
	} {
		if got := changeLine(c.ch); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if !concerns(c.ch, "", "") {
			t.Errorf("%s: concerns nobody", want)
		}
		if c.source != "" && (concerns(c.ch, c.source, "") || concerns(c.ch, "", "none")) {
			t.Errorf("%s: concerns others", want)
		}
		if strings.Contains(want, "people") && !concerns(c.ch, "people", "") {
			t.Errorf("%s: does not concern its source", want)
		}
	}
}
