package admin

import (
	"context"
	"net/url"
	"time"
)

// Alerting is a running host's alerts.
type Alerting interface {
	Alerts() []Alert
	// TestAlert sends a message of an alert that says it is a test, and returns the id of its request. An alert that is not
	// there is store.ErrNotFound.
	TestAlert(ctx context.Context, name string) (requestID string, err error)
}

// Alert is an alert block as shown, with where it stands.
type Alert struct {
	Name      string       `json:"name"`
	Condition string       `json:"condition"` // sink_parked, dead_letters …
	State     string       `json:"state"`     // the worst of its things'
	At        string       `json:"at"`        // file:line,column
	To        []string     `json:"to"`        // sinks
	Things    []AlertThing `json:"things"`    // by name
}

// AlertThing is where an alert stands with one thing that it watches.
type AlertThing struct {
	Alert   string `json:"alert"`
	Subject string `json:"subject"` // sink/<name>, source/<name> or plugin/<name>
	// ok; learning (ok, what is usual is not known yet); pending (not for long enough); firing; clearing (firing, gone, but
	// not for long enough).
	State      string    `json:"state"`
	Since      time.Time `json:"since,omitzero"` // pending, firing, clearing
	Value      float64   `json:"value"`
	Threshold  float64   `json:"threshold"`
	Unit       string    `json:"unit"`           // seconds, count
	Text       string    `json:"text,omitempty"` // what is the matter
	FiredAt    time.Time `json:"fired_at,omitzero"`
	ResolvedAt time.Time `json:"resolved_at,omitzero"`
	SentAt     time.Time `json:"sent_at,omitzero"` // the last message
	Reminders  int       `json:"reminders,omitempty"`
}

// Fires reports whether the alert has been sent as fired and not yet as resolved.
func (t *AlertThing) Fires() bool { return t.State == "firing" || t.State == "clearing" }

// AlertTest is the answer to a test of an alert.
type AlertTest struct {
	RequestID string `json:"request_id"` // what came of it: GET /v1/requests/{id}
}

// Alerts implements Control.
func (c *Direct) Alerts(context.Context) (Page[Alert], error) {
	if c.Alerting == nil {
		return Page[Alert]{}, ErrNotRunning
	}
	return Page[Alert]{Items: c.Alerting.Alerts()}, nil
}

// TestAlert implements Control.
func (c *Direct) TestAlert(ctx context.Context, name string) (AlertTest, error) {
	if c.Alerting == nil {
		return AlertTest{}, ErrNotRunning
	}
	id, err := c.Alerting.TestAlert(ctx, name)
	return AlertTest{id}, err
}

// Alerts implements Control.
func (c *Client) Alerts(ctx context.Context) (v Page[Alert], err error) {
	err = c.get(ctx, "alerts", "", &v)
	return v, err
}

// TestAlert implements Control.
func (c *Client) TestAlert(ctx context.Context, name string) (v AlertTest, err error) {
	err = c.post(ctx, "alerts/"+url.PathEscape(name)+"/test", struct{}{}, &v)
	return v, err
}
