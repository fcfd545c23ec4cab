package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/sample"
	"github.com/grapnelhq/grapnel/sdk"
)

// sendFlags are the flags of send.
type sendFlags struct {
	config, url, file, request string
	mutations                  []mutation
	count                      int
	rate                       int // per second; 0: one after the other
	span                       time.Duration
	forgery                    forgery
	json, same                 bool
}

func newSend() *cobra.Command {
	c := &cobra.Command{
		Use:   "send SOURCE [EVENT_TYPE]",
		Short: "Send correctly signed samples to a host",
		Long: `Send a sample of an event type to a source of a running host, signed with the source's own secret.

EVENT_TYPE is a type of the decoder's catalogue or a pattern such as 'youforce.*': then one sample of every matching type
is sent. Each copy is an event of its own (ids and times vary), unless --same is given. Instead of a sample, --from-file sends
the HTTP request of a file, signed anew.

With --rate, requests leave at their times whatever the answers do, and a summary comes at the end. With --bad-signature,
requests are forged, and it is a failure if the host takes one.`,
		Example: `  grapnel send people peopleforce.employee.created
  grapnel send people 'peopleforce.*' --count 3
  grapnel send people peopleforce.employee.created --mutate data.attributes.first_name=Ada --mutate data.tags='["a"]'
  grapnel send hr youforce.person.updated --file body.json
  grapnel send people --from-file request.http
  grapnel send people 'peopleforce.*' --rate 200 --for 30s
  grapnel send people peopleforce.employee.created --bad-signature body`,
		Args: cobra.RangeArgs(1, 2),
	}
	var f sendFlags
	fs := c.Flags()
	fs.StringVar(&f.config, "config", "config.hcl", "configuration `file` or folder")
	fs.StringVar(&f.url, "url", "", "where the host listens, as http://host:port (default: from the configuration)")
	fs.StringVar(&f.file, "file", "", "send this `file`'s bytes as the body instead of the sample's, unchanged")
	fs.StringVar(&f.request, "from-file", "", "send the HTTP request of this `file` (headers, a blank line, the body); - is standard input")
	fs.Func("mutate", "put another `path=value` into the body: JSON, or else a text; may be repeated", func(v string) error {
		m, err := parseMutation(v)
		f.mutations = append(f.mutations, m)
		return err
	})
	numberFlag(c, &f.count, "count", 1, 1_000_000, "how `many` of each")
	numberFlag(c, &f.rate, "rate", 0, 100_000, "how `many` requests per second")
	fs.DurationVar(&f.span, "for", 0, "with --rate: for how `long`, such as 30s (default: --count of each)")
	fs.Var(&f.forgery, "bad-signature", "forge the requests: `how` is wrong, missing, body (changed after signing) or old")
	fs.BoolVar(&f.json, "json", false, "print JSON, one line per thing")
	fs.BoolVar(&f.same, "same", false, "send the same request again and again, to see it deduplicated")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case f.url != "" && !strings.HasPrefix(f.url, "http://") && !strings.HasPrefix(f.url, "https://"):
			return usage(c, fmt.Sprintf("--url %q is not written http://host:port", f.url))
		case f.request != "" && (len(args) == 2 || f.file != ""):
			return usage(c, "--from-file takes the place of EVENT_TYPE and --file")
		case f.request == "" && len(args) == 1:
			return usage(c, "it takes SOURCE EVENT_TYPE, or SOURCE and --from-file")
		case f.span != 0 && f.rate == 0:
			return usage(c, "--for goes with --rate")
		case f.span < 0:
			return usage(c, "--for is negative")
		case f.span != 0 && c.Flags().Changed("count"):
			return usage(c, "it takes --count or --for, not both")
		}
		cfg, err := loadConfig(c, f.config)
		if err != nil {
			return err
		}
		s, err := newSender(cfg, args[0], f)
		if err != nil {
			return err
		}
		pattern := ""
		if len(args) == 2 {
			pattern = args[1]
		}
		if s.samples, err = s.take(pattern, c.InOrStdin()); err != nil {
			return err
		}
		if f.rate > 0 {
			return s.load(c.Context(), newPrinter(c, f.json))
		}
		return s.each(c.Context(), newPrinter(c, f.json))
	}
	return c
}

// mutation is a place in a body, as a JSON pointer, and what is put there, as JSON.
type mutation struct {
	pointer string
	value   []byte
}

// parseMutation reads path=value. What is no JSON is a text.
func parseMutation(v string) (mutation, error) {
	path, value, ok := strings.Cut(v, "=")
	if !ok {
		return mutation{}, fmt.Errorf("%q is not written path=value", v)
	}
	pointer, err := sample.Pointer(path)
	if err != nil {
		return mutation{}, err
	}
	raw := []byte(value)
	if jsonscan.Check(raw, jsonscan.DefaultLimits()) != nil {
		raw, err = json.Marshal(value)
	}
	return mutation{pointer, raw}, err
}

// sender signs and posts requests to one source.
type sender struct {
	flags   sendFlags
	source  config.Source
	base    string
	url     string
	client  *http.Client
	random  *rand.Rand
	samples []typedSample
	copies  []int // that were made of each sample
}

