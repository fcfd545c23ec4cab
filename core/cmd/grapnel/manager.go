package main

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The host tells the service manager that started it how it is: systemd, for units of Type=notify. Without NOTIFY_SOCKET in the
// environment nothing of this does anything.

// tellManager passes a state on, as sd_notify(3) describes them. The host works as well when nobody listens.
func (h *host) tellManager(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		h.log.Warn("cannot tell the service manager how the host is", "error", err)
	}
}

// tellReady says that the host works, by what configuration, and how the newest reload ended.
func (h *host) tellReady() {
	cfg := h.config()
	status := fmt.Sprintf("%d sources, %d sinks, %d routes", len(cfg.Sources), len(cfg.Sinks), len(cfg.Routes))
	if _, failed, _ := h.reloads.state(); failed != nil {
		status += "; the newest reload failed, the configuration before it runs"
	}
	h.tellManager(daemon.SdNotifyReady + "\nSTATUS=" + status)
}

// feedWatchdog tells the manager, twice in its interval, that the host is alive, until ctx ends. A host whose store or engine
// does not answer any more says nothing, and is ended and started again.
func (h *host) feedWatchdog(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		h.log.Warn("cannot read the service manager's watchdog interval", "error", err)
	}
	if interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if err := h.health.alive.Ask(ctx); err == nil {
			h.tellManager(daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			h.log.Error("the store or the engine does not answer, the watchdog is not fed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
