//go:build unix

package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
)

// Line is a line of the file sink, as far as tests ask.
type Line struct {
	ID         string `json:"id"`
	Type       string `json:"type"`
	Subject    string `json:"subject"`
	DeliveryID string `json:"deliveryid"`
	Sequence   string `json:"sequence"`
	Data       struct {
		Number int `json:"number"`
	} `json:"data"`
	Raw json.RawMessage `json:"-"` // the whole line
}

// Lines reads a file of JSON lines in the host's folder; a file that is not there has none. It fails when a line is
// not JSON or the last one has no end.
func (h *Host) Lines(name string) []Line {
	h.t.Helper()
	var all []Line
	for i, raw := range h.RawLines(name) {
		l := Line{Raw: raw}
		if err := json.Unmarshal(raw, &l); err != nil {
			h.t.Fatalf("%s:%d: %v\n%s", name, i+1, err, raw)
		}
		all = append(all, l)
	}
	return all
}

// RawLines reads a file's lines, without their ends.
func (h *Host) RawLines(name string) [][]byte {
	h.t.Helper()
	f, err := os.Open(h.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	var all [][]byte
	for r := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := r.ReadBytes('\n')
		if len(line) == 0 {
			return all
		}
		if err != nil {
			h.t.Fatalf("%s:%d: the line has no end: %v", name, len(all)+1, err)
		}
		all = append(all, line[:len(line)-1])
	}
}