type typedSample struct {
	eventType string
	sdk.Sample
}

func newSender(cfg *config.Config, name string, f sendFlags) (*sender, error) {
	base := f.url
	if name == core.BuiltinSource && cfg.Builtin != nil {
		return nil, errors.New("what comes from the source grapnel is the host's own: try an alert with grapnel alerts test ALERT")
	}
	var names []string
	for _, src := range cfg.Sources {
		if src.Name != name {
			names = append(names, src.Name)
			continue
		}
		if f.forgery != "" && src.Scheme == nil {
			return nil, fmt.Errorf("source %q takes requests without authentication: none can be forged", name)
		}
		transport := &http.Transport{MaxIdleConnsPerHost: maxInFlight}
		if base == "" {
			base = listenURL(cfg.Server)
			if t := cfg.Server.TLS; t != nil {
				transport.TLSClientConfig = trustOwn(t.Cert)
			}
		}
		client := &http.Client{Timeout: 30 * time.Second, Transport: transport}
		return &sender{
			flags:  f,
			source: src,
			base:   base,
			url:    strings.TrimSuffix(base, "/") + src.Path,
			client: client,
			random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		}, nil
	}
	return nil, fmt.Errorf("the configuration has no enabled source %q; it has %s", name, strings.Join(names, ", "))
}

// trustOwn trusts the certificate of the configuration and no other: it is for the host's name, and the host is reached
// at this machine's address.
func trustOwn(certFile string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection is stricter
		VerifyConnection: func(s tls.ConnectionState) error {
			b, err := os.ReadFile(certFile)
			if err != nil {
				return err
			}
			if own, _ := pem.Decode(b); own == nil || !bytes.Equal(own.Bytes, s.PeerCertificates[0].Raw) {
				return fmt.Errorf("its certificate is not the one in %s", certFile)
			}
			return nil
		},
	}
}

