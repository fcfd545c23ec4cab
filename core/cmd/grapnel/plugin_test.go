package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// TestWritePlugin shows what descriptions leave to the reader: defaults that are durations, schemes without a text.
func TestWritePlugin(t *testing.T) {
	var out bytes.Buffer
	writePlugin(&out, &core.PluginInfo{
		Kind: core.PluginDecoder, Name: "shop",
		Config: sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
			{Name: "timeout", Schema: sdk.Schema{Kind: sdk.KindDuration, Optional: true, Default: json.RawMessage("90000000000")}},
			{Name: "days", Schema: sdk.Schema{Kind: sdk.KindInteger, Optional: true, Default: json.RawMessage("7")}},
		}},
		Provider: &sdk.Provider{Name: "shop", Title: "Shop", Schemes: []sdk.Scheme{
			{Name: "hmac", HMAC: &sdk.HMAC{Headers: []string{"X-A", "X-B"}}},
			{Name: "key", Attribute: "keys", Token: &sdk.Token{}},
			{Name: "user", Basic: &sdk.Basic{}},
			{Name: "said", Basic: &sdk.Basic{}, Description: "As the shop's page says."},
		}},
	})
	for _, want := range []string{
		`timeout  (duration, optional, default "1m30s")`,
		"days  (integer, optional, default 7)",
		"hmac: secrets = […]  HMAC in the header X-A or X-B\n",
		"key: keys = […]  token\n",
		"user: secrets = […]  user and password (basic), as user:password\n",
		"said: secrets = […]  As the shop's page says.\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
