-- credits_rollup_count: how many accounts have an event in a window.
--
-- Parameters
--   :since  timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until  timestamptz  end of the window, exclusive; infinity for none
-- Columns: total_count
-- Order:   one row
-- psql -X -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -f sums/credits_rollup_count.sql
--
-- The days before the watermark come from the sums of sql/dba/sums.sql, the others from usage_events.
WITH edge AS (
    -- Where the sums end and the events begin: at the watermark, or at the midnight before the window's end. A window
    -- that does not begin at a UTC midnight is read from the events alone.
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
    -- without a cutoff: whoever has an event on any day that was ever summed
    SELECT account_id
    FROM public.usage_sums_total
    WHERE :'since'::timestamptz = '-infinity' AND :'until'::timestamptz = 'infinity'
    UNION
    -- and up to an instant: less those after it
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
    SELECT account_id
    FROM public.usage_events
    -- Both ends: of a range with an unknown start the planner expects little, without an end a third of the table.
    WHERE created_at BETWEEN (SELECT edge.instant FROM edge) AND 'infinity'
        AND (created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')
) AS spenders;
