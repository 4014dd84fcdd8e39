SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_events_count: number of usage events of one account in a window.
--
-- Parameters
--   :account_id  uuid         the account
--   :since       timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for no upper bound
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v account_id=3c90c3cc-0d44-4b50-8888-8dd25736052a -v since=2026-11-01 -v until=infinity \
--   -f credits_events_count.sql
SELECT count(*) AS total_count
FROM public.usage_events
WHERE account_id = :'account_id'::uuid
    AND created_at >= :'since'::timestamptz
    AND created_at < :'until'::timestamptz;
