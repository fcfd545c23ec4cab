package main

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/grapnelhq/grapnel/core/doctor"
)

// What is asked about a host's health costs a read a second and a durable write every few seconds at most, whoever asks.
const (
	aliveEvery = time.Second
	writeEvery = 5 * time.Second
	// healthPatience is below the time that who asks mostly waits: longer than that is not well.
	healthPatience = 4 * time.Second
)

// health is what a host knows of its own health.
type health struct {
	stage  atomic.Int32
	alive  *doctor.Probe // the store and the engine answer
	write  *doctor.Probe // a write to the store is durable
	failed atomic.Bool   // the last write was not
}

func newHealth(h *host) *health {
	return &health{
		alive: &doctor.Probe{Every: aliveEvery, Patience: healthPatience, Check: func(ctx context.Context) error {
			if _, err := h.store.Sinks(ctx); err != nil {
				return err
			}
			_ = h.engine.Status() // it takes the lock of every sink
			return nil
		}},
		write: &doctor.Probe{Every: writeEvery, Patience: healthPatience, Check: func(ctx context.Context) error {
			return h.store.SaveState(ctx, "health", []byte(time.Now().UTC().Format(time.RFC3339)))
		}},
	}
}

// enter tells that the host has come to a stage. What the checks need is there from Running on.
func (v *health) enter(s doctor.Stage) { v.stage.Store(int32(s)) }

// live says why the host should be started again.
func (h *host) live(ctx context.Context) []string {
	v := doctor.Vitals{Stage: doctor.Stage(h.health.stage.Load())}
	if v.Stage == doctor.Running {
		v.Alive = h.health.alive.Ask(ctx)
	}
	return v.Live()
}

// ready says why nobody should send webhooks to the host now.
func (h *host) ready(ctx context.Context) []string {
	v := doctor.Vitals{Stage: doctor.Stage(h.health.stage.Load())}
	if v.Stage != doctor.Running {
		return v.Ready()
	}
	v.Alive, v.Write, v.Short = h.health.alive.Ask(ctx), h.health.write.Ask(ctx), h.short.Load()
	if failed := v.Write != nil; ctx.Err() == nil && h.health.failed.Swap(failed) != failed {
		if failed {
			h.log.Error("the store cannot be written, the host is not ready", "error", v.Write)
		} else {
			h.log.Info("the store can be written again")
		}
	}
	sources := h.current.Load().sources
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if sources[name].Reason() != "" {
			v.NotReady = append(v.NotReady, name)
		}
	}
	return v.Ready()
}
