package sample

import (
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)

func TestCopyVariesWhatItShouldAndNothingElse(t *testing.T) {
	body := "{\n  \"id\": \"843847 5\",\n  \"n\": 40.0,\n  \"at\": \"2025-07-03T10:12:35.4877275+00:00\", \"data\": {\"id\": 130333}\n}"
	s := sdk.Sample{
		Name: "x", Body: json.RawMessage(body), Headers: []sdk.Header{{Name: "X-Id", Value: "0f9d4a0e-7f5b-4d7b-9c36-000000000001"}, {Name: "X-Kind", Value: "A"}},
		Vary: []sdk.Variation{
			{Part: sdk.Part{Kind: sdk.PartHeader, Name: "x-id"}, Kind: sdk.VaryID},
			{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}, Kind: sdk.VaryID},
			{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/data/id"}, Kind: sdk.VaryID},
			{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/at"}, Kind: sdk.VaryTime},
		},
	}
	c, err := Copy(s, rand.New(rand.NewPCG(1, 1)), now)
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Body) != body || s.Headers[0].Value != "0f9d4a0e-7f5b-4d7b-9c36-000000000001" {
		t.Error("the sample itself was changed")
	}
	var v struct {
		ID   string
		N    json.RawMessage
		At   string
		Data struct{ ID int }
	}
	if err := json.Unmarshal(c.Body, &v); err != nil {
		t.Fatalf("%s: %v", c.Body, err)
	}
	if v.ID == "843847 5" || len(v.ID) != 8 || v.ID[6] != ' ' || v.Data.ID == 130333 || v.Data.ID < 100000 {
		t.Errorf("ids are %q and %d", v.ID, v.Data.ID)
	}
	if string(v.N) != "40.0" {
		t.Errorf("a number became %s", v.N)
	}
	if v.At != "2026-03-04T05:06:07.1234567+00:00" {
		t.Errorf("the time is %s", v.At)
	}
	if c.Headers[1].Value != "A" || c.Headers[0].Value == s.Headers[0].Value || !isUUID(c.Headers[0].Value) {
		t.Errorf("headers are %v", c.Headers)
	}
}

func TestFreshTimeKeepsTheLook(t *testing.T) {
	for old, want := range map[string]string{
		"2022-09-05T18:33:55.526+03:00": "2026-03-04T08:06:07.123+03:00",
		"2023-07-11T22:38:57.1993216Z":  "2026-03-04T05:06:07.1234567Z",
		"2026-01-15T11:01:00Z":          "2026-03-04T05:06:07Z",
		"2027-10-16T05:15:10.6019456":   "2026-03-04T05:06:07.1234567",
		"2024-07-03":                    "2026-03-04",
		"1768469400123":                 "1772600767123",
		"1768469400":                    "1772600767",
		"yesterday":                     "2026-03-04T05:06:07.123456789Z",
	} {
		if got := freshTime(old, now); got != want {
			t.Errorf("%s became %s, want %s", old, got, want)
		}
	}
}

// The same person is named in several places of a body, as text here and as a number there.
func TestCopyKeepsEqualIDsEqual(t *testing.T) {
	pointer := func(name string) sdk.Variation {
		return sdk.Variation{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: name}, Kind: sdk.VaryID}
	}
	s := sdk.Sample{
		Name: "x", Body: []byte(`{"id":"4101","value":{"id":4101},"other":"4102"}`),
		Headers: []sdk.Header{{Name: "X-Person", Value: "4101"}},
		Vary: []sdk.Variation{
			pointer("/id"), {Part: sdk.Part{Kind: sdk.PartHeader, Name: "X-Person"}, Kind: sdk.VaryID},
			pointer("/value/id"), pointer("/other"),
		},
	}
	c, err := Copy(s, rand.New(rand.NewPCG(1, 1)), now)
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		ID, Other string
		Value     struct{ ID json.Number }
	}
	if err := json.Unmarshal(c.Body, &v); err != nil {
		t.Fatalf("%s: %v", c.Body, err)
	}
	if v.ID == "4101" || v.Value.ID.String() != v.ID || c.Headers[0].Value != v.ID {
		t.Errorf("one id became %q, %s and %q", v.ID, v.Value.ID, c.Headers[0].Value)
	}
	if v.Other == v.ID || v.Other == "4102" {
		t.Errorf("another id became %q", v.Other)
	}
}

