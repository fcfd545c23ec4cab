package main

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// signer signs with one key, as Standard Webhooks have it.
type signer struct {
	macs    *sync.Pool         // of hash.Hash; nil: ed25519
	private ed25519.PrivateKey // v1a
}

// newSigner reads a key. Its errors do not show it.
func newSigner(key string) (signer, error) {
	if text, ok := strings.CutPrefix(key, "whsk_"); ok {
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		switch {
		case err != nil:
			return signer{}, errors.New("is not base64 after whsk_")
		case len(raw) == ed25519.SeedSize:
			return signer{private: ed25519.NewKeyFromSeed(raw)}, nil
		case len(raw) != ed25519.PrivateKeySize:
			return signer{}, errors.New("is not an ed25519 key")
		}
		private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
		if string(private) != string(raw) {
			return signer{}, errors.New("is not an ed25519 key: its halves do not belong together")
		}
		return signer{private: private}, nil
	}
	if strings.HasPrefix(key, "whpk_") {
		return signer{}, errors.New("is a public key, which cannot sign")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(key, "whsec_"))
	if err != nil {
		return signer{}, errors.New("is not base64")
	}
	if len(raw) < 24 || len(raw) > 64 {
		return signer{}, errors.New("is too short or too long")
	}
	return signer{macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, raw) }}}, nil
}

// signature is the value of webhook-signature: one item for each key, old and new ones side by side.
func signature(signers []signer, id string, at time.Time, body []byte) string {
	stamp := at.Unix()
	b := make([]byte, 0, len(signers)*96)
	for i, s := range signers {
		if i > 0 {
			b = append(b, ' ')
		}
		if s.macs == nil {
			b = append(b, "v1a,"...)
			content := make([]byte, 0, len(id)+len(body)+22)
			content = append(signedPrefix(content, id, stamp), body...)
			b = base64.StdEncoding.AppendEncode(b, ed25519.Sign(s.private, content))
			continue
		}
		b = append(b, "v1,"...)
		mac := s.macs.Get().(hash.Hash)
		mac.Reset()
		var space [128]byte
		mac.Write(signedPrefix(space[:0], id, stamp))
		mac.Write(body)
		b = base64.StdEncoding.AppendEncode(b, mac.Sum(space[:0]))
		s.macs.Put(mac)
	}
	return string(b)
}

// signedPrefix is what stands before the body in the signed content.
func signedPrefix(b []byte, id string, stamp int64) []byte {
	b = append(append(b, id...), '.')
	return append(strconv.AppendInt(b, stamp, 10), '.')
}
