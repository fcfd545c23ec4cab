package sqlite

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// person is somebody whose name is like no other text.
type person struct {
	subject string
	name    string // ASCII and not
}

func newPerson(r *rand.Rand, i int) person {
	letters := []rune("QXZKVWJYFGBqxzkvwjyfgbÅØÉñžßłö")
	name := make([]rune, 24)
	for i := range name {
		name[i] = letters[r.IntN(len(letters))]
	}
	return person{fmt.Sprintf("employee/%d", i), string(name)}
}

// spellings are how a name may stand in a payload.
func (p person) spellings() []string {
	var escaped strings.Builder
	for _, c := range p.name {
		fmt.Fprintf(&escaped, `\u%04x`, c)
	}
	return []string{
		p.name, escaped.String(), url.QueryEscape(p.name), base64.StdEncoding.EncodeToString([]byte(p.name)),
		strings.ToUpper(escaped.String()),
	}
}

// pieces are the spellings of a name and parts of them, long enough that nobody else's has them: the end of a page may
// have cut it.
func (p person) pieces(others []person) [][]byte {
	const length = 9
	var elsewhere strings.Builder
	for _, o := range others {
		if o != p {
			elsewhere.WriteString(strings.Join(o.spellings(), "\n"))
		}
	}
	var all [][]byte
	for _, s := range p.spellings() {
		all = append(all, []byte(s))
		for i := 0; i+length <= len(s); i++ {
			if !strings.Contains(elsewhere.String(), s[i:i+length]) {
				all = append(all, []byte(s[i:i+length]))
			}
		}
	}
	return all
}

// places tells in which files of a database somebody's name is, and how many of its pieces.
func (p person) places(t *testing.T, path string, others []person) (found []string) {
	t.Helper()
	pieces := p.pieces(others)
	if len(pieces) < 50 {
		t.Fatalf("only %d pieces of %q", len(pieces), p.name)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		n := 0
		var first []byte
		for _, piece := range pieces {
			if bytes.Contains(b, piece) {
				if n++; first == nil {
					first = piece
				}
			}
		}
		if n > 0 {
			found = append(found, fmt.Sprintf("%s: %d pieces, %q at %d", filepath.Base(name), n, first, bytes.Index(b, first)))
		}
	}
	return found
}

// traffic is a stand-in for a host with much to do: it accepts webhooks about people, and their deliveries meet all that can
// happen to them.
type traffic struct {
	t      *testing.T
	s      *Store
	people []person
	n      uint64
	r      *rand.Rand
}

// request makes a webhook about somebody and maybe others.
func (h *traffic) request(who ...person) *core.Request {
	h.n++
	r := &core.Request{
		Dedupe: core.NewDedupeKey("people", fmt.Append(nil, h.n, h.r.Uint64())), Source: "people", Tenant: "acme",
		ReceivedAt: time.Now(), RemoteAddr: "203.0.113.7", Method: "POST",
	}
	var body bytes.Buffer
	body.WriteString("[")
	for i, p := range who {
		if i > 0 {
			body.WriteString(",")
		}
		spelt := p.spellings()[h.r.IntN(5)]
		fmt.Fprintf(&body, `{"of":%q,"name":"%s","pad":"%s"}`, p.subject, spelt, strings.Repeat("-", h.padding()))
	}
	body.WriteString("]")
	r.Body = body.Bytes()
	if p := who[0]; h.n%4 == 0 {
		r.Query = "name=" + url.QueryEscape(p.name)
		r.Headers = []sdk.Header{{Name: "x-name", Value: p.name}, {Name: "x-64", Value: p.spellings()[3]}}
	}
	return r
}

// padding makes rows of all sizes, some of them larger than pages.
func (h *traffic) padding() int {
	switch h.r.IntN(12) {
	case 0:
		return 3000 + h.r.IntN(3000)
	case 1:
		return h.r.IntN(15_000)
	default:
		return h.r.IntN(600)
	}
}

