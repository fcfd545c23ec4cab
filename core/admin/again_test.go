package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// stub is a Renderer: the data of the event says what it makes of a delivery.
type stub struct{}

func (stub) Render(d *core.Delivery, req *core.Request) {
	switch what := string(d.Event.Data); {
	case req.Source == "":
		panic("no request")
	case what == `"lost"`:
		d.State, d.Reason, d.RouteRange = core.DeliveryDead, "no such route", "config.hcl:7,1"
	case what == `"unwanted"`:
		d.State, d.Reason = core.DeliverySkipped, "not any more"
	default:
		d.Message, d.ConfigDigest, d.Renewed = []byte(`{"new":`+what+`}`), "now", true
	}
}

// bury stores a request for each of the data, with a dead delivery to sink "crm".
func (s served) bury(t *testing.T, data ...string) []string {
	t.Helper()
	at := time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC)
	var ids []string
	for chunk := range slices.Chunk(data, 500) {
		var decisions []*store.Decision
		for _, data := range chunk {
			r := &core.Request{
				Dedupe: core.NewDedupeKey("crm", fmt.Append(nil, len(ids))), Source: "people",
				ReceivedAt: at.Add(time.Duration(len(ids)) * time.Second), Method: "POST", Body: []byte(data),
			}
			if _, err := s.direct.Store.Accept(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			ev := core.Event{
				Envelope:   sdk.Envelope{ID: core.EventID(r.Dedupe, 0, 0), Source: "urn:grapnel:source:people", Type: "crm.made"},
				RequestSeq: r.Seq, Data: r.Body,
			}
			d := &core.Delivery{
				Key: core.NewDeliveryKey(r.Seq, 0, 0), ID: core.DeliveryID(ev.ID, "people", "crm", 0), Route: "people", Sink: "crm",
				Message: []byte(`{"old":` + data + `}`), State: core.DeliveryDead, Reason: "rejected",
			}
			if data == `"bare"` {
				d.Message = nil
			}
			ids = append(ids, d.ID)
			decisions = append(decisions,
				&store.Decision{Request: r, Events: []core.Event{ev}, Deliveries: []*core.Delivery{d}})
		}
		if err := s.direct.Store.Route(t.Context(), decisions); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// reports collects what is reported.
type reports struct {
	items []string
	last  Tally
	n     int
}

func (r *reports) report(rep Report) {
	switch {
	case rep.Item != nil:
		i := rep.Item
		r.items = append(r.items, strings.TrimSpace(fmt.Sprintf("%s %s %s", i.Outcome, i.Reason, i.RouteRange)))
	case rep.Progress != nil:
		r.n++
		r.last = *rep.Progress
	}
}

func TestAgain(t *testing.T) {
	crm := store.DeliveryFilter{Sink: "crm"}
	for name, client := range map[string]bool{"client": true, "direct": false} {
		for _, replay := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " replay ", replay), func(t *testing.T) {
				s := serve(t, t.TempDir())
				var c Control = s.direct
				if client {
					c = s.client
				}
				work, word := c.RetryDeliveries, OutcomeRetried
				if replay {
					work, word = c.ReplayDeliveries, OutcomeReplayed
				}
				ids := s.bury(t, `1`, `"lost"`, `"unwanted"`, `"bare"`, `2`, `"lost"`)
				ctx := t.Context()

				// A dry run changes nothing, and tells the same as what then is done.
				var dry, wet, both reports
				would, err := work(ctx, DeliveryOrder{Filter: crm, DryRun: true}, dry.report)
				if err != nil {
					t.Fatal(err)
				}
				want := Tally{Selected: 6, Seen: 6, Done: 3, Dead: 2, Skipped: 1, Reasons: []Reason{
					{OutcomeDead, "no such route", "config.hcl:7,1", 2, ids[1]}, {OutcomeSkipped, "not any more", "", 1, ids[2]},
				}}
				if diff := cmp.Diff(want, would); diff != "" {
					t.Errorf("dry run (-want +got)\n%s", diff)
				}
				if got, err := c.Deliveries(ctx, store.DeliveryFilter{Sink: "crm", State: core.DeliveryDead}); err != nil ||
					len(got.Items) != 6 || got.Items[1].Reason != "rejected" {
					t.Errorf("after a dry run: %+v, %v", got, err)
				}
				if len(*s.told) > 0 {
					t.Errorf("a dry run wakes: %q", *s.told)
				}
				one, err := work(ctx, DeliveryOrder{IDs: []string{ids[0], "dlv_none", ids[0], ids[5]}, DryRun: true}, both.report)
				if err != nil || one.Selected != 3 || one.Done != 1 || one.Dead != 1 || one.Refused != 1 {
					t.Errorf("dry run by id: %+v, %v", one, err)
				}

				done, err := work(ctx, DeliveryOrder{Filter: crm}, wet.report)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(would, done); diff != "" {
					t.Errorf("(-dry run +done)\n%s", diff)
				}
				if diff := cmp.Diff(dry.items, wet.items); diff != "" || dry.items[0] != word {
					t.Errorf("(-dry run +done)\n%s", diff)
				}
				if wet.last.Seen != 6 || wet.last.Done != 3 {
					t.Errorf("the last progress was %+v", wet.last)
				}
				if diff := cmp.Diff([]string{"wake crm"}, *s.told); diff != "" {
					t.Errorf("told the engine:\n%s", diff)
				}
				got, err := c.Deliveries(ctx, store.DeliveryFilter{Sink: "crm"})
				if err != nil {
					t.Fatal(err)
				}
				var states []string
				for _, d := range got.Items {
					full, err := c.Delivery(ctx, d.ID)
					if err != nil {
						t.Fatal(err)
					}
					states = append(states, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.State, full.Message, d.RouteRange)))
					if linked := d.ReplayOf != "" || d.ReplayedBy != ""; linked != (replay && d.RouteRange == "" && !strings.Contains(
						d.Reason, "any more")) {
						t.Errorf("%s is linked: %t", states[len(states)-1], linked)
					}
				}
				wantStates := []string{
					`dead {"old":"lost"} config.hcl:7,1`, `pending {"new":2}`, `pending {"new":"bare"}`, `skipped {"old":"unwanted"}`,
					`dead {"old":"lost"} config.hcl:7,1`, `pending {"new":1}`,
				}
				if replay {
					wantStates = []string{
						`dead {"old":"lost"} config.hcl:7,1`, `pending {"new":2}`, `skipped {"old":2}`, `pending {"new":"bare"}`,
						`skipped`, `skipped {"old":"unwanted"}`, `dead {"old":"lost"} config.hcl:7,1`, `pending {"new":1}`, `skipped {"old":1}`,
					}
				}
				if diff := cmp.Diff(wantStates, states); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}

				// Once more: only what is still dead is met again.
				done, err = work(ctx, DeliveryOrder{Filter: crm}, nil)
				if err != nil || done.Selected != 2 || done.Dead != 2 {
					t.Errorf("again: %+v, %v", done, err)
				}
				// By id each gets its answer.
				var told reports
				done, err = work(ctx, DeliveryOrder{IDs: append([]string{"dlv_x"}, ids...)}, told.report)
				if err != nil || done.Refused+done.Skipped != 5 || done.Dead != 2 {
					t.Errorf("by id: %+v, %v", done, err)
				}
				refused := "refused it is pending, not dead"
				if replay {
					refused = "refused it was replayed as " + core.DeliveryID(eventOf(ids[0]), "people", "crm", 1)
				}
				if told.items[0] != "refused there is no such delivery" || told.items[1] != refused {
					t.Errorf("told %q", told.items)
				}
			})
		}
	}
}

