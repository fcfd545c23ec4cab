package sqlite

import (
	"context"
	"fmt"
)

// SaveState implements store.Store.
func (s *Store) SaveState(ctx context.Context, name string, value []byte) error {
	err := s.do(ctx, &op{durable: true, weight: 1, apply: func(w *writer) error {
		st, err := w.c.stmt(`INSERT INTO host_state (name, value) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`)
		if err != nil {
			return err
		}
		st.BindText(1, name)
		st.BindBytes(2, value)
		return st.run()
	}})
	if err != nil {
		return fmt.Errorf("store the state of %s: %w", name, err)
	}
	return nil
}

// LoadState implements store.Store.
func (s *Store) LoadState(ctx context.Context, name string) (value []byte, err error) {
	err = s.read(ctx, func(c *conn) error {
		st, err := c.stmt("SELECT value FROM host_state WHERE name = ?")
		if err != nil {
			return err
		}
		st.BindText(1, name)
		_, err = st.row(func() { value = st.readBytes(0) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", name, err)
	}
	return value, nil
}
