package sse

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	rec := httptest.NewRecorder()
	w := Answer(rec)
	if w.Begun() {
		t.Error("it has begun")
	}
	for _, data := range []string{"{}", "two\nlines\r\n", ""} {
		if err := w.Send("a-1", "change", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if got := rec.Header().Get("Content-Type"); got != "text/event-stream" || !w.Begun() {
		t.Errorf("%s, %t", got, w.Begun())
	}
	var got []string
	err := Read(rec.Body, func(event, data string) error {
		got = append(got, event+" "+data)
		return nil
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"change {}", "change two\nlines ", "change "}, got); d != "" {
		t.Error(d)
	}
}

// TestBeat waits with signs of life until something is said, and ends what is under way with the client.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		w := Answer(rec)
		err := w.Beat(t.Context(), func(ctx context.Context) error {
			time.Sleep(beatEvery + time.Second)
			if w.Begun() {
				t.Error("a sign of life is no answer")
			}
			if err := w.Send("", "change", nil); err != nil {
				return err
			}
			time.Sleep(2 * beatEvery)
			return ctx.Err()
		})
		if beats := strings.Count(rec.Body.String(), "\n: \n"); err != nil || beats != 2 {
			t.Errorf("%d signs of life, %v", beats, err)
		}
	})
	w := Answer(gone{httptest.NewRecorder()})
	if err := w.Send("", "change", nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := w.Beat(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// gone is a client that has hung up.
type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error)       { return 0, io.ErrClosedPipe }
func (gone) WriteString(string) (int, error) { return 0, io.ErrClosedPipe }

// FuzzRead checks that no stream of events makes a client fail in another way than with an error.
func FuzzRead(f *testing.F) {
	f.Add("retry: 1\n: \n\nid: a-1\nevent: request\ndata: {}\n\n")
	f.Add("data: {}\ndata: {}\n\ndata\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if err := Read(strings.NewReader(text), func(string, string) error { return nil }); err == nil {
			t.Error("a stream that ends is no error")
		}
	})
}