// eventOf is the id of a delivery's event.
func eventOf(id string) string { return "evt" + id[len("dlv"):strings.LastIndexByte(id, '_')] }

func TestAgainAsIs(t *testing.T) {
	s := serve(t, t.TempDir())
	s.direct.Renderer = func(context.Context) (Renderer, error) { return nil, errors.New("the configuration is broken") }
	ids := s.bury(t, `1`, `"bare"`)
	crm := store.DeliveryFilter{Sink: "crm"}
	if _, err := s.client.ReplayDeliveries(t.Context(), DeliveryOrder{Filter: crm}, nil); err == nil ||
		err.Error() != "the configuration is broken" {
		t.Errorf("rendered by a broken configuration: %v", err)
	}
	got, err := s.client.ReplayDeliveries(t.Context(), DeliveryOrder{Filter: crm, AsIs: true, Force: true}, nil)
	if err != nil || got.Done != 1 || got.Refused != 1 || !strings.Contains(got.Reasons[0].Reason, "has no message") {
		t.Errorf("%+v, %v", got, err)
	}
	old, err := s.client.Delivery(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.client.Delivery(t.Context(), old.ReplayedBy)
	if err != nil || string(d.Message) != `{"old":1}` || !d.AsIs || !d.Forced || d.ReplayOf != ids[0] || d.ReceivedAt.IsZero() {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestAgainInSteps interrupts a replay and repeats it: each is replayed once.
func TestAgainInSteps(t *testing.T) {
	for name, client := range map[string]bool{"client": true, "direct": false} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, t.TempDir())
			var c Control = s.direct
			if client {
				c = s.client
			}
			const all = 3*againStep + 7
			data := make([]string, all)
			for i := range data {
				data[i] = fmt.Sprint(i)
			}
			s.bury(t, data...)
			order := DeliveryOrder{Filter: store.DeliveryFilter{Sink: "crm"}}
			ctx, cancel := context.WithCancel(t.Context())
			first, err := c.ReplayDeliveries(ctx, order, func(r Report) {
				if r.Progress != nil {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) || first.Selected != all || first.Seen == 0 || first.Seen == all {
				t.Errorf("interrupted: %+v, %v", first, err)
			}
			var r reports
			rest, err := c.ReplayDeliveries(t.Context(), order, r.report)
			if err != nil {
				t.Fatal(err)
			}
			// The host may be at a step still when its client is interrupted.
			if rest.Done+rest.Refused != rest.Selected || rest.Done+first.Done > all || !client && rest.Done+first.Done != all {
				t.Errorf("first %+v, then %+v", first, rest)
			}
			if len(r.items) != sampleItems || r.n < 2 {
				t.Errorf("%d items and %d times progress", len(r.items), r.n)
			}
			st, err := c.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[core.DeliveryState]int64{core.DeliveryPending: all, core.DeliverySkipped: all},
				st.Stats.Deliveries["crm"]); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAgainRequests(t *testing.T) {
	s := serve(t, t.TempDir())
	ctx := t.Context()
	const all = againStep + 5
	var decisions []*store.Decision
	for i := range all {
		r := &core.Request{Dedupe: core.NewDedupeKey("d", fmt.Append(nil, i)), Source: "bad", ReceivedAt: time.Now(), Method: "POST"}
		if _, err := s.direct.Store.Accept(ctx, r); err != nil {
			t.Fatal(err)
		}
		decisions = append(decisions, &store.Decision{Request: r, Dead: "never"})
	}
	if err := s.direct.Store.Route(ctx, decisions); err != nil {
		t.Fatal(err)
	}
	order := RequestOrder{Filter: store.RequestFilter{Source: "bad", State: core.RequestDead}, DryRun: true}
	var r reports
	got, err := s.client.RetryRequests(ctx, order, r.report)
	if err != nil || got.Selected != all || got.Done != all || len(r.items) != sampleItems {
		t.Errorf("dry run: %+v, %v", got, err)
	}
	order.DryRun = false
	for _, want := range []int{all, 0} {
		if got, err = s.client.RetryRequests(ctx, order, nil); err != nil || got.Selected != want || got.Done != want {
			t.Errorf("%+v, %v; want %d", got, err, want)
		}
	}
}

// TestReports reads the lines of a retry as they are.
func TestReports(t *testing.T) {
	s := serve(t, t.TempDir())
	ids := s.bury(t, `1`, `"lost"`)
	body, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]string{
		"deliveries/retry?sink=crm&items=1&dry_run=true": "", "deliveries/replay?dry_run=true&items=1": `{"ids":` + string(body) + `}`,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://grapnel/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := out.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		word := OutcomeRetried
		if strings.Contains(path, "replay") {
			word = OutcomeReplayed
		}
		want := `{"item":{"id":"` + ids[0] + `","outcome":"` + word + `","received_at":"2026-03-05T00:00:00Z",` +
			`"source":"urn:grapnel:source:people","type":"crm.made","route":"people","sink":"crm","message":{"new":1},"stored":{"old":1}}}
{"progress":{"selected":2,"seen":2,"done":1,"dead":1,"skipped":0,"refused":0}}
{"result":{"selected":2,"seen":2,"done":1,"dead":1,"skipped":0,"refused":0,"reasons":[{"outcome":"dead",` +
			`"reason":"no such route","route_range":"config.hcl:7,1","count":1,"id":"` + ids[1] + `"}]}}
`
		if diff := cmp.Diff(want, out.String()); diff != "" || resp.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s: %s (-want +got)\n%s", path, resp.Header.Get("Content-Type"), diff)
		}
	}
}

func TestOrdersTravelWhole(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	d := DeliveryOrder{
		Filter: store.DeliveryFilter{
			Source: "a", Type: "b.*", Subject: "c/1", Tenant: "d", Route: "e", Sink: "f", RequestID: "g", State: "dead", Since: at,
			Until: at.Add(1),
		},
		AsIs: true, Force: true, DryRun: true, Items: 7,
	}
	r := RequestOrder{
		Filter: store.RequestFilter{Source: "a", State: "dead", Since: at, Until: at.Add(1)}, DryRun: true, Items: 7,
	}
	var gotD DeliveryOrder
	var gotR RequestOrder
	for _, c := range []struct{ from, to []field }{
		{deliveryOrder(&d, true), deliveryOrder(&gotD, true)}, {requestOrder(&r), requestOrder(&gotR)},
	} {
		q, err := url.ParseQuery(format(c.from))
		if err != nil {
			t.Fatal(err)
		}
		if err := parse(q, c.to); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(d, gotD); diff != "" {
		t.Errorf("(-sent +received)\n%s", diff)
	}
	if diff := cmp.Diff(r, gotR); diff != "" {
		t.Errorf("(-sent +received)\n%s", diff)
	}
}
