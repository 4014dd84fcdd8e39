SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_days: credits spent and number of events per UTC day in a window, for one account or for all accounts.
--
-- Parameters
--   :account_id      text         the account; empty for all accounts
--   :since           timestamptz  start of the window, inclusive, a UTC midnight; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :last_day        date         last day to list, even if empty
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: day, total_credits_deducted_cents, event_count
-- Order:   oldest first; days without events are zeros from since, or the first event's day since 2000, to last_day
-- psql -X -q -v ON_ERROR_STOP=1 -v account_id= -v since=2026-11-01 -v until=infinity -v filters='{}' \
--   -v last_day=2026-11-22 -v credits_column=credits_deducted_cents -f credits_days.sql
WITH spend AS (
    SELECT
        -- independent of the session's TimeZone
        (created_at AT TIME ZONE 'UTC')::date AS day,
        coalesce(sum(:"credits_column"), 0) AS total_credits_deducted_cents,
        count(*) AS event_count
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz AND created_at < :'until'::timestamptz
        -- an event dated -infinity lies on no day
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
        -- constants when it is planned, unless they are asked for
        AND (
            :'filters'::jsonb ->> 'model' IS NULL
            OR coalesce(model_id, '') COLLATE "C" = :'filters'::jsonb ->> 'model'
        )
        AND (
            :'filters'::jsonb ->> 'provider' IS NULL
            OR coalesce(provider, '') COLLATE "C" = :'filters'::jsonb ->> 'provider'
        )
        AND (
            :'filters'::jsonb ->> 'source' IS NULL
            OR coalesce(source, '') COLLATE "C" = :'filters'::jsonb ->> 'source'
        )
        AND (
            :'filters'::jsonb ->> 'agent_type' IS NULL
            OR coalesce(agent_type, '') COLLATE "C" = :'filters'::jsonb ->> 'agent_type'
        )
        -- fails for any other key, with it in the message
        AND replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
    GROUP BY (created_at AT TIME ZONE 'UTC')::date
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
