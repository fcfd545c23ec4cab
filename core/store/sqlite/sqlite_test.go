//go:build unix

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/core/store/storetest"
	"github.com/grapnelhq/grapnel/sdk"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, o storetest.Options) store.Store {
			path := filepath.Join(o.Dir, "grapnel.db")
			t.Cleanup(func() { verify(t, path) })
			return open(t, Options{
				Path: path, DedupeWindow: o.DedupeWindow, OnAccepted: o.OnAccepted, OnErased: o.OnErased,
			})
		},
		Crash: func(t *testing.T, s store.Store) { s.(*Store).crash(t) },
	})
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// crash ends a store without a word to the database.
func (s *Store) crash(t *testing.T) {
	s.closing.Lock()
	s.closed = true
	s.stop()
	close(s.writer.queue)
	s.closing.Unlock()
	s.work.Wait()
	for range readers {
		if err := (<-s.readers).Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.closeFiles(); err != nil {
		t.Error(err)
	}
}

// verify checks what holds of every database that no host is using, whatever happened to it.
func verify(t *testing.T, path string) {
	t.Helper()
	c, err := openConn(path, readerCacheKiB)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	verifyFilters(t, c)
	for what, query := range map[string]string{
		"integrity": "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
		"counters": `
			WITH counted (kind, label, value) AS (
				SELECT 'requests.' || state, '', count(*) FROM requests WHERE purged_at IS NULL GROUP BY state
				UNION ALL SELECT 'deliveries.' || iif(state = 'leased', 'pending', state), sink, count(*)
					FROM deliveries GROUP BY 1, 2
				UNION ALL SELECT 'unrouted', type, count(*) FROM events AS e
					WHERE NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.key >= e.key << 12 AND d.key < (e.key + 1) << 12)
					GROUP BY type
				UNION ALL SELECT 'held', sink, count(*) FROM held GROUP BY sink)
			SELECT kind || ' ' || label || ' ' || coalesce(counted.value, 0) || ' counted ' || coalesce(counters.value, 0)
			FROM counted FULL JOIN (SELECT * FROM counters WHERE kind <> 'rejections') AS counters USING (kind, label)
			WHERE coalesce(counted.value, 0) <> coalesce(counters.value, 0)`,
		"the first of an order key is not the one with a due time": `
			SELECT sink || ' ' || order_key || ' ' || key FROM deliveries AS d WHERE state = 'pending' AND
				(due IS NOT NULL) <> (order_key IS NULL OR NOT EXISTS (SELECT 1 FROM deliveries AS f
					WHERE f.sink = d.sink AND f.order_key = d.order_key AND f.state = 'pending' AND f.key < d.key
					UNION ALL SELECT 1 FROM held AS h
					WHERE h.sink = d.sink AND h.order_key = d.order_key AND h.delivery < d.key))`,
		"what holds an order key is not dead": `
			SELECT h.delivery FROM held AS h LEFT JOIN deliveries AS d ON d.key = h.delivery
			WHERE d.state IS NOT 'dead' OR d.sink <> h.sink OR d.order_key <> h.order_key`,
		"a settled delivery has a due time": "SELECT key FROM deliveries WHERE state <> 'pending' AND due IS NOT NULL",
		"orphans": `
			SELECT 'body ' || seq FROM bodies WHERE seq NOT IN (SELECT seq FROM requests WHERE purged_at IS NULL)
			UNION ALL SELECT 'request ' || seq FROM requests WHERE purged_at IS NULL AND seq NOT IN (SELECT seq FROM bodies)
			UNION ALL SELECT 'event ' || key FROM events WHERE key >> 12 NOT IN (SELECT seq FROM bodies)
			UNION ALL SELECT 'delivery ' || key FROM deliveries WHERE key >> 12 NOT IN (SELECT key FROM events)
			UNION ALL SELECT 'attempt ' || delivery FROM attempts WHERE delivery NOT IN (SELECT key FROM deliveries)`,
		"an indexed request is not in dedupe": `
			SELECT r.seq FROM requests AS r LEFT JOIN dedupe AS d ON d.key = r.dedupe AND d.repeat = r.repeat
			WHERE d.seq IS NOT r.seq AND r.seq <= (SELECT value FROM meta WHERE name = 'indexed_seq')`,
		"a received request is not above routed_seq": `
			SELECT seq FROM requests WHERE state = 'received' AND seq <= (SELECT value FROM meta WHERE name = 'routed_seq')`,
		"a key of no request": `
			SELECT d.seq FROM dedupe AS d LEFT JOIN requests AS r ON r.seq = d.seq
			WHERE r.dedupe IS NOT d.key OR r.repeat IS NOT d.repeat`,
		"two requests have the same key": "SELECT max(seq) FROM requests GROUP BY dedupe, repeat HAVING count(*) > 1",
	} {
		st, err := c.stmt(query)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.rows(func() bool { t.Errorf("%s: %s", what, st.ColumnText(0)); return true }); err != nil {
			t.Fatal(err)
		}
	}
}

// verifyFilters checks that everything is in the filter of its stretch, if that has one.
func verifyFilters(t *testing.T, c *conn) {
	t.Helper()
	st, err := c.stmt("SELECT block, filter FROM event_filters")
	if err != nil {
		t.Fatal(err)
	}
	err = st.rows(func() bool {
		var f filter
		st.ColumnBytes(1, f[:])
		block := st.ColumnInt64(0)
		for _, q := range filtered {
			rows, err := c.stmt(q.sql)
			if err != nil {
				t.Fatal(err)
			}
			rows.int(1, block<<filterShift<<q.shift)
			rows.int(2, (block+1)<<filterShift<<q.shift)
			if err := rows.rows(func() bool {
				for i, kind := range q.kinds {
					v := rows.ColumnText(i)
					if v != "" && !f.has(hashOf(kind, v)) || kind == ofType && !f.has(hashOf(ofPrefix, firstSegment(v))) {
						t.Errorf("filter %d lacks %c %s", block, kindBytes[kind], v)
					}
				}
				return true
			}); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path})
	n := uint64(0)
	add := func(subject string, route bool) *core.Request {
		t.Helper()
		n++
		r := sampleRequest(n)
		if _, err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if route {
			d := oneDelivery(r, "crm", "")
			d.Events[0].Subject = subject
			if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	jump := func(seq int64) {
		t.Helper()
		set := func(w *writer) error { w.lastSeq = seq; return nil }
		if err := s.do(t.Context(), &op{alone: true, apply: set}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]int{}
	subject := func(i int) string {
		v := fmt.Sprintf("employee/%d", i)
		want[v]++
		return v
	}
	const blocks = 9
	var late []*core.Request
	for b := range blocks {
		jump(int64(b)<<filterShift + 1000)
		for i := range 20 {
			add(subject(1000*b+i), true)
			add(subject(7), true)
		}
		late = append(late, add("", false))
		switch b {
		case 3:
			closeStore(t, s)
			verify(t, path)
			s = open(t, Options{Path: path})
		case 5:
			s.crash(t)
			s = open(t, Options{Path: path})
		}
	}
	for i, r := range late { // in stretches whose filters are written
		d := oneDelivery(r, "crm", "")
		d.Events[0].Subject = subject(500_000 + i)
		bad := oneDelivery(r, "crm", "")
		bad.Deliveries = append(bad.Deliveries, bad.Deliveries[0])
		if s.Route(t.Context(), []*store.Decision{bad}) == nil {
			t.Fatal("two deliveries with one key were stored")
		}
		if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for subject, n := range want {
			got, cursor := 0, ""
			for {
				ds, next, err := s.ListDeliveries(t.Context(), store.DeliveryFilter{Subject: subject, Limit: 7, Cursor: cursor})
				if err != nil {
					t.Fatal(err)
				}
				got += len(ds)
				if cursor = next; next == "" {
					break
				}
			}
			if got != n {
				t.Errorf("%d deliveries of %s, want %d", got, subject, n)
			}
		}
	}
	check()
	closeStore(t, s)
	verify(t, path)
	s = open(t, Options{Path: path})
	check()
	rows, looked := 0, 0
	err := s.read(t.Context(), func(c *conn) error {
		st, err := c.stmt("SELECT count(*) FROM event_filters")
		if err != nil {
			return err
		}
		if _, err := st.row(func() { rows = st.ColumnInt(0) }); err != nil {
			return err
		}
		last := int64(-1)
		_, err = s.walk(c, walk{
			shift: 12, seqs: bounds{0, 1 << 30}, before: math.MaxInt64, jump: "SELECT max(key) FROM events WHERE key < ?",
			all: []uint64{hashOf(ofSubject, "employee/4003")},
		}, func(from, _ int64) (bool, error) {
			if block := from >> 12 >> filterShift; block != last {
				last = block
				looked++
			}
			return false, nil
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows < blocks-openFilters || looked > 1+blocks-rows { // those that were open in the crash were lost
		t.Errorf("%d filters of %d, looked into %d stretches for one subject", rows, blocks, looked)
	}
	closeStore(t, s)
	// What the hash is, is written in databases.
	if h := hash('s', "employee/4101"); h != 0x5f3889815e02e2fe {
		t.Errorf("hash %#x", h)
	}
}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	path := filepath.Join(dir, "grapnel.db")
	s := open(t, Options{Path: path})
	if _, err := s.Accept(t.Context(), sampleRequest(1)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		"": 0o700, "grapnel.db": 0o600, "grapnel.db-wal": 0o600, "grapnel.db-shm": 0o600, "grapnel.lock": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %o, want %o", name, got, want)
		}
	}
	_, err := Open(t.Context(), Options{Path: path})
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("opened twice: %v", err)
	}
	closeStore(t, s)
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a closed database is not one file: %v", err)
	}
	closeStore(t, open(t, Options{Path: path}))

	for name, prepare := range map[string]func(path string) string{
		"newer": func(path string) string {
			closeStore(t, open(t, Options{Path: path}))
			script(t, path, "PRAGMA user_version = 99")
			return store.ErrNewer.Error()
		},
		"foreign": func(path string) string {
			script(t, path, "CREATE TABLE t (a)")
			return "another program"
		},
		"foreign with a version": func(path string) string {
			script(t, path, "CREATE TABLE t (a)", "PRAGMA user_version = 1")
			return "another program"
		},
		"no database": func(path string) string {
			if err := os.WriteFile(path, []byte(strings.Repeat("no database at all\n", 500)), 0o600); err != nil {
				t.Fatal(err)
			}
			return "not a database"
		},
		"a folder": func(path string) string {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return "is a directory"
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "grapnel.db")
			want := prepare(path)
			for range 2 { // and the folder is not left locked
				s, err := Open(t.Context(), Options{Path: path})
				if err == nil {
					closeStore(t, s)
				}
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
	if _, err := Open(t.Context(), Options{Path: ":memory:"}); err == nil {
		t.Error("a database in memory was opened")
	}
}

func script(t *testing.T, path string, queries ...string) {
	t.Helper()
	c, err := openConn(path, readerCacheKiB)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		if err := c.exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMigrationBackup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	r := sampleRequest(1)
	s := open(t, Options{Path: path})
	if _, err := s.Accept(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	files := fstest.MapFS{
		"migrations/9998_good.sql": {Data: []byte("ALTER TABLE requests ADD COLUMN more TEXT;\n")},
		"migrations/9999_bad.sql":  {Data: []byte("CREATE TABLE half (a);\nCREATE TABLE half (a);\n")},
	}
	own, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range own {
		name := "migrations/" + f.Name()
		if !strings.HasPrefix(f.Name(), fmt.Sprintf("%04d_", i+1)) {
			t.Errorf("%s is number %d", f.Name(), i+1)
		}
		script, err := migrationFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: script}
	}
	c, err := openConn(path, readerCacheKiB)
	if err != nil {
		t.Fatal(err)
	}
	err = migrate(t.Context(), c, path, files, hclog.NewNullLogger())
	if err == nil || !strings.Contains(err.Error(), "9999_bad") {
		t.Errorf("got %v", err)
	}
	version, err := pragma(c, "user_version")
	if err != nil || version != int64(len(own))+1 {
		t.Errorf("version %d after a failed migration from %d, %v", version, len(own)+1, err)
	}
	if _, err := c.Prepare("SELECT * FROM half"); err == nil {
		t.Error("half a migration was kept")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	backups, err := filepath.Glob(fmt.Sprintf("%s.v%d-*.backup", path, len(own)))
	if err != nil || len(backups) != 1 {
		t.Fatalf("backups %v, %v", backups, err)
	}
	info, err := os.Stat(backups[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup is %v, %v", info, err)
	}
	old := filepath.Join(t.TempDir(), "grapnel.db")
	if err := os.Rename(backups[0], old); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: old})
	defer closeStore(t, s)
	if _, err := s.GetRequest(t.Context(), r.ID()); err != nil {
		t.Errorf("from the backup: %v", err)
	}
}

// hold keeps the writer busy until the returned function is called, so that what is queued meanwhile makes one group.
func hold(t *testing.T, s *Store) (release func()) {
	held, free := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.do(context.Background(), &op{alone: true, apply: func(*writer) error {
			close(held)
			<-free
			return nil
		}}); err != nil {
			t.Error(err)
		}
	})
	<-held
	return func() {
		close(free)
		wg.Wait()
	}
}

// group runs calls concurrently so that the writer gets them as one group, in this order, and returns their errors.
func group(t *testing.T, s *Store, calls ...func() error) []error {
	release := hold(t, s)
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { errs[i] = call() })
		for len(s.writer.queue) <= i {
			time.Sleep(time.Millisecond)
		}
	}
	release()
	wg.Wait()
	return errs
}

func TestFailingRowInGroup(t *testing.T) {
	var accepted []*core.Request
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path, OnAccepted: func(rs []*core.Request) { accepted = append(accepted, rs...) }})
	accept := func(r *core.Request, want store.Acceptance) func() error {
		return func() error {
			a, err := s.Accept(context.Background(), r)
			if err == nil && a != want {
				err = fmt.Errorf("%s, want %s", a, want)
			}
			return err
		}
	}
	first := sampleRequest(1)
	if err := accept(first, store.Accepted)(); err != nil {
		t.Fatal(err)
	}
	bad := oneDelivery(first, "crm", "k")
	bad.Deliveries = append(bad.Deliveries, bad.Deliveries[0])
	bad.Lease = []store.Lease{store.LeaseAlways, store.LeaseAlways}
	r1, r2, again := sampleRequest(2), sampleRequest(3), sampleRequest(2)
	if err := s.do(t.Context(), &op{alone: true, apply: func(w *writer) error {
		return w.c.exec("PRAGMA foreign_keys = ON") // for failAtCommit
	}}); err != nil {
		t.Fatal(err)
	}
	before := s.commits.Load()
	errs := group(t, s,
		accept(r1, store.Accepted),
		accept(again, store.Duplicate),
		func() error { return s.Route(context.Background(), []*store.Decision{bad}) },
		// Fails at COMMIT, not at a statement.
		func() error { return s.do(context.Background(), &op{apply: failAtCommit}) },
		accept(r2, store.Accepted),
	)
	for i, err := range errs {
		if failed := i == 2 || i == 3; (err != nil) != failed {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	if d := cmp.Diff([]*core.Request{first, r1, r2}, accepted); d != "" {
		t.Errorf("OnAccepted (-want +got)\n%s", d)
	}
	if r1.Seq != first.Seq+1 || r2.Seq != first.Seq+2 {
		t.Errorf("sequences %d %d %d", first.Seq, r1.Seq, r2.Seq)
	}
	if n := s.commits.Load() - before; n != 3 {
		t.Errorf("%d commits, want one by one the 3 that can be", n)
	}
	good := oneDelivery(first, "crm", "k")
	good.Lease = nil
	if err := s.Route(t.Context(), []*store.Decision{good}); err != nil {
		t.Fatal(err)
	}
	ds, b, err := s.ClaimDeliveries(t.Context(), "crm", time.Now().Add(time.Hour), 5, false)
	if err != nil || len(ds) != 1 || b.Left {
		t.Errorf("the failed decision left leases behind: %d claimed, %+v, %v", len(ds), b, err)
	}
	closeStore(t, s)
	verify(t, path)
}

// failAtCommit breaks a deferred constraint, which is seen no earlier than by COMMIT.
func failAtCommit(w *writer) error {
	for _, q := range []string{
		"CREATE TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY)",
		"CREATE TABLE IF NOT EXISTS child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
		"INSERT INTO child VALUES (1)",
	} {
		if err := w.c.exec(q); err != nil {
			return err
		}
	}
	return nil
}

func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path})
	limit := func(pages int64) {
		t.Helper()
		if err := s.do(t.Context(), &op{alone: true, apply: func(w *writer) error {
			if pages == 0 {
				n, err := pragma(w.c, "page_count")
				if err != nil {
					return err
				}
				pages = n + 20
			}
			return w.c.exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		}}); err != nil {
			t.Fatal(err)
		}
	}
	limit(0)
	var stored, refused []*core.Request
	for round := range uint64(10) {
		rs := make([]*core.Request, 32)
		calls := make([]func() error, len(rs))
		for i := range rs {
			rs[i] = sampleRequest(round*100 + uint64(i))
			calls[i] = func() error {
				_, err := s.Accept(context.Background(), rs[i])
				return err
			}
		}
		for i, err := range group(t, s, calls...) {
			switch {
			case err == nil:
				stored = append(stored, rs[i])
			case errors.Is(err, store.ErrFull):
				refused = append(refused, rs[i])
			default:
				t.Fatal(err)
			}
		}
	}
	if len(stored) == 0 || len(refused) == 0 {
		t.Fatalf("%d stored, %d refused", len(stored), len(refused))
	}
	limit(1 << 30)
	for _, r := range stored {
		if _, err := s.GetRequest(t.Context(), r.ID()); err != nil {
			t.Errorf("a stored request: %v", err)
		}
	}
	for i, r := range refused {
		if _, err := s.GetRequest(t.Context(), r.ID()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a refused request: %v", err)
		}
		if a, err := s.Accept(t.Context(), refused[i]); err != nil || a != store.Accepted {
			t.Errorf("a refused request, sent again: %s %v", a, err)
		}
	}
	closeStore(t, s)
	verify(t, path)
}

