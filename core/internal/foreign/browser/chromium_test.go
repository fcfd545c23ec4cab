//go:build foreign && linux

package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take to show what is waited for, on a machine that does much else.
const patience = 20 * time.Second

// chromium is the browser, started with the first tab.
type chromium struct {
	once   sync.Once
	ctx    context.Context
	cancel []context.CancelFunc
	err    error
}

func (c *chromium) start() {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, // its processes run as the user who runs the tests
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	c.ctx, c.cancel = ctx, []context.CancelFunc{cancel, end}
	c.err = chromedp.Do(ctx)
}

func (c *chromium) stop() {
	if c.ctx == nil {
		return
	}
	_ = chromedp.Cancel(c.ctx) // it may be gone
	for _, cancel := range c.cancel {
		cancel()
	}
}

// look is how a page is seen.
type look struct {
	name   string
	dark   bool
	narrow bool // 375 px
}

var (
	light  = look{name: "light"}
	dark   = look{name: "dark", dark: true}
	narrow = look{name: "narrow", narrow: true}
)

// tab is a page of a browser context of its own, without cookies of others. It fails its test, when that ends, with every
// warning and error on the console and every request to another origin than its own.
type tab struct {
	t      testing.TB
	ctx    context.Context
	origin string

	mu     sync.Mutex
	faults []string
	asked  int      // requests
	expect []string // parts of console errors that are meant to be
}

// open opens a tab for the pages of an origin.
func (c *chromium) open(t testing.TB, origin string) *tab {
	t.Helper()
	if c.once.Do(c.start); c.err != nil {
		t.Fatalf("chromium does not start: %v", c.err)
	}
	ctx, cancel := chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx, origin: origin}
	if err := chromedp.Do(ctx); err != nil { // without a deadline, which would be the tab's
		t.Fatalf("a new tab: %v", err)
	}
	console := chromedp.Console(ctx)
	requests := chromedp.Events(ctx, network.RequestWillBeSent)
	sockets := chromedp.Events(ctx, network.WebSocketCreated)
	var watching sync.WaitGroup
	watching.Go(func() {
		for m := range console {
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.Type == "assert" || m.IsException() {
				b.fault(fmt.Sprintf("the console says: %s %s %s:%d", m, m.Source, m.URL, m.Line+1))
			}
		}
	})
	watching.Go(func() {
		for e := range requests {
			if e.Request == nil || strings.HasPrefix(e.Request.URL, "data:") {
				continue // the end, or what goes nowhere: the browser's own signs in fields
			}
			b.mu.Lock()
			b.asked++
			b.mu.Unlock()
			if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme+"://"+u.Host != b.origin {
				b.fault("a request to another origin: " + e.Request.URL)
			}
		}
	})
	watching.Go(func() {
		for e := range sockets {
			if e.URL != "" {
				b.fault("a web socket: " + e.URL)
			}
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			b.keep("failed")
		}
		cancel()
		watching.Wait()
		if b.asked == 0 {
			t.Error("the tab has asked for nothing: its requests are not seen")
		}
		for _, f := range b.found() {
			t.Error(f)
		}
	})
	b.look(light)
	return b
}

func (b *tab) fault(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.expect {
		if strings.Contains(text, e) {
			return
		}
	}
	b.faults = append(b.faults, text)
}

// found is what must not be, so far and since it was asked for last.
func (b *tab) found() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := b.faults
	b.faults = nil
	return faults
}

// expects names a part of a console error that is meant to be.
func (b *tab) expects(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expect = append(b.expect, text)
}

// run runs actions and fails the test with what was tried when they do not end well in time.
func (b *tab) run(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\nthe page says: %s", what, err, b.excerpt())
	}
}

// evaluate evaluates JavaScript in the page; a promise is waited for.
func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("evaluate %s: %v\nthe page says: %s", expression[:min(len(expression), 80)], err, b.excerpt())
	}
	return v
}

// excerpt is the beginning of what the page shows, for messages.
func (b *tab) excerpt() string {
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx,
		chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 3000)`))
	if err != nil {
		return err.Error()
	}
	return text
}

// visit opens a path and waits until it is loaded.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.run("open "+path, chromedp.Navigate(b.origin+path))
}

// click clicks what a CSS selector finds.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.run("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// press clicks the link or button of the page's main part that says text.
func (b *tab) press(text string) {
	b.t.Helper()
	b.run("press "+text, chromedp.Click(fmt.Sprintf(
		`//main//*[self::a or self::button or self::summary][normalize-space(.)=%q]`, text), chromedp.NodeVisible))
}

// fill writes a text into a field, instead of what is in it.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.run("fill "+selector, chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)),
		chromedp.Evaluate[chromedp.Void](`document.activeElement.select()`), chromedp.KeyEvent(text))
}

// clickOn clicks what an XPath finds.
func clickOn(path string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(path, chromedp.NodeVisible)
}

// key presses keys, wherever the focus is.
func (b *tab) key(keys string) {
	b.t.Helper()
	b.run("press a key", chromedp.KeyEvent(keys))
}

// waitFor waits until an expression of JavaScript is true. Pages may be loaded meanwhile.
func (b *tab) waitFor(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && is {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s: not within %v (%v)\nthe page says: %s", what, patience, err, b.excerpt())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// waitText waits until something that a CSS selector finds shows a text.
func (b *tab) waitText(selector, text string) {
	b.t.Helper()
	b.waitFor(fmt.Sprintf("%s says %q", selector, text), fmt.Sprintf(
		`[...document.querySelectorAll(%s)].some(e => e.innerText.includes(%s))`, literal(selector), literal(text)))
}

// literal is a text in JavaScript.
func literal(text string) string {
	b, _ := json.Marshal(text) // never fails
	return string(b)
}

// look changes how pages are seen.
func (b *tab) look(l look) {
	b.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: "light"}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}
	size := emulation.SetDeviceMetricsOverrideParams{Width: 1280, Height: 900, DeviceScaleFactor: 1}
	if l.dark {
		media.Features[0].Value = "dark"
	}
	if l.narrow {
		size.Width, size.Height, size.Mobile = 375, 812, true
	}
	b.run("look at it "+l.name, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, media)
		_, err2 := cdp.Call(ctx, t, emulation.SetDeviceMetricsOverride, size)
		return errors.Join(err, err2)
	}))
}

// keep keeps a picture of the whole page, where pictures are asked for.
func (b *tab) keep(name string) {
	dir := *pictures
	if dir == "" {
		if !b.t.Failed() {
			return
		}
		dir = b.t.ArtifactDir()
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Logf("a screenshot: %v", err)
		return
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)); err != nil {
		b.t.Error(err)
	}
}
