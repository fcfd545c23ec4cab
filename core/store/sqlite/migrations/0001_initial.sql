-- Grapnel's database. It may be read with sqlite3 while the host runs; write to it only through grapnel.
--
-- Times are INTEGER microseconds since 1970 UTC, durations INTEGER microseconds:
--     SELECT datetime(received_at / 1e6, 'unixepoch', 'subsec'), state FROM requests;
-- States, names and messages are text. Numbers place rows in accept order and say what belongs to what:
--     events.key     = requests.seq << 12 | index of the event in its request
--     deliveries.key = events.key   << 12 | ordinal of the delivery of its event
-- Public ids are derived from requests.dedupe (hex) and these numbers:
--     request   req_<dedupe>[_r<repeat>]
--     event     evt_<dedupe>[_r<repeat>]_<index>
--     delivery  dlv_<dedupe>[_r<repeat>]_<index>_<digest of route, sink and replay>
--
-- Every index is paid for by every webhook, so there are few. Those on waiting rows are partial: they hold the backlog
-- only, and stay a page or two large while there is none.

-- What providers posted. A row whose purged_at is set is dedupe memory only: its request is past retention, its dedupe
-- window is not; its body, events and deliveries are gone.
CREATE TABLE requests (
    seq         INTEGER PRIMARY KEY,           -- accept sequence
    dedupe      BLOB    NOT NULL,              -- what makes two requests the same, 16 bytes
    repeat      INTEGER NOT NULL,              -- how often it was accepted before, outside the dedupe window
    source      TEXT    NOT NULL,              -- name of the source block
    tenant      TEXT,
    received_at INTEGER NOT NULL,
    state       TEXT    NOT NULL,              -- received, routed, dead
    reason      TEXT,                          -- why it is dead
    notes       TEXT,                          -- JSON list: remarks of the decoder
    crashes     INTEGER NOT NULL DEFAULT 0,    -- how often it killed a decoder process
    claims      INTEGER NOT NULL DEFAULT 0,    -- how often a host started on it after an unclean stop
    unrouted    INTEGER NOT NULL DEFAULT 0,    -- how many of its events have no delivery
    purged_at   INTEGER,
    remote_addr TEXT,
    method      TEXT,
    query       TEXT                           -- without credentials
) STRICT;

-- Where to look for requests by dedupe key. Those with a seq above indexed_seq in meta are not all here yet: the host
-- keeps them in memory, enters many at a time, and reads them from requests when it starts.
CREATE TABLE dedupe (
    key    BLOB    NOT NULL,                   -- requests.dedupe
    repeat INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (key, repeat)
) STRICT, WITHOUT ROWID;

-- Received requests have no index: they are found from routed_seq in meta on.
CREATE INDEX requests_dead     ON requests (seq) WHERE state = 'dead';
CREATE INDEX requests_unrouted ON requests (seq) WHERE unrouted > 0;
CREATE INDEX requests_purged   ON requests (received_at) WHERE purged_at IS NOT NULL;

-- The bytes of requests, apart from requests so that a change of state does not rewrite them.
CREATE TABLE bodies (
    seq     INTEGER PRIMARY KEY,               -- requests.seq
    headers TEXT,                              -- the kept header lines as in HTTP, "name: value"
    body    BLOB                               -- byte-exact
) STRICT;

-- What decoders made of requests.
CREATE TABLE events (
    key           INTEGER PRIMARY KEY,
    type          TEXT NOT NULL,
    subject       TEXT,
    partition_key TEXT,
    operation     TEXT,
    provider      TEXT,
    tenant        TEXT,
    time          TEXT,                        -- RFC 3339, as the provider wrote it
    source        TEXT,                        -- NULL: urn:grapnel:source: and the name of the request's source
    data_offset   INTEGER,                     -- where its data starts in the body
    data_length   INTEGER,
    data          BLOB,                        -- its data, if that is no part of the body; JSON
    changes       TEXT                         -- JSON object
) STRICT;

-- Where to look for events: for each 4096 requests, a Bloom filter of the types, subjects and tenants of their
-- events. A stretch without a row has to be looked through. Times need none, since sequences grow with time.
CREATE TABLE event_filters (
    block  INTEGER PRIMARY KEY,                -- requests.seq >> 12
    filter BLOB NOT NULL
) STRICT;

-- Messages for sinks. A delivery that is handed to its sink as soon as it is made says leased; one that a host takes
-- from the backlog goes on to say pending, and is leased in the host's memory. A start makes those that say leased
-- pending.
CREATE TABLE deliveries (
    key            INTEGER PRIMARY KEY,
    sink           TEXT    NOT NULL,
    order_key      TEXT,                       -- NULL: unordered
    state          TEXT    NOT NULL,           -- pending, leased, delivered, skipped, dead
    due            INTEGER,                    -- not before; NULL: behind an earlier one of its order_key
    route          TEXT    NOT NULL,
    replay         INTEGER NOT NULL,           -- 0, or the n-th replay of the event to this route and sink
    replay_of      INTEGER,                    -- of which replay this is one: its number, 0 for the original
    replayed_by    INTEGER,                    -- number of the newest replay of this one
    forced         INTEGER,                    -- 1: to be applied even if something newer was
    as_is          INTEGER,                    -- 1: the message is not rendered anew, whatever the configuration becomes
    attempts       INTEGER NOT NULL,           -- charged ones
    crashes        INTEGER NOT NULL,           -- how often it killed a sink process
    claims         INTEGER NOT NULL,           -- how often a host started on it after an unclean stop
    first_attempt  INTEGER,
    first_active   INTEGER,                    -- the sink's active time at the first attempt
    took           INTEGER,                    -- duration of the last attempt
    settled_at     INTEGER,
    reason         TEXT,                       -- of the last outcome
    reference      TEXT,                       -- the far end's own id
    attribute_path TEXT,                       -- JSON list: the message's attribute that was rejected
    route_range    TEXT,                       -- file:line,column of the route that is to blame
    config_digest  TEXT,                       -- of the configuration that rendered the message
    schema_digest  TEXT,                       -- of the sink's message schema at that time
    message        TEXT                        -- JSON object
) STRICT;

