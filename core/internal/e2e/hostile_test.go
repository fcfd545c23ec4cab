//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/core/store"
)

// rss is the resident memory of a process in MiB.
func rss(t *testing.T, pid int) float64 {
	t.Helper()
	kib := func(text string) float64 {
		n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 64)
		if err != nil {
			t.Errorf("memory of %d: %v", pid, err)
		}
		return n / 1024
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
		if err != nil {
			t.Errorf("ps: %v", err)
		}
		return kib(string(out))
	}
	_, line, _ := strings.Cut(string(b), "VmRSS:")
	line, _, _ = strings.Cut(line, "\n")
	return kib(line)
}

// watch posts good requests, one after the other, and samples the host's memory, until stop is called.
type watch struct {
	t    *testing.T
	h    *harness.Host
	quit chan struct{}
	done sync.WaitGroup
	good int // requests so far

	mu      sync.Mutex
	took    []time.Duration
	peak    float64
	started time.Time
}

func (w *watch) start() {
	w.quit, w.took, w.peak, w.started = make(chan struct{}), nil, 0, time.Now()
	client := &http.Client{Timeout: harness.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	w.done.Go(func() {
		for w.wait(10 * time.Millisecond) {
			w.good++
			p := harness.Youforce("hr", "good", w.good)
			req, err := http.NewRequest(http.MethodPost, w.h.URL+p.Path, bytes.NewReader(p.Body))
			if err != nil {
				w.t.Error(err)
				return
			}
			req.Header = p.Header
			began := time.Now()
			resp, err := client.Do(req)
			if err != nil {
				w.t.Errorf("a good request: %v", err)
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				w.t.Errorf("a good request: %s", resp.Status)
			}
			w.mu.Lock()
			w.took = append(w.took, time.Since(began))
			w.mu.Unlock()
		}
	})
	w.done.Go(func() {
		for w.wait(5 * time.Millisecond) {
			m := rss(w.t, w.h.PID())
			w.mu.Lock()
			w.peak = max(w.peak, m)
			w.mu.Unlock()
		}
	})
}

func (w *watch) wait(d time.Duration) bool {
	select {
	case <-w.quit:
		return false
	case <-time.After(d):
		return true
	}
}

// stop logs what an attack cost and checks it: the attack's own time, the memory above base, and the good requests.
func (w *watch) stop(attack string, within time.Duration, base, growth float64) {
	w.t.Helper()
	took := time.Since(w.started)
	close(w.quit)
	w.done.Wait()
	slices.Sort(w.took)
	var median, worst time.Duration
	if n := len(w.took); n > 0 {
		median, worst = w.took[n/2], w.took[n-1]
	}
	w.t.Logf("%-44s %8s  memory %5.1f MiB before, %5.1f at most  %4d good requests, median %s, worst %s",
		attack, took.Round(time.Millisecond), base, w.peak, len(w.took), median.Round(10*time.Microsecond),
		worst.Round(10*time.Microsecond))
	if took > within {
		w.t.Errorf("%s: took %s, at most %s are expected", attack, took, within)
	}
	if w.peak-base > growth {
		w.t.Errorf("%s: memory grew by %.1f MiB, at most %.0f are expected", attack, w.peak-base, growth)
	}
	if worst > 3*time.Second {
		w.t.Errorf("%s: a good request took %s meanwhile", attack, worst)
	}
}

// TestHostileInput attacks a host in every way that costs the attacker little, and measures what it costs the host:
// every attack gets its answer in bounded time and memory, while others are served.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{
		Server: `
  limits {
    max_body       = "1MiB"
    header_timeout = "1s"
    read_timeout   = "6s"
  }`,
		Config: harness.YouforceToFile + `
source "youforce" "big" {
  secrets  = [env("YOUFORCE_SECRET")]
  max_body = "16MiB"
}
source "forms" "forms" {
  auth     = "key"
  api_keys = ["key of forms"]
  max_body = "16MiB"
}
`})
	h.Start()
	for i := range 50 {
		h.MustPost(harness.Youforce("hr", "warm", i))
	}
	w := &watch{t: t, h: h}
	attack := func(name string, within time.Duration, growth float64, do func(t *testing.T)) {
		base := rss(t, h.PID())
		w.start()
		do(t)
		w.stop(name, within, base, growth)
	}
	// posts sends the same body a number of times, some at once, and expects one answer.
	posts := func(n int, p harness.Post, status int, body string) func(*testing.T) {
		return func(t *testing.T) {
			var posting sync.WaitGroup
			for range 8 {
				posting.Go(func() {
					for range n / 8 {
						a, err := impatient(h, p)
						if err != nil || a.Status != status || a.Body != body {
							t.Errorf("%d %s, %v; want %d %s", a.Status, a.Body, err, status, body)
							return
						}
					}
				})
			}
			posting.Wait()
		}
	}
	signed := func(source string, body string) harness.Post {
		return harness.SignYouforce(source, "EMPLOYMENT_CHANGED", "", []byte(body))
	}
	bad := func(cause string) string { return `{"error":"bad_json","cause":"` + cause + `"}` }

	attack("nothing", time.Minute, 50, func(*testing.T) { time.Sleep(200 * time.Millisecond) })
	deep := strings.Repeat("[", 10_000_000)
	attack("24 × 10 MB of [", 20*time.Second, 300, posts(24, signed("big", deep), 400, bad("depth")))
	attack("24 × 10 MB of [ where 1 MiB is the limit", 10*time.Second, 50,
		posts(24, signed("hr", deep), 413, `{"error":"too_large"}`))
	attack("80 × 1e1000000", 10*time.Second, 50,
		posts(80, signed("hr", `{"id":"x","n":1e1000000}`), 400, bad("exponent")))
	attack("80 × a number of 1 000 000 digits", 10*time.Second, 150,
		posts(80, signed("hr", `{"id":"x","n":`+strings.Repeat("1", 1_000_000)+`}`), 400, bad("digits")))
	var keys strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&keys, `,"k%d":0`, i)
	}
	attack("40 × 100 000 keys", 20*time.Second, 200,
		posts(40, signed("big", `{"id":"x"`+keys.String()+`}`), 400, bad("keys")))
	attack("40 × 1 000 000 elements", 20*time.Second, 200,
		posts(40, signed("big", `{"id":[0`+strings.Repeat(",0", 1_000_000)+`]}`), 400, bad("elements")))
	attack("80 × invalid UTF-8", 10*time.Second, 50,
		posts(80, signed("hr", "{\"id\":\""+strings.Repeat("a", 100_000)+"\xff\"}"), 400, bad("utf8")))

	formed := func(body string) harness.Post {
		p := form("/hooks/forms", body)
		p.Header.Set("X-Api-Key", "key of forms")
		return p
	}
	badForm := func(cause string) string { return `{"error":"bad_form","cause":"` + cause + `"}` }
	attack("24 × a form of 10 MB, its last escape bad", 20*time.Second, 300,
		posts(24, formed("id="+strings.Repeat("%41", 3_300_000)+"%4"), 400, badForm("escape")))
	attack("24 × 1 000 000 fields", 20*time.Second, 200,
		posts(24, formed("id=1"+strings.Repeat("&a=1", 1_000_000)), 400, badForm("fields")))
	attack("24 × a field's name of 10 MB", 20*time.Second, 300,
		posts(24, formed(strings.Repeat("n", 10_000_000)), 400, badForm("name")))

	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 100 {
		_, _ = z.Write(make([]byte, 1<<20)) // into memory
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	zipped := signed("hr", bomb.String())
	zipped.Header.Set("Content-Encoding", "gzip")
	attack("80 × a gzip bomb of 100 MiB", 10*time.Second, 50, posts(80, zipped, 415, `{"error":"content_encoding"}`))
	plain := signed("hr", bomb.String())
	attack("80 × the same without saying so", 10*time.Second, 50, posts(80, plain, 400, bad("syntax")))

	large := harness.Youforce("hr", "large", 1)
	large.Header.Set("X-Padding", strings.Repeat("x", 80<<10))
	attack("80 × a header of 80 KiB", 10*time.Second, 50, func(t *testing.T) {
		for range 80 {
			if a, err := impatient(h, large); err != nil || a.Status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%d, %v", a.Status, err)
			}
		}
	})
	attack("16 × chunks without end", 10*time.Second, 100, func(t *testing.T) {
		each(t, 16, func(int) error { return endless(h) })
	})
	attack("300 × half a header, a byte at a time", 10*time.Second, 100, func(t *testing.T) {
		each(t, 300, func(int) error { return slow(h, "POST /hooks/hr HTTP/1.1\r\nHost: x\r\nX-Slow: ", 3*time.Second) })
	})
	attack("300 × a body, a byte at a time", 15*time.Second, 100, func(t *testing.T) {
		each(t, 300, func(int) error {
			return slow(h, "POST /hooks/hr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
				"Content-Length: 1000000\r\n\r\n", 8*time.Second)
		})
	})
	attack("2000 connections that say nothing", 15*time.Second, 150, func(t *testing.T) {
		each(t, 2000, func(int) error { return idle(h, 5*time.Second) })
	})

	// Afterwards: nothing of it is stored, the refusals are listed, the memory is back in bounds.
	h.WaitSettled(20 * time.Second)
	page, err := h.Control.Requests(t.Context(), store.RequestFilter{Source: "big"})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("stored: %+v, %v", page.Items, err)
	}
	stats := h.Status().Stats
	if want := int64(w.good + 50); stats.Requests["routed"] != want {
		t.Errorf("%d requests are routed, %d were good", stats.Requests["routed"], want)
	}
	for _, cause := range []string{
		"bad_json", "bad_form", "too_large", "content_encoding", "header_too_large", "header_timeout", "body_timeout",
	} {
		if stats.Rejections[cause] == 0 {
			t.Errorf("no rejection for %s is listed: %v", cause, stats.Rejections)
		}
	}
	if log := h.Log(); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
		t.Error("the host's log tells of a panic")
	}
	t.Logf("memory at the end: %.1f MiB; log of %d KiB; rejections listed: %v",
		rss(t, h.PID()), len(h.Log())>>10, stats.Rejections)
	h.Stop()
}

