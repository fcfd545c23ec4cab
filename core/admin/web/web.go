package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core/admin"
)

// Options say what a Site is of.
type Options struct {
	Control admin.Control
	Version string           // of the host, as it is shown
	Log     hclog.Logger     // of errors that nobody sees otherwise; nil: none
	Now     func() time.Time // nil: time.Now
}

// Site is the interface, an http.Handler for the root of a listener.
type Site struct {
	control admin.Control
	version string
	log     hclog.Logger
	now     func() time.Time
	assets  *assets
	nav     []section
	pages   map[string]*template.Template // by name
	mux     *http.ServeMux
	works   *works
}

// page is one address.
type page struct {
	pattern  string // of http.ServeMux, with the method
	template string // templates/<template>.html; empty: the handler renders nothing of its own
	serve    func(*call) error
	nav      *place
}

// place is a page's place in the navigation.
type place struct {
	section string // Watch, Act, Run
	label   string
	key     string // the letter that goes there after g
}

// section is a part of the navigation.
type section struct {
	Name  string
	Links []navLink
}

type navLink struct {
	Href, Label, Key string
}

// New makes a Site. The error says that a template is wrong.
func New(o Options) (*Site, error) {
	s := &Site{
		control: o.Control, version: o.Version, log: o.Log, now: o.Now,
		pages: map[string]*template.Template{}, mux: http.NewServeMux(),
	}
	if s.log == nil {
		s.log = hclog.NewNullLogger()
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.works = newWorks(s.now)
	var err error
	if s.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	layout, err := template.New("").Funcs(s.funcs()).ParseFS(files, "templates/layout.html", "templates/parts*.html")
	if err != nil {
		return nil, err
	}
	parse := func(name string) error {
		if s.pages[name] != nil {
			return nil
		}
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(files, "templates/"+name+".html")
		}
		s.pages[name] = t
		return err
	}
	for _, p := range s.list() {
		if p.template != "" {
			if err := parse(p.template); err != nil {
				return nil, err
			}
		}
		s.mux.Handle(p.pattern, s.handle(p))
		if p.nav != nil {
			s.addNav(p)
		}
	}
	s.mux.Handle("GET /assets/{name}", s.assets)
	s.mux.Handle("/", s.handle(page{serve: func(c *call) error { return errNoPage }}))
	return s, parse("error")
}

// Close stops the retries and replays that pages have begun, and returns when they have ended. It is called after the
// last request.
func (s *Site) Close() { s.works.close() }

// list is every page there is, in the order of the navigation.
func (s *Site) list() []page {
	return slices.Concat(
		overviewPages(), tailPages(), historyPages(), detailPages(), searchPages(),
		letterPages(), unroutedPages(), rejectionPages(), sinkPages(), pluginPages(), configurationPages(), alertPages(),
	)
}

func (s *Site) addNav(p page) {
	_, path, _ := strings.Cut(p.pattern, " ")
	link := navLink{strings.TrimSuffix(path, "{$}"), p.nav.label, p.nav.key}
	for i := range s.nav {
		if s.nav[i].Name == p.nav.section {
			s.nav[i].Links = append(s.nav[i].Links, link)
			return
		}
	}
	s.nav = append(s.nav, section{p.nav.section, []navLink{link}})
}

// policy is the Content-Security-Policy of every page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	harden(w.Header())
	s.mux.ServeHTTP(w, r)
}

// harden sets the headers that every answer of the interface has. They allow nothing but the listener's own scripts,
// styles and addresses, and no copy in any cache; assets and downloads say otherwise for themselves.
func harden(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: browsers would then post forms with "Origin: null", which is no proof of the same origin.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// call is one request to a page under way.
type call struct {
	*Site
	context.Context
	w    http.ResponseWriter
	r    *http.Request
	name string // of the template
}

func (s *Site) handle(p page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{s, r.Context(), w, r, p.template}
		if err := p.serve(c); err != nil {
			c.fail(err)
		}
	})
}

// frame is what the layout shows around a page.
type frame struct {
	Title    string
	Nav      []section
	Path     string // of the page
	Theme    string // "light", "dark"; empty: as the browser prefers
	Version  string
	SignedIn bool   // and can sign out
	Query    string // in the search field
	Now      time.Time
	Bare     bool // without navigation
	Data     any
}

// page answers with the call's template inside the layout.
func (c *call) page(title string, data any) error {
	return c.render(http.StatusOK, c.name, "layout", c.frame(title, data))
}

// part answers with one definition of the call's template alone.
func (c *call) part(name string, data any) error {
	return c.render(http.StatusOK, c.name, name, data)
}

// redirect answers a POST with the page to look at now.
func (c *call) redirect(to string) error {
	http.Redirect(c.w, c.r, to, http.StatusSeeOther)
	return nil
}

func (c *call) frame(title string, data any) frame {
	f := frame{
		Title: title, Nav: c.nav, Path: c.r.URL.Path, Version: c.version, SignedIn: admin.SignedIn(c), Now: c.now(),
		Data: data,
	}
	if k, err := c.r.Cookie("theme"); err == nil && (k.Value == "light" || k.Value == "dark") {
		f.Theme = k.Value
	}
	return f
}

// render writes nothing before the whole is there, so that an error is a page of its own.
func (c *call) render(status int, file, name string, data any) error {
	var b bytes.Buffer
	if err := c.pages[file].ExecuteTemplate(&b, name, data); err != nil {
		return fmt.Errorf("page %s: %w", file, err)
	}
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.WriteHeader(status)
	_, _ = b.WriteTo(c.w) // a browser that went away is no error of ours
	return nil
}

var errNoPage = errors.New("there is no such page")

// badInput marks an error as that of the form or address.
type badInput struct{ error }

func (e badInput) Unwrap() error { return e.error }

// failure is what the error page shows.
type failure struct {
	Status int
	Title  string
	Text   string
}

func (c *call) fail(err error) {
	if c.Err() != nil {
		return // nobody listens any more
	}
	var bad badInput
	f := failure{Status: admin.HTTPStatus(err), Text: err.Error()}
	switch {
	case errors.Is(err, errNoPage):
		f.Status, f.Text = http.StatusNotFound, c.r.URL.Path
	case errors.As(err, &bad):
		f.Status = http.StatusBadRequest
	}
	switch f.Status {
	case http.StatusNotFound:
		f.Title = "There is no such thing"
	case http.StatusBadRequest:
		f.Title = "That cannot be asked"
	default:
		f.Title = "Something went wrong"
		c.log.Error("a page of the user interface failed", "path", c.r.URL.Path, "error", err)
	}
	if c.r.Header.Get("HX-Request") != "" { // htmx leaves the page as it is, the script says so
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		c.w.WriteHeader(f.Status)
		_, _ = c.w.Write([]byte(f.Text))
		return
	}
	if err := c.render(f.Status, "error", "layout", c.frame(f.Title, f)); err != nil {
		c.log.Error("the error page of the user interface failed", "error", err)
		http.Error(c.w, f.Text, f.Status)
	}
}

// with is the page's own address with parameters set, or removed where they are empty.
func (c *call) with(pairs ...string) string {
	q := c.r.URL.Query()
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return address(c.r.URL.Path, q)
}

func address(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// query is a query of one parameter.
func query(name, value string) url.Values { return url.Values{name: {value}} }
