// Package store declares what the host needs of a durable store, and the records it lists. Implementations are in the
// packages below it and pass the suite in package storetest.
package store

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/grapnelhq/grapnel/core"
)

// Store keeps requests, events, deliveries, attempts, keyed state and rejections.
//
// All methods may be called from any number of goroutines. Writes are grouped into commits; a method that writes
// returns when its commit is done. One failing write fails alone, never its group. A full disk is ErrFull.
type Store interface {
	// Accept stores a request durably: it returns after the fsync. On Accepted it has set Seq, Repeat and State, and cut
	// ReceivedAt to microseconds. A request with a known dedupe key inside the dedupe window, by the distance of
	// ReceivedAt, is a Duplicate (of a commit under way: after that commit); if the known one is dead, it becomes
	// received again and the answer is Reopened. Accepted and reopened requests are then passed to Options.OnAccepted in
	// commit order before Accept returns, reopened ones (as they were stored) with Reopened set and their old Seq. On
	// Accepted nobody may change r any more. ctx only bounds the wait for a place in the queue: what is queued is
	// committed.
	Accept(ctx context.Context, r *core.Request) (Acceptance, error)

	// Route commits what became of a batch of received requests, in the order given: events and deliveries, or death.
	// A request that is no longer received is left alone (its Decision.Stale is set). Deliveries are leased to the caller as
	// Decision.Lease says. An error means that nothing was written for any and nothing is leased.
	Route(ctx context.Context, ds []*Decision) error

	// Settle commits the outcomes of leased deliveries and ends their leases. A settlement of a delivery that is no longer
	// pending is ignored. After an error nothing was written and the leases still stand.
	Settle(ctx context.Context, ss []Settlement) error

	// Release gives leases back without an outcome: nothing is charged. Where that needs the disk and the disk fails, the
	// store tries again by itself.
	Release(ctx context.Context, keys []core.DeliveryKey) error

	// ClaimRequests returns received requests of a source with a sequence above after, oldest first. Requests are not
	// leased: one caller per source keeps track with after.
	ClaimRequests(ctx context.Context, source string, after int64, limit int) ([]*core.Request, error)

	// ClaimDeliveries leases due pending deliveries of a sink, longest due first, with Event, its Data and KeyState
	// filled. A delivery with an order key is due only if no earlier one of its sink and key is unsettled and none is
	// leased, so one call returns at most one per key. What has stopped the host too often dies instead; with hold it holds
	// its key, as Settlement.Hold says. The Backlog speaks of what is left after this claim.
	ClaimDeliveries(ctx context.Context, sink string, now time.Time, limit int, hold bool) (
		[]*core.Delivery, Backlog, error)

	// KeyState reads the keyed state of a sink's order key; nil: none.
	KeyState(ctx context.Context, sink, orderKey string) ([]byte, error)

	// Sinks returns what is kept about sinks, by name; those nothing is kept about are not in it.
	Sinks(ctx context.Context) (map[string]SinkState, error)
	// PauseSink and ResumeSink note an operator's wish durably; the host acts on it. An empty reason keeps the one of a sink
	// that is paused already.
	PauseSink(ctx context.Context, sink, reason string, at time.Time) error
	ResumeSink(ctx context.Context, sink string) error
	// SaveActive notes a sink's active time.
	SaveActive(ctx context.Context, sink string, active time.Duration) error
	// ReleaseHeld lets the order keys of a sink go on that dead deliveries hold.
	ReleaseHeld(ctx context.Context, sink string) error
	// SkipDeliveries makes dead deliveries skipped, by an operator's decision, and returns those it changed. Keys they held
	// go on. Ids that are unknown or not dead are passed over.
	SkipDeliveries(ctx context.Context, ids []string, reason string) ([]*core.Delivery, error)

	// OldestWaiting returns, of each sink that has deliveries that wait or are with it, when the request of the oldest was
	// received; those of the source except are not counted. It reads a bounded number of index entries, however long the
	// backlog is: of more than ten thousand waiting retries of a sink, older ones may be passed over.
	OldestWaiting(ctx context.Context, except string) (map[string]time.Time, error)

	// SaveState keeps what a part of the host wants to remember beyond its end, durably, under a name of that part's own.
	SaveState(ctx context.Context, name string, value []byte) error
	// LoadState returns what SaveState kept last; nil: nothing.
	LoadState(ctx context.Context, name string) ([]byte, error)

	// RecordRejection adds to the bounded list of rejections. It does not wait for the disk.
	RecordRejection(r core.Rejection)

	// Retries and replays go in steps: a Mark, then pages of what is selected, each rendered by the caller and committed.

	// Mark returns a time that parts what is settled: what was settled before is seen by every read from now on, what is
	// settled afterwards has a later time.
	Mark(ctx context.Context) (time.Time, error)
	// SelectDeliveries reads a page of what sel selects, oldest first, from behind the given key on; next is the key to go
	// on behind, 0 at the end. A page may hold less than limit, or nothing: no read takes long.
	SelectDeliveries(ctx context.Context, sel Selection, after core.DeliveryKey, limit int) (
		page []Selected, next core.DeliveryKey, err error)
	// CountDeliveries counts what SelectDeliveries would read, likewise in pages.
	CountDeliveries(ctx context.Context, sel Selection, after core.DeliveryKey) (n int, next core.DeliveryKey, err error)
	// FindDeliveries reads deliveries in any state by id, in the order given. Unknown ones are left out.
	FindDeliveries(ctx context.Context, ids []string) ([]Selected, error)
	// Redo commits retries and replays together, durably, and sets Done of those that took place.
	Redo(ctx context.Context, rs []*Redo) error
	// RequestOf reads a delivery's request, without Body, for rendering. ErrNotFound.
	RequestOf(ctx context.Context, k core.DeliveryKey) (*core.Request, error)

	// SelectRequests reads a page of the dead requests that f matches, without Headers and Body, oldest first, from behind
	// the given sequence on; next is the one to go on behind, 0 at the end.
	SelectRequests(ctx context.Context, f RequestFilter, after int64, limit int) (
		page []*core.Request, next int64, err error)
	// ReadRequests reads a page of the requests that f matches, with Headers and Body, oldest first, from behind the given
	// sequence on; next is the one to go on behind, 0 at the end. A page may hold less than limit: its bytes are bounded.
	ReadRequests(ctx context.Context, f RequestFilter, after int64, limit int) (
		page []*core.Request, next int64, err error)
	// RetryRequests makes dead requests received again; they are passed to Options.OnAccepted.
	RetryRequests(ctx context.Context, ids []string) ([]*core.Request, error)

	// Reads for people. Lists are newest first; next is the cursor of the following page, "" at the end. No read takes long:
	// a page may hold less than asked for, or nothing, though there is a next one. Looked tells then how far it has come.
	ListRequests(ctx context.Context, f RequestFilter) (rs []*core.Request, next string, err error) // without Body
	// SearchRequests is a step of a search for requests whose body has a text, or the data of whose events has it where the
	// body is no JSON. It finds them as ListRequests does, looked says how many bodies it read, and next where it has come
	// to. Looked of it tells the time of that, also if the page is full. It rests afterwards, for the sake of who writes.
	SearchRequests(ctx context.Context, f RequestFilter, text *Text) (found []*core.Request, looked int, next string, err error)
	GetRequest(ctx context.Context, id string) (*RequestDetail, error) // ErrNotFound
	ListEvents(ctx context.Context, f EventFilter) (es []ListedEvent, next string, err error)
	// Its deliveries have their Event without Data.
	ListDeliveries(ctx context.Context, f DeliveryFilter) (ds []*core.Delivery, next string, err error)
	GetDelivery(ctx context.Context, id string) (*DeliveryDetail, error) // ErrNotFound
	ListRejections(ctx context.Context, f RejectionFilter) (rs []core.Rejection, next string, err error)
	GetRejection(ctx context.Context, id int64) (core.Rejection, error) // ErrNotFound
	Stats(ctx context.Context) (Stats, error)

	// Purge deletes what is past its retention, and the dedupe memory that is past its window. It works in small steps with
	// pauses, so that whoever writes beside it hardly waits, until nothing is left to delete. It returns how many requests
	// it deleted, also with an error.
	Purge(ctx context.Context, r Retention) (int, error)

	// Erase removes a person, or requests, from the database and its files. It works in small steps, as Purge does, and calls
	// progress now and then. Its receipt is begun in the database before anything goes. After an error, or a crash, what is
	// left is removed by the next Erase of the same or the next Purge, with the same receipt.
	Erase(ctx context.Context, e Erasure, progress func(EraseProgress)) (Receipt, error)
	// PreviewErase tells what Erase would remove now, and changes nothing.
	PreviewErase(ctx context.Context, e Erasure) (ErasePreview, error)
	// ListReceipts lists receipts, newest first, without Sent.
	ListReceipts(ctx context.Context, cursor string, limit int) (rs []Receipt, next string, err error)
	GetReceipt(ctx context.Context, id int64) (Receipt, error) // ErrNotFound

	// Backup copies the database into a file, beside all other work: what was accepted before it is called is in the copy.
	// The file appears when it is whole, synced and, unless NoCheck, looked through; it is never one that was there. It calls
	// progress now and then, which may be nil.
	Backup(ctx context.Context, o BackupOrder, progress func(BackupProgress)) (Backup, error)

	// Close commits what was given, syncs and closes.
	Close() error
}

