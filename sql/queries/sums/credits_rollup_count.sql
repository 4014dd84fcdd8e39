-- credits_rollup_count: number of accounts with an event in a window.
--
-- Parameters
--   :since  timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until  timestamptz  end of the window, exclusive; infinity for none
-- Columns: total_count
-- Order:   one row
-- psql -X -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -f sums/credits_rollup_count.sql
--
-- Days before the watermark are read from the sums that sql/dba/sums.sql defines, later days from usage_events.
WITH edge AS (
    -- Sums are read up to this day, events from this instant: the watermark, or the UTC midnight before the end of the
    -- window if that is earlier. A window that does not start at a UTC midnight is read from the events alone.
    SELECT
        bound.day,
        greatest(bound.day::timestamp AT TIME ZONE 'UTC', :'since'::timestamptz) AS instant
    FROM (
        SELECT
            greatest(
                (:'since'::timestamptz AT TIME ZONE 'UTC')::date,
                least((:'until'::timestamptz AT TIME ZONE 'UTC')::date, coalesce(max(day), '-infinity'))
            ) AS day
        FROM public.usage_sums_watermark
        WHERE (:'since'::timestamptz AT TIME ZONE 'UTC')::date = :'since'::timestamptz AT TIME ZONE 'UTC'
    ) AS bound
)

SELECT count(*) AS total_count
FROM (
    SELECT account_id
    FROM public.usage_sums
    WHERE :'since'::timestamptz > '-infinity'
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT edge.day FROM edge)
    UNION
    -- no cutoff and no end: accounts with an event on any summed day
    SELECT account_id
    FROM public.usage_sums_total
    WHERE :'since'::timestamptz = '-infinity' AND :'until'::timestamptz = 'infinity'
    UNION
    -- no cutoff, but an end: the same without the days after the window
    SELECT account_id
    FROM (
        SELECT
            account_id,
            event_count
        FROM public.usage_sums_total
        WHERE :'since'::timestamptz = '-infinity' AND :'until'::timestamptz < 'infinity'
        UNION ALL
        SELECT
            account_id,
            -event_count AS event_count
        FROM public.usage_sums
        WHERE :'since'::timestamptz = '-infinity'
            AND :'until'::timestamptz < 'infinity'
            AND day BETWEEN (SELECT edge.day FROM edge) AND 'infinity'
    ) AS summed
    GROUP BY account_id
    HAVING sum(event_count) > 0
    UNION
    SELECT usage_events.account_id
    FROM public.usage_events
    -- without a cutoff, only accounts that exist
    LEFT JOIN public.accounts ON accounts.id = usage_events.account_id AND :'since'::timestamptz = '-infinity'
    -- BETWEEN, because for a lower bound alone that is unknown when it plans, the planner expects a third of the table
    WHERE usage_events.created_at BETWEEN (SELECT edge.instant FROM edge) AND 'infinity'
        AND (usage_events.created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')
        AND (accounts.id IS NOT NULL OR :'since'::timestamptz > '-infinity')
) AS spenders;
