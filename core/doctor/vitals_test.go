package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/doctor"
	"github.com/grapnelhq/grapnel/core/store"
)

func TestVitals(t *testing.T) {
	bad := errors.New("/data/secret.db: input/output error")
	for name, c := range map[string]struct {
		v           doctor.Vitals
		live, ready []string
	}{
		"well":     {v: doctor.Vitals{Stage: doctor.Running}},
		"starting": {v: doctor.Vitals{Alive: bad}, ready: []string{"the host starts"}},
		"stopping": {v: doctor.Vitals{Stage: doctor.Stopping, Write: bad}, ready: []string{"the host stops"}},
		"stuck": {
			v:     doctor.Vitals{Stage: doctor.Running, Alive: bad},
			live:  []string{"the store or the engine does not answer"},
			ready: []string{"the store or the engine does not answer"},
		},
		"not writable": {v: doctor.Vitals{Stage: doctor.Running, Write: bad}, ready: []string{"the store cannot be written"}},
		"full": {
			v:     doctor.Vitals{Stage: doctor.Running, Write: fmt.Errorf("x: %w", store.ErrFull), Short: true},
			ready: []string{"the disk is full"},
		},
		"several": {
			v: doctor.Vitals{Stage: doctor.Running, Short: true, NotReady: []string{"crm", "hr"}},
			ready: []string{
				"the disk is short", `source "crm": its plugin is not ready`, `source "hr": its plugin is not ready`,
			},
		},
	} {
		if diff := cmp.Diff(c.live, c.v.Live()); diff != "" {
			t.Errorf("%s: live (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(c.ready, c.v.Ready()); diff != "" {
			t.Errorf("%s: ready (-want +got):\n%s", name, diff)
		}
	}
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		result, slow := errors.New("broken"), make(chan struct{})
		stuck := false
		p := &doctor.Probe{Every: 5 * time.Second, Patience: 2 * time.Second, Check: func(ctx context.Context) error {
			checks.Add(1)
			if stuck {
				<-slow // whatever its context says
			}
			time.Sleep(time.Second)
			return result
		}}
		ask := func(want error, checked int32, after time.Duration) {
			t.Helper()
			began := time.Now()
			if err := p.Ask(t.Context()); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			if n, took := checks.Load(), time.Since(began); n != checked || took != after {
				t.Errorf("%d checks after %s, want %d after %s", n, took, checked, after)
			}
		}
		for range 10 {
			go func() { _ = p.Ask(t.Context()) }()
		}
		ask(result, 1, time.Second)
		ask(result, 1, 0)
		time.Sleep(5 * time.Second)
		result, stuck = nil, true
		ask(doctor.ErrNoAnswer, 2, 2*time.Second)
		ask(doctor.ErrNoAnswer, 2, 0)
		time.Sleep(time.Hour)
		ask(doctor.ErrNoAnswer, 2, 0) // no further one begins
		close(slow)
		time.Sleep(2 * time.Second)
		ask(nil, 2, 0)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.Sleep(5 * time.Second)
		gone := errors.New("gone")
		cancel(gone)
		if err := p.Ask(ctx); !errors.Is(err, gone) {
			t.Errorf("%v, want %v", err, gone)
		}
		time.Sleep(time.Minute)
	})
}
