package doctor

import (
	"errors"
	"fmt"

	"github.com/grapnelhq/grapnel/core/store"
)

// Stage is how far a host has come.
type Stage int32

// The stages, in their order.
const (
	Starting Stage = iota
	Running
	Stopping
)

// Vitals are what a host is judged by while it runs.
type Vitals struct {
	Stage Stage
	Alive error // reading from the store and asking the engine; nil: both answered
	// Only for readiness, and only of a running host:
	Write    error    // writing to the store; nil: it was durable
	Short    bool     // of disk
	NotReady []string // sources whose plugins are not ready
}

// Live says why the process should be ended and started again; nothing: it should not. A host that starts or stops is at
// work. The reasons are for anybody: they name sources and nothing else.
func (v Vitals) Live() []string {
	if v.Alive != nil && v.Stage == Running {
		return []string{"the store or the engine does not answer"}
	}
	return nil
}

// Ready says why webhooks should not be sent to the host now; nothing: they should.
func (v Vitals) Ready() []string {
	switch v.Stage {
	case Starting:
		return []string{"the host starts"}
	case Stopping:
		return []string{"the host stops"}
	case Running:
	}
	reasons := v.Live()
	switch {
	case errors.Is(v.Write, store.ErrFull):
		reasons = append(reasons, "the disk is full")
	case v.Write != nil:
		reasons = append(reasons, "the store cannot be written")
	case v.Short:
		reasons = append(reasons, "the disk is short")
	}
	for _, s := range v.NotReady {
		reasons = append(reasons, fmt.Sprintf("source %q: its plugin is not ready", s))
	}
	return reasons
}
