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
--   -f sums/credits_events_count.sql
--
-- Events before the watermark are read from the sums that sql/dba/sums.sql defines, later ones from usage_events.
WITH edge AS (
    -- Read the sums of the days before "day", and the events from "instant" on before "stop". The sums contain all events
    -- before the watermark. If the window ends later, the events between the two are added; if it ends up to a day earlier, they
    -- are subtracted. If it ends still earlier, read the days before the one in which it ends, and the events of that day.
    SELECT
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
            :'until'::timestamptz > coalesce(max(instant), '-infinity') - interval '1 day' AS is_near
        FROM public.usage_sums_watermark
        WHERE (:'since'::timestamptz AT TIME ZONE 'UTC')::date = :'since'::timestamptz AT TIME ZONE 'UTC'
    ) AS summed
)

SELECT (days.event_count + late.event_count)::bigint AS total_count
FROM (
    SELECT coalesce(sum(event_count), 0) AS event_count
    FROM public.usage_sums
    WHERE account_id = :'account_id'::uuid
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT edge.day FROM edge)
) AS days
CROSS JOIN (
    SELECT coalesce(sum((SELECT edge.sign FROM edge)), 0) AS event_count
    FROM public.usage_events
    WHERE account_id = :'account_id'::uuid
        AND created_at >= (SELECT edge.instant FROM edge)
        AND created_at < (SELECT edge.stop FROM edge)
) AS late;
