//go:build unix

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
)

// renewCertificate puts a new certificate and its key in the place of what is there, each at once, and returns the key.
func renewCertificate(t *testing.T, h *harness.Host, serial int64) (keyPEM []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"hooks.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
	put(t, h, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, h, "key.pem", keyPEM)
	return keyPEM
}

func put(t *testing.T, h *harness.Host, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(h.Path(name+".new"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.Path(name+".new"), h.Path(name)); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateRenewal has the certificate replaced under a running host, with and without telling it, and broken.
func TestCertificateRenewal(t *testing.T) {
	t.Parallel()
	h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile, Server: `
  tls {
    cert = "cert.pem"
    key  = "key.pem"
  }
`})
	keys := [][]byte{renewCertificate(t, h, 1)}
	h.Start()
	client := func() *http.Client {
		c := &http.Client{Timeout: harness.Patience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the serial number is what is tested
		}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	n := 0
	// post returns the serial number of the certificate that the connection began with.
	post := func(c *http.Client) int64 {
		t.Helper()
		n++
		p := harness.Youforce("hr", "k", n)
		req, err := http.NewRequest(http.MethodPost, "https://"+h.Address+p.Path, bytes.NewReader(p.Body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = p.Header
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %v", resp.Status, err)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	open := client()
	if got := post(open); got != 1 {
		t.Errorf("serial %d", got)
	}
	send := func() {
		t.Helper()
		n++
		h.MustRun("send", "hr", "youforce.employment.updated") // trusts the configuration's own certificate
	}
	send()

	keys = append(keys, renewCertificate(t, h, 2))
	if err := syscall.Kill(h.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	h.Eventually(harness.Patience, "the certificate is replaced on SIGHUP", func() bool { return post(client()) == 2 })
	send()
	keys = append(keys, renewCertificate(t, h, 3))
	h.Eventually(harness.Patience, "the certificate is replaced by itself", func() bool { return post(client()) == 3 })
	if got := post(open); got != 1 {
		t.Errorf("the open connection has serial %d: it was dropped", got)
	}

	put(t, h, "key.pem", keys[0])
	if out, errOut, err := h.Run("validate"); err == nil || !strings.Contains(errOut, "Private key does not match public key") {
		t.Errorf("validate: %v\n%s%s", err, out, errOut)
	}
	h.Eventually(harness.Patience, "the broken pair is told", func() bool {
		return strings.Contains(h.Log(), "the certificate on disk cannot be used, the one in use stays")
	})
	if got := post(client()); got != 3 {
		t.Errorf("serial %d with a broken pair on disk", got)
	}
	h.Eventually(harness.Patience, "everything is delivered", func() bool { return h.Settled() && len(h.RawLines("out/events.jsonl")) == n })
	h.Stop()
	f := &finder{t: t}
	for i, key := range keys {
		body := strings.Split(string(key), "\n")[1] // base64; in the finder's spellings it stands as it is
		f.secrets = append(f.secrets, secret{"key " + string(rune('1'+i)), body})
	}
	f.files(h.Dir, "key.pem")
}