// decide routes a request with an event for each of the people in it.
func (h *traffic) decide(r *core.Request, who ...person) *store.Decision {
	d := &store.Decision{Request: r, Notes: []string{"a remark on " + who[0].name}}
	if len(who) == 1 && h.n%11 == 0 {
		d.Notes = nil
	}
	for i, p := range who {
		e := core.Event{
			RequestSeq: r.Seq, Index: i, DataOffset: -1, Data: fmt.Appendf(nil, `{"name":%q}`, p.name),
			Envelope: sdk.Envelope{
				ID: core.EventID(r.Dedupe, r.Repeat, i), Source: sourceURN + "people", Type: "employee.updated",
				Subject: p.subject, PartitionKey: "acme/" + p.subject, Tenant: "acme", Time: "2026-03-01T10:00:00Z",
			},
			Changes: fmt.Appendf(nil, `{"name":{"old":%q}}`, p.spellings()[h.r.IntN(4)]),
		}
		switch h.r.IntN(3) {
		case 0: // a part of the body
			e.DataOffset = bytes.Index(r.Body, fmt.Appendf(nil, `{"of":%q`, p.subject))
			e.Data = r.Body[e.DataOffset : e.DataOffset+20]
		case 1:
			e.Subject = fmt.Sprintf("leave_request/%d", h.n)
		}
		d.Events = append(d.Events, e)
		for n := range h.r.IntN(4) {
			sink := fmt.Sprintf("sink%d", n)
			dl := &core.Delivery{
				Key: core.NewDeliveryKey(r.Seq, i, n), ID: core.DeliveryID(e.ID, "r", sink, 0), Route: "r", Sink: sink,
				State: core.DeliveryPending, Due: time.Now().Add(-time.Minute), Event: &e,
				Message: fmt.Appendf(nil, `{"name":%q,"pad":"%s"}`, p.spellings()[h.r.IntN(4)], strings.Repeat("m", h.padding()/3)),
			}
			switch h.r.IntN(5) {
			case 0, 1:
				dl.OrderKey = e.PartitionKey
			case 2:
				dl.OrderKey = p.name
			case 3:
				dl.State, dl.Reason = core.DeliveryDead, "no template for "+p.name
			}
			d.Deliveries = append(d.Deliveries, dl)
		}
	}
	return d
}

// settle makes up an outcome that quotes who it is about.
func (h *traffic) settle(d *core.Delivery) store.Settlement {
	var m struct{ Name string }
	_ = json.Unmarshal(d.Message, &m)
	quote := strings.Repeat("about "+m.Name+". ", 1+h.r.IntN(12))
	x := store.Settlement{
		Key: d.Key, Charge: true, Reason: quote, State: core.DeliveryPending, Due: time.Now().Add(-time.Second),
		Attempt: &core.Attempt{
			Number: d.Attempts + 1, At: time.Now(), Took: time.Millisecond, Outcome: sdk.Retried, Reason: quote,
			Notes: []string{quote},
		},
	}
	switch h.r.IntN(6) {
	case 0, 1:
		x.State, x.Reference, x.Attempt.Outcome = core.DeliveryDelivered, "ref-"+m.Name, sdk.Delivered
	case 2:
		x.State, x.Attempt.Outcome, x.AttributePath = core.DeliveryDead, sdk.Rejected, []string{m.Name}
		x.Hold = h.r.IntN(2) == 0
	case 3:
		x.State = core.DeliverySkipped
	}
	if d.OrderKey != "" && h.r.IntN(2) == 0 {
		x.StateSet, x.KeyState = true, fmt.Appendf(nil, "last seen: %s %s", m.Name, strings.Repeat("s", h.r.IntN(900)))
	}
	return x
}

