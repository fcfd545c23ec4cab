package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

const fuzzSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// FuzzSignature feeds header values of every shape to every shape of HMAC scheme. What is accepted must hold, by a much
// simpler reading, the one MAC of the body.
func FuzzSignature(f *testing.F) {
	type shape struct {
		scheme sdk.Scheme
		v      *Verifier
	}
	var shapes []shape
	for _, name := range []string{"vwd", "peopleforce", "github", "stripe", "standard_webhooks"} {
		s, _ := sdk.Preset(name)
		shapes = append(shapes, shape{s, mustNew(f, s, fuzzSecret)})
	}
	url64 := sdk.Scheme{Name: "u", HMAC: &sdk.HMAC{Headers: []string{"X-Sig"}, Encoding: sdk.Base64URL, Separator: ";"}}
	shapes = append(shapes, shape{url64, mustNew(f, url64, fuzzSecret)})
	now := time.Unix(1_700_000_000, 0)
	for i, s := range shapes {
		in := &Input{Header: http.Header{"Webhook-Id": {"m"}}, Body: []byte(`{"a":1}`)}
		if err := Sign(s.scheme, in, fuzzSecret, now); err != nil {
			f.Fatal(err)
		}
		value, _ := headerValue(in.Header, s.v.CredentialHeaders())
		f.Add(i, value, "1700000000", in.Body)
		f.Add(i, value[1:], "1700000000", in.Body)
		f.Add(i, value+","+value, "1700000000", in.Body)
		f.Add(i, value+" "+value, "+1700000000", in.Body)
		f.Add(i, strings.ToUpper(value), "1700000000", []byte{})
	}
	f.Fuzz(func(t *testing.T, which int, value, ts string, body []byte) {
		s := shapes[uint(which)%uint(len(shapes))]
		h := s.scheme.HMAC
		in := &Input{Header: http.Header{"Webhook-Id": {"m"}, "Webhook-Timestamp": {ts}}, Body: body}
		in.Header.Set(h.Headers[0], value)
		if _, err := s.v.Verify(in, now); err != nil {
			if !slices.Contains(Causes(), causeOf(err)) {
				t.Fatalf("unknown cause: %v", err)
			}
			return
		}
		key := []byte(fuzzSecret)
		signed := body
		if h.KeyFormat == sdk.KeyWhsec {
			key, _ = base64.RawStdEncoding.DecodeString(strings.TrimPrefix(fuzzSecret, "whsec_"))
			signed = slices.Concat([]byte("m."+ts+"."), body)
		} else if h.Timestamp != nil {
			signed = slices.Concat([]byte(in.Timestamp+"."), body)
		}
		m := hmac.New(sha256.New, key)
		m.Write(signed)
		mac := m.Sum(nil)
		spellings := map[sdk.Encoding]string{
			sdk.Hex: hex.EncodeToString(mac), sdk.Base64: base64.StdEncoding.EncodeToString(mac),
			sdk.Base64URL: base64.RawURLEncoding.EncodeToString(mac),
		}
		if h.Encoding == sdk.Hex {
			value = strings.ToLower(value)
		}
		if !strings.Contains(value, spellings[h.Encoding]) {
			t.Fatalf("%s accepted %q", s.scheme.Name, value)
		}
	})
}

// FuzzToken: only the token itself is accepted, in exactly one place, and it is cut from the query.
func FuzzToken(f *testing.F) {
	s := sdk.Scheme{Name: "q", Token: &sdk.Token{
		Part: sdk.Part{Kind: sdk.PartQuery, Name: "token"}, Alternatives: []sdk.Part{{Kind: sdk.PartPathToken}},
	}}
	v := mustNew(f, s, "sesame-open")
	f.Add("token=sesame-open", "")
	f.Add("a=1&token=sesame%2dopen&b", "")
	f.Add("a=1", "sesame-open")
	f.Add("%zz&token=%zz&&=", "x")
	f.Fuzz(func(t *testing.T, query, path string) {
		got, err := v.Verify(&Input{Header: http.Header{}, RawQuery: query, PathToken: path}, time.Time{})
		if err != nil {
			return
		}
		if path != "sesame-open" && !slices.ContainsFunc(strings.Split(query, "&"), func(p string) bool {
			k, val, _ := strings.Cut(p, "=")
			k, _ = url.QueryUnescape(k)
			val, _ = url.QueryUnescape(val)
			return k == "token" && val == "sesame-open"
		}) {
			t.Fatalf("accepted %q %q", query, path)
		}
		if _, n := queryValue(got.Query, "token"); n != 0 {
			t.Fatalf("the token stays in %q", got.Query)
		}
	})
}

// FuzzBasic: only the credentials themselves are accepted, in one spelling but for the scheme's letters.
func FuzzBasic(f *testing.F) {
	scheme, _ := sdk.Preset("basic")
	v := mustNew(f, scheme, "me:sesame")
	good := &Input{Header: http.Header{}}
	if err := v.Sign(good, "me:sesame", time.Time{}); err != nil {
		f.Fatal(err)
	}
	value := good.Header.Get("Authorization")
	f.Add(value)
	f.Add(strings.ToLower(value))
	f.Add("Basic\t" + value[6:])
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := v.Verify(&Input{Header: http.Header{"Authorization": {text}}}, time.Time{})
		if want := len(text) > 6 && strings.EqualFold(text[:6], "basic ") && text[6:] == value[6:]; want != (err == nil) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// FuzzPart: extraction never panics and never writes to its input.
func FuzzPart(f *testing.F) {
	f.Add("/a/0", `{"a":["x"]}`, true, false)
	f.Add("", `"\ud800"`, false, false)
	f.Add("/a", "A=%41+&b", true, true)
	f.Add("/a~1b/0", "a/b=%5B%22x%22%5D", false, true)
	f.Fuzz(func(t *testing.T, pointer, body string, fold, form bool) {
		p, err := NewPart(sdk.Part{Kind: sdk.PartJSONPointer, Name: pointer, FoldCase: fold})
		if err != nil {
			return
		}
		in := &Input{Body: []byte(body), Form: form}
		if v, ok := p.Value(in); ok && len(v) == 0 {
			t.Fatal("an empty value is there")
		}
		if !bytes.Equal(in.Body, []byte(body)) {
			t.Fatal("the body changed")
		}
	})
}
