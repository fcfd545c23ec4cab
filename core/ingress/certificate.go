package ingress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	certificatePoll = 5 * time.Second
	maxPEM          = 1 << 20        // bytes of a file; chains have a few thousand
	expirySoon      = 14 * 24 * 3600 // seconds, and at most a quarter of a certificate's life
	expiryAgain     = 24 * time.Hour // between two warnings
)

// certificates keeps the pair of files that new connections are greeted with. Open connections keep what they began
// with. Renewal tools write the two files one after the other, or move links to them: what does not fit together is
// not taken, and looked at again.
type certificates struct {
	certFile, keyFile string
	logger            hclog.Logger
	now               func() time.Time
	current           atomic.Pointer[tls.Certificate]

	mu     sync.Mutex
	taken  digest    // of the files that current was made of
	seen   digest    // at the last look
	told   digest    // of the files whose mistake was logged
	warned time.Time // when the expiry of current was logged
}

// digest is of both files, or of what is wrong with reading them.
type digest [sha256.Size]byte

// pairError is why a pair cannot be used. It names the files and quotes nothing of them.
func (c *certificates) pairError(err error) error {
	return fmt.Errorf("%w (certificate %s, key %s)", err, c.certFile, c.keyFile)
}

// reload looks at the files and takes them if they are good. An error says what is wrong with them; what was current
// stays so.
func (c *certificates) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	certPEM, keyPEM, d, err := c.read()
	c.seen = d
	if err == nil && d != c.taken {
		err = c.take(certPEM, keyPEM, d)
	}
	if err != nil {
		c.told = d // by the caller
	}
	return err
}

// poll is reload for somebody who looks all the time: it logs what changed, and a mistake once, when it has stayed for
// two looks.
func (c *certificates) poll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	certPEM, keyPEM, d, err := c.read()
	if err == nil && d != c.taken {
		err = c.take(certPEM, keyPEM, d)
	}
	switch {
	case err == nil:
		c.told = digest{}
	case d == c.seen && d != c.told:
		c.told = d
		c.logger.Warn("the certificate on disk cannot be used, the one in use stays", "error", err)
	}
	c.seen = d
	c.checkExpiry()
}

