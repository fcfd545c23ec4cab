package alert

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core"
)

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) // a Monday

// world is a host that an evaluator watches.
type world struct {
	*testing.T
	e     *Evaluator
	rules []Rule
	s     Snapshot
	log   []string // what was sent: minutes since start, alert, state, subject
}

func newWorld(t *testing.T, rules ...Rule) *world {
	w := &world{T: t, rules: rules, s: Snapshot{
		At:      start,
		Sinks:   []Sink{{Name: "audit", State: "working"}, {Name: "chat", State: "working"}},
		Sources: []Source{{Name: "people"}},
		Plugins: []Plugin{{Name: "sink-file", State: PluginWorks}},
	}}
	w.restart()
	return w
}

// restart is a host that stops and starts at once.
func (w *world) restart() {
	w.Helper()
	var state []byte
	if w.e != nil {
		var err error
		if state, err = w.e.Save(); err != nil {
			w.Fatal(err)
		}
	}
	e, err := New(state, w.s.At)
	if err != nil {
		w.Fatal(err)
	}
	e.SetRules(w.rules)
	w.e = e
}

// look evaluates now and sends what is to be sent.
func (w *world) look() {
	w.Helper()
	w.e.Evaluate(w.s)
	if len(w.e.Outbox()) > 0 && !w.e.Dirty() {
		w.Error("a message is to be sent that is not to be saved")
	}
	for _, e := range w.e.Outbox() {
		w.log = append(w.log, fmt.Sprintf("%s %s %s %s", e.At.Sub(start), e.Alert, e.State, e.Subject))
	}
	w.e.Sent(len(w.e.Outbox()))
}

// pass lets time pass, with a look every step.
func (w *world) pass(d, step time.Duration) {
	w.Helper()
	for end := w.s.At.Add(d); w.s.At.Before(end); {
		w.s.At = w.s.At.Add(step)
		w.look()
	}
}

// sent checks what was sent since the last call.
func (w *world) sent(want ...string) {
	w.Helper()
	if d := cmp.Diff(want, w.log); d != "" {
		w.Errorf("sent (-want +got)\n%s", d)
	}
	w.log = nil
}

func TestSinkParked(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: SinkParked, Span: 10 * time.Minute, States: ParkedStates(), Clear: time.Minute})
	w.pass(5*time.Minute, time.Minute)
	w.s.Sinks[0].State, w.s.Sinks[0].Reason = "failing", "connection refused"
	w.pass(9*time.Minute, time.Minute)
	w.s.Sinks[0].State = "suspended" // it is parked all the time
	w.sent()
	w.pass(2*time.Minute, time.Minute)
	w.sent("16m0s a fired sink/audit")
	w.pass(time.Hour, time.Minute)
	w.sent() // once
	w.s.Sinks[0].State, w.s.Sinks[0].Reason = "working", ""
	w.pass(2*time.Minute, time.Minute)
	w.sent("1h18m0s a resolved sink/audit")

	// One that is not parked for so long, and one in another state.
	w.s.Sinks[1].State = "down"
	w.pass(9*time.Minute, time.Minute)
	w.s.Sinks[1].State = "working"
	w.pass(time.Minute, time.Minute)
	w.s.Sinks[1].State = "on hold"
	w.pass(time.Hour, time.Minute)
	w.sent()
}

func TestParkedStatesOfTheRule(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: SinkParked, States: []string{"suspended"}, Things: []string{"audit"}})
	w.s.Sinks[0].State, w.s.Sinks[1].State = "paused", "suspended"
	w.pass(time.Minute, time.Minute)
	w.sent()
	w.s.Sinks[0].State = "suspended"
	w.look()
	w.sent("1m0s a fired sink/audit")
	w.s.Sinks[0].State = "paused"
	w.look()
	w.sent("1m0s a resolved sink/audit")
}

