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
-- usage_sums.cover(), which sql/dba/sums.sql defines, says what of the window the sums cover.
WITH cover AS (
    SELECT
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'days'::text)
),

part AS (
    SELECT
        day,
        credits_deducted_cents::numeric AS credits_deducted_cents,
        event_count
    FROM usage_sums.keys
    WHERE :'account_id'::text = ''
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
        AND isfinite(day)
    UNION ALL
    SELECT
        day,
        credits_deducted_cents::numeric AS credits_deducted_cents,
        event_count
    FROM usage_sums.days
    WHERE account_id = nullif(:'account_id'::text, '')::uuid
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
        AND isfinite(day)
    UNION ALL
    SELECT
        (created_at AT TIME ZONE 'UTC')::date AS day,
        sign * coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        sign AS event_count
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    UNION ALL
    SELECT
        -- independent of the session's TimeZone
        (created_at AT TIME ZONE 'UTC')::date AS day,
        coalesce(sum(:"credits_column"), 0) * (SELECT cover.rest_sign FROM cover) AS credits_deducted_cents,
        count(*) * (SELECT cover.rest_sign FROM cover) AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
        -- an event dated -infinity lies on no day
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    GROUP BY (created_at AT TIME ZONE 'UTC')::date
),

spend AS (
    SELECT
        day,
        sum(credits_deducted_cents) AS total_credits_deducted_cents,
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
