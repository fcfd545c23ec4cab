package ingress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// issued is a certificate and its key, in PEM form.
type issued struct{ cert, key []byte }

// issue makes a self-signed certificate with a serial number to know it by.
func issue(t testing.TB, serial int64, from, until time.Time) issued {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until,
		DNSNames: []string{"hooks.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return issued{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}),
	}
}

// fresh is a certificate that is valid now, and for long.
func fresh(t testing.TB, serial int64) issued {
	t.Helper()
	return issue(t, serial, time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
}

// replace puts a file in the place of another at once, as renewal tools do.
func replace(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// tlsHost is a host with a certificate in files of its own.
func tlsHost(t *testing.T, first issued, now func() time.Time) (h *host, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	replace(t, cert, first.cert)
	replace(t, key, first.key)
	h = start(t, func(c *Config, _ *memory) {
		c.Endpoints = []Endpoint{vwdEndpoint(t, "hr")}
		c.CertFile, c.KeyFile, c.Now = cert, key, now
	})
	h.url = "https://" + h.addr
	return h, cert, key
}

// greeting is the serial number of the certificate that a new connection gets.
func (h *host) greeting(t testing.TB) int64 {
	t.Helper()
	c, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true}) // the serial number is what is tested
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (h *host) logged(text string) int { return strings.Count(h.logs.String(), text) }

const unusable = "the certificate on disk cannot be used"

// A renewal: connections that are open stay, also with a request in the middle of its body, new ones get the new
// certificate.
func TestCertificateRenewal(t *testing.T) {
	h, cert, key := tlsHost(t, fresh(t, 1), nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // see greeting
	h.client.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	post := func(id string) (reused bool, serial int64) {
		t.Helper()
		r := h.signed(t, "{}", "X-Vwd-Notification-Id", id)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused },
		}))
		resp, err := h.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", resp.Status, err)
		}
		return reused, resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if reused, serial := post("1"); reused || serial != 1 {
		t.Fatal(reused, serial)
	}
	middle, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true}) // see greeting
	if err != nil {
		t.Fatal(err)
	}
	defer middle.Close()
	r := h.signed(t, `{"half":1}`, "X-Vwd-Notification-Id", "middle")
	fmt.Fprintf(middle, "POST /hooks/hr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n"+
		"X-Vwd-Notification-Id: middle\r\nX-VWD-Signature-V1: %s\r\n\r\n{\"half", r.Header.Get("X-VWD-Signature-V1"))

	second := fresh(t, 2)
	replace(t, cert, second.cert)
	h.server.certs.poll() // between the two files: a pair that does not fit
	if got := h.greeting(t); got != 1 {
		t.Errorf("serial %d before the key is there", got)
	}
	replace(t, key, second.key)
	h.server.certs.poll()
	if got := h.greeting(t); got != 2 {
		t.Errorf("serial %d after the renewal", got)
	}
	if n := h.logged(unusable); n != 0 {
		t.Errorf("%d complaints about the moment between two files", n)
	}
	if n := h.logged("the certificate was replaced"); n != 1 {
		t.Errorf("the renewal is logged %d times", n)
	}
	if reused, serial := post("2"); !reused || serial != 1 {
		t.Errorf("the open connection: reused %v, serial %d", reused, serial)
	}
	fmt.Fprint(middle, `":1}`)
	if a, err := readAnswer(middle); err != nil || a.status != 200 {
		t.Errorf("the request that was under way: %+v %v", a, err)
	}
	for range 5 {
		h.server.certs.poll()
	}
	if n := h.logged("the certificate was replaced"); n != 1 {
		t.Errorf("an unchanged pair is replaced: %d", n)
	}
}

// Links as certbot and Kubernetes move them.
func TestCertificateLinks(t *testing.T) {
	dir := t.TempDir()
	version := func(n int64) string {
		p := fresh(t, n)
		name := fmt.Sprintf("..%d", n)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, name, "cert.pem"), p.cert)
		replace(t, filepath.Join(dir, name, "key.pem"), p.key)
		return name
	}
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(dir, "next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(version(1), "..data")
	link("..data/cert.pem", "cert.pem")
	link("..data/key.pem", "key.pem")
	h := start(t, func(c *Config, _ *memory) {
		c.CertFile, c.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	})
	if got := h.greeting(t); got != 1 {
		t.Error(got)
	}
	link(version(2), "..data") // both files at once
	h.server.certs.poll()
	if got := h.greeting(t); got != 2 {
		t.Error(got)
	}
	third := version(3)
	link(third+"/key.pem", "key.pem") // one after the other
	h.server.certs.poll()
	if got := h.greeting(t); got != 2 {
		t.Error(got)
	}
	link(third+"/cert.pem", "cert.pem")
	h.server.certs.poll()
	if got := h.greeting(t); got != 3 {
		t.Error(got)
	}
}

