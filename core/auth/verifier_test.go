package auth

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/sdk"
)

// Every vector is refused after each of these changes, with this cause.
func TestMutations(t *testing.T) {
	for _, v := range vectors(t) {
		scheme, _, _ := v.load(t)
		encoding := sdk.Encoding("")
		switch {
		case scheme.HMAC != nil:
			encoding = scheme.HMAC.Encoding
		case scheme.Ed25519 != nil:
			encoding = scheme.Ed25519.Encoding
		default:
			continue // TestTokens, TestBasic
		}
		t.Run(v.name(), func(t *testing.T) {
			verifier := mustNew(t, scheme, v.Secret)
			sigHeader := func(in *Input) string {
				for _, name := range verifier.CredentialHeaders() {
					if len(in.Header[name]) > 0 {
						return name
					}
				}
				return ""
			}
			for _, c := range []struct {
				name   string
				change func(in *Input)
				want   []string
			}{
				{"body byte", func(in *Input) { in.Body = flip(in.Body, len(in.Body)/2) }, []string{CauseBadSignature}},
				{"body longer", func(in *Input) { in.Body = append(in.Body[:len(in.Body):len(in.Body)], '\n') },
					[]string{CauseBadSignature}},
				{"body shorter", func(in *Input) { in.Body = in.Body[:len(in.Body)-1] }, []string{CauseBadSignature}},
				{"no header", func(in *Input) { delete(in.Header, sigHeader(in)) }, []string{CauseMissingSignature}},
				{"doubled header", func(in *Input) {
					h := sigHeader(in)
					in.Header.Add(h, in.Header.Get(h))
				}, []string{CauseDoubledSignature}},
				{"empty header", func(in *Input) { in.Header.Set(sigHeader(in), "") }, []string{CauseMalformedSignature}},
				{"long header", func(in *Input) {
					h := sigHeader(in)
					in.Header.Set(h, in.Header.Get(h)+strings.Repeat(" ", 4096))
				}, []string{CauseMalformedSignature}},
				{"blank after", func(in *Input) {
					h := sigHeader(in)
					in.Header.Set(h, strings.TrimSuffix(in.Header.Get(h), ",v0="+strings.Repeat("0", 64))+"\n")
				}, []string{CauseMalformedSignature, CauseBadSignature}},
			} {
				_, in, now := v.load(t)
				c.change(in)
				got := cause(verifier, in, now)
				// Of Stripe's two signatures the first is of another secret, so a change of the last leaves a bad one.
				if !slices.Contains(c.want, got) {
					t.Errorf("%s: cause %q, want %q", c.name, got, c.want)
				}
			}

			// Every single character of the value matters, unless the decoded bytes stay the same.
			_, in, now := v.load(t)
			h := sigHeader(in)
			value := in.Header.Get(h)
			if v.Scheme == "stripe" {
				value = "t=1700000000,v1=" + stripeGood(t) // the vector's other signature is of another secret
				in.Header.Set(h, value)
				wantCause(t, verifier, in, now, "")
			}
			if at := strings.Index(value, " v1a,"); at >= 0 {
				value = value[at+1:] // what stands before it is of another scheme
			}
			for i := range len(value) {
				for _, r := range []byte{'A', 'a', '0', '5', '=', '/', '-', ' ', '\n', 0, 0xff} {
					if lower(value[i]) == lower(r) && encoding == sdk.Hex || value[i] == r {
						continue
					}
					in.Header.Set(h, value[:i]+string([]byte{r})+value[i+1:])
					if got := cause(verifier, in, now); got == "" {
						t.Fatalf("accepted with %q at %d", r, i)
					}
				}
			}
		})
	}
}

// stripeGood is the signature of the Stripe vector that its secret makes, the second.
func stripeGood(t *testing.T) string {
	for _, v := range vectors(t) {
		if v.Scheme == "stripe" {
			return strings.Split(v.Headers["Stripe-Signature"], ",")[2][len("v1="):]
		}
	}
	t.Fatal("no Stripe vector")
	return ""
}

func lower(c byte) byte { return bytes.ToLower([]byte{c})[0] }

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

func TestEncodings(t *testing.T) {
	mac := bytes.Repeat([]byte{0xfb, 0xff, 0x01, 0x02}, 8) // '+', '/' in base64
	std := base64.StdEncoding.EncodeToString(mac)
	url := base64.RawURLEncoding.EncodeToString(mac)
	loose := std[:len(std)-2] + string(std[len(std)-2]+1) + "=" // same bytes, trailing bits set
	if b, err := base64.StdEncoding.DecodeString(loose); err != nil || !bytes.Equal(b, mac) {
		t.Fatalf("%q is no loose spelling: %v", loose, err)
	}
	for _, c := range []struct {
		encoding sdk.Encoding
		text     string
		want     bool
	}{
		{sdk.Base64, std, true},
		{sdk.Base64, loose, false},
		{sdk.Base64, strings.TrimRight(std, "="), false},
		{sdk.Base64, std + "=", false},
		{sdk.Base64, std[:20] + "\n" + std[20:], false},
		{sdk.Base64, std[:20] + "\n" + std[21:], false},
		{sdk.Base64, url, false},
		{sdk.Base64, " " + std, false},
		{sdk.Base64, std[:len(std)-4], false},
		{sdk.Base64URL, url, true},
		{sdk.Base64URL, url + "=", false},
		{sdk.Base64URL, std, false},
		{sdk.Hex, strings.Repeat("fbff0102", 8), true},
		{sdk.Hex, strings.Repeat("FBfF0102", 8), true},
		{sdk.Hex, strings.Repeat("fbff0102", 8) + "00", false},
		{sdk.Hex, strings.Repeat("fbff0102", 7), false},
		{sdk.Hex, strings.Repeat("fbff010g", 8), false},
		{sdk.Hex, "0x" + strings.Repeat("fbff0102", 8)[2:], false},
		{sdk.Hex, "", false},
	} {
		codec, err := newCodec(c.encoding, len(mac))
		if err != nil {
			t.Fatal(err)
		}
		var b macBuffer
		got := codec.decode(&b, c.text)
		if got != c.want || got && !bytes.Equal(b[:len(mac)], mac) {
			t.Errorf("%s %q: %v, want %v", c.encoding, c.text, got, c.want)
		}
	}
}

