//go:build unix

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
)

// history makes a database with n settled requests of long ago, each with an event and a delivery.
func history(b testing.TB, path string, n int) {
	b.Helper()
	s := open(b, Options{Path: path})
	d := oneDelivery(sampleRequest(0), "crm", "").Deliveries[0]
	err := s.do(b.Context(), &op{apply: func(w *writer) error {
		for _, sql := range []string{
			fmt.Sprintf(`CREATE TEMP TABLE n AS
				WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < %d) SELECT n FROM n`, n),
			`INSERT INTO requests (seq, dedupe, repeat, source, tenant, received_at, state, remote_addr, method)
				SELECT n, CAST(substr('................' || n, -16) AS BLOB), 0, 'people', 'acme', n, 'routed', '203.0.113.7', 'POST'
				FROM n`,
			"INSERT INTO dedupe SELECT dedupe, 0, seq FROM requests ORDER BY dedupe",
			fmt.Sprintf("INSERT INTO bodies SELECT n, 'content-type: application/json', CAST('%s' AS BLOB) FROM n", sampleBody),
			`INSERT INTO events (key, type, subject, partition_key, data_offset, data_length)
				SELECT n << 12, 'peopleforce.employee.updated', 'employee/' || n % 50000, 'employee/' || n % 50000, 0, 800 FROM n`,
			fmt.Sprintf(`INSERT INTO deliveries (key, sink, order_key, state, route, replay, attempts, crashes, claims, settled_at,
				reference, config_digest, schema_digest, message)
				SELECT n << 24, 'crm', 'employee/' || n %% 50000, 'delivered', 'new_hires', 0, 1, 0, 0, n, '4711', '%s', '%s', '%s'
				FROM n`, d.ConfigDigest, d.SchemaDigest, d.Message),
			fmt.Sprintf("UPDATE meta SET value = %d WHERE name IN ('indexed_seq', 'routed_seq')", n),
			"DROP TABLE n",
		} {
			if err := w.c.exec(sql); err != nil {
				return err
			}
		}
		w.addCount(requestCounter(core.RequestRouted), int64(n))
		w.addCount(deliveryCounter("crm", core.DeliveryDelivered), int64(n))
		return nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	closeStore(b, s)
}

// acceptFor accepts webhooks at a steady rate for some time, and returns how long they took, sorted. Each begins at its
// time, not after the one before: what waits behind a slow one counts.
func acceptFor(b *testing.B, s *Store, perSecond int, d time.Duration) []time.Duration {
	const senders = 64
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	due := make(chan time.Time, perSecond)
	salt := uint64(time.Now().UnixNano())
	for i := range uint64(senders) {
		wg.Go(func() {
			n := i
			for at := range due {
				n += senders
				if _, err := s.Accept(context.Background(), sampleRequest(salt+n)); err != nil {
					b.Error(err)
				}
				d := time.Since(at)
				mu.Lock()
				took = append(took, d)
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	for i := range int(d.Seconds() * float64(perSecond)) {
		at := began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(at))
		due <- at
	}
	close(due)
	wg.Wait()
	slices.Sort(took)
	return took
}

// BenchmarkAcceptBeside accepts 1000 webhooks a second, second by second with nothing beside and while old requests are
// purged, until 200 000 are; likewise while people are erased, with as many requests in the database. Of the seconds of a
// kind it reports the median, and how much of the other work was done in one.
func BenchmarkAcceptBeside(b *testing.B) {
	const rows = 200_000
	b.Run("purge", func(b *testing.B) {
		besideAccepts(b, rows, "purged/s", rows, func(ctx context.Context, s *Store) (int, error) {
			return s.Purge(ctx, store.Retention{Before: time.UnixMicro(rows + 1)})
		})
	})
	b.Run("erase", func(b *testing.B) {
		next := 0
		besideAccepts(b, rows, "erased/s", 10, func(ctx context.Context, s *Store) (n int, err error) {
			for ; err == nil; n++ {
				next++
				_, err = s.Erase(ctx, store.Erasure{Subject: fmt.Sprintf("employee/%d", next)}, nil)
			}
			return n - 1, err
		})
	})
}

// besideAccepts goes on until other work, on a database with some history, has come to a sum. The work ends with its context,
// which is no error, and goes on where it was.
func besideAccepts(b *testing.B, rows int, unit string, until int, work func(context.Context, *Store) (int, error)) {
	path := filepath.Join(b.TempDir(), "grapnel.db")
	history(b, path, rows)
	s := open(b, Options{Path: path})
	defer closeStore(b, s)
	acceptFor(b, s, 1000, time.Second)
	var p50, p99 [2][]time.Duration
	sum, seconds := 0, 0
	for ; sum < until; seconds++ {
		for kind := range 2 {
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan error)
			go func() {
				if kind == 0 {
					done <- nil
					return
				}
				n, err := work(ctx, s)
				sum += n
				done <- err
			}()
			took := acceptFor(b, s, 1000, time.Second)
			stop()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				b.Fatal(err)
			}
			p50[kind] = append(p50[kind], took[len(took)/2])
			p99[kind] = append(p99[kind], took[len(took)*99/100])
		}
	}
	median := func(ds []time.Duration) float64 {
		slices.Sort(ds)
		return float64(ds[len(ds)/2].Microseconds()) / 1000
	}
	for kind, name := range []string{"alone", "beside"} {
		b.ReportMetric(median(p50[kind]), name+"-p50-ms")
		b.ReportMetric(median(p99[kind]), name+"-p99-ms")
	}
	b.ReportMetric(float64(sum)/float64(seconds), unit)
}
