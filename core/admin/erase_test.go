package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/store"
)

func TestErase(t *testing.T) {
	for name, client := range map[string]bool{"client": true, "direct": false} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, t.TempDir())
			ctx := t.Context()
			var c Control = s.direct
			if client {
				c = s.client
			}
			p, err := c.PreviewErase(ctx, EraseOrder{Subject: "thing/1"})
			want := ErasePreview{
				Removed: store.Removed{Requests: 1, Events: 2, Deliveries: 2},
				Origins: []store.EraseOrigin{{Source: "people", Tenant: "t", Events: 2}},
				Unread:  2, // one is received, one dead
			}
			if diff := cmp.Diff(want, p); diff != "" || err != nil {
				t.Errorf("preview: %v (-want +got)\n%s", err, diff)
			}
			if p, err = c.PreviewErase(ctx, EraseOrder{Subject: "Thing / 1"}); err != nil || len(p.Similar) != 1 {
				t.Errorf("similar: %+v, %v", p, err)
			}
			var stages []string
			r, err := c.Erase(ctx, EraseOrder{Subject: "thing/1", Source: "people", Tenant: "t"}, func(p EraseProgress) {
				if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
					stages = append(stages, p.Stage)
				}
			})
			if err != nil || r.Removed != want.Removed || r.DoneAt == nil || r.Source != "people" || r.Tenant != "t" {
				t.Errorf("receipt %+v, %v", r, err)
			}
			if diff := cmp.Diff([]string{"searching", "overwriting"}, stages); diff != "" {
				t.Errorf("stages: %s", diff)
			}
			got, err := c.Receipt(ctx, r.ID)
			if diff := cmp.Diff(r, got); diff != "" || err != nil {
				t.Errorf("the receipt again: %v\n%s", err, diff)
			}
			if page, err := c.Receipts(ctx, "", 0); err != nil || len(page.Items) != 1 || page.Items[0].ID != r.ID {
				t.Errorf("receipts: %+v, %v", page, err)
			}

			dead, err := c.Requests(ctx, store.RequestFilter{State: "dead"})
			if err != nil || len(dead.Items) != 1 {
				t.Fatal(dead, err)
			}
			order := EraseOrder{IDs: []string{dead.Items[0].ID, "nonsense"}}
			if p, err = c.PreviewErase(ctx, order); err != nil || p.Removed.Requests != 1 {
				t.Errorf("preview of a request: %+v, %v", p, err)
			}
			if r, err = c.Erase(ctx, order, nil); err != nil || r.Removed.Requests != 1 || r.Subject != "" {
				t.Errorf("a request: %+v, %v", r, err)
			}
			if page, err := c.Receipts(ctx, "", 1); err != nil || len(page.Items) != 1 || page.Next == "" {
				t.Errorf("receipts: %+v, %v", page, err)
			}
			for _, o := range []EraseOrder{{}, {Subject: "x", IDs: []string{"y"}}} {
				if _, err := c.Erase(ctx, o, nil); err == nil || !strings.Contains(err.Error(), "either a subject or requests") {
					t.Errorf("an erasure of %+v: %v", o, err)
				}
			}
		})
	}
}

func TestEraseCalls(t *testing.T) {
	s := serve(t, t.TempDir())
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "requests/erase", "", 400, "the body is not"},
		{"POST", "requests/erase", `{"subjects": "x"}`, 400, "the body is not"},
		{"POST", "requests/erase", `{}`, 400, "either a subject or requests"},
		{"POST", "requests/erase?dry_run=true", `{}`, 400, "either a subject or requests"},
		{"POST", "requests/erase?subject=x", `{}`, 400, `unknown parameter "subject"`},
		{"GET", "requests/erase", "", 404, ""}, // a request of this id
		{"GET", "receipts/one", "", 400, `"one" is not a receipt's number`},
		{"GET", "receipts/1", "", 404, "not found"},
		{"GET", "receipts?state=x", "", 400, `unknown parameter "state"`},
		{"GET", "receipts?cursor=x", "", 400, "cursor"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://grapnel/v1/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var f failure
		if err := json.Unmarshal(body, &f); resp.StatusCode != c.status || err != nil || !strings.Contains(f.Error, c.says) {
			t.Errorf("%s %s: %d %s, want %d …%s…", c.method, c.path, resp.StatusCode, body, c.status, c.says)
		}
	}
}
