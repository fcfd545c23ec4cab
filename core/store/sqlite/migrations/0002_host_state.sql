-- What parts of the host remember beyond their end, each under a name of its own, in a form of its own.
CREATE TABLE host_state (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