// Forms and queries keep every byte but those of the values that vary.
func TestCopyVariesFormsAndQueries(t *testing.T) {
	vary := func(kind sdk.PartKind, name string) sdk.Variation {
		return sdk.Variation{Part: sdk.Part{Kind: kind, Name: name}, Kind: sdk.VaryID}
	}
	s := sdk.Sample{
		Name: "x", Query: "a=%zz&id=4101&&b=x+y", Headers: []sdk.Header{{Name: "content-type", Value: "Application/x-www-form-urlencoded; q=1"}},
		Body: []byte("a=%7E&Message%53id=SM4101&&payload=%7B%22id%22:+4101,%22x%22:1.0%7D&a=+&last"),
		Vary: []sdk.Variation{
			vary(sdk.PartQuery, "id"), vary(sdk.PartJSONPointer, "/MessageSid"), vary(sdk.PartJSONPointer, "/payload/id"),
			vary(sdk.PartJSONPointer, "/last"),
		},
	}
	c, err := Copy(s, rand.New(rand.NewPCG(1, 1)), now)
	if err != nil {
		t.Fatal(err)
	}
	q := regexp.MustCompile(`^a=%zz&id=(\d{9})&&b=x\+y$`).FindStringSubmatch(c.Query)
	b := regexp.MustCompile(`^a=%7E&Message%53id=SM(\d{4})&&payload=%7B%22id%22%3A\+(\d{9})%2C%22x%22%3A1\.0%7D&a=\+&last-\d+$`).
		FindStringSubmatch(string(c.Body))
	if q == nil || b == nil || b[2] != q[1] || q[1] == "4101" || b[1] == "4101" {
		t.Errorf("%s\n%s", c.Query, c.Body)
	}
	for _, v := range []sdk.Variation{vary(sdk.PartQuery, "c"), vary(sdk.PartJSONPointer, "/a"), vary(sdk.PartJSONPointer, "/payload/y")} {
		s.Vary = []sdk.Variation{v}
		if c, err := Copy(s, rand.New(rand.NewPCG(1, 1)), now); err == nil {
			t.Errorf("%s: %s", v.Part.Name, c.Body)
		}
	}
}

func TestCopySaysWhatCannotBeVaried(t *testing.T) {
	s := sdk.Sample{Name: "x", Body: []byte(`{}`), Vary: []sdk.Variation{{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}}}}
	if _, err := Copy(s, rand.New(rand.NewPCG(1, 1)), now); err == nil || err.Error() != `sample x: there is nothing at "/id" to vary` {
		t.Errorf("got %v", err)
	}
}

// TestCopiesDiffer makes as many copies as a short load does, of a sample whose id is short.
func TestCopiesDiffer(t *testing.T) {
	s := sdk.Sample{Name: "short", Body: []byte(`{"id":7}`), Vary: []sdk.Variation{{
		Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/id"}, Kind: sdk.VaryID,
	}}}
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	for range 1000 {
		c, err := Copy(s, random, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		seen[string(c.Body)] = true
	}
	if len(seen) < 999 {
		t.Errorf("1000 copies are %d different requests", len(seen))
	}
}

func TestFindHelps(t *testing.T) {
	paddle := &sdk.Provider{Name: "paddle", Title: "Paddle"}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		paddle.Events = append(paddle.Events, sdk.EventType{Type: "paddle." + name + ".made"})
	}
	some := *paddle
	paddle.Events = append(paddle.Events, sdk.EventType{Type: "paddle.transaction.completed"})
	for _, c := range []struct {
		p         *sdk.Provider
		typ, want string
	}{
		{paddle, "transaction.completed", `did you mean "paddle.transaction.completed"?`},
		{paddle, "x", "there are paddle.a.made, paddle.b.made, paddle.c.made, paddle.d.made, paddle.e.made and 2 more"},
		{&some, "x", "there are paddle.a.made, paddle.b.made, paddle.c.made, paddle.d.made, paddle.e.made and paddle.f.made"},
		{&sdk.Provider{Name: "paddle", Title: "Paddle"}, "x", "none is known"},
	} {
		_, err := Find(c.p, c.typ)
		if want := "Paddle has no event type \"" + c.typ + "\"; " + c.want; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
