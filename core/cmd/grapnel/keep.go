package main

import (
	"context"
	"time"

	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/store"
)

const (
	diskEvery  = time.Second
	firstPurge = time.Minute // after the start
	purgeEvery = 10 * time.Minute
)

// watchDisk looks how much room there is, now and then.
func (h *host) watchDisk(ctx context.Context) {
	disk := time.NewTicker(diskEvery)
	defer disk.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-disk.C:
			h.checkDisk()
		}
	}
}

// purge deletes what is past its retention, now and then.
func (h *host) purge(ctx context.Context) {
	timer := time.NewTimer(firstPurge)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if n, err := h.store.Purge(ctx, retention(h.config(), time.Now())); err != nil && ctx.Err() == nil {
			h.log.Error("cannot delete old requests", "error", err)
		} else if n > 0 {
			h.log.Info("old requests were deleted", "requests", n)
		}
		timer.Reset(purgeEvery)
	}
}

// retention turns the spans of a configuration into times.
func retention(cfg *config.Config, now time.Time) store.Retention {
	r := store.Retention{
		Before: now.Add(-cfg.Storage.Retention), BeforeOf: map[string]time.Time{},
		StateBefore: now.Add(-cfg.Storage.StateRetention),
	}
	for source, span := range cfg.Retention {
		r.BeforeOf[source] = now.Add(-span)
	}
	return r
}

// checkDisk stops accepting when the disk is short, and dispatching before outcomes could no longer be stored.
func (h *host) checkDisk() {
	free, err := h.store.FreeBytes()
	if err != nil {
		h.log.Error("cannot see how much disk is free", "error", err)
		return
	}
	short := free < h.config().Storage.MinFree
	if was := h.short.Swap(short); was != short {
		if short {
			h.log.Error("the disk is short, webhooks are refused", "free_bytes", free, "min_free_bytes", h.config().Storage.MinFree)
		} else {
			h.log.Info("the disk has room again", "free_bytes", free)
		}
	}
	h.engine.Hold(free < h.config().Storage.MinFree/4)
}
