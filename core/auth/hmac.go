package auth

import (
	"crypto/hmac"
	"crypto/sha1" // only where a manifest asks for it by name
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

type hmacScheme struct {
	signature
	newHash   func() hash.Hash
	keyFormat sdk.KeyFormat
	keys      [][]byte
	states    sync.Pool // of *hmacState
}

// hmacState is what one verification works with. The hash of each secret keeps its state after the key block, which
// halves the cost of hashing a webhook of the usual size.
type hmacState struct {
	scratch
	macs     []hash.Hash
	computed macBuffer
}

func newHMAC(h *sdk.HMAC, secrets []string) (*hmacScheme, error) {
	s := &hmacScheme{keyFormat: h.KeyFormat}
	var err error
	if s.newHash, err = hashOf(h.Algorithm); err != nil {
		return nil, fmt.Errorf("hmac: %w", err)
	}
	s.signature, err = newSignature(declaration{
		kind: "hmac", headers: h.Headers, encoding: h.Encoding, size: s.newHash().Size(), most: maxSignatures,
		prefix: h.Prefix, content: h.SignedContent, timestamp: h.Timestamp,
		separator: h.Separator, itemKey: h.ItemKey, itemVersion: h.ItemVersion,
	})
	if err != nil {
		return nil, err
	}
	switch s.keyFormat {
	case sdk.KeyText, sdk.KeyBase64, sdk.KeyHex, sdk.KeyWhsec, "":
	default:
		return nil, fmt.Errorf("hmac: unknown key format %q", s.keyFormat)
	}
	for i, secret := range secrets {
		key, err := parseKey(s.keyFormat, secret)
		if err != nil {
			return nil, fmt.Errorf("secret %d %w", i+1, err)
		}
		s.keys = append(s.keys, key)
	}
	s.states.New = func() any {
		st := &hmacState{scratch: s.newScratch()}
		for _, key := range s.keys {
			m := hmac.New(s.newHash, key)
			m.Reset() // from here on Reset restores the state after the key block
			st.macs = append(st.macs, m)
		}
		return st
	}
	return s, nil
}

func hashOf(a sdk.Algorithm) (func() hash.Hash, error) {
	switch a {
	case sdk.SHA256, "":
		return sha256.New, nil
	case sdk.SHA384:
		return sha512.New384, nil
	case sdk.SHA512:
		return sha512.New, nil
	case sdk.SHA1:
		return sha1.New, nil
	}
	return nil, fmt.Errorf("unknown algorithm %q", a)
}

func (s *hmacScheme) verify(in *Input, now time.Time) (Result, error) {
	st := s.states.Get().(*hmacState)
	defer s.states.Put(st)
	defer st.forget()
	received, sent, err := s.read(in, &st.scratch)
	if err != nil {
		return Result{}, err
	}

	// Every secret meets every signature. Backwards, so that the first of several equal secrets is the one reported.
	match := -1
	for i := len(st.macs) - 1; i >= 0; i-- {
		m := st.macs[i]
		m.Reset()
		for _, v := range st.values {
			m.Write(v)
		}
		want := m.Sum(st.computed[:0])
		ok := 0
		for j := range received {
			ok |= subtle.ConstantTimeCompare(want, st.received[j][:s.codec.size])
		}
		match = subtle.ConstantTimeSelect(ok, i, match)
	}
	clear(st.computed[:])
	if match < 0 {
		return Result{}, &Error{CauseBadSignature, "none of " + strconv.Itoa(len(st.macs)) + " secrets gives it"}
	}
	if err := s.checkAge(sent, now); err != nil {
		return Result{}, err
	}
	return Result{SecretIndex: match, Query: in.RawQuery}, nil
}

func (s *hmacScheme) sign(in *Input, secret string, now time.Time) error {
	key, err := parseKey(s.keyFormat, secret)
	if err != nil {
		return fmt.Errorf("the secret %w", err)
	}
	st := s.newScratch()
	if err := s.prepare(in, &st, now); err != nil {
		return err
	}
	m := hmac.New(s.newHash, key)
	for _, v := range st.values {
		m.Write(v)
	}
	s.write(in, m.Sum(nil))
	return nil
}
