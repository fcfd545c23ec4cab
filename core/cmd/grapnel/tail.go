package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/grapnelhq/grapnel/core/admin"
)

func newTail() *cobra.Command {
	var source, sink string
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show what comes in and what becomes of it, as it happens",
		Long: `Show new requests, requests and deliveries in another state, and rejections, as they happen, until it is interrupted or
the host stops. With --json each is a line of JSON, as in the control API.`,
		Example: `  grapnel tail
  grapnel tail --source people
  grapnel tail --json | jq -r 'select(.kind == "delivery") | .delivery.state'`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&source, "source", "", "only of this source")
	c.Flags().StringVar(&sink, "sink", "", "only deliveries to this sink")
	withControl(c, func(c *cobra.Command, ctl admin.Control, p printer, _ []string) error {
		enc := json.NewEncoder(p.out)
		enc.SetEscapeHTML(false)
		last := ""
		show := func(ch admin.Change) error {
			last = ch.ID
			switch {
			case ch.Kind == admin.ChangeReady:
				return nil
			case !concerns(ch, source, sink):
				return nil
			case p.json:
				return enc.Encode(ch)
			}
			_, err := fmt.Fprintln(p.out, changeLine(ch))
			return err
		}
		err := admin.ErrTailSlow
		for errors.Is(err, admin.ErrTailSlow) { // whoever reads this fell behind, and can catch up
			err = ctl.Tail(c.Context(), last, show)
		}
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
	return c
}

// concerns reports whether a change is about a source or sink, of those that are named.
func concerns(ch admin.Change, source, sink string) bool {
	of, to := "", ""
	switch {
	case ch.Request != nil:
		of = ch.Request.Source
	case ch.Delivery != nil:
		of, to = strings.TrimPrefix(ch.Delivery.Source, "urn:grapnel:source:"), ch.Delivery.Sink
	case ch.Rejection != nil:
		of = ch.Rejection.Source
	default:
		return true
	}
	return (source == "" || of == source) && (sink == "" || to == sink)
}

// changeLine writes a change for people. What is foreign in it reaches no terminal as a command.
func changeLine(ch admin.Change) string {
	var parts []string
	switch {
	case ch.Request != nil:
		r := ch.Request
		parts = []string{"request", r.State, r.Source, r.ID, short(r.Reason)}
	case ch.Delivery != nil:
		d := ch.Delivery
		attempt := ""
		if d.Attempts > 0 {
			attempt = "attempt " + strconv.Itoa(d.Attempts)
		}
		parts = []string{"delivery", d.State, d.Sink, d.ID, d.Type, d.Subject, attempt, short(d.Reason)}
	case ch.Rejection != nil:
		r := ch.Rejection
		parts = []string{"rejected", strconv.Itoa(r.Status), cmp.Or(r.Source, "-"), r.Cause, r.RemoteAddr, short(r.Detail)}
	default:
		parts = []string{"something was missed: the lists have it"}
	}
	text := ch.At.Local().Format("15:04:05.000")
	for i, part := range parts {
		switch {
		case part == "":
			continue
		case i < 2:
			part = fmt.Sprintf("%-9s", part)
		}
		text += "  " + part
	}
	return strings.TrimRight(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, text), " ")
}
