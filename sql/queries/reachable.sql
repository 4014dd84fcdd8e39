SET LOCAL search_path = pg_catalog, pg_temp\;
-- reachable: one row if events can be read now, on every node that holds some.
--
-- Parameters: none
-- Columns: reachable
-- Order:   at most one row; no row if there are no events
-- psql -X -q -v ON_ERROR_STOP=1 -f reachable.sql
SELECT true AS reachable
FROM public.usage_events
ORDER BY account_id ASC, created_at ASC
LIMIT 1;
