// Command serve runs the fake of Slack as a process of its own, for tests that are no part of this module. It prints
// the address of the fake, and that of its control, in one line each, and ends when its standard input does.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/plugins/sink-slack/internal/fakeslack"
)

func main() {
	o := fakeslack.Options{Hooks: map[string]string{}, Channels: map[string]fakeslack.Channel{}}
	flag.StringVar(&o.Token, "token", "", "of the bot")
	flag.DurationVar(&o.Spacing, "spacing", 0, "least time between two messages to a channel")
	flag.IntVar(&o.Burst, "burst", 1, "messages that may come at once")
	flag.Func("hook", "path=channel ID, of a webhook", func(v string) error {
		path, channel, _ := strings.Cut(v, "=")
		o.Hooks[path] = channel
		return nil
	})
	flag.Func("channel", "ID=name", func(v string) error {
		id, name, _ := strings.Cut(v, "=")
		o.Channels[id] = fakeslack.Channel{Name: name}
		return nil
	})
	flag.Parse()
	fake := fakeslack.New(o)
	for _, h := range []http.Handler{fake, fake.Control()} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		go func() { log.Fatal(server.Serve(l)) }()
		fmt.Println("http://" + l.Addr().String())
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
}
