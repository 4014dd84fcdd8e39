SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_series: credits and number of events per bucket of time and key in a window; the rest of the keys together.
--
-- Parameters
--   :by              text         model, provider, source or agent_type; empty for all events together
--   :bucket          text         hour, day, week (from Monday) or month, in UTC
--   :top             bigint       keys with rows of their own, those with the most credits; the others are the rest
--   :account_id      text         the account; empty for all accounts
--   :since           timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :limit           bigint       rows at most
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: start, key, rest, total_credits_deducted_cents, event_count
-- Order:   oldest bucket first, then as in credits_breakdown, the rest last
-- psql -X -q -v ON_ERROR_STOP=1 -v by=model -v bucket=day -v top=8 -v account_id= -v since=2026-11-01 \
--   -v until=infinity -v filters='{}' -v limit=20001 -v credits_column=credits_deducted_cents -f credits_series.sql
WITH spend AS (
    SELECT
        -- independent of the session's TimeZone
        date_trunc(
            CASE :'bucket'::text
                WHEN 'hour' THEN 'hour'
                WHEN 'day' THEN 'day'
                WHEN 'week' THEN 'week'
                WHEN 'month' THEN 'month'
                -- fails, with the value in the message
                ELSE (:'bucket'::text || ' is not hour, day, week or month')::integer::text
            END,
            created_at AT TIME ZONE 'UTC'
        ) AS start,
        CASE :'by'::text
            -- one key for all
            WHEN '' THEN NULL
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
            -- fails, with the value in the message
            ELSE (:'by'::text || ' is not model, provider, source or agent_type')::integer::text
        END COLLATE "C" AS key,
        coalesce(sum(:"credits_column"), 0) AS total_credits_deducted_cents,
        count(*) AS event_count
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz AND created_at < :'until'::timestamptz
        -- an event dated -infinity lies in no bucket
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
    GROUP BY start, key
),

ranked AS (
    SELECT key, sum(total_credits_deducted_cents) AS credits_deducted_cents, false AS rest
    FROM spend
    GROUP BY key
    ORDER BY credits_deducted_cents DESC, key ASC NULLS LAST
    LIMIT :'top'::bigint
)

SELECT
    spend.start AT TIME ZONE 'UTC' AS start,
    ranked.key,
    coalesce(ranked.rest, true) AS rest,
    sum(spend.total_credits_deducted_cents) AS total_credits_deducted_cents,
    sum(spend.event_count)::bigint AS event_count
FROM spend
LEFT JOIN ranked ON ranked.key IS NOT DISTINCT FROM spend.key
GROUP BY spend.start, ranked.key, ranked.rest, ranked.credits_deducted_cents
ORDER BY spend.start ASC, ranked.rest ASC NULLS LAST, ranked.credits_deducted_cents DESC, ranked.key ASC NULLS LAST
LIMIT :'limit'::bigint;
