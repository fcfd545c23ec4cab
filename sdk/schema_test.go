package sdk

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type base struct {
	Region string `json:"region,omitempty" enum:"eu|us" default:"eu" doc:"Where."`
}

type everything struct {
	base
	URL     string                     `json:"url" doc:"Where to post." escape:"url"`
	Dir     string                     `json:"dir,omitzero" format:"path"`
	Token   Secret                     `json:"token"`
	Keys    []Secret                   `json:"keys,omitempty"`
	Byname  map[string]Secret          `json:"byname,omitempty"`
	Timeout time.Duration              `json:"timeout" default:"3d"`
	Count   uint8                      `json:"count" default:"7"`
	Ratio   float64                    `json:"ratio" default:"0.5"`
	Exact   json.Number                `json:"exact,omitempty"`
	On      bool                       `json:"on" default:"true"`
	Note    *string                    `json:"note" escape:"slack_mrkdwn"`
	Raw     json.RawMessage            `json:"raw,omitempty"`
	Any     any                        `json:"any,omitempty"`
	Fields  map[string]json.RawMessage `json:"fields,omitempty"`
	Tags    []string                   `json:"tags" enum:"a|b" default:"[\"a\"]"`
	At      time.Time                  `json:"at,omitempty"`
	Nested  struct {
		Depth int64 `json:"depth" default:"-3"`
		Must  bool  `json:"must"`
	} `json:"nested,omitempty"`
	Ignored  func()   `json:"-"`
	internal chan int //nolint:unused // unexported fields are passed over
}

