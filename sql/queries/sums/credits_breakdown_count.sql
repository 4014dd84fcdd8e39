SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown_count: number of models, providers, sources or agent types with an event in a window.
--
-- Parameters
--   :by          text         model, provider, source or agent_type
--   :account_id  text         the account; empty for all accounts
--   :since       timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for no upper bound
-- Columns: total_count
-- Order:   one row; null is a key too
-- psql -X -q -v ON_ERROR_STOP=1 -v by=model -v account_id= -v since=2026-11-01 -v until=infinity \
--   -f sums/credits_breakdown_count.sql
--
-- usage_sums.cover(), which sql/dba/sums.sql defines, says what of the window the sums cover.
WITH cover AS (
    SELECT
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(
            :'since'::timestamptz,
            :'until'::timestamptz,
            -- the sums by key are of all accounts together
            CASE :'account_id'::text WHEN '' THEN 'days' ELSE 'events' END::text
        )
),

part AS (
    SELECT
        model_id,
        provider,
        source,
        agent_type,
        event_count
    FROM usage_sums.keys
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT
        model_id,
        provider,
        source,
        agent_type,
        sign AS event_count
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT
        model_id COLLATE "C" AS model_id,
        provider COLLATE "C" AS provider,
        source COLLATE "C" AS source,
        agent_type COLLATE "C" AS agent_type,
        (SELECT cover.rest_sign FROM cover) * count(*) AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    GROUP BY model_id COLLATE "C", provider COLLATE "C", source COLLATE "C", agent_type COLLATE "C"
),

spend AS (
    SELECT
        CASE :'by'::text
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
            -- fails, with the value in the message
            ELSE (:'by'::text || ' is not model, provider, source or agent_type')::integer::text
        END COLLATE "C" AS key,
        event_count
    FROM part
)

SELECT count(*) AS total_count
FROM (
    SELECT key
    FROM spend
    GROUP BY key
    HAVING sum(event_count) > 0
) AS keys;