func TestDeadLetters(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: DeadLetters, Count: 10})
	w.s.Sinks[0].Dead = 10
	w.look()
	w.sent()
	w.s.Sinks[0].Dead = 11
	w.look()
	w.sent("0s a fired sink/audit")
	w.s.Sinks[0].Dead = 500
	w.pass(time.Hour, time.Minute)
	w.sent()
	w.s.Sinks[0].Dead = 10 // the others were retried
	w.look()
	w.sent("1h0m0s a resolved sink/audit")
}

func TestDeadLettersWithin(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: DeadLetters, Count: 5, Within: time.Hour})
	w.s.Sinks[0].Dead = 1000 // of old
	w.look()
	for range 5 {
		w.s.Sinks[0].Dead++
		w.pass(10*time.Minute, time.Minute)
	}
	w.sent()
	w.s.Sinks[0].Dead -= 700 // retried; and one more dies
	w.look()
	w.s.Sinks[0].Dead++
	w.look()
	w.sent("50m0s a fired sink/audit")
	w.restart()
	w.pass(20*time.Minute, time.Minute)
	w.sent("1h1m0s a resolved sink/audit")
}

func TestOldestWaiting(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: OldestWaiting, Span: 30 * time.Minute, For: 5 * time.Minute})
	w.s.Sinks[1].Oldest = start.Add(-20 * time.Minute)
	w.pass(time.Minute*14, time.Minute)
	w.sent()
	w.pass(time.Minute*2, time.Minute)
	w.sent("16m0s a fired sink/chat") // since minute 11
	w.s.Sinks[1].Oldest = start.Add(10 * time.Minute)
	w.look()
	w.sent("16m0s a resolved sink/chat")
}

func TestPluginFailed(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: PluginFailed})
	w.s.Plugins[0] = Plugin{Name: "sink-file", State: PluginOther}
	w.look()
	w.sent()
	w.s.Plugins[0] = Plugin{Name: "sink-file", State: PluginHasFailed, Reason: "exit status 2"}
	w.look()
	w.sent("0s a fired plugin/sink-file")
	w.s.Plugins[0].State = PluginOther // it is tried
	w.pass(time.Hour, time.Minute)
	w.sent()
	w.s.Plugins[0].State = PluginWorks
	w.look()
	w.sent("1h0m0s a resolved plugin/sink-file")
}

func TestRejectedSignatures(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: RejectedSignatures, Count: 20, Within: 10 * time.Minute})
	w.s.Sources[0].Rejected = 20 // before the first look, since the host's start
	w.look()
	w.sent()
	w.pass(9*time.Minute, time.Minute)
	w.s.Sources[0].Rejected++
	w.look()
	w.sent("9m0s a fired source/people")
	w.pass(time.Minute, time.Minute)
	w.sent("10m0s a resolved source/people")
	w.restart()
	w.s.Sources[0].Rejected = 0 // a new host counts anew
	w.look()
	w.s.Sources[0].Rejected = 21
	w.look()
	w.sent("10m0s a fired source/people")
}

func TestSourceSilentFixed(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: SourceSilent, Span: time.Hour})
	w.look()
	w.pass(30*time.Minute, time.Minute)
	w.s.Sources[0].Received = 1
	w.pass(61*time.Minute, time.Minute)
	w.sent()
	w.pass(time.Minute, time.Minute)
	w.sent("1h32m0s a fired source/people")
	w.pass(24*time.Hour, time.Hour)
	w.s.Sources[0].Received = 2
	w.look()
	w.sent("25h32m0s a resolved source/people")

	// Nobody listened while the host was down: that was no silence.
	w.pass(30*time.Minute, time.Minute)
	w.s.At = w.s.At.Add(5 * time.Hour)
	w.s.Sources[0].Received = 0
	w.restart()
	w.pass(29*time.Minute, time.Minute)
	w.sent()
	w.pass(3*time.Minute, time.Minute)
	w.sent("31h33m0s a fired source/people")
}

// office sends a lot on working days from 8 to 18, and one batch on Sunday night.
func office(at time.Time) bool {
	if at.Weekday() == time.Sunday {
		return at.Hour() == 23 && at.Minute() == 0
	}
	return at.Weekday() != time.Saturday && at.Hour() >= 8 && at.Hour() < 18
}