// listenURL is how this machine reaches a server.
func listenURL(s config.Server) string {
	scheme := "http"
	if s.TLS != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return scheme + "://" + s.Listen
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// take finds what is to be sent: the request of a file, or what an event type or pattern names.
func (s *sender) take(pattern string, stdin io.Reader) (found []typedSample, err error) {
	if s.flags.request != "" {
		found, err = s.fromFile(stdin)
	} else {
		found, err = s.fromCatalogue(pattern, s.flags.file)
	}
	s.copies = make([]int, len(found))
	return found, err
}

// fromFile reads an HTTP request. Where it goes and how long it is says the host's address and the body.
func (s *sender) fromFile(stdin io.Reader) ([]typedSample, error) {
	f, err := readRequestFile(s.flags.request, "", stdin)
	if err != nil {
		return nil, err
	}
	smp := sdk.Sample{Method: f.Method, Body: f.Body}
	if _, query, ok := strings.Cut(f.Target, "?"); ok {
		smp.Query = query
	}
	for _, name := range slices.Sorted(maps.Keys(f.Header)) {
		switch name {
		case "Host", "Content-Length", "Connection", "Transfer-Encoding", "Expect":
			continue
		}
		for _, v := range f.Header[name] {
			smp.Headers = append(smp.Headers, sdk.Header{Name: name, Value: v})
		}
	}
	return []typedSample{{s.flags.request, complete(smp, s.source.Info.Provider)}}, nil
}

// fromCatalogue finds what an event type or pattern names.
func (s *sender) fromCatalogue(pattern, file string) ([]typedSample, error) {
	p := s.source.Info.Provider
	var found []typedSample
	for _, t := range p.Events {
		if route.Match(pattern, t.Type) && len(t.Samples) > 0 {
			found = append(found, typedSample{t.Type, complete(t.Samples[0], p)})
		}
	}
	if len(found) == 0 {
		var types []string
		for _, t := range p.Events {
			types = append(types, t.Type)
		}
		lacksName := slices.Contains(types, p.Name+"."+pattern)
		if guess := config.Nearest(pattern, types); guess != "" && !lacksName {
			return nil, fmt.Errorf("%s has no event type %q; did you mean %q?", p.Title, pattern, guess)
		}
		_, err := sample.Find(p, pattern)
		return nil, err
	}
	if file != "" {
		if len(found) > 1 {
			return nil, fmt.Errorf("a file is sent as one event type, and %q matches %d", pattern, len(found))
		}
		body, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found[0].Body = body
	}
	return found, nil
}

// complete gives a sample what it may leave to its manifest: the method and the content type.
func complete(s sdk.Sample, p *sdk.Provider) sdk.Sample {
	s.Method = cmp.Or(s.Method, http.MethodPost)
	typed := slices.ContainsFunc(s.Headers, func(h sdk.Header) bool { return strings.EqualFold(h.Name, "content-type") })
	if !typed && len(s.Body) > 0 {
		contentType := "application/json"
		if len(p.ContentTypes) > 0 && !strings.Contains(p.ContentTypes[0], "*") {
			contentType = p.ContentTypes[0]
		}
		s.Headers = append(slices.Clone(s.Headers), sdk.Header{Name: "Content-Type", Value: contentType})
	}
	return s
}

// next makes the next copy of a sample. It is called from one goroutine.
func (s *sender) next(i int) (sdk.Sample, error) {
	smp := &s.samples[i].Sample
	made := *smp
	varies := s.flags.file == "" && s.flags.request == "" && (s.copies[i] == 0 || !s.flags.same)
	var err error
	if varies {
		if made, err = sample.Copy(*smp, s.random, time.Now()); err != nil {
			return made, err
		}
	}
	if varies || s.copies[i] == 0 {
		for _, m := range s.flags.mutations {
			if made.Body, err = sample.Set(made.Body, sample.IsForm(made.Headers), m.pointer, m.value); err != nil {
				return made, fmt.Errorf("--mutate %s: %w", m.pointer, err)
			}
		}
	}
	if s.copies[i]++; s.flags.same || s.flags.file != "" || s.flags.request != "" {
		*smp = made
	}
	return made, nil
}

// each sends copies one after the other and tells of each.
func (s *sender) each(ctx context.Context, p printer) error {
	for i := range s.samples {
		for range s.flags.count {
			smp, err := s.next(i)
			if err != nil {
				return err
			}
			if err := s.send(ctx, p, s.samples[i].eventType, smp); err != nil {
				return err
			}
		}
	}
	return nil
}

// sent is what became of one request.
type sent struct {
	Type   string  `json:"type"`
	Status int     `json:"status"`
	Answer string  `json:"answer,omitempty"`
	Bytes  int     `json:"bytes"`
	TookMS float64 `json:"took_ms"`
}

func (s *sender) send(ctx context.Context, p printer, eventType string, smp sdk.Sample) error {
	req, err := s.request(ctx, typedSample{eventType, smp})
	if err != nil {
		return err
	}
	started := time.Now()
	status, answer, err := s.exchange(req)
	if err != nil {
		return err
	}
	took := time.Since(started)
	if p.json {
		err = p.value(sent{eventType, status, string(answer), len(smp.Body), float64(took) / float64(time.Millisecond)})
	} else {
		_, err = fmt.Fprintf(p.out, "%d %s  %s  %d bytes  %s\n",
			status, http.StatusText(status), eventType, len(smp.Body), took.Round(time.Microsecond))
	}
	if err != nil {
		return err
	}
	return s.judge(status, answer)
}

// judge says whether an answer is the one that there should be.
func (s *sender) judge(status int, answer []byte) error {
	switch {
	case status == http.StatusBadRequest && bytes.Contains(answer, []byte("HTTP request to an HTTPS server")):
		return fmt.Errorf("the host speaks TLS: write --url %s", strings.Replace(s.base, "http://", "https://", 1))
	case s.flags.forgery != "" && status/100 == 2:
		return fmt.Errorf("the host took a forged request (%s)", s.flags.forgery)
	case s.flags.forgery != "" && (status == http.StatusUnauthorized || status == http.StatusNotFound): // 404: no path token
		return nil
	case status/100 != 2:
		return fmt.Errorf("the host refused it: %d %s: %s (grapnel rejections list says more)", status, http.StatusText(status),
			bytes.TrimSpace(answer))
	}
	return nil
}

// request signs a sample, or forges it.
func (s *sender) request(ctx context.Context, smp typedSample) (*http.Request, error) {
	in := auth.Input{Header: http.Header{}, RawQuery: smp.Query, Body: smp.Body, Form: sample.IsForm(smp.Headers)}
	for _, h := range smp.Headers {
		in.Header.Set(h.Name, h.Value)
	}
	if s.source.Scheme != nil {
		if err := s.flags.forgery.sign(*s.source.Scheme, &in, s.source.Secrets[0], time.Now()); err != nil {
			if s.flags.request != "" { // no sample, and err names what is missing
				return nil, err
			}
			return nil, signError(s.source.Scheme, smp, in.Header, err)
		}
	}
	url := s.url
	if in.PathToken != "" {
		url += "/" + in.PathToken
	}
	if in.RawQuery != "" {
		url += "?" + in.RawQuery
	}
	req, err := http.NewRequestWithContext(ctx, smp.Method, url, bytes.NewReader(in.Body))
	if err != nil {
		return nil, fmt.Errorf("the address of source %s does not make a request", s.source.Name) // err would show the path token
	}
	req.Header = in.Header
	return req, nil
}

// exchange sends a request and reads the beginning of the answer.
func (s *sender) exchange(req *http.Request) (status int, answer []byte, err error) {
	resp, err := s.client.Do(req)
	if err != nil {
		err = unwrapURL(err) // it names the whole URL, path token included
		if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" {
			return 0, nil, fmt.Errorf("cannot reach the host at %s: %w (is it running?)", s.url, err)
		}
		return 0, nil, fmt.Errorf("cannot send to the host at %s: %w", s.url, err)
	}
	defer resp.Body.Close()
	answer, _ = io.ReadAll(io.LimitReader(resp.Body, 512))
	return resp.StatusCode, answer, nil
}
