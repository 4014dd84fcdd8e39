SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_changes_count: number of accounts with an event in a window or in the window before.
--
-- Parameters
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -v previous_since=2026-10-01 \
--   -v previous_until=2026-11-01 -f credits_changes_count.sql
SELECT count(*) AS total_count
FROM (
    -- GROUP BY, because count(DISTINCT account_id) sorts all events and is not parallel
    SELECT account_id
    FROM public.usage_events
    WHERE created_at >= :'previous_since'::timestamptz
        AND created_at < :'until'::timestamptz
        AND (created_at >= :'since'::timestamptz OR created_at < :'previous_until'::timestamptz)
    GROUP BY account_id
) AS accounts;
