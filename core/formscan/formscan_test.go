package formscan

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	many := strings.Repeat("a=1&", 999) + "a=1"
	for _, c := range []struct {
		form, cause string
		offset      int
	}{
		{"", "", 0},
		{"a", "", 0},
		{"=", "", 0},
		{"a=1&b=2&a=3", "", 0},
		{"&&a=1&", "", 0},
		{"a=b=c", "", 0},
		{"a b=c d", "", 0},
		{"na%C3%AFve=%e9+%00%0a", "", 0}, // escaped, anything may stand
		{"ü=é\xff", "", 0},
		{`{"a":1}`, "", 0}, // one field with an odd name: curl sends JSON as a form
		{"order[id]=1&order[lines][0]=x", "", 0},
		{many, "", 0},
		{many + "&a=1", CauseFields, len(many)},
		{many + "&", CauseFields, len(many)},
		{strings.Repeat("&", 1_000_000), CauseFields, 999},
		{strings.Repeat("n", 1024) + "=1", "", 0},
		{strings.Repeat("n", 1025) + "=1", CauseName, 1024},
		{"a=1&" + strings.Repeat("n", 1025), CauseName, 1028},
		{"a=" + strings.Repeat("v", 1<<20), "", 0},
		{"a=%", CauseEscape, 2},
		{"a=%4", CauseEscape, 2},
		{"a=%4g", CauseEscape, 2},
		{"a=%g4", CauseEscape, 2},
		{"%zz=1", CauseEscape, 0},
		{"a=%&b=41", CauseEscape, 2},
		{"a=100%&b=1", CauseEscape, 5},
		{"a=%u00e9", CauseEscape, 2},
		{"a=1;b=2", CauseSemicolon, 3},
		{"a=1\n", CauseControl, 3},
		{"a=1\r\n", CauseControl, 3},
		{"a=\x00", CauseControl, 2},
		{"a\t=1", CauseControl, 1},
		{"a=\x7f", CauseControl, 2},
		{"--boundary\r\nContent-Disposition: form-data", CauseControl, 10},
	} {
		err := Check([]byte(c.form), DefaultLimits())
		var e *Error
		switch {
		case c.cause == "" && err != nil:
			t.Errorf("%.60q: %v", c.form, err)
		case c.cause != "" && (!errors.As(err, &e) || e.Cause != c.cause || e.Offset != c.offset || e.Error() == ""):
			t.Errorf("%.60q: %v, want %s at %d", c.form, err, c.cause, c.offset)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		form, name string
		fold       bool
		want       string
		n          int
	}{
		{"a=1&b=2", "a", false, "1", 1},
		{"a=1&b=2", "b", false, "2", 1},
		{"a=1&b=2", "c", false, "", 0},
		{"a=1&a=2", "a", false, "1", 2},
		{"A=1&a=2", "a", false, "2", 1},
		{"A=1&a=2", "a", true, "1", 2},
		{"%41=1", "a", true, "1", 1},
		{"%61=1&a=2", "a", false, "1", 2},
		{"first+name=x", "first name", false, "x", 1},
		{"a", "a", false, "", 1},
		{"a=b=c", "a", false, "b=c", 1},
		{"=x", "", false, "x", 1},
		{"&&a=1&", "", false, "", 0},
		{"", "", false, "", 0},
		{"a=%7B%22x%22%3A1%7D+", "a", false, `{"x":1} `, 1},
		{"a=%e9%zz%", "a", false, "\xe9%zz%", 1},
		{"order%5Bid%5D=7", "order[id]", false, "7", 1},
	} {
		raw, n := Lookup([]byte(c.form), c.name, c.fold)
		if got := string(Unescape(raw)); got != c.want || n != c.n {
			t.Errorf("%q of %q: %q, %d", c.name, c.form, got, n)
		}
	}
}

// FuzzForm: what Check lets pass reads here as in net/url, in linear time and without a panic.
func FuzzForm(f *testing.F) {
	for _, s := range []string{
		"a=1&b=%7B%22x%22%3A1%7D&a=3", "&&=&+=%20", "payload=%7B%7D", "a=%", "a=1;b", strings.Repeat("a&", 1001), "%=%%", "\xff=\xfe",
	} {
		f.Add(s, "a")
	}
	f.Fuzz(func(t *testing.T, form, name string) {
		raw, n := Lookup([]byte(form), name, false)
		value := string(Unescape(raw))
		if Check([]byte(form), DefaultLimits()) != nil {
			return
		}
		q, err := url.ParseQuery(form)
		if err != nil {
			t.Fatalf("net/url refuses %q: %v", form, err)
		}
		want := q[name]
		if n != len(want) || n > 0 && value != want[0] {
			t.Fatalf("%q of %q: %q, %d, want %q", name, form, value, n, want)
		}
		for key, values := range q {
			if raw, n := Lookup([]byte(form), key, false); n != len(values) || string(Unescape(raw)) != values[0] {
				t.Fatalf("%q of %q: %q, %d, want %q", key, form, raw, n, values)
			}
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	form := []byte("MessageSid=SM1&Body=hello+world&From=%2B31600000000")
	if n := testing.AllocsPerRun(100, func() {
		if Check(form, DefaultLimits()) != nil {
			t.Fatal("refused")
		}
		if raw, n := Lookup(form, "MessageSid", false); n != 1 || len(raw) != 3 {
			t.Fatal("not found")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
