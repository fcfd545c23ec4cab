// Trial is a sink that misbehaves while a file is there. It writes a line per delivery, shaped like the file sink's.
//
// Files in the folder "switches" turn it: with "crash" a delivery whose message says do = "crash" kills the process;
// with "hang" no delivery gets an answer; with "down" every delivery is to be tried again, with "flaky" one in a
// hundred, and all are slow. A message that says do = "reject" is rejected.
//
// What its own file is named, up to the first dot, turns it too: "nostart" ends at once, "noopen" opens nothing, "dies" ends
// with the first delivery.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/grapnelhq/grapnel/sdk"
	"github.com/grapnelhq/grapnel/sdk/serve"
)

type config struct {
	File     string `json:"file" format:"path"`
	Switches string `json:"switches" format:"path"`
}

type message struct {
	Do string `json:"do,omitempty"`
}

type sink struct {
	cfg config
	mu  sync.Mutex
	out *os.File
}

type line struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Subject    string          `json:"subject"`
	DeliveryID string          `json:"deliveryid"`
	Attempt    int             `json:"attempt"`
	At         int64           `json:"at"` // microseconds
	PID        int             `json:"pid"`
	Data       json.RawMessage `json:"data"`
}

func (s *sink) on(name string) bool {
	_, err := os.Stat(filepath.Join(s.cfg.Switches, name))
	return err == nil
}

func (s *sink) Deliver(ctx context.Context, d *sdk.Delivery[message]) error {
	if d.Message.Do == "crash" && s.on("crash") || fault() == "dies" {
		go panic("trial: these are the last words of the sink") // a panic in Deliver itself would not end the process
		select {}
	}
	if d.Message.Do == "reject" {
		return sdk.Reject(errors.New("trial: it does not do that"), "do")
	}
	if s.on("hang") {
		<-ctx.Done()
		return ctx.Err()
	}
	flaky := s.on("flaky")
	if flaky {
		time.Sleep(rand.N(4 * time.Millisecond))
	}
	if s.on("down") || flaky && rand.IntN(100) == 0 {
		return errors.New("trial: the far end is down")
	}
	b, err := json.Marshal(line{d.Event.ID, d.Event.Type, d.Event.Subject, d.ID, d.Attempt, time.Now().UnixMicro(), os.Getpid(),
		d.Data})
	if err != nil {
		return sdk.Reject(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.out.Write(append(b, '\n'))
	return err
}

// fault is how this program fails, by the name of its file.
func fault() string {
	name, _, _ := strings.Cut(filepath.Base(os.Args[0]), ".")
	return name
}

func open(_ context.Context, cfg config) (sdk.Sink[message], error) {
	if fault() == "noopen" {
		return nil, errors.New("trial: this version opens nothing")
	}
	out, err := os.OpenFile(cfg.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &sink{cfg: cfg, out: out}, nil
}

func main() {
	if fault() == "nostart" {
		fmt.Fprintln(os.Stderr, "trial: this version does not start")
		os.Exit(3)
	}
	serve.Main(sdk.NewSink(sdk.SinkInfo{Name: "trial", Description: "Misbehaves on command.", Data: true}, open))
}
