// Package sse writes answers of server-sent events, with signs of life in between, and reads them.
package sse

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	beatEvery    = 15 * time.Second // between signs of life, for proxies that close what is silent
	writeTimeout = 10 * time.Second // for a client to take what is written to it
	maxLine      = 4 << 20          // bytes of a line that is read
)

// Writer is an answer of server-sent events. It begins with the first of them: until then another answer can be given. Its
// methods may be called from any goroutine.
type Writer struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	ctl   *http.ResponseController
	begun bool
}

// Answer makes an answer.
func Answer(w http.ResponseWriter) *Writer { return &Writer{w: w, ctl: http.NewResponseController(w)} }

// Begun reports whether something of the answer has been written.
func (w *Writer) Begun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begun
}

// Beat calls work, which sends events, and writes signs of life meanwhile. The context of work ends with ctx, or when the
// client does not take a sign of life.
func (w *Writer) Beat(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var beats sync.WaitGroup
	defer beats.Wait()
	defer cancel()
	beats.Go(func() {
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if w.write(": \n\n", false) != nil {
					cancel()
				}
			}
		}
	})
	return work(ctx)
}

// Send writes an event; without an id, a client that comes back asks for what follows the last one that had one. It blocks
// until the client has taken it, 10 s at most; an error says that the client is gone.
func (w *Writer) Send(id, event string, data []byte) error {
	var b strings.Builder
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + event + "\n")
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		// A carriage return would end the line, too.
		b.WriteString("data: " + strings.ReplaceAll(line, "\r", " ") + "\n")
	}
	return w.write(b.String()+"\n", true)
}

// write writes a piece; what does not begin the answer is left out before something has.
func (w *Writer) write(text string, begins bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun {
		if !begins {
			return nil
		}
		w.begun = true
		w.w.Header().Set("Content-Type", "text/event-stream")
		w.w.Header().Set("Cache-Control", "no-store")
		w.w.Header().Set("X-Accel-Buffering", "no") // of a proxy that would wait for more
		text = "retry: 1000\n" + text
	}
	_ = w.ctl.SetWriteDeadline(time.Now().Add(writeTimeout)) // not all writers have one
	if _, err := io.WriteString(w.w, text); err != nil {
		return err
	}
	return w.ctl.Flush()
}

// Read calls report with each event of an answer, until report fails or the answer ends, which is an error: it never does by
// itself.
func Read(r io.Reader, report func(event, data string) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	event := ""
	var data []string
	for lines.Scan() {
		if lines.Text() == "" {
			if data != nil {
				if err := report(event, strings.Join(data, "\n")); err != nil {
					return err
				}
			}
			event, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event = value
		case "data":
			data = append(data, value)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
