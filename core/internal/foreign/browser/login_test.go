//go:build foreign && linux

package browser

import (
	"os"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestSignIn signs in with the token, which leads to the page that was asked for, and out again.
func TestSignIn(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-forty-characters-without-spaces"
	s := newSite(t, `token = "`+token+`"`)
	axe, err := os.ReadFile("npm/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	b := chrome.open(t, s.origin)
	b.expects("status of 401")
	b.visit("/sinks")
	b.waitFor("the field for the token", `document.querySelector("input[type=password]")`)
	evaluate[int](b, string(axe)+"; 1")
	for _, l := range []look{light, dark, narrow} {
		b.look(l)
		b.keep("sign-in-" + l.name)
		for _, fault := range check(b) {
			t.Errorf("%s: %s", l.name, fault)
		}
	}
	b.fill("input[type=password]", "another-token-that-is-not-the-one-of-it")
	b.key(kb.Enter)
	b.waitFor("a refusal", `document.querySelector("[role=alert], .wrong")`)
	b.fill("input[type=password]", token)
	b.key(kb.Enter)
	b.waitText("h1", "Sinks")
	b.waitText("main", "partner")
	b.look(light)
	b.run("sign out", clickOn(`//header//button[normalize-space(.)="Sign out"]`))
	b.waitFor("the field for the token", `document.querySelector("input[type=password]")`)
	b.visit("/sinks")
	b.waitFor("the field for the token", `document.querySelector("input[type=password]")`)
}
