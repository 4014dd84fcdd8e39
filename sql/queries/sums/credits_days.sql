SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_days: credits spent and number of events per UTC day in a window, for one account or for all accounts.
--
-- Parameters
--   :account_id      text         the account; empty for all accounts
--   :since           timestamptz  start of the window, inclusive, a UTC midnight; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :last_day        date         last day to list, even if empty
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: day, total_credits_deducted_cents, event_count
-- Order:   oldest first; days without events are zeros from since, or the first event's day since 2000, to last_day
-- psql -X -q -v ON_ERROR_STOP=1 -v account_id= -v since=2026-11-01 -v until=infinity -v last_day=2026-11-22 \
--   -v credits_column=credits_deducted_cents -f sums/credits_days.sql
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
),

part AS (
    SELECT
        day,
        sum(credits_deducted_cents) AS credits_deducted_cents,
        sum(event_count) AS event_count
    FROM public.usage_sums
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT edge.day FROM edge)
        AND isfinite(day)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    GROUP BY day
    UNION ALL
    SELECT
        -- independent of the session's TimeZone
        (created_at AT TIME ZONE 'UTC')::date AS day,
        coalesce(sum(:"credits_column"), 0) AS credits_deducted_cents,
        -- Citus refuses a subquery outside of the aggregate.
        sum((SELECT edge.sign FROM edge)) AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT edge.instant FROM edge)
        AND created_at < (SELECT edge.stop FROM edge)
        -- an event dated -infinity lies on no day
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    GROUP BY (created_at AT TIME ZONE 'UTC')::date
),

spend AS (
    SELECT
        day,
        -- Events with a negative count are subtracted.
        sum(credits_deducted_cents) FILTER (WHERE event_count > 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count < 0), 0)
            AS total_credits_deducted_cents,
        sum(event_count)::bigint AS event_count
    FROM part
    GROUP BY day
    HAVING sum(event_count) > 0
),

calendar AS (
    SELECT edges.first_day + generate_series(0, :'last_day'::date - edges.first_day) AS day
    FROM (
        SELECT
            CASE
                -- not an earlier day: one event dated absurdly must not add a million days
                WHEN :'since'::timestamptz = '-infinity'
                    THEN (SELECT min(spend.day) FILTER (WHERE spend.day >= '2000-01-01') FROM spend)
                ELSE (:'since'::timestamptz AT TIME ZONE 'UTC')::date
            END AS first_day
    ) AS edges
)

SELECT
    coalesce(calendar.day, spend.day) AS day,
    coalesce(spend.total_credits_deducted_cents, 0) AS total_credits_deducted_cents,
    coalesce(spend.event_count, 0) AS event_count
FROM calendar
FULL JOIN spend ON spend.day = calendar.day
ORDER BY coalesce(calendar.day, spend.day) ASC;
