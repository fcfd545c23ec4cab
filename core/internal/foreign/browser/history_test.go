//go:build foreign && linux

package browser

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// TestFind finds a delivery by the subject of its event, with the field at the top and with the filters of the list, and
// sees why a route did not match.
func TestFind(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	for id, name := range map[int]string{51: "Lovelace", 52: "Contractor", 53: "Hopper"} {
		s.post(id, name)
	}
	s.settled()
	b := chrome.open(t, s.origin)
	b.visit("/deliveries")
	b.waitText("main tbody", "employee/53")
	b.fill(`input[name="subject"]`, "employee/51")
	b.key(kb.Enter)
	b.waitFor("the filter holds", `document.querySelectorAll("main tbody tr").length === 2`)
	b.run("the delivery to the partner", clickOn(`//main//tbody/tr[contains(., "partner")]//a[contains(@href, "/deliveries/")]`))
	b.waitText("h1", "Delivery to partner")
	b.waitText("main", "e51@example.com")

	// The contractor's event has only one delivery. Why?
	b.fill("input[data-find]", "employee/52")
	b.key(kb.Enter)
	b.waitText("main tbody", "employee/52")
	b.run("the event", clickOn(`//main//tbody/tr//a[contains(@href, "/events/")]`))
	b.waitText("main", "new_hires")
	for _, want := range []string{
		`event.data.attributes.last_name != "Contractor"`, `event.data.attributes.last_name == "Nobody"`,
	} {
		b.waitText(".steps", want)
	}
	b.keep("why-not")
	why := evaluate[string](b, `[...document.querySelectorAll(".routes li")].find(e => e.innerText.includes("new_hires")).innerText`)
	if !strings.Contains(why, "false") || !strings.Contains(why, "Contractor") {
		t.Errorf("why the route did not match: %s", why)
	}
}

// TestFilters asks for lists by each of the indexed fields, over as many requests as -ui.requests says or as are in the
// database that -ui.database names, and looks at how long the answers take.
func TestFilters(t *testing.T) {
	address := programs.FreeAddress(t)
	h := programs.NewHost(t, harness.Options{Config: fmt.Sprintf("admin {\n  listen = %q\n}\n", address) + harness.YouforceToFile})
	if *database != "" {
		place(t, *database, h.Path("data/grapnel.db"))
	}
	h.Start()
	if *database == "" {
		l := h.StartLoad(harness.LoadOptions{Limit: *requests, Keys: 50})
		l.Wait()
		h.WaitSettled(3 * patience)
	}
	total := h.Status().Stats.Requests[core.RequestRouted]
	b := chrome.open(t, "http://"+address)
	b.visit("/")
	// Values that are there, seldom and often, and some that are not.
	get := func(path string) []string {
		return evaluate[[]string](b, fmt.Sprintf(`fetch(%s).then(r => r.json()).then(p => p.items.flatMap(i =>
			[i.source && i.source.replace("urn:grapnel:source:", ""), i.type, i.subject, i.tenant, i.route, i.sink].map(v => v || "")))`, literal(path)))
	}
	const width = 6
	d := get("/v1/deliveries?limit=1")
	if len(d) != width {
		t.Fatalf("there are no deliveries: %q", d)
	}
	field := func(names ...string) (q string) {
		v := url.Values{}
		for _, n := range names {
			v.Set(n, d[slices.Index([]string{"source", "type", "subject", "tenant", "route", "sink"}, n)])
		}
		return "?" + v.Encode()
	}
	paths := []string{
		"/", "/requests", "/requests" + field("source"), "/requests?state=dead", "/requests?source=absent",
		"/requests?since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z",
		"/events", "/events" + field("type"), "/events" + field("subject"), "/events" + field("source"), "/events?type=absent",
		"/events?subject=absent", "/events?unrouted=true", "/events?tenant=absent",
		"/deliveries", "/deliveries" + field("subject"), "/deliveries" + field("type"), "/deliveries" + field("route"),
		"/deliveries" + field("sink"), "/deliveries" + field("sink") + "&state=dead", "/deliveries?state=pending",
		"/deliveries?state=dead", "/deliveries" + field("source", "type", "sink"), "/deliveries?subject=absent",
		"/deliveries?tenant=absent", "/dead", "/dead" + field("sink"), "/dead?subject=absent", "/unrouted", "/rejections",
	}
	const limit = 300 // ms
	var slowest float64
	for _, p := range paths {
		times := evaluate[[]float64](b, fmt.Sprintf(`(async () => {
			const times = [];
			for (let i = 0; i < 3; i++) {
				const began = performance.now(), r = await fetch(%s);
				if (!(await r.text()).includes("<h1") || !r.ok) throw new Error("status " + r.status);
				times.push(performance.now() - began);
			}
			return times;
		})()`, literal(p)))
		slices.Sort(times)
		t.Logf("%6.0f ms  %s  (%.0f)", times[1], p, times)
		if slowest = max(slowest, times[1]); times[1] > limit {
			t.Errorf("%s: answered within %.0f ms", p, times[1])
		}
	}
	t.Logf("%d requests: the slowest of %d lists was answered within %.0f ms", total, len(paths), slowest)

	// A text in bodies: what is found appears newest first, while the page says how far it has looked.
	_, text, _ := strings.Cut(d[2], "/")
	b.visit("/requests?" + url.Values{"text": {text}, "since": {time.Now().Add(-20 * 24 * time.Hour).UTC().Format(time.RFC3339)}}.Encode())
	evaluate[int](b, `(() => {
		window.progress = [];
		const look = () => {
			const p = document.querySelector("main progress"), now = p ? p.value : 100;
			if (window.progress.at(-1) !== now) window.progress.push(now);
		};
		look();
		new MutationObserver(look).observe(document.querySelector("main"), { childList: true, subtree: true });
		return 1;
	})()`)
	b.waitFor("all is looked through", `!document.querySelector("main progress") && document.querySelector("main tr.search")`)
	progress := evaluate[[]float64](b, `window.progress`)
	times := evaluate[[]float64](b,
		`[...document.querySelectorAll("main tbody tr[data-row] td:first-child time")].map(t => Date.parse(t.dateTime))`)
	t.Logf("a text in bodies: %d hits; %v %% looked through", len(times), progress)
	if len(times) == 0 || !slices.IsSortedFunc(times, func(a, b float64) int { return cmp.Compare(b, a) }) {
		t.Errorf("what is found is not newest first: %v", times)
	}
	if !slices.IsSorted(progress) || *database != "" && len(progress) < 3 {
		t.Errorf("progress: %v", progress)
	}
}

// place copies a database.
func place(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err2 := out.Close(); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
}