CREATE INDEX deliveries_due    ON deliveries (sink, due) WHERE state = 'pending' AND due IS NOT NULL;
CREATE INDEX deliveries_queue  ON deliveries (sink, order_key) WHERE state = 'pending' AND order_key IS NOT NULL;
CREATE INDEX deliveries_leased ON deliveries (key) WHERE state = 'leased';
CREATE INDEX deliveries_dead   ON deliveries (key) WHERE state = 'dead';

-- Sinks about which something is to be remembered.
CREATE TABLE sinks (
    sink         TEXT PRIMARY KEY,
    active       INTEGER NOT NULL DEFAULT 0,   -- how long it could be called, ever; ages of deliveries are counted in it
    paused_at    INTEGER,
    pause_reason TEXT
) STRICT, WITHOUT ROWID;

-- Order keys whose deliveries wait because of dead ones (on_dead = "hold").
CREATE TABLE held (
    sink      TEXT    NOT NULL,
    order_key TEXT    NOT NULL,
    delivery  INTEGER NOT NULL,                -- deliveries.key of a dead one
    PRIMARY KEY (sink, order_key, delivery)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_delivery ON held (delivery);

-- Attempts at deliveries, but for a first one that delivered without remarks: the delivery's own row tells it.
CREATE TABLE attempts (
    delivery INTEGER NOT NULL,                 -- deliveries.key
    at       INTEGER NOT NULL,
    number   INTEGER NOT NULL,                 -- starts again at 1 when a dead delivery is retried
    outcome  TEXT    NOT NULL,
    took     INTEGER NOT NULL,
    reason   TEXT,
    notes    TEXT,                             -- JSON list
    PRIMARY KEY (delivery, at, number)
) STRICT, WITHOUT ROWID;

-- What sinks remember about an order key.
CREATE TABLE keyed_state (
    sink       TEXT    NOT NULL,
    order_key  TEXT    NOT NULL,
    state      BLOB    NOT NULL,
    updated_at INTEGER NOT NULL,               -- or when a delivery with the key settled last, to a day
    source     TEXT    NOT NULL,               -- these three: of the event whose delivery wrote it
    tenant     TEXT,
    about      BLOB    NOT NULL,               -- first 8 bytes of the SHA-256 of its subject, its partition key ...
    PRIMARY KEY (sink, order_key)
) STRICT, WITHOUT ROWID;

-- The newest requests that were turned away.
CREATE TABLE rejections (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    source      TEXT,                          -- NULL: no source has the path
    status      INTEGER NOT NULL,              -- HTTP
    cause       TEXT    NOT NULL,
    detail      TEXT,
    remote_addr TEXT,
    method      TEXT,
    path        TEXT
) STRICT;

-- What was erased, and when. Of whom it was, only a digest is left.
CREATE TABLE receipts (
    id         INTEGER PRIMARY KEY,
    subject    BLOB,                           -- SHA-256; NULL: requests were erased by id
    source     TEXT,                           -- only what came in here
    tenant     TEXT,                           -- only of this one
    through    INTEGER NOT NULL,               -- requests.seq up to which it is about; those decoded later go then
    begun_at   INTEGER NOT NULL,
    done_at    INTEGER,                        -- NULL: it was cut short, and goes on
    unread     INTEGER NOT NULL DEFAULT 0,     -- requests of which nobody knew whom they are about
    requests   INTEGER NOT NULL DEFAULT 0,     -- these and the following: how many were removed
    shared     INTEGER NOT NULL DEFAULT 0,     -- requests that stayed, with events of others
    events     INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    states     INTEGER NOT NULL DEFAULT 0,
    rejections INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Requests that are to be erased by id, until that is done.
CREATE TABLE receipt_requests (
    receipt INTEGER NOT NULL,
    seq     INTEGER NOT NULL,                  -- requests.seq
    PRIMARY KEY (receipt, seq)
) STRICT, WITHOUT ROWID;

-- The erased deliveries that their sinks may know of.
CREATE TABLE receipt_deliveries (
    receipt  INTEGER NOT NULL,
    delivery TEXT    NOT NULL,                 -- public id
    sink     TEXT    NOT NULL,
    state    TEXT    NOT NULL,                 -- delivered, tried, in_flight
    at       INTEGER,
    PRIMARY KEY (receipt, delivery)
) STRICT, WITHOUT ROWID;

-- How many there are: requests.<state>; deliveries.<state> by sink, the leased among the pending; held order keys by
-- sink; unrouted events by type; rejections by cause.
CREATE TABLE counters (
    kind  TEXT    NOT NULL,
    label TEXT    NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (kind, label)
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES
    ('running', 0),      -- 1 while a host has the database open: found at a start, it stopped without closing
    ('suspect_seq', 0),  -- requests up to this one were there when a host stopped so
    ('indexed_seq', 0),  -- requests up to this one are in dedupe
    ('scrub', 0),        -- 1 while something was erased that may have left bytes in the files
    ('routed_seq', 0);   -- none of the requests up to this one is received
