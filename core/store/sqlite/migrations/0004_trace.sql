-- Where a request stands in a distributed trace, while the host traces: a W3C traceparent, and after a space its
-- tracestate, if there is one. NULL: it is in none.
ALTER TABLE requests ADD COLUMN trace TEXT;