func (w *world) work(d time.Duration, quiet func(time.Time) bool) {
	for end := w.s.At.Add(d); w.s.At.Before(end); {
		w.s.At = w.s.At.Add(5 * time.Minute)
		if quiet == nil || !quiet(w.s.At) {
			if office(w.s.At) {
				w.s.Sources[0].Received += 3
			}
		}
		w.look()
	}
}

func TestSourceSilentUsual(t *testing.T) {
	const day = 24 * time.Hour
	w := newWorld(t, Rule{Name: "a", Condition: SourceSilent, AtLeast: 15 * time.Minute})
	w.work(6*day, nil)
	if st := w.e.Statuses(); st[0].Phase != Learning {
		t.Errorf("after 6 days: %+v", st[0])
	}
	w.work(5*7*day-6*day, nil)
	w.sent() // nights and weekends are usual
	if st := w.e.Statuses(); st[0].Phase != OK {
		t.Errorf("after 5 weeks: %+v", st[0])
	}

	// A Monday on which nothing comes: noticed in the morning, once it is twice as late as Mondays are.
	monday := w.s.At
	w.work(10*time.Hour, func(time.Time) bool { return true })
	if len(w.log) != 1 || !strings.HasSuffix(w.log[0], " a fired source/people") {
		t.Fatalf("sent %q", w.log)
	}
	after, err := time.ParseDuration(strings.Fields(w.log[0])[0])
	if err != nil || start.Add(after).Sub(monday) > 4*time.Hour {
		t.Errorf("fired %s after Monday 9:00", start.Add(after).Sub(monday))
	}
	w.log = nil
	w.work(day, nil)
	if len(w.log) != 1 || !strings.HasSuffix(w.log[0], " a resolved source/people") {
		t.Fatalf("sent %q", w.log)
	}
	w.log = nil
	// The odd Monday does not make the next one odd, and a silent hour in the middle of a day is noticed.
	w.work(6*day, nil)
	w.sent()
	w.restart()
	at := w.s.At.Truncate(day).Add(day + 14*time.Hour)
	w.work(3*day, func(x time.Time) bool { return x.After(at) && x.Before(at.Add(70*time.Minute)) })
	if len(w.log) != 2 || !strings.Contains(w.log[0], "fired") || !strings.Contains(w.log[1], "resolved") {
		t.Errorf("sent %q", w.log)
	}
}

func TestLearn(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: SourceSilent, AtLeast: 15 * time.Minute})
	var past []time.Time
	for at := start.Add(-28 * 24 * time.Hour); at.Before(start); at = at.Add(5 * time.Minute) {
		if office(at) {
			past = append(past, at)
		}
	}
	w.e.Learn("people", past)
	w.e.Learn("people", []time.Time{start.Add(-time.Hour)}) // is known already
	w.work(2*24*time.Hour, nil)
	w.sent()
	if st := w.e.Statuses(); st[0].Phase != OK {
		t.Errorf("%+v", st[0])
	}
	w.work(6*time.Hour, func(time.Time) bool { return true })
	if len(w.log) != 1 || !strings.Contains(w.log[0], "fired") {
		t.Errorf("sent %q", w.log)
	}
}

// TestLearnFar has clocks that go anywhere.
func TestLearnFar(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: SourceSilent, AtLeast: time.Minute})
	w.look()
	for _, at := range []time.Duration{100 * 24 * time.Hour, -50 * 24 * time.Hour, 3 * 365 * 24 * time.Hour, 90 * time.Minute} {
		w.s.At = start.Add(at)
		w.s.Sources[0].Received++
		w.look()
		w.pass(2*time.Hour, 10*time.Minute)
	}
	if n := len(w.e.s.Quiet["people"].Hours); n > keptHours {
		t.Errorf("%d hours are kept", n)
	}
	w.sent()
}

