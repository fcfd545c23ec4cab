package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
)

// Handle is what Sink and Decoder have in common: one configured block. It is the same for as long as the block is open,
// while the instance behind it changes with the plugin's version.
type Handle struct {
	h             *Host
	kind          core.PluginKind
	plugin, block string
	isolated      bool
	config        []byte           // as the block was opened
	manifest      *sdk.Provider    // what the endpoint was made from, if not from the plugin's own
	made          *core.PluginInfo // what the configuration was decoded for, and routes and endpoints were compiled for

	at atomic.Pointer[instance]

	mu     sync.Mutex
	moved  chan struct{} // closed and replaced when at changes
	closed bool
}

// enter begins a use of the block, in the instance where it is now; the caller ends it with calls.exit. All of a use,
// quarantine included, happens in that instance, so that who moves the block knows when the old one is left alone.
func (hd *Handle) enter() (*instance, error) {
	for {
		i := hd.at.Load()
		entered := i.calls.enter()
		if hd.at.Load() == i {
			if !entered {
				return nil, fmt.Errorf("%w: %s is closed", ErrNotReady, i.block)
			}
			return i, nil
		}
		if entered { // It moved in between: whoever moved it may not have seen this use.
			i.calls.exit()
		}
	}
}

// move puts the block into another instance; false: it was closed. Uses that began before stay where they are.
func (hd *Handle) move(to *instance) bool {
	hd.mu.Lock()
	defer hd.mu.Unlock()
	if hd.closed {
		return false
	}
	hd.at.Store(to)
	close(hd.moved)
	hd.moved = make(chan struct{})
	return true
}

// WaitReady returns nil when a call makes sense, or an error that wraps ErrNotReady and ctx's when ctx is done.
func (hd *Handle) WaitReady(ctx context.Context) error {
	for {
		hd.mu.Lock()
		i, moved := hd.at.Load(), hd.moved
		hd.mu.Unlock()
		err := i.waitReady(ctx, moved)
		if hd.at.Load() == i && !errors.Is(err, errMoved) {
			return err
		}
	}
}

// State is the state of the process that the block lives in.
func (hd *Handle) State() State { return hd.at.Load().p.state() }

// Reason says why the block is not ready; empty if it is.
func (hd *Handle) Reason() string { return hd.at.Load().why() }

// Check asks the plugin to reach the far end: credentials, permissions. The error says that this was not possible now.
func (hd *Handle) Check(ctx context.Context) ([]sdk.AttributeError, error) {
	i, err := hd.enter()
	if err != nil {
		return nil, err
	}
	defer i.calls.exit()
	return i.check(ctx)
}

// Close ends the block's use of the plugin: it awaits its calls until ctx is done, then closes it in its process,
// which is stopped when that was its last. The handle is of no use afterwards.
func (hd *Handle) Close(ctx context.Context) error {
	hd.mu.Lock()
	hd.closed = true
	i := hd.at.Load()
	hd.mu.Unlock()
	hd.h.mu.Lock()
	delete(hd.h.handles, hd)
	hd.h.mu.Unlock()
	return i.close(ctx)
}
