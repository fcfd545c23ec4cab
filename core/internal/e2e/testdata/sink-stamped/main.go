// Stamped is a sink that is whatever the end of its own file says, so that many versions of a plugin need one build. Behind
// the program stands a line like
//
//	#stamp {"version": "1.2.0", "ran": "/path"}
//
// ran names a file that gets the version as another line whenever the program starts.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	_ "unsafe" // for go:linkname

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

//go:linkname version github.com/grapnelhq/grapnel/sdk/serve.version
var version string

type stamp struct {
	Name    string // default "stamped"
	Version string
	Ran     string // empty: none
}

type config struct {
	File string `json:"file" format:"path"` // gets a line per delivery
}

type message struct {
	Text string `json:"text,omitempty"`
}

type sink struct {
	config
	version string
}

// Deliver implements sdk.Sink.
func (s *sink) Deliver(_ context.Context, d *sdk.Delivery[message]) error {
	return appendLine(s.File, s.version+" "+d.ID)
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, line)
	return err
}

func read() (stamp, error) {
	s := stamp{Name: "stamped", Version: "0.0.1"}
	path, err := os.Executable()
	if err != nil {
		return s, err
	}
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return s, err
	}
	const most = 1 << 10
	end := make([]byte, most)
	n, err := f.ReadAt(end, info.Size()-most)
	if i := bytes.LastIndex(end[:n], []byte("\n#stamp ")); i >= 0 {
		return s, json.Unmarshal(end[i+len("\n#stamp "):n], &s)
	}
	return s, err
}

func main() {
	s, err := read()
	if err == nil && s.Ran != "" {
		err = appendLine(s.Ran, s.Version)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	version = s.Version
	serve.Main(sdk.NewSink(sdk.SinkInfo{Name: s.Name, Description: "Says which version it is."},
		func(_ context.Context, c config) (sdk.Sink[message], error) { return &sink{c, s.Version}, nil }))
}