func TestForAndGrace(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: DeadLetters, For: 5 * time.Minute, Grace: 10 * time.Minute})
	w.s.Sinks[0].Dead = 1
	w.pass(9*time.Minute, time.Minute)
	w.sent() // grace
	w.pass(2*time.Minute, time.Minute)
	w.sent("10m0s a fired sink/audit")
	w.s.Sinks[1].Dead = 1
	w.pass(4*time.Minute, time.Minute)
	w.s.Sinks[1].Dead = 0
	w.pass(time.Minute, time.Minute)
	w.s.Sinks[1].Dead = 1
	w.pass(4*time.Minute, time.Minute)
	w.sent() // not for long enough
	w.pass(2*time.Minute, time.Minute)
	w.sent("22m0s a fired sink/chat")
}

func TestRepeat(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: DeadLetters, Repeat: time.Hour})
	w.s.Sinks[0].Dead = 1
	w.look()
	w.pass(150*time.Minute, time.Minute)
	w.sent("0s a fired sink/audit", "1h0m0s a reminded sink/audit", "2h0m0s a reminded sink/audit")
	w.restart()
	w.pass(45*time.Minute, time.Minute)
	w.sent("3h0m0s a reminded sink/audit")
}

func TestFlapping(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: DeadLetters, Clear: 5 * time.Minute})
	flap := func(n int, pause time.Duration) {
		for range n {
			w.s.Sinks[0].Dead = 1
			w.pass(time.Minute, time.Minute)
			w.s.Sinks[0].Dead = 0
			w.pass(pause, time.Minute)
		}
	}
	flap(20, 4*time.Minute)
	w.sent("1m0s a fired sink/audit") // faster than clear: once
	w.pass(time.Minute*2, time.Minute)
	w.sent("1h42m0s a resolved sink/audit")
	w.pass(time.Minute, time.Minute)
	flap(10, 6*time.Minute) // slower than clear: from the second time on it takes longer
	if n := len(w.log); n != 1 {
		t.Errorf("%d messages: %q", n, w.log)
	}
}

// TestRestart checks that what was said is not said again, and what is to be said is.
func TestRestart(t *testing.T) {
	w := newWorld(t, Rule{
		Name: "a", Condition: SinkParked, Span: 10 * time.Minute, States: ParkedStates(), Clear: time.Minute, Grace: time.Minute,
	})
	w.s.Sinks[0].State = "suspended"
	w.pass(12*time.Minute, time.Minute)
	w.sent("11m0s a fired sink/audit")
	w.restart()
	w.s.Sinks[0].State = "working" // it has yet to fail again
	w.look()
	w.s.At = w.s.At.Add(30 * time.Second)
	w.look()
	w.s.Sinks[0].State = "suspended"
	w.pass(30*time.Minute, time.Minute)
	w.sent()
	w.restart()
	w.s.Sinks[0].State = "working"
	w.pass(3*time.Minute, time.Minute)
	w.sent("44m30s a resolved sink/audit")
}

// TestOutbox checks that a message that could not be stored, or whose host died, is sent later, and is the same.
func TestOutbox(t *testing.T) {
	w := newWorld(t, Rule{Name: "a", Condition: DeadLetters})
	w.s.Sinks[0].Dead = 1
	w.e.Evaluate(w.s)
	first := w.e.Outbox()
	w.restart()
	w.s.At = w.s.At.Add(time.Hour)
	w.e.Evaluate(w.s)
	if d := cmp.Diff(first, w.e.Outbox()); d != "" || len(first) != 1 {
		t.Errorf("(-want +got)\n%s", d)
	}
	w.s.Sinks[0].Dead = 0
	w.look()
	w.sent("0s a fired sink/audit", "1h0m0s a resolved sink/audit")
	ids := map[string]bool{}
	for range 2 {
		for _, dead := range []int64{1, 0} {
			w.s.Sinks[0].Dead = dead
			w.e.Evaluate(w.s)
		}
	}
	for _, e := range w.e.Outbox() {
		r, err := e.Request()
		if err != nil || ids[r.ID()] {
			t.Errorf("%+v: %s, %v", e, r.ID(), err)
		}
		ids[r.ID()] = true
	}
	if len(ids) != 4 {
		t.Errorf("%d messages", len(ids))
	}
}

