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
-- Events before the watermark are read from the sums that sql/dba/sums.sql defines, later ones from usage_events.
WITH edge AS (
    -- Read the sums of the days before "day", and the events from "instant" on before "stop". The sums contain all events
    -- before the watermark. If the window ends later, the events between the two are added; if it ends up to a day earlier, they
    -- are subtracted. If it ends still earlier, read the days before the one in which it ends, and the events of that day.
    -- A window that begins at an edge is read from usage_sums_window instead of the days.
    SELECT
        summed.is_near AND summed.has_edge AS has_window,
        CASE
            WHEN summed.is_near THEN ((summed.watermark - interval '1 microsecond') AT TIME ZONE 'UTC')::date + 1
            ELSE (:'until'::timestamptz AT TIME ZONE 'UTC')::date
        END AS day,
        greatest(
            :'since'::timestamptz,
            CASE
                WHEN summed.is_near THEN least(:'until'::timestamptz, summed.watermark)
                ELSE (:'until'::timestamptz AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC'
            END
        ) AS instant,
        CASE
            WHEN summed.is_near THEN greatest(:'until'::timestamptz, summed.watermark)
            ELSE :'until'::timestamptz
        END AS stop,
        CASE WHEN summed.is_near AND :'until'::timestamptz < summed.watermark THEN -1 ELSE 1 END AS sign
    FROM (
        -- without a row, and for a window that does not start at a UTC midnight, nothing is read from the sums
        SELECT
            coalesce(max(instant), '-infinity') AS watermark,
            coalesce(bool_or(:'since'::timestamptz = ANY(edges)), false) AS has_edge,
            :'until'::timestamptz > coalesce(max(instant), '-infinity') - interval '1 day' AS is_near
        FROM public.usage_sums_watermark
        WHERE (:'since'::timestamptz AT TIME ZONE 'UTC')::date = :'since'::timestamptz AT TIME ZONE 'UTC'
    ) AS summed
),

-- Accounts with an event between the watermark and the end of the window: their sums are corrected.
moved AS (
    SELECT account_id
    FROM public.usage_events
    WHERE (SELECT edge.has_window OR :'since'::timestamptz = '-infinity' FROM edge)
        AND created_at >= (SELECT edge.instant FROM edge)
        AND created_at < (SELECT edge.stop FROM edge)
    GROUP BY account_id
),

-- Their rows of usage_sums_window, which the count below includes, or if that is not read all days; and the events.
part AS (
    SELECT
        account_id,
        event_count,
        1 AS row_count
    FROM public.usage_sums_window
    WHERE edge = :'since'::timestamptz
        AND (SELECT edge.has_window FROM edge)
        AND account_id = ANY(ARRAY(SELECT moved.account_id FROM moved))
    UNION ALL
    SELECT
        account_id,
        event_count,
        0 AS row_count
    FROM public.usage_sums
    WHERE (SELECT NOT edge.has_window FROM edge)
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT edge.day FROM edge)
    UNION ALL
    SELECT
        account_id,
        (SELECT edge.sign FROM edge)::bigint AS event_count,
        0 AS row_count
    FROM public.usage_events
    WHERE created_at >= (SELECT edge.instant FROM edge)
        AND created_at < (SELECT edge.stop FROM edge)
        -- as with the events as source, without a cutoff only accounts that exist
        AND (
            :'since'::timestamptz > '-infinity'
            OR account_id IN (
                SELECT accounts.id FROM public.accounts
                WHERE accounts.id = ANY(ARRAY(SELECT moved.account_id FROM moved))
            )
        )
)

SELECT coalesce(sum(counted.account_count), 0)::bigint AS total_count
FROM (
    SELECT count(*) AS account_count
    FROM public.usage_sums_window
    WHERE edge = :'since'::timestamptz AND (SELECT edge.has_window FROM edge)
    UNION ALL
    SELECT (sum(event_count) > 0)::integer - sum(row_count) AS account_count
    FROM part
    GROUP BY account_id
) AS counted;