// While nothing can be written, callers get errors, leases stand, and what was given back is given back later.
func TestWritesFail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path})
	fail := func(on string) {
		t.Helper()
		set := func(w *writer) error { return w.c.exec("PRAGMA query_only = " + on) }
		if err := s.do(t.Context(), &op{alone: true, apply: set}); err != nil {
			t.Fatal(err)
		}
	}
	var ds []*store.Decision
	for i := range uint64(3) {
		r := sampleRequest(i)
		if _, err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		ds = append(ds, oneDelivery(r, "crm", "k"))
	}
	if err := s.Route(t.Context(), ds[:2]); err != nil {
		t.Fatal(err)
	}
	key := func(i int) core.DeliveryKey { return ds[i].Deliveries[0].Key }
	fail("ON")
	if _, err := s.Accept(t.Context(), sampleRequest(10)); err == nil {
		t.Error("accepted")
	}
	if s.Route(t.Context(), ds[2:]) == nil {
		t.Error("routed")
	}
	if s.Settle(t.Context(), []store.Settlement{delivered(key(0))}) == nil {
		t.Error("settled")
	}
	if err := s.Release(t.Context(), []core.DeliveryKey{key(1)}); err != nil {
		t.Error(err)
	}
	s.RecordRejection(core.Rejection{Cause: "syntax", At: time.Now()})
	time.Sleep(2 * maintainEvery)
	st, err := s.Stats(t.Context())
	if err != nil || st.Deliveries["crm"][core.DeliveryPending] != 2 || st.Rejections["syntax"] != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	fail("OFF")
	if err := s.Settle(t.Context(), []store.Settlement{delivered(key(0))}); err != nil {
		t.Error(err)
	}
	var claimed []*core.Delivery
	for deadline := time.Now().Add(20 * time.Second); len(claimed) == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		if claimed, _, err = s.ClaimDeliveries(t.Context(), "crm", time.Now(), 5, false); err != nil {
			t.Fatal(err)
		}
	}
	if len(claimed) != 1 || claimed[0].Key != key(1) {
		t.Errorf("claimed %v", claimed)
	}
	if err := s.Route(t.Context(), ds[2:]); err != nil {
		t.Error(err)
	}
	rs, _, err := s.ListRejections(t.Context(), store.RejectionFilter{})
	if err != nil || len(rs) != 1 {
		t.Errorf("rejections %v, %v", rs, err)
	}
	closeStore(t, s)
	verify(t, path)
}