func TestSetRules(t *testing.T) {
	a := Rule{Name: "a", Condition: DeadLetters}
	w := newWorld(t, a, Rule{Name: "b", Condition: DeadLetters})
	w.s.Sinks[0].Dead = 1
	w.look()
	w.sent("0s a fired sink/audit", "0s b fired sink/audit")
	a.Repeat = time.Hour
	w.e.SetRules([]Rule{a, {Name: "c", Condition: DeadLetters, Count: 5}})
	w.pass(time.Hour, time.Minute)
	w.sent("1h0m0s a reminded sink/audit") // b is forgotten, a goes on
	phases := map[string]Phase{}
	for _, st := range w.e.Statuses() {
		if st.Subject == "sink/audit" {
			phases[st.Alert] = st.Phase
		}
	}
	if d := cmp.Diff(map[string]Phase{"a": Firing, "c": OK}, phases); d != "" {
		t.Error(d)
	}
	a.Condition, a.Span = OldestWaiting, time.Hour
	w.e.SetRules([]Rule{a})
	w.look()
	w.sent()
	a.Condition = DeadLetters
	w.e.SetRules([]Rule{a})
	w.look()
	w.sent("1h0m0s a fired sink/audit")
	a.Things = []string{"chat"} // the sink is not watched any more
	w.e.SetRules([]Rule{a})
	w.look()
	w.sent("1h0m0s a resolved sink/audit")
	a.Things = nil
	w.e.SetRules([]Rule{a})
	w.look()
	w.sent("1h0m0s a fired sink/audit")
	w.s.Sinks = w.s.Sinks[1:] // nor there
	w.look()
	w.sent("1h0m0s a resolved sink/audit")
}

func TestTexts(t *testing.T) {
	w := newWorld(t,
		Rule{Name: "parked", Condition: SinkParked, Span: 10 * time.Minute, States: ParkedStates()},
		Rule{Name: "dead", Condition: DeadLetters}, Rule{Name: "recent", Condition: DeadLetters, Within: time.Hour},
		Rule{Name: "old", Condition: OldestWaiting, Span: time.Hour}, Rule{Name: "plugin", Condition: PluginFailed},
		Rule{Name: "silent", Condition: SourceSilent, Span: 5 * time.Minute},
		Rule{Name: "sigs", Condition: RejectedSignatures, Count: 3, Within: 10 * time.Minute})
	w.s.Sinks = w.s.Sinks[:1]
	texts := func() (all []string) {
		for _, e := range w.e.Outbox() {
			all = append(all, e.Text)
		}
		w.look()
		w.log = nil
		return all
	}
	w.e.Evaluate(w.s)
	w.s.Sinks[0] = Sink{Name: "audit", State: "suspended", Reason: "the token was revoked.", Dead: 1, Oldest: start.Add(-26 * time.Hour)}
	w.s.Plugins[0] = Plugin{Name: "sink-file", State: PluginHasFailed, Reason: "exit status 2"}
	w.s.Sources[0].Rejected = 4
	w.e.Evaluate(w.s)
	w.s.At = w.s.At.Add(10*time.Minute + 10*time.Second)
	w.e.Evaluate(w.s)
	if d := cmp.Diff([]string{
		"The sink audit has 1 dead letter, more than 0.",
		"1 new dead letter of the sink audit within 1h, more than 0.",
		"The oldest delivery that waits for the sink audit was received 1d2h ago.",
		"The plugin sink-file has failed: exit status 2.",
		"The source people refused 4 requests as not authentic within 10m, more than 3.",
		"The sink audit has been suspended for 10m10s: the token was revoked.",
		"The source people has sent nothing for 10m10s, more than 5m.",
		"Resolved after 10m10s: 0 such requests within 10m.",
	}, texts()); d != "" {
		t.Error(d)
	}
	w.s.Sinks[0] = Sink{Name: "audit", State: "working"}
	w.s.Plugins[0] = Plugin{Name: "sink-file", State: PluginWorks}
	w.s.Sources[0].Received = 1
	w.s.At = w.s.At.Add(time.Hour)
	w.e.Evaluate(w.s)
	if d := cmp.Diff([]string{
		"Resolved after 1h10m: the sink audit works again.",
		"Resolved after 1h10m: the sink audit has 0 dead letters.",
		"Resolved after 1h10m: 0 new dead letters within 1h.",
		"Resolved after 1h10m: nothing waits that long for the sink audit any more.",
		"Resolved after 1h10m: the plugin sink-file works again.",
		"Resolved after 1h10m: the source people sends again.",
	}, texts()); d != "" {
		t.Error(d)
	}
}

