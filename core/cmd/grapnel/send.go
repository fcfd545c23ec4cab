package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/route"
	"github.com/grapnelhq/grapnel/core/sample"
	"github.com/grapnelhq/grapnel/sdk"
)

func newSend() *cobra.Command {
	c := &cobra.Command{
		Use:   "send SOURCE EVENT_TYPE",
		Short: "Send correctly signed samples to a host",
		Long: `Send a sample of an event type to a source of a running host, signed with the source's own secret.

EVENT_TYPE is a type of the decoder's catalogue or a pattern such as 'youforce.*': then one sample of every matching type
is sent. Each copy is an event of its own (ids and times vary), unless --same is given.`,
		Example: `  grapnel send people peopleforce.employee.created
  grapnel send people 'peopleforce.*' --count 3
  grapnel send hr youforce.person.updated --file body.json`,
		Args: cobra.ExactArgs(2),
	}
	path := configFlag(c)
	base := c.Flags().String("url", "", "where the host listens, as http://host:port (default: from the configuration)")
	file := c.Flags().String("file", "", "send this `file`'s bytes as the body instead of the sample's, unchanged")
	var count int
	numberFlag(c, &count, "count", 1, 1_000_000, "how `many` of each")
	asJSON := jsonFlag(c)
	same := c.Flags().Bool("same", false, "send the same request again and again, to see it deduplicated")
	c.RunE = func(c *cobra.Command, args []string) error {
		if b := *base; b != "" && !strings.HasPrefix(b, "http://") && !strings.HasPrefix(b, "https://") {
			return usage(c, fmt.Sprintf("--url %q is not written http://host:port", b))
		}
		cfg, err := loadConfig(c, *path)
		if err != nil {
			return err
		}
		s, err := newSender(cfg, args[0], *base)
		if err != nil {
			return err
		}
		samples, err := s.samples(args[1], *file)
		if err != nil {
			return err
		}
		for _, smp := range samples {
			for i := range count {
				send := smp.Sample
				if *file == "" && (i == 0 || !*same) {
					if send, err = sample.Copy(smp.Sample, s.random, time.Now()); err != nil {
						return err
					}
					if *same {
						smp.Sample = send
					}
				}
				if err := s.send(c.Context(), newPrinter(c, *asJSON), smp.eventType, send); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return c
}

// sender signs and posts requests to one source.
type sender struct {
	source config.Source
	base   string
	url    string
	client *http.Client
	random *rand.Rand
}

type typedSample struct {
	eventType string
	sdk.Sample
}

func newSender(cfg *config.Config, name, base string) (*sender, error) {
	var names []string
	for _, src := range cfg.Sources {
		if src.Name != name {
			names = append(names, src.Name)
			continue
		}
		client := &http.Client{Timeout: 30 * time.Second}
		if base == "" {
			base = listenURL(cfg.Server)
			if t := cfg.Server.TLS; t != nil {
				client.Transport = &http.Transport{TLSClientConfig: trustOwn(t.Cert)}
			}
		}
		return &sender{
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

// samples finds what an event type or pattern names.
func (s *sender) samples(pattern, file string) ([]typedSample, error) {
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
		if guess := config.Nearest(pattern, types); guess != "" {
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

// sent is what became of one request.
type sent struct {
	Type   string  `json:"type"`
	Status int     `json:"status"`
	Answer string  `json:"answer,omitempty"`
	Bytes  int     `json:"bytes"`
	TookMS float64 `json:"took_ms"`
}

func (s *sender) send(ctx context.Context, p printer, eventType string, smp sdk.Sample) error {
	in := auth.Input{Header: http.Header{}, RawQuery: smp.Query, Body: smp.Body, Form: sample.IsForm(smp.Headers)}
	for _, h := range smp.Headers {
		in.Header.Set(h.Name, h.Value)
	}
	if s.source.Scheme != nil {
		if err := auth.Sign(*s.source.Scheme, &in, s.source.Secrets[0], time.Now()); err != nil {
			return err
		}
	}
	url := s.url
	if in.PathToken != "" {
		url += "/" + in.PathToken
	}
	if in.RawQuery != "" {
		url += "?" + in.RawQuery
	}
	req, err := http.NewRequestWithContext(ctx, smp.Method, url, bytes.NewReader(smp.Body))
	if err != nil {
		return fmt.Errorf("the address of source %s does not make a request", s.source.Name) // err would show the path token
	}
	req.Header = in.Header
	started := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		err = unwrapURL(err) // it names the whole URL, path token included
		if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" {
			return fmt.Errorf("cannot reach the host at %s: %w (is it running?)", s.url, err)
		}
		return fmt.Errorf("cannot send to the host at %s: %w", s.url, err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	took := time.Since(started)
	if p.json {
		err = p.value(sent{
			eventType, resp.StatusCode, string(answer), len(smp.Body), float64(took) / float64(time.Millisecond),
		})
	} else {
		_, err = fmt.Fprintf(p.out, "%s  %s  %d bytes  %s\n",
			resp.Status, eventType, len(smp.Body), took.Round(time.Microsecond))
	}
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusBadRequest && bytes.Contains(answer, []byte("HTTP request to an HTTPS server")) {
		return fmt.Errorf("the host speaks TLS: write --url %s", strings.Replace(s.base, "http://", "https://", 1))
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the host refused it: %s: %s (grapnel rejections list says more)", resp.Status, bytes.TrimSpace(answer))
	}
	return nil
}
