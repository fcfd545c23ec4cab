package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/grapnelhq/grapnel/sdk"
)

// signers makes signers from keys.
func signers(t testing.TB, keys ...string) []signer {
	t.Helper()
	var all []signer
	for _, k := range keys {
		s, err := newSigner(k)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// The vector of Standard Webhooks' own libraries.
const (
	vectorID   = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime = 1614265330
	vectorBody = `{"test": 2432232314}`
	vectorV1   = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestSignature(t *testing.T) {
	seed := strings.Repeat("A", 43) + "="
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	long := "whsk_" + base64.StdEncoding.EncodeToString(private)
	content := fmt.Sprintf("%s.%d.%s", vectorID, vectorTime, vectorBody)
	v1a := "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(content)))
	other := signature(signers(t, otherKey), vectorID, time.Unix(vectorTime, 0), []byte(vectorBody))
	for _, c := range []struct {
		keys []string
		want string
	}{
		{[]string{goodKey}, vectorV1},
		{[]string{strings.TrimPrefix(goodKey, "whsec_")}, vectorV1},
		{[]string{"whsk_" + seed}, v1a},
		{[]string{long}, v1a},
		{[]string{otherKey, goodKey, long}, other + " " + vectorV1 + " " + v1a},
	} {
		all := signers(t, c.keys...)
		for range 2 { // MACs are used again
			if got := signature(all, vectorID, time.Unix(vectorTime, 0), []byte(vectorBody)); got != c.want {
				t.Errorf("%d keys: %s, want %s", len(c.keys), got, c.want)
			}
		}
	}
	if !ed25519.Verify(private.Public().(ed25519.PublicKey), []byte(content), mustBase64(t, v1a[4:])) {
		t.Error("the ed25519 signature does not verify")
	}
}

func mustBase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSignedRequests has the upstream library verify what is sent, in every mode and with an old key beside a new one.
func TestSignedRequests(t *testing.T) {
	for _, mode := range []string{modeStructured, modeBinary, modeBatch, modeRaw} {
		e := newEndpoint(t, nil)
		s := newSink(t, configFor(e.URL, `"mode": "`+mode+`", "signing": {"keys": ["`+otherKey+`", "`+goodKey+`"]}`))
		if o := deliverOne(t, s, newDelivery(3)); o.Kind != sdk.Delivered {
			t.Fatalf("%s: %+v", mode, o)
		}
		r := e.one(t)
		for _, key := range []string{goodKey, otherKey} {
			w, err := standardwebhooks.NewWebhook(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Verify([]byte(r.body), r.header); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
			if w.Verify([]byte(r.body+" "), r.header) == nil {
				t.Errorf("%s: a changed body verifies", mode)
			}
		}
		wrong, err := standardwebhooks.NewWebhook("whsec_" + strings.Repeat("A", 32))
		if err != nil {
			t.Fatal(err)
		}
		if wrong.Verify([]byte(r.body), r.header) == nil {
			t.Errorf("%s: a key that was not used verifies", mode)
		}
		if r.header.Get("webhook-id") != "dlv_3" {
			t.Errorf("%s: webhook-id %q", mode, r.header.Get("webhook-id"))
		}
	}
}

// TestAttemptsAreSignedAnew: the id stays, the time and with it the signature do not.
func TestAttemptsAreSignedAnew(t *testing.T) {
	e := newEndpoint(t, status(http.StatusServiceUnavailable, ""))
	s := newSink(t, configFor(e.URL, `"signing": {"keys": ["`+goodKey+`"]}`))
	for range 2 {
		deliverOne(t, s, newDelivery(3))
	}
	for _, r := range e.requests() {
		stamp, err := strconv.ParseInt(r.header.Get("webhook-timestamp"), 10, 64)
		if err != nil || time.Since(time.Unix(stamp, 0)).Abs() > time.Minute {
			t.Errorf("webhook-timestamp %q", r.header.Get("webhook-timestamp"))
		}
		if r.header.Get("webhook-id") != "dlv_3" {
			t.Errorf("webhook-id %q", r.header.Get("webhook-id"))
		}
		if want := signature(s.set.signers, "dlv_3", time.Unix(stamp, 0), []byte(r.body)); r.header.Get("webhook-signature") != want {
			t.Errorf("signature %q, want %q", r.header.Get("webhook-signature"), want)
		}
	}
}

func FuzzSigner(f *testing.F) {
	for _, k := range []string{goodKey, "whsk_" + strings.Repeat("A", 43) + "=", "whpk_", "whsec_", "", "\n"} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		s, err := newSigner(key)
		if err != nil {
			if len(key) > 12 && strings.Contains(err.Error(), key) {
				t.Fatalf("the error shows the key: %v", err)
			}
			return
		}
		got := signature([]signer{s}, vectorID, time.Unix(vectorTime, 0), nil)
		if version, mac, ok := strings.Cut(got, ","); !ok || mac == "" || version != "v1" && version != "v1a" {
			t.Fatalf("signature %q", got)
		}
	})
}