// run takes n webhooks through the store. Every third of them is about somebody and others together.
func (h *traffic) run(n int) {
	ctx := context.Background()
	check := func(err error) {
		if err != nil && !errors.Is(err, store.ErrClosed) {
			h.t.Error(err)
		}
	}
	for n > 0 {
		var ds []*store.Decision
		var wg sync.WaitGroup
		for range min(n, 40) {
			n--
			who := []person{h.people[h.r.IntN(len(h.people))]}
			if h.n%3 == 0 {
				for _, i := range h.r.Perm(len(h.people))[:3] {
					if h.people[i] != who[0] {
						who = append(who, h.people[i])
					}
				}
			}
			r := h.request(who...)
			wg.Go(func() { _, err := h.s.Accept(ctx, r); check(err) })
			d := &store.Decision{Request: r, Dead: "cannot decode it"}
			ds = append(ds, d)
			if h.n%29 != 0 || len(who) > 1 {
				d.Dead = ""
				d.Events = []core.Event{{}} // made below, when the sequence is known
				d.Notes = make([]string, len(who))
				for i, p := range who {
					d.Notes[i] = p.subject
				}
			}
		}
		wg.Wait()
		byName := map[string]person{}
		for _, p := range h.people {
			byName[p.subject] = p
		}
		for i, d := range ds {
			if d.Dead != "" {
				continue
			}
			var who []person
			for _, subject := range d.Notes {
				who = append(who, byName[subject])
			}
			ds[i] = h.decide(d.Request, who...)
		}
		check(h.s.Route(ctx, ds))
		h.s.RecordRejection(core.Rejection{At: time.Now(), Status: 404, Cause: "unknown_path", Path: "/hooks/" + h.people[0].subject})
		for i := range 4 {
			claimed, _, err := h.s.ClaimDeliveries(ctx, fmt.Sprintf("sink%d", i), time.Now().Add(time.Hour), 60, false)
			check(err)
			var ss []store.Settlement
			var back []core.DeliveryKey
			for _, d := range claimed {
				if h.r.IntN(10) == 0 {
					back = append(back, d.Key)
					continue
				}
				ss = append(ss, h.settle(d))
			}
			check(h.s.Settle(ctx, ss))
			check(h.s.Release(ctx, back))
		}
		if dead, _, err := h.s.ListDeliveries(ctx, store.DeliveryFilter{State: core.DeliveryDead, Limit: 5}); err == nil {
			var ids []string
			for _, d := range dead {
				ids = append(ids, d.ID)
			}
			found, err := h.s.FindDeliveries(ctx, ids)
			check(err)
			var redos []*store.Redo
			for _, f := range found {
				as := *f.Delivery
				as.State = core.DeliveryPending
				redos = append(redos, &store.Redo{Of: f.Delivery, As: &as, Replay: h.r.IntN(2) == 0})
			}
			check(h.s.Redo(ctx, redos))
		}
	}
}

func newTraffic(t *testing.T, s *Store, people int) *traffic {
	h := &traffic{t: t, s: s, r: rand.New(rand.NewPCG(rand.Uint64(), 2))}
	for i := range people {
		h.people = append(h.people, newPerson(h.r, i))
	}
	return h
}

// dead erases the dead requests that name somebody, which no subject leads to.
func (h *traffic) eraseDead(p person) {
	h.t.Helper()
	var ids []string
	for cursor, more := "", true; more; more = cursor != "" {
		rs, next, err := h.s.ListRequests(h.t.Context(), store.RequestFilter{State: core.RequestDead, Limit: 1000, Cursor: cursor})
		if err != nil {
			h.t.Fatal(err)
		}
		for _, r := range rs {
			rd, err := h.s.GetRequest(h.t.Context(), r.ID())
			if err != nil {
				h.t.Fatal(err)
			}
			if bytes.Contains(rd.Request.Body, fmt.Appendf(nil, "%q", p.subject)) {
				ids = append(ids, r.ID())
			}
		}
		cursor = next
	}
	if len(ids) > 0 {
		if _, err := h.s.Erase(h.t.Context(), store.Erasure{Requests: ids}, nil); err != nil {
			h.t.Fatal(err)
		}
	}
}

// After an erasure nothing of a name is in any file, however its bytes were written, moved and deleted before.
func TestErasedIsInNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, DedupeWindow: time.Minute})
	h := newTraffic(t, s, 15)
	h.run(160)
	// Some of what is to be erased is deleted before.
	cut := time.Now()
	h.run(70)
	if n, err := s.Purge(t.Context(), store.Retention{Before: cut}); err != nil || n == 0 {
		t.Fatalf("%d purged, %v", n, err)
	}
	h.run(70)
	all := h.people
	first, second := all[0], all[1]
	if len(first.places(t, path, all)) == 0 {
		t.Fatal("the name is nowhere to begin with")
	}

	// Beside traffic of others.
	h.people = all[2:]
	h.eraseDead(first)
	var beside sync.WaitGroup
	beside.Go(func() { h.run(120) })
	r, err := s.Erase(t.Context(), store.Erasure{Subject: first.subject}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Removed.Requests == 0 || r.Removed.Shared == 0 || r.Removed.States == 0 || r.Removed.Attempts == 0 ||
		r.Removed.Rejections == 0 || len(r.Sent) == 0 {
		t.Errorf("removed %+v", r.Removed)
	}
	for _, place := range first.places(t, path, all) {
		t.Error(place)
	}
	beside.Wait()
	for _, place := range first.places(t, path, all) {
		t.Errorf("later: %s", place)
	}
	if len(second.places(t, path, all)) == 0 {
		t.Error("somebody else's name is gone, too")
	}

	// In peace.
	h.eraseDead(second)
	if _, err := s.Erase(t.Context(), store.Erasure{Subject: second.subject}, nil); err != nil {
		t.Fatal(err)
	}
	for _, place := range second.places(t, path, all) {
		t.Error(place)
	}
	closeStore(t, s)
	verify(t, path)
	for _, p := range all[:2] {
		for _, place := range p.places(t, path, all) {
			t.Errorf("after the end: %s", place)
		}
	}
	s = open(t, Options{Path: path})
	for _, p := range all[2:] {
		if ds, _, err := s.ListDeliveries(t.Context(), store.DeliveryFilter{Tenant: "acme", Subject: p.subject}); err != nil || len(ds) == 0 {
			t.Errorf("%d deliveries of %s are left, %v", len(ds), p.subject, err)
		}
	}
	closeStore(t, s)
}