// Acceptance is what Accept made of a request.
type Acceptance string

// The acceptances.
const (
	Accepted  Acceptance = "accepted"
	Duplicate Acceptance = "duplicate"
	Reopened  Acceptance = "reopened"
)

// Backlog says what a claim left behind.
type Backlog struct {
	// Left: the sink has pending deliveries that nobody has leased: due later, waiting for their key, or over the limit.
	Left bool
	Next time.Time // when the earliest of them becomes due; zero: none has a due time in the future
}

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrFull     = errors.New("the disk is full")
	ErrLocked   = errors.New("the data folder is in use by another grapnel")
	ErrNewer    = errors.New("the database was written by a newer grapnel")
	ErrClosed   = errors.New("the store is closed")
	ErrCursor   = errors.New("not a cursor of this list")
	ErrErasure  = errors.New("either a subject or requests are to be erased")
)

// Decision is what became of one request: Events and Deliveries, or Dead.
type Decision struct {
	Request    *core.Request
	Dead       string // not empty: the reason why it is dead
	Crashes    int    // new value of Request.Crashes, with neither events nor death: the request stays received
	Retry      bool   // only Crashes and Notes are kept; the request stays received
	Notes      []string
	Events     []core.Event
	Deliveries []*core.Delivery // keys set; State pending or dead
	Lease      []Lease          // per delivery; nil: none is leased
	Hold       []bool           // per delivery, of dead ones with an order key: as Settlement.Hold; nil: none holds it

	// Set by Route:
	Stale  bool   // the request was not received any more, nothing was written for it
	Leased []bool // per delivery: it is leased to the caller
}