// What cannot be used is told once, and the certificate in use stays until something better is there.
func TestCertificateBroken(t *testing.T) {
	good := fresh(t, 1)
	other := fresh(t, 9)
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	legacy := pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x"),
	})
	day := 24 * time.Hour
	now := time.Now()
	for _, c := range []struct {
		name string
		pair issued // nil: the file is removed
		want string
	}{
		{"half a certificate", issued{other.cert[:len(other.cert)/2], other.key}, "failed to find any PEM data in certificate input"},
		{"half a key", issued{other.cert, other.key[:len(other.key)/2]}, "failed to find any PEM data in key input"},
		{"empty files", issued{[]byte{}, []byte{}}, "failed to find any PEM data"},
		{"another key", issued{other.cert, good.key}, "private key does not match public key"},
		{"the other way round", issued{other.key, other.cert}, "PEM inputs may have been switched"},
		{"an encrypted key", issued{other.cert, encrypted}, "the key is encrypted"},
		{"a key encrypted of old", issued{other.cert, legacy}, "the key is encrypted"},
		{"no certificate", issued{nil, other.key}, "cert.pem: no such file"},
		{"neither", issued{}, "key.pem: no such file"},
		{"too large", issued{[]byte(strings.Repeat("x", maxPEM+1)), other.key}, "larger than"},
		{"expired", issue(t, 9, now.Add(-9*day), now.Add(-day)), "the certificate expired at"},
		{"not yet", issue(t, 9, now.Add(day), now.Add(9*day)), "the certificate is not valid before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, cert, key := tlsHost(t, good, nil)
			put := func(file string, content []byte) {
				if content != nil {
					replace(t, file, content)
				} else if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			put(cert, c.pair.cert)
			put(key, c.pair.key)
			for range 4 {
				h.server.certs.poll()
			}
			if n := h.logged(unusable); n != 1 || h.logged(c.want) != 1 {
				t.Errorf("told %d times:\n%s", n, h.logs)
			}
			if strings.Contains(h.logs.String(), string(other.key[40:60])) {
				t.Error("the log holds the key")
			}
			if err := h.server.ReloadCertificate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("reload: %v", err)
			}
			if _, err := CheckCertificate(cert, key, time.Now()); (err == nil) != (c.name == "expired" || c.name == "not yet") {
				t.Errorf("check: %v", err)
			}
			if got := h.greeting(t); got != 1 {
				t.Errorf("serial %d", got)
			}
			third := fresh(t, 3)
			replace(t, cert, third.cert)
			replace(t, key, third.key)
			h.server.certs.poll()
			if got := h.greeting(t); got != 3 {
				t.Errorf("serial %d after it was mended", got)
			}
			// The same mistake again is a new one.
			put(cert, c.pair.cert)
			put(key, c.pair.key)
			for range 4 {
				h.server.certs.poll()
			}
			if n := h.logged(unusable); n != 2 {
				t.Errorf("told %d times in all", n)
			}
		})
	}
}

func TestCertificateAtStart(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	m, logs := &memory{}, &syncBuffer{}
	try := func() error {
		s, err := New(Config{
			Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key, Acceptor: m, Rejections: m,
			Logger: hclog.New(&hclog.LoggerOptions{Output: logs}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.Listen(); err == nil {
			s.certs.poll()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		return err
	}
	if err := try(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without files: %v", err)
	}
	if err := os.Mkdir(cert, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := try(); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("with a folder: %v", err)
	}
	// One that has expired is better than none: its owner reads the log, and some senders do not look.
	cert, key = cert+"ert", key+"ey"
	old := issue(t, 1, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	replace(t, cert, old.cert)
	replace(t, key, old.key)
	if err := try(); err != nil || !strings.Contains(logs.String(), "the certificate has expired") {
		t.Errorf("expired: %v\n%s", err, logs)
	}
	if warning, err := CheckCertificate(cert, key, time.Now()); err != nil || !strings.HasPrefix(warning, "expired at ") {
		t.Errorf("check: %q %v", warning, err)
	}
}

func TestCertificateExpiry(t *testing.T) {
	const day = 24 * time.Hour
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		life, age time.Duration
		want      string
	}{
		{90 * day, 75 * day, ""},
		{90 * day, 76 * day, "expires soon"},
		{90 * day, 90*day + time.Second, "has expired"},
		{6 * day, 4 * day, ""}, // a quarter of a short life
		{6 * day, 5 * day, "expires soon"},
		{90 * day, -time.Second, "is not valid yet"},
	} {
		var mu sync.Mutex
		now := began.Add(c.age)
		h, _, _ := tlsHost(t, issue(t, 1, began, began.Add(c.life)), func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		})
		for range 3 {
			h.server.certs.poll()
		}
		if got := h.logged("the certificate "); c.want == "" && got != 0 || c.want != "" && (got != 1 || h.logged(c.want) != 1) {
			t.Errorf("%v of %v: %s", c.age, c.life, h.logs)
		}
		if c.want != "" { // again the next day
			for _, d := range []time.Duration{day - time.Second, 2 * time.Second, time.Second} {
				mu.Lock()
				now = now.Add(d)
				mu.Unlock()
				h.server.certs.poll()
			}
			if got := h.logged("the certificate "); got != 2 && c.age >= 0 {
				t.Errorf("%v of %v, a day later: %s", c.age, c.life, h.logs)
			}
		}
	}
}

// Connections while the certificate changes all the time; for the race detector as well.
func TestCertificateWatched(t *testing.T) {
	pairs := []issued{fresh(t, 1), fresh(t, 2)}
	h, cert, key := tlsHost(t, pairs[0], nil)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.server.WatchCertificate(ctx) })
	running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			replace(t, cert, pairs[i%2].cert)
			h.server.certs.poll()
			replace(t, key, pairs[i%2].key)
			_ = h.server.ReloadCertificate() // may see one file of each, if the other goroutine is slow
		}
	})
	for range 60 {
		if got := h.greeting(t); got != 1 && got != 2 {
			t.Error(got)
		}
	}
	cancel()
	running.Wait()

	plain := start(t, func(*Config, *memory) {})
	plain.server.WatchCertificate(t.Context()) // returns
	if err := plain.server.ReloadCertificate(); err != nil {
		t.Error(err)
	}
}
