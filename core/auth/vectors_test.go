package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

// vector is one entry of testdata/vectors.json.
type vector struct {
	Scheme     string
	Origin     string
	Secret     string
	BodyFile   string `json:"body_file"`
	BodySHA256 string `json:"body_sha256"`
	Body       string
	Now        int64
	Headers    map[string]string
}

// presetOf maps the names in the vectors to ours.
var presetOf = map[string]string{
	"visma-vwd-v1":      "vwd",
	"peopleforce":       "peopleforce",
	"github-256":        "github",
	"standard-webhooks": "standard_webhooks",
	"stripe":            "stripe",

	"standard-webhooks-public": "standard_webhooks_public",
	"discord":                  "discord",
	"basic":                    "basic",
	"bearer":                   "bearer",
}

// load returns the scheme, a fresh request and the clock of a vector.
func (v vector) load(t testing.TB) (sdk.Scheme, *Input, time.Time) {
	t.Helper()
	scheme, ok := sdk.Preset(presetOf[v.Scheme])
	if v.Scheme == "ed25519-body" {
		scheme = sdk.Scheme{Name: "x", Ed25519: &sdk.Ed25519{Headers: []string{"X-Signature"}, Encoding: sdk.Hex}}
	} else if !ok {
		t.Fatalf("no preset for %q", v.Scheme)
	}
	in := &Input{Header: http.Header{}, Body: []byte(v.Body)}
	if v.BodyFile != "" {
		body, err := os.ReadFile(filepath.Join("testdata", v.BodyFile))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != v.BodySHA256 {
			t.Fatalf("%s is not the file that was signed", v.BodyFile)
		}
		in.Body = body
	}
	for name, value := range v.Headers {
		in.Header.Set(name, value)
	}
	now := time.Unix(v.Now, 0)
	if v.Now == 0 {
		now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	}
	return scheme, in, now
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) != 15 {
		t.Fatalf("%d vectors, want 15", len(vs))
	}
	return vs
}

func (v vector) name() string { return v.Scheme + "/" + filepath.Base(v.BodyFile) }

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name(), func(t *testing.T) {
			scheme, in, now := v.load(t)
			verifier := mustNew(t, scheme, v.Secret)
			if _, err := verifier.Verify(in, now); err != nil {
				t.Fatal(err)
			}

			// The right secret among wrong ones is found, and told which.
			verifier = mustNew(t, scheme, wrongSecret(scheme), v.Secret, wrongSecret(scheme))
			got, err := verifier.Verify(in, now)
			if err != nil || got.SecretIndex != 1 {
				t.Errorf("secret %d, %v; want 1", got.SecretIndex, err)
			}

			verifier = mustNew(t, scheme, wrongSecret(scheme))
			want := CauseBadSignature
			if scheme.Token != nil || scheme.Basic != nil {
				want = CauseBadToken
			}
			wantCause(t, verifier, in, now, want)
		})
	}
}

func wrongSecret(s sdk.Scheme) string {
	if s.HMAC != nil && s.HMAC.KeyFormat == sdk.KeyWhsec {
		return "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	}
	if s.Ed25519 != nil {
		return "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a" // RFC 8032, TEST 1
	}
	if s.Basic != nil {
		return "wrong:wrong"
	}
	return "wrong"
}

func mustNew(t testing.TB, s sdk.Scheme, secrets ...string) *Verifier {
	t.Helper()
	v, err := New(s, secrets, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantCause(t *testing.T, v *Verifier, in *Input, now time.Time, want string) {
	t.Helper()
	if got := cause(v, in, now); got != want {
		t.Errorf("cause %q, want %q", got, want)
	}
}

func cause(v *Verifier, in *Input, now time.Time) string {
	_, err := v.Verify(in, now)
	return causeOf(err)
}

// causeOf is the cause of an error of this package, "" for none.
func causeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Cause
	}
	if err != nil {
		return "not an *Error: " + err.Error()
	}
	return ""
}