// each does something n times at once.
func each(t *testing.T, n int, do func(i int) error) {
	var all sync.WaitGroup
	var failed atomic.Int64
	for i := range n {
		all.Go(func() {
			if err := do(i); err != nil && failed.Add(1) < 5 {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func dial(h *harness.Host) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", h.Address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(harness.Patience))
}

// impatient posts and reads at the same time, because a host may answer before it has the body, and close.
func impatient(h *harness.Host, p harness.Post) (harness.Answer, error) {
	c, err := dial(h)
	if err != nil {
		return harness.Answer{}, err
	}
	defer c.Close()
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n", p.Path, len(p.Body))
	for name, values := range p.Header {
		head += name + ": " + values[0] + "\r\n"
	}
	go func() {
		_, _ = c.Write(append([]byte(head+"\r\n"), p.Body...)) // the host may not want it all
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return harness.Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
}

// slow sends a beginning and then a byte now and then, until the host has had enough.
func slow(h *harness.Host, beginning string, within time.Duration) error {
	c, err := dial(h)
	if err != nil {
		return err
	}
	defer c.Close()
	started := time.Now()
	if _, err := io.WriteString(c, beginning); err != nil {
		return err
	}
	closed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		closed <- err
	}()
	for {
		select {
		case <-closed:
			if took := time.Since(started); took > within+2*time.Second {
				return fmt.Errorf("the host listened for %s", took)
			}
			return nil
		case <-time.After(200 * time.Millisecond):
			_, _ = io.WriteString(c, "x") // the other side may have closed just now
			if time.Since(started) > within+10*time.Second {
				return fmt.Errorf("the host still listens after %s", time.Since(started))
			}
		}
	}
}

// idle holds a connection without a word until the host closes it, or for some time.
func idle(h *harness.Host, for_ time.Duration) error {
	c, err := dial(h)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(for_)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// endless sends chunks until the host answers. It must do so soon.
func endless(h *harness.Host) error {
	c, err := dial(h)
	if err != nil {
		return err
	}
	defer c.Close()
	head := "POST /hooks/hr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && (resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close) {
			err = fmt.Errorf("chunks without end: %s, closes: %t", resp.Status, resp.Close)
		}
		answered <- err
	}()
	chunk := append([]byte("10000\r\n"), append(bytes.Repeat([]byte("["), 0x10000), "\r\n"...)...)
	for sent := 0; ; sent += len(chunk) {
		select {
		case err := <-answered:
			return err
		default:
		}
		if _, err := c.Write(chunk); err != nil {
			return <-answered // the host has closed
		}
		if sent > 256<<20 {
			return errors.New("chunks without end: 256 MiB were taken")
		}
	}
}
