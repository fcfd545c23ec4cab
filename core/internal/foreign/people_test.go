//go:build foreign && linux

package foreign

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// change is one event about a person, as a request to a source and as what a CRM has to make of it.
type change struct {
	key      string // the person's, in the CRM
	post     harness.Post
	at       time.Time
	archive  bool
	refused  bool           // the CRM refuses it for good
	nothing  bool           // no route takes it
	repeated bool           // the very request of an earlier change, which a host recognizes
	fields   map[string]any // what it says; nil is null. Not there: it does not say
}

// history is the changes of a number of persons in the order in which their requests are sent. The changes of a person
// keep their order, those of different persons are sent side by side.
type history struct {
	changes []*change
	persons [][]*change
}

// names are first and last names; with bytes that JSON, HTML, SQL, shells and filters mind.
var names = []string{
	"Ada", "Zoë", "José", "Łukasz", "Nguyễn", "Þórður", "Ἀλέξανδρος", "Владимир",
	"田中", "さくら", "이서연", "محمد", "שרה", "नरेंद्र",
	"O'Brien", "d'Ängelo", `"Quote"`, `back\slash`, "<b>bold</b>", "a & b", "100 %", "{key}",
	"Müller; DROP", "👩‍🔬 Curie", "  ", "Ñandú",
}

// newHistory makes n changes from a seed: persons of PeopleForce and of Youforce that come, change, leave and return;
// requests that are repeated, that come late, in the wrong order and with the time of another one; nulls, and fields
// that are not mentioned; names with a tab, which the CRM refuses.
func newHistory(seed uint64, n int) *history {
	r := rand.New(rand.NewPCG(seed, 1))
	h := &history{}
	for len(h.changes) < n {
		id := len(h.persons)
		make := peopleForce
		if id%2 == 1 {
			make = youforce
		}
		var person []*change
		at := time.Date(2026, 1, 5, 8, 0, 0, r.IntN(1e9), time.UTC).Add(time.Duration(id) * time.Hour)
		gone := false
		for i := range 2 + r.IntN(14) {
			if r.IntN(12) > 0 { // else at the same time
				at = at.Add(time.Duration(1+r.IntN(5000)) * time.Millisecond)
			}
			what := "update"
			switch {
			case i == 0:
				what = "create"
			case gone:
				what = "return"
			case r.IntN(7) == 0:
				what = "leave"
			case r.IntN(25) == 0:
				what = "other"
			}
			if gone = what == "leave" || gone && what != "return"; what == "other" && gone {
				what = "update"
			}
			person = append(person, make(r, id, i, at, what, i > 0 && what != "leave" && r.IntN(40) == 0))
		}
		// Some come late. A name that is refused does not: it might be left out as stale, and the rest accepted.
		for i := range person {
			if person[i].refused {
				continue
			}
			if j := i + 1 + r.IntN(3); j < len(person) && r.IntN(6) == 0 {
				c := person[i]
				copy(person[i:j], person[i+1:j+1])
				person[j] = c
			}
		}
		// Some come again: the very same request, or the same event as a new request.
		for i := 0; i < len(person); i++ {
			if r.IntN(8) > 0 || person[i].repeated {
				continue
			}
			again := *person[i]
			if id%2 == 1 && !again.refused && r.IntN(2) == 0 {
				again.post = renotified(again.post, fmt.Sprintf("again-%d-%d", id, i))
			} else {
				again.repeated = true
			}
			person = slices.Insert(person, i+1+r.IntN(len(person)-i), &again)
		}
		if over := len(h.changes) + len(person) - n; over > 0 {
			person = person[:len(person)-over]
		}
		h.persons = append(h.persons, person)
		h.changes = append(h.changes, person...)
	}
	return h
}

