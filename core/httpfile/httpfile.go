// Package httpfile reads an HTTP request from a file: the text of HTTP/1.1 as it goes over the wire, as .http files
// hold it and as curl -v prints it. The body is what it is, byte for byte.
//
//	POST /hooks/people HTTP/1.1
//	Content-Type: application/json
//	X-Signature: 5d41402abc4b2a76b9719d911017c592
//
//	{"action":"created"}
//
// What people have instead of that is taken, too: a whole URL in the request line, or no version there; no request line
// at all; lines that end with LF alone; comments before the request; the "> " of curl -v before each line.
package httpfile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// MaxLines and MaxLine bound a request's head.
const (
	MaxLines = 1000
	MaxLine  = 64 << 10 // bytes
)

// Request is a request of a file.
type Request struct {
	Method string      // POST where the file has no request line
	Target string      // path and query as they are written, with a slash first; empty where there is no request line
	Header http.Header // names in canonical form
	Body   []byte
	// Ends is the line break at the end of a body whose length no Content-Length gives: an editor may have added it, and
	// a signature may not cover it. It is a part of Body.
	Ends string
}

// Error is why a file holds no request.
type Error struct {
	Line int // from 1
	Text string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// parser reads the head line by line.
type parser struct {
	rest []byte
	line int
	curl bool // lines begin with "> "
}

// Parse reads a request. The body is a slice of b. The error is an *Error.
func Parse(b []byte) (*Request, error) {
	p := &parser{rest: b}
	r, err := p.head()
	if err != nil {
		return nil, err
	}
	return r, p.body(r)
}

// ParseHead reads a request whose body is in another file: what its headers say of the body's length is ignored.
func ParseHead(b, body []byte) (*Request, error) {
	p := &parser{rest: b}
	r, err := p.head()
	if err != nil {
		return nil, err
	}
	if p.line++; !p.curl && len(bytes.TrimSpace(p.rest)) > 0 {
		return nil, p.fail("here is a body, but the body is in another file")
	}
	delete(r.Header, "Content-Length")
	delete(r.Header, "Transfer-Encoding")
	r.Body = body
	return r, nil
}

func (p *parser) head() (*Request, error) {
	r := &Request{Method: http.MethodPost, Header: http.Header{}}
	first, err := p.begin()
	if err != nil {
		return nil, err
	}
	text, more := first, true
	if !isHeader(first) {
		if err := p.requestLine(r, first); err != nil {
			return nil, err
		}
		if text, more, err = p.next(); err != nil {
			return nil, err
		}
	}
	for ; more && text != ""; text, more, err = p.next() {
		if err := p.header(r, text); err != nil {
			return nil, err
		}
	}
	return r, err
}

func (p *parser) fail(format string, args ...any) error {
	return &Error{p.line, fmt.Sprintf(format, args...)}
}

// next returns the next line of the head without its end; more is false if there is none.
func (p *parser) next() (text string, more bool, err error) {
	if len(p.rest) == 0 {
		return "", false, nil
	}
	p.line++
	if p.line > MaxLines {
		return "", false, p.fail("more than %d lines before the body; a blank line ends the headers", MaxLines)
	}
	line, rest, _ := bytes.Cut(p.rest, []byte("\n"))
	if len(line) > MaxLine {
		return "", false, p.fail("it has more than %d bytes; a blank line ends the headers", MaxLine)
	}
	p.rest = rest
	text = strings.TrimSuffix(string(line), "\r")
	if p.curl {
		var ok bool
		if text, ok = strings.CutPrefix(text, ">"); !ok {
			return "", false, p.fail("it does not begin with > like those before it")
		}
		text = strings.TrimPrefix(text, " ")
	}
	return text, true, nil
}

// begin returns the first line of the request: after comments, blank lines and what curl tells about the connection.
func (p *parser) begin() (string, error) {
	p.rest = bytes.TrimPrefix(p.rest, []byte("\ufeff"))
	for {
		text, more, err := p.next()
		switch {
		case err != nil:
			return "", err
		case !more:
			p.line = max(p.line, 1)
			return "", p.fail("there is no request in the file")
		case strings.TrimSpace(text) == "", strings.HasPrefix(text, "#"), strings.HasPrefix(text, "//"),
			strings.HasPrefix(text, "* "), text == "*":
			continue
		case strings.HasPrefix(text, "> "):
			p.curl = true
			return text[2:], nil
		}
		return text, nil
	}
}

// isHeader reports whether a first line is a header already. A method is followed by a space, the name of a header by a
// colon.
func isHeader(line string) bool {
	name, _, ok := strings.Cut(line, ":")
	return ok && httpguts.ValidHeaderFieldName(name)
}

func (p *parser) requestLine(r *Request, line string) error {
	fields := strings.Fields(line)
	if len(fields) == 3 && strings.HasPrefix(fields[2], "HTTP/") {
		fields = fields[:2]
	}
	if len(fields) != 2 || strings.Trim(fields[0], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return p.fail("a request begins with a line like POST /hooks/people HTTP/1.1, or with its headers")
	}
	u, err := url.Parse(fields[1])
	if err != nil || u.Path != "" && u.Path[0] != '/' || u.Opaque != "" {
		return p.fail("what follows the method is neither a path nor a URL")
	}
	r.Method = fields[0]
	r.Target = u.EscapedPath()
	if r.Target == "" {
		r.Target = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		r.Target += "?" + u.RawQuery
	}
	return nil
}

func (p *parser) header(r *Request, line string) error {
	name, value, ok := strings.Cut(line, ":")
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return p.fail("a header cannot go on in a second line")
	case !ok:
		return p.fail("it is no header, which is a name, a colon and a value; a blank line ends the headers")
	case !httpguts.ValidHeaderFieldName(name):
		return p.fail("%q is not the name of a header", name)
	}
	value = strings.Trim(value, " \t")
	if !httpguts.ValidHeaderFieldValue(value) {
		return p.fail("the value of %s holds a control character", name)
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	r.Header[name] = append(r.Header[name], value)
	return nil
}

// body takes what follows the head.
func (p *parser) body(r *Request) error {
	p.line++
	b := p.rest
	if p.curl { // it prints no body, but then the response
		if !bytes.HasPrefix(b, []byte("* ")) && !bytes.HasPrefix(b, []byte("< ")) && !bytes.HasPrefix(b, []byte("} [")) {
			r.setBody(b)
		}
		delete(r.Header, "Content-Length") // of a body that may be in another file
		return nil
	}
	if te := r.Header["Transfer-Encoding"]; len(te) == 1 && strings.EqualFold(te[0], "chunked") {
		// Some exports keep this header and write the body as it was before.
		decoded, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b)))
		delete(r.Header, "Transfer-Encoding")
		if err == nil {
			r.Body = decoded
			return nil
		}
	}
	lengths := r.Header["Content-Length"]
	if len(lengths) == 0 {
		r.setBody(b)
		return nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 31)
	if err != nil || len(lengths) > 1 {
		return p.fail("Content-Length is not one number")
	}
	if uint64(len(b)) < n {
		return p.fail("Content-Length is %d, but the body has %d bytes: it was changed, or cut; leave the header out to "+
			"take it as it is", n, len(b))
	}
	if after := b[n:]; len(bytes.TrimRight(after, "\r\n")) > 0 {
		return p.fail("Content-Length is %d, but the body has %d bytes: it was changed, or one request is to a file; leave "+
			"the header out to take it as it is", n, len(b))
	}
	r.Body = b[:n:n]
	return nil
}

// setBody takes a body that ends where the file does.
func (r *Request) setBody(b []byte) {
	r.Body = b
	for _, end := range []string{"\r\n", "\n"} {
		if bytes.HasSuffix(b, []byte(end)) {
			r.Ends = end
			return
		}
	}
}

// HTTP makes a request of it as a server gets one. Target must be set.
func (r *Request) HTTP(ctx context.Context) (*http.Request, error) {
	u, err := url.ParseRequestURI(r.Target)
	if err != nil {
		return nil, err
	}
	q := &http.Request{
		Method: r.Method, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: r.Header.Clone(),
		Host: r.Header.Get("Host"), RequestURI: r.Target, ContentLength: int64(len(r.Body)),
		Body: io.NopCloser(bytes.NewReader(r.Body)),
	}
	// As a server of net/http has them.
	delete(q.Header, "Host")
	if q.Header["Content-Length"] != nil {
		q.Header.Set("Content-Length", strconv.Itoa(len(r.Body)))
	}
	return q.WithContext(ctx), nil
}