// A read ends with its context, and the connection is good for the next.
func TestInterrupt(t *testing.T) {
	s := open(t, Options{Path: filepath.Join(t.TempDir(), "grapnel.db")})
	defer closeStore(t, s)
	const endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
	for range 2 * readers {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := s.search(ctx, func(c *conn) error {
			st, err := c.stmt(endless)
			if err != nil {
				return err
			}
			_, err = st.row(func() {})
			return err
		})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, _, err := s.ListRequests(t.Context(), store.RequestFilter{}); err != nil {
			t.Errorf("the next read: %v", err)
		}
	}
}

// Time in a bubble is the test's: the store works there, and sleeps when nothing is written.
func TestFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "grapnel.db")
		s := open(t, Options{Path: path, DedupeWindow: 24 * time.Hour})
		r := sampleRequest(1)
		accept := func(want store.Acceptance) {
			t.Helper()
			again := sampleRequest(1)
			a, err := s.Accept(t.Context(), again)
			if err != nil || a != want {
				t.Errorf("%s, want %s, %v", a, want, err)
			}
			if want == store.Accepted {
				r = again
			}
		}
		accept(store.Accepted)
		time.Sleep(23 * time.Hour)
		accept(store.Duplicate)
		time.Sleep(2 * time.Hour)
		accept(store.Accepted)

		// What nobody waits for is on the disk within a second.
		time.Sleep(time.Second)
		synced := s.syncs.Load()
		if err := s.Route(t.Context(), []*store.Decision{oneDelivery(r, "crm", "k")}); err != nil {
			t.Fatal(err)
		}
		if n := s.syncs.Load(); n != synced {
			t.Errorf("routing waited for a sync")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := s.syncs.Load(); n != synced+1 {
			t.Errorf("%d syncs a second after a commit", n-synced)
		}
		time.Sleep(365 * 24 * time.Hour)
		if n := s.syncs.Load(); n != synced+1 {
			t.Errorf("%d syncs in a year without commits", n-synced)
		}
		closeStore(t, s)
		verify(t, path)
	})
}

