package conform

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Finding is one thing that a plugin does wrong.
type Finding struct {
	Did      string `json:"did"`      // what the plugin did
	Contract string `json:"contract"` // what the contract says of that
	Do       string `json:"do"`       // how to mend it
}

// String is the finding in one sentence.
func (f Finding) String() string { return f.Did + ", but " + f.Contract + ": " + f.Do }

// Check is one promise that a plugin keeps or breaks.
type Check struct {
	Name string // such as "message" or "samples"
	Run  func(ctx context.Context) []Finding
	// Skip says why the check was not run: what it needs was not given. Run is nil then.
	Skip string
}

// Runner runs one check and shows what it found, before it returns.
type Runner func(Check)

// findings collects what one check finds. It is used from one goroutine.
type findings struct {
	list   []Finding
	redact func(string) string
	more   int
}

// maxFindings of one check are enough to see what is wrong.
const maxFindings = 20

func (f *findings) add(contract, do, did string, args ...any) {
	if len(f.list) >= maxFindings {
		f.more++
		return
	}
	did = fmt.Sprintf(did, args...)
	if f.redact != nil {
		did = f.redact(did)
	}
	found := Finding{Did: did, Contract: contract, Do: do}
	if !slices.Contains(f.list, found) {
		f.list = append(f.list, found)
	}
}

// done is what was found.
func (f *findings) done() []Finding {
	if f.more > 0 {
		last := &f.list[len(f.list)-1]
		last.Did += fmt.Sprintf(" (and %d findings of this check are not shown)", f.more)
	}
	return f.list
}

// clip shortens a text for a finding, to one line.
func clip(text string, most int) string {
	text = strings.TrimSpace(text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.ReplaceAll(text, "\n", "; ")
}
