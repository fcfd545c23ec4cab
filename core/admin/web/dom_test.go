package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// doc is a page as a browser parses it.
type doc struct {
	t      *testing.T
	status int
	header http.Header
	body   string
	root   *html.Node
}

// get asks a handler for a page.
func get(t *testing.T, h http.Handler, path string) doc {
	t.Helper()
	return answer(t, h, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
}

// post posts a form.
func post(t *testing.T, h http.Handler, path string, form url.Values) doc {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return answer(t, h, r)
}

func answer(t *testing.T, h http.Handler, r *http.Request) doc {
	t.Helper()
	w := httptest.NewRecorder()
	asked := r.URL.String()
	h.ServeHTTP(w, r)
	res := w.Result()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	d := doc{t: t, status: res.StatusCode, header: res.Header, body: string(b)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		if d.root, err = html.Parse(strings.NewReader(d.body)); err != nil {
			t.Fatal(err)
		}
		checkMarkup(t, asked, d.root)
	}
	return d
}

// checkMarkup fails for what no page may have: inline scripts and styles, handlers in attributes, addresses of other
// origins, the same id twice, fields without a name for those who do not see them.
func checkMarkup(t *testing.T, page string, root *html.Node) {
	t.Helper()
	ids, labelled := map[string]bool{}, map[string]bool{}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "label" && attr(n, "for") != "" {
			labelled[attr(n, "for")] = true
		}
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "style" || n.Data == "script" && (n.FirstChild != nil || attr(n, "src") == "") {
			t.Errorf("%s: an inline %s", page, n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "style", strings.HasPrefix(a.Key, "on"), strings.HasPrefix(a.Key, "hx-on"):
				t.Errorf("%s: attribute %s of %s", page, a.Key, n.Data)
			case slices.Contains([]string{"href", "src", "action", "hx-get", "hx-post"}, a.Key):
				local := strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//")
				if !local && !strings.HasPrefix(a.Val, "#") && !strings.HasPrefix(a.Val, "?") {
					t.Errorf("%s: %s=%q leads elsewhere", page, a.Key, a.Val)
				}
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("%s: id %q twice", page, a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			}
		}
		field := n.Data == "select" || n.Data == "textarea" || n.Data == "input" && attr(n, "type") != "hidden"
		if field && attr(n, "aria-label") == "" && !labelled[attr(n, "id")] && closest(n, "label") == nil {
			t.Errorf("%s: field %q without a label", page, attr(n, "name"))
		}
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func closest(n *html.Node, tag string) *html.Node {
	for ; n != nil; n = n.Parent {
		if n.Type == html.ElementNode && n.Data == tag {
			return n
		}
	}
	return nil
}

// text is what is read of a node, with single spaces.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// all finds elements: a tag, a .class, an #id or a tag with [attribute] or [attribute=value], each below the one before
// it, parted by spaces.
func (d doc) all(selector string) []*html.Node {
	if d.root == nil {
		d.t.Fatalf("no page: status %d, %s", d.status, d.body)
	}
	found := []*html.Node{d.root}
	for _, part := range strings.Fields(selector) {
		var next []*html.Node
		for _, n := range found {
			for c := range n.Descendants() {
				if c.Type == html.ElementNode && fits(c, part) && !slices.Contains(next, c) {
					next = append(next, c)
				}
			}
		}
		found = next
	}
	return found
}

func fits(n *html.Node, part string) bool {
	tag, rest, hasAttr := strings.Cut(part, "[")
	if hasAttr {
		name, value, hasValue := strings.Cut(strings.TrimSuffix(rest, "]"), "=")
		i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
		if i < 0 || hasValue && n.Attr[i].Val != value {
			return false
		}
	}
	if tag, id, ok := strings.Cut(tag, "#"); ok {
		return attr(n, "id") == id && (tag == "" || n.Data == tag)
	}
	if tag, class, ok := strings.Cut(tag, "."); ok {
		return slices.Contains(strings.Fields(attr(n, "class")), class) && (tag == "" || n.Data == tag)
	}
	return tag == "" || n.Data == tag
}

// one finds the first element, and fails where there is none.
func (d doc) one(selector string) *html.Node {
	d.t.Helper()
	found := d.all(selector)
	if len(found) == 0 {
		d.t.Fatalf("there is no %s in\n%s", selector, d.body)
	}
	return found[0]
}

// text is the text of the first element.
func (d doc) text(selector string) string {
	d.t.Helper()
	return text(d.one(selector))
}

// texts are those of all elements.
func (d doc) texts(selector string) []string {
	var ts []string
	for _, n := range d.all(selector) {
		ts = append(ts, text(n))
	}
	return ts
}