// take makes a pair the current one. One that is out of its time does not replace one that is in it.
func (c *certificates) take(certPEM, keyPEM []byte, d digest) error {
	pair, err := parsePair(certPEM, keyPEM)
	if err != nil {
		return c.pairError(err)
	}
	now, old := c.now(), c.current.Load()
	if old != nil && outOfTime(old.Leaf, now) == "" {
		if why := outOfTime(pair.Leaf, now); why != "" {
			return c.pairError(errors.New("the certificate " + why))
		}
	}
	c.current.Store(pair)
	c.taken, c.warned = d, time.Time{}
	if old != nil {
		c.logger.Info("the certificate was replaced", "file", c.certFile, "names", strings.Join(pair.Leaf.DNSNames, " "),
			"not_after", pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// read reads both files. The digest is there with an error, too.
func (c *certificates) read() (certPEM, keyPEM []byte, d digest, err error) {
	certPEM, err1 := readPEM(c.certFile)
	keyPEM, err2 := readPEM(c.keyFile)
	switch {
	case err1 != nil && err2 != nil:
		err = fmt.Errorf("%w; %w", err1, err2)
	case err1 != nil:
		err = err1
	default:
		err = err2
	}
	if err != nil {
		return nil, nil, sha256.Sum256([]byte(err.Error())), err
	}
	return certPEM, keyPEM, sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(certPEM), certPEM, keyPEM)), nil
}

func readPEM(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would hold us up
		return nil, fmt.Errorf("%s is no regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(b) > maxPEM {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxPEM)
	}
	return b, err
}

func parsePair(certPEM, keyPEM []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		if block, _ := pem.Decode(keyPEM); block != nil && (strings.HasPrefix(block.Type, "ENCRYPTED") ||
			bytes.Contains([]byte(block.Headers["Proc-Type"]), []byte("ENCRYPTED"))) {
			return nil, errors.New("the key is encrypted, and there is nobody to ask for its passphrase")
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &pair, nil
}

// outOfTime says how a certificate is not valid at a time, or "".
func outOfTime(leaf *x509.Certificate, now time.Time) string {
	switch {
	case now.After(leaf.NotAfter):
		return "expired at " + leaf.NotAfter.Format(time.RFC3339)
	case now.Before(leaf.NotBefore):
		return "is not valid before " + leaf.NotBefore.Format(time.RFC3339)
	}
	return ""
}

// expires says that a certificate's end is near, or "". Near is what a renewal should have come before, also for those
// that live a week only.
func expires(leaf *x509.Certificate, now time.Time) string {
	near := min(expirySoon*time.Second, leaf.NotAfter.Sub(leaf.NotBefore)/4)
	if leaf.NotAfter.Sub(now) > near {
		return ""
	}
	return "expires at " + leaf.NotAfter.Format(time.RFC3339)
}

// checkExpiry warns about the current certificate, once a day. The caller holds c.mu.
func (c *certificates) checkExpiry() {
	now := c.now()
	leaf := c.current.Load().Leaf
	if since := now.Sub(c.warned); since >= 0 && since < expiryAgain {
		return
	}
	notAfter := leaf.NotAfter.Format(time.RFC3339)
	switch {
	case now.Before(leaf.NotBefore):
		c.logger.Error("the certificate is not valid yet", "file", c.certFile,
			"not_before", leaf.NotBefore.Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		c.logger.Error("the certificate has expired", "file", c.certFile, "not_after", notAfter)
	case expires(leaf, now) != "":
		c.logger.Warn("the certificate expires soon", "file", c.certFile, "not_after", notAfter)
	default:
		return
	}
	c.warned = now
}

// CheckCertificate says what is wrong with a pair of files, or what deserves a warning, for who checks a
// configuration.
func CheckCertificate(certFile, keyFile string, now time.Time) (warning string, err error) {
	c := certificates{certFile: certFile, keyFile: keyFile, now: func() time.Time { return now }}
	if err := c.reload(); err != nil {
		return "", err
	}
	leaf := c.current.Load().Leaf
	if warning = outOfTime(leaf, now); warning == "" {
		warning = expires(leaf, now)
	}
	return warning, nil
}

// Certificate is a pair of files that another listener of the host greets with. It is looked after like the Server's own.
type Certificate struct{ certs *certificates }

// OpenCertificate reads a pair of files for another listener.
func OpenCertificate(certFile, keyFile string, logger hclog.Logger) (*Certificate, error) {
	c := &Certificate{&certificates{certFile: certFile, keyFile: keyFile, logger: logger, now: time.Now}}
	return c, c.Reload()
}

// TLS is the configuration of a listener.
func (c *Certificate) TLS() *tls.Config { return c.certs.tls() }

// Reload looks at the files at once, as Server.ReloadCertificate does.
func (c *Certificate) Reload() error { return c.certs.reload() }

// Watch looks at the files every few seconds, until ctx ends.
func (c *Certificate) Watch(ctx context.Context) { c.certs.watch(ctx) }

func (c *certificates) tls() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

func (c *certificates) watch(ctx context.Context) {
	tick := time.NewTicker(certificatePoll)
	defer tick.Stop()
	for {
		c.poll()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// MoveCertificate looks for the certificate and the key in other files from now on. If they are not good, the old ones stay.
// The server has TLS.
func (s *Server) MoveCertificate(certFile, keyFile string) error {
	if err := s.certs.move(certFile, keyFile); err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	return nil
}

func (c *certificates) move(certFile, keyFile string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldCert, oldKey := c.certFile, c.keyFile
	c.certFile, c.keyFile = certFile, keyFile
	certPEM, keyPEM, d, err := c.read()
	if err == nil && d != c.taken {
		err = c.take(certPEM, keyPEM, d)
	}
	if err != nil {
		c.certFile, c.keyFile = oldCert, oldKey
		return err
	}
	c.seen = d
	return nil
}

// ReloadCertificate looks at the files of the certificate and the key at once; new connections use them. If they are
// not good, the old ones stay, and the error says what is wrong. Without TLS it does nothing.
func (s *Server) ReloadCertificate() error {
	if s.certs == nil {
		return nil
	}
	if err := s.certs.reload(); err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	return nil
}

// WatchCertificate looks at the files of the certificate and the key every few seconds, until ctx ends. It follows
// Listen. Without TLS it returns at once.
func (s *Server) WatchCertificate(ctx context.Context) {
	if s.certs == nil {
		return
	}
	s.certs.watch(ctx)
}
