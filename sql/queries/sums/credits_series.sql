SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_series: credits and number of events per bucket of time and key in a window; the rest of the keys together, from the sums.
-- Parameters, columns and order are those of ../credits_series.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH cover AS (
    SELECT day_until, stop, rest_from, rest_until, rest_sign
    FROM usage_sums.cover(
            :'since'::timestamptz,
            :'until'::timestamptz,
            -- the sums by key are of whole days and of all accounts together
            CASE WHEN :'account_id'::text = '' AND :'bucket'::text <> 'hour' THEN 'days' ELSE 'events' END::text
        )
),

part AS (
    SELECT model_id, provider, source, agent_type, day::timestamp AS time, credits_deducted_cents, event_count
    FROM usage_sums.keys
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date AND day < (SELECT cover.day_until FROM cover)
        AND isfinite(day)
    UNION ALL
    SELECT
        model_id, provider, source, agent_type,
        created_at AT TIME ZONE 'UTC' AS time,
        coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        sign AS event_count
    FROM usage_sums.late
    -- not at all where the sums are not used, however long the ledger is
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz AND created_at < (SELECT cover.stop FROM cover)
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    UNION ALL
    SELECT
        model_id, provider, source, agent_type,
        created_at AT TIME ZONE 'UTC' AS time,
        coalesce(:"credits_column", 0)::numeric AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover) AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover) AND created_at < (SELECT cover.rest_until FROM cover)
        -- an event dated -infinity lies in no bucket
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
),

spend AS (
    SELECT
        date_trunc(
            CASE :'bucket'::text
                WHEN 'hour' THEN 'hour'
                WHEN 'day' THEN 'day'
                WHEN 'week' THEN 'week'
                WHEN 'month' THEN 'month'
                -- fails, with the value in the message
                ELSE (:'bucket'::text || ' is not hour, day, week or month')::integer::text
            END,
            time
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
        -- Events with a negative count are subtracted.
        coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count > 0), 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count < 0), 0) AS total_credits_deducted_cents,
        sum(event_count) AS event_count
    FROM part
    -- fails for another key of the filters, with it in the message
    WHERE replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
        AND coalesce(coalesce(model_id, '') COLLATE "C" = :'filters'::jsonb ->> 'model', true)
        AND coalesce(coalesce(provider, '') COLLATE "C" = :'filters'::jsonb ->> 'provider', true)
        AND coalesce(coalesce(source, '') COLLATE "C" = :'filters'::jsonb ->> 'source', true)
        AND coalesce(coalesce(agent_type, '') COLLATE "C" = :'filters'::jsonb ->> 'agent_type', true)
    GROUP BY start, key
    HAVING sum(event_count) > 0
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
