package auth

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

// codec decodes and encodes MACs and signatures of one length in one encoding.
type codec struct {
	encoding sdk.Encoding
	base64   *base64.Encoding // strict; nil for hex
	size     int              // bytes of the MAC
}

func newCodec(e sdk.Encoding, size int) (codec, error) {
	switch e {
	case sdk.Hex:
		return codec{encoding: e, size: size}, nil
	case sdk.Base64:
		return codec{encoding: e, size: size, base64: base64.StdEncoding.Strict()}, nil
	case sdk.Base64URL:
		return codec{encoding: e, size: size, base64: base64.RawURLEncoding.Strict()}, nil
	case "":
		return codec{}, errors.New("encoding is missing: hex, base64 or base64url")
	}
	return codec{}, fmt.Errorf("unknown encoding %q: hex, base64 or base64url", e)
}

func (c *codec) encodedLen() int {
	if c.base64 != nil {
		return c.base64.EncodedLen(c.size)
	}
	return hex.EncodedLen(c.size)
}

// decode writes the MAC that s stands for into dst and reports whether s is exactly one. There is one spelling of every
// MAC, the case of hex digits aside: the length is checked first, because encoding/base64 passes over line breaks.
func (c *codec) decode(dst *macBuffer, s string) bool {
	if len(s) != c.encodedLen() {
		return false
	}
	var text [128]byte // the longest, 64 bytes in hex
	copy(text[:], s)
	var n int
	var err error
	if c.base64 != nil {
		n, err = c.base64.Decode(dst[:], text[:len(s)])
	} else {
		n, err = hex.Decode(dst[:], text[:len(s)])
	}
	return err == nil && n == c.size
}

func (c *codec) encode(mac []byte) string {
	if c.base64 != nil {
		return c.base64.EncodeToString(mac)
	}
	return hex.EncodeToString(mac)
}

// macBuffer holds a decoded MAC; base64 decoding of 64 bytes may touch two more.
type macBuffer [72]byte

// parseKey turns a configured secret into the key's bytes. Its errors do not repeat the secret.
func parseKey(format sdk.KeyFormat, secret string) ([]byte, error) {
	if secret == "" {
		return nil, errors.New("is empty")
	}
	if strings.ContainsAny(secret[:1]+secret[len(secret)-1:], "\r\n") {
		return nil, errors.New("begins or ends with a line break; was it read from a file?")
	}
	var key []byte
	var err error
	switch format {
	case sdk.KeyText, "":
		return []byte(secret), nil
	case sdk.KeyHex:
		key, err = hex.DecodeString(secret)
	case sdk.KeyBase64:
		key, err = base64.StdEncoding.Strict().DecodeString(secret)
	case sdk.KeyWhsec:
		// Senders disagree about the padding, so both forms are taken.
		text := strings.TrimRight(strings.TrimPrefix(secret, "whsec_"), "=")
		key, err = base64.RawStdEncoding.Strict().DecodeString(text)
	default:
		return nil, fmt.Errorf("unknown key format %q", format)
	}
	if err != nil {
		return nil, fmt.Errorf("is not %s", keyForm(format)) // err would tell a byte of the secret
	}
	if len(key) == 0 {
		return nil, errors.New("is empty")
	}
	return key, nil
}

func keyForm(f sdk.KeyFormat) string {
	switch f {
	case sdk.KeyHex:
		return "hexadecimal"
	case sdk.KeyWhsec:
		return `base64, with or without "whsec_" before it`
	}
	return "base64"
}
