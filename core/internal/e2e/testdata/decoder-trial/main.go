// Trial is a decoder that misbehaves while a file is there: with the file "crash" in the folder "switches" a body
// that says "do": "crash" kills the process.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

type config struct {
	Switches string `json:"switches" format:"path"`
}

type body struct {
	Key    string `json:"key"`
	Number int    `json:"number"`
	Do     string `json:"do,omitempty"`
}

type decoder struct{ cfg config }

func (d decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	var b body
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return nil, err
	}
	if b.Do == "crash" {
		if _, err := os.Stat(filepath.Join(d.cfg.Switches, "crash")); err == nil {
			go panic("trial: these are the last words of the decoder") // a panic in Decode itself would not end the process
			select {}
		}
	}
	subject := fmt.Sprintf("thing/%s", b.Key)
	return []sdk.Event{{Type: "trial.made", Subject: subject, PartitionKey: subject, Data: r.Body}}, nil
}

func open(_ context.Context, cfg config) (sdk.Decoder, error) { return decoder{cfg}, nil }

func main() {
	provider := sdk.Provider{
		Name: "trial", Title: "Trial",
		Dedupe: []sdk.DedupeKey{{{Kind: sdk.PartBody}}},
		Events: []sdk.EventType{{Type: "trial.made", Description: "Something was made.", Data: sdk.MustSchema[body]()}},
	}
	serve.Main(sdk.NewDecoder(provider, open))
}
