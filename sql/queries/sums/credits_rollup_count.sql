SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_count: number of accounts with an event in a window; without a cutoff, of those that exist.
--
-- Parameters
--   :since  timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until  timestamptz  end of the window, exclusive; infinity for no upper bound
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -f sums/credits_rollup_count.sql
--
-- usage_sums.cover(), which sql/dba/sums.sql defines, says what of the window the sums cover.
WITH cover AS (
    SELECT
        window_id,
        account_count,
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'windows'::text)
),

-- Accounts whose kept sums have to be corrected.
moved AS (
    SELECT account_id
    FROM public.usage_events
    WHERE (SELECT cover.window_id IS NOT NULL FROM cover)
        AND created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
    UNION
    SELECT account_id
    FROM usage_sums.late
    WHERE (SELECT cover.window_id IS NOT NULL FROM cover)
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
),

-- By how much the kept count changes, or all accounts if no window is kept.
part AS (
    SELECT
        account_id,
        event_count::bigint AS event_count,
        1 AS row_count
    FROM usage_sums.accounts
    WHERE window_id = (SELECT cover.window_id FROM cover)
        AND account_id = ANY(ARRAY(SELECT moved.account_id FROM moved))
    UNION ALL
    SELECT
        account_id,
        event_count::bigint AS event_count,
        0 AS row_count
    FROM usage_sums.days
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT
        account_id,
        sign::bigint AS event_count,
        0 AS row_count
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT
        account_id,
        (SELECT cover.rest_sign FROM cover)::bigint AS event_count,
        0 AS row_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
)

SELECT
    (coalesce((SELECT cover.account_count FROM cover), 0) + coalesce(sum(counted.difference), 0))::bigint
        AS total_count
FROM (
    SELECT (sum(event_count) > 0)::integer - sum(row_count) AS difference
    FROM part
    GROUP BY account_id
) AS counted;