// Lease says whether a delivery is leased to the caller with the commit that makes it.
type Lease uint8

// The wishes for a lease.
const (
	NoLease Lease = iota
	LeaseAlways
	// LeaseIfFree: unless an earlier delivery of its sink and order key is unsettled, or its key is held.
	LeaseIfFree
)

// Settlement is the outcome of one attempt of a leased delivery, or of none (Attempt nil: given back with another Due).
type Settlement struct {
	Key     core.DeliveryKey
	Of      *core.Delivery     // whose it is, for who watches; nil: nobody is to be told. The store does not look at it
	State   core.DeliveryState // pending (retry), delivered, skipped or dead
	Due     time.Time          // pending
	Attempt *core.Attempt      // the attempt; charged if Charge
	Charge  bool
	Crashes int // new value

	Reason        string
	AttributePath []string
	Reference     string
	RouteRange    string
	Active        time.Duration // the sink's active time at the attempt

	// Hold, of a dead one with an order key: later deliveries of the key wait until this one is retried and settles
	// otherwise, is skipped, or is purged, or until ReleaseHeld. Several may hold a key.
	Hold bool

	// What was sent, when Renewed: it takes the place of the stored message.
	Renewed                    bool
	Message                    []byte
	ConfigDigest, SchemaDigest string

	// Keyed state, when StateSet: nil deletes.
	Sink, OrderKey string
	KeyState       []byte
	StateSet       bool
}

// SinkState is what is kept about a sink beside its deliveries.
type SinkState struct {
	Active      time.Duration // how long it could be called, ever: not while it was paused, suspended or its breaker open
	PausedAt    time.Time     // zero: it is not paused
	PauseReason string
}

// Selection says which deliveries are to be retried or replayed.
type Selection struct {
	DeliveryFilter // without Cursor and Limit
	// Replay: settled deliveries that no replay has taken the place of, dead ones if the filter names no state. Otherwise
	// for a retry: dead ones.
	Replay bool
	By     time.Time // a Mark: only what was settled by then, and so nothing that the retry or replay itself brings about
}

