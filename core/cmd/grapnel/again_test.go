package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core/admin"
)

func TestBarLine(t *testing.T) {
	for _, tt := range []struct {
		n, of int
		want  string
	}{
		{0, 50_000, "[..............................]   0% 0 of 50000 replayed"},
		{12_500, 50_000, "[#######.......................]  25% 12500 of 50000 replayed"},
		{50_000, 50_000, "[##############################] 100% 50000 of 50000 replayed"},
		{60, 50, "[##############################] 100% 60 of 50 replayed"}, // some were added meanwhile
		{0, 0, "[..............................]   0% 0 of 0 replayed"},
	} {
		if got := barLine(tt.n, tt.of, "replayed"); got != tt.want {
			t.Errorf("got\n%s\nwant\n%s", got, tt.want)
		}
	}
}

func TestBar(t *testing.T) {
	var out bytes.Buffer
	if b := newBar(&out, "x"); b != nil {
		t.Error("a bar on what is no terminal")
	}
	var none *bar
	none.show(1, 2)
	none.clear()
	b := &bar{out: &out, label: "retried"}
	b.clear()
	b.show(1, 2)
	b.clear()
	b.clear()
	if got, want := out.String(), "\r"+barLine(1, 2, "retried")+"\r\x1b[K"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestAgainByID(t *testing.T) {
	stored, other := json.RawMessage(`{"n":1}`), json.RawMessage(`{"n":2}`)
	for name, tt := range map[string]struct {
		item admin.Item
		want string
	}{
		"nothing is told": {admin.Item{}, ""},
		"as stored":       {admin.Item{Message: stored, Stored: stored}, `  to crm, the message that is stored: {"n":1}`},
		"another":         {admin.Item{Message: other, Stored: stored}, `  to crm, another message than is stored: {"n":2}`},
		"none was stored": {admin.Item{Message: other}, `  to crm: {"n":2}`},
	} {
		var out bytes.Buffer
		dry := true
		a := againPrinter{printer: printer{out: &out, err: &out}, againSpec: againSpec{done: "retried", dryRun: &dry}}
		tt.item.ID, tt.item.Sink, tt.item.Outcome = "dlv_1", "crm", admin.OutcomeRetried
		if err := a.item(tt.item); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.TrimSpace(out.String()), strings.TrimSpace("would be retried dlv_1\n"+tt.want); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestAgainEnds(t *testing.T) {
	half := admin.Tally{Selected: 9, Seen: 4, Done: 4}
	most := admin.Tally{Selected: 9, Seen: 9, Done: 6, Dead: 1, Skipped: 1, Refused: 1, Reasons: []admin.Reason{
		{Outcome: admin.OutcomeDead, Reason: "no such route", RouteRange: "config.hcl:7,1", Count: 1, ID: "dlv_1"},
		{Outcome: admin.OutcomeSkipped, Reason: "not any more", Count: 1, ID: "dlv_2"},
		{Outcome: admin.OutcomeRefused, Reason: "it has changed meanwhile", Count: 1, ID: "dlv_3"},
	}}
	const reasons = `1 cannot be rendered: config.hcl:7,1: no such route (such as dlv_1)
1 skipped: not any more (such as dlv_2)
1 left as they are: it has changed meanwhile (such as dlv_3)
`
	for name, tt := range map[string]struct {
		tally  admin.Tally
		err    error
		dryRun bool
		json   bool
		out    string
		fails  string
	}{
		"all":         {tally: admin.Tally{Selected: 2, Seen: 2, Done: 2}, out: "2 of 2 deliveries replayed\n"},
		"none":        {out: "0 of 0 deliveries replayed\n"},
		"not all":     {tally: most, out: "6 of 9 deliveries replayed\n" + reasons, fails: "2 of 9 deliveries not replayed"},
		"dry run":     {tally: most, dryRun: true, out: "6 of 9 deliveries would be replayed\n" + reasons},
		"interrupted": {tally: half, err: context.Canceled, fails: "interrupted after 4 of 9 deliveries; the same command goes on with the rest"},
		"interrupted while it selects": {
			tally: admin.Tally{}, err: fmt.Errorf("control API: %w", context.Canceled), fails: "interrupted",
		},
		"the host stops": {
			tally: half, err: errors.New("the host stops"),
			fails: "the host stops after 4 of 9 deliveries; the same command goes on with the rest",
		},
		"as JSON": {
			tally: half, json: true,
			out: `{"result":{"selected":9,"seen":4,"done":4,"dead":0,"skipped":0,"refused":0}}` + "\n",
		},
	} {
		var out bytes.Buffer
		a := againPrinter{
			printer:   printer{out: &out, err: &out, json: tt.json},
			againSpec: againSpec{what: "deliveries", done: "replayed", dryRun: &tt.dryRun},
		}
		err := a.end(tt.tally, tt.err)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if out.String() != tt.out || !strings.HasPrefix(said, tt.fails) || tt.fails == "" && err != nil {
			t.Errorf("%s: printed\n%s\nand fails with %q; want\n%s\nand %q", name, out.String(), said, tt.out, tt.fails)
		}
	}
}
