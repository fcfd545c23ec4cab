package conform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Options say what a plugin is checked with. Texts are JSON; the zero value checks a decoder without configuration.
type Options struct {
	// Config is a complete configuration; default {}. Secrets in it should be long enough to be searched for.
	Config string
	// Timeout is how long Describe, Validate, Open and Check may take; default: the host's 15 s. A shorter one also bounds
	// the shorter patience with other things.
	Timeout time.Duration

	// For sinks.

	// Answer is the body of FarEnd's answers; default {}.
	Answer string
	// Message is a message that the sink delivers with Config; default: the least that the message's schema asks for.
	Message string
	// Data is the event's data for a sink that asks for it; default {}.
	Data string
	// Down is a configuration whose far end is not there: a delivery must end as a retry. Empty: not checked.
	Down string
	// Slow is a configuration whose far end takes a delivery and does not answer: a delivery must keep the deadline of
	// its call. Empty: not checked.
	Slow string
	// Refused is a configuration whose far end refuses Message for good, RefusedMessage a message that the far end of
	// Config refuses so: a delivery must be rejected, or suspend the sink. Empty: not checked.
	Refused        string
	RefusedMessage string

	// For decoders.

	// Golden is a folder with the expected events of each sample, one file each. Empty: none. Update writes them.
	Golden string
	Update bool
	// Loose accepts members of a sample's data that its schema does not declare.
	Loose bool
}

// FarEnd is a word that the texts of Options may hold. It stands for http://<host>:<port> of a far end that the kit
// runs: it answers 200 and Answer to everything, but its path /status/<number> with that status. In Down nobody is
// there, in Slow nobody answers. Where these two are empty and Config has the word, they are Config.
const FarEnd = "$FAR_END"

// ReadOptions reads Options from a JSON object of config, message, data, down, slow, refused, refused_message, answer
// and loose.
func ReadOptions(file string) (Options, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Options{}, err
	}
	var in struct {
		Answer         json.RawMessage `json:"answer"`
		Config         json.RawMessage `json:"config"`
		Message        json.RawMessage `json:"message"`
		Data           json.RawMessage `json:"data"`
		Down           json.RawMessage `json:"down"`
		Slow           json.RawMessage `json:"slow"`
		Refused        json.RawMessage `json:"refused"`
		RefusedMessage json.RawMessage `json:"refused_message"`
		Loose          bool            `json:"loose"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return Options{}, fmt.Errorf("%s: %w", file, err)
	}
	return Options{
		Answer: string(in.Answer), Config: string(in.Config), Message: string(in.Message), Data: string(in.Data),
		Down: string(in.Down), Slow: string(in.Slow), Refused: string(in.Refused), RefusedMessage: string(in.RefusedMessage), Loose: in.Loose,
	}, nil
}

// farEnd is what FarEnd stands for.
type farEnd struct {
	up, slow *httptest.Server
	body     string
	serves   bool // Config, not only a configuration that is bad on purpose
	requests atomic.Int64
	hanging  atomic.Int64 // requests that wait for an answer which never comes
	stop     chan struct{}
}

// nowhere is an address of which nobody answers.
const nowhere = "http://127.0.0.1:1"

// prepare sets defaults and starts the far end if one is asked for; close ends it.
func (o *Options) prepare() (far *farEnd, closeFar func()) {
	for _, s := range []*string{&o.Config, &o.Data, &o.Answer} {
		if strings.TrimSpace(*s) == "" {
			*s = "{}"
		}
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if strings.Contains(o.Config, FarEnd) {
		if o.Down == "" {
			o.Down = o.Config
		}
		if o.Slow == "" {
			o.Slow = o.Config
		}
	}
	o.Down = strings.ReplaceAll(o.Down, FarEnd, nowhere)
	if !strings.Contains(o.Config+o.Message+o.Slow+o.Refused+o.RefusedMessage, FarEnd) {
		return nil, func() {}
	}
	far = &farEnd{body: o.Answer, serves: strings.Contains(o.Config, FarEnd), stop: make(chan struct{})}
	far.up, far.slow = httptest.NewServer(http.HandlerFunc(far.answer)), httptest.NewServer(http.HandlerFunc(far.hang))
	o.Slow = strings.ReplaceAll(o.Slow, FarEnd, far.slow.URL)
	for _, s := range []*string{&o.Config, &o.Message, &o.Data, &o.Refused, &o.RefusedMessage} {
		*s = strings.ReplaceAll(*s, FarEnd, far.up.URL)
	}
	return far, func() {
		close(far.stop)
		far.up.Close()
		far.slow.Close()
	}
}

func (f *farEnd) answer(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	status := http.StatusOK
	if _, rest, ok := strings.Cut(r.URL.Path, "/status/"); ok {
		_, _ = fmt.Sscan(rest, &status)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(min(max(status, 200), 599))
	_, _ = io.WriteString(w, f.body)
}

func (f *farEnd) hang(_ http.ResponseWriter, r *http.Request) {
	f.hanging.Add(1)
	defer f.hanging.Add(-1)
	_, _ = io.Copy(io.Discard, r.Body) // the server sees the end of the connection only behind it
	select {
	case <-r.Context().Done():
	case <-f.stop:
	}
}