// Selected is a delivery that may be retried or replayed: with Event and its Data, and its request without Body.
type Selected struct {
	Delivery *core.Delivery
	Request  *core.Request
}

// Redo is one retry or replay.
type Redo struct {
	// Of is the delivery as it was read. If it has changed since, nothing is done.
	Of *core.Delivery
	// As is what it is to be, with the same key.
	//
	//	pending  retry: the delivery becomes pending and due, with its charges forgotten. Replay: it stays as it is, but for a
	//	         dead one, which is skipped, and a new one appears beside it. Either takes As's message, digests and AsIs, a
	//	         delivery without a message its order key too, a replay Force.
	//	dead     it cannot be rendered: a dead one stays dead and takes As's Reason and RouteRange
	//	skipped  its route does not want it any more: a dead one is skipped, for As's Reason
	As     *core.Delivery
	Replay bool

	// Set by Store.Redo:
	Done     bool
	ReplayID string // of the new delivery
	Refused  string // not done: why
}

// RequestFilter narrows a list; zero fields match all.
type RequestFilter struct {
	Source, Tenant string
	Type, Subject  string // some event of it has these; as DeliveryFilter's
	State          core.RequestState
	Unrouted       bool      // routed, and some event of it has no delivery
	Since, Until   time.Time // of receipt; Until is exclusive
	Cursor         string
	Limit          int // default 50, at most 1000
}

// ShortCursor makes a cursor of a list that ended before its page was full, when it had looked at all that was received
// at or after a time.
func ShortCursor(place string, looked time.Time) string {
	return place + "@" + strconv.FormatInt(looked.UnixMicro(), 10)
}

// Looked tells how far a list has looked whose page came back short with this cursor: at all that was received then or
// later. It is the zero time for other cursors.
func Looked(cursor string) time.Time {
	_, at, short := strings.Cut(cursor, "@")
	micros, err := strconv.ParseInt(at, 10, 64)
	if !short || err != nil {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// EventFilter narrows a list; zero fields match all.
type EventFilter struct {
	Source, Type, Subject, Tenant string // as DeliveryFilter's
	RequestID                     string
	Unrouted                      bool      // has no delivery
	Since, Until                  time.Time // of the request's receipt; Until is exclusive
	Cursor                        string
	Limit                         int // default 50, at most 1000
}

// ListedEvent is an event in a list, without Data.
type ListedEvent struct {
	Event      core.Event
	ReceivedAt time.Time // its request
	Deliveries int
}

// DeliveryFilter narrows a list; zero fields match all.
type DeliveryFilter struct {
	// Of the event: Source is the source block's name, and a * in Type stands for any text.
	Source, Type, Subject, Tenant string
	Route, Sink                   string
	RequestID                     string
	State                         core.DeliveryState // the leased are among the pending, and are shown as such
	Since, Until                  time.Time          // of the request's receipt; Until is exclusive
	Cursor                        string
	Limit                         int // default 50, at most 1000
}

// RejectionFilter narrows a list; zero fields match all.
type RejectionFilter struct {
	Source, Cause string
	Since, Until  time.Time // Until is exclusive
	Cursor        string
	Limit         int
}

// RequestDetail is a request with all that came of it.
type RequestDetail struct {
	Request    *core.Request
	Events     []core.Event // with Data
	Deliveries []*core.Delivery
}

// DeliveryDetail is a delivery with its event and its attempts. A first attempt that delivered at once is told by the
// delivery itself and listed here all the same.
type DeliveryDetail struct {
	Delivery *core.Delivery
	Request  *core.Request // without Body
	Attempts []core.Attempt
	WaitsFor string // pending behind another of its order key: that one's id, a dead one's where it holds the key
}

// Stats counts what is stored.
type Stats struct {
	Requests   map[core.RequestState]int64             `json:"requests"`
	Deliveries map[string]map[core.DeliveryState]int64 `json:"deliveries"`     // by sink
	Unrouted   map[string]int64                        `json:"unrouted"`       // events without delivery, by type
	Held       map[string]int64                        `json:"held,omitempty"` // dead deliveries that hold their order keys, by sink
	Rejections map[string]int64                        `json:"rejections"`     // by cause, since the database was made
	Commits    int64                                   `json:"commits"`        // this and the next two since start
	Syncs      int64                                   `json:"syncs"`
	Accepted   int64                                   `json:"accepted"`
	SizeBytes  int64                                   `json:"size_bytes"`
}