func TestTimestamps(t *testing.T) {
	for _, preset := range []string{"stripe", "standard_webhooks"} {
		scheme, _ := sdk.Preset(preset)
		v := mustNew(t, scheme, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
		sent := time.Unix(1_700_000_000, 0)
		in := &Input{Header: http.Header{"Webhook-Id": {"msg_1"}}, Body: []byte(`{}`)}
		if err := v.Sign(in, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", sent); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			after time.Duration
			want  string
		}{
			{0, ""},
			{300 * time.Second, ""},
			{300*time.Second + time.Millisecond, CauseTooOld},
			{24 * time.Hour, CauseTooOld},
			{-300 * time.Second, ""},
			{-300*time.Second - time.Millisecond, CauseTooNew},
			{-1e6 * time.Hour, CauseTooNew},
		} {
			if got := cause(v, in, sent.Add(c.after)); got != c.want {
				t.Errorf("%s %s after: cause %q, want %q", preset, c.after, got, c.want)
			}
		}
		// A forged request does not learn that it is too old: the signature comes first.
		in.Body = []byte(`[]`)
		wantCause(t, v, in, sent.Add(time.Hour), CauseBadSignature)
	}
}

func TestTimestampText(t *testing.T) {
	scheme, _ := sdk.Preset("standard_webhooks")
	v := mustNew(t, scheme, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	for text, want := range map[string]string{
		"":                     CauseMissingTimestamp,
		"+1614265330":          CauseMalformedTimestamp,
		"-1614265330":          CauseMalformedTimestamp,
		"01614265330":          CauseMalformedTimestamp,
		"1614265330.0":         CauseMalformedTimestamp,
		"1.614e9":              CauseMalformedTimestamp,
		" 1614265330":          CauseMalformedTimestamp,
		"0x6037b9f2":           CauseMalformedTimestamp,
		"٠":                    CauseMalformedTimestamp,
		"99999999999999999999": CauseMalformedTimestamp,
		"1614265331":           CauseBadSignature,
		"999999999999999":      CauseBadSignature,
		"1614265330":           "",
	} {
		in := &Input{Header: http.Header{}, Body: []byte(`{"test": 2432232314}`)}
		in.Header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
		in.Header.Set("webhook-timestamp", text)
		in.Header.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
		if got := cause(v, in, time.Unix(1614265330, 0)); got != want {
			t.Errorf("%q: cause %q, want %q", text, got, want)
		}
	}
}

func TestStandardWebhooksForms(t *testing.T) {
	scheme, _ := sdk.Preset("standard_webhooks")
	v := mustNew(t, scheme, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	const good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	const other = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, c := range []struct {
		name    string
		headers []string // name, value, …
		want    string
	}{
		{"plain", []string{"webhook-id", "ID", "webhook-timestamp", "TS", "webhook-signature", good}, ""},
		{"svix", []string{"svix-id", "ID", "svix-timestamp", "TS", "svix-signature", good}, ""},
		{"both", []string{"webhook-id", "ID", "webhook-timestamp", "TS", "webhook-signature", good,
			"svix-signature", good}, CauseDoubledSignature},
		{"two ids", []string{"webhook-id", "ID", "svix-id", "ID", "webhook-timestamp", "TS", "webhook-signature", good},
			CauseMissingPart},
		{"two timestamps", []string{"webhook-id", "ID", "webhook-timestamp", "TS", "svix-timestamp", "TS",
			"webhook-signature", good}, CauseMalformedTimestamp},
		{"rotation", []string{"webhook-id", "ID", "webhook-timestamp", "TS",
			"webhook-signature", other + " " + good}, ""},
		{"unknown versions and rubbish", []string{"webhook-id", "ID", "webhook-timestamp", "TS",
			"webhook-signature", "v1a,xyz v1 v1,!!! v2," + good[3:] + "  " + good}, ""},
		{"other version only", []string{"webhook-id", "ID", "webhook-timestamp", "TS",
			"webhook-signature", "v1a," + good[3:]}, CauseMalformedSignature},
		{"sixteen", []string{"webhook-id", "ID", "webhook-timestamp", "TS",
			"webhook-signature", strings.Repeat(other+" ", 15) + good}, ""},
		{"seventeen", []string{"webhook-id", "ID", "webhook-timestamp", "TS",
			"webhook-signature", strings.Repeat(other+" ", 16) + good}, CauseMalformedSignature},
		{"no id", []string{"webhook-timestamp", "TS", "webhook-signature", good}, CauseMissingPart},
		{"empty id", []string{"webhook-id", "", "webhook-timestamp", "TS", "webhook-signature", good}, CauseMissingPart},
		{"full stop in id", []string{"webhook-id", "a.b", "webhook-timestamp", "TS", "webhook-signature", good},
			CauseAmbiguousPart},
	} {
		in := &Input{Header: http.Header{}, Body: []byte(`{"test": 2432232314}`)}
		for i := 0; i < len(c.headers); i += 2 {
			value := strings.NewReplacer("ID", "msg_p5jXN8AQM9LWM0D4loKWxJek", "TS", "1614265330").Replace(c.headers[i+1])
			if strings.HasSuffix(c.headers[i], "signature") {
				value = c.headers[i+1]
			}
			in.Header.Add(c.headers[i], value)
		}
		if got := cause(v, in, time.Unix(1614265330, 0)); got != c.want {
			t.Errorf("%s: cause %q, want %q", c.name, got, c.want)
		}
	}
}

func TestStripeForms(t *testing.T) {
	scheme, _ := sdk.Preset("stripe")
	v := mustNew(t, scheme, "whsec_test_secret")
	good := stripeGood(t)
	bad := strings.Repeat("0", 64)
	for value, want := range map[string]string{
		"t=1700000000,v1=" + good:                        "",
		"v1=" + good + ",t=1700000000":                   "",
		"t=1700000000,v1=" + bad + ",v1=" + good:         "",
		"t=1700000000,v1=zz,v1=" + good:                  "",
		"t=1700000000,v2=x,v1=" + strings.ToUpper(good):  "",
		"t=1700000000,v0=" + good:                        CauseMalformedSignature,
		"t=1700000000":                                   CauseMalformedSignature,
		"v1=" + good:                                     CauseMissingTimestamp,
		"t=,v1=" + good:                                  CauseMissingTimestamp,
		"t=1700000000,t=1700000000,v1=" + good:           CauseMalformedTimestamp,
		"t=1700000000,v1=" + good + ",":                  CauseMalformedSignature,
		"t=1700000000,v1=" + good + ",x":                 CauseMalformedSignature,
		"t=1700000000,v1=" + good + ",x=y=z":             CauseMalformedSignature,
		"t=1700000000, v1=" + good:                       CauseMalformedSignature,
		"t=1700000001,v1=" + good:                        CauseBadSignature,
		"t=1700000000,v1=" + bad:                         CauseBadSignature,
		good:                                             CauseMalformedSignature,
		"t=1700000000" + strings.Repeat(",v1="+good, 17): CauseMalformedSignature,
	} {
		in := &Input{Header: http.Header{"Stripe-Signature": {value}}, Body: []byte(`{"id":"evt_1","object":"event"}`)}
		if got := cause(v, in, time.Unix(1700000010, 0)); got != want {
			t.Errorf("%q: cause %q, want %q", value, got, want)
		}
	}
}

// TestMalformedDetails says what is expected and, of what is there, the names only.
func TestMalformedDetails(t *testing.T) {
	keys := sdk.HMAC{Separator: ",", ItemKey: "v1"}
	versions := sdk.HMAC{Separator: " ", ItemVersion: "v1"}
	for _, c := range []struct {
		h           sdk.HMAC
		value, want string
	}{
		{sdk.HMAC{}, "abc", "the signature is not 32 bytes in hex"},
		{sdk.HMAC{Prefix: "sha256="}, "abc", `the signature is not "sha256=" followed by 32 bytes in hex`},
		{keys, "ts=17,h1=5ec", "the header has no item v1=…; there are ts, h1"},
		{keys, "h1=5ec,h1=5ed", "the header has no item v1=…; there are h1"},
		{keys, "<b>=17,Q2hhbmdlZCBieSBoYW5k=1,x=", "the header has no item v1=…"},
		{versions, "v2,5ec v3,5ed", "the header has no item v1,…; there are v2, v3"},
		{versions, "5ec", "the header has no item v1,…"},
	} {
		c.h.Headers, c.h.Encoding = []string{"X-Sig"}, sdk.Hex
		v, err := New(sdk.Scheme{Name: "odd", HMAC: &c.h}, []string{"s3cret"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(&Input{Header: http.Header{"X-Sig": {c.value}}, Body: []byte("{}")}, time.Unix(1, 0))
		if got := fmt.Sprint(err); got != "malformed_signature: "+c.want {
			t.Errorf("%q: %s", c.value, got)
		}
	}
}

func TestTokens(t *testing.T) {
	header := sdk.Part{Kind: sdk.PartHeader, Name: "Authorization"}
	query := sdk.Part{Kind: sdk.PartQuery, Name: "token"}
	scheme := sdk.Scheme{Name: "x", Token: &sdk.Token{
		Part: header, Prefix: "Bearer ", Alternatives: []sdk.Part{query, {Kind: sdk.PartPathToken}},
	}}
	v := mustNew(t, scheme, "first-token", "second-token")
	if !v.TakesPathToken() || !slices.Equal(v.CredentialHeaders(), []string{"Authorization"}) {
		t.Errorf("path token %v, headers %v", v.TakesPathToken(), v.CredentialHeaders())
	}
	for _, c := range []struct {
		header    []string
		query     string
		path      string
		want      string
		index     int
		wantQuery string
	}{
		{header: []string{"Bearer first-token"}, index: 0},
		{header: []string{"Bearer second-token"}, query: "a=1", index: 1, wantQuery: "a=1"},
		{header: []string{"bEARER first-token"}, index: 0}, // HTTP's own words are of any case, tokens are not
		{header: []string{"Bearer First-token"}, want: CauseBadToken},
		{header: []string{"Bearer  first-token"}, want: CauseBadToken},
		{header: []string{"Basic first-token"}, want: CauseBadToken},
		{header: []string{"first-token"}, want: CauseBadToken},
		{header: []string{"Bearer Bearer first-token"}, want: CauseBadToken},
		{header: []string{"Bearer "}, want: CauseBadToken},
		{header: []string{"Bearer first-toke"}, want: CauseBadToken},
		{header: []string{"Bearer first-token "}, want: CauseBadToken},
		{header: []string{"Bearer " + strings.Repeat("x", 5000)}, want: CauseBadToken},
		{header: []string{"Bearer first-token", "Bearer first-token"}, want: CauseDoubledToken},
		{header: []string{"Bearer first-token"}, path: "first-token", want: CauseDoubledToken},
		{query: "a=1&token=first-token&b=%zz&token2=x", index: 0, wantQuery: "a=1&b=%zz&token2=x"},
		{query: "to%6Ben=first%2Dtoken", index: 0, wantQuery: ""},
		{query: "token=first-token&token=first-token", want: CauseDoubledToken},
		{query: "token=first-token&to%6ben=x", want: CauseDoubledToken},
		{query: "token=", want: CauseBadToken},
		{query: "token", want: CauseBadToken},
		{path: "second-token", index: 1},
		{path: "other", want: CauseBadToken},
		{want: CauseMissingToken},
	} {
		in := &Input{Header: http.Header{}, RawQuery: c.query, PathToken: c.path}
		if c.header != nil {
			in.Header["Authorization"] = c.header
		}
		got, err := v.Verify(in, time.Time{})
		if err != nil {
			if causeOf(err) != c.want {
				t.Errorf("%+v: %v, want %q", c, err, c.want)
			}
			continue
		}
		if c.want != "" || got.SecretIndex != c.index || got.Query != c.wantQuery {
			t.Errorf("%+v: got %+v", c, got)
		}
	}
}

func TestBasic(t *testing.T) {
	scheme, _ := sdk.Preset("basic")
	v := mustNew(t, scheme, "me:first password", "me:second:password")
	if v.TakesPathToken() || v.TokenInURL() || !slices.Equal(v.CredentialHeaders(), []string{"Authorization"}) {
		t.Error("the credentials are looked for elsewhere")
	}
	encoded := func(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }
	for _, c := range []struct {
		header []string
		want   string
		index  int
	}{
		{header: []string{"Basic " + encoded("me:first password")}, index: 0},
		{header: []string{"bASIC " + encoded("me:second:password")}, index: 1},
		{want: CauseMissingToken},
		{header: []string{""}, want: CauseBadToken},
		{header: []string{"Basic"}, want: CauseBadToken},
		{header: []string{"Basic "}, want: CauseBadToken},
		{header: []string{"Basic  " + encoded("me:first password")}, want: CauseBadToken},
		{header: []string{"Basic " + encoded("me:first password") + " "}, want: CauseBadToken},
		{header: []string{"Basic " + strings.TrimRight(encoded("me:first password"), "=")}, want: CauseBadToken},
		{header: []string{"Basic " + encoded("me:first passwor")}, want: CauseBadToken},
		{header: []string{"Basic " + encoded("Me:first password")}, want: CauseBadToken},
		{header: []string{"Basic " + encoded("me:second")}, want: CauseBadToken},
		{header: []string{"Basic " + encoded("me:first password\n")}, want: CauseBadToken},
		{header: []string{"Basic me:first password"}, want: CauseBadToken},
		{header: []string{"Bearer " + encoded("me:first password")}, want: CauseBadToken},
		{header: []string{encoded("me:first password")}, want: CauseBadToken},
		{header: []string{"Basic " + strings.Repeat("QUFB", 2000)}, want: CauseBadToken},
		{header: []string{"Basic " + encoded("me:first password"), "Basic x"}, want: CauseDoubledToken},
	} {
		in := &Input{Header: http.Header{}, RawQuery: "a=%zz"}
		if c.header != nil {
			in.Header["Authorization"] = c.header
		}
		got, err := v.Verify(in, time.Time{})
		if err != nil {
			if causeOf(err) != c.want {
				t.Errorf("%q: %v, want %q", c.header, err, c.want)
			}
			if text := err.Error(); strings.Contains(text, "password") && !strings.Contains(text, "user and password") {
				t.Errorf("%q: %v tells what was sent", c.header, err)
			}
			continue
		}
		if c.want != "" || got.SecretIndex != c.index || got.Query != "a=%zz" {
			t.Errorf("%q: got %+v", c.header, got)
		}
	}
}

func TestEd25519(t *testing.T) {
	var v vector
	for _, x := range vectors(t) {
		if x.Scheme == "standard-webhooks-public" {
			v = x
		}
	}
	scheme, good, now := v.load(t)
	_, signature, _ := strings.Cut(good.Header.Get("Webhook-Signature"), " ")
	bad := "v1a," + base64.StdEncoding.EncodeToString(make([]byte, 64))
	for text, want := range map[string]string{
		signature:             "",
		bad + " " + signature: "",
		bad + " " + bad + " " + bad + " " + signature: "",
		strings.Repeat(bad+" ", 4) + signature:        CauseMalformedSignature, // each costs a pass over the body
		bad:                                           CauseBadSignature,
		"v1," + signature[len("v1a,"):]:               CauseMalformedSignature,
		signature[:len(signature)-1]:                  CauseMalformedSignature,
	} {
		in := &Input{Header: good.Header.Clone(), Body: good.Body}
		in.Header.Set("Webhook-Signature", text)
		wantCause(t, mustNew(t, scheme, wrongSecret(scheme), v.Secret), in, now, want)
	}
	// The forms of a key are one key.
	for _, key := range []string{
		v.Secret, strings.TrimPrefix(v.Secret, "whpk_"), strings.TrimRight(v.Secret, "="),
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
		"3D4017C3E843895A92B70AA74D1B7EBC9C982CCF2EC4968CC0CD55F12AF4660C",
	} {
		wantCause(t, mustNew(t, scheme, key), good, now, "")
	}
	wantCause(t, mustNew(t, scheme, v.Secret), good, now.Add(301*time.Second), CauseTooOld)
	wantCause(t, mustNew(t, scheme, v.Secret), good, now.Add(-301*time.Second), CauseTooNew)
	if err := Sign(scheme, good, v.Secret, now); err == nil || !strings.Contains(err.Error(), "only the provider can sign") {
		t.Errorf("got %v", err)
	}
}

func TestChallenges(t *testing.T) {
	token := func(prefix string, parts ...sdk.Part) sdk.Scheme {
		return sdk.Scheme{Name: "x", Token: &sdk.Token{Part: parts[0], Alternatives: parts[1:], Prefix: prefix}}
	}
	header := func(name string) sdk.Part { return sdk.Part{Kind: sdk.PartHeader, Name: name} }
	query := sdk.Part{Kind: sdk.PartQuery, Name: "token"}
	basic, _ := sdk.Preset("basic")
	vwd, _ := sdk.Preset("vwd")
	for _, c := range []struct {
		scheme sdk.Scheme
		want   string
	}{
		{basic, `Basic realm="webhooks", charset="UTF-8"`},
		{token("Bearer ", header("authorization")), `Bearer realm="webhooks"`},
		{token("Bearer ", query, header("Authorization")), `Bearer realm="webhooks"`},
		{token("", header("Authorization")), ""},
		{token("key=", header("Authorization")), ""},
		{token("Bearer ", header("X-Token")), ""},
		{token("", query), ""},
		{vwd, ""},
	} {
		if got := mustNew(t, c.scheme, "me:x").Challenge(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.scheme.Token, got, c.want)
		}
	}
	headers, params, err := Credentials(token("Bearer ", query, header("Authorization")))
	if err != nil || !slices.Equal(headers, []string{"Authorization"}) || !slices.Equal(params, []string{"token"}) {
		t.Errorf("%q %q %v", headers, params, err)
	}
	if got := CutQuery("a=1&token=x&%74oken=y&tok=z&=&b", params); got != "a=1&tok=z&=&b" {
		t.Errorf("cut to %q", got)
	}
}

func TestAllowLists(t *testing.T) {
	scheme, _ := sdk.Preset("path_token")
	scheme.Allow = []sdk.AllowList{{
		Attribute: "subscription_ids", Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/subscriptionId", FoldCase: true},
	}}
	v, err := New(scheme, []string{"tok"}, map[string][]string{"subscription_ids": {"one", "17"}})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"subscriptionId":"one"}`:      "",
		`{"SubscriptionID":"\u006fne"}`: "",
		`{"SubscriptionID":17}`:         "",
		`{"subscriptionId":"two"}`:      CauseNotAllowed,
		`{"subscriptionId":""}`:         CauseNotAllowed,
		`{"subscriptionId":null}`:       CauseNotAllowed,
		`{}`:                            CauseNotAllowed,
		`{"subscriptionId":"one"`:       CauseNotAllowed,
	} {
		in := &Input{Header: http.Header{}, PathToken: "tok", Body: []byte(body)}
		if _, err := v.Verify(in, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got := causeOf(v.Allowed(in)); got != want {
			t.Errorf("%s: cause %q, want %q", body, got, want)
		}
	}
	if v := mustNew(t, scheme, "tok"); v.NeedsJSON() || v.Allowed(&Input{Body: []byte(`{}`)}) != nil {
		t.Error("without the attribute, everything is allowed")
	}
}

// What Sign makes, Verify accepts: for every preset, algorithm, encoding and place of a token.
func TestSignRoundTrip(t *testing.T) {
	var schemes []sdk.Scheme
	for _, name := range []string{"vwd", "peopleforce", "github", "stripe", "standard_webhooks", "path_token"} {
		s, ok := sdk.Preset(name)
		if !ok {
			t.Fatal(name)
		}
		schemes = append(schemes, s)
	}
	for _, a := range []sdk.Algorithm{"", sdk.SHA1, sdk.SHA256, sdk.SHA384, sdk.SHA512} {
		for _, e := range []sdk.Encoding{sdk.Hex, sdk.Base64, sdk.Base64URL} {
			for _, items := range [][3]string{{}, {",", "v1"}, {" ", "", "v1"}, {";"}} {
				schemes = append(schemes, sdk.Scheme{
					Name: string(a) + string(e) + strings.Join(items[:], "|"),
					HMAC: &sdk.HMAC{
						Headers: []string{"x-sig"}, Algorithm: a, Encoding: e, Prefix: "p=",
						SignedContent: []sdk.Part{
							{Kind: sdk.PartQuery, Name: "q"}, {Kind: sdk.PartLiteral, Name: ":"}, {Kind: sdk.PartTimestamp},
							{Kind: sdk.PartLiteral, Name: ":"}, {Kind: sdk.PartJSONPointer, Name: "/id"},
							{Kind: sdk.PartLiteral, Name: ":"}, {Kind: sdk.PartBody},
						},
						Timestamp: &sdk.Timestamp{Headers: []string{"x-time"}, Milliseconds: true},
						Separator: items[0], ItemKey: items[1], ItemVersion: items[2],
					},
				})
			}
		}
	}
	for _, part := range []sdk.Part{
		{Kind: sdk.PartHeader, Name: "x-token"}, {Kind: sdk.PartQuery, Name: "to ken"}, {Kind: sdk.PartPathToken},
	} {
		schemes = append(schemes, sdk.Scheme{Name: string(part.Kind), Token: &sdk.Token{Part: part}})
	}
	for _, name := range []string{"basic", "bearer"} {
		s, _ := sdk.Preset(name)
		schemes = append(schemes, s)
	}
	now := time.UnixMilli(1_750_000_000_123)
	for _, s := range schemes {
		if s.HMAC != nil && s.HMAC.ItemKey != "" && s.HMAC.Encoding != sdk.Base64 && s.HMAC.Prefix == "p=" {
			s.HMAC.Prefix = "p:" // an = more would not be key=value
		}
		secret, other := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		if s.Basic != nil {
			secret, other = "me:"+secret, "me:"+other
		}
		in := &Input{Header: http.Header{"Webhook-Id": {"msg_1"}}, RawQuery: "q=1", Body: []byte(`{"id":"é"}`)}
		if err := Check(s); err != nil {
			t.Fatal(err)
		}
		if err := Sign(s, in, secret, now); err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		v := mustNew(t, s, other, secret)
		for range 2 { // and once more over its own traces
			if got, err := v.Verify(in, now); err != nil || got.SecretIndex != 1 || got.Query != "q=1" {
				t.Errorf("%s: %+v, %v; headers %v", s.Name, got, err, in.Header)
			}
			if err := v.Sign(in, secret, now); err != nil {
				t.Error(err)
			}
		}
		if s.HMAC != nil {
			in.Body = []byte(`{"id":"é" }`)
			wantCause(t, v, in, now, CauseBadSignature)
		}
	}
}

func TestSignNeedsItsParts(t *testing.T) {
	s, _ := sdk.Preset("standard_webhooks")
	err := Sign(s, &Input{Header: http.Header{}, Body: []byte(`{}`)}, "whsec_AAAA", time.Unix(1, 0))
	if err == nil || !strings.Contains(err.Error(), "Webhook-Id or Svix-Id") {
		t.Errorf("got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	hmacScheme := func(change func(h *sdk.HMAC)) sdk.Scheme {
		h := &sdk.HMAC{Headers: []string{"X-Sig"}, Encoding: sdk.Hex}
		change(h)
		return sdk.Scheme{Name: "s", HMAC: h}
	}
	body := sdk.Part{Kind: sdk.PartBody}
	ts := sdk.Part{Kind: sdk.PartTimestamp}
	tok := func(kind sdk.PartKind, name string) sdk.Scheme {
		return sdk.Scheme{Name: "s", Token: &sdk.Token{Part: sdk.Part{Kind: kind, Name: name}}}
	}
	vwd, _ := sdk.Preset("vwd")
	whsec, _ := sdk.Preset("standard_webhooks")
	basic, _ := sdk.Preset("basic")
	discord, _ := sdk.Preset("discord")
	allowing := vwd
	allowing.Allow = []sdk.AllowList{{Attribute: "ids", Part: body}}
	const secret = "S3CRET\xff"
	for _, c := range []struct {
		name    string
		scheme  sdk.Scheme
		secrets []string
		allow   map[string][]string
		want    string
	}{
		{"no secret", vwd, nil, nil, "no secret"},
		{"empty secret", vwd, []string{"a", ""}, nil, "secret 2 is empty"},
		{"line break", vwd, []string{secret + "\n"}, nil, "line break"},
		{"no kind", sdk.Scheme{Name: "s"}, []string{secret}, nil, "exactly one"},
		{"two kinds", sdk.Scheme{Name: "s", Basic: &sdk.Basic{}, HMAC: vwd.HMAC}, []string{secret}, nil, "exactly one"},
		{"basic", basic, []string{"a:b", secret}, nil, `secret 2 is not "user:password"`},
		{"basic empty", basic, []string{":"}, nil, "neither a user nor a password"},
		{"basic line break", basic, []string{"a:" + secret + "\n"}, nil, "control character"},
		{"basic long", basic, []string{"a:" + strings.Repeat("x", 4000)}, nil, "longer than a header may be"},
		{"public key", discord, []string{secret}, nil, "public key 1 is not 32 bytes"},
		{"public key length", discord, []string{strings.Repeat("ab", 31)}, nil, "public key 1 is not 32 bytes"},
		{"public key, hex", discord, []string{strings.Repeat("zz", 32)}, nil, "public key 1 is not 32 bytes"},
		{"private key", discord, []string{"whsk_" + secret}, nil, "is a private key"},
		{"ed25519 header", sdk.Scheme{Name: "s", Ed25519: &sdk.Ed25519{}}, []string{secret}, nil, "ed25519: headers is empty"},
		{"ed25519 encoding", sdk.Scheme{Name: "s", Ed25519: &sdk.Ed25519{Headers: []string{"x"}}}, []string{secret}, nil,
			"ed25519: encoding is missing"},
		{"whsec key", whsec, []string{"whsec_" + secret}, nil, "base64"},
		{"whsec empty", whsec, []string{"whsec_"}, nil, "empty"},
		{"no header", hmacScheme(func(h *sdk.HMAC) { h.Headers = nil }), []string{secret}, nil, "headers is empty"},
		{"bad header", hmacScheme(func(h *sdk.HMAC) { h.Headers = []string{"a b"} }), []string{secret}, nil, "header name"},
		{"no encoding", hmacScheme(func(h *sdk.HMAC) { h.Encoding = "" }), []string{secret}, nil, "encoding is missing"},
		{"encoding", hmacScheme(func(h *sdk.HMAC) { h.Encoding = "b32" }), []string{secret}, nil, `"b32"`},
		{"algorithm", hmacScheme(func(h *sdk.HMAC) { h.Algorithm = "md5" }), []string{secret}, nil, `"md5"`},
		{"key format", hmacScheme(func(h *sdk.HMAC) { h.KeyFormat = "x" }), nil, nil, "no secret"},
		{"hex key", hmacScheme(func(h *sdk.HMAC) { h.KeyFormat = sdk.KeyHex }), []string{secret}, nil, "hexadecimal"},
		{"body unsigned", hmacScheme(func(h *sdk.HMAC) {
			h.SignedContent = []sdk.Part{{Kind: sdk.PartHeader, Name: "x"}}
		}), []string{secret}, nil, "lacks the body"},
		{"unsigned timestamp", hmacScheme(func(h *sdk.HMAC) {
			h.Timestamp = &sdk.Timestamp{Headers: []string{"x-time"}}
		}), []string{secret}, nil, "would protect nothing"},
		{"timestamp part only", hmacScheme(func(h *sdk.HMAC) { h.SignedContent = []sdk.Part{ts, body} }),
			[]string{secret}, nil, "none is declared"},
		{"timestamp nowhere", hmacScheme(func(h *sdk.HMAC) {
			h.SignedContent, h.Timestamp = []sdk.Part{ts, body}, &sdk.Timestamp{}
		}), []string{secret}, nil, "either headers or item_key"},
		{"timestamp item", hmacScheme(func(h *sdk.HMAC) {
			h.SignedContent, h.Timestamp = []sdk.Part{ts, body}, &sdk.Timestamp{ItemKey: "t"}
		}), []string{secret}, nil, "item_key"},
		{"tolerance", hmacScheme(func(h *sdk.HMAC) {
			h.SignedContent = []sdk.Part{ts, body}
			h.Timestamp = &sdk.Timestamp{Headers: []string{"x"}, PastSeconds: -1}
		}), []string{secret}, nil, "past_seconds"},
		{"items", hmacScheme(func(h *sdk.HMAC) { h.ItemKey, h.ItemVersion = "a", "b" }), []string{secret}, nil, "exclude"},
		{"pointer", hmacScheme(func(h *sdk.HMAC) {
			h.SignedContent = []sdk.Part{{Kind: sdk.PartJSONPointer, Name: "id"}, body}
		}), []string{secret}, nil, "does not start with /"},
		{"token in body", tok(sdk.PartBody, ""), []string{secret}, nil, "cannot hold a token"},
		{"path token", tok(sdk.PartPathToken, ""), []string{"a/b"}, nil, "letters, digits"},
		{"path token dots", tok(sdk.PartPathToken, ""), []string{".."}, nil, "letters, digits"},
		{"header token", tok(sdk.PartHeader, "x"), []string{"a\nb"}, nil, "header"},
		{"empty allow list", allowing, []string{secret}, map[string][]string{"ids": {}}, "empty list"},
		{"unknown allow list", vwd, []string{secret}, map[string][]string{"ids": {"x"}}, `no allow list "ids"`},
	} {
		_, err := New(c.scheme, c.secrets, c.allow)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "S3CRET") {
			t.Errorf("%s: the error tells the secret: %v", c.name, err)
		}
	}
}

func TestPartValue(t *testing.T) {
	in := &Input{
		Header:    http.Header{"X-Id": {"7"}, "X-Two": {"a", "b"}, "X-Empty": {""}},
		RawQuery:  "a=1&b=x%20y&c&b2=&d=1&d=2",
		PathToken: "tok",
		Timestamp: "17",
		Body:      []byte(`{"id":1.50,"Name":"\u00e9","o":{"x":[1]},"n":null,"e":"","t":true}`),
	}
	type result struct {
		Value string
		OK    bool
	}
	absent := result{}
	for p, want := range map[sdk.Part]result{
		{Kind: sdk.PartBody}:                                       {string(in.Body), true},
		{Kind: sdk.PartHeader, Name: "x-id"}:                       {"7", true},
		{Kind: sdk.PartHeader, Name: "x-two"}:                      absent,
		{Kind: sdk.PartHeader, Name: "x-empty"}:                    absent,
		{Kind: sdk.PartHeader, Name: "x-none, X-ID"}:               {"7", true},
		{Kind: sdk.PartHeader, Name: "x-two,x-id"}:                 absent,
		{Kind: sdk.PartQuery, Name: "a"}:                           {"1", true},
		{Kind: sdk.PartQuery, Name: "b"}:                           {"x y", true},
		{Kind: sdk.PartQuery, Name: "c"}:                           absent,
		{Kind: sdk.PartQuery, Name: "d"}:                           absent,
		{Kind: sdk.PartPathToken}:                                  {"tok", true},
		{Kind: sdk.PartTimestamp}:                                  {"17", true},
		{Kind: sdk.PartLiteral, Name: "v0"}:                        {"v0", true},
		{Kind: sdk.PartJSONPointer, Name: "/id"}:                   {"1.50", true},
		{Kind: sdk.PartJSONPointer, Name: "/Name"}:                 {"é", true},
		{Kind: sdk.PartJSONPointer, Name: "/name"}:                 absent,
		{Kind: sdk.PartJSONPointer, Name: "/name", FoldCase: true}: {"é", true},
		{Kind: sdk.PartJSONPointer, Name: "/o"}:                    {`{"x":[1]}`, true},
		{Kind: sdk.PartJSONPointer, Name: "/o/x/0"}:                {"1", true},
		{Kind: sdk.PartJSONPointer, Name: "/n"}:                    absent,
		{Kind: sdk.PartJSONPointer, Name: "/e"}:                    absent,
		{Kind: sdk.PartJSONPointer, Name: "/t"}:                    {"true", true},
	} {
		c, err := NewPart(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, checked := range []bool{false, true} {
			in.Checked = checked
			value, ok := c.Value(in)
			if got := (result{string(value), ok}); got != want && (ok || want.OK) {
				t.Errorf("%+v: %s", p, cmp.Diff(want, got))
			}
		}
	}
}

func TestPartValueInForm(t *testing.T) {
	in := &Input{Form: true, Body: []byte("id=1.50&Name=%C3%A9+&a/b=x&~t=y&two=1&two=2&empty=&flag" +
		"&payload=%7B%22o%22%3A%7B%22x%22%3A%5B1.0%5D%7D%2C%22s%22%3A%22%5Cu00e9%22%2C%22n%22%3Anull%7D&list=%5B7%5D&odd=%7B")}
	for pointer, want := range map[string]string{
		"/id": "1.50", "/Name": "é ", "/a~1b": "x", "/~0t": "y", "/two": "", "/empty": "", "/flag": "", "/none": "", "": "", "/": "",
		"/name": "", "/payload/o/x/0": "1.0", "/payload/o": `{"x":[1.0]}`, "/payload/s": "é", "/payload/n": "", "/payload/q": "",
		"/list/0": "7", "/odd/x": "", "/odd": "{", "/id/0": "",
	} {
		for _, checked := range []bool{false, true} {
			c, err := NewPart(sdk.Part{Kind: sdk.PartJSONPointer, Name: pointer})
			if err != nil {
				t.Fatal(err)
			}
			in.Checked = checked
			if value, ok := c.Value(in); string(value) != want || ok != (want != "") {
				t.Errorf("%q: %q, %v, want %q", pointer, value, ok, want)
			}
		}
	}
	fold, err := NewPart(sdk.Part{Kind: sdk.PartJSONPointer, Name: "/PAYLOAD/S", FoldCase: true})
	if err != nil {
		t.Fatal(err)
	}
	if value, ok := fold.Value(in); string(value) != "é" || !ok {
		t.Errorf("%q", value)
	}
	for _, body := range []string{"id=%", "id=1;x", "id=1\n", strings.Repeat("id&", 2000)} {
		p, err := NewPart(sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"})
		if err != nil {
			t.Fatal(err)
		}
		if value, ok := p.Value(&Input{Form: true, Body: []byte(body)}); ok {
			t.Errorf("%.20q: %q", body, value)
		}
	}
}

func TestPresetUnknown(t *testing.T) {
	if _, ok := sdk.Preset("none"); ok {
		t.Error("none is no preset")
	}
}

func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for _, v := range vectors(t) {
		scheme, in, now := v.load(t)
		verifier := mustNew(t, scheme, wrongSecret(scheme), v.Secret)
		for i := range 4 {
			wg.Go(func() {
				good := *in
				bad, want := good, CauseBadSignature
				bad.Header = maps.Clone(in.Header)
				bad.Body = flip(in.Body, i%len(in.Body))
				if scheme.Token != nil || scheme.Basic != nil {
					bad.Header["Authorization"], want = []string{bad.Header.Get("Authorization")[1:]}, CauseBadToken
				}
				for range 200 {
					if got := cause(verifier, &good, now); got != "" {
						t.Error(got)
					}
					if got := cause(verifier, &bad, now); got != want {
						t.Error(got)
					}
				}
			})
		}
	}
	wg.Wait()
}

func BenchmarkVerifyVWD(b *testing.B) {
	scheme, _ := sdk.Preset("vwd")
	v := mustNew(b, scheme, "test-vwd-secret-1")
	in := &Input{Header: http.Header{}, Body: bytes.Repeat([]byte("x"), 900)}
	now := time.Unix(1_700_000_000, 0)
	if err := v.Sign(in, "test-vwd-secret-1", now); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(900)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(in, now); err != nil {
			b.Fatal(err)
		}
	}
}
