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
--   -v previous_until=2026-11-01 -f sums/credits_changes_count.sql
--
-- usage_sums.cover(), which sql/dba/sums.sql defines, says what of the window the sums cover.
WITH cover AS (
    SELECT
        window_id,
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'windows'::text)
),

previous AS (
    SELECT
        window_id,
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(:'previous_since'::timestamptz, :'previous_until'::timestamptz, 'windows'::text)
),

part AS (
    SELECT
        account_id,
        event_count::bigint AS event_count
    FROM usage_sums.accounts
    WHERE window_id = (SELECT cover.window_id FROM cover)
    UNION ALL
    SELECT
        account_id,
        event_count::bigint AS event_count
    FROM usage_sums.days
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT
        account_id,
        sign::bigint AS event_count
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT
        account_id,
        (SELECT cover.rest_sign FROM cover)::bigint AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
    UNION ALL
    SELECT
        account_id,
        event_count::bigint AS event_count
    FROM usage_sums.accounts
    WHERE window_id = (SELECT previous.window_id FROM previous)
    UNION ALL
    SELECT
        account_id,
        event_count::bigint AS event_count
    FROM usage_sums.days
    WHERE day >= (:'previous_since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT previous.day_until FROM previous)
    UNION ALL
    SELECT
        account_id,
        sign::bigint AS event_count
    FROM usage_sums.late
    WHERE (SELECT previous.stop > :'previous_since'::timestamptz FROM previous)
        AND created_at >= :'previous_since'::timestamptz
        AND created_at < (SELECT previous.stop FROM previous)
    UNION ALL
    SELECT
        account_id,
        (SELECT previous.rest_sign FROM previous)::bigint AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT previous.rest_from FROM previous)
        AND created_at < (SELECT previous.rest_until FROM previous)
)

SELECT count(*) AS total_count
FROM (
    SELECT account_id
    FROM part
    GROUP BY account_id
    HAVING sum(event_count) > 0
) AS spenders;