// peopleForce makes a change of an employee.
func peopleForce(r *rand.Rand, id, n int, at time.Time, what string, refused bool) *change {
	c := &change{key: fmt.Sprintf("PF-%d", 4000+id), at: at, archive: what == "leave", refused: refused}
	text := func(of []string) any {
		if r.IntN(10) == 0 {
			return nil
		}
		return of[r.IntN(len(of))]
	}
	first, last := text(names), text(names)
	email := text([]string{"ada@example.com", "zoe@example.org"})
	phone := text([]string{"", "+31 20 5550100", "(030) 12-34"})
	if refused {
		last = "Tab\tles"
	}
	city := text([]string{"Utrecht", "Berlin", "London", "Lviv"})
	var location any
	if city != nil {
		location = map[string]any{"id": 51, "name": city}
	}
	action := map[string]string{
		"create": "employee_create", "update": "employee_update", "return": "employee_termination_revert",
		"leave": "employee_terminate",
		"other": "employee_start",
	}[what]
	if c.nothing = what == "other"; c.nothing {
		c.refused = false
	}
	body, err := json.Marshal(map[string]any{"action": action, "data": map[string]any{
		"id": 4000 + id,
		"attributes": map[string]any{
			"employee_number": fmt.Sprintf("EX-%d-%d", id, n), "first_name": first, "last_name": last,
			"email": email, "mobile_number": phone,
		},
		"location": location,
		"meta": map[string]any{
			"created_at": "2026-01-01T00:00:00Z", "updated_at": at.In(time.FixedZone("", 7200)).Format(time.RFC3339Nano),
		},
	}})
	if err != nil {
		panic(err)
	}
	c.post = harness.SignPeopleForce("people", body)
	words := func(v any) string { s, _ := v.(string); return s }
	c.fields = map[string]any{
		"name": strings.TrimSpace(words(first) + " " + words(last)), "email": email, "phone": phone,
		"lang": map[any]any{"Utrecht": 17, "Berlin": 5, "London": 1}[city], "active": true,
	}
	return c
}

// youforce makes a change of a person, which mentions some fields only.
func youforce(r *rand.Rand, id, n int, at time.Time, what string, refused bool) *change {
	tenant := 100000 + id%3
	c := &change{
		key: fmt.Sprintf("YF-%d/person/%d %d", tenant, 700000+id, id%5), at: at, archive: what == "leave",
		fields: map[string]any{"active": true},
	}
	record := map[string]any{"personCode": fmt.Sprint(n)}
	if r.IntN(4) > 0 || n == 0 {
		// Decomposed: bytes that are passed on are not normalized.
		record["lastName"] = []any{names[r.IntN(len(names))], "Zoe\u0308", nil, names[r.IntN(len(names))]}[r.IntN(4)]
		c.fields["name"] = record["lastName"]
	}
	switch r.IntN(4) {
	case 0:
		record["workingAmount"] = map[string]any{"amountOfWork": nil}
		c.fields["days"] = nil
	case 1, 2:
		days := r.IntN(41)
		record["workingAmount"] = map[string]any{"amountOfWork": days}
		c.fields["days"] = days
	}
	if c.refused = refused; refused {
		record["lastName"] = "Tab\tles"
	}
	body := map[string]any{
		"id": fmt.Sprintf("%d %d", 700000+id, id%5), "tenantId": fmt.Sprint(tenant),
		"timestamp": at.Format("2006-01-02T15:04:05.0000000-07:00"),
		"operation": map[string]string{"create": "Insert", "leave": "Delete"}[what], "value": record,
	}
	if what == "leave" {
		delete(body, "value")
	} else if body["operation"] == "" {
		body["operation"] = "Update"
	}
	event := "PERSON_CHANGED"
	if c.nothing = what == "other"; c.nothing {
		event, c.refused = "SICKLEAVE_CHANGED", false
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	c.post = harness.SignYouforce("hr", event, fmt.Sprintf("n-%d-%d", id, n), b)
	return c
}

// renotified is a request of Youforce under another notification id: another event, as far as anybody can tell.
func renotified(p harness.Post, id string) harness.Post {
	p.Header = p.Header.Clone()
	p.Header.Set("X-Vwd-Notification-Id", id)
	return p
}

// want is what the CRM has to hold in the end: by key, the fields of every record. It is worked out from what is
// promised and not from how it is done:
//
//   - a record exists if an upsert of it was accepted that no deletion had been accepted before with a later time;
//   - such a late upsert counts for nothing, else, of every field, the latest value counts: by the event's time and,
//     where that is the same, by the order in which the events were accepted;
//   - a deletion sets active to false, and counts like a value of it.
func (h *history) want() map[string]map[string]any {
	records := map[string]map[string]any{}
	for _, person := range h.persons {
		var counted []*change
		var deleted []time.Time
		for _, c := range person {
			switch {
			case c.repeated || c.refused || c.nothing:
			case c.archive:
				// One that finds no record, or newer values, has nothing to do, but is remembered if it is not late.
				newer := slices.ContainsFunc(counted, func(o *change) bool { return o.at.After(c.at) })
				if !newer {
					deleted = append(deleted, c.at)
					counted = append(counted, c)
				}
			default:
				if !slices.ContainsFunc(deleted, func(at time.Time) bool { return at.After(c.at) }) {
					counted = append(counted, c)
				}
			}
		}
		first := slices.IndexFunc(counted, func(c *change) bool { return !c.archive })
		if first < 0 {
			continue
		}
		counted = counted[first:]
		slices.SortStableFunc(counted, func(a, b *change) int { return a.at.Compare(b.at) })
		record := map[string]any{}
		for _, c := range counted {
			if c.archive {
				record["active"] = false
				continue
			}
			for name, value := range c.fields {
				record[name] = value
			}
		}
		records[counted[0].key] = record
	}
	return records
}

// count is how many of the changes are so.
func (h *history) count(so func(*change) bool) int {
	n := 0
	for _, c := range h.changes {
		if so(c) {
			n++
		}
	}
	return n
}

// expected is how many deliveries the changes make.
func (h *history) expected() int64 {
	return int64(h.count(func(c *change) bool { return !c.repeated && !c.nothing }))
}

// send posts everything to a host until it is accepted, some persons at a time. It returns at once; finish waits until
// all is sent and settled, and checks what became of the deliveries to the sink.
func (h *history) send(t *testing.T, host *harness.Host, sink string) (finish func()) {
	t.Helper()
	began := time.Now()
	const conns = 8
	var next atomic.Int64
	var done sync.WaitGroup
	for range conns {
		done.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(h.persons) {
					return
				}
				for _, c := range h.persons[i] {
					if !postUntil(t, host, c.post) {
						return
					}
				}
			}
		})
	}
	return func() {
		t.Helper()
		done.Wait()
		host.WaitSettled(5 * time.Minute)
		s := host.Status().Stats.Deliveries[sink]
		t.Logf("%d requests about %d persons, %d of them repeated, %d late, in %s: %d delivered, %d skipped, %d dead; "+
			"%d records",
			len(h.changes), len(h.persons), h.count(func(c *change) bool { return c.repeated }), h.late(),
			time.Since(began).Round(time.Millisecond), s[core.DeliveryDelivered], s[core.DeliverySkipped],
			s[core.DeliveryDead], len(h.want()))
		if got := settled(host, sink); got != h.expected() {
			t.Errorf("%d deliveries, want %d", got, h.expected())
		}
		want := int64(h.count(func(c *change) bool { return c.refused && !c.repeated }))
		if got := s[core.DeliveryDead]; got > want || got < want/2 { // those that were stale were not refused
			t.Errorf("%d dead letters, want %d:\n%s", got, want, host.MustRun("deliveries", "list", "--state", "dead"))
		}
	}
}

