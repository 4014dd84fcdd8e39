-- credits_events_count: number of usage events of one account in a window.
--
-- Parameters
--   :account_id  uuid         the account
--   :since       timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for none
-- Columns: total_count
-- Order:   one row
-- psql -X -v ON_ERROR_STOP=1 -v account_id=3c90c3cc-0d44-4b50-8888-8dd25736052a -v since=2026-11-01 -v until=infinity
--   -f sums/credits_events_count.sql
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

SELECT (closed.event_count + open.event_count)::bigint AS total_count
FROM (
    SELECT coalesce(sum(event_count), 0) AS event_count
    FROM public.usage_sums
    WHERE account_id = :'account_id'::uuid
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT edge.day FROM edge)
) AS closed
CROSS JOIN (
    SELECT count(*) AS event_count
    FROM public.usage_events
    WHERE account_id = :'account_id'::uuid
        AND created_at BETWEEN (SELECT edge.instant FROM edge) AND 'infinity'
        AND (created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')
) AS open;
