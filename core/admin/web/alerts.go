package web

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core/admin"
)

func alertPages() []page {
	return []page{
		{pattern: "GET /alerts", template: "alerts", serve: (*call).alerts, nav: &place{"Run", "Alerts", "a"}},
		{pattern: "GET /alerts/live", template: "alerts", serve: (*call).liveAlerts},
		{pattern: "POST /alerts/{alert}/test", serve: (*call).testAlert},
	}
}

// alerts is the data of the page.
type alerts struct {
	Running bool
	Items   []alertView
}

// alertView is an alert with what it watches as shown.
type alertView struct {
	admin.Alert
	Things []thingView
}

// Words are its condition in words.
func (a alertView) Words() string { return strings.ReplaceAll(a.Condition, "_", " ") }

// Path is below which its forms post.
func (a alertView) Path() string { return "/alerts/" + url.PathEscape(a.Name) }

// thingView is a thing that an alert watches.
type thingView struct{ admin.AlertThing }

// Now is the value, and Limit the threshold.
func (t thingView) Now() string { return measure(t.Value, t.Unit) }

// Limit is the threshold.
func (t thingView) Limit() string { return measure(t.Threshold, t.Unit) }

// Href is the page of the thing.
func (t thingView) Href() string {
	kind, name, _ := strings.Cut(t.Subject, "/")
	switch kind {
	case "sink":
		return "/sinks/" + url.PathEscape(name)
	case "source":
		return address("/requests", url.Values{"source": {name}})
	case "plugin":
		return "/plugins"
	}
	return ""
}

// measure writes a value with its unit.
func measure(v float64, unit string) string {
	switch unit {
	case "seconds":
		if v < 1 {
			return "0 s"
		}
		return span(time.Duration(v * float64(time.Second)))
	case "count":
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v, " ", unit)
	}
}

func (c *call) readAlerts() (alerts, error) {
	p, err := c.control.Alerts(c)
	if errors.Is(err, admin.ErrNotRunning) {
		return alerts{}, nil
	}
	data := alerts{Running: true}
	for _, a := range p.Items {
		v := alertView{Alert: a}
		for _, t := range a.Things {
			v.Things = append(v.Things, thingView{t})
		}
		data.Items = append(data.Items, v)
	}
	return data, err
}

func (c *call) alerts() error {
	data, err := c.readAlerts()
	if err != nil {
		return err
	}
	return c.page("Alerts", data)
}

func (c *call) liveAlerts() error {
	data, err := c.readAlerts()
	if err != nil {
		return err
	}
	return c.part("live", data)
}

func (c *call) testAlert() error {
	t, err := c.control.TestAlert(c, c.r.PathValue("alert"))
	if err != nil {
		return err
	}
	return c.redirect("/requests/" + url.PathEscape(t.RequestID))
}