// postUntil posts until the host accepts.
func postUntil(t *testing.T, host *harness.Host, p harness.Post) bool {
	for {
		a, err := host.Post(p)
		switch {
		case err == nil && a.Status/100 == 2:
			return true
		case err == nil && a.Status < 500:
			t.Errorf("POST %s: %d %s", p.Path, a.Status, a.Body)
			return false
		}
		select {
		case <-t.Context().Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// waitFor waits until a share of the deliveries is settled.
func (h *history) waitFor(host *harness.Host, sink string, share float64) {
	what := fmt.Sprintf("%.0f %% of the deliveries are settled", share*100)
	n := int64(share * float64(h.expected()))
	host.Eventually(2*time.Minute, what, func() bool { return settled(host, sink) >= n })
}

// settled is how many deliveries of a sink are done.
func settled(h *harness.Host, sink string) int64 {
	s := h.Status().Stats.Deliveries[sink]
	return s[core.DeliveryDelivered] + s[core.DeliverySkipped] + s[core.DeliveryDead]
}

// late is how many changes come after one of the same person with a later time.
func (h *history) late() int {
	n := 0
	for _, person := range h.persons {
		for i, c := range person {
			if !c.repeated && slices.ContainsFunc(person[:i], func(o *change) bool { return o.at.After(c.at) }) {
				n++
			}
		}
	}
	return n
}

// compare fails the test where the CRM does not hold what it has to.
func compare(t *testing.T, got, want map[string]map[string]any) {
	t.Helper()
	bad := 0
	say := func(format string, args ...any) {
		if bad++; bad <= 10 {
			t.Errorf(format, args...)
		}
	}
	for key, w := range want {
		g, ok := got[key]
		if !ok {
			say("there is no record %q", key)
			continue
		}
		for name, value := range w {
			if g[name] != value {
				say("%q: %s is %#v, want %#v", key, name, g[name], value)
			}
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			say("there is a record %q", key)
		}
	}
	if bad > 10 {
		t.Errorf("and %d more", bad-10)
	}
}
