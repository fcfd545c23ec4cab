// Package fakeslack is a strict stand-in for Slack in tests: incoming webhooks, chat.postMessage, chat.update and
// auth.test, with Slack's limits and words. Where Slack is lenient or undocumented, it refuses. Slack's own SDKs work
// with it; so what it takes is what they send.
package fakeslack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say what there is.
type Options struct {
	Token    string             // of the bot
	Scopes   string             // what it may do; default "chat:write,chat:write.customize"
	Hooks    map[string]string  // channel IDs by path of the webhook, such as /services/T1/B1/x
	Channels map[string]Channel // by ID
	Spacing  time.Duration      // least time between two messages to a channel; 0: none
	Burst    int                // messages that may come at once, from 1
}

// Channel is a channel of the workspace.
type Channel struct {
	Name     string // without #
	Archived bool
	Outside  bool // the bot is not in it
}

// Message is a message in a channel.
type Message struct {
	Channel   string          `json:"channel"`
	TS        string          `json:"ts"`
	ThreadTS  string          `json:"thread_ts,omitempty"`
	Broadcast bool            `json:"reply_broadcast,omitempty"`
	Text      string          `json:"text"`
	Blocks    json.RawMessage `json:"blocks,omitempty"`
	Links     bool            `json:"unfurl_links"`
	Media     bool            `json:"unfurl_media"`
	Username  string          `json:"username,omitempty"`
	IconEmoji string          `json:"icon_emoji,omitempty"`
	IconURL   string          `json:"icon_url,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
	Parse     string          `json:"parse,omitempty"`
	Hook      bool            `json:"hook"`    // it came by a webhook
	Updates   int             `json:"updates"` // how often it was replaced
	At        time.Time       `json:"at"`
}

// Failure is an answer that a test orders. It takes the place of the next answers to messages.
type Failure struct {
	Method     string        `json:"method,omitempty"` // "webhook" or as "chat.update"; empty: any
	Text       string        `json:"text,omitempty"`   // only for messages with this in their text
	Word       string        `json:"word,omitempty"`   // Slack's word; the status is Slack's for it, unless it is given
	Status     int           `json:"status,omitempty"`
	Body       string        `json:"body,omitempty"`        // instead of the word
	RetryAfter string        `json:"retry_after,omitempty"` // header
	Times      int           `json:"times,omitempty"`       // how often; 0: once, negative: until Reset
	Posted     bool          `json:"posted,omitempty"`      // the message is posted all the same
	Delay      time.Duration `json:"delay,omitempty"`       // before the answer
	Drop       bool          `json:"drop,omitempty"`        // no answer: the connection breaks
}

// Server is the fake. It may be used from any number of goroutines.
type Server struct {
	o Options

	mu       sync.Mutex
	messages []Message
	deleted  map[string]bool // by ts
	failures []Failure
	problems []string
	requests int
	lanes    map[string]*lane
	serial   int
}

// lane counts the messages of a channel.
type lane struct {
	due  time.Time // when the next message would come if all came evenly
	shut time.Time // a 429 said to wait until then
}

// New makes a fake.
func New(o Options) *Server {
	if o.Scopes == "" {
		o.Scopes = "chat:write,chat:write.customize"
	}
	o.Burst = max(o.Burst, 1)
	o.Channels = maps.Clone(o.Channels)
	return &Server{o: o, lanes: map[string]*lane{}, deleted: map[string]bool{}}
}

// Messages are the messages that were posted, in order.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Requests counts the requests that came, whatever was answered.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Problems are what a good client never does: pushing on while it was told to wait, exceeding a limit …
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Fail orders a failure.
func (s *Server) Fail(f Failure) {
	if f.Times == 0 {
		f.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, f)
}

// Reset takes back the failures that are ordered.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = nil
}

// Delete deletes a message, as a user does.
func (s *Server) Delete(ts string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted[ts] = true
}

// SetChannel changes a channel.
func (s *Server) SetChannel(id string, c Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.Channels[id] = c
}

// maxBody is the most that is read of a request.
const maxBody = 1 << 20

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusOK) // some page
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	s.mu.Lock()
	s.requests++
	s.mu.Unlock()
	method, isAPI := strings.CutPrefix(r.URL.Path, "/api/")
	if !isAPI {
		method = "webhook"
	}
	var c *call
	var bad refusal
	if isAPI {
		c, bad = s.readAPI(method, r, body)
	} else {
		c, bad = s.readHook(r, body)
	}
	if bad.word == "" {
		if f, ok := s.ordered(c); ok {
			s.fail(w, r, c, f)
			return
		}
		s.mu.Lock()
		bad = s.post(c)
		s.mu.Unlock()
	}
	if bad.word != "" {
		refuse(w, isAPI, bad)
		return
	}
	succeed(w, isAPI, s.o.Scopes, c)
}

// call is a request that was understood.
type call struct {
	method string
	Message
	update bool
}

// refusal is a word with what goes with it.
type refusal struct {
	word   string
	status int // webhooks
	detail string
	after  time.Duration
}

// statuses are those of webhooks.
var statuses = map[string]int{
	"invalid_payload": 400, "no_text": 400, "too_many_attachments": 400, "invalid_blocks": 400, "user_not_found": 400,
	"msg_blocks_too_long": 400, "invalid_blocks_format": 400, "msg_too_long": 400, "action_prohibited": 403,
	"invalid_token": 403, "posting_to_general_channel_denied": 403, "team_disabled": 403, "no_service": 404,
	"no_service_id": 404, "no_active_hooks": 404, "no_team": 404, "channel_not_found": 404, "channel_is_archived": 410,
	"rollup_error": 500, "rate_limited": 429,
}

func refuse(w http.ResponseWriter, isAPI bool, bad refusal) {
	if bad.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(bad.after.Seconds()))))
	}
	if !isAPI {
		status := bad.status
		if status == 0 {
			status = statuses[bad.word]
		}
		if status == 0 {
			status = http.StatusBadRequest
		}
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprint(w, bad.word)
		return
	}
	answer := map[string]any{"ok": false, "error": bad.word}
	if bad.detail != "" {
		answer["response_metadata"] = map[string]any{"messages": []string{"[ERROR] " + bad.detail}}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if bad.word == "ratelimited" {
		w.WriteHeader(http.StatusTooManyRequests)
	} else if bad.status != 0 {
		w.WriteHeader(bad.status)
	}
	writeJSON(w, answer)
}

func succeed(w http.ResponseWriter, isAPI bool, scopes string, c *call) {
	if !isAPI {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "ok")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-OAuth-Scopes", scopes)
	if c.method == "auth.test" {
		writeJSON(w, map[string]any{
			"ok": true, "url": "https://fake.slack.com/", "team": "Fake", "user": "bot", "team_id": "T1", "user_id": "U1",
		})
		return
	}
	message := map[string]any{"type": "message", "bot_id": "B1", "text": c.Text, "ts": c.TS}
	if c.ThreadTS != "" {
		message["thread_ts"] = c.ThreadTS
	}
	writeJSON(w, map[string]any{"ok": true, "channel": c.Channel, "ts": c.TS, "text": c.Text, "message": message})
}

// ordered takes a failure that a test has ordered for a request.
func (s *Server) ordered(c *call) (Failure, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.failures {
		f := s.failures[i]
		if f.Method != "" && f.Method != c.method || f.Text != "" && !strings.Contains(c.Text, f.Text) {
			continue
		}
		if f.Times > 0 {
			if s.failures[i].Times--; s.failures[i].Times == 0 {
				s.failures = slices.Delete(s.failures, i, i+1)
			}
		}
		return f, true
	}
	return Failure{}, false
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, c *call, f Failure) {
	if f.Posted {
		s.mu.Lock()
		s.post(c)
		s.mu.Unlock()
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
	}
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	isAPI := c.method != "webhook"
	if f.Body != "" {
		w.WriteHeader(max(f.Status, 200))
		fmt.Fprint(w, f.Body)
		return
	}
	if f.Word == "" {
		w.WriteHeader(f.Status)
		return
	}
	if isAPI && f.Status == http.StatusTooManyRequests {
		w.WriteHeader(f.Status)
	}
	refuse(w, isAPI, refusal{word: f.Word, status: f.Status})
}

// kinds of arguments.
const (
	isText = iota
	isBool
	isJSON
)

// arguments are what the methods take. Others are refused.
var arguments = map[string]map[string]int{
	"webhook": {
		"text": isText, "blocks": isJSON, "attachments": isJSON, "unfurl_links": isBool, "unfurl_media": isBool,
		"thread_ts": isText, "mrkdwn": isBool,
	},
	"chat.postMessage": {
		"channel": isText, "text": isText, "blocks": isJSON, "attachments": isJSON, "unfurl_links": isBool,
		"unfurl_media": isBool, "thread_ts": isText, "reply_broadcast": isBool, "username": isText, "icon_emoji": isText,
		"icon_url": isText, "metadata": isJSON, "mrkdwn": isBool, "parse": isText, "link_names": isBool,
	},
	"chat.update": {
		"channel": isText, "ts": isText, "text": isText, "blocks": isJSON, "attachments": isJSON, "metadata": isJSON,
		"parse": isText, "link_names": isBool, "reply_broadcast": isBool,
	},
	"auth.test": {},
}

// readAPI understands a request to the Web API.
func (s *Server) readAPI(method string, r *http.Request, body []byte) (*call, refusal) {
	known, ok := arguments[method]
	if !ok {
		return nil, refusal{word: "unknown_method"}
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, refusal{word: "missing_post_type"}
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" {
		return nil, refusal{word: "invalid_charset"}
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	raw := map[string]json.RawMessage{}
	switch kind {
	case "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, refusal{word: "invalid_form_data"}
		}
		for name, v := range values {
			if len(v) != 1 {
				return nil, refusal{word: "invalid_arguments", detail: name + " twice"}
			}
			if name == "token" {
				token = v[0]
				continue
			}
			if raw[name], err = formValue(known[name], v[0]); err != nil {
				return nil, refusal{word: "invalid_arguments", detail: err.Error()}
			}
		}
	case "application/json":
		if json.Unmarshal(body, &raw) != nil {
			return nil, refusal{word: "invalid_json"}
		}
	default:
		return nil, refusal{word: "invalid_post_type"}
	}
	switch {
	case token == "":
		return nil, refusal{word: "not_authed"}
	case token != s.o.Token:
		return nil, refusal{word: "invalid_auth"}
	}
	return s.understand(method, raw)
}

// formValue makes JSON of a form's value.
func formValue(kind int, v string) (json.RawMessage, error) {
	switch kind {
	case isJSON:
		if !json.Valid([]byte(v)) {
			return nil, fmt.Errorf("not JSON: %.40s", v)
		}
		return json.RawMessage(v), nil
	case isBool:
		b, err := strconv.ParseBool(v)
		return json.RawMessage(strconv.FormatBool(b)), err
	}
	return json.Marshal(v)
}

// readHook understands a request to a webhook.
func (s *Server) readHook(r *http.Request, body []byte) (*call, refusal) {
	channel, ok := s.o.Hooks[r.URL.Path]
	switch {
	case !ok && strings.Count(r.URL.Path, "/") < 4:
		return nil, refusal{word: "no_service_id"}
	case !ok:
		return nil, refusal{word: "no_service"}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, refusal{word: "invalid_payload"}
	}
	raw := map[string]json.RawMessage{}
	if json.Unmarshal(body, &raw) != nil {
		return nil, refusal{word: "invalid_payload"}
	}
	c, bad := s.understand("webhook", raw)
	if bad.word == "invalid_arguments" {
		bad.word = "invalid_payload"
	}
	if c != nil {
		c.Channel, c.Hook = channel, true
	}
	return c, bad
}

// understand reads the arguments of a method and checks the content against Slack's limits.
func (s *Server) understand(method string, raw map[string]json.RawMessage) (*call, refusal) {
	c := &call{method: method, update: method == "chat.update"}
	c.Links, c.Media = false, true // Slack's defaults
	known := arguments[method]
	fields := map[string]any{
		"channel": &c.Channel, "ts": &c.TS, "text": &c.Text, "blocks": &c.Blocks, "unfurl_links": &c.Links,
		"unfurl_media": &c.Media, "thread_ts": &c.ThreadTS, "reply_broadcast": &c.Broadcast, "username": &c.Username,
		"icon_emoji": &c.IconEmoji, "icon_url": &c.IconURL, "metadata": &c.Metadata, "parse": &c.Parse,
	}
	for name, v := range raw {
		if _, ok := known[name]; !ok {
			return nil, refusal{word: "invalid_arguments", detail: "unknown argument " + name}
		}
		if into := fields[name]; into != nil {
			if err := json.Unmarshal(v, into); err != nil {
				return nil, refusal{word: "invalid_arguments", detail: name + ": " + err.Error()}
			}
		}
	}
	if method == "auth.test" {
		return c, refusal{}
	}
	if bad := checkContent(c, raw["attachments"]); bad.word != "" {
		s.problem("%s: %s: %s", method, bad.word, bad.detail)
		return nil, bad
	}
	return c, refusal{}
}

func (s *Server) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// post posts or replaces a message. s.mu is held.
func (s *Server) post(c *call) refusal {
	if c.method == "auth.test" {
		return refusal{}
	}
	id, ch, ok := s.channel(c.Channel)
	if !ok {
		return refusal{word: "channel_not_found"}
	}
	c.Channel = id
	switch {
	case ch.Archived && c.Hook:
		return refusal{word: "channel_is_archived"}
	case ch.Archived:
		return refusal{word: "is_archived"}
	case ch.Outside && !c.Hook:
		return refusal{word: "not_in_channel"}
	}
	if bad := s.limit(c); bad.word != "" {
		return bad
	}
	c.At = time.Now()
	if c.update {
		for i := range s.messages {
			m := &s.messages[i]
			if m.Channel != id || m.TS != c.TS || s.deleted[m.TS] {
				continue
			}
			if m.Hook {
				return refusal{word: "cant_update_message"}
			}
			m.Text, m.Parse, m.Updates, m.At = c.Text, c.Parse, m.Updates+1, c.At
			if c.Blocks != nil {
				m.Blocks = c.Blocks
			}
			if c.Metadata != nil {
				m.Metadata = c.Metadata
			}
			return refusal{}
		}
		return refusal{word: "message_not_found"}
	}
	if c.ThreadTS != "" && !s.isParent(id, c.ThreadTS) {
		c.ThreadTS = "" // Slack posts it as a message of its own
	}
	s.serial++
	c.TS = fmt.Sprintf("1767225600.%06d", s.serial)
	s.messages = append(s.messages, c.Message)
	return refusal{}
}

func (s *Server) isParent(channel, ts string) bool {
	return !s.deleted[ts] && slices.ContainsFunc(s.messages, func(m Message) bool {
		return m.Channel == channel && m.TS == ts && m.ThreadTS == ""
	})
}

func (s *Server) channel(name string) (id string, c Channel, ok bool) {
	if c, ok := s.o.Channels[name]; ok {
		return name, c, true
	}
	for id, c := range s.o.Channels {
		if c.Name != "" && strings.TrimPrefix(name, "#") == c.Name {
			return id, c, true
		}
	}
	return "", Channel{}, false
}

// limit lets a message pass if the channel may have one more. s.mu is held.
func (s *Server) limit(c *call) refusal {
	if s.o.Spacing == 0 {
		return refusal{}
	}
	l := s.lanes[c.Channel]
	if l == nil {
		l = &lane{}
		s.lanes[c.Channel] = l
	}
	now := time.Now()
	word := "ratelimited"
	if c.Hook {
		word = "rate_limited"
	}
	slack := s.o.Spacing * time.Duration(s.o.Burst-1)
	slack += s.o.Spacing / 10 // a message may travel faster than the one before it
	if l.shut.After(now.Add(s.o.Spacing / 10)) {
		s.problems = append(s.problems, fmt.Sprintf("%s: a message %s too early after a 429", c.Channel, l.shut.Sub(now)))
	}
	if l.due.Before(now) {
		l.due = now
	}
	if wait := l.due.Sub(now) - slack; wait > 0 {
		after := time.Duration(math.Ceil(wait.Seconds())) * time.Second
		l.shut = now.Add(after)
		return refusal{word: word, status: http.StatusTooManyRequests, after: after}
	}
	l.due = l.due.Add(s.o.Spacing)
	return refusal{}
}

// Control serves what a test in another process needs: GET /messages, /problems; POST /fail, /reset, /delete?ts=,
// /channel?id= with a Channel.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, what func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, what()) })
	}
	get("/messages", func() any { return s.Messages() })
	get("/problems", func() any { return s.Problems() })
	get("/requests", func() any { return s.Requests() })
	mux.HandleFunc("POST /reset", func(http.ResponseWriter, *http.Request) { s.Reset() })
	mux.HandleFunc("POST /delete", func(_ http.ResponseWriter, r *http.Request) { s.Delete(r.FormValue("ts")) })
	mux.HandleFunc("POST /fail", func(w http.ResponseWriter, r *http.Request) {
		var f Failure
		if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Fail(f)
	})
	mux.HandleFunc("POST /channel", func(w http.ResponseWriter, r *http.Request) {
		var c Channel
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.SetChannel(r.URL.Query().Get("id"), c)
	})
	return mux
}

// writeJSON answers with a value. Who does not wait for the answer does not get it.
func writeJSON(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

// isEmpty reports whether there is no JSON, or an empty value.
func isEmpty(raw json.RawMessage) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", "[]", "{}", `""`:
		return true
	}
	return false
}
