package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue makes a certificate and leaves it and its key in name.crt and name.key.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	template.SerialNumber = big.NewInt(a.n)
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(name string, b []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), b, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// server issues a certificate for 127.0.0.1 and a name, and serves HTTP/2 and HTTP/1.1 with it.
func (a *authority) server(template *x509.Certificate, clients bool, h http.Handler) *httptest.Server {
	a.t.Helper()
	a.issue("server", template)
	pair, err := tls.LoadX509KeyPair(a.path("server.crt"), a.path("server.key"))
	if err != nil {
		a.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		s.TLS.ClientCAs.AddCert(a.cert)
	}
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

func loopbackCert() *x509.Certificate {
	return &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"inside.example.com"}}
}

func TestHTTP2(t *testing.T) {
	a := newAuthority(t)
	var protos atomic.Value
	server := a.server(loopbackCert(), false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protos.Store(r.Proto)
		io.Copy(io.Discard, r.Body)
	}))
	s := newSink(t, configFor(server.URL, fmt.Sprintf(`"tls": {"ca": %q}`, a.path("ca.crt"))))
	if o := deliverOne(t, s, newDelivery(1)); o.Kind != sdk.Delivered || protos.Load() != "HTTP/2.0" {
		t.Errorf("%+v over %v", o, protos.Load())
	}
}

func TestCertificates(t *testing.T) {
	a := newAuthority(t)
	quietServer := func(c *x509.Certificate) string {
		return a.server(c, false, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).URL
	}
	expired := loopbackCert()
	expired.NotAfter = time.Now().Add(-time.Minute)
	ca := fmt.Sprintf(`"tls": {"ca": %q}`, a.path("ca.crt"))
	named := fmt.Sprintf(`"tls": {"ca": %q, "server_name": "inside.example.com"}`, a.path("ca.crt"))
	for name, c := range map[string]struct {
		config, reason string
	}{
		"good":              {configFor(quietServer(loopbackCert()), ca), ""},
		"unknown authority": {configFor(quietServer(loopbackCert()), ""), "unknown authority"},
		"expired":           {configFor(quietServer(expired), ca), "expired"},
		"wrong name":        {configFor(quietServer(&x509.Certificate{DNSNames: []string{"inside.example.com"}}), ca), "127.0.0.1"},
		"server_name":       {configFor(quietServer(&x509.Certificate{DNSNames: []string{"inside.example.com"}}), named), ""},
	} {
		o := deliverOne(t, newSink(t, c.config), newDelivery(1))
		if c.reason == "" && o.Kind != sdk.Delivered {
			t.Errorf("%s: %+v", name, o)
		}
		if c.reason != "" && (o.Kind != sdk.Suspended || !strings.Contains(o.Reason, "certificate is not accepted") ||
			!strings.Contains(o.Reason, c.reason)) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestClientCertificate(t *testing.T) {
	a := newAuthority(t)
	var who atomic.Value
	server := a.server(loopbackCert(), true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	client := func(cn string) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: cn}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
	}
	a.issue("client", client("first"))
	config := configFor(server.URL, fmt.Sprintf(`"tls": {"ca": %q, "cert": %q, "key": %q}`,
		a.path("ca.crt"), a.path("client.crt"), a.path("client.key")))
	s := newSink(t, config)
	if o := deliverOne(t, s, newDelivery(1)); o.Kind != sdk.Delivered || who.Load() != "first" {
		t.Errorf("%+v as %v", o, who.Load())
	}
	a.issue("client", client("renewed"))
	for start := time.Now(); who.Load() != "renewed"; {
		s.transport.CloseIdleConnections() // a connection may not count as idle at once
		if o := deliverOne(t, s, newDelivery(1)); o.Kind != sdk.Delivered || time.Since(start) > 10*time.Second {
			t.Fatalf("%+v as %v", o, who.Load())
		}
	}

	without := newSink(t, configFor(server.URL, fmt.Sprintf(`"tls": {"ca": %q}`, a.path("ca.crt"))))
	// TLS 1.3 tells the client of it after the handshake, when the connection may have broken already: then it is a retry.
	o := deliverOne(t, without, newDelivery(1))
	if o.Kind == sdk.Suspended && !strings.Contains(o.Reason, "refuses the connection") || o.Kind == sdk.Delivered {
		t.Errorf("without a certificate: %+v", o)
	}
	a.issue("other", client("other"))
	for name, files := range map[string][2]string{
		"tls.cert: cannot be used with its key: ":                              {"client.crt", "other.key"},
		"tls.cert: cannot be used with its key: " + a.path("none.crt") + ": n": {"none.crt", "client.key"},
	} {
		_, err := factory().Open(t.Context(), fmt.Appendf(nil, `{"url": %q, "allow_private": true, "tls": {"cert": %q, "key": %q}}`,
			server.URL, a.path(files[0]), a.path(files[1])))
		if err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%v: %v", files, err)
		}
	}
	for file, want := range map[string]string{
		"client.key": "tls.ca: the file holds no certificate", "none": "tls.ca: " + a.path("none") + ": no such file",
	} {
		_, err := factory().Open(t.Context(), fmt.Appendf(nil, `{"url": "https://example.com", "tls": {"ca": %q}}`, a.path(file)))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestProxy has a proxy for both plain and TLS connections, which alone sees names that nobody else knows.
func TestProxy(t *testing.T) {
	a := newAuthority(t)
	e := newEndpoint(t, nil)
	secure := a.server(&x509.Certificate{DNSNames: []string{"inside.example.com"}}, false, e)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:pr0xy-pass"))
		if r.Header.Get("Proxy-Authorization") != want {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		asked = append(asked, r.Method+" "+r.Host)
		if r.Method != http.MethodConnect {
			e.ServeHTTP(w, r)
			return
		}
		to, err := net.Dial("tcp", secure.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		from, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			io.Copy(to, rw)
			to.Close()
		}()
		io.Copy(from, to)
		from.Close()
		<-copied
	}))
	defer proxy.Close()
	with := func(url, user, more string) string {
		address := "http://" + user + "@" + proxy.Listener.Addr().String()
		return fmt.Sprintf(`{"url": %q, "proxy": %q, "tls": {"ca": %q}%s}`, url, address, a.path("ca.crt"), more)
	}
	for _, url := range []string{"http://inside.example.com:81/x", "https://inside.example.com/x"} {
		s := newSink(t, with(url, "u:pr0xy-pass", ""))
		if o := deliverOne(t, s, newDelivery(1)); o.Kind != sdk.Delivered {
			t.Errorf("%s: %+v", url, o)
		}
		s.Close()
	}
	if got := strings.Join(asked, ", "); got != "POST inside.example.com:81, CONNECT inside.example.com:443" {
		t.Errorf("the proxy was asked for %s", got)
	}
	for _, url := range []string{"http://inside.example.com:81/x", "https://inside.example.com/x"} {
		o := deliverOne(t, newSink(t, with(url, "u:wr0ng-pass", "")), newDelivery(1))
		if o.Kind == sdk.Delivered || strings.Contains(o.Reason, "wr0ng-pass") {
			t.Errorf("%s with a wrong password: %+v", url, o)
		}
	}
	// What is written as a private address does not go through a proxy either.
	err := factory().Validate([]byte(with("http://169.254.169.254/", "u:p", "")))
	if err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("%v", err)
	}
}
