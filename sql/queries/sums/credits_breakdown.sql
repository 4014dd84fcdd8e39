SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown: credits, tokens and number of events per model, provider, source or agent type, one page, from the sums.
-- Parameters, columns and order are those of ../credits_breakdown.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH cover AS (
    SELECT day_until, stop, rest_from, rest_until, rest_sign
    FROM usage_sums.cover(
            :'since'::timestamptz,
            :'until'::timestamptz,
            -- the sums by key are of all accounts together
            CASE :'account_id'::text WHEN '' THEN 'days' ELSE 'events' END::text
        )
),

part AS (
    SELECT
        model_id, provider, source, agent_type,
        credits_deducted_cents, event_count, input_tokens, cached_input_tokens, output_tokens, tool_call_count
    FROM usage_sums.keys
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT
        model_id, provider, source, agent_type,
        sign * coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        sign AS event_count,
        sign * coalesce(input_tokens, 0)::numeric AS input_tokens,
        sign * coalesce(cached_input_tokens, 0)::numeric AS cached_input_tokens,
        sign * coalesce(output_tokens, 0)::numeric AS output_tokens,
        sign * coalesce(tool_call_count, 0)::numeric AS tool_call_count
    FROM usage_sums.late
    -- not at all where the sums are not used, however long the ledger is
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT
        model_id COLLATE "C" AS model_id,
        provider COLLATE "C" AS provider,
        source COLLATE "C" AS source,
        agent_type COLLATE "C" AS agent_type,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(:"credits_column"), 0)::numeric AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover) * count(*) AS event_count,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(input_tokens), 0)::numeric AS input_tokens,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(cached_input_tokens), 0)::numeric AS cached_input_tokens,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(output_tokens), 0)::numeric AS output_tokens,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(tool_call_count), 0)::numeric AS tool_call_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover) AND created_at < (SELECT cover.rest_until FROM cover)
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
        credits_deducted_cents, event_count, input_tokens, cached_input_tokens, output_tokens, tool_call_count
    FROM part
    -- fails for another key of the filters, with it in the message
    WHERE replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
        AND coalesce(coalesce(model_id, '') COLLATE "C" = :'filters'::jsonb ->> 'model', true)
        AND coalesce(coalesce(provider, '') COLLATE "C" = :'filters'::jsonb ->> 'provider', true)
        AND coalesce(coalesce(source, '') COLLATE "C" = :'filters'::jsonb ->> 'source', true)
        AND coalesce(coalesce(agent_type, '') COLLATE "C" = :'filters'::jsonb ->> 'agent_type', true)
)

SELECT
    key,
    sum(credits_deducted_cents) AS total_credits_deducted_cents,
    sum(event_count)::bigint AS event_count,
    sum(input_tokens) AS input_tokens,
    sum(cached_input_tokens) AS cached_input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(tool_call_count) AS tool_call_count
FROM spend
GROUP BY key
HAVING sum(event_count) > 0
ORDER BY total_credits_deducted_cents DESC, key ASC NULLS LAST
LIMIT :'limit'::bigint OFFSET :'offset'::bigint;
