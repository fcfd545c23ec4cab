package httpfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// outline writes a request in one line.
func outline(r *Request) string {
	var headers []string
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		headers = append(headers, fmt.Sprintf("%s=%s", name, strings.Join(r.Header[name], "|")))
	}
	return fmt.Sprintf("%s %s [%s] %q %q", r.Method, r.Target, strings.Join(headers, " "), r.Body, r.Ends)
}

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"from the wire": {
			"POST /hooks/hr?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nx-a:  b \r\n\r\n{\"a\":1}\r\n",
			`POST /hooks/hr?x=1 [Content-Length=7 Host=h X-A=b] "{\"a\":1}" ""`,
		},
		"an .http file": {
			"### a test\n# @name x\n// more\n\nPOST https://example.com/hooks/hr\nContent-Type: application/json\n\n{\n \"a\": 1\n}\n",
			`POST /hooks/hr [Content-Type=application/json] "{\n \"a\": 1\n}\n" "\n"`,
		},
		"headers alone":       {"X-A: 1\nX-A: 2\n\nbody", `POST  [X-A=1|2] "body" ""`},
		"no body":             {"GET /x?hub.mode=subscribe HTTP/1.1\nHost: h\n", `GET /x?hub.mode=subscribe [Host=h] "" ""`},
		"no header":           {"PUT /\n\nx", `PUT / [] "x" ""`},
		"a lone host":         {"POST https://example.com", `POST / [] "" ""`},
		"escapes stay":        {"POST /a%2Fb/%41?q=%20+ HTTP/1.1", `POST /a%2Fb/%41?q=%20+ [] "" ""`},
		"binary body":         {"POST /\n\n\x00\xff\r\n\n", `POST / [] "\x00\xff\r\n\n" "\n"`},
		"a body with Windows": {"POST /\r\n\r\nx\r\n", `POST / [] "x\r\n" "\r\n"`},
		"byte order mark":     {"\ufeffPOST /\n\nx", `POST / [] "x" ""`},
		"curl -v": {
			"* Connected to h\n> POST /hooks/hr HTTP/1.1\n> Host: h\n> Content-Length: 12\n>\n* upload done\n< HTTP/1.1 200 OK\n",
			`POST /hooks/hr [Host=h] "" ""`,
		},
		"curl -v and a body": {"> POST /hooks/hr HTTP/1.1\n> Host: h\n> \n{}", `POST /hooks/hr [Host=h] "{}" ""`},
		"chunked": {
			"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `POST / [] "abc" ""`,
		},
		"chunked no more": {"POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n{\"a\":1}", `POST / [] "{\"a\":1}" ""`},

		"empty":            {"", "line 1: there is no request in the file"},
		"comments":         {"# a\n\n# b\n", "line 3: there is no request in the file"},
		"no request":       {"hello\n", "line 1: a request begins with"},
		"a response":       {"HTTP/1.1 200 OK\n\n", "line 1: a request begins with"},
		"bad target":       {"POST hooks/hr\n", "line 1: what follows the method"},
		"bad URL":          {"POST http://[x/\n", "line 1: what follows the method"},
		"no header there":  {"POST /\nX-A 1\n\n", "line 2: it is no header"},
		"bad name":         {"POST /\nX A: 1\n\n", `line 2: "X A" is not the name`},
		"bad value":        {"POST /\nX-A: \x01\n\n", "line 2: the value of X-A"},
		"folded":           {"POST /\nX-A: 1\n  2\n\n", "line 3: a header cannot go on"},
		"too short":        {"POST /\nContent-Length: 9\n\n12345", "line 4: Content-Length is 9, but the body has 5 bytes"},
		"too long":         {"POST /\nContent-Length: 3\n\n12345", "line 4: Content-Length is 3, but the body has 5 bytes"},
		"two lengths":      {"POST /\nContent-Length: 3\nContent-Length: 3\n\n123", "line 5: Content-Length is not one"},
		"no length":        {"POST /\nContent-Length: -1\n\n", "line 4: Content-Length is not one"},
		"long line":        {"POST /\nX-A: " + strings.Repeat("x", MaxLine) + "\n", "line 2: it has more than"},
		"many lines":       {"POST /\n" + strings.Repeat("X-A: 1\n", MaxLines), "line 1001: more than"},
		"curl, interposed": {"> POST /\n> X-A: 1\nX-B: 2\n", "line 3: it does not begin with >"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Parse([]byte(tt.file))
			got := ""
			if err != nil {
				var e *Error
				if got = err.Error(); !errors.As(err, &e) {
					t.Errorf("the error is a %T", err)
				}
			} else {
				got = outline(r)
			}
			if got != tt.want && (err == nil || !strings.HasPrefix(got, tt.want)) {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestParseHead(t *testing.T) {
	for head, want := range map[string]string{
		"POST /a HTTP/1.1\r\nContent-Length: 900\r\nX-A: 1\r\n\r\n": `POST /a [X-A=1] "body\n" ""`,
		"* x\n> POST /a HTTP/2\n> X-A: 1\n>\n< HTTP/2 200\n< \nOK":  `POST /a [X-A=1] "body\n" ""`,
		"X-A: 1":               `POST  [X-A=1] "body\n" ""`,
		"POST /a\n\n{}":        "line 3: here is a body",
		"POST /a\nX-A 1\n\n{}": "line 2: it is no header",
	} {
		r, err := ParseHead([]byte(head), []byte("body\n"))
		got := fmt.Sprint(err)
		if err == nil {
			got = outline(r)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q: got\n%s\nwant\n%s", head, got, want)
		}
	}
}

func TestHTTP(t *testing.T) {
	r, err := Parse([]byte("POST /a%2Fb/c?x=1 HTTP/1.1\nHost: h\nX-A: 1\n\nbody"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := r.HTTP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(q.Body)
	if err != nil || string(body) != "body" || q.ContentLength != 4 || q.URL.RawPath != "/a%2Fb/c" ||
		q.URL.RawQuery != "x=1" || q.Host != "h" || len(q.Header) != 1 {
		t.Errorf("%+v, %q, %v", q, body, err)
	}
}

// FuzzParse writes what it has read, and reads it again.
func FuzzParse(f *testing.F) {
	f.Add([]byte("POST /hooks/hr HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}\n"))
	f.Add([]byte("# x\n> POST /hooks/hr HTTP/1.1\n> Host: h\n>\n{}"))
	f.Add([]byte("X-A: 1\n\nbody\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := Parse(file)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(r.Body, []byte(r.Ends)) || len(r.Body) > len(file) {
			t.Fatalf("the body is %q, its end %q", r.Body, r.Ends)
		}
		if r.Target != "" {
			if _, err := r.HTTP(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else {
			r.Target = "/"
		}
		var out bytes.Buffer
		delete(r.Header, "Content-Length")
		delete(r.Header, "Transfer-Encoding")
		fmt.Fprintf(&out, "%s %s HTTP/1.1\r\n", r.Method, r.Target)
		if err := r.Header.Write(&out); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(r.Body), r.Body)
		again, err := Parse(out.Bytes())
		if err != nil {
			t.Fatalf("%v in what was written:\n%q", err, out.Bytes())
		}
		delete(again.Header, "Content-Length")
		r.Ends = ""
		if diff := cmp.Diff(outline(r), outline(again)); diff != "" {
			t.Errorf("(-first +second)\n%s", diff)
		}
	})
}