func TestSpell(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Millisecond: "1.5s", 12 * time.Second: "12s", time.Minute: "1m", 10 * time.Minute: "10m",
		610 * time.Second: "10m10s", time.Hour: "1h", 70 * time.Minute: "1h10m", 23*time.Hour + 30*time.Second: "23h1m",
		10 * time.Hour: "10h", 24 * time.Hour: "1d", 50 * time.Hour: "2d2h", 240 * time.Hour: "10d", -time.Second: "0s",
	} {
		if got := spell(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestBadState(t *testing.T) {
	for _, state := range []string{"{", "[]", `{"entries":{"x":null},"quiet":{"people":null}}`} {
		e, err := New([]byte(state), start)
		if e == nil || (err == nil) != strings.HasPrefix(state, `{"`) {
			t.Errorf("%s: %v", state, err)
			continue
		}
		e.SetRules([]Rule{{Name: "a", Condition: SourceSilent, Span: time.Hour}})
		e.Evaluate(Snapshot{At: start, Sources: []Source{{Name: "people"}}})
	}
}

func TestEvery(t *testing.T) {
	for _, c := range []struct {
		rule Rule
		want time.Duration
	}{
		{Rule{Span: time.Hour}, 10 * time.Second}, {Rule{For: 20 * time.Second}, 5 * time.Second},
		{Rule{Within: time.Second}, 250 * time.Millisecond}, {Rule{Clear: time.Millisecond}, 100 * time.Millisecond},
	} {
		if got := Every([]Rule{c.rule}); got != c.want {
			t.Errorf("%+v: %s", c.rule, got)
		}
	}
}

func TestDecode(t *testing.T) {
	p, err := Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, et := range p.Events {
		body := et.Samples[0].Body
		d := Decode(&core.Request{Seq: 7, Source: core.BuiltinSource, Body: body})
		if d.Refused != "" || len(d.Events) != 1 {
			t.Fatalf("%s: %+v", et.Type, d)
		}
		if e := d.Events[0]; e.Type != et.Type || string(e.Data) != string(body) || e.Subject != "sink/audit" ||
			e.PartitionKey != "stuck/sink/audit" {
			t.Errorf("%s: %+v", et.Type, e)
		}
		var fields map[string]any
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			if et.Data.Attribute(name) == nil {
				t.Errorf("%s: %s is not in its schema", et.Type, name)
			}
		}
	}
	for _, body := range []string{"", "null", "[]", "{}", `{"alert":"a","state":"off","subject":"sink/x"}`, `{"state":"fired"}`} {
		if d := Decode(&core.Request{Body: []byte(body)}); d.Refused == "" {
			t.Errorf("%q was decoded", body)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"alert":"a","state":"fired","subject":"sink/x","at":"2026-03-02T09:00:00Z"}`))
	f.Add([]byte(`{"alert":"a","state":"resolved","subject":"","number":-1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d := Decode(&core.Request{Body: body})
		if (d.Refused == "") != (len(d.Events) == 1) {
			t.Errorf("%+v", d)
		}
		if e, err := New(body, start); err == nil {
			e.SetRules([]Rule{{Name: "a", Condition: SourceSilent}, {Name: "b", Condition: DeadLetters, Within: time.Hour}})
			e.Evaluate(Snapshot{At: start, Sources: []Source{{Name: "people"}}, Sinks: []Sink{{Name: "a"}}})
		}
	})
}
