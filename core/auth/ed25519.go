package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// maxPublicKeySignatures is fewer than an HMAC header may hold: each signature costs another pass over the body, for
// each key.
const maxPublicKeySignatures = 4

// ed25519Scheme verifies signatures whose private key the provider alone has. Nothing in it is secret, so nothing is
// done in constant time.
type ed25519Scheme struct {
	signature
	keys   []ed25519.PublicKey
	states sync.Pool // of *scratch
}

func newEd25519(e *sdk.Ed25519, secrets []string) (*ed25519Scheme, error) {
	s := &ed25519Scheme{}
	var err error
	s.signature, err = newSignature(declaration{
		kind: "ed25519", headers: e.Headers, encoding: e.Encoding, size: ed25519.SignatureSize, most: maxPublicKeySignatures,
		content: e.SignedContent, timestamp: e.Timestamp, separator: e.Separator, itemVersion: e.ItemVersion,
	})
	if err != nil {
		return nil, err
	}
	for i, secret := range secrets {
		key, err := parsePublicKey(secret)
		if err != nil {
			return nil, fmt.Errorf("public key %d %w", i+1, err)
		}
		s.keys = append(s.keys, key)
	}
	s.states.New = func() any { st := s.newScratch(); return &st }
	return s, nil
}

// parsePublicKey reads a key as providers show it: base64, with or without "whpk_" before it, or hexadecimal. Which one
// is told by the length.
func parsePublicKey(text string) (ed25519.PublicKey, error) {
	if strings.HasPrefix(text, "whsk_") {
		return nil, errors.New(`is a private key ("whsk_"); the public one, "whpk_…", is what verifies`)
	}
	var key []byte
	var err error
	if len(text) == hex.EncodedLen(ed25519.PublicKeySize) {
		key, err = hex.DecodeString(text)
	} else {
		bare := strings.TrimRight(strings.TrimPrefix(text, "whpk_"), "=")
		key, err = base64.RawStdEncoding.Strict().DecodeString(bare)
	}
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New(`is not 32 bytes in base64, with or without "whpk_" before it, or in hexadecimal`)
	}
	return key, nil
}

func (s *ed25519Scheme) verify(in *Input, now time.Time) (Result, error) {
	st := s.states.Get().(*scratch)
	defer s.states.Put(st)
	defer st.forget()
	received, sent, err := s.read(in, st)
	if err != nil {
		return Result{}, err
	}
	message := st.values[0]
	if len(st.values) > 1 {
		message = bytes.Join(st.values, nil)
	}
	for i, key := range s.keys {
		for j := range received {
			if !ed25519.Verify(key, message, st.received[j][:ed25519.SignatureSize]) {
				continue
			}
			if err := s.checkAge(sent, now); err != nil {
				return Result{}, err
			}
			return Result{SecretIndex: i, Query: in.RawQuery}, nil
		}
	}
	return Result{}, &Error{CauseBadSignature, "it is of none of " + strconv.Itoa(len(s.keys)) + " public keys"}
}

// sign cannot: what signs is the provider's alone.
func (s *ed25519Scheme) sign(*Input, string, time.Time) error {
	return errors.New("only the provider can sign: the configuration has its public key, not the private one")
}

// SignEd25519 is Sign for a scheme with public keys and for who has the private one, as a test does.
func SignEd25519(e sdk.Ed25519, in *Input, key ed25519.PrivateKey, now time.Time) error {
	s, err := newEd25519(&e, nil)
	if err != nil {
		return err
	}
	st := s.newScratch()
	if err := s.prepare(in, &st, now); err != nil {
		return err
	}
	s.write(in, ed25519.Sign(key, bytes.Join(st.values, nil)))
	return nil
}