func TestSchemaOf(t *testing.T) {
	got, err := SchemaOf[everything]()
	if err != nil {
		t.Fatal(err)
	}
	str := func(s Schema) Schema { s.Kind = KindString; return s }
	optional := func(s Schema) Schema { s.Optional = true; return s }
	secret := Schema{Kind: KindString, Sensitive: true}
	value := Schema{Kind: KindAny, Nullable: true}
	want := Schema{Kind: KindObject, Attributes: []Attribute{
		{"region", str(Schema{
			Optional: true, Enum: []string{"eu", "us"}, Default: json.RawMessage(`"eu"`), Description: "Where.",
		})},
		{"url", str(Schema{Description: "Where to post.", Escape: EscapeURL})},
		{"dir", str(Schema{Optional: true, Format: FormatPath})},
		{"token", secret},
		{"keys", optional(Schema{Kind: KindList, Element: &secret, Sensitive: true})},
		{"byname", optional(Schema{Kind: KindMap, Element: &secret, Sensitive: true})},
		{"timeout", optional(Schema{Kind: KindDuration, Default: json.RawMessage("259200000000000")})},
		{"count", optional(Schema{Kind: KindInteger, Default: json.RawMessage("7")})},
		{"ratio", optional(Schema{Kind: KindNumber, Default: json.RawMessage("0.5")})},
		{"exact", optional(Schema{Kind: KindNumber})},
		{"on", optional(Schema{Kind: KindBool, Default: json.RawMessage("true")})},
		{"note", str(Schema{Optional: true, Nullable: true, Escape: EscapeSlackMrkdwn})},
		{"raw", optional(value)},
		{"any", optional(value)},
		{"fields", optional(Schema{Kind: KindMap, Element: &value})},
		{"tags", optional(Schema{
			Kind: KindList, Element: &Schema{Kind: KindString, Enum: []string{"a", "b"}}, Default: json.RawMessage(`["a"]`),
		})},
		{"at", optional(Schema{Kind: KindString})},
		{"nested", optional(Schema{Kind: KindObject, Attributes: []Attribute{
			{"depth", optional(Schema{Kind: KindInteger, Default: json.RawMessage("-3")})},
			{"must", Schema{Kind: KindBool}},
		}})},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("schema (-want +got):\n%s", diff)
	}
}

func TestSchemaOfEventDataKeepsForeignNames(t *testing.T) {
	s, err := SchemaOf[struct {
		FirstName string
		Current   *int `json:"currentMilestone-id"`
	}]()
	if err != nil {
		t.Fatal(err)
	}
	if s.Attribute("FirstName") == nil || s.Attribute("currentMilestone-id") == nil {
		t.Errorf("got %+v", s)
	}
}

type tree struct {
	Children []tree `json:"children"`
}

func TestTypesWithoutSchema(t *testing.T) {
	for want, err := range map[string]error{
		"recursive":            second(SchemaOf[tree]()),
		"no schema":            second(SchemaOf[chan int]()),
		"keys must be strings": second(SchemaOf[map[int]string]()),
		"[]byte":               second(SchemaOf[struct{ B []byte }]()),
		"pointer to pointer":   second(SchemaOf[struct{ P **int }]()),
		"interface":            second(SchemaOf[struct{ P fmt.Stringer }]()),
		`default "x"`: second(SchemaOf[struct {
			N int `default:"x"`
		}]()),
		`default "300"`: second(SchemaOf[struct {
			N uint8 `default:"300"`
		}]()),
		`default "c"`: second(SchemaOf[struct {
			S string `enum:"a|b" default:"c"`
		}]()),
		"a secret has no": second(SchemaOf[struct {
			S Secret `default:"c"`
		}]()),
		"enum: it is not text": second(SchemaOf[struct {
			N int `enum:"1|2"`
		}]()),
		"escape: it is not text": second(SchemaOf[struct {
			N int `escape:"html"`
		}]()),
		`unknown escape "shell"`: second(SchemaOf[struct {
			S string `escape:"shell"`
		}]()),
		`unknown format "mail"`: second(SchemaOf[struct {
			S string `format:"mail"`
		}]()),
		`json option "string"`: second(SchemaOf[struct {
			N int `json:"n,string"`
		}]()),
		"a second attribute": second(SchemaOf[struct {
			A int `json:"B"`
			B int
		}]()),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

type embedsReserved struct {
	Inner
}

// Inner is embedded by embedsReserved.
type Inner struct {
	Secrets []string `json:"secrets"`
}

func TestConfigurationsAndMessagesHaveStricterNames(t *testing.T) {
	panics := func(want string, f func()) {
		t.Helper()
		defer func() {
			if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
				t.Errorf("panic %q, want one with %q", got, want)
			}
		}()
		f()
	}
	panics("needs a json tag", func() { mustDescribe[struct{ URL string }](useConfig) })
	panics("does not match", func() {
		mustDescribe[struct {
			URL string `json:"URL"`
		}](useMessage)
	})
	panics("reserved", func() {
		mustDescribe[struct {
			D string `json:"delivery"`
		}](useConfig)
	})
	panics("reserved", func() { mustDescribe[embedsReserved](useConfig) })
	panics("is not a struct", func() { mustDescribe[string](useConfig) })
	panics("plugin name", func() { mustName("My-Sink") })

	mustDescribe[struct {
		D string `json:"path"`
	}](useMessage) // messages share no block with the host
	mustDescribe[struct {
		Retry struct {
			Path string `json:"path"`
		} `json:"retry"`
	}](useConfig)
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "3d": 72 * time.Hour, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour,
		"-1d1h": -25 * time.Hour, "0": 0,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "1d-1h", "xd", "3", "NaNd", "1e300d", "106751d24h", "1d1d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}

func TestSecretShowsNowhere(t *testing.T) {
	s := struct{ A Secret }{NewSecret("hunter2")}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(b), fmt.Sprint(s), fmt.Sprintf("%+v %#v %q %s %v %x", s, s, s, s, &s, s.A)} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("the secret shows in %s", text)
		}
	}
	if s.A.Reveal() != "hunter2" || s.A.IsZero() {
		t.Error("Reveal and IsZero")
	}
}
