-- Deliveries that ended otherwise than they should have: lists, retries and replays find both kinds by one index.
DROP INDEX deliveries_dead;
CREATE INDEX deliveries_ended ON deliveries (state) WHERE state IN ('dead', 'skipped');

-- Filters are of more now: of types, subjects and tenants of events, sources and tenants of requests, routes and sinks of
-- deliveries. Stretches of before have none, and are looked through.
DELETE FROM event_filters;
