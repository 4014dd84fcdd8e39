SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_count: number of accounts with an event in a window.
--
-- Parameters
--   :since  timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until  timestamptz  end of the window, exclusive; infinity for no upper bound
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -f credits_rollup_count.sql
SELECT count(*) AS total_count
FROM (
    -- GROUP BY, because count(DISTINCT account_id) sorts all events and is not parallel
    SELECT account_id
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz
        AND created_at < :'until'::timestamptz
    GROUP BY account_id
) AS spenders;