// An erasure that is cut short at any place goes on with the next purge, and with the same receipt.
func TestErasureGoesOn(t *testing.T) {
	for _, stage := range []string{store.EraseSearching, store.EraseOverwriting} {
		t.Run(stage, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "grapnel.db")
			s := open(t, Options{Path: path})
			h := newTraffic(t, s, 5)
			h.run(40)
			p := h.people[0]
			h.eraseDead(p)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := s.Erase(ctx, store.Erasure{Subject: p.subject}, func(at store.EraseProgress) {
				if at.Stage == stage {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			s.crash(t)
			if stage == store.EraseSearching && len(p.places(t, path, h.people)) == 0 {
				t.Fatal("nothing was left to do")
			}
			s = open(t, Options{Path: path})
			rs, _, err := s.ListReceipts(t.Context(), "", 1)
			if err != nil || len(rs) != 1 || !rs[0].DoneAt.IsZero() {
				t.Fatalf("%+v, %v", rs, err)
			}
			// Whoever asks for it again learns that it is to be ended, also where there is nothing left to remove.
			preview := func(e store.Erasure, cutShort int64) {
				t.Helper()
				if v, err := s.PreviewErase(t.Context(), e); err != nil || v.CutShort != cutShort {
					t.Errorf("%+v: %+v, %v", e, v, err)
				}
			}
			preview(store.Erasure{Subject: p.subject}, rs[0].ID)
			preview(store.Erasure{Subject: p.subject, Source: "people"}, 0)
			if stage == store.EraseSearching {
				_, err = s.Purge(t.Context(), store.Retention{})
			} else {
				var r store.Receipt
				if r, err = s.Erase(t.Context(), store.Erasure{Subject: p.subject}, nil); r.ID != rs[0].ID {
					t.Errorf("receipt %d, want %d", r.ID, rs[0].ID)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.GetReceipt(t.Context(), rs[0].ID)
			if err != nil || r.DoneAt.IsZero() || r.Removed.Events == 0 {
				t.Errorf("%+v, %v", r, err)
			}
			for _, place := range p.places(t, path, h.people) {
				t.Error(place)
			}
			preview(store.Erasure{Subject: p.subject}, 0)
			closeStore(t, s)
			verify(t, path)
		})
	}
}

// Requests that are erased by id are remembered until they are gone.
func TestErasureOfRequestsGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path})
	h := newTraffic(t, s, 4)
	h.run(30)
	rs, _, err := s.ListRequests(t.Context(), store.RequestFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range rs {
		ids = append(ids, r.ID())
	}
	seqs, err := s.findRequests(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.beginErasure(t.Context(), store.Erasure{Requests: ids}, seqs); err != nil {
		t.Fatal(err)
	}
	s.crash(t)
	s = open(t, Options{Path: path})
	if _, err := s.Purge(t.Context(), store.Retention{}); err != nil {
		t.Fatal(err)
	}
	r, err := s.GetReceipt(t.Context(), 1)
	if err != nil || r.DoneAt.IsZero() || r.Removed.Requests != int64(len(ids)) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, p := range h.people {
		for _, place := range p.places(t, path, h.people) {
			t.Error(place)
		}
	}
	closeStore(t, s)
	verify(t, path)
}

// What somebody reads for long keeps the log, and the erasure says so.
func TestErasureAndReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, waitReaders: time.Millisecond})
	h := newTraffic(t, s, 3)
	h.run(40)
	p := h.people[0]
	h.eraseDead(p)
	c, err := openConn(path, readerCacheKiB)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.exec("BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := c.exec("SELECT count(*) FROM requests"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Erase(t.Context(), store.Erasure{Subject: p.subject}, nil); !errors.Is(err, errReaders) {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Purge(t.Context(), store.Retention{}); err != nil {
		t.Fatal(err)
	}
	for _, place := range p.places(t, path, h.people) {
		t.Error(place)
	}
	closeStore(t, s)
	verify(t, path)
}