// The log is bounded however much is written without a pause.
func TestLogSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grapnel.db")
	s := open(t, Options{Path: path})
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			for i := range uint64(250) {
				r := sampleRequest(g*1000 + i)
				r.Body = make([]byte, 256<<10)
				if _, err := s.Accept(context.Background(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if written := int64(1000 * 256 << 10); info.Size() > written*3/4 {
		t.Errorf("the log has %d bytes after %d were written", info.Size(), written)
	}
	closeStore(t, s)
}

// Statements of the hot paths find their rows by index, whatever the backlog.
func TestQueryPlans(t *testing.T) {
	s := open(t, Options{Path: filepath.Join(t.TempDir(), "grapnel.db")})
	defer closeStore(t, s)
	// Run all that reads once, so that a connection has prepared it.
	r := sampleRequest(1)
	if _, err := s.Accept(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	d := oneDelivery(r, "crm", "k")
	d.Lease = nil
	if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
		t.Fatal(err)
	}
	for name, query := range map[string]string{
		"due at":   dueAtQuery,
		"due":      dueQuery,
		"next due": nextDueQuery,
		"waiting":  waitingQuery,
		"claimed":  claimedQuery,
		"head":     headQuery,
		"newest":   newestQuery,
		"dedupe":   dedupeQuery,
	} {
		err := s.read(t.Context(), func(c *conn) error {
			st, err := c.stmt("EXPLAIN QUERY PLAN " + query)
			if err != nil {
				return err
			}
			return st.rows(func() bool {
				if detail := st.ColumnText(3); !strings.HasPrefix(detail, "SEARCH") && !strings.HasPrefix(detail, "SCALAR") {
					t.Errorf("%s: %s", name, detail)
				}
				return true
			})
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	if got := parseHeaders("one\n \n"); len(got) != 1 || got[0].Name != "one" || got[0].Value != "\n" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkClaim(b *testing.B) {
	backlog := 1_000_000
	if testing.Short() || os.Getenv("GRAPNEL_BENCH_BACKLOG") == "" {
		backlog = 20_000
	}
	c := newCycle(b, filepath.Join(b.TempDir(), "grapnel.db"))
	defer c.close()
	fill(b, c.s, backlog)
	b.ResetTimer()
	for b.Loop() {
		ds, _, err := c.s.ClaimDeliveries(b.Context(), "crm", time.Now(), 256, false)
		if err != nil || len(ds) != 256 {
			b.Fatal(len(ds), err)
		}
		b.StopTimer()
		keys := make([]core.DeliveryKey, len(ds))
		for i, d := range ds {
			keys[i] = d.Key
		}
		if err := c.s.Release(b.Context(), keys); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// fill makes a backlog: of each four deliveries one is of sink "crm" and free, one of "crm" behind one of ten order
// keys, one of "blocked" that is not due, and one of "blocked" of an order key of its own that is not due.
func fill(b testing.TB, s *Store, n int) {
	far := time.Now().Add(24 * time.Hour)
	for i := 0; i < n/4; {
		var ds []*store.Decision
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 256 {
			wg.Go(func() {
				r := sampleRequest(uint64(1)<<60 + uint64(time.Now().UnixNano()))
				a, err := s.Accept(context.Background(), r)
				if err != nil || a != store.Accepted {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				d := oneDelivery(r, "crm", "")
				for j, sink := range []string{"crm/" + fmt.Sprint(r.Seq%10), "blocked", "blocked/" + fmt.Sprint(r.Seq)} {
					more := *d.Deliveries[0]
					more.Key = core.NewDeliveryKey(r.Seq, 0, j+1)
					more.Sink, more.OrderKey, _ = strings.Cut(sink, "/")
					if more.Sink == "blocked" {
						more.Due = far
					}
					d.Deliveries = append(d.Deliveries, &more)
				}
				d.Lease = nil
				ds = append(ds, d)
			})
		}
		wg.Wait()
		if err := s.Route(context.Background(), ds); err != nil {
			b.Fatal(err)
		}
		i += len(ds)
	}
}

// TestClaimOlderThanRetry has a claim look at a later delivery of an order key, in a snapshot that is older than the
// retry of the one before it.
func TestClaimOlderThanRetry(t *testing.T) {
	s := open(t, Options{Path: filepath.Join(t.TempDir(), "grapnel.db")})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var ds []*core.Delivery
	for i := range uint64(2) {
		r := sampleRequest(i)
		if _, err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		d := oneDelivery(r, "a", "key")
		if i > 0 {
			d.Lease = nil
		}
		if err := s.Route(t.Context(), []*store.Decision{d}); err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d.Deliveries[0])
	}
	s.mu.Lock()
	q := s.queue("a")
	q.running, q.back = true, endPlace // a claim has its snapshot
	s.mu.Unlock()
	now := time.Now()
	if err := s.Settle(t.Context(), []store.Settlement{{
		Key: ds[0].Key, State: core.DeliveryPending, Due: now,
		Attempt: &core.Attempt{Number: 1, At: now, Outcome: sdk.Retried},
	}}); err != nil {
		t.Fatal(err)
	}
	if s.take(q, ds[1], now.UnixMicro()) {
		t.Error("the later one is leased before the one that waits for its retry")
	}
	s.mu.Lock()
	q.running = false
	clear(q.ended)
	clear(q.endedOf)
	s.mu.Unlock()
	got, _, err := s.ClaimDeliveries(t.Context(), "a", now.Add(time.Hour), 10, false)
	if err != nil || len(got) != 1 || got[0].Key != ds[0].Key {
		t.Errorf("claimed %v, %v", got, err)
	}
}
