package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/grapnelhq/grapnel/core/store"
)

// Sinks implements store.Store.
func (s *Store) Sinks(ctx context.Context) (map[string]store.SinkState, error) {
	all := map[string]store.SinkState{}
	err := s.read(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT sink, active, paused_at, pause_reason FROM sinks")
		if err != nil {
			return err
		}
		return st.rows(func() bool {
			all[st.ColumnText(0)] = store.SinkState{
				Active: time.Duration(st.ColumnInt64(1)) * time.Microsecond, PausedAt: st.readTime(2), PauseReason: st.ColumnText(3),
			}
			return true
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the sinks: %w", err)
	}
	return all, nil
}

// PauseSink implements store.Store.
func (s *Store) PauseSink(ctx context.Context, sink, reason string, at time.Time) error {
	return s.writeSink(ctx, true, `INSERT INTO sinks (sink, paused_at, pause_reason) VALUES (?1, ?2, ?3)
		ON CONFLICT (sink) DO UPDATE SET paused_at = excluded.paused_at,
			pause_reason = coalesce(excluded.pause_reason, pause_reason)`,
		func(st *stmt) {
			st.BindText(1, sink)
			st.int(2, at.UnixMicro())
			st.text(3, reason)
		})
}

// ResumeSink implements store.Store.
func (s *Store) ResumeSink(ctx context.Context, sink string) error {
	return s.writeSink(ctx, true, "UPDATE sinks SET paused_at = NULL, pause_reason = NULL WHERE sink = ?",
		func(st *stmt) { st.BindText(1, sink) })
}

// SaveActive implements store.Store.
func (s *Store) SaveActive(ctx context.Context, sink string, active time.Duration) error {
	return s.writeSink(ctx, false, `INSERT INTO sinks (sink, active) VALUES (?, ?)
		ON CONFLICT (sink) DO UPDATE SET active = excluded.active`,
		func(st *stmt) {
			st.BindText(1, sink)
			st.int(2, active.Microseconds())
		})
}

func (s *Store) writeSink(ctx context.Context, durable bool, sql string, bind func(*stmt)) error {
	err := s.do(ctx, &op{durable: durable, weight: 1, apply: func(w *writer) error {
		st, err := w.c.stmt(sql)
		if err != nil {
			return err
		}
		bind(st)
		return st.run()
	}})
	if err != nil {
		return fmt.Errorf("store the state of a sink: %w", err)
	}
	return nil
}
