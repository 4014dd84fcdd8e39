-- credits_days: credits spent and number of events per UTC day in a window, for one account or for all accounts.
--
-- Parameters
--   :account_id  text         the account; empty for all accounts
--   :since       timestamptz  start of the window, inclusive, a UTC midnight; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for none
--   :last_day    date         last day listed, or the day of the last event if that is later
-- Columns: day, total_credits_deducted_cents, event_count
-- Order:   oldest first; every day once, days without events as zeros; without a cutoff, from the first event's day
-- psql -X -v ON_ERROR_STOP=1 -v account_id= -v since=2026-11-01 -v until=infinity -v last_day=2026-11-22 -f credits_days.sql
WITH spend AS (
    SELECT
        -- independent of the session's TimeZone
        (created_at AT TIME ZONE 'UTC')::date AS day,
        sum(credits_deducted_cents)::bigint AS total_credits_deducted_cents,
        count(*) AS event_count
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz
        AND (created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')
        -- an event dated infinity belongs to no day
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    GROUP BY (created_at AT TIME ZONE 'UTC')::date
),

edges AS (
    SELECT
        CASE
            WHEN :'since'::timestamptz = '-infinity' THEN (SELECT min(spend.day) FROM spend)
            ELSE (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        END AS first_day,
        greatest(:'last_day'::date, (SELECT max(spend.day) FROM spend)) AS last_day
),

calendar AS (
    SELECT edges.first_day + generate_series(0, edges.last_day - edges.first_day) AS day
    FROM edges
)

SELECT
    calendar.day,
    coalesce(spend.total_credits_deducted_cents, 0) AS total_credits_deducted_cents,
    coalesce(spend.event_count, 0) AS event_count
FROM calendar
LEFT JOIN spend ON spend.day = calendar.day
ORDER BY calendar.day ASC;
