SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_days: credits spent and number of events per UTC day in a window, for one account or for all accounts, from the sums.
-- Parameters, columns and order are those of ../credits_days.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH cover AS (
    SELECT day_until, stop, rest_from, rest_until, rest_sign
    FROM usage_sums.cover(
            :'since'::timestamptz,
            :'until'::timestamptz,
            -- the sums of accounts are of all keys together
            CASE WHEN :'account_id'::text = '' OR :'filters'::jsonb = '{}' THEN 'days' ELSE 'events' END::text
        )
),

part AS (
    SELECT model_id, provider, source, agent_type, day, credits_deducted_cents, event_count
    FROM usage_sums.keys
    WHERE :'account_id'::text = ''
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
        AND isfinite(day)
    UNION ALL
    SELECT
        NULL AS model_id, NULL AS provider, NULL AS source, NULL AS agent_type,
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
        model_id, provider, source, agent_type,
        (created_at AT TIME ZONE 'UTC')::date AS day,
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
        -- independent of the session's TimeZone
        (created_at AT TIME ZONE 'UTC')::date AS day,
        coalesce(:"credits_column", 0)::numeric AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover) AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover) AND created_at < (SELECT cover.rest_until FROM cover)
        -- an event dated -infinity lies on no day
        AND isfinite(created_at)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
),

spend AS (
    SELECT
        day,
        -- Events with a negative count are subtracted.
        coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count > 0), 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count < 0), 0) AS total_credits_deducted_cents,
        sum(event_count)::bigint AS event_count
    FROM part
    -- fails for another key of the filters, with it in the message
    WHERE replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
        AND coalesce(coalesce(model_id, '') COLLATE "C" = :'filters'::jsonb ->> 'model', true)
        AND coalesce(coalesce(provider, '') COLLATE "C" = :'filters'::jsonb ->> 'provider', true)
        AND coalesce(coalesce(source, '') COLLATE "C" = :'filters'::jsonb ->> 'source', true)
        AND coalesce(coalesce(agent_type, '') COLLATE "C" = :'filters'::jsonb ->> 'agent_type', true)
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
