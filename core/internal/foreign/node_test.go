//go:build foreign && linux

package foreign

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/grapnelhq/grapnel/core/internal/e2e/harness"
	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/conform"
)

// TestNodeExample runs the commands of the README of the sink in Node.js: it is built, passes the conformance kit, and a
// webhook comes out at the far end. Then it tries what the README does not show.
func TestNodeExample(t *testing.T) {
	need(t, "npm")
	ntfy := harness.NewEndpoint(t)
	readme := harness.Readme{
		Path:    "examples/sink-node/README.md",
		Replace: map[string]string{"https://ntfy.sh": ntfy.URL},
	}
	copied := programs.Copy(t)
	readme.Run(t, &programs, copied)
	sent := ntfy.Requests()
	if len(sent) != 1 {
		t.Fatalf("%d notifications were sent: %+v", len(sent), sent)
	}
	var body struct {
		Topic      string `json:"topic"`
		Title      string `json:"title"`
		Message    string `json:"message"`
		SequenceID string `json:"sequence_id"`
	}
	if err := json.Unmarshal(sent[0].Body, &body); err != nil {
		t.Fatal(err)
	}
	if body.Topic != "people-8uq2xk" || body.Title != "A new colleague" || !strings.HasPrefix(body.Message, "Welcome ") ||
		!strings.HasPrefix(body.SequenceID, "dlv_") {
		t.Errorf("the notification is %s", sent[0].Body)
	}
	t.Run("recorder", func(t *testing.T) { nodeRecorder(t, filepath.Join(copied, "examples", "sink-node")) })
	t.Run("strangers", func(t *testing.T) {
		nodeStrangers(t, filepath.Join(copied, "bin", "plugins", "grapnel-sink-ntfy"))
	})
}

// nodeRecorder checks what the example's sink does not use: batches, keyed state, data, every outcome.
func nodeRecorder(t *testing.T, example string) {
	program := filepath.Join(t.TempDir(), "grapnel-sink-recorder")
	run(t, example, nil, "node", "build.js", program, "testdata/recorder.js")
	opts, err := conform.ReadOptions(filepath.Join(example, "testdata", "recorder.json"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	conform.Program(ctx, conform.Command{Path: program}, opts, nil, func(c conform.Check) {
		if c.Run == nil {
			return
		}
		for _, f := range c.Run(ctx) {
			t.Errorf("%s: %s", c.Name, f)
		}
	})
	p, err := conform.Start(ctx, conform.Command{Path: program})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	i, err := p.Client.Open(ctx, opts.Config)
	if err != nil {
		t.Fatal(err)
	}
	answers := []string{"deliver", "retry", "reject", "skip", "suspend", "throw"}
	var outcomes []sdk.Outcome
	for chunk := range slices.Chunk(answers, 3) {
		var ds []*sdk.Delivery[json.RawMessage]
		for _, answer := range chunk {
			d := conform.Delivery(len(outcomes)+len(ds), fmt.Sprintf(`{"answer": %q, "part": {"name": "a"}}`, answer), opts.Data)
			d.State = []byte("41")
			ds = append(ds, d)
		}
		o, err := i.Deliver(ctx, ds...)
		if err != nil {
			t.Fatal(err)
		}
		outcomes = append(outcomes, o...)
	}
	for k, want := range []sdk.Outcome{
		{Kind: sdk.Delivered, Reference: strings.Repeat("ü", 256), State: []byte("42"), StateSet: true},
		{Kind: sdk.Retried, Reason: "later", After: 7 * time.Second},
		{Kind: sdk.Rejected, Reason: "never", AttributePath: []string{"part", "name"}},
		{Kind: sdk.Skipped, Reason: "done already"},
		{Kind: sdk.Suspended, Reason: "revoked"},
		{Kind: sdk.Retried, Reason: strings.Repeat("x", 2048)},
	} {
		got := outcomes[k]
		if got.Kind != want.Kind || got.Reason != want.Reason || got.After != want.After || got.Reference != want.Reference ||
			!slices.Equal(got.AttributePath, want.AttributePath) || got.StateSet != want.StateSet ||
			string(got.State) != string(want.State) || !utf8.ValidString(got.Reason) {
			t.Errorf("%s: %+v, want %+v", answers[k], got, want)
		}
	}
}

// nodeStrangers checks that a plugin in Node.js serves nobody but its host.
func nodeStrangers(t *testing.T, program string) {
	host, stranger := selfSigned(t), selfSigned(t)
	dir, err := os.MkdirTemp("/tmp", "gr-") // short, for the path of the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir = dir
	cmd.Env = []string{
		"TMPDIR=" + dir, "PLUGIN_UNIX_SOCKET_DIR=" + dir, fmt.Sprint("GRAPNEL_HOST_PID=", os.Getpid()),
		"GRAPNEL_PLUGIN=webhooks-in-events-out", "PLUGIN_PROTOCOL_VERSIONS=1",
		"PLUGIN_CLIENT_CERT=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: host.Certificate[0]})),
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Split(strings.TrimSpace(line), "|")
	if err != nil || len(fields) != 6 {
		t.Fatalf("the handshake is %q, %v", line, err)
	}
	der, err := base64.RawStdEncoding.DecodeString(fields[5])
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(own)
	for _, client := range []struct {
		name  string
		certs []tls.Certificate
		ok    bool
	}{{"the host", []tls.Certificate{host}, true}, {"a stranger", []tls.Certificate{stranger}, false}, {"nobody", nil, false}} {
		raw, err := net.Dial("unix", fields[3])
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{
			RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(client.certs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &client.certs[0], nil // also where the server asks for another
			},
		})
		_ = c.SetDeadline(time.Now().Add(harness.Patience))
		_, err = c.Read(make([]byte, 9)) // the head of HTTP/2's first frame, or the alert
		if (err == nil) != client.ok || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s reads: %v", client.name, err)
		}
		c.Close()
	}
}

// selfSigned makes a certificate as go-plugin does.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "localhost", Organization: []string{"HashiCorp"}},
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		NotBefore:   time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
